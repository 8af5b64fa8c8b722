//! A condition on one argument of a system call.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

/// Holds if the test's answer is `holds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
    pub(super) holds: bool,
}

/// What is asked of all 64 bits of an argument. Every operator is one of these or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// The bits of `mask` are those of `value`, which has no others.
    Bits {
        mask: u64,
        value: u64,
    },
    Above(u64),
    AtLeast(u64),
}

impl Test {
    pub(super) fn bits(mask: u64, value: u64) -> Test {
        Test::Bits { mask, value: value & mask }
    }
}

impl Condition {
    pub(super) fn new(argument: u8, arg: &LinuxSeccompArg) -> Condition {
        let value = arg.value();
        let (test, holds) = match arg.op() {
            Operator::ScmpCmpEq => (Test::bits(u64::MAX, value), true),
            Operator::ScmpCmpNe => (Test::bits(u64::MAX, value), false),
            Operator::ScmpCmpMaskedEq => (Test::bits(value, arg.value_two().unwrap_or(0)), true),
            Operator::ScmpCmpGt => (Test::Above(value), true),
            Operator::ScmpCmpLe => (Test::Above(value), false),
            Operator::ScmpCmpGe => (Test::AtLeast(value), true),
            Operator::ScmpCmpLt => (Test::AtLeast(value), false),
        };
        Condition { argument, test, holds }
    }

    /// The low 32 bits only, the others being zero in every call.
    pub(super) fn cut_to_32_bits(&mut self) {
        let low = u64::from(u32::MAX);
        match &mut self.test {
            Test::Bits { mask, value } => (*mask, *value) = (*mask & low, *value & low),
            Test::Above(value) | Test::AtLeast(value) => *value &= low,
        }
    }

    /// This or `other`, if both ask for any bit of a mask of one argument.
    pub(super) fn or_bits(&self, other: &Condition) -> Option<Condition> {
        let both = self.any_bit_of()? | other.any_bit_of()?;
        let test = Test::Bits { mask: both, value: 0 };
        (self.argument == other.argument).then_some(Condition { test, ..*self })
    }

    /// `bit is set` said as `not none of the bits is set`, so that [`Condition::or_bits`] sees it.
    pub(super) fn with_one_bit_as_any(self) -> Condition {
        match self.test {
            Test::Bits { mask, value } if mask == value && mask.is_power_of_two() => {
                Condition { test: Test::Bits { mask, value: 0 }, holds: !self.holds, ..self }
            }
            _ => self,
        }
    }

    fn any_bit_of(&self) -> Option<u64> {
        match self.test {
            Test::Bits { mask, value: 0 } if !self.holds => Some(mask),
            _ => None,
        }
    }
}
