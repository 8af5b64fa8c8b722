//! One manifest behind a URL: when to ask for it, what to ask, and what to tell of the answers.
//!
//! [`UrlSource`] decides and does no I/O; [`Question::ask`] is the request itself, for a thread beside the loop. There is one
//! request at a time. What a server says only ever replaces what it said before when it is a whole answer with
//! content: an error, a timeout and an empty body leave everything as it is.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Change, MAX_FILE_BYTES};
use crate::http::{self, Cancel, Cause, Client, Headers, Method, Options, Request, TlsFault, Url};

/// How long a whole answer may take, redirects and body included, as with the kubelet.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Shorter than the whole: that nobody is there is said as such, and not one time so and the other time so.
const CONNECTED_WITHIN: Duration = Duration::from_secs(8);

/// More often than this would be an attack on the server.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// What is asked, and with which headers. They go to this server and to no other that it redirects to.
#[derive(Debug)]
pub struct Target {
    pub url: Url,
    pub headers: Headers,
}

/// A URL of manifests, and what is known of it.
#[derive(Debug)]
pub struct UrlSource {
    target: Arc<Target>,
    every: Duration,
    state: State,
    /// What was told last; none after trouble, so that the next answer is a whole one and is told.
    told: Option<Told>,
    /// The error that was told last, and still holds.
    trouble: Option<String>,
    /// Whether there was ever a good answer.
    listed: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Resting {
        until: Duration,
    },
    Asking {
        until: Duration,
    },
    /// Its answer is of no interest any more, but there is one request at a time.
    GivenUp,
}

#[derive(Debug)]
struct Told {
    hash: [u8; 32],
    validators: Validators,
}

/// By what a server knows the content that it gave (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

/// What is due.
#[derive(Debug)]
pub enum Due {
    /// To be asked, and its answer given to [`UrlSource::answered`].
    Ask(Question),
    /// The request that is under way took too long. It is to be cancelled; its answer is given to
    /// [`UrlSource::answered`] all the same.
    GiveUp(Vec<Change>),
}

/// One request.
#[derive(Debug)]
pub struct Question {
    target: Arc<Target>,
    validators: Validators,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Content {
        bytes: Vec<u8>,
        validators: Validators,
    },
    /// Still what the question's validators stand for.
    Unchanged,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(
        "{url}: its certificate comes from an authority that this machine does not know: add that authority's \
         certificate to the system's, or name a file of authorities in SSL_CERT_FILE"
    )]
    UnknownAuthority { url: String },
    #[error(transparent)]
    Roots(#[from] http::RootsError),
    #[error("{url}: the server answered {status}{}", hint(*.status))]
    Status { url: String, status: u16 },
    #[error("{url}: the answer is empty: what wants no Pods answers with an empty list, {EMPTY_LIST}")]
    Empty { url: String },
    #[error("{url}: no whole answer within {} seconds", ANSWER_WITHIN.as_secs())]
    Late { url: String },
}

/// What a server sends that wants no Pods.
pub const EMPTY_LIST: &str = r#"{"apiVersion": "v1", "kind": "List", "items": []}"#;

/// What a person can do about it.
fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            ": it wants another user and password in the URL, or another token in staticPodURLHeader"
        }
        404 | 410 => ": it has nothing at this URL",
        407 => ": the proxy of the environment wants another user and password",
        _ => "",
    }
}

impl UrlSource {
    /// The first request is due at once. `every` is `httpCheckFrequency`, at least a second: from one answer to the next
    /// question.
    pub fn new(target: Target, every: Duration, now: Duration) -> UrlSource {
        UrlSource {
            target: Arc::new(target),
            every: every.max(SHORTEST_PERIOD),
            state: State::Resting { until: now },
            told: None,
            trouble: None,
            listed: false,
        }
    }

    /// The URL as it may be shown, in the place of a file's path.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(self.target.url.to_string())
    }

    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// When [`UrlSource::step`] shall be called; `None` while nothing but an answer can come.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Resting { until } | State::Asking { until } => Some(until),
            State::GivenUp => None,
        }
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Duration) -> Option<Due> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        if let State::Asking { .. } = self.state {
            self.state = State::GivenUp;
            let url = self.target.url.to_string();
            return Some(Due::GiveUp(self.failed(UrlError::Late { url })));
        }
        self.state = State::Asking { until: now + ANSWER_WITHIN };
        let validators = self.told.as_ref().map(|told| told.validators.clone()).unwrap_or_default();
        Some(Due::Ask(Question { target: Arc::clone(&self.target), validators }))
    }

    /// Takes the answer to the last question, and tells what came of it.
    pub fn answered(&mut self, answer: Result<Answer, UrlError>, now: Duration) -> Vec<Change> {
        let before = mem::replace(&mut self.state, State::Resting { until: now + self.every });
        if let State::GivenUp = before {
            return Vec::new();
        }
        match answer {
            Ok(Answer::Content { bytes, .. }) if bytes.trim_ascii().is_empty() => {
                self.failed(UrlError::Empty { url: self.target.url.to_string() })
            }
            Ok(Answer::Content { bytes, validators }) => self.has_content(bytes, validators),
            Ok(Answer::Unchanged) => Vec::new(),
            Err(error) => self.failed(error),
        }
    }

    fn has_content(&mut self, bytes: Vec<u8>, validators: Validators) -> Vec<Change> {
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let before = self.told.replace(Told { hash, validators });
        self.trouble = None;
        let mut changes = Vec::new();
        if before.is_none_or(|before| before.hash != hash) {
            changes.push(Change::Read { file: self.file(), bytes });
        }
        if !mem::replace(&mut self.listed, true) {
            changes.push(Change::Listed { files: vec![self.file()] });
        }
        changes
    }

    /// Says what is wrong, unless it was said before.
    fn failed(&mut self, error: UrlError) -> Vec<Change> {
        self.told = None;
        let trouble = error.without_time();
        if self.trouble.replace(trouble.clone()) == Some(trouble) {
            return Vec::new();
        }
        vec![Change::Unreadable { file: self.file(), error: error.into() }]
    }
}

impl Validators {
    fn is_empty(&self) -> bool {
        *self == Validators::default()
    }
}

impl Question {
    /// Asks, which takes as long as the server likes: whoever gives up cancels it.
    ///
    /// The client is made anew: there may be other proxies and authorities now, and between two questions no list of
    /// authorities takes up memory.
    pub fn ask(&self, cancel: &Cancel) -> Result<Answer, UrlError> {
        let url = &self.target.url;
        let options = Options {
            // Said by whoever wrote http:// into the configuration; HTTPS is not redirected to it.
            plain_http: Some(url.clone()).filter(|url| !url.is_https()),
            connect_timeout: Some(CONNECTED_WITHIN),
            ..Options::default()
        };
        let response = Client::new(&options, cancel)?.send(&self.request()).map_err(UrlError::of)?;
        let header = |name| response.header(name).map(str::to_owned);
        let validators = Validators { etag: header("etag"), last_modified: header("last-modified") };
        match response.status {
            200 => Ok(Answer::Content { bytes: response.bytes(MAX_FILE_BYTES)?, validators }),
            304 if !self.validators.is_empty() => Ok(Answer::Unchanged),
            status => Err(UrlError::Status { url: response.url.to_string(), status }),
        }
    }

    fn request(&self) -> Request<'_> {
        let Target { url, headers } = &*self.target;
        let mut request = Request::new(Method::Get, url);
        let conditions =
            [("if-none-match", &self.validators.etag), ("if-modified-since", &self.validators.last_modified)];
        for (name, value) in conditions {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        for (name, value) in headers.iter() {
            request = request.secret(name, value);
        }
        match url.authorization().filter(|_| !headers.contains("authorization")) {
            Some(value) => request.secret("authorization", value),
            None => request,
        }
    }
}

impl UrlError {
    /// Client and registry share the words; what to do about an authority is not the same.
    fn of(error: http::Error) -> UrlError {
        match error.cause {
            Cause::Tls(TlsFault::UnknownAuthority) => UrlError::UnknownAuthority { url: error.url },
            _ => UrlError::Http(error),
        }
    }

    /// The same for the same fault at another time: what a certificate's error says holds the time of day.
    fn without_time(&self) -> String {
        match self {
            UrlError::Http(http::Error { url, cause: Cause::Tls(fault) }) => {
                format!("{url}: {:?}", mem::discriminant(fault))
            }
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
