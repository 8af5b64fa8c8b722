//! What a Pod sees of the network. So far: what it is called, and the texts by which it looks up what others are called
//! (`/etc/hosts`, `/etc/resolv.conf`).
//!
//! Texts from texts: nothing here does I/O.
#![forbid(unsafe_code)]

mod dns;
pub mod firewall;
mod host_name;
mod hosts;
pub mod netlink;

pub use dns::{Cluster, Dns, Loss, of_pod as dns_of_pod};
pub use host_name::{domain, host_name};
pub use hosts::{hosts, hosts_of_the_host};
