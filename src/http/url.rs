//! Addresses of HTTP and HTTPS, and where a redirect leads.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};

/// An absolute `http` or `https` URL. Shown without user, query and fragment: they may be secrets, as in the addresses that
/// registries redirect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    /// User and password, still encoded.
    user: Option<String>,
    /// Without the brackets of an IPv6 address.
    host: String,
    /// As it is written.
    port: Option<u16>,
    /// Path and query. Begins with a slash.
    target: String,
}

/// Text that is not a URL podkeep can fetch from, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a URL: {reason}")]
pub struct InvalidUrl {
    /// Without user and query, which may be secrets.
    pub text: String,
    pub reason: &'static str,
}

impl Url {
    /// Of its parts; an IPv6 address may have its brackets.
    ///
    /// # Errors
    /// When one of them can be no part of a URL.
    pub fn of(is_https: bool, host: &str, port: u16, target: &str) -> Result<Url, InvalidUrl> {
        let scheme = if is_https { "https" } else { "http" };
        format!("{scheme}://{}:{port}{target}", bracketed(host)).parse()
    }

    /// Without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none is written.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }

    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Whether it leads to this machine and nowhere else.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// Whether both lead to the same server in the same way.
    pub fn is_same_origin(&self, other: &Url) -> bool {
        let same_way = self.is_https == other.is_https && self.port() == other.port();
        same_way && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// The user and password that stand in it, as the header `Authorization` has them (RFC 7617).
    pub fn authorization(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let pair = [decoded(user), decoded(password)].join(&b':');
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// The same place without TLS.
    pub fn over_plain_http(&self) -> Url {
        Url { is_https: false, ..self.clone() }
    }

    /// Where `Location: to` leads from here (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// When that is neither HTTP nor HTTPS.
    pub fn join(&self, to: &str) -> Result<Url, InvalidUrl> {
        let to = without_fragment(to);
        // A colon before any slash ends a scheme.
        if to.split('/').next().is_some_and(|first| first.contains(':')) {
            return to.parse();
        }
        if to.starts_with("//") {
            return format!("{}:{to}", self.scheme()).parse();
        }
        let path = match to.strip_prefix('/') {
            Some(_) => to.to_owned(),
            None => format!("{}/{to}", self.path().rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        let invalid = |reason| InvalidUrl { text: format!("{}{}", self.place(), without_query(to)), reason };
        Ok(Url { target: target(&path).map_err(invalid)?, ..self.clone() })
    }

    /// Path and query, as a request names them to the server.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// As it stands in a URL.
    pub(super) fn bracketed_host(&self) -> String {
        bracketed(&self.host)
    }

    /// The header `Host`.
    pub fn host_and_port(&self) -> String {
        let host = self.bracketed_host();
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    fn path(&self) -> &str {
        without_query(&self.target)
    }

    fn place(&self) -> String {
        format!("{}://{}", self.scheme(), self.host_and_port())
    }
}

fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// Whether a host's name or address means this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    // RFC 6761: names below `localhost` never leave the machine.
    let is_name = host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
    is_name || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Of what is no URL, too: somebody meant it to be one.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    // A slash may stand in a password that is not encoded: better too little is shown than that.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}{rest}")
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

fn without_query(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

/// What is not ASCII is encoded, as browsers do.
fn target(text: &str) -> Result<String, &'static str> {
    let slash = if text.starts_with('/') { "" } else { "/" };
    if text.bytes().any(|byte| byte == b' ' || byte.is_ascii_control()) {
        return Err("there are spaces or control characters in it");
    }
    Ok(format!("{slash}{}", utf8_percent_encode(text, CONTROLS)))
}

/// Host and port of `text`, an authority without its user.
fn place(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("there is no such address")?;
            address.parse::<Ipv6Addr>().map_err(|_| "there is no such address")?;
            (address, rest)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() {
        return Err("it names no host");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte)) {
        return Err("a host cannot be called so");
    }
    // A sign would be taken by `parse`.
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let port = match port {
        "" => None,
        _ => Some(port.strip_prefix(':').and_then(number).ok_or("there is no such port")?),
    };
    Ok((host.to_owned(), port))
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Url, InvalidUrl> {
        let invalid = |reason| InvalidUrl { text: without_secrets(text), reason };
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(invalid("it does not begin with https:// or http://"));
        }
        let rest = without_fragment(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, at) = match authority.rsplit_once('@') {
            Some((user, at)) => (Some(user), at),
            None => (None, authority),
        };
        // Browsers read a backslash as a slash, so that the host would be another one.
        if user.is_some_and(|user| !user.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')) {
            return Err(invalid("its user and password have to be encoded"));
        }
        let (host, port) = place(at).map_err(invalid)?;
        let target = target(path).map_err(invalid)?;
        Ok(Url { is_https, user: user.map(str::to_owned), host, port, target })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place(), self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let from = url("https://r.example:5000/v2/a/blobs/x?y=1");
        for (to, expected) in [
            ("https://cdn.example/z?s=1#f", "https://cdn.example/z?s=1"),
            ("//cdn.example/z", "https://cdn.example/z"),
            ("/z", "https://r.example:5000/z"),
            ("z", "https://r.example:5000/v2/a/blobs/z"),
            ("/a:b", "https://r.example:5000/a:b"),
        ] {
            assert_eq!(from.join(to).unwrap(), url(expected), "{to}");
        }
        for to in ["file:///etc/shadow", "gopher://x/", "javascript:0"] {
            assert!(from.join(to).is_err(), "{to}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        assert_eq!(url("https://me:pw@r.example/a?token=1").to_string(), "https://r.example/a");
    }

    #[test]
    fn what_may_be_secret_is_not_shown_of_what_is_no_url_either() {
        for (text, shown) in [
            ("https://me:pw@r.example:99999/a?token=1", "https://r.example:99999/a"),
            ("ftp://me:p/w@r.example", "ftp://r.example"),
            ("me:pw@r.example", "r.example"),
            ("https://me:p w@r.example", "https://r.example"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap_err().text, shown, "{text}");
        }
        let redirected = url("https://me:pw@r.example/").join("/a b").unwrap_err();
        assert_eq!(redirected.text, "https://r.example/a b");
    }

    #[test]
    fn user_and_password_become_a_header() {
        let of = |text: &str| url(text).authorization();
        // RFC 7617, section 2.
        let header = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(of("https://Aladdin:open%20sesame@r.example/a@b").as_deref(), Some(header));
        assert_eq!(of("https://user@r.example").as_deref(), Some("Basic dXNlcjo="));
        assert_eq!(of("https://r.example/a@b"), None);
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for text in ["http://localhost:5000", "http://a.localhost", "http://127.9.0.1", "http://[::1]:5000"] {
            assert!(url(text).is_loopback(), "{text}");
        }
        for text in ["http://localhost.example", "http://128.0.0.1", "http://[::2]", "http://0.0.0.0"] {
            assert!(!url(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_no_url() {
        for text in [
            "https://",
            "https://a:99999",
            "https://a:",
            "https://[:::::]/",
            "ftp://a",
            "a",
            "https://a:b",
            "https://a:+1",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        for text in
            ["http://a\r\nX: 1/", "http://a b/", "http://a/\r\nX: 1", "http://[::1]x/", "http://a\\@b"]
        {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
        assert_eq!(url("https://[::1]:5000").host(), "::1");
    }

    #[test]
    fn an_address_has_brackets_in_a_url_whether_or_not_it_came_with_them() {
        for host in ["::1", "[::1]"] {
            let made = Url::of(true, host, 80, "/x?y").unwrap();
            assert_eq!((made.host(), made.host_and_port().as_str()), ("::1", "[::1]:80"));
        }
        assert_eq!(Url::of(false, "a.example", 443, "/"), Ok(url("http://a.example:443/")));
        assert!(Url::of(false, "a:b", 80, "/").is_err());
    }

    #[test]
    fn what_is_not_ascii_is_encoded() {
        assert_eq!(url("https://a/ä?ö#ü").target(), "/%C3%A4?%C3%B6");
        assert_eq!((url("https://a").target(), url("https://a?b").target()), ("/", "/?b"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(url("https://A.example/x").is_same_origin(&url("https://a.example:443/y")));
        for other in ["http://a.example:443", "https://b.example", "https://a.example:444"] {
            assert!(!url("https://a.example").is_same_origin(&url(other)), "{other}");
        }
    }
}
