//! What is asked, and the bytes that say so.

use To::{Proxy, Server};

use super::headers::{self, InvalidHeader};
use super::url::Url;

const USER_AGENT: &str = concat!("podkeep/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
}

/// What is asked for, or a form that is sent.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub(super) url: &'a Url,
    method: Method,
    headers: Vec<(&'static str, String)>,
    secrets: Vec<(String, String)>,
    form: Option<String>,
}

/// To whom a request is written.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    Server,
    /// One that passes it on in plain HTTP, with the header `Proxy-Authorization` that it wants.
    Proxy(Option<&'a str>),
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

    /// Whether its answer may have a body.
    pub fn expects_body(&self) -> bool {
        self.form.is_some() || self.method != Method::Head
    }

    /// Whether it changes nothing, so that it may be sent a second time, and to where it is redirected.
    pub(super) fn is_safe(&self) -> bool {
        self.form.is_none()
    }

    /// The request as it is sent for `url`, which it may have been redirected to.
    ///
    /// # Errors
    /// When a header's name or value could be read as more than one header.
    pub fn bytes(&self, url: &Url, to: To) -> Result<Vec<u8>, InvalidHeader> {
        let method = match (&self.form, self.method) {
            (Some(_), _) => "POST",
            (None, Method::Get) => "GET",
            (None, Method::Head) => "HEAD",
        };
        let mut text = match to {
            Server => format!("{method} {} HTTP/1.1\r\n", url.target()),
            Proxy(_) => format!("{method} http://{}{} HTTP/1.1\r\n", url.host_and_port(), url.target()),
        };
        let mut add = |name: &str, value: &str| -> Result<(), InvalidHeader> {
            headers::check(name, value)?;
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
            Ok(())
        };
        add("Host", &url.host_and_port())?;
        add("User-Agent", USER_AGENT)?;
        if let Proxy(Some(authorization)) = to {
            add("Proxy-Authorization", authorization)?;
        }
        for (name, value) in &self.headers {
            add(name, value)?;
        }
        let secrets = self.secrets.iter().filter(|_| url.is_same_origin(self.url));
        for (name, value) in secrets {
            add(name, value)?;
        }
        if let Some(form) = &self.form {
            add("Content-Type", "application/x-www-form-urlencoded")?;
            add("Content-Length", &form.len().to_string())?;
        }
        text.push_str("\r\n");
        text.push_str(self.form.as_deref().unwrap_or_default());
        Ok(text.into_bytes())
    }
}

/// Asks a proxy to lead a connection on to the server of `url`.
pub(super) fn connect(url: &Url, authorization: Option<&str>) -> Vec<u8> {
    let (host, port) = (url.bracketed_host(), url.port());
    let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n"));
    format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {USER_AGENT}\r\n{}\r\n",
        authorization.unwrap_or_default()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_request_is_written_as_servers_and_proxies_want_it() {
        let url = url("http://me:pw@a.example:8080/x?y=1");
        let request = Request::new(Method::Get, &url).header("accept", "*/*").secret("x-key", "1");
        let rest = "Host: a.example:8080\r\nUser-Agent: podkeep/0.1.0\r\n";
        let fields = "accept: */*\r\nx-key: 1\r\n\r\n";
        let to_server = text(request.bytes(&url, Server).unwrap());
        assert_eq!(to_server, format!("GET /x?y=1 HTTP/1.1\r\n{rest}{fields}"));
        let to_proxy = text(request.bytes(&url, Proxy(Some("Basic x"))).unwrap());
        let first = "GET http://a.example:8080/x?y=1 HTTP/1.1\r\n";
        assert_eq!(to_proxy, format!("{first}{rest}Proxy-Authorization: Basic x\r\n{fields}"));
        let form = text(Request::post(&url, "a=1".to_owned()).bytes(&url, Server).unwrap());
        assert!(form.starts_with("POST ") && form.ends_with("Content-Length: 3\r\n\r\na=1"), "{form}");
    }

    #[test]
    fn a_header_cannot_become_two() {
        let url = url("http://a.example/");
        for value in ["1\r\nX-Other: 2", "1\n", "\0", "ä"] {
            let request = Request::new(Method::Get, &url).header("x", value);
            assert!(request.bytes(&url, Server).is_err(), "{value:?}");
        }
        assert!(Request::new(Method::Get, &url).secret("x y", "1").bytes(&url, Server).is_err());
    }

    #[test]
    fn secrets_stay_with_the_server_that_was_asked() {
        let (own, other) = (url("http://a.example/"), url("http://b.example/"));
        let request = Request::new(Method::Get, &own).secret("x-key", "sesame");
        assert!(!text(request.bytes(&other, Server).unwrap()).contains("sesame"));
    }

    #[test]
    fn a_proxy_is_asked_for_the_port_too() {
        let asked = text(connect(&url("https://[::1]/x"), Some("Basic x")));
        assert!(asked.starts_with("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"), "{asked}");
        assert!(asked.ends_with("Proxy-Authorization: Basic x\r\n\r\n"), "{asked}");
    }
}
