//! The program of a pause process: the first one of a Pod's PID namespace, which does nothing but be there.
//!
//! It is no copy of podkeep but a file of its own, a page long and in memory only: what has PID 1 in a container leads to
//! nothing of the host's (CVE-2019-5736), and costs a page of code and two of stack (docs/adr/008).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// What it calls itself, and is called by in `ps`.
pub const NAME: &str = "podkeep-pause";

/// Every system call of the program, and `execveat`, by which it begins.
pub const CALLS: [&str; 4] = ["execveat", "prctl", "close_range", "ppoll"];

/// May be executed by everybody and read by nobody: such a process is not dumpable, from the first instant, for anybody who
/// is not root outside of the Pod (`would_dump` of fs/exec.c). So no container can trace it or follow its links.
const MODE: Mode = Mode::from_bits_retain(0o111);

/// A file with the program, for [`Step::ExecuteFile`](super::step::Step::ExecuteFile), that nobody can change any more.
///
/// # Errors
/// The kernel's; `EACCES` where it is told to execute nothing from memory (`vm.memfd_noexec=2`).
pub fn program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(NAME, flags | MemfdFlags::EXEC) {
        // Before kernel 6.3 there is no such flag, and no need to ask.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        made => made,
    }?;
    let mut rest = image();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    fchmod(&file, MODE)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// The bytes of the file.
fn image() -> &'static [u8] {
    unsafe extern "C" {
        static podkeep_pause_begin: u8;
        static podkeep_pause_end: u8;
    }
    let (begin, end) = (&raw const podkeep_pause_begin, &raw const podkeep_pause_end);
    // SAFETY: the two symbols below, around bytes of read-only data that are there as long as this program.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// ELF's number of the machine.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

// An ELF file (elf(5)): its header, two program headers, the code. The numbers are little-endian on both machines.
//
// The code: prctl(PR_SET_NAME), for before 6.14 the kernel calls it after the number of a descriptor; close_range of all,
// for the standard streams are the node's; and ppoll of nothing for ever, again if somebody stops it and lets it go on.
core::arch::global_asm!(
    ".pushsection .rodata.podkeep_pause, \"a\"",
    ".p2align 4",
    ".globl podkeep_pause_begin",
    "podkeep_pause_begin:",
    // 64 bits, little-endian, an executable at fixed addresses; where it begins; program headers and no sections.
    ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ".short 2, {machine}",
    ".long 1",
    ".quad {address} + 3f - podkeep_pause_begin",
    ".quad 64, 0",
    ".long 0",
    ".short 64, 56, 2, 64, 0, 0",
    // All of the file is mapped, to be read and executed.
    ".long 1, 5",
    ".quad 0, {address}, {address}",
    ".quad podkeep_pause_end - podkeep_pause_begin, podkeep_pause_end - podkeep_pause_begin, 4096",
    // The stack is not executable.
    ".long 0x6474e551, 6",
    ".quad 0, 0, 0, 0, 0, 16",
    "2: .asciz \"podkeep-pause\"",
    ".p2align 4",
    "3:",
    #[cfg(target_arch = "x86_64")]
    "mov eax, 157
     mov edi, 15
     lea rsi, [rip + 2b]
     syscall
     mov eax, 436
     xor edi, edi
     mov esi, -1
     xor edx, edx
     syscall
  4: mov eax, 271
     xor edi, edi
     xor esi, esi
     xor edx, edx
     xor r10d, r10d
     xor r8d, r8d
     syscall
     jmp 4b",
    #[cfg(target_arch = "aarch64")]
    "mov x8, #167
     mov x0, #15
     adr x1, 2b
     svc #0
     mov x8, #436
     mov x0, #0
     mov w1, #-1
     mov x2, #0
     svc #0
  4: mov x8, #73
     mov x0, #0
     mov x1, #0
     mov x2, #0
     mov x3, #0
     mov x4, #0
     svc #0
     b 4b",
    "podkeep_pause_end:",
    ".popsection",
    machine = const MACHINE,
    address = const 0x40_0000,
);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_program_fits_into_a_page_and_nobody_can_change_it() {
        assert!(image().len() <= 1024, "{} bytes", image().len());
        let mut file = File::from(program().unwrap());
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.metadata().unwrap().len(), image().len() as u64);
    }

    #[test]
    fn it_runs_under_its_name_with_nothing_open() {
        let file = program().unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut child = std::process::Command::new(path).spawn().unwrap();
        let place = format!("/proc/{}", child.id());
        // `spawn` returns when it has been executed; its name is the first thing that it changes, and then all is closed.
        let is_ready = || std::fs::read_to_string(format!("{place}/comm")).unwrap().trim() == NAME;
        let is_bare = || std::fs::read_dir(format!("{place}/fd")).is_ok_and(|mut fds| fds.next().is_none());
        while !(is_ready() && is_bare()) {
            assert!(child.try_wait().unwrap().is_none(), "it ends");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
