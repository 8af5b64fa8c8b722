//! An OCI profile, checked and sorted by name: what is answered to a call.
//!
//! Where the specification is silent, this is what libseccomp does for runc and crun:
//! - a rule whose action is the default one is as if it were not there;
//! - a rule without conditions decides alone, wherever it stands (of two, the first);
//! - several conditions on one argument in one rule are not ANDed: every condition of that rule is its own rule;
//! - on a 32-bit architecture, values are cut to 32 bits.
//!
//! Conditional rules of one call are asked in the order of the profile. libseccomp has an order of its own there, which
//! matters only where two of them hold at once and differ in what they do.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSyscall};

use super::action;
use super::condition::{Condition, Test};
use super::error::SeccompError;
use super::multiplexed;
use super::table::{Architecture, Table};
use crate::order;

/// The answer to one call: the first rule of which all conditions hold, else `otherwise`. `SECCOMP_RET_*` with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: u32,
}

impl Verdict {
    pub(super) fn always(action: u32) -> Verdict {
        Verdict { rules: Vec::new(), otherwise: action }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

#[derive(Debug)]
pub(super) struct Rules<'a> {
    default: u32,
    /// In the order of the profile.
    by_name: BTreeMap<&'a str, Vec<Rule>>,
    listed: &'a [Arch],
}

impl<'a> Rules<'a> {
    /// # Errors
    /// When the profile asks for what no filter can do, or for what podkeep does not.
    pub(super) fn read(profile: &'a LinuxSeccomp) -> Result<Rules<'a>, SeccompError> {
        let default = action::default(profile)?;
        let mut by_name = BTreeMap::<_, Vec<Rule>>::new();
        for syscall in profile.syscalls().iter().flatten() {
            let rules = rules_of(syscall)?;
            for name in syscall.names() {
                by_name.entry(name.as_str()).or_default().extend(rules.iter().cloned());
            }
        }
        for rules in by_name.values_mut() {
            rules.retain(|rule| rule.action != default);
            settle(rules);
        }
        Ok(Rules { default, by_name, listed: profile.architectures().as_deref().unwrap_or_default() })
    }

    /// Those of `machine` that the profile is for. The machine's own, its first, is always one of them.
    pub(super) fn architectures(&self, machine: &[Architecture]) -> Vec<Architecture> {
        let is_listed = |(place, architecture): &(usize, &Architecture)| {
            *place == 0 || self.listed.contains(&architecture.oci())
        };
        machine.iter().enumerate().filter(is_listed).map(|(_, architecture)| *architecture).collect()
    }

    /// The answer to the call `name`.
    pub(super) fn verdict(&self, name: &str, architecture: Architecture) -> Verdict {
        let mut rules = self.by_name.get(name).cloned().unwrap_or_default();
        if architecture == Architecture::I386 && multiplexed::CALLS.contains(&name) {
            rules.extend(self.multiplexed(name));
        }
        for condition in rules.iter_mut().flat_map(|rule| &mut rule.conditions) {
            if architecture.is_32_bit() {
                condition.cut_to_32_bits();
            }
            *condition = condition.with_one_bit_as_any();
        }
        settle(&mut rules);
        match rules.as_slice() {
            [Rule { conditions, action }] if conditions.is_empty() => Verdict::always(*action),
            _ => Verdict { rules: join_bits(rules), otherwise: self.default },
        }
    }

    /// The answer to a number that is no call of its architecture, such as that of a newer kernel's call.
    ///
    /// Where the default is an error it is ENOSYS, as in runc, so that libraries fall back to what there was before.
    pub(super) fn unknown(&self) -> Verdict {
        let is_errno = self.default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
        Verdict::always(if is_errno { action::errno(libc::ENOSYS) } else { self.default })
    }

    /// The answer to a call of x32: death if the profile does not list it, as in libseccomp; else ENOSYS,
    /// which is also the answer of a kernel without x32. An ALLOW by default must not reach calls that the
    /// rules cannot name.
    pub(super) fn x32(&self) -> Verdict {
        let is_listed = self.listed.contains(&Arch::ScmpArchX32);
        Verdict::always(if is_listed { action::errno(libc::ENOSYS) } else { libc::SECCOMP_RET_KILL_PROCESS })
    }

    /// How many names no architecture has.
    pub(super) fn unknown_names(&self, table: &Table, profile: &LinuxSeccomp) -> usize {
        let names = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
        let unknown = names.filter(|name| !table.has(name) && multiplexed::call_of(name).is_none());
        order::set(unknown).len()
    }

    /// What the rules for `socket` and others say of `socketcall`, and so on: a 32-bit program reaches them both ways.
    ///
    /// The call's own arguments lie in memory, or one place farther: as in libseccomp, a condition on the
    /// first one is lost, and one on another is asked of what stands there instead.
    fn multiplexed(&self, name: &str) -> Vec<Rule> {
        let calls = self.by_name.iter().filter_map(|(inner, rules)| {
            let (outer, test) = multiplexed::call_of(inner)?;
            (outer == name).then_some((test, rules))
        });
        calls.flat_map(|(test, rules)| rules.iter().map(move |rule| rule.reached_through(test))).collect()
    }
}

impl Rule {
    fn reached_through(&self, test: Test) -> Rule {
        let mut conditions = vec![Condition { argument: 0, test, holds: true }];
        conditions.extend(self.conditions.iter().filter(|condition| condition.argument != 0));
        Rule { conditions, action: self.action }
    }
}

fn rules_of(syscall: &LinuxSyscall) -> Result<Vec<Rule>, SeccompError> {
    let action = action::of_rule(syscall)?;
    let args = syscall.args().as_deref().unwrap_or_default();
    let mut conditions = Vec::with_capacity(args.len());
    for arg in args {
        let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
        let argument = argument
            .ok_or_else(|| SeccompError::Argument { rule: action::name(syscall), index: arg.index() })?;
        conditions.push(Condition::new(argument, arg));
    }
    let mut seen = BTreeSet::new();
    if conditions.iter().all(|condition| seen.insert(condition.argument)) {
        return Ok(vec![Rule { conditions, action }]);
    }
    let alone = |condition| Rule { conditions: vec![condition], action };
    Ok(conditions.into_iter().map(alone).collect())
}

/// The first rule without conditions decides alone.
fn settle(rules: &mut Vec<Rule>) {
    if let Some(place) = rules.iter().position(|rule| rule.conditions.is_empty()) {
        rules.swap(0, place);
        rules.truncate(1);
    }
}

/// Makes one rule of neighbours that ask for any bit of a mask and have one outcome. The default profile says
/// `is not` by 32 rules, one for each bit; a few are left of them.
fn join_bits(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules {
        if let Some(last) = joined.last_mut()
            && last.action == rule.action
            && let ([one], [other]) = (last.conditions.as_mut_slice(), rule.conditions.as_slice())
            && let Some(both) = one.or_bits(other)
        {
            *one = both;
            continue;
        }
        joined.push(rule);
    }
    joined
}
