//! What `/proc/PID` says of a process: the few fields that podkeep asks for ([ADR 17](../../docs/adr/017-proc-by-hand.md)).
//!
//! The formats are those of proc_pid_stat(5) and proc_pid_status(5).

use std::fs;
use std::io;

use super::pidfd::from_wait_status;
use super::wait::Ended;

/// Has begun to end (linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// One line of `/proc/PID/stat`, of which a part is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// At most 15 bytes, and whatever bytes the program chose, parentheses and spaces too.
    pub command: String,
    /// `R` running, `S` sleeping, `D` not to be woken by a signal, `Z` ended but not reaped, `X` dead, …
    pub state: char,
    /// In our PID namespace; 0 if it has none there.
    pub parent: u32,
    flags: u64,
    /// Clock ticks since boot. A process is known by its PID and this.
    pub start_time: u64,
    /// A wait status; 0 while the process lives, or where the kernel does not show it to us.
    exit_code: i32,
}

impl Stat {
    /// `None` if there is no such process, or nothing can be read of it.
    pub fn of(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields count from 1: the command is the second, and the last that has parentheses.
    fn parse(line: &[u8]) -> Option<Stat> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let command = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let rest: Vec<&str> = str::from_utf8(line.get(close + 1..)?).ok()?.split_whitespace().collect();
        let field = |number: usize| rest.get(number - 3).copied();
        Some(Stat {
            command,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            exit_code: field(52)?.parse().ok()?,
        })
    }

    /// Ended, if not reaped.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    pub fn is_ending(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// How it ended; only a process that [`has_ended`](Self::has_ended) says that.
    pub fn end(&self) -> Ended {
        from_wait_status(self.exit_code)
    }
}

/// When the process was started, in clock ticks since boot; 0 if that cannot be read.
pub fn start_time(pid: u32) -> u64 {
    Stat::of(pid).map_or(0, |stat| stat.start_time)
}

/// Whether the process is the first one of a PID namespace other than ours (`NSpid`: its PID in each, ours first).
pub fn is_first_of_a_namespace(pid: u32) -> bool {
    let pids = status(pid, "NSpid:").unwrap_or_default();
    pids.split_whitespace().count() > 1 && pids.split_whitespace().last() == Some("1")
}

/// Whether the process has a seccomp filter (mode 2).
///
/// # Errors
/// The kernel's: the process may be gone.
pub fn has_seccomp_filter(pid: u32) -> io::Result<bool> {
    Ok(status(pid, "Seccomp:")?.trim() == "2")
}

/// What stands behind `name` in `/proc/PID/status`; empty if that kernel has no such line.
fn status(pid: u32, name: &str) -> io::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_command_may_hold_what_separates_fields() {
        let line = "4711 (a) (b) c) Z 1 4711 4711 0 -1 4194316 0 0 0 0 0 0 0 0 20 0 1 0 123456 0 0 18446744073709551615 \
            0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 768\n";
        let stat = Stat::parse(line.as_bytes()).unwrap();
        assert_eq!((stat.command.as_str(), stat.state, stat.start_time), ("a) (b) c", 'Z', 123_456));
        assert!(stat.has_ended() && stat.is_ending());
        assert_eq!(stat.parent, 1);
        assert_eq!(stat.end(), Ended::Code(3));
    }

    #[test]
    fn what_is_cut_off_is_no_answer() {
        for line in ["", "1 (a", "1 (a) S 0", "1 ) a ( S 0", "1 (a)"] {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_process_that_lives_and_one_that_is_not_there() {
        let own = Stat::of(process::id()).unwrap();
        assert!(!own.has_ended() && !own.is_ending() && own.start_time > 0);
        assert_eq!(start_time(process::id()), own.start_time);
        assert!(!is_first_of_a_namespace(process::id()));
        // Above what PIDs can be (PID_MAX_LIMIT).
        assert_eq!(Stat::of(1 << 22), None);
        assert_eq!(start_time(1 << 22), 0);
        assert!(!is_first_of_a_namespace(1 << 22));
    }

    #[test]
    fn a_child_that_was_not_reaped_says_how_it_ended() {
        let mut child = process::Command::new("sh")
            .args(["-c", "exit 7"])
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        // Ends with the program, which closes it.
        std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        let stat = loop {
            let stat = Stat::of(child.id()).unwrap();
            if stat.has_ended() {
                break stat;
            }
            std::thread::yield_now();
        };
        assert_eq!((stat.end(), stat.command.as_str()), (Ended::Code(7), "sh"));
        child.wait().unwrap();
    }
}
