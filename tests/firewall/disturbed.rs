//! Somebody else changes the firewall: it is heard of, and our table put in place again.

use std::time::Duration;

use podkeep::network::firewall::{Error, Firewall, Ingress, add, remove, table};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::site::{Site, ranges};
use crate::namespace::Namespace;
use crate::talk::{dial, serve_tcp};

/// Whether there is anything to hear; the kernel has said it before whoever changed something goes on.
fn is_awake(firewall: &Firewall) -> bool {
    let mut descriptors = [PollFd::new(firewall, PollFlags::IN)];
    poll(&mut descriptors, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn what_others_do_to_our_table_is_heard_and_what_we_do_is_not() {
    let site = Site::new();
    let Site { node, firewall, .. } = &site;
    let pod = site.pod(2);
    let rules = pod.rules(&[], Ingress::None);
    firewall.commit(add(&rules)).unwrap();
    firewall.commit(remove(&rules)).unwrap();
    firewall.commit(table(&ranges())).unwrap();
    assert!(!is_awake(firewall), "our own changes wake nobody");
    assert!(!firewall.is_disturbed());

    node.nft(&["-f", "-"], "add table inet theirs\nadd table ip podkeep\nadd chain inet theirs podkeep");
    node.nft(&["flush", "chain", "inet", "theirs", "podkeep"], "");
    assert!(is_awake(firewall));
    assert!(!firewall.is_disturbed(), "another table, or another family");
    assert!(!is_awake(firewall), "heard once");

    for change in [
        "flush ruleset",
        "delete table inet podkeep",
        "flush chain inet podkeep hostports",
        "add rule inet podkeep forward drop",
        "add element inet podkeep ingress4 { 10.203.0.9 : drop }",
        "add chain inet podkeep theirs",
    ] {
        node.nft(&["-f", "-"], change);
        assert!(firewall.is_disturbed(), "{change}");
        firewall.commit(table(&ranges())).unwrap();
        assert!(!firewall.is_disturbed(), "{change}");
    }
}

#[test]
fn a_flood_of_news_counts_as_a_change_of_ours() {
    let namespace = Namespace::new();
    let firewall = namespace.firewall();
    let rules: String =
        (0..4000).map(|port| format!("add rule inet theirs c tcp dport {port} drop\n")).collect();
    namespace.nft(&["-f", "-"], &format!("add table inet theirs\nadd chain inet theirs c\n{rules}"));
    assert!(firewall.is_disturbed());
    assert!(!firewall.is_disturbed());
}

#[test]
fn elements_without_a_table_are_refused_as_a_whole() {
    let site = Site::new();
    let pod = site.pod(2);
    let rules = pod.rules(&[], Ingress::None);
    // Never added, or removed by somebody else.
    assert!(matches!(site.firewall.commit(remove(&rules)), Err(Error::Changed(_))));
    site.node.nft(&["flush", "ruleset"], "");
    let error = site.firewall.commit(add(&rules)).unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error}");
    assert!(
        error.to_string().starts_with("the table inet podkeep is not as podkeep has left it ("),
        "{error}"
    );
}

#[test]
fn connections_live_on_while_the_table_is_gone_and_comes_back() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    let site = Site::new();
    let pod = site.pod(2);
    let ports = [super::reach::tcp_port(None, 8080, 80)];
    let rules = pod.rules(&ports, Ingress::HostPort);
    site.firewall.commit(add(&rules)).unwrap();
    let listener = pod.namespace.inside(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let mut client = site.world.inside(|| TcpStream::connect("192.0.2.1:8080").unwrap());
    let (mut server, _) = listener.accept().unwrap();
    drop(listener);
    serve_tcp(&pod.namespace, 80);
    let pass = |word: &[u8; 4], from: &mut TcpStream, to: &mut TcpStream| {
        let mut heard = [0; 4];
        to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        from.write_all(word).unwrap();
        to.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, word);
    };
    let mut exchange = |word: &[u8; 4]| {
        pass(word, &mut client, &mut server);
        pass(word, &mut server, &mut client);
    };
    exchange(b"with");
    site.node.nft(&["flush", "ruleset"], "");
    exchange(b"none");
    assert!(site.firewall.is_disturbed());
    let whole = table(&ranges()).into_iter().chain(add(&rules)).collect();
    site.firewall.commit(whole).unwrap();
    exchange(b"back");
    dial(&site.world, crate::host::UPLINK4, 8080);
}
