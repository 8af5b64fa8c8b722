//! What is answered to which question, without any socket.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::query::Fault;
use super::super::reply;
use super::super::testing::{Seen, ask, ask_extended, look};
use super::super::zones::Names;
use super::*;
use crate::network::Ranges;

const DOMAIN: &str = "db.shop.svc.c.local";

fn addresses(last: u8) -> [IpAddr; 2] {
    [[10, 203, 0, last].into(), format!("fd00::{last:x}").parse().unwrap()]
}

fn ranges() -> Ranges {
    Ranges::parse("10.203.0.0/16,fd00::/64").unwrap()
}

fn names<'a>(
    names: &'a [&'a str],
    host: Option<(&'a str, &'a str)>,
    addresses: &'a [IpAddr],
    is_ready: bool,
) -> Names<'a> {
    Names { names, namespace: "shop", host, addresses, is_ready }
}

/// `web` and two Pods of one `subdomain`, of which the second is not ready.
fn zones() -> Zones {
    let mut zones = Zones::new(&[[10, 203, 0, 1].into()], &ranges(), "c.local");
    zones.set(1, Some(&names(&["web-n", "web"], None, &addresses(2), true)));
    zones.set(2, Some(&names(&["db-0"], Some(("a", DOMAIN)), &addresses(3), true)));
    zones.set(3, Some(&names(&["db-1"], Some(("b", DOMAIN)), &addresses(4), false)));
    zones.set(4, Some(&names(&["v4.only"], None, &addresses(5)[..1], true)));
    zones
}

#[track_caller]
fn said(question: &[u8]) -> Seen {
    let query = Query::read(question).unwrap();
    let answer = answer(&query, &zones(), query.udp_limit(), 0).unwrap();
    look(question, &answer)
}

#[track_caller]
fn is_not_ours(name: &str, kind: u16) -> bool {
    let question = ask(name, kind);
    answer(&Query::read(&question).unwrap(), &zones(), 512, 0).is_none()
}

#[test]
fn a_pod_has_its_names_and_its_addresses_have_one() {
    // name, type, answers
    let cases = [
        ("web.shop.pod.podkeep.internal", kind::A, "A 10.203.0.2"),
        ("WEB-n.shop.Pod.podkeep.internal", kind::AAAA, "AAAA fd00::2"),
        ("v4.only.shop.pod.podkeep.internal", kind::A, "A 10.203.0.5"),
        ("a.db.shop.svc.c.local", kind::A, "A 10.203.0.3"),
        ("b.db.shop.svc.c.local", kind::A, "A 10.203.0.4"),
        ("2.0.203.10.in-addr.arpa", kind::PTR, "PTR web-n.shop.pod.podkeep.internal"),
        ("3.0.203.10.in-addr.arpa", kind::PTR, "PTR a.db.shop.svc.c.local"),
        ("1.0.203.10.in-addr.arpa", kind::PTR, "PTR ns.podkeep.internal"),
        (
            "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.F.ip6.arpa",
            kind::PTR,
            "PTR b.db.shop.svc.c.local",
        ),
        ("ns.podkeep.internal", kind::A, "A 10.203.0.1"),
        ("podkeep.internal", kind::NS, "NS ns.podkeep.internal"),
        ("c.local", kind::SOA, "SOA ns.podkeep.internal"),
        ("203.10.in-addr.arpa", kind::SOA, "SOA ns.podkeep.internal"),
    ];
    for (name, kind, expected) in cases {
        let seen = said(&ask(name, kind));
        assert_eq!(seen.answers, [format!("5 {expected}")], "{name}");
        // It is an answer, ours, to a wish for recursion.
        assert_eq!((seen.code, seen.flags, seen.authority), (0, 0x85, None), "{name}");
    }
}

#[test]
fn a_subdomain_alone_is_all_of_its_pods_that_are_ready() {
    assert_eq!(said(&ask(DOMAIN, kind::A)).answers, ["5 A 10.203.0.3"]);
    let mut zones = zones();
    let names = Names {
        names: &["db-1"],
        namespace: "shop",
        host: Some(("b", DOMAIN)),
        addresses: &addresses(4),
        is_ready: true,
    };
    zones.set(3, Some(&names));
    let question = ask(DOMAIN, kind::A);
    let first = |turn| {
        let answer = answer(&Query::read(&question).unwrap(), &zones, 512, turn).unwrap();
        let seen = look(&question, &answer);
        assert_eq!(seen.answers.len(), 2);
        seen.answers[0].clone()
    };
    assert_ne!(first(0), first(1), "each time another one first");
    // Nobody is ready: the name is there, and leads to nothing.
    zones.set(2, None);
    zones.set(3, Some(&Names { is_ready: false, ..names }));
    let answer = answer(&Query::read(&question).unwrap(), &zones, 512, 0).unwrap();
    assert_eq!((look(&question, &answer).code, look(&question, &answer).answers.len()), (0, 0));
}

#[test]
fn a_name_that_is_not_there_is_told_from_one_without_such_a_record() {
    // name, type, code, the zone that says so
    let cases = [
        ("web.shop.pod.podkeep.internal", kind::PTR, 0, "pod.podkeep.internal"),
        ("v4.only.shop.pod.podkeep.internal", kind::AAAA, 0, "pod.podkeep.internal"),
        ("web.shop.pod.podkeep.internal", 15, 0, "pod.podkeep.internal"),
        // Names that are only above others.
        ("only.shop.pod.podkeep.internal", kind::A, 0, "pod.podkeep.internal"),
        ("shop.pod.podkeep.internal", kind::A, 0, "pod.podkeep.internal"),
        ("pod.podkeep.internal", kind::A, 0, "pod.podkeep.internal"),
        ("shop.svc.c.local", kind::A, 0, "c.local"),
        ("c.local", kind::A, 0, "c.local"),
        ("0.203.10.in-addr.arpa", kind::PTR, 0, "203.10.in-addr.arpa"),
        ("we.shop.pod.podkeep.internal", kind::A, 3, "pod.podkeep.internal"),
        ("a.web.shop.pod.podkeep.internal", kind::A, 3, "pod.podkeep.internal"),
        ("op.pod.podkeep.internal", kind::A, 3, "pod.podkeep.internal"),
        ("x.podkeep.internal", kind::A, 3, "podkeep.internal"),
        ("www.example.com.shop.svc.c.local", kind::A, 3, "c.local"),
        ("9.0.203.10.in-addr.arpa", kind::PTR, 3, "203.10.in-addr.arpa"),
        ("1.203.10.in-addr.arpa", kind::PTR, 3, "203.10.in-addr.arpa"),
    ];
    for (name, kind, code, zone) in cases {
        let seen = said(&ask(name, kind));
        assert_eq!((seen.code, seen.answers.len(), seen.flags), (code, 0, 0x85), "{name}");
        assert_eq!(seen.authority, Some((zone.to_owned(), kind::SOA)), "{name}");
    }
}

#[test]
fn what_is_not_ours_is_passed_on() {
    for name in
        [".", "internal", "example.com", "xpodkeep.internal", "local", "10.in-addr.arpa", "d.f.ip6.arpa"]
    {
        assert!(is_not_ours(name, kind::A) && is_not_ours(name, kind::ANY), "{name}");
    }
    // Without a cluster's domain the names end with `svc`.
    let zones = Zones::new(&[], &ranges(), "");
    let ours = |name| answer(&Query::read(&ask(name, kind::A)).unwrap(), &zones, 512, 0).is_some();
    assert!(ours("a.db.shop.svc") && !ours("a.db.shop.svc.c.local"));
}

#[test]
fn of_everything_one_kind_is_said() {
    let any = |name| said(&ask(name, kind::ANY));
    assert_eq!(any("web.shop.pod.podkeep.internal").answers, ["5 A 10.203.0.2"]);
    assert_eq!(any("c.local").answers, ["5 SOA ns.podkeep.internal"]);
    assert_eq!(any("2.0.203.10.in-addr.arpa").answers, ["5 PTR web-n.shop.pod.podkeep.internal"]);
    let nothing = any("shop.pod.podkeep.internal");
    assert_eq!((nothing.code, nothing.answers.len()), (0, 0));
}

#[test]
fn extensions_are_spoken_with_those_who_speak_them() {
    let name = "web.shop.pod.podkeep.internal";
    assert!(!said(&ask(name, kind::A)).has_extension);
    let seen = said(&ask_extended(name, kind::A, 4096, 0));
    assert!(seen.has_extension && seen.answers.len() == 1);
    let newer = said(&ask_extended("example.com", kind::A, 4096, 1));
    assert_eq!((newer.code, newer.answers.len(), newer.has_extension), (16, 0, true));
}

#[test]
fn what_nobody_shall_answer_is_refused() {
    let mut chaos = ask("version.bind", 16);
    let end = chaos.len();
    chaos[end - 1] = 3;
    for question in [chaos, ask("podkeep.internal", kind::AXFR), ask("example.com", kind::IXFR)] {
        let query = Query::read(&question).unwrap();
        let answer = answer(&query, &zones(), 512, 0).unwrap();
        assert_eq!((look(&question, &answer).code, answer[2] & 4), (5, 0));
    }
}

#[test]
fn an_answer_that_has_no_room_says_so_and_is_cut_between_records() {
    let mut zones = zones();
    for last in 10..200 {
        let host = format!("h{last}");
        let addresses = addresses(last);
        let names = Names {
            names: &[],
            namespace: "shop",
            host: Some((&host, DOMAIN)),
            addresses: &addresses,
            is_ready: true,
        };
        zones.set(last.into(), Some(&names));
    }
    let seen = |question: &[u8], limit| {
        let answer = answer(&Query::read(question).unwrap(), &zones, limit, 7).unwrap();
        assert!(answer.len() <= limit);
        look(question, &answer)
    };
    let plain = ask(DOMAIN, kind::A);
    let few = seen(&plain, 512);
    // 12 + 25 bytes before them; 16 each.
    assert_eq!((few.answers.len(), few.flags & 2), (29, 2));
    let extended = ask_extended(DOMAIN, kind::A, 4096, 0);
    assert_eq!(Query::read(&extended).unwrap().udp_limit(), 1232);
    assert_eq!(seen(&extended, 1232).answers.len(), 74);
    assert_eq!(Query::read(&ask_extended(DOMAIN, kind::A, 100, 0)).unwrap().udp_limit(), 512);
    let all = seen(&plain, 65535);
    assert_eq!((all.answers.len(), all.flags & 2), (191, 0));
}

#[test]
fn what_is_no_question_is_not_answered_as_one() {
    let good = ask("example.com", kind::A);
    let changed = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        Query::read(&message).map(|_| ()).unwrap_err()
    };
    let malformed = Fault::Answered(code::FORMAT_ERROR);
    assert_eq!(changed(2, 0x81), Fault::NotAnswered);
    assert_eq!(changed(2, 0x11), Fault::Answered(code::NOT_IMPLEMENTED));
    // No question, two of them, an answer, an authority, a record that is not there.
    for (at, byte) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 1), (4, 1)] {
        assert_eq!(changed(at, byte), malformed, "{at}");
    }
    // A pointer to itself, a label that is none, one that ends behind the message.
    for byte in [0xc0, 0x40, 0x3f] {
        assert_eq!(changed(12, byte), malformed, "{byte:x}");
    }
    let read = |message: &[u8]| Query::read(message).map(|_| ());
    assert_eq!(read(&good[..11]), Err(Fault::NotAnswered));
    assert_eq!(read(&[&good[..], &[0]].concat()), Err(malformed), "something behind it");
    let mut twice = ask_extended("example.com", kind::A, 4096, 0);
    let extension = twice[twice.len() - 11..].to_vec();
    twice.extend(extension);
    twice[11] = 2;
    assert_eq!(read(&twice), Err(malformed), "two extensions");
    // 255 bytes are a name, 256 none.
    let long = |last: usize| {
        let mut message = good[..12].to_vec();
        for length in [63, 63, 63, last] {
            message.push(length as u8);
            message.extend(vec![b'a'; length]);
        }
        message.extend([0, 0, 1, 0, 1]);
        read(&message)
    };
    assert_eq!((long(61), long(62)), (Ok(()), Err(malformed)));
}

/// What every message gets must be something that those who ask can read.
fn check(message: &[u8], zones: &Zones) {
    match Query::read(message) {
        Err(Fault::NotAnswered) => {}
        Err(Fault::Answered(code)) => assert_eq!(reply::refusal_of_unread(message, code).len(), 12),
        Ok(query) => {
            let limit = query.udp_limit();
            let answer = answer(&query, zones, limit, 3);
            let answer = answer.unwrap_or_else(|| reply::refusal(&query, code::SERVER_FAILURE));
            assert!(answer.len() <= limit);
            look(message, &answer);
            look(message, &reply::truncated(&query, &answer));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_lead_to_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes, &zones());
    }

    #[test]
    fn no_change_of_a_question_leads_to_a_panic(
        name in prop::sample::select(vec!["web.shop.pod.podkeep.internal", DOMAIN, "2.0.203.10.in-addr.arpa", "x.example"]),
        kind in prop::sample::select(vec![kind::A, kind::AAAA, kind::PTR, kind::SOA, kind::NS, kind::ANY]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        tail in proptest::collection::vec(any::<u8>(), 0..20),
        is_cut: bool,
    ) {
        let mut message = ask_extended(name, kind, 1400, 0);
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if is_cut {
            message.truncate(cut.index(message.len()));
            message.extend(tail);
        }
        check(&message, &zones());
    }
}
