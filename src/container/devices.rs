//! Which devices a container may open: the rules of its `Spec`, compiled for its cgroup.
//!
//! A container may make device nodes (CAP_MKNOD is among the default capabilities), so without this it could
//! make one of the host's disk and read that.
//!
//! The rules are read as cgroup v1 read them, letter by letter: whether a kind of access (`m`, `r`, `w`) to a device is
//! allowed is for the last rule to say that names both, and without any it is denied. A request for several kinds is
//! allowed if each of them is; one for none (access(2) with X_OK) if any rule allows that
//! device anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::sys::bpf::{self, Instruction};

/// Why a container's access to devices could not be limited.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "linux.resources.devices: the rule `{0}` is not supported: a type of a, b or c, numbers from 0 (-1 for any), and an access of r, w and m are needed"
    )]
    Rule(String),
    #[error("attach the device filter to the container's cgroup: {0}")]
    Attach(#[source] std::io::Error),
}

/// Limits the devices that processes of the cgroup may open to those of the spec's rules, and to those that every
/// container has. Call it before the first process is in the cgroup; the filter lasts as long as the cgroup.
/// A privileged container has no rules, or ones that allow everything in the end: then there is no filter.
///
/// # Errors
/// When a rule is not supported or the kernel refuses the filter, for instance for want of `CONFIG_CGROUP_BPF`.
pub fn limit_devices(spec: &Spec, cgroup: BorrowedFd<'_>) -> Result<(), DeviceError> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(rules) = resources.and_then(|resources| resources.devices().as_ref()) else { return Ok(()) };
    // The specification promises these devices to every container (config-linux.md, "Default Devices"), and the
    // usual first rule denies them all the same.
    let rules: Vec<_> = rules.iter().cloned().chain(harmless_rules()).collect();
    match compile(&rules)? {
        Some(program) => attach(cgroup, program).map_err(DeviceError::Attach),
        None => Ok(()),
    }
}

/// As many different programs are kept loaded; nearly all containers have one and the same.
const KEPT: usize = 16;

/// Loaded programs: the kernel takes a third of a millisecond to verify and translate one.
static LOADED: Mutex<Vec<(Vec<Instruction>, OwnedFd)>> = Mutex::new(Vec::new());

fn attach(cgroup: BorrowedFd<'_>, program: Vec<Instruction>) -> io::Result<()> {
    // A panic while the lock is held leaves a list that is still whole.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, fd)) = loaded.iter().find(|(known, _)| *known == program) {
        match bpf::attach_device_program(cgroup, fd.as_fd()) {
            // The kernel does not attach one program to one cgroup twice: a second one that says the same does no harm.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return bpf::attach_device_program(cgroup, bpf::load_device_program(&program)?.as_fd());
            }
            attached => return attached,
        }
    }
    let fd = bpf::load_device_program(&program)?;
    bpf::attach_device_program(cgroup, fd.as_fd())?;
    loaded.truncate(KEPT - 1);
    loaded.insert(0, (program, fd));
    Ok(())
}

/// What a container may do with devices if it is not privileged, as runc has it: make any, use only the
/// harmless ones and its own terminals.
pub(super) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let nothing = rule(false, LinuxDeviceType::A, None, None, "rwm");
    std::iter::once(nothing).chain(harmless_rules()).collect()
}

fn harmless_rules() -> impl Iterator<Item = LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    // Not 5:1, the host's console: no container of ours has one.
    let terminals = [(5, Some(0)), (5, Some(2)), (136, None)];
    let memory = [3, 5, 7, 8, 9].map(|minor| (1, Some(minor)));
    let make = [B, C].map(|kind| rule(true, kind, None, None, "m"));
    let usable = memory.into_iter().chain(terminals);
    make.into_iter().chain(usable.map(|(major, minor)| rule(true, C, Some(major), minor, "rwm")))
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

/// A rule in the numbers that the kernel asks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `None` for both.
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

impl Rule {
    fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, DeviceError> {
        Rule::parse(rule).ok_or_else(|| DeviceError::Rule(rule.to_string()))
    }

    fn parse(rule: &LinuxDeviceCgroup) -> Option<Rule> {
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(BLOCK),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
            LinuxDeviceType::P => return None,
        };
        Some(Rule {
            allow: rule.allow(),
            kind,
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            access: access(rule.access().as_deref()?)?,
        })
    }

    fn allows_everything(&self) -> bool {
        *self == Rule { allow: true, kind: None, major: None, minor: None, access: ANY_ACCESS }
    }
}

/// `Some(None)` for any.
fn number(number: Option<i64>) -> Option<Option<i32>> {
    match number {
        None | Some(-1) => Some(None),
        Some(number) => i32::try_from(number).ok().filter(|number| *number >= 0).map(Some),
    }
}

/// `None` if nothing is denied: the last word is that everything is allowed.
///
/// From the last rule to the first, the program strikes out what is allowed of the access that is asked for, until
/// none is left, or until a rule denies one that is.
fn compile(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<Instruction>>, DeviceError> {
    let rules: Vec<Rule> = rules.iter().map(Rule::read).collect::<Result<_, _>>()?;
    let mut from_last: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules.into_iter().rev() {
        // One that stands further behind already has nothing to say again.
        if !from_last.contains(&rule) {
            from_last.push(rule);
        }
    }
    if from_last.iter().take_while(|rule| rule.allow).any(Rule::allows_everything) {
        return Ok(None);
    }
    let mut program = vec![
        load(KIND, 0),
        operate(AND, KIND, 0xffff),
        load(ACCESS, 0),
        operate(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    program.extend(from_last.iter().flat_map(decide));
    program.extend(leave(0));
    Ok(Some(program))
}

/// Leaves the program if the rule decides; every test that fails jumps over what is left of it.
fn decide(rule: &Rule) -> Vec<Instruction> {
    let tests = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let mut block: Vec<_> = tests
        .into_iter()
        .filter_map(|(register, value)| Some(skip(UNLESS_EQUAL, register, value?)))
        .collect();
    if rule.allow {
        block.push(operate(AND, ACCESS, !rule.access));
        block.push(skip(UNLESS_EQUAL, ACCESS, 0));
        block.extend(leave(1));
    } else {
        block.push(copy(SCRATCH, ACCESS));
        block.push(operate(AND, SCRATCH, rule.access));
        block.push(skip(IF_EQUAL, SCRATCH, 0));
        block.extend(leave(0));
    }
    let end = block.len() as i16;
    for (at, instruction) in (1..).zip(&mut block) {
        if matches!(instruction.code, UNLESS_EQUAL | IF_EQUAL) {
            instruction.offset = end - at;
        }
    }
    block
}

/// At least one letter: what a rule without any was meant to say is not known.
fn access(letters: &str) -> Option<i32> {
    let access = letters.chars().try_fold(0, |access, letter| match letter {
        'm' => Some(access | 1),
        'r' => Some(access | 2),
        'w' => Some(access | 4),
        _ => None,
    });
    access.filter(|access| *access != 0)
}

// Operation codes of eBPF (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const UNLESS_EQUAL: u8 = 0x55;
const IF_EQUAL: u8 = 0x15;
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

/// A jump to the end of the rule, which [`decide`] fills in.
fn skip(code: u8, register: u8, immediate: i32) -> Instruction {
    operate(code, register, immediate)
}

fn leave(result: i32) -> [Instruction; 2] {
    [operate(SET, RESULT, result), operate(EXIT, 0, 0)]
}

#[cfg(test)]
mod tests;
