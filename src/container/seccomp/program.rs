//! A compiled filter, and how a person reads it.

use std::fmt;

use libc::sock_filter;

use super::assembler::{
    FIELD_ARCHITECTURE, FIELD_NUMBER, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_BITS, JUMP_IF_EQUAL, LOAD, RETURN,
};

/// A classic BPF program over `struct seccomp_data`, ready for `SECCOMP_SET_MODE_FILTER`.
#[derive(Clone)]
pub struct Program(pub(super) Vec<sock_filter>);

impl Program {
    /// At least one and at most 4096 (`BPF_MAXINSNS`).
    pub fn instructions(&self) -> &[sock_filter] {
        &self.0
    }
}

/// One instruction a line: its place, what it does, and the places it goes to.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, instruction) in self.0.iter().enumerate() {
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
        LOAD => writeln!(f, "load argument {}", (k - 16) / 8),
        JUMP => writeln!(f, "go to {}", place + 1 + k as usize),
        JUMP_IF_EQUAL => writeln!(f, "if it is {k:#x} go to {then} else {otherwise}"),
        JUMP_IF_AT_LEAST => writeln!(f, "if it is at least {k} go to {then} else {otherwise}"),
        JUMP_IF_BITS => writeln!(f, "if it has a bit of {k:#x} go to {then} else {otherwise}"),
        RETURN if k == libc::SECCOMP_RET_ALLOW => writeln!(f, "allow"),
        RETURN if k & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO => {
            writeln!(f, "errno {}", k & libc::SECCOMP_RET_DATA)
        }
        RETURN if k == libc::SECCOMP_RET_KILL_PROCESS => writeln!(f, "kill the process"),
        _ => writeln!(f, "{code:#06x} {jt} {jf} {k:#x}"),
    }
}
