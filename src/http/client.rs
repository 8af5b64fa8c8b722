//! Requests and answers.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::error::Waits;
use super::names::Names;
use super::proxy::Proxies;
use super::roots::{self, Identity, RootsError};
use super::{Cancel, Cause, Error, TlsFault, Url};

/// As Docker's client and Go's standard library have it.
const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than a registry on a slow disk needs before it begins to send a layer.
const SILENCE: Duration = Duration::from_secs(60);

/// How the servers of one name are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Files of authorities (PEM) besides the system's.
    pub ca: Vec<PathBuf>,
    pub identity: Option<Identity>,
    /// No certificate is checked, and plain HTTP is spoken where a URL says so.
    pub insecure: bool,
    /// Plain HTTP is spoken where a URL says so, and not only to this machine.
    pub plain_http: bool,
    /// For a connection, its TLS included; 30 seconds where nothing is said.
    pub connect_timeout: Option<Duration>,
}

/// Keeps connections to use again; threads may share it.
#[derive(Debug)]
pub struct Client {
    direct: Agent,
    /// With a proxy for the scheme: HTTPS, plain HTTP.
    proxied: [Option<Agent>; 2],
    proxies: Proxies,
    plain_http: bool,
    has_authorities: bool,
    waits: Waits,
    cancel: Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
}

/// What is asked for, or a form that is sent.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    url: &'a Url,
    method: Method,
    headers: Vec<(&'static str, String)>,
    secrets: Vec<(String, String)>,
    form: Option<String>,
}

/// An answer's head; its body is still to come.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: Url,
    headers: HeaderMap,
    body: ureq::Body,
    waits: Waits,
    cancel: Cancel,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, url: &'a Url) -> Request<'a> {
        Request { url, method, headers: Vec::new(), secrets: Vec::new(), form: None }
    }

    /// A form to POST, as `name=value` joined by `&`, encoded. Redirects of its answer are not followed.
    pub fn post(url: &'a Url, form: String) -> Request<'a> {
        Request { form: Some(form), ..Request::new(Method::Get, url) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// A header that no other server may see, should this one redirect to it.
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Request<'a> {
        self.secrets.push((name.into(), value.into()));
        self
    }
}

impl Client {
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn new(options: &Options, cancel: &Cancel) -> Result<Client, RootsError> {
        let authorities = roots::authorities(&options.ca)?;
        let has_authorities = !authorities.is_empty();
        let identity = options.identity.as_ref().map(roots::client_certificate).transpose()?;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::<Vec<Certificate>>::new(authorities)))
            .client_cert(identity)
            .disable_verification(options.insecure)
            .build();
        let waits = Waits { connect: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT), silence: SILENCE };
        let agent = |proxy| agent(tls.clone(), waits, proxy, cancel);
        let proxies = Proxies::from_env();
        let through = |text: &Option<String>| text.as_deref().and_then(usable_proxy);
        Ok(Client {
            direct: agent(None),
            proxied: [&proxies.https, &proxies.http]
                .map(|text| through(text).map(|proxy| agent(Some(proxy)))),
            proxies,
            plain_http: options.plain_http || options.insecure,
            has_authorities: has_authorities || options.insecure,
            waits,
            cancel: cancel.clone(),
        })
    }

    /// Sends a request, follows where it is redirected to, and returns the answer's head whatever its status.
    pub fn send(&self, request: &Request) -> Result<Response, Error> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(request, &url)?;
            match redirect(request, &response) {
                None => return Ok(response),
                Some(to) => {
                    url = url.join(&to).map_err(|error| Error::new(&url, Cause::RedirectedTo(error)))?;
                }
            }
        }
        Err(Error::new(request.url, Cause::Redirects { limit: MAX_REDIRECTS }))
    }

    fn send_once(&self, request: &Request, url: &Url) -> Result<Response, Error> {
        if !url.is_https() && !self.plain_http && !url.is_loopback() {
            return Err(Error::new(url, Cause::PlainHttp));
        }
        let mut builder = ureq::http::Request::builder().uri(url.uri());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if url.is_same_origin(request.url) {
            for (name, value) in &request.secrets {
                builder = builder.header(name, value);
            }
        }
        let agent = self.agent(url).map_err(|cause| Error::new(url, cause))?;
        let malformed = |error: ureq::http::Error| Error::new(url, Cause::Malformed(error.to_string()));
        let response = match &request.form {
            Some(form) => {
                let builder =
                    builder.method("POST").header("content-type", "application/x-www-form-urlencoded");
                agent.run(builder.body(form.as_str()).map_err(malformed)?)
            }
            None => {
                let method = if request.method == Method::Head { "HEAD" } else { "GET" };
                agent.run(builder.method(method).body(()).map_err(malformed)?)
            }
        };
        let response = response.map_err(|error| Error::new(url, self.cause(Cause::of(error, self.waits))))?;
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        let (waits, cancel) = (self.waits, self.cancel.clone());
        Ok(Response { status, url: url.clone(), headers: head.headers, body, waits, cancel })
    }

    fn agent(&self, url: &Url) -> Result<&Agent, Cause> {
        let Some(proxy) = self.proxies.of(url) else { return Ok(&self.direct) };
        let [https, http] = &self.proxied;
        let agent = if url.is_https() { https } else { http };
        agent.as_ref().ok_or_else(|| Cause::InvalidProxy(without_user(proxy)))
    }

    fn cause(&self, cause: Cause) -> Cause {
        match cause {
            _ if self.cancel.is_cancelled() => Cause::Cancelled,
            Cause::Tls(TlsFault::UnknownAuthority) if !self.has_authorities => {
                Cause::Tls(TlsFault::NoAuthorities)
            }
            cause => cause,
        }
    }
}

fn agent(tls: TlsConfig, waits: Waits, proxy: Option<Proxy>, cancel: &Cancel) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(false)
        // Followed by us: each step has to be allowed, and may lead through another proxy.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("podkeep/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(waits.connect))
        .timeout_per_read(Some(waits.silence))
        .timeout_per_write(Some(waits.silence))
        .build();
    let names = Names::of_machine(cancel.clone());
    let agent = Agent::with_parts(config, DefaultConnector::default(), MachineNames(names));
    cancel.register(&agent);
    agent
}

/// SOCKS is not spoken: such a proxy must not be passed by in silence.
fn usable_proxy(text: &str) -> Option<Proxy> {
    let proxy = Proxy::new(text).ok()?;
    matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https).then_some(proxy)
}

/// A proxy's address may hold a password.
fn without_user(proxy: &str) -> String {
    proxy.rsplit_once('@').map_or(proxy, |(_, host)| host).to_owned()
}

fn redirect(request: &Request, response: &Response) -> Option<String> {
    let leads_on = matches!(response.status, 301 | 302 | 303 | 307 | 308) && request.form.is_none();
    response.header("location").filter(|_| leads_on).map(str::to_owned)
}

#[derive(Debug)]
struct MachineNames(Names);

impl Resolver for MachineNames {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = || ureq::Error::BadUri(uri.to_string());
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']);
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let found = self.0.addresses(host).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let mut addresses = self.empty();
        // As many as fit, which is 16.
        for address in found.into_iter().take(16) {
            addresses.push((address, port).into());
        }
        Ok(addresses)
    }
}

impl Response {
    /// The first header of that name, in lower case; `None` also where it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// How many bytes the body has, where the server says so.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.trim().parse().ok())
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it has more than `limit` bytes; no more than those are read.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = Error::new(&self.url, Cause::TooLarge { limit });
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        let mut body = self.body();
        let read = body.by_ref().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| body.error(error))?;
        if bytes.len() as u64 > limit { Err(too_large) } else { Ok(bytes) }
    }

    /// The body as it comes. It may end early: what it should be is the reader's to check.
    pub fn body(self) -> Body {
        Body { url: self.url, reader: self.body.into_reader(), waits: self.waits, cancel: self.cancel }
    }
}

/// An answer's body.
pub struct Body {
    url: Url,
    reader: ureq::BodyReader<'static>,
    waits: Waits,
    cancel: Cancel,
}

impl Body {
    /// What an error of its `read` means.
    pub fn error(&self, error: io::Error) -> Error {
        let cause = match Cause::of_io(error, self.waits) {
            _ if self.cancel.is_cancelled() => Cause::Cancelled,
            cause => cause,
        };
        Error::new(&self.url, cause)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
