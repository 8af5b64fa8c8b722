//! One group: a Pod's, a container's, or one that a container made inside its own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::Error;
use super::controllers::{self, Controller, Controllers};
use super::huge_pages::HugePageLimit;
use super::interface::Directory;
use super::limits::{PodLimits, cpu_max, cpu_weight};
use super::settings::Settings;

/// How deep a Pod may nest groups below its own. Removal walks down with one descriptor a level, so that
/// depth has to end somewhere; systemd or a kubelet in a container need less than ten.
const MAX_DEPTH: &str = "32";

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// One directory of the tree, held open.
///
/// It stays usable while the group exists, whatever happens to paths. Once the group is removed, it reads as empty.
#[derive(Debug)]
pub struct Group {
    directory: OwnedFd,
    path: PathBuf,
    /// Whose interface files are in this directory.
    own: Controllers,
    /// Whose interface files are in the directories directly below.
    below: Controllers,
}

impl Group {
    /// The directory, for `clone3(CLONE_INTO_CGROUP)`.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// As `/proc/PID/cgroup` shows it, not where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a group for processes and writes its limits, before any process is in it.
    ///
    /// One that is left from an earlier start is removed and made anew, so that its counters start at zero; and because some
    /// kernels (seen on 6.12) kill whatever is cloned into a group that was killed before: they compare its count of kills with
    /// that of the cloning process' own group.
    ///
    /// # Errors
    /// [`Error::Populated`] if a group of that name still has processes.
    pub fn child(&self, name: &str, limits: &Settings) -> Result<Group, Error> {
        let group = match self.make(name) {
            Err(Error::Make { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.clear_away(name)?;
                self.make(name)?
            }
            made => made?,
        };
        group.apply(limits)?;
        Ok(group)
    }

    /// A group below this one that exists already; `None` if there is none.
    pub fn existing_child(&self, name: impl AsRef<OsStr>) -> Result<Option<Group>, Error> {
        match self.open_child(name.as_ref()) {
            Err(Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The names of the groups directly below this one, in no order. None if this one is gone.
    pub fn children(&self) -> Result<Vec<OsString>, Error> {
        self.entries(FileType::Directory)
    }

    /// The names of the interface files.
    pub(super) fn files(&self) -> Result<Vec<String>, Error> {
        let names = self.entries(FileType::RegularFile)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Sends SIGKILL to every process of this group and of those below, also to those being forked now
    /// (`cgroup.kill`, kernel 5.14). That they are gone is told by [`Group::events`].
    pub fn kill(&self) -> Result<(), Error> {
        match self.directory().write("cgroup.kill", "1") {
            Err(_) if self.is_gone() => Ok(()),
            written => written,
        }
    }

    /// Whether a live process is in this group or below; zombies do not count.
    pub fn populated(&self) -> Result<bool, Error> {
        Ok(self.directory().read_keyed("cgroup.events", "populated")? == Some(1))
    }

    /// `cgroup.events`, opened for an event loop: EPOLLPRI says that [`Group::populated`] may have changed.
    ///
    /// It stays ready until it is read again: see [`super::populated_in`].
    pub fn events(&self) -> Result<OwnedFd, Error> {
        self.directory().open("cgroup.events")
    }

    /// How many processes of this group and of those below the kernel's OOM killer has ended.
    /// Zero where there is no memory controller.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        if !self.own.has(Controller::Memory) {
            return Ok(0);
        }
        Ok(self.directory().read_keyed("memory.events", "oom_kill")?.unwrap_or(0))
    }

    /// The PIDs in this group and in those below. Processes of a PID namespace that is not ours to see are left out.
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        let mut pids = self.own_processes()?;
        for name in self.children()? {
            if let Some(child) = self.existing_child(&name)? {
                pids.extend(child.processes()?);
            }
        }
        Ok(pids)
    }

    /// Removes the groups below this one, deepest first, and then itself. A group that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Busy`] if a process is in one of them.
    pub fn remove(&self) -> Result<(), Error> {
        if self.is_gone() {
            return Ok(());
        }
        for name in self.children()? {
            if let Some(child) = self.existing_child(&name)? {
                child.remove()?;
            }
        }
        self.remove_alone()
    }

    /// The top of what is mounted: it has no interface files for limits, and nobody limits it.
    pub(super) fn top(directory: OwnedFd, path: PathBuf) -> Group {
        Group { directory, path, own: Controllers::default(), below: Controllers::default() }
    }

    pub(super) fn directory(&self) -> Directory<'_> {
        Directory { fd: self.directory.as_fd(), path: &self.path }
    }

    /// Makes the group of that name unless it is there.
    pub fn ensure(&self, name: impl AsRef<OsStr>) -> Result<Group, Error> {
        let name = name.as_ref();
        match self.make(name) {
            Err(Error::Make { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.open_child(name)
            }
            made => made,
        }
    }

    /// Turns podkeep's controllers on for the groups below, as far as the kernel lets us.
    pub(super) fn enable_below(&mut self) -> Result<Controllers, Error> {
        self.below = controllers::enable(&self.directory())?;
        Ok(self.below)
    }

    /// As [`Group::enable_below`], but leaves a group that has processes itself as it is, which the kernel allows
    /// to have controllers on only at the real root: who runs containers below its own group does so every time,
    /// and need not wait for EBUSY. See [`controllers::enable`] for what threaded controllers would do there.
    pub(super) fn enable_below_unless_populated(&mut self) -> Result<(), Error> {
        let directory = self.directory();
        let is_root = directory.read_if_there("cgroup.type")?.is_none();
        // Processes that are not ours to see stand there as 0.
        let is_empty = || directory.read("cgroup.procs").is_ok_and(|pids| pids.is_empty());
        self.below = match is_root || is_empty() {
            true => controllers::enable(&directory)?,
            false => controllers::enabled(&directory)?,
        };
        Ok(())
    }

    /// Asks the kernel which controllers this group has; a group that was opened below another knows it from that.
    pub(super) fn learn_controllers(&mut self) -> Result<(), Error> {
        self.own = Controllers::parse(&self.directory().read("cgroup.controllers")?);
        Ok(())
    }

    pub(super) fn limit_pod(&self, limits: &PodLimits) -> Result<(), Error> {
        self.directory().write("cgroup.max.depth", MAX_DEPTH)?;
        self.weigh(limits.cpu_request_milli)?;
        self.limit_cpu(limits.cpu_limit_milli)?;
        self.limit(Controller::Memory, "memory.max", limits.memory_limit)?;
        self.limit(Controller::Pids, "pids.max", limits.pids_max)?;
        for HugePageLimit { size, bytes } in &limits.huge_pages {
            // What is reserved too: past `max` alone, a process is killed by SIGBUS at its first access.
            for file in ["max", "rsvd.max"] {
                self.limit(Controller::Hugetlb, &format!("hugetlb.{size}.{file}"), Some(*bytes))?;
            }
        }
        Ok(())
    }

    /// Writes `cpu.weight` for a request in thousandths of a core.
    pub(super) fn weigh(&self, request_milli: u64) -> Result<(), Error> {
        self.limit(Controller::Cpu, "cpu.weight", Some(cpu_weight(request_milli)))
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        self.own.has(controller)
    }

    /// The PIDs directly in this group.
    pub(super) fn own_processes(&self) -> Result<Vec<u32>, Error> {
        let text = match self.directory().read_if_there("cgroup.procs") {
            // A threaded group cannot list processes; they stand in the group above that is its domain.
            Err(Error::Read { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
            read => read?,
        };
        // A process outside our PID namespace is shown as 0.
        let pids = text.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok());
        Ok(pids.filter(|pid| *pid != 0).collect())
    }

    /// Moves a process, with all its threads, into this group; one that has ended meanwhile is no error.
    pub(super) fn adopt(&self, pid: u32) -> Result<(), Error> {
        match self.directory().write("cgroup.procs", &pid.to_string()) {
            Err(Error::Write { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            written => written,
        }
    }

    /// rmdir of this one group, which fails with [`Error::Busy`] if a process or another group is in it.
    pub(super) fn remove_alone(&self) -> Result<(), Error> {
        let Some(name) = self.path.file_name() else { return Err(Error::Busy(self.path.clone())) };
        // By its name in its parent, for a directory cannot be removed by its own descriptor.
        let parent = match openat(&self.directory, "..", DIRECTORY, Mode::empty()) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::Open { path: self.path.join(".."), source: e.into() }),
        };
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Busy(self.path.clone())),
            Err(e) => Err(Error::Remove { path: self.path.clone(), source: e.into() }),
        }
    }

    fn entries(&self, kind: FileType) -> Result<Vec<OsString>, Error> {
        let failed = |e: Errno| Error::Read { path: self.path.clone(), source: e.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(failed)? {
            let entry = match entry {
                Err(Errno::NOENT | Errno::NODEV) => break,
                entry => entry.map_err(failed)?,
            };
            // Bytes, not text: a container may give its groups any name.
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() == kind && name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn make(&self, name: impl AsRef<OsStr>) -> Result<Group, Error> {
        let name = name.as_ref();
        mkdirat(&self.directory, name, Mode::from_raw_mode(0o755))
            .map_err(|e| Error::Make { path: self.path.join(name), source: e.into() })?;
        self.open_child(name)
    }

    fn open_child(&self, name: impl AsRef<OsStr>) -> Result<Group, Error> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match openat(&self.directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => Ok(Group { directory, path, own: self.below, below: Controllers::default() }),
            Err(e) => Err(Error::Open { path, source: e.into() }),
        }
    }

    fn clear_away(&self, name: &str) -> Result<(), Error> {
        let Some(old) = self.existing_child(name)? else { return Ok(()) };
        if old.populated()? {
            return Err(Error::Populated(old.path));
        }
        old.remove()
    }

    fn limit_cpu(&self, limit_milli: Option<u64>) -> Result<(), Error> {
        self.limit(Controller::Cpu, "cpu.max", limit_milli.map(cpu_max))
    }

    /// Writes a limit, or `max` for none; nothing where the controller is not there.
    fn limit(&self, controller: Controller, file: &str, value: Option<impl ToString>) -> Result<(), Error> {
        if !self.own.has(controller) {
            return Ok(());
        }
        let value = value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        self.directory().write(file, &value)
    }

    fn is_gone(&self) -> bool {
        let there = openat(&self.directory, "cgroup.procs", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        there.is_err_and(|e| e == Errno::NOENT)
    }
}
