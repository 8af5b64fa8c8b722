//! What a Pod adds to the sets and maps of the table. No rule is made for it, so that a packet passes as few rules with a thousand Pods
//! as with one.

use std::net::IpAddr;

use super::rule::{Verdict, fields};
use super::table::{ONLY_HOSTPORTS, ONLY_PODS};
use super::uapi::{data, element, elements, list};
use super::{Family, IPV4, IPV6, TABLE, change};
use crate::manifest::pod::{Ingress, Protocol};
use crate::network::Addresses;
use crate::network::netlink::Message;

const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A port of the host behind which a Pod is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Only at this address of the host; at all of a family if it is the unspecified one, at all without one.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
}

/// What the table is to know of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod<'a> {
    /// None of a family that the node has no range of.
    pub addresses: Addresses,
    /// No two with the same protocol, port and address, nor such that another Pod has.
    pub ports: &'a [HostPort],
    pub ingress: Ingress,
}

/// Lets the Pod take part.
pub fn add(pod: &Pod<'_>) -> Vec<Message> {
    let add = |element: &Element| message(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, element, true);
    elements_of(pod).iter().map(add).collect()
}

/// Undoes what [`add`] has done for the very same Pod.
pub fn remove(pod: &Pod<'_>) -> Vec<Message> {
    let remove = |element: &Element| message(libc::NFT_MSG_DELSETELEM, 0, element, false);
    elements_of(pod).iter().map(remove).collect()
}

/// Of a set, or of a map: then with what stands there for the key.
struct Element {
    set: &'static str,
    key: Vec<u8>,
    data: Option<Message>,
}

fn elements_of(pod: &Pod<'_>) -> Vec<Element> {
    let mut elements = Vec::new();
    if let Some(address) = pod.addresses.v4 {
        of_family(&IPV4, &address.octets(), pod, &mut elements);
    }
    if let Some(address) = pod.addresses.v6 {
        of_family(&IPV6, &address.octets(), pod, &mut elements);
    }
    elements
}

fn of_family(family: &Family, address: &[u8], pod: &Pod<'_>, elements: &mut Vec<Element>) {
    let before = elements.len();
    elements.extend(pod.ports.iter().filter_map(|port| host_port(family, address, port)));
    if elements.len() > before {
        let key = [address, address].concat();
        elements.push(Element { set: family.sets.hairpin, key, data: None });
    }
    let verdict = match pod.ingress {
        Ingress::None => Verdict::Drop,
        Ingress::HostPort => Verdict::Goto(ONLY_HOSTPORTS),
        Ingress::Pods => Verdict::Goto(ONLY_PODS),
        Ingress::All => return,
    };
    elements.push(Element { set: family.sets.ingress, key: address.to_vec(), data: Some(verdict.data()) });
}

/// `None` if it is of the other family.
fn host_port(family: &Family, address: &[u8], port: &HostPort) -> Option<Element> {
    let host_ip = match port.host_ip {
        None => Vec::new(),
        Some(IpAddr::V4(ip)) if family.width == 4 => ip.octets().to_vec(),
        Some(IpAddr::V6(ip)) if family.width == 16 => ip.octets().to_vec(),
        Some(_) => return None,
    };
    let protocol = match port.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    let protocol_and_port = [&[protocol as u8, 0, 0, 0], &padded(port.host_port)[..]].concat();
    let is_any = host_ip.iter().all(|byte| *byte == 0);
    let (set, key) = if is_any {
        (family.sets.host_ports, protocol_and_port)
    } else {
        (family.sets.host_ports_of_ip, [host_ip, protocol_and_port].concat())
    };
    let to = [address, &padded(port.container_port)].concat();
    Some(Element { set, key, data: Some(fields().attribute(data::VALUE, &to)) })
}

/// As it stands in a register: each part of a key begins at a boundary of four bytes.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn message(kind: libc::c_int, flags: libc::c_int, element: &Element, with_data: bool) -> Message {
    let key = fields().attribute(data::VALUE, &element.key);
    let mut whole = fields().attribute(element::KEY | NESTED, key.payload());
    if let Some(data) = element.data.as_ref().filter(|_| with_data) {
        whole = whole.attribute(element::DATA | NESTED, data.payload());
    }
    let only = fields().attribute(list::ELEMENT | NESTED, whole.payload());
    change(kind, flags)
        .text(elements::TABLE, TABLE)
        .text(elements::SET, element.set)
        .attribute(elements::LIST | NESTED, only.payload())
}
