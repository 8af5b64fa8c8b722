//! Proves to one server who asks: basic authentication, and tokens as Docker's registries hand them out.
//!
//! The server says what it wants (401 with a challenge); each credential is tried, then none at all, until one is let in. A token that has
//! expired is told by the next 401 and is asked for anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Failure;
use super::challenge::Challenge;
use super::credentials::Credential;
use crate::http::{Client, Method, Request, Response, Url};

/// Bytes of a token server's answer.
const MAX_TOKEN: u64 = 1 << 20;

/// What one server knows of us.
#[derive(Debug)]
pub(super) struct Auth {
    /// Whether anything was known to try.
    pub(super) had_credentials: bool,
    /// What is left to try, the best last.
    left: Vec<Option<Credential>>,
    current: Option<Option<Credential>>,
    header: Option<String>,
    /// Counts headers, so that of several threads that are refused the same one, only the first gets another.
    generation: u64,
    /// The current header was let in.
    works: bool,
}

/// A header to send, if any, and which one it is.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) header: Option<String>,
    generation: u64,
}

/// What a token is for.
pub(super) struct Purpose<'a> {
    pub(super) client: &'a Client,
    /// The server that sent the challenge.
    pub(super) server: &'a Url,
    /// `repository:library/nginx:pull`.
    pub(super) scope: &'a str,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(super) fn new(credentials: Vec<Credential>) -> Auth {
        let had_credentials = !credentials.is_empty();
        let mut left = vec![None];
        left.extend(credentials.into_iter().rev().map(Some));
        Auth { had_credentials, left, current: None, header: None, generation: 0, works: false }
    }

    pub(super) fn pass(&self) -> Pass {
        Pass { header: self.header.clone(), generation: self.generation }
    }

    pub(super) fn worked(&mut self, pass: &Pass) {
        self.works |= pass.generation == self.generation;
    }

    /// After `pass` was refused: returns whether there is another one to try.
    ///
    /// # Errors
    /// When a token server cannot be asked.
    pub(super) fn refused(
        &mut self,
        pass: &Pass,
        challenges: &[Challenge],
        purpose: &Purpose,
    ) -> Result<bool, Failure> {
        if pass.generation != self.generation {
            return Ok(true);
        }
        if !std::mem::take(&mut self.works) {
            self.current = None;
        }
        loop {
            let Some(credential) = self.current.take().or_else(|| self.left.pop()) else { return Ok(false) };
            let header = header(credential.as_ref(), challenges, purpose)?;
            self.current = Some(credential);
            if let Some(header) = header {
                self.header = Some(header);
                self.generation += 1;
                return Ok(true);
            }
            self.current = None;
        }
    }
}

/// The header that meets one of the challenges; `None` where this credential cannot, or is refused by the token server.
fn header(
    credential: Option<&Credential>,
    challenges: &[Challenge],
    purpose: &Purpose,
) -> Result<Option<String>, Failure> {
    if let Some(Credential::RegistryToken(token)) = credential {
        return Ok(Some(format!("Bearer {token}")));
    }
    for challenge in challenges {
        match (challenge, credential) {
            (Challenge::Basic, Some(Credential::Password { user, password })) => {
                return Ok(Some(basic(user, password)));
            }
            (Challenge::Basic, _) => {}
            (Challenge::Bearer { realm, service, scope }, _) => {
                let token = token(credential, realm, service.as_deref(), scope.as_deref(), purpose)?;
                if let Some(token) = token {
                    return Ok(Some(format!("Bearer {token}")));
                }
            }
        }
    }
    Ok(None)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Asks a token server (distribution's "token authentication specification"); `None` if it refuses.
fn token(
    credential: Option<&Credential>,
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
    purpose: &Purpose,
) -> Result<Option<String>, Failure> {
    let nonsense = |lie: String| Failure::Unexpected {
        host: purpose.server.host().to_owned(),
        what: format!("the token server {realm}"),
        status: 401,
        said: format!(": {lie}"),
    };
    let mut fields = vec![("scope", scope.unwrap_or(purpose.scope))];
    fields.extend(service.map(|service| ("service", service)));
    if let Some(Credential::IdentityToken(token)) = credential {
        fields.extend([("grant_type", "refresh_token"), ("client_id", "podkeep"), ("refresh_token", token)]);
        let url: Url = realm.parse().map_err(|error| nonsense(format!("{error}")))?;
        let answer = purpose.client.send(&Request::post(&url, encoded(&fields)));
        return read_token(answer.map_err(Failure::of_http)?);
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let url: Url = format!("{realm}{separator}{}", encoded(&fields))
        .parse()
        .map_err(|error| nonsense(format!("{error}")))?;
    let mut request = Request::new(Method::Get, &url);
    if let Some(Credential::Password { user, password }) = credential {
        request = request.secret("authorization", basic(user, password));
    }
    read_token(purpose.client.send(&request).map_err(Failure::of_http)?)
}

fn read_token(answer: Response) -> Result<Option<String>, Failure> {
    let (status, url) = (answer.status, answer.url.clone());
    if matches!(status, 400 | 401 | 403) {
        return Ok(None);
    }
    let unexpected = |said: &str| Failure::Unexpected {
        host: url.host().to_owned(),
        what: "a token".to_owned(),
        status,
        said: said.to_owned(),
    };
    if status == 429 {
        return Err(super::endpoint::rate_limit(&answer));
    }
    if status != 200 {
        return Err(unexpected(""));
    }
    let bytes = answer.bytes(MAX_TOKEN).map_err(Failure::of_http)?;
    let answer: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|_| unexpected(" with something else"))?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    token.map(Some).ok_or_else(|| unexpected(" without one"))
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let pair =
        |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}
