//! Networks that plugins of others make: CNI, versions 0.3.0 to 1.1.0, as containerd uses it (<https://www.cni.dev/docs/spec/>).
//!
//! A file lists the plugins of a network (`list.rs`). For each Pod they are run one after the other, each with what the one before has
//! answered (`attachment.rs`, `result.rs`). What lasts over all this is the caller's to keep.

mod attachment;
mod list;
mod plugin;
mod result;
#[cfg(test)]
pub(crate) mod testing;

pub use attachment::{Attachment, collect};
pub use list::{ListError, Network};
pub use plugin::{Error, Plugins};

/// What a Pod's end of its link is called.
pub const INTERFACE: &str = "eth0";
