//! `grpc.health.v1.Health/Check`, one call on a connection of its own: bytes in, bytes out, and a verdict.
//!
//! As much of HTTP/2 (RFC 9113) and of gRPC over it as one request without compression needs. The peer is told to keep no
//! table of header fields and to push nothing, so that there is nothing to remember of it.

mod header_block;
mod huffman;

use std::time::Duration;

use header_block::Fields;

use super::Outcome;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// What a peer may send in one frame as long as it is not told otherwise (RFC 9113, 4.2).
const LONGEST_FRAME: usize = 16 << 10;
/// Bytes of an answer, and of a block of header fields: far more than a health check has.
const LONGEST_ANSWER: usize = 16 << 10;
/// The one stream of the connection.
const STREAM: u32 = 1;

mod frame_type {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// One call.
#[derive(Debug)]
pub struct Call {
    timeout: Duration,
    received: Vec<u8>,
    /// A block of header fields of which more frames must follow, and whether the stream ends with it.
    block: Option<(Vec<u8>, bool)>,
    fields: Fields,
    message: Vec<u8>,
}

/// What came of a frame.
enum Taken {
    More,
    /// The peer has said all it has to say.
    End,
    Wrong(Outcome),
}

impl Call {
    /// A call about a service (the empty name means the server as a whole), and the bytes it begins with.
    pub fn new(authority: &str, service: &str, user_agent: &str, timeout: Duration) -> (Call, Vec<u8>) {
        let call = Call {
            timeout,
            received: Vec::new(),
            block: None,
            fields: Fields::default(),
            message: Vec::new(),
        };
        let mut out = PREFACE.to_vec();
        // SETTINGS_HEADER_TABLE_SIZE and SETTINGS_ENABLE_PUSH: 0.
        frame(&mut out, frame_type::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        let fields = request_fields(authority, user_agent, timeout);
        frame(&mut out, frame_type::HEADERS, flag::END_HEADERS, STREAM, &fields);
        frame(&mut out, frame_type::DATA, flag::END_STREAM, STREAM, &request_message(service));
        (call, out)
    }

    /// Takes bytes of the peer and appends what it must be told to `out`. The verdict, once there is one.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        self.received.extend_from_slice(bytes);
        loop {
            let head = self.received.first_chunk::<FRAME_HEAD>().copied()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if self.received.starts_with(b"HTTP/1.") {
                return Some(not_grpc("it answers in HTTP/1"));
            }
            if length > LONGEST_FRAME {
                return Some(not_grpc("a frame longer than it may be"));
            }
            if self.received.len() < FRAME_HEAD + length {
                return None;
            }
            let payload = self.received[FRAME_HEAD..FRAME_HEAD + length].to_vec();
            self.received.drain(..FRAME_HEAD + length);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & !(1 << 31);
            match self.take(head[3], head[4], stream, &payload, out) {
                Taken::More => {}
                Taken::End => return Some(self.verdict()),
                Taken::Wrong(outcome) => return Some(outcome),
            }
        }
    }

    /// The peer has closed the connection before it had said all.
    pub fn closed(&self) -> Outcome {
        failed("the connection was closed before an answer")
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) -> Taken {
        if self.block.is_some() && kind != frame_type::CONTINUATION {
            return Taken::Wrong(not_grpc("header fields that are broken off"));
        }
        match (kind, stream) {
            (frame_type::SETTINGS, 0) if flags & flag::ACK == 0 => {
                frame(out, frame_type::SETTINGS, flag::ACK, 0, &[]);
                Taken::More
            }
            (frame_type::PING, 0) if flags & flag::ACK == 0 => {
                frame(out, frame_type::PING, flag::ACK, 0, payload);
                Taken::More
            }
            (frame_type::GOAWAY, 0) => self.take_goaway(payload),
            (frame_type::RST_STREAM, STREAM) => {
                Taken::Wrong(failed(&format!("the server ended it with HTTP/2 error {}", code(payload))))
            }
            (frame_type::PUSH_PROMISE, _) => Taken::Wrong(not_grpc("a push that was not asked for")),
            (frame_type::HEADERS, STREAM) => self.take_headers(flags, payload),
            (frame_type::CONTINUATION, STREAM) => self.take_continuation(flags, payload),
            (frame_type::DATA, STREAM) => self.take_data(flags, payload),
            _ => Taken::More,
        }
    }

    /// The server goes away, but for streams up to one: ours may still be answered.
    fn take_goaway(&self, payload: &[u8]) -> Taken {
        match payload.first_chunk::<4>().map(|last| u32::from_be_bytes(*last) & !(1 << 31)) {
            Some(last) if last >= STREAM => Taken::More,
            _ => Taken::Wrong(failed(&format!(
                "the server goes away with HTTP/2 error {}",
                code(payload.get(4..).unwrap_or(&[]))
            ))),
        }
    }

    fn take_headers(&mut self, flags: u8, payload: &[u8]) -> Taken {
        let Some(mut block) = without_padding(flags, payload) else {
            return Taken::Wrong(not_grpc("padding that is longer than its frame"));
        };
        if flags & flag::PRIORITY != 0 {
            block = block.get(5..).unwrap_or(&[]);
        }
        self.take_block(block.to_vec(), flags & flag::END_HEADERS != 0, flags & flag::END_STREAM != 0)
    }

    fn take_continuation(&mut self, flags: u8, payload: &[u8]) -> Taken {
        let Some((mut block, ends)) = self.block.take() else {
            return Taken::Wrong(not_grpc("the rest of header fields that never began"));
        };
        block.extend_from_slice(payload);
        self.take_block(block, flags & flag::END_HEADERS != 0, ends)
    }

    fn take_block(&mut self, block: Vec<u8>, whole: bool, ends: bool) -> Taken {
        if block.len() > LONGEST_ANSWER {
            return Taken::Wrong(not_grpc("header fields without end"));
        }
        if !whole {
            self.block = Some((block, ends));
            return Taken::More;
        }
        match self.fields.read(&block) {
            None => Taken::Wrong(not_grpc("header fields that cannot be read")),
            Some(()) if ends => Taken::End,
            Some(()) => Taken::More,
        }
    }

    fn take_data(&mut self, flags: u8, payload: &[u8]) -> Taken {
        let Some(data) = without_padding(flags, payload) else {
            return Taken::Wrong(not_grpc("padding that is longer than its frame"));
        };
        self.message.extend_from_slice(data);
        if self.message.len() > LONGEST_ANSWER {
            return Taken::Wrong(failed("the answer is longer than a health check's can be"));
        }
        if flags & flag::END_STREAM != 0 { Taken::End } else { Taken::More }
    }

    /// What the whole answer comes to: only SERVING passes (reference §4).
    fn verdict(&self) -> Outcome {
        match (self.fields.http_status.as_deref(), self.fields.grpc_status.as_deref()) {
            (_, Some("0")) => serving_status(&self.message),
            (_, Some(status)) => self.refusal(status),
            (Some("200"), None) => failed("the answer has no grpc-status"),
            (status, None) => failed(&format!("HTTP status {}", status.unwrap_or("missing"))),
        }
    }

    fn refusal(&self, status: &str) -> Outcome {
        /// Of gRPC's status codes.
        const DEADLINE_EXCEEDED: &str = "4";
        const NOT_FOUND: &str = "5";
        const UNIMPLEMENTED: &str = "12";
        let message = self.fields.grpc_message.as_deref().unwrap_or_default();
        let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
        Outcome::Failure(match status {
            DEADLINE_EXCEEDED => {
                format!("timeout: health rpc did not complete within {} s", self.timeout.as_secs())
            }
            NOT_FOUND => format!("the server does not know this service: {message}"),
            UNIMPLEMENTED => {
                format!(
                    "this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
                )
            }
            _ => format!("health rpc probe failed: grpc-status {status}: {message}"),
        })
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Failure(format!("health rpc probe failed: {why}"))
}

fn not_grpc(what: &str) -> Outcome {
    failed(&format!("the port does not speak gRPC: {what}"))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Never indexed and without Huffman's code; names from the static table where it has them.
fn request_fields(authority: &str, user_agent: &str, timeout: Duration) -> Vec<u8> {
    // `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    let mut named = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        text(&mut block, value);
    };
    named(&[0x04], "/grpc.health.v1.Health/Check");
    named(&[0x01], authority);
    named(&[0x0f, 0x10], "application/grpc");
    named(&[0x0f, 0x2b], user_agent);
    named(b"\x00\x02te", "trailers");
    named(b"\x00\x0cgrpc-timeout", &format!("{}m", timeout.as_millis()));
    block
}

/// A string's length, which may take more than seven bits, and its bytes.
fn text(block: &mut Vec<u8>, value: &str) {
    let mut length = value.len();
    if length < 127 {
        block.push(length as u8);
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(value.as_bytes());
}

/// `HealthCheckRequest { string service = 1; }` behind gRPC's prefix: not compressed, and how long it is.
fn request_message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 128 {
            message.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend(message);
    out
}

/// Reads `HealthCheckResponse { ServingStatus status = 1; }`.
fn serving_status(answer: &[u8]) -> Outcome {
    let status = match answer.split_first_chunk::<5>() {
        Some(([1, ..], _)) => return failed("the answer is compressed, which was not asked for"),
        Some(([_, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => message,
        _ => return failed("the answer is no message of gRPC"),
    };
    let name = match status {
        // The first value of an enumeration is not sent.
        [] | [0x08, 0] => "UNKNOWN",
        [0x08, 1] => return Outcome::Success,
        [0x08, 2] => "NOT_SERVING",
        [0x08, 3] => "SERVICE_UNKNOWN",
        _ => return failed("the answer is no HealthCheckResponse"),
    };
    Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
}

/// The payload of a frame that may be padded; `None` if the padding cannot be.
fn without_padding(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & flag::PADDED == 0 {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// An error code of HTTP/2.
fn code(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |code| u32::from_be_bytes(*code))
}

#[cfg(test)]
mod tests;
