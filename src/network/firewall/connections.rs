//! What the kernel remembers of UDP. It has no connections, but the kernel keeps what it was told of the first packet for as long as more
//! of them come: one who sends to a host port all the time, from one port, would send to a Pod that is gone, or to the host, for ever.

use std::net::IpAddr;

use rustix::io::Errno;

use super::rule::fields;
use super::{Family, HostPort, IPV4, IPV6, Pod, header};
use crate::manifest::pod::Protocol;
use crate::network::netlink::{Message, Refusal, Socket, find};

const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// linux/netfilter/nfnetlink_conntrack.h.
const IPCTNL_MSG_CT_GET: libc::c_int = 1;
const IPCTNL_MSG_CT_DELETE: libc::c_int = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Only those of this protocol, and of this port (`CTA_FILTER_F_*`, which the kernel keeps to itself; 5.8).
const BY_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;

/// Forgets what is remembered of the UDP host ports of a Pod.
pub(super) fn forget(socket: &Socket, pod: &Pod<'_>) -> Result<(), Refusal> {
    let of_udp = || pod.ports.iter().filter(|port| port.protocol == Protocol::Udp);
    if of_udp().next().is_none() {
        return Ok(());
    }
    let routes = Socket::route()?;
    let families = [(&IPV4, pod.addresses.v4.is_some()), (&IPV6, pod.addresses.v6.is_some())];
    let mut stale = Vec::new();
    for (family, _) in families.into_iter().filter(|(_, has)| *has) {
        for port in of_udp().filter(|port| family.has(port)) {
            stale.extend(socket.list(&question(family, port), |_, payload| {
                let entry = Entry::read(family, payload).filter(|entry| entry.is_at(port))?;
                is_of_host(&routes, entry.to).then(|| entry.order(family))
            })?);
        }
    }
    match socket.tell(&stale) {
        // It has ended meanwhile.
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

impl Family {
    /// Whether a host port may be at an address of this family.
    fn has(&self, port: &HostPort) -> bool {
        port.host_ip.is_none_or(|ip| ip.is_ipv4() == (self.width == 4))
    }
}

/// For all that was sent to this port in the first place, wherever.
fn question(family: &Family, port: &HostPort) -> Message {
    let protocol = fields()
        .attribute(CTA_PROTO_NUM, &[libc::IPPROTO_UDP as u8])
        .attribute(CTA_PROTO_DST_PORT, &port.host_port.to_be_bytes());
    let first = fields().attribute(CTA_TUPLE_PROTO | NESTED, protocol.payload());
    // In the byte order of this machine, unlike all the rest.
    let filter = fields().number(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT);
    Message::list(subsystem(IPCTNL_MSG_CT_GET), &header(family.protocol))
        .attribute(CTA_TUPLE_ORIG | NESTED, first.payload())
        .attribute(CTA_FILTER | NESTED, filter.payload())
}

/// What the kernel remembers of packets.
struct Entry<'a> {
    known: &'a [u8],
    /// Where the first one came from and went to, before anything was translated.
    first: &'a [u8],
    to: &'a [u8],
}

impl<'a> Entry<'a> {
    fn read(family: &Family, payload: &'a [u8]) -> Option<Entry<'a>> {
        let known = payload.get(4..)?;
        let first = find(known, CTA_TUPLE_ORIG)?;
        let kind = if family.width == 4 { CTA_IP_V4_DST } else { CTA_IP_V6_DST };
        Some(Entry { known, first, to: find(find(first, CTA_TUPLE_IP)?, kind)? })
    }

    /// Whether it went to an address at which the host port is.
    fn is_at(&self, port: &HostPort) -> bool {
        match port.host_ip {
            Some(IpAddr::V4(ip)) => ip.is_unspecified() || self.to == ip.octets(),
            Some(IpAddr::V6(ip)) => ip.is_unspecified() || self.to == ip.octets(),
            None => true,
        }
    }

    /// To forget it.
    fn order(&self, family: &Family) -> Message {
        let message = Message::new(subsystem(IPCTNL_MSG_CT_DELETE), &header(family.protocol))
            .attribute(CTA_TUPLE_ORIG | NESTED, self.first);
        [CTA_ID, CTA_ZONE].into_iter().fold(message, |message, kind| match find(self.known, kind) {
            Some(value) => message.attribute(kind, value),
            None => message,
        })
    }
}

/// Whether an address is the host's. What Pods and the host send to such a port elsewhere, as to a server for names, is left alone: its
/// answer is on its way.
fn is_of_host(routes: &Socket, address: &[u8]) -> bool {
    /// Where `rtm_type` is in `struct rtmsg`.
    const KIND: usize = 7;
    let mut header = [0; 12];
    header[0] = if address.len() == 4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    header[1] = 8 * address.len() as u8;
    let question = Message::new(libc::RTM_GETROUTE, &header).attribute(libc::RTA_DST, address);
    let found = routes.list(&question, |_, route| route.get(KIND).copied());
    found.is_ok_and(|kinds| kinds.last() == Some(&libc::RTN_LOCAL))
}

fn subsystem(kind: libc::c_int) -> u16 {
    ((libc::NFNL_SUBSYS_CTNETLINK << 8) | kind) as u16
}
