//! What `/proc` tells of a process.

use std::fs;
use std::path::{Path, PathBuf};

fn place(pid: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

/// The path in the cgroup v2 hierarchy: `/podkeep/…`.
pub fn cgroup(pid: u32) -> String {
    let text = fs::read_to_string(place(pid, "cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("no cgroup v2 in {text}")).to_owned()
}

/// A line of `/proc/PID/status`, such as `PPid`; `None` if the process is gone.
pub fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(place(pid, "status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Some(value?.trim().to_owned())
}

pub fn parent(pid: u32) -> u32 {
    status(pid, "PPid").expect("the process is there").parse().unwrap()
}

/// The PID in every namespace it is in, from the outermost on.
pub fn pids_by_namespace(pid: u32) -> Vec<u32> {
    let line = status(pid, "NSpid").expect("the process is there");
    line.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// `net:[4026531840]`
pub fn namespace(pid: u32, kind: &str) -> String {
    fs::read_link(place(pid, "ns").join(kind)).unwrap().into_os_string().into_string().unwrap()
}

/// The names of its threads.
pub fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(place(pid, "task")).into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

pub fn children(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    all().into_iter().filter(|pid| status(*pid, "PPid").as_deref() == Some(&parent)).collect()
}

/// Every process of the machine.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The processes of a cgroup and of those below it.
pub fn in_cgroup(path: &str) -> Vec<u32> {
    let below = format!("{path}/");
    let is_in = |pid: &u32| {
        let text = fs::read_to_string(place(*pid, "cgroup")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("0::"));
        lines.any(|cgroup| cgroup == path || cgroup.starts_with(&below))
    };
    all().into_iter().filter(is_in).collect()
}

/// A kernel thread has no program.
pub fn is_kernel_thread(pid: u32) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let Ok(stat) = fs::read_to_string(place(pid, "stat")) else { return false };
    // The name may hold spaces and parentheses; the flags are the 7th word after it.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let flags = after_name.split(' ').nth(6).and_then(|word| word.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

pub fn name(pid: u32) -> String {
    fs::read_to_string(place(pid, "comm")).unwrap_or_default().trim().to_owned()
}
