//! The firewall in network namespaces of the test's own: what nft shows of it, and who reaches whom through it.
//!
//! Needs root, iproute2 and nftables (`scripts/install network`). `scripts/vm test firewall` runs it with the guest's kernels.
//! Guest: --root debian

#[path = "firewall/disturbed.rs"]
mod disturbed;
#[path = "firewall/foreign.rs"]
mod foreign;
#[path = "firewall/golden.rs"]
mod golden;
#[path = "harness/host.rs"]
mod host;
#[path = "harness/namespace.rs"]
mod namespace;
#[path = "firewall/reach.rs"]
mod reach;
#[path = "firewall/site.rs"]
mod site;
#[path = "firewall/spoofing.rs"]
mod spoofing;
#[path = "harness/talk.rs"]
mod talk;
