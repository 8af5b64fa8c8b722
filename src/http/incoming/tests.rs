use super::*;

/// What is read of an answer that comes in pieces of this size, and whether the connection can be used again.
fn read_in(piece: usize, answer: &[u8]) -> Result<(Head, Vec<u8>, bool), Malformed> {
    let mut incoming = Incoming::new(true);
    let mut left = answer;
    let mut feed = |incoming: &mut Incoming| {
        let room = incoming.room();
        let (piece, rest) = left.split_at(piece.min(left.len()).min(room.len()));
        room[..piece.len()].copy_from_slice(piece);
        incoming.filled(piece.len());
        left = rest;
        !piece.is_empty()
    };
    let head = loop {
        let more = feed(&mut incoming);
        match incoming.head()? {
            Some(head) => break head,
            None => assert!(more, "the head does not end"),
        }
    };
    let (mut body, mut out) = (Vec::new(), [0; 7]);
    loop {
        match incoming.body(&mut out)? {
            0 if incoming.is_over() => break,
            0 if feed(&mut incoming) => {}
            0 => {
                assert!(incoming.ends_with_connection(), "the body does not end");
                return Ok((head, body, false));
            }
            count => body.extend_from_slice(&out[..count]),
        }
    }
    while feed(&mut incoming) {}
    Ok((head, body, incoming.leaves_connection()))
}

/// The same, however it is cut into pieces.
#[track_caller]
fn read(answer: &str) -> Result<(Head, Vec<u8>, bool), Malformed> {
    let whole = read_in(answer.len(), answer.as_bytes());
    for piece in [1, 2, 3, 5, 11] {
        assert_eq!(read_in(piece, answer.as_bytes()), whole, "in pieces of {piece}");
    }
    whole
}

#[track_caller]
fn body(answer: &str) -> (String, bool) {
    let (_, body, stays) = read(answer).unwrap();
    (String::from_utf8(body).unwrap(), stays)
}

fn refusal(headers: &str) -> Malformed {
    read(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).unwrap_err()
}

fn of(text: &str, stays: bool) -> (String, bool) {
    (text.to_owned(), stays)
}

#[test]
fn a_body_ends_where_its_length_its_chunks_or_the_connection_say() {
    assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), of("hello", true));
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let rest = "5\r\nhello\r\n00B ;x=\"1\"\r\n, big\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n";
    assert_eq!(body(&format!("{chunks}{rest}")), of("hello, big\nworld", true));
    assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nhello"), of("hello", false));
    assert_eq!(body("HTTP/1.1 204 None\r\n\r\n"), of("", true));
    assert_eq!(body("HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n"), of("", true));
}

#[test]
fn a_connection_is_used_again_only_if_nothing_is_left_on_it() {
    for (answer, stays) in [
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\nevil", false),
    ] {
        assert_eq!(body(answer), of("a", stays), "{answer}");
    }
}

#[test]
fn the_answer_to_head_has_no_body() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let mut incoming = Incoming::new(false);
    incoming.room()[..answer.len()].copy_from_slice(answer);
    incoming.filled(answer.len());
    assert_eq!(incoming.head().unwrap().unwrap().field("content-length"), Some("5"));
    assert!(incoming.is_over() && incoming.leaves_connection());
}

#[test]
fn answers_before_the_answer_are_passed_over() {
    let (head, body, _) = read(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nx",
    )
    .unwrap();
    assert_eq!((head.status, head.field("link"), body.as_slice()), (201, None, b"x".as_slice()));
    assert_eq!(read("HTTP/1.1 101 Changed\r\nUpgrade: x\r\n\r\n").unwrap_err(), Malformed::OtherProtocol);
}

#[test]
fn headers_are_found_by_any_case_of_their_names_and_are_text() {
    let (head, ..) =
        read("HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nX-B: ä\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(head.fields("X-a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((head.field("x-b"), head.field("x-c")), (None, None));
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    for length in
        ["-1", "+5", "", "5 5", "0x5", "5.0", "18446744073709551616", "99999999999999999999999", "٣"]
    {
        let refused = refusal(&format!("Content-Length: {length}"));
        assert!(matches!(refused, Malformed::Length(_)), "{length:?}: {refused}");
    }
    assert!(matches!(refusal("Content-Length: 5,"), Malformed::Length(_)));
    assert_eq!(refusal("Content-Length: 5\r\nContent-Length: 6"), Malformed::TwoLengths);
    assert_eq!(refusal("Content-Length: 5, 6"), Malformed::TwoLengths);
    assert_eq!(refusal("Content-Length: 5\r\nTransfer-Encoding: chunked"), Malformed::TwoLengths);
    let same = "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\nContent-Length: 1\r\n\r\na";
    assert_eq!(body(same), of("a", true));
    let most = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    let mut incoming = Incoming::new(true);
    incoming.room()[..most.len()].copy_from_slice(most.as_bytes());
    incoming.filled(most.len());
    assert!(incoming.head().unwrap().is_some() && incoming.plain() == u64::MAX);
}

#[test]
fn codings_that_nobody_asked_for_are_refused() {
    for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;q=1"] {
        let refused = refusal(&format!("Transfer-Encoding: {coding}"));
        assert!(matches!(refused, Malformed::Coding(_)), "{coding:?}: {refused}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity";
    assert!(matches!(refusal(twice), Malformed::Coding(_)));
    let old = read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap_err();
    assert!(matches!(old, Malformed::Coding(_)));
}

#[test]
fn chunks_that_are_not_quite_as_they_should_be_are_refused() {
    for chunks in [
        "-1\r\n",
        "+1\r\na\r\n",
        "\r\n",
        " 1\r\na\r\n",
        "0x1\r\na\r\n",
        "1 1\r\na\r\n",
        "g\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "1\na\n0\n\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\n\r\n\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(read(&answer).unwrap_err(), Malformed::Chunks, "{chunks:?}");
    }
    let most = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", u64::MAX);
    let mut incoming = Incoming::new(true);
    incoming.room()[..most.len()].copy_from_slice(most.as_bytes());
    incoming.filled(most.len());
    assert!(incoming.head().unwrap().is_some());
    assert_eq!(incoming.body(&mut [0; 8]), Ok(0));
    assert_eq!(incoming.plain(), u64::MAX);
}

#[test]
fn heads_that_are_none_are_refused() {
    for head in [
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n",
        "\u{15}\u{3}\u{3}\0\u{2}\u{2}\n",
    ] {
        assert!(matches!(read(head), Err(Malformed::Head(_))), "{head:?}");
    }
    let many = "A: 1\r\n".repeat(MAX_FIELDS + 1);
    assert!(matches!(refusal(many.trim_end()), Malformed::Head(httparse::Error::TooManyHeaders)));
}

/// Feeds `more` until it is refused, and returns after how many bytes and with what.
fn endless(begin: &str, more: &str) -> (usize, Malformed) {
    let mut incoming = Incoming::new(true);
    let (mut fed, mut is_head, mut next) = (0, true, begin);
    loop {
        let room = incoming.room();
        let count = room.len().min(next.len());
        room[..count].copy_from_slice(&next.as_bytes()[..count]);
        incoming.filled(count);
        fed += count;
        next = if count < next.len() { &next[count..] } else { more };
        let outcome = match is_head {
            true => incoming.head().map(|head| is_head = head.is_none()),
            false => incoming.body(&mut [0; 64]).map(drop),
        };
        if let Err(refused) = outcome {
            assert!(incoming.bytes.len() <= MAX_HEAD + ROOM, "no more is kept than is looked at");
            return (fed, refused);
        }
        assert!(fed < 10 * MAX_HEAD, "it has no end");
    }
}

#[test]
fn what_has_no_end_is_refused() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (begin, more, refused) in [
        ("HTTP/1.1 200 OK\r\nA: ", "aaaaaaaa", Malformed::LongHead),
        ("HTTP/1.1 200 ", "aaaaaaaa", Malformed::LongHead),
        ("HTTP/1.1 100 Wait\r\n\r\n", "HTTP/1.1 100 Wait\r\n\r\n", Malformed::LongHead),
        (chunks, "00000000", Malformed::Chunks),
        (chunks, "1;extension=aaaaaaaaaaaaaaaaa\r\na\r\n", Malformed::Overhead),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X-Trailer: 1\r\n",
            Malformed::Overhead,
        ),
    ] {
        let (fed, actual) = endless(begin, more);
        assert_eq!(actual, refused, "{begin:?} {more:?} after {fed}");
    }
    let one = "1\r\na\r\n";
    let honest = format!("{chunks}{}0\r\n\r\n", one.repeat(100_000));
    assert_eq!(read_in(4096, honest.as_bytes()).unwrap().1.len(), 100_000);
}
