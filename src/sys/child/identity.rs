//! From all-powerful to what the container is.

use std::ffi::c_long;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::check;
use crate::sys::step::{CapabilitySets, Filter};

pub(super) fn bound_capabilities(set: u64) -> Result<(), Errno> {
    for capability in (0..64u32).filter(|capability| set & (1 << capability) == 0) {
        match prctl(libc::PR_CAPBSET_DROP, c_long::from(capability), 0) {
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result?,
        };
    }
    Ok(())
}

/// What the process may not have at all is left out, as in a user namespace with fewer.
pub(super) fn set_capabilities(sets: CapabilitySets) -> Result<(), Errno> {
    let have = capabilities(None)?.permitted;
    let within = |set: u64| CapabilitySet::from_bits_retain(set) & have;
    let (permitted, ambient) = (within(sets.permitted), within(sets.ambient & sets.permitted));
    let effective = within(sets.effective & sets.permitted);
    let new = rustix::thread::CapabilitySets { effective, permitted, inheritable: ambient };
    rustix::thread::set_capabilities(None, new)?;
    for capability in (0..64u32).filter(|capability| ambient.bits() & (1 << capability) != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as c_long, c_long::from(capability))?;
    }
    Ok(())
}

fn prctl(option: i32, second: c_long, third: c_long) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, second, third, 0, 0) }).map(drop)
}

pub(super) fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    const { assert!(size_of::<Gid>() == size_of::<u32>()) };
    // SAFETY: `Gid` is a transparent `u32`.
    let groups = unsafe { std::slice::from_raw_parts(groups.as_ptr().cast::<Gid>(), groups.len()) };
    set_thread_groups(groups)
}

pub(super) fn set_gid(gid: u32) -> Result<(), Errno> {
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid)
}

pub(super) fn set_uid(uid: u32, keep_capabilities: bool) -> Result<(), Errno> {
    if keep_capabilities {
        prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    }
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid)
}

pub(super) fn forbid_new_privileges() -> Result<(), Errno> {
    set_no_new_privs(true)
}

pub(super) fn install_seccomp(filter: &Filter) -> Result<(), Errno> {
    let length = u16::try_from(filter.instructions.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: filter.instructions.as_ptr().cast_mut() };
    let place = std::ptr::from_ref(&program);
    // SAFETY: the kernel only reads `program` and the `len` instructions that it leads to.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, filter.flags, place) };
    // With TSYNC, the number of a thread that could not follow.
    if check(result)? == 0 { Ok(()) } else { Err(Errno::SRCH) }
}
