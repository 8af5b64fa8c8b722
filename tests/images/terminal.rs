//! What a command shows on a terminal.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

/// Runs a command whose standard error is a terminal; what it prints on standard output, and all that the terminal was sent.
pub fn on_terminal(mut command: Command) -> (String, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let person = openpt(flags).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let terminal = ioctl_tiocgptpeer(&person, flags).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(terminal).spawn().unwrap();
    // The command holds the terminal's other end, which is seen to close when it has ended.
    drop(command);
    let mut shown = Vec::new();
    let end = File::from(person).read_to_end(&mut shown).unwrap_err();
    assert_eq!(end.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "its end is gone");
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    (printed, shown)
}
