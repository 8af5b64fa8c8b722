//! The default seccomp profile in a real container: single system calls, 64-bit and 32-bit, and a threaded program.
//!
//! Run with `scripts/vm test guest_seccomp`; anywhere else these tests fail.

// The harness serves other tests too.
#[allow(dead_code)]
#[path = "guest_container/harness.rs"]
mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::{Bench, Seccomp};
use podkeep::manifest::pod::EnvVar;

const NEW_USER: u32 = libc::CLONE_NEWUSER as u32;
const OK: i32 = 0;
const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;
/// Set for the program that runs inside of a container.
const INSIDE: &str = "PODKEEP_TEST_INSIDE";

/// How a program enters the kernel, which decides whose numbers it uses.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// `syscall` in a 64-bit program.
    X86_64,
    /// `int 0x80` in a 32-bit program.
    I386,
    /// `int 0x80` in a 64-bit program: i386's numbers too.
    I386InX86_64,
}

#[test]
fn a_64_bit_program_gets_the_profiles_answers() {
    let mut bench = Bench::new();
    for (name, number, arguments, answer) in [
        ("getpid", 39, [0, 0, 0], OK),
        ("unshare", 272, [NEW_USER, 0, 0], EPERM),
        ("clone into a user namespace", 56, [NEW_USER, 0, 0], EPERM),
        ("clone3", 435, [0, 0, 0], ENOSYS),
        ("keyctl", 250, [0, u32::MAX - 2, 0], EPERM),
        ("io_uring_setup", 425, [0, 0, 0], EPERM),
        ("socket AF_VSOCK", 41, [40, 1, 0], EPERM),
        ("socket AF_UNIX", 41, [1, 1, 0], OK),
        ("personality, asked", 135, [u32::MAX, 0, 0], OK),
        ("personality ADDR_NO_RANDOMIZE", 135, [0x4_0000, 0, 0], EPERM),
        ("a call of a newer kernel", 600, [0, 0, 0], ENOSYS),
        ("getpid of x32", 0x4000_0027, [0, 0, 0], ENOSYS),
    ] {
        assert_eq!(call(&mut bench, Program::X86_64, number, arguments), answer, "{name}");
    }
}

#[test]
fn a_32_bit_call_is_judged_by_its_own_number() {
    let mut bench = Bench::new();
    for program in [Program::I386, Program::I386InX86_64] {
        for (name, number, arguments, answer) in [
            ("getpid", 20, [0, 0, 0], OK),
            ("write of nothing", 4, [1, 0, 0], OK),
            // 288 is accept4 for a 64-bit program, which is allowed.
            ("keyctl", 288, [0, u32::MAX - 2, 0], EPERM),
            ("unshare", 310, [NEW_USER, 0, 0], EPERM),
            ("clone into a user namespace", 120, [NEW_USER, 0, 0], EPERM),
            ("clone3", 435, [0, 0, 0], ENOSYS),
            ("a call of a newer kernel", 600, [0, 0, 0], ENOSYS),
        ] {
            assert_eq!(call(&mut bench, program, number, arguments), answer, "{program:?}: {name}");
        }
    }
}

#[test]
fn it_is_the_profile_that_refuses() {
    let mut bench = Bench::new();
    bench.seccomp = Seccomp::Off;
    assert_eq!(call(&mut bench, Program::X86_64, 272, [NEW_USER, 0, 0]), OK);
    assert_eq!(call(&mut bench, Program::I386, 310, [NEW_USER, 0, 0]), OK);
    assert_eq!(call(&mut bench, Program::X86_64, 135, [0x4_0000, 0, 0]), OK);
    assert_eq!(call(&mut bench, Program::X86_64, 435, [0, 0, 0]), libc::EINVAL, "clone3 is known");
}

/// glibc asks for clone3 first, and takes ENOSYS as the sign to use clone; EPERM would end the program.
#[test]
fn a_threaded_glibc_program_runs() {
    if std::env::var_os(INSIDE).is_some() {
        let threads: Vec<_> = (1..=4).map(|n| std::thread::spawn(move || n)).collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!("sum of four threads: {sum}");
        return;
    }
    let mut bench = Bench::new();
    fs::copy(std::env::current_exe().unwrap(), bench.layer().join("threads")).unwrap();
    let command = ["/threads", "--exact", "a_threaded_glibc_program_runs", "--nocapture"];
    bench.container().command = command.map(str::to_owned).into();
    bench.container().env = vec![EnvVar::text(INSIDE, "1")];
    let outcome = bench.run();
    assert!(outcome.output.contains("sum of four threads: 10\n"), "{}", outcome.output);
    assert_eq!(outcome.status, Some(0));
}

/// The errno of one system call in a container, or zero if it succeeds.
fn call(bench: &mut Bench, program: Program, number: u32, arguments: [u32; 3]) -> i32 {
    let path = bench.layer().join("call");
    fs::write(&path, program.file(number, arguments)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    bench.container().command = vec!["/call".to_owned()];
    bench.run().status.expect("it exits")
}

impl Program {
    /// A whole program: it makes the call and exits with its errno.
    fn file(self, number: u32, arguments: [u32; 3]) -> Vec<u8> {
        match self {
            Program::X86_64 => elf64(&code_x86_64(number, arguments)),
            Program::I386 => elf32(&code_i386(number, arguments)),
            Program::I386InX86_64 => elf64(&code_i386(number, arguments)),
        }
    }
}

fn code_x86_64(number: u32, [first, second, third]: [u32; 3]) -> Vec<u8> {
    let mut code = Vec::new();
    load(&mut code, 0xb8, number); // mov eax
    load(&mut code, 0xbf, first); // mov edi
    load(&mut code, 0xbe, second); // mov esi
    load(&mut code, 0xba, third); // mov edx
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0x89, 0xc7, 0xf7, 0xdf]); // mov edi, eax; neg edi
    code.extend([0x79, 0x02, 0x31, 0xff]); // jns over the next; xor edi, edi
    load(&mut code, 0xb8, 231); // mov eax, exit_group
    code.extend([0x0f, 0x05]);
    code
}

/// The same bytes mean the same in a 64-bit program.
fn code_i386(number: u32, [first, second, third]: [u32; 3]) -> Vec<u8> {
    let mut code = Vec::new();
    load(&mut code, 0xb8, number); // mov eax
    load(&mut code, 0xbb, first); // mov ebx
    load(&mut code, 0xb9, second); // mov ecx
    load(&mut code, 0xba, third); // mov edx
    code.extend([0xcd, 0x80]); // int 0x80
    code.extend([0x89, 0xc3, 0xf7, 0xdb]); // mov ebx, eax; neg ebx
    code.extend([0x79, 0x02, 0x31, 0xdb]); // jns over the next; xor ebx, ebx
    load(&mut code, 0xb8, 252); // mov eax, exit_group
    code.extend([0xcd, 0x80]);
    code
}

fn load(code: &mut Vec<u8>, opcode: u8, value: u32) {
    code.push(opcode);
    code.extend(value.to_le_bytes());
}

/// Where the program is loaded.
const BASE: u32 = 0x40_0000;
const EXECUTABLE: u16 = 2;
const LOADED: u32 = 1;
const READ_EXECUTE: u32 = 5;

/// One segment that holds the headers and the code (elf(5)).
fn elf64(code: &[u8]) -> Vec<u8> {
    const HEADERS: u16 = 64 + 56;
    let size = u64::from(HEADERS) + code.len() as u64;
    let mut file = ident(2, 62);
    for word in [u64::from(BASE) + u64::from(HEADERS), 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    file.extend([64, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([LOADED, READ_EXECUTE].map(u32::to_le_bytes).concat());
    for word in [0, u64::from(BASE), u64::from(BASE), size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

fn elf32(code: &[u8]) -> Vec<u8> {
    const HEADERS: u16 = 52 + 32;
    let size = u32::from(HEADERS) + code.len() as u32;
    let mut file = ident(1, 3);
    file.extend([BASE + u32::from(HEADERS), 52, 0, 0].map(u32::to_le_bytes).concat());
    file.extend([52, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([LOADED, 0, BASE, BASE, size, size, READ_EXECUTE, 0x1000].map(u32::to_le_bytes).concat());
    file.extend(code);
    file
}

/// The first fields, which both classes have alike.
fn ident(class: u8, machine: u16) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([EXECUTABLE, machine].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file
}
