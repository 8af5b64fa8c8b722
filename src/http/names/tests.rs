//! Look-ups over real sockets, at a DNS server of the test.

use std::fs;
use std::thread;

use super::*;

/// Answers questions by their name.
struct Server {
    address: SocketAddr,
}

impl Server {
    /// `reply` gives flags and the address record's data.
    fn start(reply: impl Fn(&str, u8) -> Option<([u8; 2], Vec<u8>)> + Send + 'static) -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (name, kind) = question(&buffer[..length]);
                if let Some((flags, data)) = reply(&name, kind) {
                    let answer = answer(&buffer[..length], flags, kind, &data);
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Server { address }
    }

    fn servers(&self, search: &str) -> Servers {
        let mut servers = Servers::parse(&format!("search {search}\noptions timeout:1 attempts:1"));
        servers.addresses = vec![self.address];
        servers
    }
}

fn question(message: &[u8]) -> (String, u8) {
    let mut labels = Vec::new();
    let mut at = 12;
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8(message[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), message[at + 2])
}

fn answer(question: &[u8], flags: [u8; 2], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] = 0x80 | flags[0];
    answer[3] = flags[1];
    if !data.is_empty() {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
        answer.extend(data);
    }
    answer
}

fn names() -> Names {
    Names { hosts: "/nowhere".into(), resolv_conf: "/nowhere".into(), cancel: Cancel::default() }
}

#[test]
fn a_server_is_asked_for_both_kinds_and_ipv4_comes_first() {
    let server = Server::start(|_, kind| {
        Some(([0, 0], if kind == 1 { vec![10, 0, 0, 1] } else { [&[0xfd; 1][..], &[0; 15]].concat() }))
    });
    let found = names().ask_all(&server.servers(""), "web.example").unwrap();
    assert_eq!(found, ["10.0.0.1", "fd00::"].map(|text| text.parse::<IpAddr>().unwrap()));
}

#[test]
fn one_kind_of_address_is_enough_where_the_other_is_never_answered() {
    let server = Server::start(|_, kind| (kind == 1).then(|| ([0, 0], vec![10, 0, 0, 1])));
    let found = names().ask_all(&server.servers(""), "web.example").unwrap();
    assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn what_a_server_does_not_know_is_told_from_one_that_fails() {
    let host = "web.example".to_owned();
    let outcome = |flags: [u8; 2]| {
        let server = Server::start(move |_, _| Some((flags, Vec::new())));
        names().ask_all(&server.servers(""), "web.example").unwrap_err()
    };
    assert_eq!(outcome([0, 3]), NameError::Unknown { host: host.clone() });
    assert_eq!(outcome([0, 0]), NameError::NoAddress { host });
    assert!(outcome([0, 2]).to_string().ends_with("answers with error 2"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let mut servers = Servers::parse("");
    servers.addresses = vec![address];
    let error = names().ask_all(&servers, "web.example").unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn the_hosts_file_and_localhost_need_no_server() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hosts"), "10.1.2.3 registry.site\n").unwrap();
    fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        .unwrap();
    let names = Names {
        hosts: dir.path().join("hosts"),
        resolv_conf: dir.path().join("resolv.conf"),
        cancel: Cancel::default(),
    };
    assert_eq!(names.addresses("registry.site").unwrap(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(names.addresses("localhost").unwrap()[0], "127.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(names.addresses("::1").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    assert!(matches!(names.addresses("not a name"), Err(NameError::Invalid { .. })));
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).unwrap();
        let answer = answer(&query, [0, 0], 1, &[10, 0, 0, 7]);
        stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let query = Query::new("web.example", Kind::A).unwrap();
    let found = ask_over_tcp(address, &query, Duration::from_secs(10)).unwrap();
    assert_eq!(found, Answer::Addresses(vec!["10.0.0.7".parse().unwrap()]));
}
