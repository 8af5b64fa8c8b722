use proptest::prelude::*;

use super::*;
use LinuxDeviceType::{A, B, C, P, U};

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

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
            UNLESS_EQUAL if registers[to] != value => at += instruction.offset as usize,
            IF_EQUAL if registers[to] == value => at += instruction.offset as usize,
            UNLESS_EQUAL | IF_EQUAL => {}
            EXIT => return registers[0] == 1,
            code => panic!("unknown code {code:#x}"),
        }
    }
}

fn allowed(rules: &[LinuxDeviceCgroup], kind: i32, access: i32, major: i32, minor: i32) -> bool {
    compile(rules).unwrap().is_none_or(|program| run(&program, kind, access, major, minor))
}

#[test]
fn the_default_rules_let_a_disk_be_made_and_not_read() {
    let rules = default_rules();
    assert!(allowed(&rules, BLOCK, MKNOD, 8, 0));
    assert!(!allowed(&rules, BLOCK, READ, 8, 0));
    assert!(!allowed(&rules, BLOCK, MKNOD | READ, 8, 0));
    assert!(!allowed(&rules, BLOCK, WRITE, 1, 3), "a block device with the numbers of null");
    assert!(allowed(&rules, CHARACTER, READ | WRITE, 1, 3));
    assert!(!allowed(&rules, CHARACTER, READ, 1, 1), "/dev/mem");
    assert!(allowed(&rules, CHARACTER, READ | WRITE, 136, 17));
    assert!(!allowed(&rules, CHARACTER, READ | WRITE, 10, 232), "/dev/kvm");
}

#[test]
fn the_last_rule_that_names_a_letter_has_the_word() {
    let rules = [
        rule(true, C, Some(10), Some(-1), "rw"),
        rule(false, A, Some(10), Some(232), "w"),
        rule(true, B, None, None, "r"),
    ];
    assert!(allowed(&rules, CHARACTER, READ | WRITE, 10, 200));
    assert!(allowed(&rules, CHARACTER, READ, 10, 232));
    assert!(!allowed(&rules, CHARACTER, READ | WRITE, 10, 232));
    assert!(!allowed(&rules, CHARACTER, MKNOD, 10, 200), "denied unless allowed");
    assert!(allowed(&rules, BLOCK, READ, 8, 0));
    assert!(!allowed(&[], CHARACTER, READ, 1, 3), "no rules allow nothing");
}

#[test]
fn letters_may_come_from_several_rules() {
    let rules = [rule(true, C, Some(1), Some(3), "r"), rule(true, C, Some(1), None, "w")];
    assert!(allowed(&rules, CHARACTER, READ | WRITE, 1, 3));
    assert!(!allowed(&rules, CHARACTER, READ | WRITE, 1, 5));
}

#[test]
fn where_everything_is_allowed_in_the_end_there_is_no_program() {
    let everything = || rule(true, A, None, Some(-1), "rwm");
    let disk = |allow| rule(allow, B, Some(8), Some(0), "r");
    for rules in [
        vec![everything()],
        vec![disk(false), everything()],
        vec![everything(), disk(true)],
        [everything()].into_iter().chain(harmless_rules()).collect(),
    ] {
        assert_eq!(compile(&rules).unwrap(), None, "{rules:?}");
    }
    assert!(!allowed(&[everything(), disk(false)], BLOCK, READ, 8, 0));
}

#[test]
fn a_rule_that_is_there_twice_is_compiled_once() {
    let once = compile(&default_rules()).unwrap();
    let twice: Vec<_> = default_rules().into_iter().chain(harmless_rules()).collect();
    assert_eq!(compile(&twice).unwrap(), once);
}

#[test]
fn rules_that_cannot_be_compiled_are_refused() {
    let mut silent = rule(false, A, None, None, "rwm");
    silent.set_access(None);
    for bad in [
        silent,
        rule(true, C, Some(1), None, "x"),
        rule(true, C, Some(1), None, ""),
        rule(true, C, Some(i64::MAX), None, "r"),
        rule(true, C, Some(1), Some(-2), "r"),
        rule(true, P, None, None, "r"),
    ] {
        let rules = [rule(false, A, None, None, "rwm"), bad];
        assert!(matches!(compile(&rules), Err(DeviceError::Rule(_))), "{rules:?}");
    }
}

/// The rules read as the documentation of this module says, one letter after the other.
fn naive(rules: &[LinuxDeviceCgroup], kind: i32, access: i32, major: i32, minor: i32) -> bool {
    let fits = |wanted: Option<i64>, number: i32| wanted.is_none_or(|w| w == -1 || w == i64::from(number));
    let names = |rule: &&LinuxDeviceCgroup| {
        let of_kind = match rule.typ().unwrap() {
            B => kind == BLOCK,
            C | U => kind == CHARACTER,
            _ => true,
        };
        of_kind && fits(rule.major(), major) && fits(rule.minor(), minor)
    };
    let last_word = |letter: char| {
        let of_letter = |rule: &&LinuxDeviceCgroup| rule.access().as_ref().unwrap().contains(letter);
        rules.iter().filter(names).rfind(of_letter).is_some_and(|rule| rule.allow())
    };
    let asked: Vec<_> =
        [('m', MKNOD), ('r', READ), ('w', WRITE)].into_iter().filter(|(_, bit)| access & bit != 0).collect();
    match asked.is_empty() {
        true => rules.iter().filter(names).any(|rule| rule.allow()),
        false => asked.into_iter().all(|(letter, _)| last_word(letter)),
    }
}

prop_compose! {
    /// Few numbers, so that rules meet.
    fn any_rule()(
        allow: bool,
        kind in prop::sample::select(vec![A, B, C, U]),
        major in prop::sample::select(vec![None, Some(-1), Some(0), Some(1), Some(2)]),
        minor in prop::sample::select(vec![None, Some(-1), Some(0), Some(1), Some(2)]),
        access in prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm", "mrr"]),
    ) -> LinuxDeviceCgroup {
        rule(allow, kind, major, minor, access)
    }
}

proptest! {
    #[test]
    fn the_program_decides_as_the_rules_read(rules in prop::collection::vec(any_rule(), 0..8)) {
        for kind in [BLOCK, CHARACTER] {
            for access in 0..=ANY_ACCESS {
                for (major, minor) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (3, 3)] {
                    prop_assert_eq!(
                        allowed(&rules, kind, access, major, minor),
                        naive(&rules, kind, access, major, minor),
                        "{} {:#b} {}:{}", kind, access, major, minor
                    );
                }
            }
        }
    }
}
