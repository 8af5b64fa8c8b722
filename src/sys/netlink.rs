//! Netlink sockets: what the kernel is to say, and how.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, socket_with};

/// Opens one in the network namespace of the calling thread, where it stays. It never blocks.
///
/// The kernel adds sentences to its errors, leaves out of them what was asked (`NETLINK_CAP_ACK`), and lists only what
/// was asked for (`NETLINK_GET_STRICT_CHK`; kernel 4.20).
///
/// Without a protocol it is `NETLINK_ROUTE`, number 0.
///
/// # Errors
/// The kernel's: `EPROTONOSUPPORT` where it has no such family.
pub fn open(protocol: Option<Protocol>) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
        set(&socket, option, 1)?;
    }
    Ok(socket)
}

/// Lets the kernel send what it tells this group.
///
/// # Errors
/// `EINVAL` for a group that it does not have.
pub fn join(socket: &OwnedFd, group: u32) -> Result<(), Errno> {
    set(socket, libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)
}

fn set(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: each of these options takes one int, which `value` is for the whole call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&value),
            size_of::<libc::c_int>(),
        )
    };
    super::child::check(result).map(drop)
}
