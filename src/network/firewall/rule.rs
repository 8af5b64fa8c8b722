//! One rule, written expression by expression as the kernel carries them out: each loads something into a register, looks at what is
//! there, or says what becomes of the packet. `nft --debug=netlink` shows rules in the same way.

use super::uapi::{
    NF_ACCEPT, NF_DROP, bitwise, cmp, data, expression, fib, immediate, list, load, lookup, nat, payload,
    rule, verdict,
};
use super::{Family, IPV6, change};
use crate::network::netlink::Message;

const NESTED: u16 = libc::NLA_F_NESTED as u16;
/// The header of IPv4 or IPv6.
const NETWORK: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
/// The header of TCP, UDP or SCTP.
const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;
/// Where each of these three has the port of the destination.
const DESTINATION_PORT: u32 = 2;
/// What the verdict goes to.
const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    /// To a chain, and back at its end.
    Jump(&'static str),
    /// To a chain, and not back.
    Goto(&'static str),
}

impl Verdict {
    /// As the value of immediates and of elements.
    pub(super) fn data(self) -> Message {
        let (code, chain) = match self {
            Verdict::Accept => (NF_ACCEPT, None),
            Verdict::Drop => (NF_DROP, None),
            Verdict::Return => (libc::NFT_RETURN as u32, None),
            Verdict::Jump(chain) => (libc::NFT_JUMP as u32, Some(chain)),
            Verdict::Goto(chain) => (libc::NFT_GOTO as u32, Some(chain)),
        };
        let mut fields = fields().big_endian(verdict::CODE, code);
        if let Some(chain) = chain {
            fields = fields.text(verdict::CHAIN, chain);
        }
        self::fields().attribute(data::VERDICT | NESTED, fields.payload())
    }
}

/// Attributes that become part of a message.
pub(super) fn fields() -> Message {
    Message::new(0, &[])
}

/// A rule that is being written.
pub(super) struct Rule {
    chain: &'static str,
    expressions: Message,
}

impl Rule {
    pub(super) fn of(chain: &'static str) -> Rule {
        Rule { chain, expressions: fields() }
    }

    pub(super) fn message(&self, table: &str) -> Message {
        change(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
            .text(rule::TABLE, table)
            .text(rule::CHAIN, self.chain)
            .attribute(rule::EXPRESSIONS | NESTED, self.expressions.payload())
    }

    /// The protocol of the packet is of this family.
    pub(super) fn is(self, family: &Family) -> Rule {
        self.load("meta", libc::NFT_META_NFPROTO, 0).equal(&[family.protocol])
    }

    /// Where it comes from, into the registers from byte `at`.
    pub(super) fn source(self, family: &Family, at: u32) -> Rule {
        self.payload(NETWORK, family.source, family.width, at)
    }

    pub(super) fn destination(self, family: &Family, at: u32) -> Rule {
        self.payload(NETWORK, family.destination, family.width, at)
    }

    /// `meta l4proto . th dport`: of the protocol and the port that it goes to.
    pub(super) fn protocol_and_port(self, at: u32) -> Rule {
        self.load("meta", libc::NFT_META_L4PROTO, at).payload(TRANSPORT, DESTINATION_PORT, 2, at + 4)
    }

    /// The address at this offset lies in `range`, of `prefix` bits; or does not.
    pub(super) fn lies(self, is_in: bool, offset: u32, range: &[u8], prefix: u8) -> Rule {
        let whole = usize::from(prefix / 8);
        if prefix.is_multiple_of(8) {
            return self.payload(NETWORK, offset, whole as u32, 0).compare(is_in, &range[..whole]);
        }
        let mut mask = vec![0; range.len()];
        mask[..whole].fill(0xff);
        mask[whole] = !(0xff_u8 >> (prefix % 8));
        let first: Vec<u8> = range.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        self.payload(NETWORK, offset, range.len() as u32, 0).and(&mask).compare(is_in, &first)
    }

    /// It has (not) come in by the link of this index.
    pub(super) fn came_by_index(self, has: bool, index: u32) -> Rule {
        self.load("meta", libc::NFT_META_IIF, 0).compare(has, &index.to_ne_bytes())
    }

    /// It has come in by a link whose name begins so. What the host itself sends comes by none.
    pub(super) fn came_by_name(self, prefix: &str) -> Rule {
        self.load("meta", libc::NFT_META_IIFNAME, 0).equal(prefix.as_bytes())
    }

    /// It goes to an address of this host.
    pub(super) fn goes_to_this_host(self) -> Rule {
        let fields = fields()
            .big_endian(fib::FLAGS, fib::OF_DESTINATION)
            .big_endian(fib::RESULT, fib::ADDRESS_TYPE)
            .big_endian(fib::TO, register(0));
        self.expression("fib", &fields).equal(&u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// No route leads back to its source by the link that it has come by.
    pub(super) fn has_no_way_back(self) -> Rule {
        let fields = fields()
            .big_endian(fib::FLAGS, fib::OF_SOURCE | fib::BY_ITS_LINK)
            .big_endian(fib::RESULT, fib::LINK)
            .big_endian(fib::TO, register(0));
        self.expression("fib", &fields).equal(&0_u32.to_ne_bytes())
    }

    /// It is of ICMPv6, and of this kind.
    pub(super) fn icmpv6(self, kind: u8) -> Rule {
        let is_icmpv6 =
            self.is(&IPV6).load("meta", libc::NFT_META_L4PROTO, 0).equal(&[libc::IPPROTO_ICMPV6 as u8]);
        is_icmpv6.payload(TRANSPORT, 0, 1, 0).equal(&[kind])
    }

    /// It goes to this port, of whatever protocol.
    pub(super) fn goes_to_port(self, port: u16) -> Rule {
        self.payload(TRANSPORT, DESTINATION_PORT, 2, 0).equal(&port.to_be_bytes())
    }

    /// Its connection has one of these bits in what conntrack says of it (`NFT_CT_STATE`, `NFT_CT_STATUS`).
    pub(super) fn connection_has(self, key: libc::c_int, bits: u32) -> Rule {
        self.load("ct", key, 0).and(&bits.to_ne_bytes()).compare(false, &[0; 4])
    }

    pub(super) fn equal(self, value: &[u8]) -> Rule {
        self.compare(true, value)
    }

    /// What was loaded is in this set.
    pub(super) fn found_in(self, set: &str) -> Rule {
        self.expression("lookup", &look_up(set))
    }

    /// What was loaded is in this map; what stands there for it is in the registers now.
    pub(super) fn map(self, map: &str) -> Rule {
        self.expression("lookup", &look_up(map).big_endian(lookup::TO, register(0)))
    }

    /// What stands in this map for what was loaded, if it is there, becomes of the packet.
    pub(super) fn verdict_from(self, map: &str) -> Rule {
        self.expression("lookup", &look_up(map).big_endian(lookup::TO, VERDICT))
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Rule {
        self.immediate(VERDICT, &verdict.data())
    }

    /// Sends it to the address and the port that are in the registers.
    pub(super) fn dnat(self, family: &Family) -> Rule {
        let fields = nat(libc::NFT_NAT_DNAT, family).big_endian(nat::PORT, register(family.width));
        self.expression("nat", &fields)
    }

    /// Gives it this source.
    pub(super) fn snat(self, family: &Family, source: &[u8]) -> Rule {
        let value = fields().attribute(data::VALUE, source);
        self.immediate(register(0), &value).expression("nat", &nat(libc::NFT_NAT_SNAT, family))
    }

    /// Gives it an address of the link by which it leaves as its source.
    pub(super) fn masquerade(self) -> Rule {
        self.expression("masq", &fields())
    }

    fn payload(self, header: u32, offset: u32, length: u32, at: u32) -> Rule {
        let fields = fields()
            .big_endian(payload::TO, register(at))
            .big_endian(payload::HEADER, header)
            .big_endian(payload::OFFSET, offset)
            .big_endian(payload::LENGTH, length);
        self.expression("payload", &fields)
    }

    fn load(self, expression: &str, key: libc::c_int, at: u32) -> Rule {
        let fields = fields().big_endian(load::KEY, key as u32).big_endian(load::TO, register(at));
        self.expression(expression, &fields)
    }

    fn and(self, mask: &[u8]) -> Rule {
        let fields = fields()
            .big_endian(bitwise::FROM, register(0))
            .big_endian(bitwise::TO, register(0))
            .big_endian(bitwise::LENGTH, mask.len() as u32)
            .attribute(bitwise::MASK | NESTED, fields().attribute(data::VALUE, mask).payload())
            .attribute(
                bitwise::XOR | NESTED,
                fields().attribute(data::VALUE, &vec![0; mask.len()]).payload(),
            );
        self.expression("bitwise", &fields)
    }

    fn compare(self, is_equal: bool, value: &[u8]) -> Rule {
        let operation = if is_equal { libc::NFT_CMP_EQ } else { libc::NFT_CMP_NEQ };
        let fields = fields()
            .big_endian(cmp::FROM, register(0))
            .big_endian(cmp::OPERATION, operation as u32)
            .attribute(cmp::DATA | NESTED, fields().attribute(data::VALUE, value).payload());
        self.expression("cmp", &fields)
    }

    fn immediate(self, to: u32, value: &Message) -> Rule {
        let fields =
            fields().big_endian(immediate::TO, to).attribute(immediate::DATA | NESTED, value.payload());
        self.expression("immediate", &fields)
    }

    fn expression(mut self, name: &str, of_it: &Message) -> Rule {
        let whole =
            fields().text(expression::NAME, name).attribute(expression::DATA | NESTED, of_it.payload());
        self.expressions = self.expressions.attribute(list::ELEMENT | NESTED, whole.payload());
        self
    }
}

fn look_up(set: &str) -> Message {
    fields().text(lookup::SET, set).big_endian(lookup::FROM, register(0))
}

fn nat(kind: libc::c_int, family: &Family) -> Message {
    fields()
        .big_endian(nat::KIND, kind as u32)
        .big_endian(nat::FAMILY, u32::from(family.protocol))
        .big_endian(nat::ADDRESS, register(0))
}

/// The registers are 64 bytes, numbered in fours; the whole numbers of sixteen have names of their own, as nft writes them.
fn register(byte: u32) -> u32 {
    if byte.is_multiple_of(16) {
        libc::NFT_REG_1 as u32 + byte / 16
    } else {
        libc::NFT_REG32_00 as u32 + byte / 4
    }
}
