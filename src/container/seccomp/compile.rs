//! Profile and table → program: the architecture first, then a binary search over the numbers.
//!
//! A list of comparisons would cost a container's every call some hundred instructions; the search costs nine.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};

use super::MAX_LENGTH;
use super::assembler::{
    Assembler, FIELD_ARCHITECTURE, FIELD_NUMBER, JUMP_IF_ABOVE, JUMP_IF_AT_LEAST, JUMP_IF_BITS,
    JUMP_IF_EQUAL, Label, field_high, field_low,
};
use super::condition::{Condition, Test};
use super::error::SeccompError;
use super::program::Program;
use super::rules::{Rules, Verdict};
use super::table::{Architecture, Table};
use crate::sys::step::Filter;

/// Bit 30 of a number that comes as x86_64's (`__X32_SYSCALL_BIT` of asm/unistd.h).
const X32: u32 = 0x4000_0000;

/// Numbers from `first` up to the next range's have one verdict.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    verdict: Verdict,
}

/// The program of `profile` on a machine that runs programs of `machine`, the first of which is its own.
///
/// # Errors
/// When the profile asks for what podkeep cannot do, or its program would be too long for the kernel.
pub(super) fn compile(
    profile: &LinuxSeccomp,
    table: &Table,
    machine: &[Architecture],
) -> Result<Program, SeccompError> {
    refuse_listeners(profile)?;
    let flags = flags(profile)?;
    let rules = Rules::read(profile)?;
    let mut assembler = Assembler::default();
    // libseccomp kills the thread only, which leaves a process without one of its parts.
    let mut start = assembler.ret(libc::SECCOMP_RET_KILL_PROCESS);
    // The most usual architecture is written last, so that it is asked for first.
    for architecture in rules.architectures(machine).into_iter().rev() {
        let ranges = ranges(&rules, table, architecture);
        let search = search(&mut assembler, &ranges);
        let calls = assembler.load(FIELD_NUMBER, search);
        start = assembler.branch(JUMP_IF_EQUAL, architecture.audit_value(), calls, start);
    }
    assembler.load(FIELD_ARCHITECTURE, start);
    let instructions = assembler.finish();
    if instructions.len() > MAX_LENGTH {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    Ok(Program::new(Filter { instructions, flags }, rules.unknown_names(table, profile)))
}

fn refuse_listeners(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    if let Some(path) = profile.listener_path() {
        return Err(SeccompError::ListenerPath(path.clone()));
    }
    match profile.listener_metadata() {
        Some(_) => Err(SeccompError::Listener("listenerMetadata")),
        None => Ok(()),
    }
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, SeccompError> {
    profile.flags().iter().flatten().try_fold(0, |flags, flag| match flag {
        Flag::SeccompFilterFlagTsync => Ok(flags | libc::SECCOMP_FILTER_FLAG_TSYNC as u32),
        Flag::SeccompFilterFlagLog => Ok(flags | libc::SECCOMP_FILTER_FLAG_LOG as u32),
        Flag::SeccompFilterFlagSpecAllow => Ok(flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
        Flag::SeccompFilterFlagWaitKillableRecv => {
            Err(SeccompError::Listener("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"))
        }
    })
}

/// Verdicts for all numbers, from zero on, neighbours with one verdict joined.
fn ranges(rules: &Rules, table: &Table, architecture: Architecture) -> Vec<Range> {
    let unknown = rules.unknown();
    let mut ranges = vec![Range { first: 0, verdict: unknown.clone() }];
    for (number, name) in table.calls(architecture) {
        set(&mut ranges, number, rules.verdict(name, architecture));
        set(&mut ranges, number + 1, unknown.clone());
    }
    if architecture == Architecture::X86_64 {
        set(&mut ranges, X32, rules.x32());
        // -1 is no call of x32: a tracer sets it to skip a call.
        set(&mut ranges, u32::MAX, unknown);
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
    let otherwise = assembler.ret(verdict.otherwise);
    verdict.rules.iter().rev().fold(otherwise, |no, rule| {
        let yes = assembler.ret(rule.action);
        rule.conditions.iter().rev().fold(yes, |yes, condition| ask(assembler, condition, yes, no))
    })
}

fn ask(assembler: &mut Assembler, condition: &Condition, yes: Label, no: Label) -> Label {
    let (yes, no) = if condition.holds { (yes, no) } else { (no, yes) };
    match condition.test {
        Test::Bits { mask, value } => ask_bits(assembler, condition.argument, mask, value, yes, no),
        Test::Above(value) => ask_order(assembler, condition.argument, JUMP_IF_ABOVE, value, yes, no),
        Test::AtLeast(value) => ask_order(assembler, condition.argument, JUMP_IF_AT_LEAST, value, yes, no),
    }
}

/// First the high half, then the low one; a half without a bit in the mask is not looked at.
fn ask_bits(a: &mut Assembler, argument: u8, mask: u64, value: u64, yes: Label, no: Label) -> Label {
    let low = ask_half(a, field_low(argument), mask as u32, value as u32, yes, no);
    ask_half(a, field_high(argument), (mask >> 32) as u32, (value >> 32) as u32, low, no)
}

fn ask_half(a: &mut Assembler, field: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    if mask == 0 {
        return yes;
    }
    if mask != u32::MAX && value != 0 {
        let compared = a.branch(JUMP_IF_EQUAL, value, yes, no);
        let masked = a.and(mask, compared);
        return a.load(field, masked);
    }
    // The field is still what it was, and need not be loaded again.
    let (yes, no) = (a.with_loaded(field, yes), a.with_loaded(field, no));
    let compared = match value {
        0 => a.branch(JUMP_IF_BITS, mask, no, yes),
        _ => a.branch(JUMP_IF_EQUAL, value, yes, no),
    };
    a.load(field, compared)
}

/// By the high half, and by the low one where the high ones are equal.
fn ask_order(a: &mut Assembler, argument: u8, code: u16, value: u64, yes: Label, no: Label) -> Label {
    let (high, low) = ((value >> 32) as u32, value as u32);
    let by_low = a.branch(code, low, yes, no);
    let by_low = a.load(field_low(argument), by_low);
    let is_equal = a.branch(JUMP_IF_EQUAL, high, by_low, no);
    let is_above = a.branch(JUMP_IF_ABOVE, high, yes, is_equal);
    a.load(field_high(argument), is_above)
}
