//! `httpGet`: one GET, whose status says how the container is.

use std::net::IpAddr;

use super::{Outcome, PROBE_AGENT};
use crate::http::{Head, Incoming, InvalidUrl, Url};
use crate::manifest::pod::HttpGet;

/// Bytes of the body that are waited for: behind them, nobody cares whether the rest comes (reference §4).
const MAX_BODY: usize = 10 << 10;
/// As the kubelet's client has it.
const MAX_REDIRECTS: u8 = 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    pub url: Url,
    /// In the manifest's order. One that names `Host` takes the URL's place; an empty `Accept` or `User-Agent` leaves it out.
    pub headers: Vec<(String, String)>,
    asker: Asker,
    /// How often an answer has led elsewhere.
    redirects: u8,
}

/// On whose behalf something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Probe,
    Hook,
}

impl Asker {
    /// In messages.
    fn as_str(self) -> &'static str {
        match self {
            Asker::Probe => "probe",
            Asker::Hook => "hook",
        }
    }

    /// What the server is told.
    fn user_agent(self) -> &'static str {
        match self {
            Asker::Probe => PROBE_AGENT,
            Asker::Hook => "kube-lifecycle/1.36",
        }
    }
}

impl Get {
    /// `own` is asked where no host is named: the Pod's address.
    ///
    /// # Errors
    /// When that makes no URL.
    pub fn new(written: &HttpGet, asker: Asker, own: IpAddr) -> Result<Get, InvalidUrl> {
        let url = match &written.host {
            Some(host) => Url::of(written.https, host, written.port, &written.path),
            None => Url::of(written.https, &own.to_string(), written.port, &written.path),
        }?;
        Ok(Get { url, headers: written.headers.clone(), asker, redirects: 0 })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let given = |name: &str| self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        let mut text = format!("GET {} HTTP/1.1\r\n", self.url.target());
        let mut add = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        };
        add("Host", &given("host").map_or_else(|| self.url.host_and_port(), |(_, host)| host.clone()));
        for (name, default) in [("User-Agent", self.asker.user_agent()), ("Accept", "*/*")] {
            match given(name).map_or(default, |(_, value)| value) {
                "" => {}
                value => add(name, value),
            }
        }
        let is_sent =
            |name: &str| ["host", "user-agent", "accept"].iter().any(|sent| sent.eq_ignore_ascii_case(name));
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_sent(name)) {
            add(name, value);
        }
        add("Connection", "close");
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Whether it is what was asked for, and not where an answer has led to.
    fn is_first(&self) -> bool {
        self.redirects == 0
    }

    /// Where an answer leads to, if it leads to the same host and has not done so too often.
    fn redirected(&self, head: &Head) -> Result<Option<Get>, Outcome> {
        if !matches!(head.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = head.field("location") else { return Ok(None) };
        let url = self.url.join(location).map_err(|error| self.failed(&error))?;
        if url.host() != self.url.host() {
            return Ok(None);
        }
        if self.redirects >= MAX_REDIRECTS {
            return Err(self.failed(&format_args!("stopped after {MAX_REDIRECTS} redirects")));
        }
        Ok(Some(Get { url, redirects: self.redirects + 1, ..self.clone() }))
    }

    /// In the words of the kubelet's client.
    pub fn failed(&self, why: &dyn std::fmt::Display) -> Outcome {
        Outcome::Failure(format!("Get \"{}\": {why}", self.url))
    }
}

/// The answer to one GET on its way.
#[derive(Debug)]
pub struct Exchange {
    get: Get,
    incoming: Incoming,
    head: Option<Head>,
    read: usize,
}

/// What the answer comes to.
#[derive(Debug)]
pub enum Answer {
    Verdict(Outcome),
    /// The same is to be asked there.
    Elsewhere(Get),
}

impl Exchange {
    pub fn new(get: Get) -> Exchange {
        Exchange { get, incoming: Incoming::new(true), head: None, read: 0 }
    }

    pub fn get(&self) -> &Get {
        &self.get
    }

    /// Waits for the answer to the same question again, if that can be asked again as it was.
    pub fn begin_again(&mut self) -> bool {
        (self.incoming, self.head, self.read) = (Incoming::new(true), None, 0);
        self.get.is_first()
    }

    /// Takes bytes of the server. The answer, once it is known.
    pub fn receive(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.incoming.take(bytes);
        self.proceed().unwrap_or_else(|error| Some(Answer::Verdict(self.get.failed(&error))))
    }

    /// The server has closed the connection.
    pub fn closed(&mut self) -> Answer {
        match &self.head {
            Some(head) if self.incoming.ends_with_connection() => self.answer(head),
            Some(_) => Answer::Verdict(self.get.failed(&"unexpected end of the body")),
            None => Answer::Verdict(self.get.failed(&"EOF")),
        }
    }

    fn proceed(&mut self) -> Result<Option<Answer>, crate::http::Malformed> {
        if self.head.is_none() {
            self.head = self.incoming.head()?;
        }
        let Some(head) = &self.head else { return Ok(None) };
        let mut waste = [0; 1024];
        loop {
            if self.incoming.is_over() || self.read >= MAX_BODY {
                return Ok(Some(self.answer(head)));
            }
            match self.incoming.body(&mut waste)? {
                0 if self.incoming.is_over() => {}
                0 => return Ok(None),
                count => self.read += count,
            }
        }
    }

    /// 200 to 399 is a success (reference §4).
    fn answer(&self, head: &Head) -> Answer {
        match (self.get.redirected(head), head.status) {
            (Err(outcome), _) => Answer::Verdict(outcome),
            (Ok(Some(get)), _) => Answer::Elsewhere(get),
            (Ok(None), 200..300) => Answer::Verdict(Outcome::Success),
            (Ok(None), 300..400) => {
                let to = head.field("location").unwrap_or_default();
                Answer::Verdict(Outcome::Warning(format!(
                    "Probe terminated redirects, Response location: {to}"
                )))
            }
            (Ok(None), status) => Answer::Verdict(Outcome::Failure(format!(
                "HTTP {} failed with statuscode: {status}",
                self.get.asker.as_str()
            ))),
        }
    }
}
