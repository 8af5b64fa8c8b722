//! The default seccomp profile, compiled to classic BPF.
//!
//! ```text
//! default.profile   which calls, for a person to read ─┐
//! syscalls.table    name → number per architecture ────┴▶ verdict per number ▶ assembler ▶ Program
//! ```
//!
//! A program is compiled once for each set of capabilities that makes a difference, not once for each container.
#![forbid(unsafe_code)]

mod assembler;
mod compile;
mod profile;
mod program;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use profile::Profile;
pub use program::Program;
use table::{Architecture, Table};

static DEFAULT: LazyLock<(Profile, Table)> = LazyLock::new(|| {
    // Both texts are part of this program, and a test parses them.
    let table = Table::parse(include_str!("syscalls.table")).expect("syscalls.table is well-formed");
    let profile =
        Profile::parse(include_str!("default.profile"), &table).expect("default.profile is well-formed");
    (profile, table)
});

static COMPILED: Mutex<BTreeMap<u64, Arc<Program>>> = Mutex::new(BTreeMap::new());

/// The program of `RuntimeDefault` for a container that has these capabilities (bit N is capability N of
/// linux/capability.h), as containerd and Docker define it.
///
/// A call is refused with EPERM; one that the profile's kernel does not know, and clone3 (whose flags a filter
/// cannot see), with ENOSYS. x32 calls count as unknown. A process of any other architecture is killed.
pub fn default_profile(capabilities: u64) -> Arc<Program> {
    let (profile, table) = &*DEFAULT;
    let relevant = capabilities & profile.capabilities();
    // A panic while the lock is held leaves a map that is still whole.
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = || Arc::new(compile::compile(profile, table, relevant, Architecture::of_this_machine()));
    Arc::clone(compiled.entry(relevant).or_insert_with(compile))
}
