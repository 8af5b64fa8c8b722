//! What the kernel refuses, in words.

use rustix::io::Errno;

use super::uapi::{chain, expression, list, rule};
use super::{NFNL_MSG_BATCH_END, subsystem};
use crate::network::netlink::{Message, Refusal, attributes, find, text};

/// Why the firewall is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Part of it is not in the kernel.
    #[error(
        "the kernel has no {what} ({errno}): load the module {module}, or use a kernel that has {option}"
    )]
    Lacking { what: &'static str, module: &'static str, option: &'static str, errno: Errno },
    /// What the transaction builds upon is not there, or something else is.
    #[error("the table inet podkeep is not as podkeep has left it ({0})")]
    Changed(Refusal),
    #[error("the kernel refuses to change its firewall: {0}")]
    Refused(Refusal),
}

/// What the kernel may have as a module or not at all: an expression of a rule, words for it, its module, its option. Those without a line
/// are in the module nf_tables itself.
const EXPRESSIONS: [(&str, &str, &str, &str); 4] = [
    ("fib", "look-up of address types for nftables", "nft_fib_inet", "CONFIG_NFT_FIB_INET"),
    ("nat", "translation of addresses for nftables", "nft_nat", "CONFIG_NFT_NAT"),
    ("masq", "masquerading for nftables", "nft_masq", "CONFIG_NFT_MASQ"),
    ("ct", "connection tracking for nftables", "nft_ct", "CONFIG_NFT_CT"),
];

impl Error {
    /// Of opening a socket, and joining a group.
    pub(super) fn of_socket(errno: Errno) -> Error {
        match errno {
            // NETLINK_NETFILTER; its groups come with the part of it that has them.
            Errno::PROTONOSUPPORT => Error::Lacking {
                what: "netlink for netfilter",
                module: "nfnetlink",
                option: "CONFIG_NETFILTER_NETLINK",
                errno,
            },
            _ => Error::Refused(errno.into()),
        }
    }

    /// Of what conntrack remembers.
    pub(super) fn of_connections(refusal: Refusal) -> Error {
        match refusal.errno {
            Errno::OPNOTSUPP => Error::Lacking {
                what: "netlink for connection tracking",
                module: "nf_conntrack_netlink",
                option: "CONFIG_NF_CT_NETLINK",
                errno: refusal.errno,
            },
            _ => Error::Refused(refusal),
        }
    }

    /// Of a message of a transaction, or of a question.
    pub(super) fn of_message(message: Option<&Message>, refusal: Refusal) -> Error {
        let lacking = |what, module, option| Error::Lacking { what, module, option, errno: refusal.errno };
        let is_unknown = matches!(refusal.errno, Errno::NOENT | Errno::OPNOTSUPP);
        let kind = message.map_or(0, Message::kind);
        let is = |other: libc::c_int| kind == subsystem(other);
        let payload = message.map(Message::payload).unwrap_or_default();
        match refusal.errno {
            Errno::OPNOTSUPP if is_batch(kind) => lacking("nftables", "nf_tables", "CONFIG_NF_TABLES"),
            Errno::AFNOSUPPORT => {
                lacking("nftables for IPv4 and IPv6 together", "nf_tables", "CONFIG_NF_TABLES_INET")
            }
            _ if is(libc::NFT_MSG_NEWSETELEM) || is(libc::NFT_MSG_DELSETELEM) => Error::Changed(refusal),
            _ if is_unknown && is(libc::NFT_MSG_NEWRULE) => match unknown_expression(payload) {
                Some((_, what, module, option)) => lacking(what, module, option),
                None => Error::Refused(refusal),
            },
            _ if is_unknown && is(libc::NFT_MSG_NEWCHAIN) && is_of_nat(payload) => {
                lacking("chains of nftables that translate addresses", "nft_chain_nat", "CONFIG_NFT_NAT")
            }
            _ => Error::Refused(refusal),
        }
    }
}

/// What begins and ends a transaction.
fn is_batch(kind: u16) -> bool {
    [libc::NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END].contains(&libc::c_int::from(kind))
}

/// The first expression of a rule that may not be known. Ours have not more than one.
fn unknown_expression(
    payload: &[u8],
) -> Option<&'static (&'static str, &'static str, &'static str, &'static str)> {
    let expressions = find(payload.get(4..)?, rule::EXPRESSIONS)?;
    let mut names = attributes(expressions)
        .filter(|(kind, _)| *kind == list::ELEMENT)
        .filter_map(|(_, whole)| find(whole, expression::NAME).map(text));
    names.find_map(|name| EXPRESSIONS.iter().find(|(known, ..)| *known == name))
}

fn is_of_nat(payload: &[u8]) -> bool {
    payload.get(4..).and_then(|fields| find(fields, chain::TYPE)).map(text) == Some("nat")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::{Ingress, Pod, add, table};
    use super::*;
    use crate::network::{Addresses, Ranges};

    fn explained(messages: &[Message], index: usize, errno: Errno) -> String {
        let refusal = Refusal { index, errno, sentence: None };
        Error::of_message(messages.get(index), refusal).to_string()
    }

    #[test]
    fn what_the_kernel_lacks_is_named_by_its_module() {
        let messages = table(&Ranges::parse("10.203.0.0/16").unwrap());
        let mut said: Vec<String> =
            (0..messages.len()).map(|index| explained(&messages, index, Errno::NOENT)).collect();
        said.sort();
        said.dedup();
        let named = [
            "module nft_chain_nat,",
            "module nft_ct,",
            "module nft_fib_inet,",
            "module nft_masq,",
            "module nft_nat,",
        ];
        for module in named {
            assert_eq!(said.iter().filter(|words| words.contains(module)).count(), 1, "{module} {said:?}");
        }
        // Beside them what is in nf_tables itself, where nothing is missing.
        assert_eq!(said.len(), named.len() + 1, "{said:?}");

        assert_eq!(
            explained(&messages, 0, Errno::AFNOSUPPORT),
            "the kernel has no nftables for IPv4 and IPv6 together (Address family not supported by protocol (os \
             error 97)): load the module nf_tables, or use a kernel that has CONFIG_NF_TABLES_INET"
        );
        let batch = [Message::new(libc::NFNL_MSG_BATCH_BEGIN as u16, &[0; 4])];
        assert!(explained(&batch, 0, Errno::OPNOTSUPP).starts_with("the kernel has no nftables ("));
    }

    #[test]
    fn an_element_that_is_refused_means_that_the_table_has_changed() {
        let addresses = Addresses { v4: Some(Ipv4Addr::LOCALHOST), v6: None };
        let pod = Pod { addresses, ports: &[], ingress: Ingress::None };
        for errno in [Errno::NOENT, Errno::EXIST, Errno::BUSY] {
            let refusal = Refusal { index: 0, errno, sentence: None };
            let error = Error::of_message(add(&pod).first(), refusal);
            assert!(matches!(error, Error::Changed(_)), "{error}");
        }
    }
}
