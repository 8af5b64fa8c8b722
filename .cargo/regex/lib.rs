//! The part of the crate `regex` that oci-spec's `image` and `runtime` use, from regex-lite.
//!
//! oci-spec checks one field with it (`process.execCPUAffinity`: digits, commas and dashes), and the whole engine with its
//! Unicode tables is 0.9 MB of the binary. regex-lite matches the same; its `\d` is ASCII, as in Go, where the rule comes from.

#![forbid(unsafe_code)]

pub use regex_lite::Regex;
