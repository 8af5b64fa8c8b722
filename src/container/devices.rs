//! Which devices a container may open: the rules of its `Spec`, compiled for its cgroup.
//!
//! A container may make device nodes (CAP_MKNOD is among the default capabilities), so without this it could
//! make one of the host's disk and read that.

use std::os::fd::BorrowedFd;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::sys::bpf::{self, Instruction};

/// Why a container's access to devices could not be limited.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("the device rule `{0}` is not supported")]
    Rule(String),
    #[error("attach the device filter to the container's cgroup: {0}")]
    Attach(#[source] std::io::Error),
}

/// Limits the devices that processes of the cgroup may open to those of the spec's rules. Call it before the
/// first process is in the cgroup; the filter lasts as long as the cgroup. A privileged container has no rules.
///
/// # Errors
/// When a rule is not supported or the kernel refuses the filter, for instance for want of `CONFIG_CGROUP_BPF`.
pub fn limit_devices(spec: &Spec, cgroup: BorrowedFd<'_>) -> Result<(), DeviceError> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    match resources.and_then(|resources| resources.devices().as_ref()) {
        None => Ok(()),
        Some(rules) => bpf::attach_device_program(cgroup, &compile(rules)?).map_err(DeviceError::Attach),
    }
}

/// What a container may do with devices if it is not privileged, as runc has it: make any, use only the
/// harmless ones and its own terminals.
pub(super) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, B, C};
    // Not 5:1, the host's console: no container of ours has one.
    let terminals = [(5, Some(0)), (5, Some(2)), (136, None)];
    let memory = [3, 5, 7, 8, 9].map(|minor| (1, Some(minor)));
    let usable = memory.into_iter().chain(terminals);
    let mut rules = vec![rule(false, A, None, None, "rwm")];
    rules.extend([B, C].map(|kind| rule(true, kind, None, None, "m")));
    rules.extend(usable.map(|(major, minor)| rule(true, C, Some(major), minor, "rwm")));
    rules
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

/// Registers: the program gets its context (`struct bpf_cgroup_dev_ctx`) in 1 and returns in 0.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// All of mknod (1), read (2) and write (4).
const ANY_ACCESS: i32 = 7;

/// The first rule must deny everything, the others allow something: nothing else is ever written.
fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>, DeviceError> {
    let unsupported = |rule: &LinuxDeviceCgroup| DeviceError::Rule(rule.to_string());
    let Some((first, allowing)) = rules.split_first() else {
        return Err(DeviceError::Rule("none at all".to_owned()));
    };
    if first.allow() || first.major().is_some() || first.minor().is_some() {
        return Err(unsupported(first));
    }
    let mut program = vec![
        load(KIND, 0),
        operate(AND, KIND, 0xffff),
        load(ACCESS, 0),
        operate(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in allowing {
        program.extend(allow(rule).ok_or_else(|| unsupported(rule))?);
    }
    program.extend(leave(0));
    Ok(program)
}

/// Leaves the program with 1 if all tests pass; each that fails jumps over what is left.
fn allow(rule: &LinuxDeviceCgroup) -> Option<Vec<Instruction>> {
    if !rule.allow() {
        return None;
    }
    let kind = match rule.typ()? {
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
        _ => return None,
    };
    let number = |number: Option<i64>| number.map(i32::try_from).transpose().ok();
    let mut tests = vec![vec![unless_equal(KIND, kind)]];
    let forbidden = ANY_ACCESS & !access(rule.access().as_deref()?)?;
    if forbidden != 0 {
        tests.push(vec![copy(SCRATCH, ACCESS), operate(AND, SCRATCH, forbidden), unless_equal(SCRATCH, 0)]);
    }
    if let Some(major) = number(rule.major())? {
        tests.push(vec![unless_equal(MAJOR, major)]);
    }
    if let Some(minor) = number(rule.minor())? {
        tests.push(vec![unless_equal(MINOR, minor)]);
    }
    let mut instructions: Vec<Instruction> = tests.into_iter().flatten().chain(leave(1)).collect();
    let end = instructions.len();
    for (at, instruction) in instructions.iter_mut().enumerate() {
        if instruction.code == JUMP_UNLESS_EQUAL {
            instruction.offset = i16::try_from(end - at - 1).ok()?;
        }
    }
    Some(instructions)
}

fn access(letters: &str) -> Option<i32> {
    letters.chars().try_fold(0, |access, letter| match letter {
        'm' => Some(access | 1),
        'r' => Some(access | 2),
        'w' => Some(access | 4),
        _ => None,
    })
}

// Operation codes of eBPF (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn load(register: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, registers: register | CONTEXT << 4, offset, immediate: 0 }
}

fn operate(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: COPY, registers: to | from << 4, offset: 0, immediate: 0 }
}

/// Where it jumps to is filled in by [`allow`].
fn unless_equal(register: u8, immediate: i32) -> Instruction {
    operate(JUMP_UNLESS_EQUAL, register, immediate)
}

fn leave(result: i32) -> [Instruction; 2] {
    [operate(SET, RESULT, result), operate(EXIT, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would decide.
    fn run(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0i64; 7];
        let mut at = 0;
        loop {
            let instruction = program[at];
            let to = usize::from(instruction.registers & 0xf);
            let from = usize::from(instruction.registers >> 4);
            let value = i64::from(instruction.immediate);
            at += 1;
            match instruction.code {
                LOAD_WORD => registers[to] = i64::from(context[instruction.offset as usize / 4]),
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                JUMP_UNLESS_EQUAL if registers[to] != value => at += instruction.offset as usize,
                JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown code {code:#x}"),
            }
        }
    }

    #[test]
    fn the_default_rules_let_a_disk_be_made_and_not_read() {
        let program = compile(&default_rules()).unwrap();
        let (mknod, read, write) = (1, 2, 4);
        assert!(run(&program, BLOCK, mknod, 8, 0));
        assert!(!run(&program, BLOCK, read, 8, 0));
        assert!(!run(&program, BLOCK, mknod | read, 8, 0));
        assert!(!run(&program, BLOCK, write, 1, 3), "a block device with the numbers of null");
        assert!(run(&program, CHARACTER, read | write, 1, 3));
        assert!(!run(&program, CHARACTER, read, 1, 1), "/dev/mem");
        assert!(run(&program, CHARACTER, read | write, 136, 17));
        assert!(!run(&program, CHARACTER, read | write, 10, 232), "/dev/kvm");
    }

    #[test]
    fn rules_that_cannot_be_compiled_are_refused() {
        use LinuxDeviceType::{A, C};
        let deny = || rule(false, A, None, None, "rwm");
        for rules in [
            vec![],
            vec![rule(true, A, None, None, "rwm")],
            vec![deny(), rule(false, C, Some(1), Some(3), "rwm")],
            vec![deny(), rule(true, A, None, None, "rwm")],
            vec![deny(), rule(true, C, Some(1), None, "x")],
            vec![deny(), rule(true, C, Some(i64::MAX), None, "r")],
        ] {
            assert!(matches!(compile(&rules), Err(DeviceError::Rule(_))), "{rules:?}");
        }
    }
}
