//! One server of a registry: requests, proofs of who asks, and what its answers mean.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Auth, Purpose};
use super::challenge::challenges;
use super::credentials::Credential;
use super::hosts::Host;
use super::limited::Limited;
use super::{Failure, retry};
use crate::http::{Cancel, Cause, Client, Method, Request, Response, RootsError, TlsFault, Url};

/// Bytes of an error's text that are read, and characters of it that are shown.
const MAX_ERROR: u64 = 64 << 10;
const MAX_SAID: usize = 300;

/// A server, and what was learned of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    client: Client,
    auth: Mutex<Auth>,
    limited: Limited,
    /// It was found to speak no TLS, and may do so.
    is_plain: AtomicBool,
    /// It failed, so that others are asked before it.
    pub(super) is_down: AtomicBool,
    /// It sent something else than it should have, so that it is not asked again.
    pub(super) is_liar: AtomicBool,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// `library/nginx`.
    pub(super) repository: &'a str,
    /// `manifests/1.27`.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    /// The first byte that is wanted.
    pub(super) from: u64,
    /// What it is, for errors.
    pub(super) what: &'a str,
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<SaidError>,
}

#[derive(Deserialize)]
struct SaidError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Endpoint {
    pub(super) fn new(
        host: Host,
        credentials: Vec<Credential>,
        limited: Limited,
        cancel: &Cancel,
    ) -> Result<Endpoint, RootsError> {
        Ok(Endpoint {
            client: Client::new(&host.options, cancel)?,
            host,
            limited,
            auth: Mutex::new(Auth::new(credentials)),
            is_plain: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            is_liar: AtomicBool::new(false),
        })
    }

    /// Asks, proves who asks if that is wanted, and returns the answer if it is one of success; for a range also if there is none.
    pub(super) fn ask(&self, ask: &Ask) -> Result<Response, Failure> {
        let asker = (self.host.name.clone(), self.auth().had_credentials);
        if let Some(until) = self.limited.until(&asker, Instant::now()) {
            return Err(Failure::RateLimited { host: self.host.name.clone(), until: Some(until) });
        }
        let answer = self.ask_it(ask);
        if let Err(failure @ Failure::RateLimited { until: Some(until), .. }) = &answer
            && let Some(rest) = failure.wanted_rest(Timestamp::now())
            && rest > retry::MOST_PATIENCE
        {
            self.limited.put(asker, *until, rest, Instant::now());
        }
        answer
    }

    fn ask_it(&self, ask: &Ask) -> Result<Response, Failure> {
        loop {
            let url = self.url(ask)?;
            let pass = self.auth().pass();
            let answer = match self.client.send(&self.request(ask, &url, pass.header.as_deref())) {
                Err(error) if self.falls_back(&url, &error) => continue,
                other => other.map_err(Failure::of_http)?,
            };
            if !matches!(answer.status, 401 | 403) {
                self.auth().worked(&pass);
                return self.judged(ask, answer);
            }
            let wanted: Vec<_> = answer.headers("www-authenticate").flat_map(challenges).collect();
            let scope = format!("repository:{}:pull", ask.repository);
            let purpose = Purpose { client: &self.client, server: &url, scope: &scope };
            // Held while a token is fetched: threads that were refused at the same time wait for that one.
            let has_more = self.auth().refused(&pass, &wanted, &purpose)?;
            if !has_more {
                let hint = if self.auth().had_credentials { WRONG } else { NONE };
                let host = self.host.name.clone();
                return Err(Failure::Denied { host, said: said(answer), hint });
            }
        }
    }

    fn url(&self, ask: &Ask) -> Result<Url, Failure> {
        let base = match self.is_plain.load(Ordering::Relaxed) {
            true => self.host.base.over_plain_http(),
            false => self.host.base.clone(),
        };
        let query = self.host.stands_for.as_ref().map_or(String::new(), |registry| format!("?ns={registry}"));
        let text = format!("{base}/{}/{}{query}", ask.repository, ask.path);
        text.parse().map_err(|error| self.nonsense(ask, format!("{error}")))
    }

    fn request<'a>(&self, ask: &Ask, url: &'a Url, pass: Option<&str>) -> Request<'a> {
        let mut request = Request::new(ask.method, url);
        if let Some(accept) = ask.accept {
            request = request.header("accept", accept);
        }
        if ask.from > 0 {
            request = request.header("range", format!("bytes={}-", ask.from));
        }
        for (name, value) in &self.host.headers {
            request = request.secret(name, value);
        }
        if let Some(pass) = pass {
            request = request.secret("authorization", pass);
        }
        request
    }

    /// Whether the server turned out to speak plain HTTP, and may.
    fn falls_back(&self, url: &Url, error: &crate::http::Error) -> bool {
        let no_tls = matches!(error.cause, Cause::Tls(TlsFault::NotTls) | Cause::Broken(_));
        let may_fall_back = self.host.may_be_plain && url.is_https() && no_tls;
        self.is_plain.fetch_or(may_fall_back, Ordering::Relaxed);
        may_fall_back
    }

    fn judged(&self, ask: &Ask, answer: Response) -> Result<Response, Failure> {
        let (host, what) = (self.host.name.clone(), ask.what.to_owned());
        match answer.status {
            200 | 206 => Ok(answer),
            416 if ask.from > 0 => Ok(answer),
            404 => Err(Failure::NotFound { host, what }),
            429 => Err(rate_limit(&answer)),
            status => Err(Failure::Unexpected { host, what, status, said: said_after(answer) }),
        }
    }

    pub(super) fn nonsense(&self, ask: &Ask, reason: String) -> Failure {
        Failure::Lie {
            host: self.host.name.clone(),
            what: ask.what.to_owned(),
            lie: super::failure::Lie::Nonsense(reason),
        }
    }

    fn auth(&self) -> MutexGuard<'_, Auth> {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const WRONG: &str = "check the credentials: they are not accepted, or are for other images";
const NONE: &str = "either there is no such image or it takes credentials, and none are known for it";

/// When a server that wants fewer requests will take one again.
pub(super) fn rate_limit(answer: &Response) -> Failure {
    let until = answer.header("retry-after").and_then(|text| retry::retry_after(text, Timestamp::now()));
    Failure::RateLimited { host: answer.url.host().to_owned(), until }
}

/// What a server says of its refusal, as a verb with what follows.
fn said(answer: Response) -> String {
    let status = answer.status;
    let head = if status == 401 { "wants to know who asks" } else { "refuses" };
    format!("{head}{}", said_after(answer))
}

/// The registry's own words, after a colon; nothing where it says nothing.
fn said_after(answer: Response) -> String {
    let bytes = answer.bytes(MAX_ERROR).unwrap_or_default();
    let said: Said = serde_json::from_slice(&bytes).unwrap_or_default();
    let Some(error) = said.errors.into_iter().next() else { return String::new() };
    let text = if error.message.is_empty() { error.code } else { error.message };
    // A stranger's text on a terminal: nothing that moves the cursor.
    let shown: String = text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
    format!(" ({shown})")
}
