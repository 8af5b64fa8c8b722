//! Loading an eBPF program that judges access to devices, and attaching it to a cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination in the low four bits, source in the high ones.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// A program of a cgroup above goes on to be asked too.
const ALLOW_MULTI: u32 = 2;

/// The first fields of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`; it takes the rest as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
}

/// Lets a loaded program judge every access to a device from inside the cgroup, which keeps it until it is removed.
///
/// # Errors
/// The kernel's: `EPERM` without CAP_SYS_ADMIN.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` is what this command reads, for the whole call.
    unsafe { call(PROG_ATTACH, &attach) }.map(drop)
}

/// Has the kernel verify a program that judges accesses to devices. It can be attached to many cgroups.
///
/// # Errors
/// The kernel's: `EPERM` without CAP_SYS_ADMIN, `EINVAL` or `ENOSYS` where it was built without
/// `CONFIG_CGROUP_BPF`, `EACCES` for a program that it does not trust.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: `load` is what this command reads; the program and the licence that it leads to outlive the call.
    let fd = unsafe { call(PROG_LOAD, &load) }?;
    // SAFETY: a new descriptor (close-on-exec, as all of bpf's are) that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` must be what `command` reads.
unsafe fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the size is that of `attributes`.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(result).map_err(io::Error::other)
    }
}
