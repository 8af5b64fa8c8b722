//! `clone3`: a child with its own copy of the memory, born in a cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;

use super::child::{self, Birthright};
use super::report::ChildEnd;
use super::step::Step;

/// `libc::CLONE_INTO_CGROUP` is 0 on linux-gnu, an overflow (libc issue 3584): with it the child would stay in
/// our own cgroup, and nothing would say so.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How the child is made.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// A descriptor of the directory of the cgroup that the child is born in; the caller's own if there is none.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The new namespaces that it is born in (`CLONE_NEW*`).
    pub namespaces: u64,
    /// The child of the caller's parent rather than the caller's (`CLONE_PARENT`).
    pub sibling: bool,
    /// Holds the PID before the child first runs; in a shared mapping another process sees it too. Where the child is
    /// replaced by another ([`Step::Fork`]), it is that one's.
    pub pid_out: Option<&'a AtomicU32>,
}

/// Clones a child that takes `steps`; `report` is where it says how that goes.
///
/// Like fork, not like vfork: the memory is copied, so that whatever the caller's other threads do, the child's
/// copy of the steps stays as it is.
///
/// # Errors
/// The kernel's, from the clone.
pub fn spawn(steps: &[Step], slots: usize, report: ChildEnd, birth: Birth<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut slots: Vec<Option<OwnedFd>> = std::iter::repeat_with(|| None).take(slots).collect();
    let replaced = steps.iter().any(|step| matches!(step, Step::Fork { .. }));
    let first_pid_out = birth.pid_out.filter(|_| !replaced);
    let mut pidfd: RawFd = -1;
    let mut arguments = arguments(birth.namespaces, birth.sibling, first_pid_out, &mut pidfd);
    if let Some(cgroup) = birth.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }

    let blocked = BlockedSignals::block()?;
    let made = clone3(&arguments);
    if made == Ok(0) {
        child::run(steps, Birthright { slots: &mut slots, report, pid_out: birth.pid_out });
    }
    drop(blocked);
    let pid = made?;
    // SAFETY: the kernel has stored a new descriptor there, and nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// In a child: another child of the same parent. `None` in that one. Does not allocate.
pub(super) fn clone_sibling(
    namespaces: u64,
    pid_out: Option<&AtomicU32>,
) -> Result<Option<(u32, OwnedFd)>, Errno> {
    let mut pidfd: RawFd = -1;
    let arguments = arguments(namespaces, true, pid_out, &mut pidfd);
    match clone3(&arguments)? {
        0 => Ok(None),
        // SAFETY: as in `spawn`.
        pid => Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// 0 in the child.
fn clone3(arguments: &libc::clone_args) -> Result<u32, Errno> {
    // SAFETY: `arguments` is complete and its pointers are valid; without CLONE_VM the child has memory of its
    // own and a null stack means the same address in that copy. The child only goes on with `child::run`, which takes
    // no lock and does not return.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(arguments), size_of::<libc::clone_args>())
    };
    child::check(result).map(|pid| pid as u32)
}

fn arguments(
    namespaces: u64,
    sibling: bool,
    pid_out: Option<&AtomicU32>,
    pidfd: &mut RawFd,
) -> libc::clone_args {
    // SAFETY: all zero bytes are valid arguments: integers only.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64 | namespaces;
    arguments.pidfd = std::ptr::from_mut(pidfd) as u64;
    if sibling {
        // The kernel refuses a signal of its own here: the sibling inherits the caller's.
        arguments.flags |= libc::CLONE_PARENT as u64;
    } else {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(place) = pid_out {
        arguments.flags |= libc::CLONE_PARENT_SETTID as u64;
        arguments.parent_tid = place.as_ptr() as u64;
    }
    arguments
}

/// All signals blocked in this thread until dropped: a handler that ran in the child would write into pipes
/// that it shares with us. The child unblocks them once its handlers are reset.
struct BlockedSignals(nix::sys::signal::SigSet);

impl BlockedSignals {
    fn block() -> io::Result<BlockedSignals> {
        use nix::sys::signal::{SigSet, SigmaskHow};
        Ok(BlockedSignals(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // Cannot fail: the mask came from the kernel.
        let _ = self.0.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_knows_the_flag_that_libc_lost() {
        assert_eq!(super::CLONE_INTO_CGROUP, 1 << 33);
    }
}
