//! `default.profile` as a profile of the OCI runtime specification, which any runtime can take.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::profile::{Condition, Profile, Test, Verdict};
use super::table::Architecture;

impl Profile {
    /// For a container with `capabilities` on a machine that runs programs of `machine`.
    pub(super) fn to_oci(&self, machine: &[Architecture], capabilities: u64) -> LinuxSeccomp {
        let mut decided = BTreeSet::new();
        let mut syscalls = Vec::new();
        for section in self.sections.iter().filter(|section| section.applies(machine[0], capabilities)) {
            let names = section.names.iter().filter(|name| decided.insert(**name));
            let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
            if !names.is_empty() {
                syscalls.extend(section.verdict.rules(names));
            }
        }
        let mut architectures: Vec<Arch> = machine.iter().map(|architecture| architecture.oci()).collect();
        if machine.contains(&Architecture::X86_64) {
            architectures.push(Arch::ScmpArchX32);
        }
        let profile = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno);
        let profile = profile.default_errno_ret(libc::EPERM as u32).architectures(architectures);
        profile.syscalls(syscalls).build().expect("every field has a default")
    }
}

impl Verdict {
    /// The rules of an OCI profile that say so, where the default is EPERM. Each alternative is a rule of its
    /// own: several conditions on one argument of one rule are ORed by some runtimes and ANDed by others.
    fn rules(&self, names: Vec<String>) -> Vec<LinuxSyscall> {
        let rule = |action| LinuxSyscallBuilder::default().names(names.clone()).action(action);
        let allow = || rule(LinuxSeccompAction::ScmpActAllow);
        let rules = match self {
            Verdict::Allow => vec![allow()],
            Verdict::Refuse(errno) => {
                vec![rule(LinuxSeccompAction::ScmpActErrno).errno_ret(u32::from(*errno))]
            }
            Verdict::AllowIf(condition) => {
                condition.alternatives().into_iter().map(|arg| allow().args([arg])).collect()
            }
        };
        rules.into_iter().map(|rule| rule.build().expect("every field has a default")).collect()
    }
}

impl Condition {
    /// One of these holds exactly if the condition does. Any OCI runtime can judge them: they are tests for
    /// bits, and so see the low half only.
    fn alternatives(&self) -> Vec<LinuxSeccompArg> {
        let arg = |mask: u32, value: u32| {
            let arg = LinuxSeccompArgBuilder::default().index(usize::from(self.argument));
            let arg = arg.op(LinuxSeccompOperator::ScmpCmpMaskedEq).value(mask).value_two(value);
            arg.build().expect("every field has a default")
        };
        match &self.test {
            Test::OneOf(values) => values.iter().map(|value| arg(u32::MAX, *value)).collect(),
            Test::NoneOf { mask } => vec![arg(*mask, 0)],
            // Another value differs in one bit at least. The bits that are clear in `value` come first, side
            // by side: so `rules::join_bits` makes one test of them.
            Test::Not(value) => {
                let (clear, set): (Vec<u32>, Vec<u32>) =
                    (0..u32::BITS).map(|bit| 1 << bit).partition(|bit| value & bit == 0);
                let sets_one = clear.into_iter().map(|bit| arg(bit, bit));
                sets_one.chain(set.into_iter().map(|bit| arg(bit, 0))).collect()
            }
        }
    }
}
