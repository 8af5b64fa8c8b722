//! Which servers stand for a registry: containerd's `certs.d/<registry>/hosts.toml` ([ADR 11](../../../docs/adr/011-hosts-toml.md)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use file::{Capability, File, Settings};
use toml::Fault;

use super::limited::Limited;
use crate::http::{Identity, InvalidUrl, Options, Url};
use crate::order;

mod file;
mod toml;

/// Where `docker.io` has its API.
const HUB: &str = "registry-1.docker.io";
/// The folder that serves every registry without one of its own.
const DEFAULT: &str = "_default";

/// A folder with a folder for each registry, and what is known of their servers from earlier pulls with this value or its clones.
#[derive(Clone, Debug)]
pub struct Hosts {
    folder: PathBuf,
    pub(super) limited: Limited,
}

/// One server that may be asked instead of a registry, or the registry itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// With the path of its API: `https://mirror.example/v2`.
    pub(super) base: Url,
    /// Host and port, as credentials know it.
    pub(super) name: String,
    pub(super) can_pull: bool,
    pub(super) can_resolve: bool,
    /// The registry it stands for, which it is told (`?ns=`); `None` for the registry itself.
    pub(super) stands_for: Option<String>,
    /// Nobody said how it is to be reached, and it is this machine: it may speak plain HTTP.
    pub(super) may_be_plain: bool,
    pub(super) headers: Vec<(String, String)>,
    pub(super) options: Options,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHosts {
    #[error("read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    Toml { path: PathBuf, source: Fault },
    #[error("{path}: {source}", path = path.display())]
    Url { path: PathBuf, source: InvalidUrl },
    /// A reference may name what looks like a registry and can be none: its grammar allows any port.
    #[error("there is no registry {registry}: {source}")]
    Registry { registry: String, source: InvalidUrl },
    #[error("{path}: {value:?} is no duration such as 30s", path = path.display())]
    Duration { path: PathBuf, value: String },
    #[error(transparent)]
    Roots(#[from] crate::http::RootsError),
}

impl Hosts {
    /// The folder where podkeep looks unless another is named.
    pub const FOLDER: &str = "/etc/podkeep/certs.d";

    pub fn new(folder: impl Into<PathBuf>) -> Hosts {
        Hosts { folder: folder.into(), limited: Limited::default() }
    }

    /// The servers to ask for images of `registry` (`docker.io`, `registry.example:5000`), in order; the registry itself is the last.
    pub(super) fn of(&self, registry: &str) -> Result<Vec<Host>, InvalidHosts> {
        let Some(folder) = self.folder_of(registry) else { return Ok(vec![origin(registry)?]) };
        let path = folder.join("hosts.toml");
        match fs::read_to_string(&path) {
            Ok(text) => read(registry, &folder, &path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => docker_style(registry, &folder),
            Err(source) => Err(InvalidHosts::Read { path, source }),
        }
    }

    /// A colon cannot be part of a name everywhere: containerd also takes `registry.example_5000_`.
    fn folder_of(&self, registry: &str) -> Option<PathBuf> {
        let without_colon = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
        let names = [Some(registry.to_owned()), without_colon, Some(DEFAULT.to_owned())];
        names.into_iter().flatten().map(|name| self.folder.join(name)).find(|folder| folder.is_dir())
    }
}

/// The registry without any configuration.
fn origin(registry: &str) -> Result<Host, InvalidHosts> {
    let server = if registry == "docker.io" { HUB } else { registry };
    let invalid = |source| InvalidHosts::Registry { registry: registry.to_owned(), source };
    let base: Url = format!("https://{server}/v2").parse().map_err(invalid)?;
    Ok(Host {
        may_be_plain: base.is_loopback(),
        base,
        name: registry.to_owned(),
        can_pull: true,
        can_resolve: true,
        stands_for: None,
        headers: Vec::new(),
        options: Options::default(),
    })
}

fn read(registry: &str, folder: &Path, path: &Path, text: &str) -> Result<Vec<Host>, InvalidHosts> {
    let fault = |source| InvalidHosts::Toml { path: path.to_owned(), source };
    let file = File::parse(text).map_err(fault)?;
    let mut hosts = Vec::new();
    for (url, settings) in file.hosts {
        let mut host = host(&url, folder, path, settings)?;
        host.stands_for = Some(registry.to_owned());
        hosts.push(host);
    }
    let own = origin(registry)?;
    let server = file.server.clone().unwrap_or_else(|| own.base.to_string());
    let server = host(&server, folder, path, file.own)?;
    let may_be_plain = file.server.is_none() && own.may_be_plain;
    hosts.push(Host { name: own.name, may_be_plain, ..server });
    Ok(hosts)
}

fn host(server: &str, folder: &Path, path: &Path, settings: Settings) -> Result<Host, InvalidHosts> {
    let invalid = |source| InvalidHosts::Url { path: path.to_owned(), source };
    let has_scheme = server.contains("://");
    let text = if has_scheme { server.to_owned() } else { format!("https://{server}") };
    let text = text.trim_end_matches('/');
    let complete = settings.override_path || text.ends_with("/v2");
    let base: Url = if complete { text.parse() } else { format!("{text}/v2").parse() }.map_err(invalid)?;
    let port = base.port();
    let default_port = if base.is_https() { 443 } else { 80 };
    let can = |what| settings.capabilities.as_ref().is_none_or(|all| all.contains(&what));
    Ok(Host {
        name: if port == default_port { base.host().to_owned() } else { format!("{}:{port}", base.host()) },
        can_pull: can(Capability::Pull),
        can_resolve: can(Capability::Resolve),
        stands_for: None,
        may_be_plain: false,
        headers: settings.headers,
        options: Options {
            // Names are relative to the file's own folder.
            ca: settings.ca.iter().map(|name| folder.join(name)).collect(),
            identity: settings.client.map(|(certificate, key)| Identity {
                certificate: folder.join(certificate),
                key: folder.join(key),
            }),
            insecure: settings.skip_verify,
            // Whoever does without certificates has no more to lose there, and everything elsewhere.
            plain_http: (!base.is_https() || settings.skip_verify).then(|| base.over_plain_http()),
            connect_timeout: settings.dial_timeout.map(|text| duration(path, &text)).transpose()?,
        },
        base,
    })
}

fn duration(path: &Path, text: &str) -> Result<Duration, InvalidHosts> {
    let invalid = || InvalidHosts::Duration { path: path.to_owned(), value: text.to_owned() };
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(invalid)
}

/// A folder as Docker has it: authorities in `*.crt`, our own certificate in `*.cert` with its key in `*.key`.
fn docker_style(registry: &str, folder: &Path) -> Result<Vec<Host>, InvalidHosts> {
    let unreadable = |source| InvalidHosts::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    order::sort(&mut paths);
    let ends_in = |path: &&PathBuf, ending: &str| path.extension().is_some_and(|own| own == ending);
    let mut host = origin(registry)?;
    host.options.ca = paths.iter().filter(|path| ends_in(path, "crt")).cloned().collect();
    host.options.identity = paths.iter().find(|path| ends_in(path, "cert")).map(|certificate| Identity {
        certificate: certificate.clone(),
        key: certificate.with_extension("key"),
    });
    Ok(vec![host])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(registry: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Hosts) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(registry)).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(registry).join(name), text).unwrap();
        }
        let hosts = Hosts::new(dir.path());
        (dir, hosts)
    }

    fn bases(hosts: &[Host]) -> Vec<String> {
        hosts.iter().map(|host| host.base.to_string()).collect()
    }

    #[test]
    fn without_configuration_a_registry_is_itself() {
        let hosts = Hosts::new("/nowhere");
        assert_eq!(bases(&hosts.of("docker.io").unwrap()), ["https://registry-1.docker.io/v2"]);
        let remote = hosts.of("r.example:5000").unwrap();
        assert_eq!(bases(&remote), ["https://r.example:5000/v2"]);
        assert!(!remote[0].may_be_plain && hosts.of("localhost:5000").unwrap()[0].may_be_plain);
        assert!(hosts.of("[::1]:5000").unwrap()[0].may_be_plain);
        assert!(matches!(hosts.of("r.example:99999"), Err(InvalidHosts::Registry { .. })));
    }

    #[test]
    fn mirrors_are_asked_in_the_order_of_the_file_and_the_server_last() {
        let text = r#"
            server = "https://docker.example"
            ca = "own.pem"
            [host."https://z.example"]
              capabilities = ["pull"]
              ca = ["a.pem", "/b.pem"]
              client = [["c.pem", "k.pem"]]
              dial_timeout = "3s"
              [host."https://z.example".header]
                x-key = "secret"
            [host."http://a.example:5000/v2/hub"]
              override_path = true
              skip_verify = true
        "#;
        let (dir, hosts) = folder("docker.io", &[("hosts.toml", text)]);
        let hosts = hosts.of("docker.io").unwrap();
        let of = |name: &str| dir.path().join("docker.io").join(name);
        assert_eq!(
            bases(&hosts),
            ["https://z.example/v2", "http://a.example:5000/v2/hub", "https://docker.example/v2"]
        );
        assert!(hosts[0].can_pull && !hosts[0].can_resolve && hosts[1].can_resolve);
        assert_eq!(hosts[0].options.ca, [of("a.pem"), "/b.pem".into()]);
        let identity = Identity { certificate: of("c.pem"), key: of("k.pem") };
        assert_eq!(hosts[0].options.identity, Some(identity));
        assert_eq!(hosts[0].options.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(hosts[0].headers, [("x-key".to_owned(), "secret".to_owned())]);
        assert_eq!((hosts[1].name.as_str(), hosts[2].name.as_str()), ("a.example:5000", "docker.io"));
        assert!(
            hosts[1].options.insecure && hosts[1].options.plain_http.is_some() && !hosts[2].options.insecure
        );
        assert_eq!(hosts[0].stands_for.as_deref(), Some("docker.io"));
        assert_eq!((hosts[2].stands_for.as_deref(), &hosts[2].options.ca), (None, &vec![of("own.pem")]));
    }

    #[test]
    fn our_certificate_may_be_one_file_a_list_or_pairs() {
        for (client, certificate, key) in [
            ("\"a.pem\"", "a.pem", "a.pem"),
            ("[\"a.pem\", \"b.pem\"]", "a.pem", "a.pem"),
            ("[[\"a.pem\", \"a.key\"], [\"b.pem\", \"b.key\"]]", "a.pem", "a.key"),
        ] {
            let (dir, hosts) = folder("r.example", &[("hosts.toml", &format!("client = {client}"))]);
            let of = |name: &str| dir.path().join("r.example").join(name);
            let identity = Identity { certificate: of(certificate), key: of(key) };
            assert_eq!(hosts.of("r.example").unwrap()[0].options.identity, Some(identity), "{client}");
        }
    }

    #[test]
    fn the_folder_of_a_port_may_be_written_without_a_colon_and_one_serves_the_rest() {
        let text = "[host.\"https://m.example\"]\n";
        for name in ["r.example:5000", "r.example_5000_", "_default"] {
            let (_dir, hosts) = folder(name, &[("hosts.toml", text)]);
            let found = bases(&hosts.of("r.example:5000").unwrap());
            assert_eq!(found, ["https://m.example/v2", "https://r.example:5000/v2"], "{name}");
        }
    }

    #[test]
    fn a_folder_as_docker_has_it_works_too() {
        let files = [("a.crt", ""), ("me.cert", ""), ("me.key", "")];
        let (dir, hosts) = folder("r.example", &files);
        let host = hosts.of("r.example").unwrap().remove(0);
        let of = |name: &str| dir.path().join("r.example").join(name);
        assert_eq!(host.options.ca, [of("a.crt")]);
        assert_eq!(host.options.identity, Some(Identity { certificate: of("me.cert"), key: of("me.key") }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, reason) in [
            ("server = 1", "line 1: invalid type"),
            ("\nskip_verfy = true", "line 2: unknown field `skip_verfy`"),
            ("\ncapabilities = [\n1]", "line 3: invalid type: integer, expected a string"),
            ("[host]\n\"https://m\" = 1", "line 2: invalid type: integer, expected a table"),
            ("client = [[\"a\", \"b\", \"c\"]]", "line 1: a certificate and its key are two"),
            ("ca =", "line 1: "),
            ("server = \"ftp://x\"", "does not begin with https://"),
            ("dial_timeout = \"soon\"", "\"soon\" is no duration"),
        ] {
            let (_dir, hosts) = folder("r.example", &[("hosts.toml", text)]);
            let error = hosts.of("r.example").unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("hosts.toml: "), "{error}");
        }
    }
}
