//! What of a container that an engine has removed the machine still has.

use std::fs;
use std::path::Path;

/// Mounts and cgroups that have the container's id in their paths, and files of `runtime_files` and below that do.
pub fn of(runtime_files: &Path, id: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(id)).map(str::to_owned);
    let mut found: Vec<_> = mounts.collect();
    named_after(id, Path::new("/sys/fs/cgroup"), &mut found);
    named_after(id, runtime_files, &mut found);
    found
}

fn named_after(id: &str, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(id) {
            found.push(path.display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            named_after(id, &path, found);
        }
    }
}
