//! The compiled programs, run by an interpreter on every number, against the profile and the table.

mod interpreter;
mod property;
mod semantics;

use super::assembler::*;
use super::compile;
use super::profile::{Condition, Profile, Test, Verdict};
use super::program::Program;
use super::table::{Architecture, Table};
use super::{cache, compile_here, default_profile, default_program, load};
use interpreter::{Call, run};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompBuilder};
use std::sync::Arc;

const SYS_CHROOT: u64 = 1 << 18;
const SYS_ADMIN: u64 = 1 << 21;
/// The 14 default capabilities of containerd, as a mask.
const USUAL: u64 = 0xa804_25fb;
/// Beyond the highest number of every architecture.
const BEYOND: u32 = 1024;

fn sources() -> (Profile, Table) {
    let table = Table::parse(include_str!("syscalls.table")).unwrap();
    (Profile::parse(include_str!("default.profile"), &table).unwrap(), table)
}

/// The program of the default profile, by way of its OCI form.
fn compile(profile: &Profile, table: &Table, capabilities: u64, machine: &[Architecture]) -> Program {
    compile::compile(&profile.to_oci(machine, capabilities), table, machine).unwrap()
}

fn expected(verdict: &Verdict, first: u64) -> u32 {
    match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Refuse(errno) => libc::SECCOMP_RET_ERRNO | u32::from(*errno),
        Verdict::AllowIf(condition) if condition.argument == 0 && condition.holds(first as u32) => {
            libc::SECCOMP_RET_ALLOW
        }
        Verdict::AllowIf(_) => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
    }
}

/// Values at and around everything that a condition of the profile names.
fn interesting(verdict: &Verdict) -> Vec<u64> {
    let Verdict::AllowIf(Condition { test, .. }) = verdict else { return vec![0, u64::MAX] };
    let named: Vec<u32> = match test {
        Test::OneOf(values) => values.clone(),
        Test::Not(value) => (0..32).map(|bit| value ^ 1 << bit).chain([*value]).collect(),
        Test::NoneOf { mask } => (0..32).map(|bit| 1 << bit).chain([*mask, !*mask]).collect(),
    };
    let around = named.iter().flat_map(|v| [*v, v.wrapping_add(1), v.wrapping_sub(1)]);
    around.flat_map(|v| [u64::from(v), u64::from(v) | 1 << 32]).collect()
}

#[test]
fn every_number_of_every_architecture_gets_the_profiles_answer() {
    let (profile, table) = sources();
    for capabilities in [0, USUAL, SYS_CHROOT, SYS_ADMIN, profile.capabilities(), u64::MAX] {
        let program = compile(&profile, &table, capabilities, &Architecture::ALL);
        for architecture in Architecture::ALL {
            let calls = table.calls(architecture);
            for number in 0..BEYOND {
                let verdict = match calls.get(&number) {
                    Some(name) => profile.verdict(name, Architecture::ALL[0], capabilities),
                    None => Verdict::Refuse(libc::ENOSYS as u16),
                };
                for first in interesting(&verdict) {
                    let (action, _) = run(program.instructions(), &Call::new(architecture, number, first));
                    assert_eq!(
                        action,
                        expected(&verdict, first),
                        "{architecture:?} {number} {first:#x}\n{program}"
                    );
                }
            }
        }
    }
}

#[test]
fn numbers_beyond_the_table_and_x32_are_unknown() {
    let (profile, table) = sources();
    let program = compile(&profile, &table, u64::MAX, &Architecture::ALL);
    for number in [BEYOND, 0x4000_0000, 0x4000_0001, 0x4000_0208, i32::MAX as u32, u32::MAX] {
        for architecture in Architecture::ALL {
            let (action, _) = run(program.instructions(), &Call::new(architecture, number, 0));
            assert_eq!(action, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, "{architecture:?} {number:#x}");
        }
    }
}

#[test]
fn a_foreign_architecture_is_killed() {
    let (profile, table) = sources();
    let program = compile(&profile, &table, 0, &[Architecture::X86_64, Architecture::I386]);
    let (action, _) = run(program.instructions(), &Call::new(Architecture::Aarch64, 0, 0));
    assert_eq!(action, libc::SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn a_program_is_short_and_quick() {
    let (profile, table) = sources();
    let program = compile(&profile, &table, 0, &Architecture::ALL);
    assert!(program.instructions().len() < 1500, "{} instructions", program.instructions().len());
    let steps = |number| run(program.instructions(), &Call::new(Architecture::X86_64, number, 0)).1;
    let slowest = (0..BEYOND).map(steps).max().unwrap();
    assert!(slowest <= 24, "{slowest} steps");
    // The 32 rules for socket are joined, and the argument that five ask for is loaded once.
    let (personality, socket) = (135, 41);
    let of_first =
        |number, first| run(program.instructions(), &Call::new(Architecture::X86_64, number, first)).1;
    assert_eq!(of_first(personality, 1) - of_first(personality, 0), 4);
    assert!(of_first(socket, 40) < of_first(socket, 0) + 4);
}

#[test]
fn long_jumps_go_where_short_ones_cannot() {
    // A chain of 600 comparisons, all of which go on to one return at the far end.
    let mut assembler = Assembler::default();
    let allow = assembler.ret(libc::SECCOMP_RET_ALLOW);
    let far = assembler.load(field_low(1), allow);
    let mut next = assembler.ret(libc::SECCOMP_RET_KILL_PROCESS);
    for value in 0..600 {
        next = assembler.branch(JUMP_IF_EQUAL, value, far, next);
    }
    assembler.load(FIELD_NUMBER, next);
    let program = assembler.finish();
    for number in 0..700 {
        let action = if number < 600 { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_KILL_PROCESS };
        assert_eq!(run(&program, &Call::new(Architecture::X86_64, number, 0)).0, action, "{number}");
    }
}

#[test]
fn the_default_profile_is_made_and_compiled_once_for_what_makes_a_difference() {
    let audit_write = 1 << 29;
    let first = default_profile(USUAL);
    assert!(Arc::ptr_eq(&first, &default_profile(USUAL & !audit_write)));
    assert!(!Arc::ptr_eq(&first, &default_profile(USUAL | SYS_ADMIN)));
    let program = default_program(USUAL);
    assert!(Arc::ptr_eq(&program, &default_program(USUAL & !audit_write)));
    assert!(!Arc::ptr_eq(&program, &default_program(USUAL | SYS_ADMIN)));
    // A Spec holds a copy.
    assert!(Arc::ptr_eq(&program, &super::program(&LinuxSeccomp::clone(&first)).unwrap()));
}

#[test]
fn a_file_is_compiled_when_it_has_changed_and_the_digest_says_what_it_does() {
    let of = |text: &str| super::program_of_file(text.as_bytes()).unwrap();
    let strict = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let first = of(strict);
    assert!(Arc::ptr_eq(&first, &of(strict)));
    let spaced = of(&strict.replace(':', ": "));
    assert!(!Arc::ptr_eq(&first, &spaced));
    assert_eq!(first.digest(), spaced.digest(), "it does the same");
    for other in [
        strict.replace("mkdir", "rmdir"),
        strict.replace("\"syscalls", "\"flags\": [\"SECCOMP_FILTER_FLAG_LOG\"], \"syscalls"),
    ] {
        assert_ne!(first.digest(), of(&other).digest(), "{other}");
    }
}

#[test]
fn no_more_programs_are_kept_than_said_and_a_failure_is_not() {
    let programs = cache::Programs::new();
    let of_errno = |errno| {
        let profile = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno);
        profile.default_errno_ret(errno).build().unwrap()
    };
    let look_up = |profile: &LinuxSeccomp, compiled: &mut u32| {
        let compile = || {
            *compiled += 1;
            compile_here(profile)
        };
        programs.get_or_compile(profile, || Arc::new(profile.clone()), compile)
    };
    let mut compiled = 0;
    for errno in 0..cache::KEPT as u32 {
        look_up(&of_errno(errno), &mut compiled).unwrap();
        look_up(&of_errno(errno), &mut compiled).unwrap();
    }
    assert_eq!(compiled, cache::KEPT as u32);
    look_up(&of_errno(5000), &mut compiled).unwrap_err();
    look_up(&of_errno(5000), &mut compiled).unwrap_err();
    look_up(&of_errno(0), &mut compiled).unwrap();
    assert_eq!(compiled, cache::KEPT as u32 + 2, "the first one is still there");
    look_up(&of_errno(200), &mut compiled).unwrap();
    look_up(&of_errno(1), &mut compiled).unwrap();
    assert_eq!(compiled, cache::KEPT as u32 + 3, "one made way for the newer one");
    look_up(&of_errno(0), &mut compiled).unwrap();
    assert_eq!(compiled, cache::KEPT as u32 + 4, "the oldest");
}

#[test]
fn the_default_profile_compiles_with_any_capability_and_knows_all_its_names() {
    for capability in 0..64 {
        let program = default_program(1 << capability);
        assert_eq!(program.unknown_names(), 0);
        assert_eq!(program.flags(), 0);
    }
}

/// A runtime may take the last of two rules for a call, or the first.
#[test]
fn no_call_has_a_rule_beside_one_without_conditions() {
    let profile = default_profile(u64::MAX);
    let rules = || profile.syscalls().iter().flatten();
    for rule in rules().filter(|rule| rule.args().is_none()) {
        for name in rule.names() {
            assert_eq!(rules().filter(|other| other.names().contains(name)).count(), 1, "{name}");
        }
    }
}

#[test]
fn the_default_profile_survives_a_config_json() {
    for capabilities in [0, USUAL, u64::MAX] {
        let profile = default_profile(capabilities);
        assert_eq!(load(&serde_json::to_vec(&*profile).unwrap()).unwrap(), *profile);
    }
}

#[test]
fn a_person_can_read_a_program() {
    let (profile, table) = sources();
    let text = compile(&profile, &table, 0, &[Architecture::X86_64]).to_string();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("   0  load architecture"));
    assert!(lines.next().unwrap().starts_with("   1  if it is 0xc000003e go to "));
    assert!(text.contains("if it has a bit of 0x7e020000 go to "));
    assert!(text.contains("errno 38"));
}
