//! Who we are to a registry: Docker's `config.json`, and Secrets of the type `kubernetes.io/dockerconfigjson`, which hold the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::credential_helper::{self, HelperError};
use crate::manifest::Object;
use crate::manifest::object::{DOCKER_CFG, DOCKER_CONFIG_JSON};
use crate::order;

/// Docker's own names for `docker.io`, by which its tools write its entry.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The entry of Docker's registry, which helpers know by its old address only.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// One way to prove who asks. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// A long-lived token that is exchanged for short-lived ones (OAuth 2's refresh token).
    IdentityToken(String),
    /// A token that the registry itself takes.
    RegistryToken(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// Credentials by registry, from any number of files and Secrets.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    entries: Vec<(Place, Credential)>,
    /// Helpers by registry, and for all others the last one.
    helpers: Vec<(String, String)>,
    store: Option<String>,
    /// Tried when all of these have been, however long their names are.
    next: Option<Box<Credentials>>,
}

/// What an entry is for: a registry, and the beginning of its repositories' names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// May hold `*` within the parts between its dots, as Kubernetes allows.
    host: String,
    port: Option<String>,
    /// With a leading slash; empty for all.
    path: String,
}

/// Credentials that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCredentials {
    #[error("read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    // What is wrong is said without the text around it, which holds passwords.
    #[error("{origin} is not a docker config.json: line {line}, column {column}")]
    Json { origin: String, line: usize, column: usize },
    #[error("{origin}: the entry of {key:?} has an `auth` that is not base64 of user:password")]
    Auth { origin: String, key: String },
    #[error(transparent)]
    Helper(#[from] HelperError),
}

/// Docker's `config.json`, as far as it concerns registries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// Those of the first of these that is there: `config.json` in the node's root folder (where the kubelet has its own),
    /// `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`. None, if there is no such file.
    pub fn of_machine(root_dir: &Path) -> Result<Credentials, InvalidCredentials> {
        let named = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A service manager gives no HOME to what runs as root.
        let home = || named("HOME").unwrap_or_else(|| "/root".into());
        let docker = named("DOCKER_CONFIG").unwrap_or_else(|| home().join(".docker"));
        for path in [root_dir.to_owned(), docker].map(|dir| dir.join("config.json")) {
            if path.exists() {
                return Credentials::read(&path);
            }
        }
        Ok(Credentials::default())
    }

    /// Those of one file.
    pub fn read(path: &Path) -> Result<Credentials, InvalidCredentials> {
        let bytes =
            fs::read(path).map_err(|source| InvalidCredentials::Read { path: path.to_owned(), source })?;
        Credentials::parse(&path.display().to_string(), &bytes)
    }

    /// Reads a `config.json`; `origin` names it in errors (`Secret default/regcred`).
    pub fn parse(origin: &str, bytes: &[u8]) -> Result<Credentials, InvalidCredentials> {
        let json = |error: serde_json::Error| InvalidCredentials::Json {
            origin: origin.to_owned(),
            line: error.line(),
            column: error.column(),
        };
        let file: File = serde_json::from_slice(bytes).map_err(json)?;
        let mut credentials = Credentials {
            helpers: file.cred_helpers.into_iter().collect(),
            store: file.creds_store.filter(|name| !name.is_empty()),
            ..Credentials::default()
        };
        credentials.add(origin, file.auths)?;
        Ok(credentials)
    }

    /// Reads what a Secret of the old type `kubernetes.io/dockercfg` holds: the entries alone.
    pub fn parse_dockercfg(origin: &str, bytes: &[u8]) -> Result<Credentials, InvalidCredentials> {
        let json = |error: serde_json::Error| InvalidCredentials::Json {
            origin: origin.to_owned(),
            line: error.line(),
            column: error.column(),
        };
        let mut credentials = Credentials::default();
        credentials.add(origin, serde_json::from_slice(bytes).map_err(json)?)?;
        Ok(credentials)
    }

    /// Puts `others` behind these: where several are for one registry, each is tried.
    pub fn extend(&mut self, others: Credentials) {
        self.entries.extend(others.entries);
        self.helpers.extend(others.helpers);
        self.store = self.store.take().or(others.store);
    }

    /// What a Secret holds for registries, and for nothing else: it names no helpers to run. `None` if it is of another type.
    pub fn of_secret(secret: &Object) -> Result<Option<Credentials>, InvalidCredentials> {
        let origin = secret.id.to_string();
        if let Some(bytes) = secret.of_type(DOCKER_CONFIG_JSON) {
            let Credentials { entries, .. } = Credentials::parse(&origin, bytes)?;
            return Ok(Some(Credentials { entries, ..Credentials::default() }));
        }
        let bytes = secret.of_type(DOCKER_CFG);
        bytes.map(|bytes| Credentials::parse_dockercfg(&origin, bytes)).transpose()
    }

    /// These, and when none of them is let in, `others`.
    pub fn before(self, others: Credentials) -> Credentials {
        Credentials { next: Some(Box::new(others)), ..self }
    }

    fn add(&mut self, origin: &str, auths: BTreeMap<String, Entry>) -> Result<(), InvalidCredentials> {
        for (key, entry) in auths {
            let credential = entry
                .credential()
                .map_err(|()| InvalidCredentials::Auth { origin: origin.to_owned(), key: key.clone() })?;
            self.entries.extend(credential.map(|credential| (Place::of_key(&key), credential)));
        }
        Ok(())
    }

    /// What may be tried for a repository: the entry whose name is longest first, then what helpers say.
    pub(super) fn of(&self, host: &str, path: &str) -> Result<Vec<Credential>, HelperError> {
        let asked = Place::of_key(&format!("{host}/{path}"));
        let mut found: Vec<_> = self.entries.iter().filter(|(place, _)| place.covers(&asked)).collect();
        order::sort_by_key(&mut found, |(place, _)| std::cmp::Reverse(place.host.len() + place.path.len()));
        let mut credentials: Vec<Credential> = found.into_iter().map(|(_, one)| one.clone()).collect();
        let own = |key: &&(String, String)| Place::of_key(&key.0).covers(&asked);
        let helper = self.helpers.iter().find(own).map(|(_, name)| name).or(self.store.as_ref());
        if let Some(name) = helper {
            let key = if HUB.contains(&host) { HUB_KEY } else { host };
            credentials.extend(credential_helper::ask(name, key)?);
        }
        if let Some(next) = &self.next {
            credentials.extend(next.of(host, path)?);
        }
        Ok(credentials)
    }
}

impl Entry {
    /// `None` for an entry that only says that a helper knows more.
    fn credential(self) -> Result<Option<Credential>, ()> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = filled(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(token) = filled(self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        if let Some(auth) = filled(self.auth) {
            let (user, password) = decoded(auth.trim()).ok_or(())?;
            return Ok(Some(Credential::Password { user, password }));
        }
        let user = filled(self.username);
        Ok(user.map(|user| Credential::Password { user, password: self.password.unwrap_or_default() }))
    }
}

/// Base64 of `user:password`, with or without its padding.
fn decoded(auth: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // Docker wrote a zero byte behind it once.
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl Place {
    /// `registry.example:5000/team`, `https://index.docker.io/v1/`, `*.example`.
    fn of_key(key: &str) -> Place {
        let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
        let (authority, path) =
            rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let path = format!("/{}", path.trim_end_matches('/'));
        // An address of the API stands for the whole registry.
        let path = match path.as_str() {
            "/" | "/v1" | "/v2" => String::new(),
            _ => path,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.to_owned())),
            _ => (authority, None),
        };
        let host = if HUB.contains(&host) { HUB[0] } else { host };
        Place { host: host.to_ascii_lowercase(), port, path }
    }

    fn covers(&self, other: &Place) -> bool {
        let (ours, theirs) = (self.host.split('.'), other.host.split('.'));
        let same_host = ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(pattern, text)| matches(pattern.as_bytes(), text.as_bytes()));
        let below = other.path.strip_prefix(&self.path);
        same_host
            && self.port == other.port
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether `*` in the pattern can stand for something so that it becomes the text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|from| matches(rest, &text[from..])),
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(first, text)| first == byte && matches(rest, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::object::{Hidden, ObjectId, ObjectKind};

    fn password(user: &str) -> Credential {
        Credential::Password { user: user.to_owned(), password: "pw".to_owned() }
    }

    fn auths(keys: &[&str]) -> Credentials {
        let entries: Vec<String> =
            keys.iter().map(|key| format!(r#""{key}":{{"username":"{key}","password":"pw"}}"#)).collect();
        Credentials::parse("test", format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn every_way_to_write_a_credential_is_read() {
        let text = r#"{"auths":{
            "a":{"auth":"dXNlcjpwYTpzcw=="}, "b":{"auth":"dXNlcjpwdw"}, "c":{"identitytoken":"t","auth":"dXNlcjo="},
            "d":{"registrytoken":"r"}, "e":{}}, "HttpHeaders":{"x":"y"}}"#;
        let credentials = Credentials::parse("test", text.as_bytes()).unwrap();
        let of = |host: &str| credentials.of(host, "x").unwrap();
        let plain = |password: &str| Credential::Password { user: "user".into(), password: password.into() };
        assert_eq!(of("a"), [plain("pa:ss")]);
        assert_eq!(of("b"), [plain("pw")]);
        assert_eq!(of("c"), [Credential::IdentityToken("t".into())]);
        assert_eq!(of("d"), [Credential::RegistryToken("r".into())]);
        assert_eq!(of("e"), []);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let error =
            Credentials::parse("Secret a/b", br#"{"auths": {"x": {"auth": "geheim!"}}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"Secret a/b: the entry of "x" has an `auth` that is not base64 of user:password"#
        );
        let error = Credentials::parse("f", br#"{"auths": "geheim"}"#).unwrap_err();
        assert_eq!(error.to_string(), "f is not a docker config.json: line 1, column 18");
        assert!(!format!("{:?}", auths(&["a"])).contains("pw"));
    }

    #[test]
    fn entries_are_found_as_kubernetes_finds_them() {
        let keys =
            ["a.example", "a.example/team", "*.b.example", "r*.c.example:5000", "https://d.example/v2/"];
        let credentials = auths(&keys);
        for (host, path, expected) in [
            ("a.example", "web", &[0][..]),
            ("a.example", "team/web", &[1, 0]),
            ("a.example", "teamwork/web", &[0]),
            ("x.b.example", "web", &[2]),
            ("x.y.b.example", "web", &[]),
            ("b.example", "web", &[]),
            ("reg.c.example:5000", "web", &[3]),
            ("reg.c.example", "web", &[]),
            ("d.example", "web", &[4]),
        ] {
            let expected: Vec<_> = expected.iter().map(|index| password(keys[*index])).collect();
            assert_eq!(credentials.of(host, path).unwrap(), expected, "{host}/{path}");
        }
    }

    #[test]
    fn dockers_own_registry_has_several_names() {
        for key in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
            assert_eq!(auths(&[key]).of("docker.io", "library/web").unwrap(), [password(key)]);
        }
    }

    #[test]
    fn several_sources_are_tried_one_after_the_other() {
        let mut credentials = auths(&["a"]);
        credentials
            .extend(Credentials::parse_dockercfg("s", br#"{"a":{"username":"u","password":"pw"}}"#).unwrap());
        assert_eq!(credentials.of("a", "web").unwrap(), [password("a"), password("u")]);
    }
    #[test]
    fn those_that_come_first_are_tried_first_however_short_their_names_are() {
        let credentials = auths(&["a"]).before(auths(&["a/team"]));
        assert_eq!(credentials.of("a", "team/web").unwrap(), [password("a"), password("a/team")]);
    }

    #[test]
    fn a_secret_holds_entries_and_runs_no_helper() {
        let secret = |type_: &str, key: &str, text: &str| Object {
            id: ObjectId { kind: ObjectKind::Secret, namespace: "n".into(), name: "s".into() },
            type_: type_.to_owned(),
            data: [(key.to_owned(), Hidden::new(text.as_bytes().to_vec()))].into(),
            binary: Default::default(),
            sealed: Vec::new(),
            place: (1, 1),
        };
        let (type_, key) = DOCKER_CONFIG_JSON;
        let text = r#"{"auths":{"a":{"username":"a","password":"pw"}},"credsStore":"evil"}"#;
        let credentials = Credentials::of_secret(&secret(type_, key, text)).unwrap().unwrap();
        assert_eq!(credentials.of("a", "web").unwrap(), [password("a")]);
        let (type_, key) = DOCKER_CFG;
        let text = r#"{"a":{"username":"a","password":"pw"}}"#;
        let credentials = Credentials::of_secret(&secret(type_, key, text)).unwrap().unwrap();
        assert_eq!(credentials.of("a", "web").unwrap(), [password("a")]);
        assert!(Credentials::of_secret(&secret("Opaque", key, text)).unwrap().is_none());
    }
}
