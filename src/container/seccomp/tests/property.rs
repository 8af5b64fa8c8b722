//! Any profile: its program against an evaluation of the profile that has nothing in common with the compiler.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator as Operator, LinuxSyscall, LinuxSyscallBuilder,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::container::seccomp::TABLE;
use crate::container::seccomp::compile::compile;
use crate::container::seccomp::table::Architecture;

use super::interpreter::{Call, run};

/// Name, and number on x86_64 and i386. None is multiplexed.
const CALLS: [(&str, u32, u32); 4] =
    [("read", 0, 3), ("clone", 56, 120), ("personality", 135, 136), ("fcntl", 72, 55)];

fn word() -> impl Strategy<Value = u64> {
    let half = select(&[0u64, 1, 2, 40, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff][..]);
    let (high, low) = (half.clone(), half);
    prop_oneof![4 => (high, low).prop_map(|(high, low)| high << 32 | low), 1 => any::<u64>()]
}

fn arg() -> impl Strategy<Value = LinuxSeccompArg> {
    let operator = select(
        &[
            Operator::ScmpCmpNe,
            Operator::ScmpCmpLt,
            Operator::ScmpCmpLe,
            Operator::ScmpCmpEq,
            Operator::ScmpCmpGe,
            Operator::ScmpCmpGt,
            Operator::ScmpCmpMaskedEq,
        ][..],
    );
    // Neighbours that ask for one bit are joined, so there have to be some.
    let bit = (0..64u32, any::<bool>())
        .prop_map(|(bit, set)| (Operator::ScmpCmpMaskedEq, 1 << bit, u64::from(set) << bit));
    let test = prop_oneof![2 => (operator, word(), word()), 1 => bit];
    (0..3usize, test).prop_map(|(index, (operator, value, value_two))| {
        let arg = LinuxSeccompArgBuilder::default().index(index).op(operator);
        arg.value(value).value_two(value_two).build().unwrap()
    })
}

fn action() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop_oneof![
        Just((Action::ScmpActAllow, None)),
        Just((Action::ScmpActKillProcess, None)),
        Just((Action::ScmpActLog, None)),
        prop::option::of(1..3u32).prop_map(|errno| (Action::ScmpActErrno, errno)),
    ]
}

fn rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(select(&CALLS[..]).prop_map(|call| call.0.to_owned()), 1..3);
    let some = |count| prop::collection::vec(arg(), count);
    let args = prop_oneof![1 => Just(vec![]), 5 => some(1..2), 5 => some(2..4)];
    (names, action(), args).prop_map(|(names, (action, errno), args)| {
        let mut rule = LinuxSyscallBuilder::default().names(names).action(action).args(args).build().unwrap();
        rule.set_errno_ret(errno);
        rule
    })
}

fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    (action(), prop::collection::vec(rule(), 0..8)).prop_map(|((action, errno), rules)| {
        let profile = LinuxSeccompBuilder::default().default_action(action).syscalls(rules);
        let mut profile = profile.architectures([Arch::ScmpArchX86]).build().unwrap();
        profile.set_default_errno_ret(errno);
        profile
    })
}

fn matches(arg: &LinuxSeccompArg, arguments: [u64; 6], cut: u64) -> bool {
    let (given, value, two) =
        (arguments[arg.index()] & cut, arg.value() & cut, arg.value_two().unwrap_or(0) & cut);
    match arg.op() {
        Operator::ScmpCmpNe => given != value,
        Operator::ScmpCmpLt => given < value,
        Operator::ScmpCmpLe => given <= value,
        Operator::ScmpCmpEq => given == value,
        Operator::ScmpCmpGe => given >= value,
        Operator::ScmpCmpGt => given > value,
        Operator::ScmpCmpMaskedEq => given & value == two & value,
    }
}

fn evaluate(profile: &LinuxSeccomp, name: &str, arguments: [u64; 6], cut: u64) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let outcome = |rule: &LinuxSyscall| rule.action().as_u32(rule.errno_ret());
    let rules = || {
        let of_call =
            profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == name));
        of_call.filter(|rule| outcome(rule) != default)
    };
    let args = |rule: &LinuxSyscall| rule.args().clone().unwrap_or_default();
    if let Some(rule) = rules().find(|rule| args(rule).is_empty()) {
        return outcome(rule);
    }
    let holds = |rule: &&LinuxSyscall| {
        let args = args(rule);
        let repeats = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
        if repeats {
            args.iter().any(|arg| matches(arg, arguments, cut))
        } else {
            args.iter().all(|arg| matches(arg, arguments, cut))
        }
    };
    rules().find(holds).map_or(default, outcome)
}

proptest! {
    #[test]
    fn a_program_answers_what_its_profile_says(
        profile in profile(),
        calls in prop::collection::vec([word(), word(), word()], 40),
    ) {
        let program = compile(&profile, &TABLE, &[Architecture::X86_64, Architecture::I386]).unwrap();
        let named = profile.syscalls().iter().flatten().flat_map(|rule| rule.args().clone().unwrap_or_default());
        // What a rule names, and its neighbours, are the values at which it could be wrong.
        let at_edges = named.flat_map(|arg| [arg.value(), arg.value() ^ arg.value_two().unwrap_or(0)]);
        let around = at_edges.flat_map(|v| [v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 32]);
        let around = around.map(|v| [v, v, v]);
        for [first, second, third] in calls.into_iter().chain(around) {
            for (name, number, number_i386) in CALLS {
                let arguments = [first, second, third, 0, 0, 0];
                let call = Call::with(Architecture::X86_64, number, arguments);
                let (action, _) = run(program.instructions(), &call);
                prop_assert_eq!(
                    action, evaluate(&profile, name, arguments, u64::MAX),
                    "{} {:x?}\n{}", name, arguments, program
                );
                let arguments = arguments.map(|argument| argument & 0xffff_ffff);
                let call = Call::with(Architecture::I386, number_i386, arguments);
                let (action, _) = run(program.instructions(), &call);
                prop_assert_eq!(
                    action, evaluate(&profile, name, arguments, 0xffff_ffff),
                    "i386 {} {:x?}\n{}", name, arguments, program
                );
            }
        }
    }
}
