//! Attacks on container runtimes that have worked elsewhere, each tried here and turned away. docs/security.md is the whole
//! list: what other tests try stands there, not here.
//!
//! Run with `scripts/vm test guest_attacks`; anywhere else these tests fail.
//! Guest: --root debian

#[path = "guest_attacks/before_exec.rs"]
mod before_exec;
#[allow(dead_code, reason = "another test's harness")]
#[path = "guest_container/harness.rs"]
mod bench;
#[path = "guest_attacks/binary.rs"]
mod binary;
#[allow(dead_code, reason = "another test's builder")]
#[path = "images/builder.rs"]
mod builder;
#[path = "harness/busybox_root.rs"]
mod busybox_root;
#[path = "guest_attacks/console.rs"]
mod console;
#[path = "guest_attacks/descriptors.rs"]
mod descriptors;
mod harness;
#[path = "guest_attacks/identity.rs"]
mod identity;
#[allow(dead_code, reason = "another test's bundles")]
#[path = "guest_oci/bench.rs"]
mod oci;
#[path = "guest_attacks/paths.rs"]
mod paths;
#[path = "guest_attacks/race.rs"]
mod race;
