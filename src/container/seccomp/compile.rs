//! Profile and table → program: the architecture first, then a binary search over the numbers.
//!
//! A list of comparisons would cost a container's every call some hundred instructions; the search costs nine.

use super::assembler::{
    Assembler, FIELD_ARCHITECTURE, FIELD_NUMBER, JUMP_IF_AT_LEAST, JUMP_IF_BITS, JUMP_IF_EQUAL, Label,
    field_argument,
};
use super::profile::{Condition, Profile, Test, Verdict};
use super::program::Program;
use super::table::{Architecture, Table};

const UNKNOWN: Verdict = Verdict::Refuse(libc::ENOSYS as u16);

/// Numbers from `first` up to the next range's have one verdict.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    verdict: Verdict,
}

/// The program for containers that have `capabilities`, on a machine that runs programs of `architectures`.
pub(super) fn compile(
    profile: &Profile,
    table: &Table,
    capabilities: u64,
    architectures: &[Architecture],
) -> Program {
    let mut assembler = Assembler::default();
    let mut start = assembler.ret(libc::SECCOMP_RET_KILL_PROCESS);
    // The most usual architecture is written last, so that it is asked for first.
    for architecture in architectures.iter().rev() {
        let ranges = ranges(profile, table, capabilities, *architecture);
        let search = search(&mut assembler, &ranges);
        let calls = assembler.load(FIELD_NUMBER, search);
        start = assembler.branch(JUMP_IF_EQUAL, architecture.audit_value(), calls, start);
    }
    assembler.load(FIELD_ARCHITECTURE, start);
    assembler.finish()
}

/// Verdicts for all numbers, from zero on, neighbours with one verdict joined.
fn ranges(profile: &Profile, table: &Table, capabilities: u64, architecture: Architecture) -> Vec<Range> {
    let mut ranges = vec![Range { first: 0, verdict: UNKNOWN }];
    for (number, name) in table.calls(architecture) {
        set(&mut ranges, number, profile.verdict(name, architecture, capabilities));
        set(&mut ranges, number + 1, UNKNOWN);
    }
    ranges
}

/// Gives `first`, and all that is above, a verdict. Numbers come in rising order.
fn set(ranges: &mut Vec<Range>, first: u32, verdict: Verdict) {
    ranges.pop_if(|last| last.first == first);
    if ranges.last().is_none_or(|last| last.verdict != verdict) {
        ranges.push(Range { first, verdict });
    }
}

/// `ranges` is never empty.
fn search(assembler: &mut Assembler, ranges: &[Range]) -> Label {
    if let [range] = ranges {
        return answer(assembler, &range.verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let boundary = high[0].first;
    let high = search(assembler, high);
    let low = search(assembler, low);
    assembler.branch(JUMP_IF_AT_LEAST, boundary, high, low)
}

fn answer(assembler: &mut Assembler, verdict: &Verdict) -> Label {
    match verdict {
        Verdict::Allow => assembler.ret(libc::SECCOMP_RET_ALLOW),
        Verdict::Refuse(errno) => assembler.ret(refuse(*errno)),
        Verdict::AllowIf(condition) => answer_if(assembler, condition),
    }
}

fn answer_if(assembler: &mut Assembler, condition: &Condition) -> Label {
    let no = assembler.ret(refuse(libc::EPERM as u16));
    let yes = assembler.ret(libc::SECCOMP_RET_ALLOW);
    let test = match &condition.test {
        Test::NoneOf { mask } => assembler.branch(JUMP_IF_BITS, *mask, no, yes),
        Test::Not(value) => assembler.branch(JUMP_IF_EQUAL, *value, no, yes),
        Test::OneOf(values) => {
            values.iter().fold(no, |otherwise, value| assembler.branch(JUMP_IF_EQUAL, *value, yes, otherwise))
        }
    };
    assembler.load(field_argument(condition.argument), test)
}

fn refuse(errno: u16) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::from(errno)
}
