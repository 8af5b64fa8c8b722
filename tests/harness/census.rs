//! Everything on the machine that podkeep could leave behind: counted before and after, and compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use super::{PATIENCE, PAUSE, Site, process};

/// Mounts, cgroups, processes, namespaces and a node's files, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census(BTreeSet<String>);

impl Census {
    /// The machine as it is now.
    pub fn take() -> Census {
        let mut found = BTreeSet::new();
        // With its number, for two mounts may be at one place.
        found.extend(mounts().iter().map(|(id, point)| format!("mount {id} {}", point.display())));
        found.extend(
            cgroups_below(Path::new("/sys/fs/cgroup")).iter().map(|dir| format!("cgroup {}", dir.display())),
        );
        let processes = process::all().into_iter().filter(|pid| !process::is_kernel_thread(*pid));
        for pid in processes {
            found.insert(format!("process {pid} {}", process::name(pid)));
            found.extend(namespaces_of(pid));
        }
        Census(found)
    }

    /// The machine, and what podkeep has in its folders.
    pub fn take_with(site: &Site) -> Census {
        let mut census = Census::take();
        census.0.extend(site.traces());
        census
    }

    /// Waits until the machine is as it was: what is deleted in the background takes its time.
    pub fn assert_again(&self, take: impl Fn() -> Census) {
        let begin = Instant::now();
        loop {
            let difference = self.difference(&take());
            if difference.is_empty() {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the machine is not as it was:\n{difference}");
            thread::sleep(PAUSE);
        }
    }

    /// `+` what came, `-` what went.
    fn difference(&self, now: &Census) -> String {
        let came = now.0.difference(&self.0).map(|line| format!("+ {line}\n"));
        let went = self.0.difference(&now.0).map(|line| format!("- {line}\n"));
        came.chain(went).collect()
    }
}

/// Namespaces that the process is in, and those that it holds open.
fn namespaces_of(pid: u32) -> Vec<String> {
    let place = Path::new("/proc").join(pid.to_string());
    let links =
        ["ns", "fd"].into_iter().flat_map(|folder| fs::read_dir(place.join(folder)).into_iter().flatten());
    let targets = links.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = targets.filter_map(|target| target.into_os_string().into_string().ok());
    let is_namespace = |name: &String| {
        ["net:[", "uts:[", "ipc:[", "pid:[", "mnt:[", "cgroup:["].iter().any(|kind| name.starts_with(kind))
    };
    names.filter(is_namespace).map(|name| format!("namespace {name}")).collect()
}

/// In the order in which they were mounted.
pub fn mount_points() -> Vec<PathBuf> {
    mounts().into_iter().map(|(_, point)| point).collect()
}

/// The number and the place of every mount.
fn mounts() -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].to_owned(), PathBuf::from(words[4]))
    };
    text.lines().map(mount).collect()
}

/// A folder of the cgroup tree and all below it, each after its parent.
pub fn cgroups_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(cgroups_below(&entry.path()));
    }
    found
}
