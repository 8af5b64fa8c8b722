//! A container: Pod and image → OCI runtime `Spec` → plan → process.
#![forbid(unsafe_code)]

pub mod seccomp;
