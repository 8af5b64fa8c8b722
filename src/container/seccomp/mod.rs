//! Seccomp profiles, compiled to classic BPF.
//!
//! ```text
//! default.profile   which calls, for a person to read ──▶ LinuxSeccomp ◀── Localhost file
//!                                                              │
//! syscalls.table    name → number per architecture ────────────┴▶ verdict per number ▶ assembler ▶ Program
//! ```
//!
//! A node carries the program of a container beside its `Spec`: nothing is copied, compared or parsed for a start. What runtimes
//! do where the specification is silent stands in `rules.rs`. A program is compiled once for each distinct profile, not
//! once for each container.
#![forbid(unsafe_code)]

mod action;
mod assembler;
mod cache;
mod compile;
mod condition;
mod error;
mod load;
mod multiplexed;
mod oci;
mod profile;
mod program;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use oci_spec::runtime::LinuxSeccomp;

use cache::{Defaults, OfFiles, Programs};
pub use error::SeccompError;
pub use load::load;
use profile::Profile;
pub use program::Program;
use table::{Architecture, Table};

/// `BPF_MAXINSNS` of linux/bpf_common.h.
const MAX_LENGTH: usize = 4096;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    // This text and the next are part of this program, and tests parse them.
    Table::parse(include_str!("syscalls.table")).expect("syscalls.table is well-formed")
});

static DEFAULT: LazyLock<Profile> = LazyLock::new(|| {
    Profile::parse(include_str!("default.profile"), &TABLE).expect("default.profile is well-formed")
});

static DEFAULTS: Defaults = Defaults::new();
static PROGRAMS: Programs = Programs::new();
static OF_FILES: OfFiles = OfFiles::new();

/// The profile of `RuntimeDefault` for a container that has these capabilities (bit N is capability N of
/// linux/capability.h), as containerd and Docker define it. For equal sets it is one and the same.
///
/// A call is refused with EPERM; clone3, whose flags a filter cannot see, with ENOSYS.
pub fn default_profile(capabilities: u64) -> Arc<LinuxSeccomp> {
    let relevant = capabilities & DEFAULT.capabilities();
    DEFAULTS.get_or_make(relevant, || DEFAULT.to_oci(Architecture::of_this_machine(), relevant))
}

/// The program of [`default_profile`]: from the second time on, neither parsed, compiled nor compared.
pub fn default_program(capabilities: u64) -> Arc<Program> {
    let profile = default_profile(capabilities);
    let program = PROGRAMS.get_or_compile(&profile, || Arc::clone(&profile), || compile_here(&profile));
    // No part of it is anybody's choice, and a test compiles it for every capability.
    program.expect("the default profile is one that can be compiled")
}

/// The program of a `Localhost` file that holds `text`: parsed and compiled the first time only.
///
/// # Errors
/// As [`load`] and [`program`].
pub fn program_of_file(text: &[u8]) -> Result<Arc<Program>, SeccompError> {
    OF_FILES.get_or_compile(text, || compile_here(&load(text)?))
}

/// The program of any profile. Equal profiles have one program, which is compiled once.
///
/// A call that this kernel's table does not know fails with ENOSYS where the default is an error. A process of an
/// architecture that the profile does not list is killed.
///
/// # Errors
/// When the profile needs a listener, breaks the specification, or is too long for the kernel.
pub fn program(profile: &LinuxSeccomp) -> Result<Arc<Program>, SeccompError> {
    PROGRAMS.get_or_compile(profile, || Arc::new(profile.clone()), || compile_here(profile))
}

fn compile_here(profile: &LinuxSeccomp) -> Result<Program, SeccompError> {
    compile::compile(profile, &TABLE, Architecture::of_this_machine())
}
