//! The head of an answer: its status and headers, and what they say of the body (RFC 9112, section 6.3).

use super::framing::Framing;
use super::{MAX_FIELDS, Malformed};

/// Status and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    fields: Vec<(String, String)>,
    body: Announced,
    /// The other side does not close the connection after this answer.
    pub(super) stays_open: bool,
}

/// What the headers say of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Announced {
    Nothing,
    Length(u64),
    Chunks,
}

impl Head {
    /// The head at the beginning of `bytes` and its length; `None` if it is not whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Malformed> {
        // The parser would pass over any number of empty lines.
        if bytes.first().is_some_and(|first| *first != b'H') {
            return Err(Malformed::Head(httparse::Error::Version));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).map_err(Malformed::Head)? else {
            return Ok(None);
        };
        let is_old = response.version == Some(0);
        let says = |word| tokens(response.headers, "connection").any(|own| own.eq_ignore_ascii_case(word));
        let head = Head {
            status: response.code.unwrap_or_default(),
            body: announced(response.headers, is_old)?,
            stays_open: !says("close") && (!is_old || says("keep-alive")),
            fields: response.headers.iter().filter_map(as_text).collect(),
        };
        Ok(Some((head, length)))
    }

    /// The first header of that name; `None` also where it is not text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).next()
    }

    pub fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = move |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| value.as_str())
    }

    pub(super) fn framing(&self) -> Result<Framing, Malformed> {
        Ok(match self.body {
            _ if matches!(self.status, 204 | 304) => Framing::NONE,
            Announced::Length(length) => Framing::Length(length),
            Announced::Chunks => Framing::chunks(),
            Announced::Nothing => Framing::UntilClose,
        })
    }
}

/// Both at once, several lengths, or codings that nobody asked for: servers and what stands between would read them
/// differently, which is how one answer is passed off as two.
fn announced(headers: &[httparse::Header], is_old: bool) -> Result<Announced, Malformed> {
    let mut length = None;
    for text in tokens(headers, "content-length") {
        let invalid = || Malformed::Length(text.chars().take(40).collect());
        // A sign would be taken by `parse`.
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let own: u64 = text.parse().ok().filter(|_| is_number).ok_or_else(invalid)?;
        if length.replace(own).is_some_and(|before| before != own) {
            return Err(Malformed::TwoLengths);
        }
    }
    let mut codings = tokens(headers, "transfer-encoding");
    match (codings.next(), codings.next(), length) {
        (None, _, None) => Ok(Announced::Nothing),
        (None, _, Some(length)) => Ok(Announced::Length(length)),
        (Some(coding), None, None) if coding.eq_ignore_ascii_case("chunked") && !is_old => {
            Ok(Announced::Chunks)
        }
        (Some(_), _, Some(_)) => Err(Malformed::TwoLengths),
        (Some(coding), ..) => Err(Malformed::Coding(coding.chars().take(40).collect())),
    }
}

/// The elements of a list that may stand in several headers. What is not text is one that means nothing.
fn tokens<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.flat_map(|header| std::str::from_utf8(header.value).unwrap_or("?").split(',')).map(str::trim)
}

fn as_text(header: &httparse::Header) -> Option<(String, String)> {
    let value = std::str::from_utf8(header.value).ok()?;
    let is_text = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    is_text.then(|| (header.name.to_owned(), value.to_owned()))
}
