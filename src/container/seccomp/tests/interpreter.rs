//! What the kernel does with a program.

use libc::sock_filter;

use crate::container::seccomp::assembler::*;
use crate::container::seccomp::table::Architecture;

/// `struct seccomp_data`, as far as the programs look at it.
pub(super) struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    pub(super) fn new(architecture: Architecture, number: u32, first: u64) -> Call {
        Call::with(architecture, number, [first, 0, 0, 0, 0, 0])
    }

    pub(super) fn with(architecture: Architecture, number: u32, arguments: [u64; 6]) -> Call {
        Call { architecture: architecture.audit_value(), number, arguments }
    }

    fn field(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("a load from offset {offset}"),
        }
    }
}

/// The answer and the number of steps to it (Documentation/networking/filter.rst), for the instructions we use.
/// Any jump out of the program is a panic here; the kernel's checker would refuse it.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut place, mut loaded, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[place];
        steps += 1;
        place += 1;
        let skip = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            RETURN => return (k, steps),
            LOAD => loaded = call.field(k),
            AND => loaded &= k,
            JUMP => place += k as usize,
            JUMP_IF_EQUAL => place += skip(loaded == k),
            JUMP_IF_ABOVE => place += skip(loaded > k),
            JUMP_IF_AT_LEAST => place += skip(loaded >= k),
            JUMP_IF_BITS => place += skip(loaded & k != 0),
            _ => panic!("code {code:#x}"),
        }
    }
}
