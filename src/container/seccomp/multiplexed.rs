//! i386's `socketcall` and `ipc`: one number for many calls, told apart by the first argument (linux/net.h,
//! linux/ipc.h).

use super::condition::Test;

pub(super) const CALLS: [&str; 2] = ["socketcall", "ipc"];

const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The call by which `name` can also be reached, and the test of its first argument.
pub(super) fn call_of(name: &str) -> Option<(&'static str, Test)> {
    let number = |calls: &[(&str, u64)]| calls.iter().find(|call| call.0 == name).map(|call| call.1);
    if let Some(number) = number(&SOCKETCALL) {
        return Some(("socketcall", Test::bits(u64::MAX, number)));
    }
    // The kernel takes the upper 16 bits for a version of the interface.
    number(&IPC).map(|number| ("ipc", Test::bits(0xffff, number)))
}
