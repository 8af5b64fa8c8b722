//! source
#![forbid(unsafe_code)]
