use super::*;

fn call(service: &str) -> (Call, Vec<u8>) {
    Call::new("127.0.0.1:50051", service, "kube-probe/1.36", Duration::from_secs(1))
}

/// What comes of an answer, given at once and byte by byte.
fn outcome_of(answer: &[u8]) -> Option<Outcome> {
    let mut out = Vec::new();
    let whole = call("").0.receive(answer, &mut out);
    let mut slow = call("").0;
    let pieces = answer.iter().find_map(|byte| slow.receive(&[*byte], &mut Vec::new()));
    assert_eq!(whole, pieces, "it must not matter how the answer is cut");
    whole
}

fn frames(parts: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, flags, stream, payload) in parts {
        frame(&mut out, *kind, *flags, *stream, payload);
    }
    out
}

const HEAD: (u8, u8, u32, &[u8]) = (frame_type::HEADERS, flag::END_HEADERS, STREAM, &[0x88]);
const SERVING: (u8, u8, u32, &[u8]) = (frame_type::DATA, 0, STREAM, &[0, 0, 0, 0, 2, 8, 1]);
const TRAILERS: (u8, u8, u32, &[u8]) =
    (frame_type::HEADERS, flag::END_HEADERS | flag::END_STREAM, STREAM, b"\x00\x0bgrpc-status\x010");

fn failure(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Failure(message)) => message,
        other => panic!("no failure: {other:?}"),
    }
}

#[test]
fn only_serving_passes() {
    let answer = |message: &[u8]| {
        let mut data = vec![0, 0, 0, 0, message.len() as u8];
        data.extend_from_slice(message);
        outcome_of(&frames(&[HEAD, (frame_type::DATA, 0, STREAM, &data), TRAILERS]))
    };
    assert_eq!(answer(&[8, 1]), Some(Outcome::Success));
    for (message, name) in [(&[][..], "UNKNOWN"), (&[8, 2], "NOT_SERVING"), (&[8, 3], "SERVICE_UNKNOWN")] {
        assert_eq!(failure(answer(message)), format!("service unhealthy (responded with {name:?})"));
    }
    assert!(failure(answer(&[8, 9])).contains("no HealthCheckResponse"));
}

#[test]
fn what_else_comes_on_the_connection_is_answered_or_passed_over() {
    let answer = frames(&[
        (frame_type::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        (frame_type::SETTINGS, flag::ACK, 0, &[]),
        (8, 0, 0, &[0, 0, 0, 10]),
        (frame_type::PING, 0, 0, b"12345678"),
        // Padded by two, and with a priority.
        (
            frame_type::HEADERS,
            flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
            STREAM,
            &[2, 0, 0, 0, 0, 9, 0x88, 0, 0],
        ),
        (frame_type::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        SERVING,
        (frame_type::HEADERS, flag::END_STREAM, STREAM, b"\x00\x0bgrpc"),
        (frame_type::CONTINUATION, flag::END_HEADERS, STREAM, b"-status\x010"),
    ]);
    assert_eq!(outcome_of(&answer), Some(Outcome::Success));
    let mut out = Vec::new();
    assert_eq!(call("").0.receive(&answer, &mut out), Some(Outcome::Success));
    let expected =
        frames(&[(frame_type::SETTINGS, flag::ACK, 0, &[]), (frame_type::PING, flag::ACK, 0, b"12345678")]);
    assert_eq!(out, expected);
}

#[test]
fn a_refusal_says_why() {
    let refused = |fields: &[u8]| {
        let flags = flag::END_HEADERS | flag::END_STREAM;
        failure(outcome_of(&frames(&[(frame_type::HEADERS, flags, STREAM, fields)])))
    };
    assert_eq!(
        refused(b"\x88\x00\x0bgrpc-status\x015\x00\x0cgrpc-message\x08no%20%61"),
        "the server does not know this service: no a"
    );
    assert!(
        refused(b"\x88\x00\x0bgrpc-status\x0212")
            .starts_with("this server does not implement the grpc health protocol")
    );
    assert!(refused(b"\x88\x00\x0bgrpc-status\x014").starts_with("timeout"));
    assert!(refused(b"\x88\x00\x0bgrpc-status\x0214").contains("grpc-status 14"));
    assert!(refused(b"\x8d").contains("HTTP status 404"));
    assert!(refused(b"\x88").contains("no grpc-status"));
}

#[test]
fn a_server_that_speaks_something_else_is_named() {
    let cases: [(Vec<u8>, &str); 8] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "HTTP/1"),
        (frames(&[(frame_type::RST_STREAM, 0, STREAM, &[0, 0, 0, 7])]), "HTTP/2 error 7"),
        (frames(&[(frame_type::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])]), "HTTP/2 error 11"),
        (frames(&[(frame_type::PUSH_PROMISE, 0, STREAM, &[])]), "push"),
        (frames(&[(frame_type::CONTINUATION, 0, STREAM, &[])]), "never began"),
        (frames(&[(frame_type::HEADERS, 0, STREAM, &[0x88]), SERVING]), "broken off"),
        (frames(&[(frame_type::HEADERS, flag::END_HEADERS, STREAM, &[0xbe])]), "cannot be read"),
        (frames(&[(frame_type::DATA, flag::PADDED, STREAM, &[9, 0])]), "padding"),
    ];
    for (answer, what) in cases {
        let message = failure(outcome_of(&answer));
        assert!(message.contains(what), "{message}");
    }
    let compressed = frames(&[HEAD, (frame_type::DATA, 0, STREAM, &[1, 0, 0, 0, 0]), TRAILERS]);
    assert!(failure(outcome_of(&compressed)).contains("compressed"));
    assert_eq!(outcome_of(&frames(&[HEAD, SERVING])), None, "the end is still to come");
}

#[test]
fn no_answer_grows_without_limit() {
    let data = vec![0; LONGEST_FRAME];
    let endless = frames(&[HEAD, (frame_type::DATA, 0, STREAM, &data), (frame_type::DATA, 0, STREAM, &data)]);
    assert!(failure(call("").0.receive(&endless, &mut Vec::new())).contains("longer than a health check"));
    let fields =
        frames(&[(frame_type::HEADERS, 0, STREAM, &data), (frame_type::CONTINUATION, 0, STREAM, &data)]);
    assert!(failure(call("").0.receive(&fields, &mut Vec::new())).contains("without end"));
}

#[test]
fn a_long_name_of_a_service_is_sent_whole() {
    let service = "s".repeat(300);
    let (_, out) = call(&service);
    let message = request_message(&service);
    assert_eq!(&message[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    assert!(out.ends_with(&message));
    let mut block = Vec::new();
    text(&mut block, &service);
    assert_eq!(&block[..3], [0x7f, 0xad, 0x01]);
}
