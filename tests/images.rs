//! Images as strangers may make them: what is whole arrives whole, what is hostile is refused and touches nothing outside.
//!
//! Runs as root (devices, owners and overlay attributes), in temporary folders only.

#[path = "images/artifacts.rs"]
mod artifacts;
#[path = "images/builder.rs"]
mod builder;
#[path = "images/command.rs"]
mod command;
#[path = "images/hostile.rs"]
mod hostile;
#[path = "images/keeping.rs"]
mod keeping;
#[path = "images/sources.rs"]
mod sources;
#[path = "images/spares.rs"]
mod spares;
#[path = "images/terminal.rs"]
mod terminal;
#[path = "images/tools.rs"]
mod tools;
#[path = "images/umoci.rs"]
mod umoci;
#[path = "images/unpacking.rs"]
mod unpacking;
