//! pod
#![forbid(unsafe_code)]

pub mod set;
