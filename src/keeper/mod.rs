//! keeper
#![forbid(unsafe_code)]
