//! The links of a node: one end of a pair stands in a Pod, the other in the host, and the host routes between them.
//!
//! There is no bridge, which ends at 1,023 ports, and nobody asks who has an address (ARP, NDP): each end knows the other's hardware
//! address, for good. In the Pod, everything goes to the node's address; in the host, a route of one address leads to each Pod. All
//! of it is gone with the pair, and the pair with either namespace.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;

use super::netlink::{Message, Refusal, Socket, find, text};
use super::range::{Addresses, NODE, Ranges, Slot};
use super::sysctl;

/// What the Pod calls its end.
const POD_END: &str = "eth0";
/// What the names of all our links in the host begin with.
pub(super) const PREFIX: &str = "pk";
/// `rtm_protocol` of our routes, as `ip route` shows it (`proto 112`): anything but the numbers of iproute2's `rt_protos`.
const PROTOCOL: u8 = 112;

/// Bytes that wait to be read of what others do.
const WATCH_BUFFER: usize = 4 << 20;

const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// linux/ip.h: what `net.ipv4.conf.LINK` holds.
const IPV4_DEVCONF_ACCEPT_REDIRECTS: u16 = 4;
const IPV4_DEVCONF_RP_FILTER: u16 = 8;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;

/// What could not be done to a link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {cause}")]
    Refused { doing: String, cause: Refusal },
    #[error("{doing}: this kernel has no links of kind `veth`: its module is missing or may not be loaded")]
    NoVeth { doing: String },
    #[error("the link {name} with an address of `podCIDR` belongs to {owner:?}")]
    NotOurs { name: String, owner: String },
    #[error(
        "the host has a route to {to}/{length}, which lies in `podCIDR`: Pods need addresses that are nobody else's"
    )]
    Routed { to: IpAddr, length: u8 },
    #[error("set up the link {name} to the Pod: {cause}")]
    Setting { name: String, cause: sysctl::Error },
}

/// What others have done, as far as it may concern us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Links that are named as ours are, and that are down or gone.
    pub links: Vec<String>,
    /// What our routes led to that are gone, and addresses that the host has lost.
    pub addresses: Vec<IpAddr>,
    /// There was more than could be kept.
    pub is_incomplete: bool,
    /// Some link, address or route is gone, whosoever it was.
    pub is_less: bool,
}

impl News {
    /// Whether our links or routes may be concerned.
    pub fn concerns_links(&self) -> bool {
        !self.links.is_empty() || !self.addresses.is_empty() || self.is_incomplete
    }

    fn hear(&mut self, kind: u16, payload: &[u8]) {
        self.is_less |= [libc::RTM_DELLINK, libc::RTM_DELROUTE, libc::RTM_DELADDR].contains(&kind);
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                let Some(name) = payload.get(LINK_HEADER..).and_then(our_name) else { return };
                self.links.retain(|other| *other != name);
                let flags = payload.get(8..).and_then(|flags| flags.first_chunk().copied());
                let is_up = flags.is_some_and(|flags| u32::from_ne_bytes(flags) & libc::IFF_UP as u32 != 0);
                if kind == libc::RTM_DELLINK || !is_up {
                    self.links.push(name);
                }
            }
            // `struct rtmsg` and `struct ifaddrmsg`; the protocol is in the former.
            libc::RTM_DELROUTE if payload.get(5) == Some(&PROTOCOL) => {
                let to = payload.get(12..).and_then(|attributes| find(attributes, libc::RTA_DST));
                self.addresses.extend(to.and_then(ip_of));
            }
            libc::RTM_DELADDR => {
                let lost = payload.get(8..).and_then(|attributes| find(attributes, libc::IFA_ADDRESS));
                self.addresses.extend(lost.and_then(ip_of));
            }
            _ => {}
        }
    }
}

/// Hears of links, addresses and routes of the host.
#[derive(Debug)]
pub struct Watch(Socket);

impl Watch {
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Watch, Errno> {
        let socket = Socket::route()?;
        // Each Pod that comes or goes makes some ten messages, and many may do so within one turn of the loop.
        socket.enlarge(WATCH_BUFFER)?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
        ] {
            socket.join(group)?;
        }
        Ok(Watch(socket))
    }

    /// What has come since the last time. Of a link that went and came back, nothing.
    pub fn news(&self) -> News {
        let mut news = News::default();
        let heard = self.0.take_news(&mut |kind, payload| news.hear(kind, payload));
        news.is_incomplete = heard.is_err();
        news.is_less |= news.is_incomplete;
        news
    }
}

impl AsFd for Watch {
    /// Becomes readable when there are news of any link, address or route.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One of our links in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// What it was made with as its owner.
    pub owner: String,
}

/// What a link is beside its addresses.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Whose it is.
    pub owner: &'a str,
    /// Whether who asks `127.0.0.1` for a Pod's port may be led there (`route_localnet`): only where a firewall keeps the Pod from the
    /// host's loopback (CVE-2020-8558).
    pub is_reached_from_loopback: bool,
}

/// What the host calls the link to these addresses: it follows from them, so that each has one name on a host.
pub fn name(addresses: Addresses) -> String {
    format!("{PREFIX}{:08x}", low_bits(addresses))
}

/// What tells a node's addresses apart.
fn low_bits(addresses: Addresses) -> u32 {
    let low_v6 = addresses.v6.map(|v6| v6.to_bits() as u32);
    addresses.v4.map(|v4| v4.to_bits()).or(low_v6).unwrap_or(0)
}

/// Gives the host the node's own addresses, on its loopback: there it has them whatever becomes of other links, and not every small
/// kernel has a kind of link that leads nowhere (`dummy`).
///
/// # Errors
/// When the kernel refuses, a Pod of somebody else's has an address of these ranges, or the host has a route into them.
pub fn add_node(host: &Socket, ranges: &Ranges, owner: &str) -> Result<(), Error> {
    verify_owner(host, ranges, owner)?;
    verify_unrouted(host, ranges)?;
    let doing = || "give the node its addresses for Pods".to_owned();
    let loopback = index(host, "lo").map_err(|cause| refused(doing(), cause))?;
    let messages: Vec<Message> = ranges.addresses(NODE).iter().map(|ip| address(ip, loopback)).collect();
    host.tell(&messages).map_err(|cause| refused(doing(), cause))
}

/// Takes them from it again. Says whether it had any.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_node(host: &Socket, ranges: &Ranges) -> Result<bool, Error> {
    let doing = || "take the node's addresses for Pods from it".to_owned();
    let loopback = index(host, "lo").map_err(|cause| refused(doing(), cause))?;
    let mut had_any = false;
    for ip in ranges.addresses(NODE).iter() {
        match host.tell(&[no_address(ip, loopback)]) {
            Ok(()) => had_any = true,
            Err(refusal) if refusal.errno == Errno::ADDRNOTAVAIL => {}
            Err(cause) => return Err(refused(doing(), cause)),
        }
    }
    Ok(had_any)
}

/// Joins a Pod to the host. `pod` is a socket in its namespace, of which `namespace` is the descriptor.
///
/// # Errors
/// When the kernel refuses. What was made until then is gone with [`remove`].
pub fn connect(
    host: &Socket,
    pod: &Socket,
    namespace: u32,
    node: Addresses,
    addresses: Addresses,
    settings: Settings<'_>,
) -> Result<(), Error> {
    let name = name(addresses);
    // One left by a namespace that the kernel has not yet destroyed.
    remove(host, &name)?;
    make_pair(host, namespace, node, addresses)
        .map_err(|cause| refused(format!("make the link {name} to the Pod"), cause))?;
    keep_routes_from(&name, addresses)?;
    set_up_host(host, node, addresses, settings)
        .map_err(|cause| refused(format!("set up the link {name} to the Pod"), cause))?;
    set_up_pod(pod, node, addresses).map_err(|cause| refused(format!("set up {POD_END} in the Pod"), cause))
}

/// Puts right what others have done to the host's end of a Pod's link. Says whether there is one: else the Pod is to be
/// [connected](connect) once more.
///
/// # Errors
/// When the kernel refuses.
pub fn restore(
    host: &Socket,
    node: Addresses,
    addresses: Addresses,
    settings: Settings<'_>,
) -> Result<bool, Error> {
    match set_up_host(host, node, addresses, settings) {
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(false),
        other => other
            .map(|()| true)
            .map_err(|cause| refused(format!("restore the link {} to the Pod", name(addresses)), cause)),
    }
}

fn make_pair(host: &Socket, namespace: u32, node: Addresses, addresses: Addresses) -> Result<(), Refusal> {
    let make = Message::new(libc::RTM_NEWLINK, &link(0, false))
        .flags(libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .text(libc::IFLA_IFNAME, &name(addresses))
        .attribute(libc::IFLA_ADDRESS, &hardware(node))
        .nested(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth").nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |peer| {
                    peer.raw(&link(0, false))
                        .text(libc::IFLA_IFNAME, POD_END)
                        .attribute(libc::IFLA_ADDRESS, &hardware(addresses))
                        .number(libc::IFLA_NET_NS_FD, namespace)
                })
            })
        });
    host.tell(&[make])
}

fn set_up_host(
    host: &Socket,
    node: Addresses,
    addresses: Addresses,
    settings: Settings<'_>,
) -> Result<(), Refusal> {
    let index = index(host, &name(addresses))?;
    let mut messages =
        vec![host_settings(index, addresses, settings), Message::new(libc::RTM_SETLINK, &link(index, true))];
    for (ip, own) in addresses.iter().zip(node.iter()) {
        messages.push(neighbour(ip, index, &hardware(addresses)));
        messages.push(route(ip, index).attribute(libc::RTA_PREFSRC, &octets(own)));
    }
    host.tell(&messages)
}

/// The host takes no router's advertisement from a Pod (CVE-2020-13401), whatever its links begin with and whether or not a firewall stands
/// before it. Where Pods have no IPv6, the link has none.
fn keep_routes_from(name: &str, addresses: Addresses) -> Result<(), Error> {
    let (setting, value) = if addresses.v6.is_some() { ("accept_ra", "0") } else { ("disable_ipv6", "1") };
    let path = sysctl::path(&format!("ipv6/conf/{name}/{setting}"));
    // Where the kernel has no IPv6 at all, there is no such setting.
    match path.exists() {
        true => sysctl::set(&path, value).map(drop),
        false => Ok(()),
    }
    .map_err(|cause| Error::Setting { name: name.to_owned(), cause })
}

fn set_up_pod(pod: &Socket, node: Addresses, addresses: Addresses) -> Result<(), Refusal> {
    let index = index(pod, POD_END)?;
    let mut messages = Vec::new();
    if addresses.v6.is_some() {
        let quiet = Message::new(libc::RTM_SETLINK, &link(index, false));
        messages.push(quiet.nested(libc::IFLA_AF_SPEC, without_link_local));
    }
    messages.push(Message::new(libc::RTM_SETLINK, &link(index, true)));
    for (ip, gateway) in addresses.iter().zip(node.iter()) {
        messages.push(address(ip, index));
        messages.push(neighbour(gateway, index, &hardware(node)));
        messages.push(route(gateway, index));
        messages.push(default_route(gateway, index));
    }
    pod.tell(&messages)
}

/// Removes a link. None of that name is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(host: &Socket, name: &str) -> Result<(), Error> {
    let remove = Message::new(libc::RTM_DELLINK, &link(0, false)).text(libc::IFLA_IFNAME, name);
    match host.tell(&[remove]) {
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(()),
        other => other.map_err(|cause| refused(format!("remove the link {name}"), cause)),
    }
}

/// All links of the host that are named as ours are.
///
/// # Errors
/// When the kernel does not list them.
pub fn list(host: &Socket) -> Result<Vec<Found>, Error> {
    let request = Message::list(libc::RTM_GETLINK, &link(0, false));
    let found = |_, payload: &[u8]| {
        let attributes = payload.get(LINK_HEADER..)?;
        let owner = find(attributes, libc::IFLA_IFALIAS).map(text).unwrap_or_default().to_owned();
        our_name(attributes).map(|name| Found { name, owner })
    };
    host.list(&request, found).map_err(|cause| refused("list the host's links".to_owned(), cause))
}

/// Whether nobody else gives Pods addresses of these ranges.
fn verify_owner(host: &Socket, ranges: &Ranges, owner: &str) -> Result<(), Error> {
    let (first, end) = (low_bits(ranges.addresses(NODE)), low_bits(ranges.addresses(Slot(ranges.slots()))));
    for link in list(host)? {
        let is_here = u32::from_str_radix(&link.name[PREFIX.len()..], 16)
            .is_ok_and(|number| (first..end).contains(&number));
        if is_here && link.owner != owner {
            return Err(Error::NotOurs { name: link.name, owner: link.owner });
        }
    }
    Ok(())
}

/// Whether no network that the host reaches lies in the ranges: it would be cut off from that. One that they lie in themselves (10.0.0.0/8, say) is
/// no hindrance.
fn verify_unrouted(host: &Socket, ranges: &Ranges) -> Result<(), Error> {
    let node = ranges.addresses(NODE);
    let request = Message::list(libc::RTM_GETROUTE, &[0; ROUTE_HEADER]);
    let in_the_way = |_, payload: &[u8]| {
        let &[_, length, _, _, table, protocol, _, kind] = payload.first_chunk()?;
        let to = find(payload.get(ROUTE_HEADER..)?, libc::RTA_DST).and_then(ip_of)?;
        let is_real = table == libc::RT_TABLE_MAIN && kind == libc::RTN_UNICAST && protocol != PROTOCOL;
        // To the node's own address, IPv6 has one by itself.
        let is_others = is_real && node.iter().all(|own| own != to);
        (is_others && ranges.hold(to, length)).then_some((to, length))
    };
    let found = host.list(&request, in_the_way);
    let found = found.map_err(|cause| refused("list the host's routes".to_owned(), cause))?;
    found.first().map_or(Ok(()), |&(to, length)| Err(Error::Routed { to, length }))
}

fn refused(doing: String, cause: Refusal) -> Error {
    match cause.errno {
        Errno::OPNOTSUPP => Error::NoVeth { doing },
        _ => Error::Refused { doing, cause },
    }
}

fn index(socket: &Socket, name: &str) -> Result<u32, Refusal> {
    Ok(name_to_index(socket, name)?)
}

/// Locally administered, and the same wherever it stands: each pair has two ends only.
fn hardware(addresses: Addresses) -> [u8; 6] {
    let [a, b, c, d] = low_bits(addresses).to_be_bytes();
    [0x0a, 0x58, a, b, c, d]
}

/// Of the host's end: whom it belongs to; and packets come from the Pod's address alone (`rp_filter`), and say nothing of ways.
fn host_settings(index: u32, addresses: Addresses, settings: Settings<'_>) -> Message {
    let is_reached = settings.is_reached_from_loopback;
    let conf = |conf: Message| {
        conf.number(IPV4_DEVCONF_ACCEPT_REDIRECTS, 0)
            .number(IPV4_DEVCONF_RP_FILTER, 1)
            .number(IPV4_DEVCONF_ROUTE_LOCALNET, is_reached.into())
    };
    let v4 = |spec: Message| match addresses.v4 {
        Some(_) => spec.nested(libc::AF_INET as u16, |inet| inet.nested(IFLA_INET_CONF, conf)),
        None => spec,
    };
    Message::new(libc::RTM_SETLINK, &link(index, false)).text(libc::IFLA_IFALIAS, settings.owner).nested(
        libc::IFLA_AF_SPEC,
        |spec| match addresses.v6 {
            Some(_) => without_link_local(v4(spec)),
            None => v4(spec),
        },
    )
}

/// Nobody needs such an address here, and to make sure that it is the only one takes a second and some packets.
fn without_link_local(spec: Message) -> Message {
    spec.nested(libc::AF_INET6 as u16, |inet6| {
        inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
    })
}

/// Bytes of `struct ifinfomsg`, and of `struct rtmsg`.
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

/// `struct ifinfomsg`; an index of 0 is none.
fn link(index: u32, is_up: bool) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if is_up {
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        header[8..12].copy_from_slice(&up);
        header[12..16].copy_from_slice(&up);
    }
    header
}

/// One address, and nothing of its network; nobody else has it (`IFA_F_NODAD`).
fn address(ip: IpAddr, index: u32) -> Message {
    let [i, j, k, l] = index.to_ne_bytes();
    let flags = if ip.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    Message::new(libc::RTM_NEWADDR, &[family(ip), bits(ip), flags, libc::RT_SCOPE_UNIVERSE, i, j, k, l])
        .flags(libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .attribute(libc::IFA_LOCAL, &octets(ip))
        .attribute(libc::IFA_ADDRESS, &octets(ip))
}

fn no_address(ip: IpAddr, index: u32) -> Message {
    let [i, j, k, l] = index.to_ne_bytes();
    Message::new(libc::RTM_DELADDR, &[family(ip), bits(ip), 0, 0, i, j, k, l])
        .attribute(libc::IFA_LOCAL, &octets(ip))
}

/// Whose hardware address is known for good (`NUD_PERMANENT`).
fn neighbour(ip: IpAddr, index: u32, mac: &[u8; 6]) -> Message {
    let [i, j, k, l] = index.to_ne_bytes();
    let [low, high] = libc::NUD_PERMANENT.to_ne_bytes();
    Message::new(libc::RTM_NEWNEIGH, &[family(ip), 0, 0, 0, i, j, k, l, low, high, 0, 0])
        .flags(libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .attribute(libc::NDA_DST, &octets(ip))
        .attribute(libc::NDA_LLADDR, mac)
}

/// To one address, which lies at the link's other end.
fn route(to: IpAddr, index: u32) -> Message {
    routed(family(to), bits(to), libc::RT_SCOPE_LINK, index).attribute(libc::RTA_DST, &octets(to))
}

fn default_route(gateway: IpAddr, index: u32) -> Message {
    routed(family(gateway), 0, libc::RT_SCOPE_UNIVERSE, index).attribute(libc::RTA_GATEWAY, &octets(gateway))
}

/// `struct rtmsg`.
fn routed(family: u8, length: u8, scope: u8, index: u32) -> Message {
    let header = [family, length, 0, 0, libc::RT_TABLE_MAIN, PROTOCOL, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    Message::new(libc::RTM_NEWROUTE, &header)
        .flags(libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .number(libc::RTA_OIF, index)
}

fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip_of(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}

/// A link's name, if it is one that [`name`] makes.
fn our_name(attributes: &[u8]) -> Option<String> {
    let name = text(find(attributes, libc::IFLA_IFNAME)?);
    is_ours(name).then(|| name.to_owned())
}

/// Whether it is a name that [`name`] makes.
pub(super) fn is_ours(name: &str) -> bool {
    let is_number = |digits: &str| digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    name.strip_prefix(PREFIX).is_some_and(is_number)
}
