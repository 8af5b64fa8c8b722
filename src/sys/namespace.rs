//! Namespaces by descriptor: what one says of itself, and making some that nobody is in.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::child::set_host_name;
use super::interface;
use super::step::Step;

/// `_IO(0xb7, 3)`, ioctl_ns(2): kernel 4.11.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// The `CLONE_NEW*` flag of a namespace's kind.
///
/// # Errors
/// `ENOTTY` if the descriptor is of no namespace.
pub fn kind(namespace: &OwnedFd) -> Result<u32, Errno> {
    // SAFETY: the request takes no argument.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_raw_fd(), NS_GET_NSTYPE) };
    super::child::check(result).map(|kind| kind as u32)
}

/// Descriptors of namespaces that [`make`] has made; `None` for the kinds that were not asked for.
#[derive(Debug)]
pub struct Made {
    pub net: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
    pub uts: Option<OwnedFd>,
}

/// Why [`make`] has made nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakeError {
    Make(Errno),
    /// The step of this index.
    Step {
        index: usize,
        errno: Errno,
    },
}

/// Makes network, IPC and UTS namespaces (those of `flags`, `CLONE_NEW*`), takes `steps` inside, and leaves them again.
///
/// It is the calling thread that goes in and comes back; no process is cloned for it.
///
/// # Errors
/// The kernel's, and the step that failed; the thread is in its own namespaces then too.
pub fn make(flags: u64, steps: &[Step]) -> Result<Made, MakeError> {
    let own = open(flags).map_err(MakeError::Make)?;
    // SAFETY: namespaces only, neither descriptors nor memory: those make unshare unsafe.
    unsafe { unshare_unsafe(UnshareFlags::from_bits_retain(flags as u32)) }.map_err(MakeError::Make)?;
    let inside = Inside(own);
    for (index, step) in steps.iter().enumerate() {
        take(step).map_err(|errno| MakeError::Step { index, errno })?;
    }
    let made = open(flags).map_err(MakeError::Make);
    drop(inside);
    made
}

/// The calling thread's way through network namespaces, for the sockets that it opens there: a socket belongs for good to the one in
/// which it is opened. The thread is back in its own when this is dropped; until then it must start no other one.
#[derive(Debug, Default)]
pub struct Tour<'a> {
    home: Option<Inside>,
    at: Option<BorrowedFd<'a>>,
}

impl<'a> Tour<'a> {
    /// Goes there, unless it is there already; to its own without one.
    ///
    /// # Errors
    /// The kernel's; the thread stays where it was.
    pub fn enter(&mut self, network: Option<BorrowedFd<'a>>) -> Result<(), Errno> {
        let Some(network) = network else {
            *self = Tour::default();
            return Ok(());
        };
        // Borrowed for as long as the way lasts: the same number is the same namespace.
        if self.at.is_some_and(|at| at.as_raw_fd() == network.as_raw_fd()) {
            return Ok(());
        }
        if self.home.is_none() {
            self.home = Some(Inside(open(libc::CLONE_NEWNET as u64)?));
        }
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
        self.at = Some(network);
        Ok(())
    }
}

/// The steps that concern no process but the namespaces alone.
fn take(step: &Step) -> Result<(), Errno> {
    match step {
        Step::SetHostName { name } => set_host_name(name),
        Step::RaiseLoopback => interface::set_up(c"lo"),
        _ => Err(Errno::NOSYS),
    }
}

fn open(flags: u64) -> Result<Made, Errno> {
    let open = |flag: libc::c_int, path: &CStr| {
        let wanted = flags & flag as u64 != 0;
        wanted.then(|| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())).transpose()
    };
    Ok(Made {
        net: open(libc::CLONE_NEWNET, c"/proc/thread-self/ns/net")?,
        ipc: open(libc::CLONE_NEWIPC, c"/proc/thread-self/ns/ipc")?,
        uts: open(libc::CLONE_NEWUTS, c"/proc/thread-self/ns/uts")?,
    })
}

/// A thread in namespaces that are not its own: it is back when this is dropped.
#[derive(Debug)]
struct Inside(Made);

impl Drop for Inside {
    fn drop(&mut self) {
        let Made { net, ipc, uts } = &self.0;
        for namespace in [net, ipc, uts].into_iter().flatten() {
            if move_into_link_name_space(namespace.as_fd(), None).is_err() {
                // The kernel refuses that to nobody who could unshare. Work in a Pod's namespace would be done to the
                // Pod instead of the host: better none at all, and a new worker.
                std::process::abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    #[test]
    fn a_namespace_says_what_it_is() {
        let kind = |path: &str| super::kind(&File::open(path).unwrap().into());
        assert_eq!(kind("/proc/self/ns/net"), Ok(libc::CLONE_NEWNET as u32));
        assert_eq!(kind("/proc/self/ns/time"), Ok(libc::CLONE_NEWTIME as u32));
        assert!(kind("/dev/null").is_err());
    }
}
