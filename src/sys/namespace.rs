//! What a descriptor of a namespace says of itself.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

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
