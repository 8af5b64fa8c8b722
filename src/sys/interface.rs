//! Bringing a network interface up by ioctl: the one thing a Pod's namespace needs before it has a network.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Sets `IFF_UP` on the interface of that name in the calling thread's network namespace.
///
/// # Errors
/// The kernel's, or `EINVAL` for a name over 15 bytes. Does not allocate.
pub fn set_up(name: &CStr) -> Result<(), Errno> {
    // SAFETY: all zero bytes are a valid `ifreq`: arrays and integers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(Errno::INVAL);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    change(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    change(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn change(socket: &impl AsRawFd, call: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: both calls read and write one `ifreq`, which `request` is for the whole call.
    let result =
        unsafe { libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), call, std::ptr::from_mut(request)) };
    super::child::check(result).map(drop)
}
