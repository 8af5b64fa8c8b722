//! Programs of others that a thread runs and waits for, and that must not outlive it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the program killed when the calling thread ends, which must wait for it. It gets a process group of its own, and no signal is
/// blocked in it.
pub fn ending_with_caller(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        SigSet::empty().thread_set_mask()?;
        // Before the first of these calls, nothing would have told.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    command.process_group(0);
    // SAFETY: between fork and exec it makes system calls only: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_program_does_not_outlive_the_thread_that_began_it() {
        let begin = || {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            ending_with_caller(&mut command).spawn().unwrap()
        };
        let mut child = std::thread::spawn(begin).join().unwrap();
        // Its input is open still.
        let mut said = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
