//! `clone3`: a child with its own copy of the memory, born in a cgroup.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;

use super::child::{self, Birthright};
use super::report::ChildEnd;
use super::step::Step;

/// `libc::CLONE_INTO_CGROUP` is 0 on linux-gnu, an overflow (libc issue 3584): with it the child would stay in
/// our own cgroup, and nothing would say so.
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

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
    let mut pidfd: RawFd = -1;
    let mut arguments = arguments(birth, steps);
    ask_for_pidfd(&mut arguments, &mut pidfd);
    if let Some(cgroup) = birth.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }

    let blocked = BlockedSignals::block()?;
    let made = clone3(&arguments);
    if made == Ok(0) {
        report.close_parents_end();
        let (slots, pid_out, unsaid) = (&mut slots[..], birth.pid_out, &mut None);
        child::run(steps, 0, Birthright { slots, report, pid_out, unsaid });
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
    let birth = Birth { cgroup: None, namespaces, sibling: true, pid_out };
    let mut arguments = arguments(birth, &[]);
    ask_for_pidfd(&mut arguments, &mut pidfd);
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

/// Clones a child that shares this thread's memory, and suspends the thread until the child has executed a program or
/// ended. The child runs `entry(argument)` on the stack that the arguments name.
///
/// # Safety
/// The arguments name a stack that nobody else uses, and have `CLONE_VM` and `CLONE_VFORK`; `entry` keeps to what a
/// process between clone and exec may do ([`child`]).
pub(super) unsafe fn clone3_sharing(
    arguments: &libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> Result<u32, Errno> {
    let result: isize;
    // SAFETY: by the caller's promise. The child never returns into this frame, which it must not touch: it has a stack of
    // its own, aligned as the ABI wants it before a call, since it ends at a page. Registers are the caller's again when the
    // thread goes on, but for those that a system call changes.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {entry}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) entry,
            inout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {argument}",
            "blr {entry}",
            "brk #1",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) entry,
            inout("x0") std::ptr::from_ref(arguments) as isize => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
        );
    }
    match result {
        failed @ ..0 => Err(Errno::from_raw_os_error(-failed as i32)),
        pid => Ok(pid as u32),
    }
}

/// All but where it is born and on which stack. The kernel stores the PID of the last of the processes that replace each
/// other ([`Step::Fork`]).
pub(super) fn arguments(birth: Birth<'_>, steps: &[Step]) -> libc::clone_args {
    let replaced = steps.iter().any(|step| matches!(step, Step::Fork { .. }));
    // SAFETY: all zero bytes are valid arguments: integers only.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = birth.namespaces;
    if birth.sibling {
        // The kernel refuses a signal of its own here: the sibling inherits the caller's.
        arguments.flags |= libc::CLONE_PARENT as u64;
    } else {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(place) = birth.pid_out.filter(|_| !replaced) {
        arguments.flags |= libc::CLONE_PARENT_SETTID as u64;
        arguments.parent_tid = place.as_ptr() as u64;
    }
    arguments
}

fn ask_for_pidfd(arguments: &mut libc::clone_args, pidfd: &mut RawFd) {
    arguments.flags |= libc::CLONE_PIDFD as u64;
    arguments.pidfd = std::ptr::from_mut(pidfd) as u64;
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
