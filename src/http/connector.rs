//! Makes connections: directly or through a proxy, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::client::{Options, read_head};
use super::error::Waits;
use super::incoming::Incoming;
use super::names::Names;
use super::proxy::Proxies;
use super::request;
use super::roots::RootsError;
use super::socket::{Socket, Stream};
use super::tls::Tls;
use super::{Cancel, Cause, Url};

/// What one client's connections have in common.
pub(super) struct Connector {
    names: Names,
    proxies: Proxies,
    tls: Tls,
    pub(super) waits: Waits,
    pub(super) cancel: Cancel,
}

/// How a server is reached.
pub(super) enum Route {
    Direct,
    /// The proxy leads a connection on, over which TLS is spoken with the server.
    Tunnel {
        proxy: Url,
        authorization: Option<String>,
    },
    /// The proxy is asked for the server's answer.
    Passed {
        proxy: Url,
        authorization: Option<String>,
    },
}

impl Connector {
    pub(super) fn new(options: &Options, waits: Waits, cancel: &Cancel) -> Result<Connector, RootsError> {
        Ok(Connector {
            names: Names::of_machine(cancel.clone()),
            proxies: Proxies::from_env(),
            tls: Tls::new(options, waits)?,
            waits,
            cancel: cancel.clone(),
        })
    }

    pub(super) fn route(&self, url: &Url) -> Result<Route, Cause> {
        let Some(text) = self.proxies.of(url) else { return Ok(Route::Direct) };
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        // SOCKS is not spoken: such a proxy must not be passed by in silence.
        let proxy: Url = with_scheme.parse().map_err(|_| Cause::InvalidProxy(without_user(text)))?;
        let authorization = proxy.authorization();
        Ok(match url.is_https() {
            true => Route::Tunnel { proxy, authorization },
            false => Route::Passed { proxy, authorization },
        })
    }

    /// A connection over which a request for `url` can be sent.
    pub(super) fn connect(&self, url: &Url, route: &Route) -> Result<Box<dyn Stream>, Cause> {
        let mut stream = match route {
            Route::Direct => self.reach(url)?,
            Route::Passed { proxy, .. } => self.reach(proxy)?,
            Route::Tunnel { proxy, authorization } => {
                let mut stream = self.reach(proxy)?;
                self.lead_on(&mut *stream, url, authorization.as_deref())?;
                self.tls.over(stream, url.host())?
            }
        };
        let connected = stream.socket().is_connected(self.waits.silence);
        connected.map_err(Cause::Broken)?;
        Ok(stream)
    }

    /// A connection to the host of `url` itself.
    fn reach(&self, url: &Url) -> Result<Box<dyn Stream>, Cause> {
        let addresses = self.names.addresses(url.host()).map_err(Cause::Name)?;
        let until = Instant::now() + self.waits.connect;
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for (tried, address) in addresses.iter().enumerate() {
            // None may use up the time of those that come after it.
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let address = SocketAddr::new(*address, url.port());
            match Socket::connect(address, Instant::now() + share, &self.cancel) {
                Ok(socket) => return self.with_tls(socket.until(until), url),
                Err(error) => last = error,
            }
        }
        match last.kind() {
            io::ErrorKind::TimedOut => Err(Cause::ConnectTimeout(self.waits.connect)),
            _ => Err(Cause::Connect(last)),
        }
    }

    fn with_tls(&self, socket: Socket, url: &Url) -> Result<Box<dyn Stream>, Cause> {
        if url.is_https() { self.tls.over(Box::new(socket), url.host()) } else { Ok(Box::new(socket)) }
    }

    /// Has a proxy lead the connection on to the server.
    fn lead_on(&self, stream: &mut dyn Stream, url: &Url, authorization: Option<&str>) -> Result<(), Cause> {
        let mut incoming = Incoming::new(false);
        let head = stream
            .write_all(&request::connect(url, authorization))
            .and_then(|()| stream.flush())
            .and_then(|()| read_head(stream, &mut incoming, self.waits.silence));
        let head = head.map_err(|error| Cause::while_connecting(error, self.waits))?;
        // With TLS it is for us to speak first: whatever else has come is not the server's.
        match head.status {
            200..=299 if incoming.is_empty() => Ok(()),
            200..=299 => Err(Cause::Proxy("it says more than that it leads on".to_owned())),
            status => Err(Cause::Proxy(format!("it answers {status}"))),
        }
    }
}

/// A proxy's address may hold a password.
fn without_user(proxy: &str) -> String {
    proxy.rsplit_once('@').map_or(proxy, |(_, host)| host).to_owned()
}
