//! An assembler of classic BPF that is written from the end to the beginning.
//!
//! BPF jumps only forwards, and a conditional jump reaches 255 instructions far. Written backwards, every target is
//! known before the jump to it, and where one is too far, a long jump (or a copy of the return) is put between.

use libc::sock_filter;

use super::program::Program;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const JUMP_IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
pub(super) const FIELD_NUMBER: u32 = 0;
pub(super) const FIELD_ARCHITECTURE: u32 = 4;

/// The low half of an argument, on a little-endian machine (podkeep runs on no other).
pub(super) fn field_argument(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

/// The farthest a conditional jump may go: 255, less the long jumps that may still come between.
const REACH: usize = 253;

/// An instruction that is written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
}

impl Assembler {
    /// Ends the program with an action (`SECCOMP_RET_*`).
    pub(super) fn ret(&mut self, action: u32) -> Label {
        let is_same = |i: &sock_filter| i.code == RETURN && i.k == action;
        let near = self.reversed.len().saturating_sub(REACH / 2);
        match self.reversed[near..].iter().rposition(is_same) {
            Some(index) => Label(near + index),
            None => self.push(RETURN, 0, 0, action),
        }
    }

    /// Loads a field and goes on with `next`.
    pub(super) fn load(&mut self, field: u32, next: Label) -> Label {
        if next.0 + 1 != self.reversed.len() {
            self.jump(next);
        }
        self.push(LOAD, 0, 0, field)
    }

    /// Compares the loaded field by one of the `JUMP_IF_…` codes with `value`.
    pub(super) fn branch(&mut self, code: u16, value: u32, then: Label, otherwise: Label) -> Label {
        let then = self.bring_near(then);
        let otherwise = self.bring_near(otherwise);
        let (jt, jf) = (self.distance(then), self.distance(otherwise));
        debug_assert!(jt <= 255 && jf <= 255);
        self.push(code, jt as u8, jf as u8, value)
    }

    /// The program begins with what was written last.
    pub(super) fn finish(mut self) -> Program {
        self.reversed.reverse();
        Program(self.reversed)
    }

    fn bring_near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        let instruction = self.reversed[target.0];
        if instruction.code == RETURN { self.ret(instruction.k) } else { self.jump(target) }
    }

    fn jump(&mut self, target: Label) -> Label {
        // A program has at most 4096 instructions.
        let distance = self.distance(target) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    /// How many instructions the next one that is written would have to skip.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}
