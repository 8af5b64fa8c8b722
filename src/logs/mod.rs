//! Containers' output in CRI format: written, rotated, read back.
#![forbid(unsafe_code)]
