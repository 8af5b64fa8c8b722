//! Profiles written by hand, as JSON, and what their programs answer.

use crate::container::seccomp::compile::compile;
use crate::container::seccomp::error::SeccompError;
use crate::container::seccomp::program::Program;
use crate::container::seccomp::table::{Architecture, Table};
use crate::container::seccomp::{MAX_LENGTH, TABLE, load};

use super::interpreter::{Call, run};

const MACHINE: [Architecture; 2] = [Architecture::X86_64, Architecture::I386];
const READ: u32 = 0;
const SOCKET: u32 = 41;
const PERSONALITY: u32 = 135;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn table() -> &'static Table {
    &TABLE
}

fn compiled(json: &str) -> Result<Program, SeccompError> {
    compile(&load(json.as_bytes()).unwrap(), table(), &MACHINE)
}

fn program(json: &str) -> Program {
    compiled(json).unwrap()
}

/// A profile that has `rules` (JSON objects) and ALLOW for the rest, for x86_64 and i386.
fn denying(rules: &str) -> Program {
    program(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{rules}]}}"#
    ))
}

fn refuse(name: &str, errno: u32, args: &str) -> String {
    format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}, "args": [{args}]}}"#)
}

fn answer(program: &Program, number: u32, first: u64) -> u32 {
    run(program.instructions(), &Call::new(Architecture::X86_64, number, first)).0
}

fn answer_i386(program: &Program, number: u32, first: u64) -> u32 {
    run(program.instructions(), &Call::new(Architecture::I386, number, first)).0
}

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

#[test]
fn every_action_is_the_kernels() {
    for (action, expected) in [
        (r#""SCMP_ACT_KILL""#, 0),
        (r#""SCMP_ACT_KILL_THREAD""#, 0),
        (r#""SCMP_ACT_KILL_PROCESS""#, 0x8000_0000),
        (r#""SCMP_ACT_TRAP""#, 0x0003_0000),
        (r#""SCMP_ACT_ERRNO""#, 0x0005_0001),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 38"#, 0x0005_0026),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 0"#, 0x0005_0000),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 4095"#, 0x0005_0fff),
        (r#""SCMP_ACT_TRACE""#, 0x7ff0_0001),
        (r#""SCMP_ACT_TRACE", "errnoRet": 65535"#, 0x7ff0_ffff),
        (r#""SCMP_ACT_LOG""#, 0x7ffc_0000),
        (r#""SCMP_ACT_ALLOW""#, 0x7fff_0000),
    ] {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
                "syscalls": [{{"names": ["read"], "action": {action}}}]}}"#
        );
        let program = program(&json);
        assert_eq!(answer(&program, READ, 0), expected, "{action}");
        assert_eq!(answer(&program, SOCKET, 0), errno(13), "{action}");
    }
}

#[test]
fn what_would_need_a_listener_is_refused_and_says_so() {
    for (json, word) in [
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "SCMP_ACT_NOTIFY",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}"#, "/run/agent"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#, "listenerMetadata"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ),
    ] {
        let error = compiled(json).unwrap_err();
        let is_listener = matches!(error, SeccompError::Listener(_) | SeccompError::ListenerPath(_));
        assert!(is_listener && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn what_breaks_the_specification_is_refused() {
    for (rule, words) in [
        (
            r#""action": "SCMP_ACT_KILL", "errnoRet": 1"#,
            "rule for `read` has errno 1, and its action takes none",
        ),
        (r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#, "the greatest is 4095"),
        (r#""action": "SCMP_ACT_TRACE", "errnoRet": 65536"#, "the greatest is 65535"),
        (
            r#""action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]"#,
            "argument 6",
        ),
    ] {
        let json =
            format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], {rule}}}]}}"#);
        let error = compiled(&json).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = compiled(r#"{"defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 1}"#).unwrap_err();
    assert!(error.to_string().contains("default action has errno 1"), "{error}");
}

#[test]
fn flags_are_those_of_the_system_call() {
    let flags =
        |list: &str| program(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{list}]}}"#)).flags();
    assert_eq!(flags(""), 0);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_TSYNC""#), 1);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW""#), 6);
}

#[test]
fn rules_of_one_call_are_asked_in_their_order() {
    let above = |value, outcome| {
        refuse("personality", outcome, &format!(r#"{{"index": 0, "value": {value}, "op": "SCMP_CMP_GT"}}"#))
    };
    let program = denying(&[above(5, 11), above(3, 12)].join(","));
    assert_eq!([3, 4, 6].map(|first| answer(&program, PERSONALITY, first)), [ALLOW, errno(12), errno(11)]);
    let program = denying(&[above(3, 12), above(5, 11)].join(","));
    assert_eq!([3, 4, 6].map(|first| answer(&program, PERSONALITY, first)), [ALLOW, errno(12), errno(12)]);
}

/// Neighbours that ask for one bit each become one test, if nothing else tells them apart.
#[test]
fn rules_for_single_bits_keep_their_outcomes_and_arguments() {
    let bit = |index, outcome, bit: u64| {
        let arg =
            format!(r#"{{"index": {index}, "value": {bit}, "valueTwo": {bit}, "op": "SCMP_CMP_MASKED_EQ"}}"#);
        refuse("socket", outcome, &arg)
    };
    let program = denying(&[bit(0, 11, 1), bit(0, 11, 1 << 32), bit(0, 12, 2), bit(1, 12, 4)].join(","));
    let answers = |first, second| {
        let call = Call::with(Architecture::X86_64, SOCKET, [first, second, 0, 0, 0, 0]);
        run(program.instructions(), &call).0
    };
    assert_eq!([answers(1, 0), answers(1 << 32, 0), answers(3, 4)], [errno(11); 3]);
    assert_eq!([answers(2, 0), answers(0, 4), answers(6, 0)], [errno(12); 3]);
    assert_eq!([answers(4, 1), answers(0, 2), answers(4 << 32, 3)], [ALLOW; 3]);
}

#[test]
fn a_rule_without_conditions_decides_wherever_it_stands() {
    let five = refuse("personality", 11, r#"{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}"#);
    let any = refuse("personality", 12, "");
    let another = refuse("personality", 13, "");
    for rules in [[&five, &any, &another], [&any, &five, &another]] {
        let program = denying(&rules.map(String::as_str).join(","));
        assert_eq!([5, 6].map(|first| answer(&program, PERSONALITY, first)), [errno(12), errno(12)]);
    }
}

#[test]
fn a_rule_that_says_what_the_default_says_hides_no_other() {
    let five = refuse("personality", 11, r#"{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}"#);
    let allow = r#"{"names": ["personality"], "action": "SCMP_ACT_ALLOW"}"#;
    let program = denying(&format!("{allow}, {five}"));
    assert_eq!([5, 6].map(|first| answer(&program, PERSONALITY, first)), [errno(11), ALLOW]);
}

#[test]
fn conditions_of_one_rule_are_anded_unless_two_ask_for_one_argument() {
    let equal = |index, value| format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#);
    let call = |arguments| Call::with(Architecture::X86_64, SOCKET, arguments);
    let both = denying(&refuse("socket", 11, &[equal(0, 1), equal(2, 7)].join(",")));
    let answers = |program: &Program, arguments| run(program.instructions(), &call(arguments)).0;
    assert_eq!(answers(&both, [1, 0, 7, 0, 0, 0]), errno(11));
    assert_eq!(answers(&both, [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answers(&both, [0, 0, 7, 0, 0, 0]), ALLOW);
    let any = denying(&refuse("socket", 11, &[equal(0, 1), equal(0, 2), equal(2, 7)].join(",")));
    assert_eq!(answers(&any, [1, 0, 0, 0, 0, 0]), errno(11));
    assert_eq!(answers(&any, [2, 0, 0, 0, 0, 0]), errno(11));
    assert_eq!(answers(&any, [0, 0, 7, 0, 0, 0]), errno(11));
    assert_eq!(answers(&any, [3, 0, 8, 0, 0, 0]), ALLOW);
}

#[test]
fn an_architecture_that_is_not_listed_is_killed_and_the_machines_own_never() {
    let only = |architectures: &str| {
        program(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [{architectures}]}}"#))
    };
    for architectures in ["", r#""SCMP_ARCH_NATIVE""#, r#""SCMP_ARCH_X86_64""#, r#""SCMP_ARCH_S390X""#] {
        let program = only(architectures);
        assert_eq!(answer(&program, READ, 0), ALLOW, "{architectures}");
        assert_eq!(answer_i386(&program, READ, 0), libc::SECCOMP_RET_KILL_PROCESS, "{architectures}");
    }
    let program = only(r#""SCMP_ARCH_X86""#);
    assert_eq!((answer(&program, READ, 0), answer_i386(&program, READ, 0)), (ALLOW, ALLOW));
}

#[test]
fn no_x32_call_is_allowed_even_by_default() {
    let program_of = |architectures: &str| {
        program(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [{architectures}]}}"#))
    };
    let unlisted = program_of("");
    let listed = program_of(r#""SCMP_ARCH_X32""#);
    for number in [0x4000_0000, 0x4000_0027, 0x4000_0208, u32::MAX - 1] {
        assert_eq!(answer(&unlisted, number, 0), libc::SECCOMP_RET_KILL_PROCESS, "{number:#x}");
        assert_eq!(answer(&listed, number, 0), errno(libc::ENOSYS), "{number:#x}");
    }
    // What a tracer writes to skip a call.
    assert_eq!(answer(&unlisted, u32::MAX, 0), ALLOW);
}

#[test]
fn an_unknown_number_is_enosys_under_an_errno_and_otherwise_the_default() {
    for (default, expected) in [
        (r#""SCMP_ACT_ERRNO""#, errno(libc::ENOSYS)),
        (r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 13"#, errno(libc::ENOSYS)),
        (r#""SCMP_ACT_ALLOW""#, ALLOW),
        (r#""SCMP_ACT_LOG""#, libc::SECCOMP_RET_LOG),
        (r#""SCMP_ACT_TRACE""#, libc::SECCOMP_RET_TRACE | 1),
        (r#""SCMP_ACT_TRAP""#, libc::SECCOMP_RET_TRAP),
        (r#""SCMP_ACT_KILL_PROCESS""#, libc::SECCOMP_RET_KILL_PROCESS),
    ] {
        let program = program(&format!(r#"{{"defaultAction": {default}}}"#));
        assert_eq!(answer(&program, 999, 0), expected, "{default}");
    }
}

#[test]
fn names_of_other_machines_are_passed_over_and_counted_once() {
    let program = denying(
        r#"{"names": ["s390_pci_mmio_read", "read", "breakpoint", "send"], "action": "SCMP_ACT_TRAP"},
           {"names": ["breakpoint"], "action": "SCMP_ACT_TRAP"}"#,
    );
    assert_eq!(program.unknown_names(), 2);
    assert_eq!(answer(&program, READ, 0), libc::SECCOMP_RET_TRAP);
}

/// Found by asking libseccomp: a 32-bit program has two ways to `socket`, and a rule that closed one left the other.
#[test]
fn socketcall_and_ipc_are_no_way_around_a_rule() {
    let (socketcall, ipc, socket) = (102, 117, 359);
    let program = denying(&[refuse("socket", 11, ""), refuse("shmget", 12, "")].join(","));
    assert_eq!(answer_i386(&program, socket, 0), errno(11));
    assert_eq!([1, 2].map(|call| answer_i386(&program, socketcall, call)), [errno(11), ALLOW]);
    assert_eq!(
        [23, 0x1_0017, 22].map(|call| answer_i386(&program, ipc, call)),
        [errno(12), errno(12), ALLOW]
    );

    let vsock = r#"{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}"#;
    let program = denying(&refuse("socket", 11, vsock));
    assert_eq!([40, 1].map(|family| answer_i386(&program, socket, family)), [errno(11), ALLOW]);
    assert_eq!([1, 2].map(|call| answer_i386(&program, socketcall, call)), [errno(11), ALLOW]);
}

#[test]
fn a_32_bit_call_is_compared_by_32_bits() {
    const PERSONALITY_I386: u32 = 136;
    let program = denying(&refuse(
        "personality",
        11,
        r#"{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}"#,
    ));
    assert_eq!(answer_i386(&program, PERSONALITY_I386, 0xffff_ffff), errno(11));
    assert_eq!(answer(&program, PERSONALITY, 0xffff_ffff), ALLOW);
    assert_eq!(answer(&program, PERSONALITY, u64::MAX), errno(11));
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_an_error() {
    let rules = |count: u32| {
        let rule = |n| {
            let value = 0x1_0000_0000 * u64::from(n);
            refuse(
                "personality",
                n % 4000,
                &format!(r#"{{"index": 0, "value": {value}, "op": "SCMP_CMP_GT"}}"#),
            )
        };
        let rules: Vec<String> = (1..=count).map(rule).collect();
        compiled(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, rules.join(",")))
    };
    let program = rules(600).unwrap();
    assert!(program.instructions().len() > 2500, "{}", program.instructions().len());
    assert_eq!(answer(&program, PERSONALITY, 0x1_0000_0000 * 600), errno(1));
    assert_eq!(answer(&program, PERSONALITY, 0x1_0000_0000), ALLOW);
    let error = rules(1200).unwrap_err();
    assert!(matches!(error, SeccompError::TooLong(length) if length > MAX_LENGTH), "{error}");
}
