//! Addresses for Pods that are not on the host's network: which one each has, its link, and its part of the firewall.
//!
//! What has no worker in it: `ranges.rs` where addresses come from, `host_ports.rs` which ports of the host a Pod wants, `network.rs` what
//! all Pods share, `place.rs` what one of them has of it. What the worker does with that: `claim.rs` gives Pods their places, `repair.rs`
//! takes over what an earlier worker left and puts right what others change, `shown.rs` says
//! what there is.

mod claim;
mod host_ports;
mod network;
mod place;
mod ranges;
mod repair;
mod shown;

pub use host_ports::distinct_host_ports;
pub use network::Network;
pub use place::Place;
pub use ranges::ranges;
