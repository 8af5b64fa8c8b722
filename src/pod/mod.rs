//! pod
#![forbid(unsafe_code)]
