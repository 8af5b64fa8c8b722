//! The end of a command that takes too long, and of all that it has begun.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::cgroup::Group;
use crate::sys::process::Stat;

/// What forks faster than it is killed in so many rounds is left to its container's end.
const ROUNDS: usize = 16;

/// Processes of a container: with more of them, only the command's process group is killed here, and the rest with its container.
/// The loop looks at each in every round.
const MOST: usize = 1000;

/// SIGKILL to a command, to its process group and to its descendants, in whatever sessions they are. `group` is its container's.
///
/// No descendant gets away by the end of those between: the command adopts it (`Step::AdoptOrphans`). So the command ends last.
pub fn kill(command: u32, group: Option<&Group>) {
    let Some(leader) = Pid::from_raw(command as i32) else { return };
    let group = group.filter(|group| {
        let all = group.processes().unwrap_or_default();
        // Ended by itself, it is reaped before anybody here knows: its PID may be a stranger's.
        all.len() <= MOST && all.contains(&command)
    });
    if group.is_some() {
        // Stopped, it puts nothing in the place of what is killed.
        let _ = kill_process(leader, Signal::STOP);
    }
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let mut found = group.map(|group| descendants(command, group)).unwrap_or_default();
        found.retain(|pid| !killed.contains(pid));
        if found.is_empty() {
            break;
        }
        for pid in found.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        killed.append(&mut found);
    }
    // It leads a session and so a process group of its own, whose id is not given to another as long as one of it is there.
    let _ = kill_process_group(leader, Signal::KILL);
}

fn descendants(command: u32, group: &Group) -> Vec<u32> {
    let all = group.processes().unwrap_or_default();
    let mut others: Vec<_> = all.into_iter().filter_map(|pid| Some((Stat::of(pid)?.parent, pid))).collect();
    let mut found = vec![command];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        let below = others.extract_if(.., |(parent, _)| *parent == above);
        found.extend(below.map(|(_, pid)| pid));
        next += 1;
    }
    found.split_off(1)
}
