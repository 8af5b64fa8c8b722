//! The network of Pods: texts by which they know what they and others are called (`/etc/hosts`, `/etc/resolv.conf`), the addresses they
//! have, and what has to be in the kernel for it.
#![forbid(unsafe_code)]

pub mod cni;
mod dns;
pub mod firewall;
pub mod forwarding;
mod host_name;
mod hosts;
pub mod links;
pub mod netlink;
mod range;
pub mod resolver;
mod sysctl;

pub use dns::{Cluster, Dns, Loss, of_pod as dns_of_pod};
pub use host_name::{domain, host_name};
pub use hosts::{hosts, hosts_of_the_host};
pub use range::{Addresses, Lease, NODE, Range, Ranges, Slot};
