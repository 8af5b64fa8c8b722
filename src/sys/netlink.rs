//! Netlink sockets: what the kernel is to say, and how.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, getsockname, socket_with};

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

/// The number by which the kernel tells this socket from the others of its network namespace.
///
/// # Errors
/// The kernel's.
pub fn port(socket: &OwnedFd) -> Result<u32, Errno> {
    Ok(SocketAddrNetlink::try_from(getsockname(socket)?)?.pid())
}

/// Lets nothing come to the socket that the one of this number has caused. Messages of one cause come together: the first one's
/// header tells.
///
/// # Errors
/// The kernel's.
pub fn ignore_port(socket: &OwnedFd, port: u32) -> Result<(), Errno> {
    /// Where `nlmsg_pid` lies in `struct nlmsghdr`.
    const NLMSG_PID: u32 = 12;
    // These programs read what lies in a packet as big-endian; the header has it in the byte order of this machine.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NLMSG_PID),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, port),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: this option takes a `sock_fprog`, which `program` and the steps it leads to are for the whole call.
    unsafe { set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program) }
}

fn set(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: each of these options takes one int.
    unsafe { set_option(socket, libc::SOL_NETLINK, option, &value) }
}

/// # Safety
/// `value` must be what this option takes.
unsafe fn set_option<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise; the size is that of `value`, which is there for the whole call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value),
            size_of::<T>(),
        )
    };
    super::child::check(result).map(drop)
}
