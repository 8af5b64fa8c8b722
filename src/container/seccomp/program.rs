//! A compiled filter, and how a person reads it.

use std::fmt;
use std::sync::Arc;

use libc::sock_filter;

use super::assembler::{
    AND, FIELD_ARCHITECTURE, FIELD_NUMBER, JUMP, JUMP_IF_ABOVE, JUMP_IF_AT_LEAST, JUMP_IF_BITS,
    JUMP_IF_EQUAL, LOAD, RETURN,
};
use crate::image::Digest;
use crate::sys::step::Filter;

/// A classic BPF program over `struct seccomp_data`, ready for `SECCOMP_SET_MODE_FILTER`.
#[derive(Clone)]
pub struct Program {
    filter: Arc<Filter>,
    digest: Digest,
    unknown_names: usize,
}

impl Program {
    pub(super) fn new(filter: Filter, unknown_names: usize) -> Program {
        let digest = digest(&filter);
        Program { filter: Arc::new(filter), digest, unknown_names }
    }

    /// Names what it does: of two programs that differ in an instruction or a flag, the digests differ.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What a process installs, shared by all that do.
    pub fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// At least one and at most 4096 (`BPF_MAXINSNS`).
    pub fn instructions(&self) -> &[sock_filter] {
        &self.filter.instructions
    }

    /// The second argument of seccomp(2): `SECCOMP_FILTER_FLAG_*`, zero for a profile without flags.
    ///
    /// With `TSYNC`, seccomp(2) fails by returning the number of a thread, not -1.
    pub fn flags(&self) -> u32 {
        self.filter.flags
    }

    /// How many names of the profile are calls of no architecture that podkeep knows. They have no rule.
    pub fn unknown_names(&self) -> usize {
        self.unknown_names
    }
}

fn digest(filter: &Filter) -> Digest {
    let mut bytes = filter.flags.to_ne_bytes().to_vec();
    for sock_filter { code, jt, jf, k } in &filter.instructions {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_ne_bytes());
    }
    Digest::of(&bytes)
}

/// One instruction a line: its place, what it does, and the places it goes to.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, instruction) in self.instructions().iter().enumerate() {
            write!(f, "{place:4}  ")?;
            write_instruction(f, place, instruction)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_instruction(f: &mut fmt::Formatter<'_>, place: usize, instruction: &sock_filter) -> fmt::Result {
    let &sock_filter { code, jt, jf, k } = instruction;
    let then = place + 1 + usize::from(jt);
    let otherwise = place + 1 + usize::from(jf);
    match code {
        LOAD if k == FIELD_NUMBER => writeln!(f, "load number"),
        LOAD if k == FIELD_ARCHITECTURE => writeln!(f, "load architecture"),
        LOAD if k % 8 == 0 => writeln!(f, "load argument {}", (k - 16) / 8),
        LOAD => writeln!(f, "load the high half of argument {}", (k - 16) / 8),
        AND => writeln!(f, "keep its bits of {k:#x}"),
        JUMP => writeln!(f, "go to {}", place + 1 + k as usize),
        JUMP_IF_EQUAL => writeln!(f, "if it is {k:#x} go to {then} else {otherwise}"),
        JUMP_IF_AT_LEAST => writeln!(f, "if it is at least {k} go to {then} else {otherwise}"),
        JUMP_IF_ABOVE => writeln!(f, "if it is above {k} go to {then} else {otherwise}"),
        JUMP_IF_BITS => writeln!(f, "if it has a bit of {k:#x} go to {then} else {otherwise}"),
        RETURN => write_action(f, k),
        _ => writeln!(f, "{code:#06x} {jt} {jf} {k:#x}"),
    }
}

fn write_action(f: &mut fmt::Formatter<'_>, action: u32) -> fmt::Result {
    let data = action & libc::SECCOMP_RET_DATA;
    match action & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW => writeln!(f, "allow"),
        libc::SECCOMP_RET_LOG => writeln!(f, "allow and log"),
        libc::SECCOMP_RET_TRACE => writeln!(f, "tell the tracer {data}"),
        libc::SECCOMP_RET_ERRNO => writeln!(f, "errno {data}"),
        libc::SECCOMP_RET_TRAP => writeln!(f, "SIGSYS"),
        libc::SECCOMP_RET_KILL_THREAD => writeln!(f, "kill the thread"),
        libc::SECCOMP_RET_KILL_PROCESS => writeln!(f, "kill the process"),
        _ => writeln!(f, "return {action:#x}"),
    }
}
