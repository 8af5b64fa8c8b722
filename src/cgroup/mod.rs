//! The cgroup v2 tree: make, limit, kill, observe.
#![forbid(unsafe_code)]
