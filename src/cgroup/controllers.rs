//! The controllers podkeep limits with, as a set.

use std::time::Duration;
use std::{fmt, io, thread};

use super::Error;
use super::interface::Directory;

/// Writing `cgroup.subtree_control` fails with EBUSY while a process is on its way through the group.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A controller of cgroup v2 that podkeep writes limits of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    Cpu,
    Memory,
    Pids,
    Io,
    Cpuset,
    Hugetlb,
    Rdma,
}

impl Controller {
    pub const ALL: [Controller; 7] = [
        Controller::Cpu,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
        Controller::Cpuset,
        Controller::Hugetlb,
        Controller::Rdma,
    ];
    /// Those that a Pod's limits need; the others serve an OCI spec's resources, where the kernel has them.
    pub const NEEDED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

    /// As the kernel writes it in `cgroup.controllers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Io => "io",
            Controller::Cpuset => "cpuset",
            Controller::Hugetlb => "hugetlb",
            Controller::Rdma => "rdma",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`Controller`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers(u8);

impl Controllers {
    /// Reads `cgroup.controllers` or `cgroup.subtree_control`: names separated by blanks; unknown ones are left out.
    pub(super) fn parse(text: &str) -> Controllers {
        let named = |c: &Controller| text.split_ascii_whitespace().any(|name| name == c.as_str());
        Controllers::of(Controller::ALL.into_iter().filter(named))
    }

    fn of(controllers: impl Iterator<Item = Controller>) -> Controllers {
        Controllers(controllers.fold(0, |bits, c| bits | 1 << c as u8))
    }

    pub(super) fn has(self, controller: Controller) -> bool {
        self.0 & 1 << controller as u8 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |c| self.has(*c))
    }

    /// What is here and not in `other`.
    fn without(self, other: Controllers) -> Controllers {
        Controllers(self.0 & !other.0)
    }

    /// What a Pod needs and is not here.
    pub(super) fn missing(self) -> Vec<Controller> {
        Controllers::of(Controller::NEEDED.into_iter()).without(self).iter().collect()
    }
}

/// Turns podkeep's controllers on for the groups directly below `directory` and says which are on then.
///
/// One that cannot be turned on (it is bound to cgroup v1, or a real-time process keeps `cpu` away) is left off:
/// what is missing in the end is told once, by the tree.
pub(super) fn enable(directory: &Directory<'_>) -> Result<Controllers, Error> {
    let on = enabled(directory)?;
    let off = Controllers::parse(&directory.read("cgroup.controllers")?).without(on);
    if off.is_empty() {
        return Ok(on);
    }
    match turn_on(directory, off) {
        Ok(()) => {}
        // Processes are in the group. One by one, the kernel would still turn on those that know threads (cpu, pids,
        // cpuset), and by that make every group below `domain invalid`: no process could enter it any more.
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
        // The kernel takes a write as a whole or not at all: one controller must not keep the others off.
        Err(_) => {
            for controller in off.iter() {
                let _ = turn_on(directory, Controllers::of([controller].into_iter()));
            }
        }
    }
    enabled(directory)
}

/// What is on for the groups directly below `directory`.
pub(super) fn enabled(directory: &Directory<'_>) -> Result<Controllers, Error> {
    Ok(Controllers::parse(&directory.read("cgroup.subtree_control")?))
}

fn turn_on(directory: &Directory<'_>, controllers: Controllers) -> io::Result<()> {
    let names: Vec<_> = controllers.iter().map(|c| format!("+{c}")).collect();
    let value = names.join(" ");
    let mut tries = 1;
    loop {
        match directory.try_write("cgroup.subtree_control", &value) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < BUSY_TRIES => {
                thread::sleep(BUSY_PAUSE)
            }
            written => return written,
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_read_by_whole_names() {
        let here = Controllers::parse("cpuset cpu io memory hugetlb pids\n");
        assert!(here.missing().is_empty());
        assert_eq!(Controllers::parse("io\n").missing(), Controller::NEEDED);
        assert_eq!(Controllers::parse("\n").missing(), Controller::NEEDED);
        assert!(!Controllers::parse("cpuset").has(Controller::Cpu));
        let on = Controllers::parse("cpu pids");
        let off = [Controller::Memory, Controller::Io, Controller::Cpuset, Controller::Hugetlb];
        assert_eq!(here.without(on).iter().collect::<Vec<_>>(), off);
    }
}
