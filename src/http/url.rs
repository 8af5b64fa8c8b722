//! Addresses of HTTP and HTTPS, and where a redirect leads.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::Uri;

/// An absolute `http` or `https` URL. Shown without user, query and fragment: they may be secrets, as in the addresses that
/// registries redirect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
}

/// Text that is not a URL podkeep can fetch from, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a URL: {reason}")]
pub struct InvalidUrl {
    /// Without user and query, which may be secrets.
    pub text: String,
    pub reason: String,
}

impl Url {
    /// Without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The port, the scheme's own where none is written.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether it leads to this machine and nowhere else.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// Whether both lead to the same server in the same way.
    pub fn is_same_origin(&self, other: &Url) -> bool {
        let origin = |url: &Url| (url.is_https(), url.host().to_ascii_lowercase(), url.port());
        origin(self) == origin(other)
    }

    /// The user and password that stand in it, as the header `Authorization` has them (RFC 7617).
    pub fn authorization(&self) -> Option<String> {
        let (user_info, _) = self.uri.authority()?.as_str().rsplit_once('@')?;
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let pair = [decoded(user), decoded(password)].join(&b':');
        Some(format!("Basic {}", STANDARD.encode(pair)))
    }

    /// The same place without TLS.
    pub fn over_plain_http(&self) -> Option<Url> {
        let text = self.uri.to_string();
        text.strip_prefix("https://").and_then(|rest| format!("http://{rest}").parse().ok())
    }

    /// Where `Location: to` leads from here (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// When that is neither HTTP nor HTTPS.
    pub fn join(&self, to: &str) -> Result<Url, InvalidUrl> {
        let to = to.split('#').next().unwrap_or_default();
        let scheme = if self.is_https() { "https" } else { "http" };
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        // A colon before any slash ends a scheme.
        if to.split('/').next().is_some_and(|first| first.contains(':')) {
            return to.parse();
        }
        if to.starts_with("//") {
            return format!("{scheme}:{to}").parse();
        }
        if to.starts_with('/') {
            return format!("{scheme}://{authority}{to}").parse();
        }
        let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{to}").parse()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
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

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Url, InvalidUrl> {
        let invalid = |reason: String| InvalidUrl { text: without_secrets(text), reason };
        let uri: Uri =
            text.parse().map_err(|error: ureq::http::uri::InvalidUri| invalid(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(invalid("it does not begin with https:// or http://".to_owned()));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(invalid("it names no host".to_owned()));
        }
        let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if is_address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_err()) {
            return Err(invalid("there is no such address".to_owned()));
        }
        let after_host = uri.authority().and_then(|all| all.as_str().rsplit_once(host)).map(|(_, rest)| rest);
        if uri.port_u16().is_none() && after_host.is_some_and(|rest| !rest.is_empty()) {
            return Err(invalid("there is no such port".to_owned()));
        }
        Ok(Url { uri })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        write!(f, "{}://{host}{}", self.uri.scheme_str().unwrap_or_default(), self.uri.path())
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
        for text in
            ["https://", "https://a:99999", "https://a:", "https://[:::::]/", "ftp://a", "a", "https://a:b"]
        {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        assert_eq!(url("https://[::1]:5000").host(), "::1");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(url("https://A.example/x").is_same_origin(&url("https://a.example:443/y")));
        for other in ["http://a.example:443", "https://b.example", "https://a.example:444"] {
            assert!(!url("https://a.example").is_same_origin(&url(other)), "{other}");
        }
    }
}
