//! The numbers of system calls: `syscalls.table`, read.

use std::collections::BTreeMap;

use crate::order;
use oci_spec::runtime::Arch;

/// A set of system call numbers, as the kernel tells a filter (`AUDIT_ARCH_*` of linux/audit.h).
///
/// x32 is not one of them: its calls come as x86_64 with bit 30 set, and no kernel of a distribution has it on, so
/// they have no names here, and nothing allows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Architecture {
    X86_64,
    I386,
    Aarch64,
}

impl Architecture {
    pub(super) const ALL: [Architecture; 3] =
        [Architecture::X86_64, Architecture::I386, Architecture::Aarch64];

    /// What programs can run here: a 64-bit x86 kernel takes 32-bit calls too, and with their own numbers.
    pub(super) fn of_this_machine() -> &'static [Architecture] {
        if cfg!(target_arch = "aarch64") {
            &[Architecture::Aarch64]
        } else {
            &[Architecture::X86_64, Architecture::I386]
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::I386 => "i386",
            Architecture::Aarch64 => "aarch64",
        }
    }

    /// What an OCI `Spec` calls it.
    pub(super) fn oci(self) -> Arch {
        match self {
            Architecture::X86_64 => Arch::ScmpArchX86_64,
            Architecture::I386 => Arch::ScmpArchX86,
            Architecture::Aarch64 => Arch::ScmpArchAarch64,
        }
    }

    /// Arguments have 32 bits.
    pub(super) fn is_32_bit(self) -> bool {
        self == Architecture::I386
    }

    /// `seccomp_data.arch`.
    pub(super) fn audit_value(self) -> u32 {
        match self {
            Architecture::X86_64 => 0xc000_003e,
            Architecture::I386 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
        }
    }
}

/// Every system call that is known, by name.
#[derive(Debug)]
pub(super) struct Table {
    numbers: BTreeMap<&'static str, [Option<u32>; Architecture::ALL.len()]>,
}

impl Table {
    /// Lines of `name number number number`; `#` begins a comment.
    pub(super) fn parse(text: &'static str) -> Result<Table, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut numbers = BTreeMap::new();
        for line in lines {
            let (name, row) = parse_row(line).ok_or_else(|| format!("syscalls.table: {line:?}"))?;
            numbers.insert(name, row);
        }
        Ok(Table { numbers })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    /// The calls of one architecture: number → name.
    pub(super) fn calls(&self, architecture: Architecture) -> BTreeMap<u32, &'static str> {
        let numbered =
            self.numbers.iter().filter_map(|(name, row)| Some((row[architecture as usize]?, *name)));
        order::map(numbered)
    }
}

fn parse_row(line: &'static str) -> Option<(&'static str, [Option<u32>; Architecture::ALL.len()])> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?;
    let mut row = [None; Architecture::ALL.len()];
    for number in &mut row {
        *number = match fields.next()? {
            "-" => None,
            digits => Some(digits.parse().ok()?),
        };
    }
    fields.next().is_none().then_some((name, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_this_test_is_built_for() {
        let table = Table::parse(include_str!("syscalls.table")).unwrap();
        let here = table.calls(Architecture::of_this_machine()[0]);
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_execve, "execve"),
            (libc::SYS_keyctl, "keyctl"),
            (libc::SYS_clone3, "clone3"),
            (libc::SYS_faccessat2, "faccessat2"),
            (libc::SYS_futex_waitv, "futex_waitv"),
            (libc::SYS_mseal, "mseal"),
        ] {
            assert_eq!(here.get(&(number as u32)), Some(&name));
        }
    }

    #[test]
    fn no_number_stands_twice() {
        let table = Table::parse(include_str!("syscalls.table")).unwrap();
        for architecture in Architecture::ALL {
            let named = table.numbers.values().filter(|row| row[architecture as usize].is_some()).count();
            assert_eq!(table.calls(architecture).len(), named, "{architecture:?}");
            assert!(named > 300, "{architecture:?}");
        }
    }

    #[test]
    fn a_malformed_line_is_an_error() {
        for line in ["read 0 3", "read 0 3 63 1", "read zero 3 63"] {
            assert!(Table::parse(line).is_err(), "{line:?}");
        }
    }
}
