//! Which proxy a request goes through, as the environment says.
//!
//! The rules are those of Go's `httpproxy`, which every other container tool follows: `HTTPS_PROXY` for HTTPS, `HTTP_PROXY` for plain
//! HTTP, each also in lower case; `NO_PROXY` lists hosts (`a.example` with what is below it, `.a.example` only what is below), addresses,
//! ranges of them (`10.0.0.0/8`), each with an optional port, or `*`. This machine itself is never reached through a proxy.

use std::env;
use std::net::IpAddr;

use super::url::Url;

/// The proxies of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    pub(super) https: Option<String>,
    pub(super) http: Option<String>,
    except: Vec<Exception>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    host: Host,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Every,
    /// Addresses whose first bits are those of this one.
    Range(IpAddr, u8),
    /// In lower case.
    Name(String),
    /// With the leading dot, in lower case.
    Below(String),
}

impl Proxies {
    pub(super) fn from_env() -> Proxies {
        // HTTP_PROXY alone is safe here: podkeep is never a CGI program, whose environment a client writes (CVE-2016-5386).
        let value = |upper: &str, lower: &str| {
            [upper, lower].iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()))
        };
        Proxies {
            https: value("HTTPS_PROXY", "https_proxy"),
            http: value("HTTP_PROXY", "http_proxy"),
            except: value("NO_PROXY", "no_proxy").map(|text| exceptions(&text)).unwrap_or_default(),
        }
    }

    /// The proxy for `url`, or `None` where it is reached directly.
    pub(super) fn of(&self, url: &Url) -> Option<&str> {
        let proxy = if url.is_https() { self.https.as_deref() } else { self.http.as_deref() };
        let is_excepted = url.is_loopback() || self.except.iter().any(|one| one.covers(url));
        proxy.filter(|_| !is_excepted)
    }
}

fn exceptions(text: &str) -> Vec<Exception> {
    text.split([',', ' ']).map(str::trim).filter(|one| !one.is_empty()).filter_map(Exception::parse).collect()
}

impl Exception {
    fn parse(text: &str) -> Option<Exception> {
        let every_port = |host| Some(Exception { host, port: None });
        if text == "*" {
            return every_port(Host::Every);
        }
        if let Some((address, bits)) = text.split_once('/') {
            return every_port(Host::Range(address.parse().ok()?, bits.parse().ok()?));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return every_port(Host::Range(address, 128));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
        let host = match (name.parse(), name.strip_prefix('*').unwrap_or(&name)) {
            (Ok(address), _) => Host::Range(address, 128),
            (_, below) if below.starts_with('.') => Host::Below(below.to_owned()),
            _ => Host::Name(name),
        };
        Some(Exception { host, port })
    }

    fn covers(&self, url: &Url) -> bool {
        if self.port.is_some_and(|port| port != url.port()) {
            return false;
        }
        let name = url.host().trim_end_matches('.').to_ascii_lowercase();
        match &self.host {
            Host::Every => true,
            Host::Range(range, bits) => name.parse().is_ok_and(|address| is_in(address, *range, *bits)),
            Host::Below(suffix) => name.ends_with(suffix),
            Host::Name(own) => {
                name.strip_suffix(own.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    }
}

fn is_in(address: IpAddr, range: IpAddr, bits: u8) -> bool {
    let same_head = |a: &[u8], b: &[u8]| {
        let bits = usize::from(bits).min(a.len() * 8);
        let (whole, rest) = (bits / 8, bits % 8);
        a[..whole] == b[..whole] && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
    };
    match (address, range) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same_head(&a.octets(), &b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => same_head(&a.octets(), &b.octets()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_through(no_proxy: &str, url: &str) -> bool {
        let proxies =
            Proxies { https: Some("p".into()), http: Some("p".into()), except: exceptions(no_proxy) };
        proxies.of(&url.parse().unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        let list = "a.example, .b.example,*.c.example 10.0.0.0/8,192.168.1.1,[fe80::1]:99,d.example:5000";
        for direct in [
            "https://a.example",
            "https://x.A.example",
            "https://x.b.example",
            "https://x.c.example",
            "https://10.200.0.1",
            "https://192.168.1.1:5000",
            "https://[fe80::1]:99",
            "https://d.example:5000",
            "https://localhost",
            "http://127.0.0.1:5000",
            "http://[::1]:5000",
        ] {
            assert!(!goes_through(list, direct), "{direct}");
        }
        for proxied in [
            "https://xa.example",
            "https://b.example",
            "https://11.0.0.1",
            "https://192.168.1.2",
            "https://[fe80::1]:98",
            "https://d.example",
            "https://e.example",
        ] {
            assert!(goes_through(list, proxied), "{proxied}");
        }
        assert!(!goes_through("*", "https://e.example"));
    }

    #[test]
    fn each_scheme_has_a_proxy_of_its_own() {
        let proxies = Proxies { https: Some("p".into()), ..Proxies::default() };
        assert_eq!(proxies.of(&"https://a.example".parse().unwrap()), Some("p"));
        assert_eq!(proxies.of(&"http://a.example".parse().unwrap()), None);
    }
}
