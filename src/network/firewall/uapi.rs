//! The numbers of linux/netfilter/nf_tables.h that the libc crate does not have: kinds of attributes, mostly.

pub(super) mod table {
    pub const NAME: u16 = 1;
    pub const FLAGS: u16 = 2;
    pub const USERDATA: u16 = 6;
    /// `NFT_TABLE_F_OWNER` (kernel 5.12): nobody else changes it, and it goes when the socket does that has made it.
    pub const OWNED: u32 = 2;
}

pub(super) mod chain {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    pub const TYPE: u16 = 7;
}

pub(super) mod hook {
    pub const NUMBER: u16 = 1;
    pub const PRIORITY: u16 = 2;
}

pub(super) mod rule {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const EXPRESSIONS: u16 = 4;
}

pub(super) mod set {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LENGTH: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DATA_LENGTH: u16 = 7;
    pub const ID: u16 = 10;
    /// The type of data that are verdicts (`NFT_DATA_VERDICT`).
    pub const VERDICTS: u32 = 0xffff_ff00;
}

pub(super) mod elements {
    pub const TABLE: u16 = 1;
    pub const SET: u16 = 2;
    pub const LIST: u16 = 3;
}

pub(super) mod element {
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
}

pub(super) mod list {
    pub const ELEMENT: u16 = 1;
}

pub(super) mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
}

pub(super) mod verdict {
    pub const CODE: u16 = 1;
    pub const CHAIN: u16 = 2;
}

pub(super) mod expression {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
}

pub(super) mod immediate {
    pub const TO: u16 = 1;
    pub const DATA: u16 = 2;
}

pub(super) mod cmp {
    pub const FROM: u16 = 1;
    pub const OPERATION: u16 = 2;
    pub const DATA: u16 = 3;
}

pub(super) mod bitwise {
    pub const FROM: u16 = 1;
    pub const TO: u16 = 2;
    pub const LENGTH: u16 = 3;
    pub const MASK: u16 = 4;
    pub const XOR: u16 = 5;
}

pub(super) mod lookup {
    pub const SET: u16 = 1;
    pub const FROM: u16 = 2;
    pub const TO: u16 = 3;
}

pub(super) mod payload {
    pub const TO: u16 = 1;
    pub const HEADER: u16 = 2;
    pub const OFFSET: u16 = 3;
    pub const LENGTH: u16 = 4;
}

/// Of the expressions `meta` and `ct`.
pub(super) mod load {
    pub const TO: u16 = 1;
    pub const KEY: u16 = 2;
}

pub(super) mod fib {
    pub const TO: u16 = 1;
    pub const RESULT: u16 = 2;
    pub const FLAGS: u16 = 3;
    /// `NFT_FIB_RESULT_ADDRTYPE`: what kind of address it is (`RTN_LOCAL` and the like).
    pub const ADDRESS_TYPE: u32 = 3;
    /// `NFT_FIB_RESULT_OIF`: the index of a link, 0 if there is no route.
    pub const LINK: u32 = 1;
    /// `NFTA_FIB_F_SADDR`.
    pub const OF_SOURCE: u32 = 1;
    /// `NFTA_FIB_F_DADDR`.
    pub const OF_DESTINATION: u32 = 2;
    /// `NFTA_FIB_F_IIF`: only by the link that the packet has come by.
    pub const BY_ITS_LINK: u32 = 8;
}

pub(super) mod nat {
    pub const KIND: u16 = 1;
    pub const FAMILY: u16 = 2;
    pub const ADDRESS: u16 = 3;
    pub const PORT: u16 = 5;
}

pub(super) mod target {
    pub const NAME: u16 = 1;
}

/// Bits of `ct state`, nf_conntrack_common.h.
pub(super) const CT_ESTABLISHED: u32 = 1 << 1;
pub(super) const CT_RELATED: u32 = 1 << 2;
/// A bit of `ct status` (`IPS_DST_NAT`).
pub(super) const CT_STATUS_DNAT: u32 = 1 << 5;
/// linux/netfilter.h: what `libc` has as signed or not at all.
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
