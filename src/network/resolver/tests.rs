//! Over real sockets on loopback, with clients and servers of the test. Its clock goes when the test says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use rustix::event::{PollFd, PollFlags, poll};

use super::testing::{ask, ask_extended, look};
use super::*;
use crate::dns::kind;

const SECOND: Duration = Duration::from_secs(1);
/// For what has to come; nothing is measured by it.
const LONG: Duration = Duration::from_secs(20);

struct Node {
    resolver: Resolver,
    address: SocketAddr,
    now: Duration,
}

impl Node {
    /// Listens at 127.0.0.53 and has Pods at 127.0.1.0/24, of which `web` is 127.0.1.2.
    fn new(servers: &[SocketAddr]) -> Node {
        let place = Place::open("127.0.0.53:0".parse().unwrap()).unwrap();
        let address = place.address();
        let ranges = Ranges::parse("127.0.1.0/24").unwrap();
        let mut resolver = Resolver::new(vec![place], ranges, "c.local").unwrap();
        resolver.set_servers(servers);
        let addresses = [[127, 0, 1, 2].into()];
        let names =
            Names { names: &["web"], namespace: "shop", host: None, addresses: &addresses, is_ready: true };
        resolver.set_pod(1, Some(&names));
        Node { resolver, address, now: LONG }
    }

    /// Waits until something has come, and goes on with it.
    #[track_caller]
    fn turn(&mut self) {
        assert!(self.has_news(Some(LONG)), "nothing comes");
        self.resolver.step(self.now).unwrap();
    }

    fn has_news(&self, timeout: Option<Duration>) -> bool {
        let timeout = timeout.map(|timeout| timeout.try_into().unwrap());
        let mut fds = [PollFd::new(&self.resolver, PollFlags::IN)];
        poll(&mut fds, timeout.as_ref()).unwrap() > 0
    }

    /// Nothing has come, and nobody waits for anything.
    #[track_caller]
    fn is_at_rest(&self) {
        assert!(!self.has_news(Some(Duration::ZERO)));
        assert_eq!(self.resolver.deadline(), None);
    }

    /// Until the next deadline, which is in so many seconds.
    #[track_caller]
    fn pass(&mut self, seconds: u32) {
        assert_eq!(self.resolver.deadline(), Some(self.now + SECOND * seconds));
        self.now += SECOND * seconds;
        self.resolver.step(self.now).unwrap();
    }

    fn client(&self, ip: [u8; 4]) -> Client {
        let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Client { socket }
    }

    fn stream(&self) -> TcpStream {
        let socket = socket::open(self.address, SocketType::STREAM).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 1, 3], 0))).unwrap();
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        rustix::net::connect(&socket, &self.address).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }
}

struct Client {
    socket: UdpSocket,
}

impl Client {
    fn ask(&self, question: &[u8]) {
        self.socket.send(question).unwrap();
    }

    fn hear(&self) -> Vec<u8> {
        let mut buffer = [0; 65535];
        let count = self.socket.recv(&mut buffer).unwrap();
        buffer[..count].to_vec()
    }

    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert_eq!(self.socket.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// A server of the host's, which says what the test says.
struct Server {
    socket: UdpSocket,
}

impl Server {
    fn new() -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Server { socket }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 4096];
        let (count, from) = self.socket.recv_from(&mut buffer).unwrap();
        (buffer[..count].to_vec(), from)
    }

    fn say(&self, answer: &[u8], to: SocketAddr) {
        self.socket.send_to(answer, to).unwrap();
    }
}

/// An answer with this address and code.
fn answer_to(question: &[u8], address: [u8; 4], code: u8) -> Vec<u8> {
    let end = Query::read(question).unwrap().end;
    let mut answer = question[..end].to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    answer[7] = 1;
    answer[11] = 0;
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
    answer.extend(address);
    answer
}

fn with_length(message: &[u8]) -> Vec<u8> {
    forward::with_length(message)
}

fn from_stream(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

const WEB: &str = "web.shop.pod.podkeep.internal";

#[test]
fn a_pod_is_answered_at_once_and_then_nothing_is_left_to_do() {
    let mut node = Node::new(&[]);
    node.is_at_rest();
    // As the C libraries do: both kinds at once, from one socket.
    let client = node.client([127, 0, 1, 3]);
    let questions = [ask(WEB, kind::A), ask(WEB, kind::AAAA)];
    questions.iter().for_each(|question| client.ask(question));
    node.turn();
    let answers = questions.each_ref().map(|question| look(question, &client.hear()));
    assert_eq!(answers[0].answers, ["5 A 127.0.1.2"]);
    assert_eq!((answers[1].code, answers[1].answers.len()), (0, 0));
    node.is_at_rest();
    node.resolver.set_pod(1, None);
    client.ask(&questions[0]);
    node.turn();
    assert_eq!(look(&questions[0], &client.hear()).code, 3);
}

#[test]
fn only_pods_and_the_machine_are_answered() {
    let mut node = Node::new(&[]);
    let (stranger, machine) = (node.client([127, 0, 2, 3]), node.client([127, 0, 0, 53]));
    let question = ask(WEB, kind::A);
    stranger.ask(&question);
    machine.ask(&question);
    node.turn();
    assert_eq!(look(&question, &machine.hear()).answers.len(), 1);
    stranger.hears_nothing();
    // Over TCP it is hung up on.
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    node.turn();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    node.is_at_rest();
}

#[test]
fn names_that_are_not_ours_come_from_the_host_s_servers() {
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    let question = ask("wWw.ExAmple.com", kind::A);
    let mut ports = Vec::new();
    for _ in 0..2 {
        client.ask(&question);
        node.turn();
        let (asked, from) = server.hear();
        assert_eq!(asked[2..], question[2..]);
        ports.push((from.port(), asked[..2].to_vec()));
        // A server that makes capitals small.
        let mut answer = answer_to(&asked, [192, 0, 2, 1], 0);
        answer[12..28].make_ascii_lowercase();
        server.say(&answer, from);
        node.turn();
        assert_eq!(look(&question, &client.hear()).answers, ["9 A 192.0.2.1"]);
        node.is_at_rest();
    }
    assert_ne!(ports[0], ports[1], "another port and another number each time");
}

#[test]
fn names_of_ours_are_never_passed_on() {
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    for name in ["x.podkeep.internal", "www.example.com.shop.svc.c.local", "9.1.0.127.in-addr.arpa"] {
        let question = ask(name, kind::A);
        client.ask(&question);
        node.turn();
        // That range's zone is 1.0.127.in-addr.arpa.
        assert_eq!(look(&question, &client.hear()).code, 3, "{name}");
        node.is_at_rest();
    }
    server.socket.set_nonblocking(true).unwrap();
    assert_eq!(server.socket.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_lie_is_not_taken_for_an_answer() {
    let (server, liar) = (Server::new(), Server::new());
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    let question = ask("bank.example", kind::A);
    client.ask(&question);
    node.turn();
    let (asked, from) = server.hear();
    let truth = answer_to(&asked, [192, 0, 2, 1], 0);
    let lie = answer_to(&asked, [192, 0, 2, 66], 0);
    liar.say(&lie, from);
    let other_number = [&[lie[0] ^ 1], &lie[1..]].concat();
    let other_name = [&lie[..13], b"x", &lie[14..]].concat();
    let no_answer = [&lie[..2], &[1], &lie[3..]].concat();
    for lie in [&other_number, &other_name, &no_answer, &lie[..20], b"", &truth] {
        server.say(lie, from);
    }
    node.turn();
    assert_eq!(look(&question, &client.hear()).answers, ["9 A 192.0.2.1"]);
    node.is_at_rest();
}

#[test]
fn a_server_that_is_silent_is_not_waited_for_and_not_asked_first_again() {
    let (silent, second) = (Server::new(), Server::new());
    let mut node = Node::new(&[silent.address(), second.address()]);
    let client = node.client([127, 0, 1, 3]);
    let question = ask("example.com", kind::A);
    client.ask(&question);
    node.turn();
    silent.hear();
    node.pass(2);
    let (asked, from) = second.hear();
    second.say(&answer_to(&asked, [192, 0, 2, 2], 0), from);
    node.turn();
    assert_eq!(look(&question, &client.hear()).answers, ["9 A 192.0.2.2"]);
    node.is_at_rest();
    client.ask(&question);
    node.turn();
    let (asked, from) = second.hear();
    second.say(&answer_to(&asked, [192, 0, 2, 2], 0), from);
    node.turn();
    client.hear();
    node.is_at_rest();
}

#[test]
fn an_answer_that_comes_late_counts_and_without_any_there_is_an_error_in_the_end() {
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    let question = ask("example.com", kind::A);
    client.ask(&question);
    node.turn();
    let (asked, from) = server.hear();
    node.pass(2);
    server.hear();
    server.say(&answer_to(&asked, [192, 0, 2, 1], 0), from);
    node.turn();
    assert_eq!(look(&question, &client.hear()).answers, ["9 A 192.0.2.1"], "of the first try");
    client.ask(&question);
    node.turn();
    for seconds in [2, 2, 1] {
        client.hears_nothing();
        node.pass(seconds);
    }
    assert_eq!(look(&question, &client.hear()).code, 2);
    node.is_at_rest();
}

#[test]
fn a_server_that_is_not_there_or_cannot_is_passed_over_at_once() {
    let gone = Server::new().address();
    let (unable, good) = (Server::new(), Server::new());
    let mut node = Node::new(&[gone, unable.address(), good.address()]);
    let client = node.client([127, 0, 1, 3]);
    let question = ask("example.com", kind::A);
    client.ask(&question);
    node.turn();
    // The kernel says that nobody listens.
    node.turn();
    let (asked, from) = unable.hear();
    unable.say(&answer_to(&asked, [0; 4], 2), from);
    node.turn();
    let (asked, from) = good.hear();
    good.say(&answer_to(&asked, [192, 0, 2, 3], 0), from);
    node.turn();
    assert_eq!(look(&question, &client.hear()).answers, ["9 A 192.0.2.3"]);
    // Of those who cannot, the last one's words are passed on; without any there is an error.
    node.resolver.set_servers(&[unable.address(), gone]);
    client.ask(&question);
    node.turn();
    let (asked, from) = unable.hear();
    unable.say(&answer_to(&asked, [0; 4], 5), from);
    node.turn();
    node.turn();
    assert_eq!(look(&question, &client.hear()).code, 5);
    node.resolver.set_servers(&[]);
    client.ask(&question);
    node.turn();
    assert_eq!(look(&question, &client.hear()).code, 2);
    node.is_at_rest();
}

#[test]
fn an_answer_without_the_question_counts_only_as_an_error() {
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    client.ask(&ask_extended("example.com", kind::A, 1232, 0));
    node.turn();
    let (asked, from) = server.hear();
    for code in [0, 3, 1] {
        server.say(&[asked[0], asked[1], 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0], from);
    }
    node.turn();
    assert_eq!(client.hear(), [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn more_than_fits_into_a_packet_is_asked_for_over_tcp() {
    let server = Server::new();
    let listener = TcpListener::bind(server.address()).unwrap();
    let mut node = Node::new(&[server.address()]);
    let client = node.client([127, 0, 1, 3]);
    // Who takes a lot gets no more than a packet, and the server is told so.
    let question = ask_extended("example.com", kind::A, 65000, 0);
    client.ask(&question);
    node.turn();
    let (asked, from) = server.hear();
    assert_eq!(Query::read(&asked).unwrap().extension.unwrap().size, 1232);
    // It does not care.
    server.say(&[answer_to(&asked, [192, 0, 2, 1], 0), vec![0; 1300]].concat(), from);
    node.turn();
    let seen = look(&question, &client.hear());
    assert_eq!((seen.flags & 2, seen.answers.len()), (2, 0));

    let mut stream = node.stream();
    stream.write_all(&with_length(&question)).unwrap();
    node.turn();
    node.turn();
    let (mut asking, _) = listener.accept().unwrap();
    node.turn();
    let asked = from_stream(&mut asking);
    let long = [answer_to(&asked, [192, 0, 2, 1], 0), vec![0; 20000]].concat();
    asking.write_all(&with_length(&long)).unwrap();
    let heard = std::thread::scope(|scope| {
        let heard = scope.spawn(|| from_stream(&mut stream));
        while !heard.is_finished() && node.has_news(Some(SECOND)) {
            node.resolver.step(node.now).unwrap();
        }
        heard.join().unwrap()
    });
    assert_eq!((heard.len(), &heard[2..]), (long.len(), &long[2..]));
    drop(stream);
    node.turn();
    node.is_at_rest();
}

#[test]
fn several_questions_in_one_connection_are_answered_as_the_answers_come() {
    let server = Server::new();
    let listener = TcpListener::bind(server.address()).unwrap();
    let mut node = Node::new(&[server.address()]);
    let mut stream = node.stream();
    let (far, near) = (ask("example.com", kind::A), ask(WEB, kind::A));
    let both = [with_length(&far), with_length(&near)].concat();
    stream.write_all(&both[..both.len() - 1]).unwrap();
    node.turn();
    node.turn();
    stream.write_all(&both[both.len() - 1..]).unwrap();
    let (mut asking, _) = listener.accept().unwrap();
    while node.has_news(Some(Duration::ZERO)) {
        node.resolver.step(node.now).unwrap();
    }
    assert_eq!(look(&near, &from_stream(&mut stream)).answers, ["5 A 127.0.1.2"]);
    let asked = from_stream(&mut asking);
    // Who has said all that it wants to say still hears.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    node.turn();
    assert!(!node.has_news(Some(Duration::ZERO)), "its end is told of once");
    asking.write_all(&with_length(&answer_to(&asked, [192, 0, 2, 9], 0))).unwrap();
    node.turn();
    assert_eq!(look(&far, &from_stream(&mut stream)).answers, ["9 A 192.0.2.9"]);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    node.is_at_rest();
}

#[test]
fn a_connection_that_says_nothing_is_ended_and_one_asker_has_only_so_many() {
    let mut node = Node::new(&[]);
    let mut streams: Vec<_> = (0..17).map(|_| node.stream()).collect();
    while node.has_news(Some(Duration::ZERO)) {
        node.resolver.step(node.now).unwrap();
    }
    assert_eq!(streams[16].read(&mut [0; 1]).unwrap(), 0);
    node.pass(10);
    assert_eq!(streams[0].read(&mut [0; 1]).unwrap(), 0);
    node.is_at_rest();
    // What is longer than any question, or an answer.
    for message in [vec![0xff; 9000], with_length(&answer_to(&ask(WEB, kind::A), [0; 4], 0))] {
        let mut stream = node.stream();
        stream.write_all(&message).unwrap();
        while node.has_news(Some(Duration::ZERO)) {
            node.resolver.step(node.now).unwrap();
        }
        // Reset where something was left unread.
        let end = stream.read(&mut [0; 1]);
        assert!(matches!(&end, Ok(0)) || end.unwrap_err().kind() == ErrorKind::ConnectionReset);
        node.is_at_rest();
    }
}

#[test]
fn who_does_not_take_its_answers_is_not_read_on() {
    let mut node = Node::new(&[]);
    let mut stream = node.stream();
    stream.set_nonblocking(true).unwrap();
    let question = with_length(&ask(WEB, kind::A));
    let mut sent = 0;
    // Until neither the kernel nor the resolver takes more.
    loop {
        let is_full = match stream.write(&question[sent % question.len()..]) {
            Ok(count) => {
                sent += count;
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                true
            }
        };
        if node.has_news(Some(Duration::ZERO)) {
            node.resolver.step(node.now).unwrap();
        } else if is_full {
            break;
        }
    }
    // It goes on once there is room again.
    let mut heard = 0;
    while let Ok(count) = stream.read(&mut [0; 65536]) {
        heard += count;
    }
    assert!(heard > 0);
    node.turn();
}

#[test]
fn so_many_questions_of_one_connection_wait_and_then_the_next_are_read() {
    let server = Server::new();
    let listener = TcpListener::bind(server.address()).unwrap();
    let mut node = Node::new(&[server.address()]);
    let mut stream = node.stream();
    let question = ask("example.com", kind::A);
    stream.write_all(&with_length(&question).repeat(18)).unwrap();
    while node.has_news(Some(Duration::ZERO)) {
        node.resolver.step(node.now).unwrap();
    }
    let mut asking: Vec<_> = (0..16).map(|_| listener.accept().unwrap().0).collect();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    for _ in 0..2 {
        let mut first = asking.remove(0);
        let asked = from_stream(&mut first);
        first.write_all(&with_length(&answer_to(&asked, [192, 0, 2, 9], 0))).unwrap();
        while node.has_news(Some(Duration::ZERO)) {
            node.resolver.step(node.now).unwrap();
        }
        assert_eq!(look(&question, &from_stream(&mut stream)).answers.len(), 1);
        // Now the next one is asked.
        asking.push(listener.accept().unwrap().0);
    }
}

#[test]
fn one_asker_does_not_take_all_the_room_and_what_waits_is_bounded() {
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    let fill = |node: &mut Node, ip: [u8; 4]| {
        let client = node.client(ip);
        for number in 0..129 {
            client.ask(&ask(&format!("n{number}.example"), kind::A));
            node.turn();
        }
        // The last one is refused at once.
        assert_eq!(client.hear()[3] & 15, 2);
        client.hears_nothing();
    };
    for last in 10..14 {
        fill(&mut node, [127, 0, 1, last]);
    }
    let other = node.client([127, 0, 1, 20]);
    let question = ask("example.com", kind::A);
    other.ask(&question);
    node.turn();
    assert_eq!(look(&question, &other.hear()).code, 2);
    // Names of ours need no room.
    other.ask(&ask(WEB, kind::A));
    node.turn();
    assert_eq!(look(&ask(WEB, kind::A), &other.hear()).code, 0);
    for seconds in [2, 2, 1] {
        node.pass(seconds);
    }
    other.ask(&question);
    node.turn();
    other.hears_nothing();
}

#[test]
fn a_question_that_goes_round_in_a_circle_is_ended() {
    // A server of the machine's that asks us what we ask it.
    let server = Server::new();
    let mut node = Node::new(&[server.address()]);
    // We ourselves are no server of ours.
    let own = node.address;
    node.resolver.set_servers(&[own, server.address()]);
    let asking = node.client([127, 0, 0, 53]);
    asking.ask(&ask("example.com", kind::A));
    let mut rounds = 0;
    loop {
        node.turn();
        server.socket.set_nonblocking(true).unwrap();
        if server.socket.recv(&mut [0; 512]).is_err() {
            break;
        }
        rounds += 1;
        asking.ask(&ask("Example.com", kind::A));
    }
    assert_eq!(rounds, 8);
    assert_eq!(look(&ask("Example.com", kind::A), &asking.hear()).code, 2);
    node.resolver.set_servers(&[own]);
    let client = node.client([127, 0, 1, 3]);
    client.ask(&ask("example.com", kind::A));
    node.turn();
    assert_eq!(client.hear()[3] & 15, 2, "nobody to ask");
}
