//! `default.profile`, read: which system calls a container may make, and on what condition.

use caps::Capability;

use super::table::{Architecture, Table};

/// What a section says of its calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// Fails with this errno.
    Refuse(u16),
    /// Allowed if the condition holds, otherwise EPERM.
    AllowIf(Condition),
}

/// A condition on the low 32 bits of an argument.
///
/// The calls that have one take an `int`, or look at those bits only; comparing all 64 would let a set high
/// bit, which the kernel ignores, slip through `is not`. Docker's profile, which compares all 64, lets
/// AF_VSOCK through that way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    OneOf(Vec<u32>),
    Not(u32),
    NoneOf { mask: u32 },
}

#[cfg(test)]
impl Condition {
    /// The answer for a value: what the compiled program is tested against.
    pub(super) fn holds(&self, value: u32) -> bool {
        match &self.test {
            Test::OneOf(values) => values.contains(&value),
            Test::Not(other) => value != *other,
            Test::NoneOf { mask } => value & mask == 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Profile {
    pub(super) sections: Vec<Section>,
}

#[derive(Debug)]
pub(super) struct Section {
    applies: Applies,
    pub(super) verdict: Verdict,
    pub(super) names: Vec<&'static str>,
}

#[derive(Debug)]
enum Applies {
    Always,
    /// A bit mask of one capability.
    With(u64),
    /// If the machine is one of these.
    On(Vec<Architecture>),
}

impl Section {
    pub(super) fn applies(&self, machine: Architecture, capabilities: u64) -> bool {
        match &self.applies {
            Applies::Always => true,
            Applies::With(capability) => capabilities & capability != 0,
            Applies::On(architectures) => architectures.contains(&machine),
        }
    }
}

impl Profile {
    /// The format stands at the top of `default.profile`. Every name has to be in `table`.
    pub(super) fn parse(text: &'static str, table: &Table) -> Result<Profile, String> {
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let wrong = |what: &str| format!("default.profile: {what}: {line:?}");
            if let Some(rule) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                sections.push(parse_rule(rule).ok_or_else(|| wrong("no such rule"))?);
                continue;
            }
            let section = sections.last_mut().ok_or_else(|| wrong("a name before the first section"))?;
            for name in line.split_ascii_whitespace() {
                table.has(name).then_some(()).ok_or_else(|| wrong("a name that is not in syscalls.table"))?;
                section.names.push(name);
            }
        }
        Ok(Profile { sections })
    }

    /// The capabilities that make a difference, as a bit mask.
    pub(super) fn capabilities(&self) -> u64 {
        self.sections.iter().fold(0, |mask, section| match section.applies {
            Applies::With(capability) => mask | capability,
            Applies::Always | Applies::On(_) => mask,
        })
    }

    /// The answer to the call `name` on `machine` of a container that has `capabilities`.
    #[cfg(test)]
    pub(super) fn verdict(&self, name: &str, machine: Architecture, capabilities: u64) -> Verdict {
        let decides =
            |section: &&Section| section.names.contains(&name) && section.applies(machine, capabilities);
        let section = self.sections.iter().find(decides);
        section.map_or(Verdict::Refuse(libc::EPERM as u16), |section| section.verdict.clone())
    }
}

fn parse_rule(rule: &str) -> Option<Section> {
    let words: Vec<_> = rule.split_ascii_whitespace().collect();
    let (applies, verdict) = match *words {
        ["allow"] => (Applies::Always, Verdict::Allow),
        ["allow", "with", capability] => {
            let capability: Capability = capability.parse().ok()?;
            (Applies::With(1 << capability.index()), Verdict::Allow)
        }
        ["allow", "on", ref names @ ..] => (Applies::On(parse_architectures(names)?), Verdict::Allow),
        ["allow", "if", argument, ref test @ ..] => {
            let condition = Condition { argument: parse_argument(argument)?, test: parse_test(test)? };
            (Applies::Always, Verdict::AllowIf(condition))
        }
        ["refuse", "ENOSYS"] => (Applies::Always, Verdict::Refuse(libc::ENOSYS as u16)),
        ["refuse", "EPERM"] => (Applies::Always, Verdict::Refuse(libc::EPERM as u16)),
        _ => return None,
    };
    Some(Section { applies, verdict, names: Vec::new() })
}

fn parse_architectures(names: &[&str]) -> Option<Vec<Architecture>> {
    names.iter().map(|name| Architecture::ALL.into_iter().find(|a| a.name() == *name)).collect()
}

fn parse_argument(text: &str) -> Option<u8> {
    text.strip_prefix("arg")?.parse().ok().filter(|n| *n < 6)
}

fn parse_test(words: &[&str]) -> Option<Test> {
    match *words {
        ["is", "one", "of", ref values @ ..] => {
            Some(Test::OneOf(values.iter().copied().map(parse_value).collect::<Option<_>>()?))
        }
        ["is", "not", value] => Some(Test::Not(parse_value(value)?)),
        ["has", "none", "of", mask] => Some(Test::NoneOf { mask: parse_value(mask)? }),
        _ => None,
    }
}

fn parse_value(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: u64 = 1 << 21;

    fn table() -> Table {
        Table::parse(include_str!("syscalls.table")).unwrap()
    }

    #[test]
    fn capabilities_decide_before_conditions() {
        let profile = Profile::parse(include_str!("default.profile"), &table()).unwrap();
        let verdict = |name, capabilities| profile.verdict(name, Architecture::X86_64, capabilities);
        assert_eq!(verdict("clone3", 0), Verdict::Refuse(libc::ENOSYS as u16));
        assert_eq!(verdict("clone3", ADMIN), Verdict::Allow);
        assert_eq!(verdict("clone", ADMIN), Verdict::Allow);
        let condition = Condition { argument: 0, test: Test::NoneOf { mask: 0x7e02_0000 } };
        assert_eq!(verdict("clone", 0), Verdict::AllowIf(condition));
        assert_eq!(verdict("unshare", 0), Verdict::Refuse(libc::EPERM as u16));
        assert_eq!(verdict("keyctl", u64::MAX), Verdict::Refuse(libc::EPERM as u16));
        assert_eq!(verdict("arch_prctl", 0), Verdict::Allow);
        let on_arm = |name| profile.verdict(name, Architecture::Aarch64, 0);
        assert_eq!(on_arm("arch_prctl"), Verdict::Refuse(libc::EPERM as u16));
        assert_eq!(on_arm("modify_ldt"), Verdict::Refuse(libc::EPERM as u16));
    }

    #[test]
    fn the_mask_of_clone_is_that_of_the_namespaces() {
        let flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET;
        assert_eq!(flags as u32, 0x7e02_0000);
        assert_eq!(libc::AF_VSOCK, 40);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for text in [
            "read",
            "[allow]\nraed",
            "[allow with CAP_NOTHING]\nread",
            "[allow on vax]\nread",
            "[allow if arg6 is not 1]\nread",
            "[allow if arg0 is not x]\nread",
            "[deny]\nread",
        ] {
            assert!(Profile::parse(text, &table()).is_err(), "{text:?}");
        }
    }
}
