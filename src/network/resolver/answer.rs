//! What is answered without asking anybody: names of ours, and questions that nobody shall answer.

use super::query::Query;
use super::reply::{Reply, Section, TTL, refusal};
use super::zones::{Data, HOSTMASTER, SERVER, Zones};
use crate::dns::{INTERNET, code, kind, put_name};

/// What others' copies of a zone would do, had they any: CoreDNS' values. Seconds.
const REFRESH: u32 = 7200;
const RETRY: u32 = 1800;
const EXPIRE: u32 = 86400;

/// The answer; `None` where the question is to be passed on. `limit`: how long an answer may be, in bytes.
pub fn answer(query: &Query<'_>, zones: &Zones, limit: usize, turn: usize) -> Option<Vec<u8>> {
    if query.extension.is_some_and(|extension| extension.version != 0) {
        return Some(refusal(query, code::BAD_VERSION));
    }
    if query.class != INTERNET || [kind::AXFR, kind::IXFR].contains(&query.kind) {
        return Some(refusal(query, code::REFUSED));
    }
    let found = zones.look_up(&query.key())?;
    let apex_at = query.last_labels(found.apex_labels);
    let code = if found.exists { code::NO_ERROR } else { code::NO_SUCH_NAME };
    let mut reply = Reply::new(query, limit, code);
    reply.set_authoritative();

    // Of everything, one kind is enough (RFC 8482).
    let own = if found.is_apex { Some(kind::SOA) } else { None };
    let first = found.entries.first().map(|entry| entry.data.kind());
    let kind = if query.kind == kind::ANY { own.or(first).unwrap_or(kind::ANY) } else { query.kind };
    match kind {
        kind::SOA if found.is_apex => _ = reply.put(Section::Answer, apex_at, kind, &authority(zones)),
        kind::NS if found.is_apex => _ = reply.put(Section::Answer, apex_at, kind, &name(SERVER)),
        _ => {
            let all: Vec<_> = found.entries.iter().filter(|entry| entry.data.kind() == kind).collect();
            if all.is_empty() {
                // Without it nobody keeps that there is nothing (RFC 2308).
                reply.put(Section::Authority, apex_at, kind::SOA, &authority(zones));
            }
            // Each time another one first, for those who take the first.
            for place in 0..all.len() {
                let entry = all[(place + turn) % all.len()];
                if !entry.data.put(&mut reply, query.last_labels(usize::MAX)) {
                    break;
                }
            }
        }
    }
    Some(reply.finish())
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Data::Address(address) if address.is_ipv4() => kind::A,
            Data::Address(_) => kind::AAAA,
            Data::Name(_) => kind::PTR,
        }
    }

    fn put(&self, reply: &mut Reply<'_>, name_at: u16) -> bool {
        let mut put = |data: &[u8]| reply.put(Section::Answer, name_at, self.kind(), data);
        match self {
            Data::Address(std::net::IpAddr::V4(address)) => put(&address.octets()),
            Data::Address(std::net::IpAddr::V6(address)) => put(&address.octets()),
            Data::Name(name) => put(name),
        }
    }
}

/// The data of the record that stands for a whole zone (`SOA`).
fn authority(zones: &Zones) -> Vec<u8> {
    let mut data = [name(SERVER), name(HOSTMASTER)].concat();
    for number in [zones.serial, REFRESH, RETRY, EXPIRE, TTL] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Ours are names.
    let _ = put_name(&mut bytes, text);
    bytes
}

#[cfg(test)]
mod tests;
