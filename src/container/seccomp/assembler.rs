//! An assembler of classic BPF that is written from the end to the beginning.
//!
//! BPF jumps only forwards, and a conditional jump reaches 255 instructions far. Written backwards, every target is
//! known before the jump to it, and where one is too far, a long jump (or a copy of the return) is put between.

use libc::sock_filter;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const JUMP_IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(super) const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const JUMP_IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
pub(super) const FIELD_NUMBER: u32 = 0;
pub(super) const FIELD_ARCHITECTURE: u32 = 4;

/// The low half of an argument, on a little-endian machine (podkeep runs on no other).
pub(super) fn field_low(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

/// The high half, which is zero in a call of a 32-bit program.
pub(super) fn field_high(argument: u8) -> u32 {
    field_low(argument) + 4
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
        self.follow(LOAD, field, next)
    }

    /// Clears the bits of the loaded field that are not in `mask`, and goes on with `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.follow(AND, mask, next)
    }

    /// `target` for a jump from where `field` is loaded already.
    pub(super) fn with_loaded(&self, field: u32, target: Label) -> Label {
        let instruction = self.reversed[target.0];
        // A load is never the last instruction, so there is one after it.
        if instruction.code == LOAD && instruction.k == field { Label(target.0 - 1) } else { target }
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
    pub(super) fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }

    fn follow(&mut self, code: u16, k: u32, next: Label) -> Label {
        if next.0 + 1 != self.reversed.len() {
            self.jump(next);
        }
        self.push(code, 0, 0, k)
    }

    fn bring_near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        let instruction = self.reversed[target.0];
        if instruction.code == RETURN { self.ret(instruction.k) } else { self.jump(target) }
    }

    fn jump(&mut self, target: Label) -> Label {
        // What is longer than BPF_MAXINSNS is refused at the end, and memory holds no 2³² instructions.
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
