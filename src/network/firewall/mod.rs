//! The firewall: one table of nftables, `inet podkeep`, with which Pods are reached by host ports, leave for the world, and are reached by
//! nobody else than they want ([docs](../../../docs/network.md)).
//!
//! `table.rs` has the chains and rules, which are the same whatever runs; `elements.rs` what a Pod adds to their sets and maps, and
//! takes away again; `rule.rs` how a rule is written, `uapi.rs` the kernel's numbers, `error.rs` what it refuses, and `foreign.rs` what
//! stands in others' tables that our own cannot overrule. Everything is a list of messages; [`Firewall`] has it done.

mod connections;
mod elements;
mod error;
mod foreign;
mod rule;
mod table;
mod uapi;

use std::os::fd::{AsFd, BorrowedFd};

pub use elements::{HostPort, Pod, add, remove};
pub use error::Error;
pub use foreign::{Drops, Foreign, Hook, legacy};
pub use table::{no_table, table};

use super::netlink::{Message, Socket, find, text};
use super::{NODE, Range, Ranges};
pub use crate::manifest::pod::Ingress;

/// What our table is called, in the family `inet`.
pub const TABLE: &str = "podkeep";
/// The node's range of one family, and its own address there, in bytes. A family that the node has not has no rules and no sets.
struct Own {
    family: &'static Family,
    range: Vec<u8>,
    prefix: u8,
    node: Vec<u8>,
}

impl Own {
    fn all(ranges: &Ranges) -> Vec<Own> {
        let node = ranges.addresses(NODE);
        let v4 = ranges.v4().zip(node.v4).map(|(Range { network, length }, node)| Own {
            family: &IPV4,
            range: network.octets().to_vec(),
            prefix: length,
            node: node.octets().to_vec(),
        });
        let v6 = ranges.v6().zip(node.v6).map(|(Range { network, length }, node)| Own {
            family: &IPV6,
            range: network.octets().to_vec(),
            prefix: length,
            node: node.octets().to_vec(),
        });
        v4.into_iter().chain(v6).collect()
    }
}

/// What differs between the two.
#[derive(Debug)]
struct Family {
    /// `NFPROTO_*`.
    protocol: u8,
    /// Bytes of an address, and where in the header the two are.
    width: u32,
    source: u32,
    destination: u32,
    /// The type of addresses, as nft numbers its types.
    address: u32,
    sets: Sets,
}

/// The names of the sets and maps of a family.
#[derive(Debug)]
struct Sets {
    /// `protocol . port` on any address of the host → `address . port` of a Pod.
    host_ports: &'static str,
    /// The same with a `hostIP`: `address . protocol . port`.
    host_ports_of_ip: &'static str,
    /// `address . address` of each Pod that has a host port: it may reach itself by that.
    hairpin: &'static str,
    /// The address of each Pod that not everybody may reach → who may.
    ingress: &'static str,
}

const IPV4: Family = Family {
    protocol: libc::NFPROTO_IPV4 as u8,
    width: 4,
    source: 12,
    destination: 16,
    address: 7,
    sets: Sets {
        host_ports: "hostports4",
        host_ports_of_ip: "hostports4_of_ip",
        hairpin: "hairpin4",
        ingress: "ingress4",
    },
};

const IPV6: Family = Family {
    protocol: libc::NFPROTO_IPV6 as u8,
    width: 16,
    source: 8,
    destination: 24,
    address: 8,
    sets: Sets {
        host_ports: "hostports6",
        host_ports_of_ip: "hostports6_of_ip",
        hairpin: "hairpin6",
        ingress: "ingress6",
    },
};

/// The firewall of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
    /// Hears of what others do.
    watch: Socket,
}

impl Firewall {
    /// Changes nothing yet of what is there. For as long as it is open there is a second table, `inet podkeep_<number>`, for which
    /// connections go on while others flush everything, until [`table`] is put in place again.
    ///
    /// # Errors
    /// What the kernel lacks or says.
    pub fn open() -> Result<Firewall, Error> {
        let open = || {
            let (socket, watch) = (Socket::netfilter()?, Socket::netfilter()?);
            watch.ignore(&socket)?;
            watch.join(libc::NFNLGRP_NFTABLES as u32)?;
            let port = socket.port()?;
            Ok((Firewall { socket, watch }, port))
        };
        let (firewall, port) = open().map_err(Error::of_socket)?;
        // The number is nobody else's: what another podkeep of the same network has, or had a moment ago, is not in the way.
        firewall.commit(table::anchor(&format!("{TABLE}_{port}")))?;
        Ok(firewall)
    }

    /// Has all of it done, or nothing: one transaction. Connections go on meanwhile.
    ///
    /// [`table`], followed by [`add`] of every Pod, puts everything in place, whatever was there before.
    ///
    /// # Errors
    /// [`Error::Changed`] if what `messages` build upon is not there: then everything is to be put in place. Else what the kernel lacks
    /// or says.
    pub fn commit(&self, messages: Vec<Message>) -> Result<(), Error> {
        let batch = |kind: libc::c_int| {
            let mut header = header(0);
            header[2..].copy_from_slice(&(libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes());
            Message::new(kind as u16, &header).unanswered()
        };
        let mut whole = Vec::with_capacity(messages.len() + 2);
        whole.push(batch(libc::NFNL_MSG_BATCH_BEGIN));
        whole.extend(messages);
        whole.push(batch(NFNL_MSG_BATCH_END));
        self.socket.tell(&whole).map_err(|refusal| {
            let refused = whole.get(refusal.index);
            Error::of_message(refused, refusal)
        })
    }

    /// Whether somebody else has changed or removed our table since the last question: it is to be put in place again. What this
    /// firewall does itself does not count, and does not wake who waits for [`AsFd::as_fd`] to become readable.
    pub fn is_disturbed(&self) -> bool {
        let mut is_ours = false;
        let lost = self.watch.take_news(&mut |kind, payload| {
            let is_generation = kind == subsystem(libc::NFT_MSG_NEWGEN);
            // In each kind of message but that one, the first kind of attribute is the name of a table.
            is_ours |= !is_generation
                && payload.first() == Some(&(libc::NFPROTO_INET as u8))
                && payload.get(4..).and_then(|fields| find(fields, uapi::table::NAME)).map(text)
                    == Some(TABLE);
        });
        // What was lost may have been about us.
        is_ours || lost.is_err()
    }

    /// Has the kernel forget where it sends what comes to the UDP host ports of a Pod, so that the next packet looks again: to be called
    /// after [`add`], [`remove`] and what follows a disturbance. Nothing happens for a Pod without any.
    ///
    /// # Errors
    /// What the kernel lacks or says. Whoever goes on without sends to where it sent before, until it pauses for two minutes.
    pub fn forget_udp(&self, pod: &Pod<'_>) -> Result<(), Error> {
        connections::forget(&self.socket, pod).map_err(Error::of_connections)
    }

    /// What others have in place that may keep packets from Pods or from the host, whatever our own rules say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn foreign_drops(&self) -> Result<Vec<Foreign>, Error> {
        foreign::drops(&self.socket).map_err(|refusal| Error::of_message(None, refusal))
    }
}

impl AsFd for Firewall {
    /// Becomes readable when somebody has changed any table.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// The one after `NFNL_MSG_BATCH_BEGIN`; the libc crate has only that.
const NFNL_MSG_BATCH_END: libc::c_int = libc::NFNL_MSG_BATCH_BEGIN + 1;

/// `struct nfgenmsg`.
fn header(family: u8) -> [u8; 4] {
    [family, libc::NFNETLINK_V0 as u8, 0, 0]
}

/// A kind of message as netlink has it: `NFT_MSG_*`, of nftables.
fn subsystem(kind: libc::c_int) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16
}

/// Part of a transaction: the kernel answers only if it refuses.
fn change(kind: libc::c_int, flags: libc::c_int) -> Message {
    Message::new(subsystem(kind), &header(libc::NFPROTO_INET as u8)).unanswered().flags(flags)
}
