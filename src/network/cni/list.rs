//! A network as a file describes it, and which file of a folder counts (`libcni/conf.go`, `go-cni/opts.go`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Bytes that a file may have, as with containerd.
const MAX_BYTES: u64 = 2 << 20;

/// Why there is no network, though there is a file.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("{path}: {reason}")]
    Content { path: PathBuf, reason: String },
}

/// A network: its plugins in the order in which they are run.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub name: String,
    pub(super) version: Version,
    pub(super) is_checked: bool,
    pub(super) is_collected: bool,
    pub(super) plugins: Vec<Plugin>,
    /// What it was read from: a list, whatever stood in the file.
    pub(super) source: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plugin {
    /// The program's name.
    pub kind: String,
    pub config: Map<String, Value>,
}

/// A version of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_3_0,
    V0_3_1,
    /// CHECK, and DEL with the result of ADD.
    V0_4_0,
    V1_0_0,
    /// GC.
    V1_1_0,
}

const VERSIONS: [(Version, &str); 5] = [
    (Version::V0_3_0, "0.3.0"),
    (Version::V0_3_1, "0.3.1"),
    (Version::V0_4_0, "0.4.0"),
    (Version::V1_0_0, "1.0.0"),
    (Version::V1_1_0, "1.1.0"),
];

impl Version {
    fn parse(text: &str) -> Option<Version> {
        VERSIONS.into_iter().find(|(_, name)| *name == text).map(|(version, _)| version)
    }

    pub fn as_str(self) -> &'static str {
        VERSIONS[self as usize].1
    }
}

impl Network {
    /// The network of a folder's first file by name (`*.conflist`, `*.conf`, `*.json`), and that file; `None` if there is none.
    ///
    /// # Errors
    /// When that file is no network. Those after it do not count then, either.
    pub fn first_of(dir: &Path) -> Result<Option<(Network, PathBuf)>, ListError> {
        let Some(path) = first_file(dir).map_err(|cause| ListError::Read { path: dir.to_owned(), cause })?
        else {
            return Ok(None);
        };
        let bytes = read(&path).map_err(|cause| ListError::Read { path: path.clone(), cause })?;
        let is_list = path.extension().is_some_and(|extension| extension == "conflist");
        match Network::parse(&bytes, is_list) {
            Ok(network) => Ok(Some((network, path))),
            Err(reason) => Err(ListError::Content { path, reason }),
        }
    }

    fn parse(bytes: &[u8], is_list: bool) -> Result<Network, String> {
        let source: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if is_list {
            return Network::of(source);
        }
        if source.get("type").is_none() && source.get("plugins").is_some() {
            return Err("this is a list of plugins: the file's name must end with .conflist".to_owned());
        }
        let mut list = json!({"name": source["name"], "plugins": [&source]});
        for key in ["cniVersion", "disableCheck", "disableGC"] {
            if let Some(value) = source.get(key) {
                list[key] = value.clone();
            }
        }
        Network::of(list)
    }

    /// Of a list, as JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn of(source: Value) -> Result<Network, String> {
        if !source.is_object() {
            return Err("expected a JSON object".to_owned());
        }
        let name = source["name"].as_str().ok_or("name: a string is required")?.to_owned();
        if !is_name(&name) {
            return Err(format!(
                "name: {name:?}: must begin with a letter or digit, and go on with those, '.', '_' and '-'"
            ));
        }
        let plugins = source["plugins"].as_array().filter(|plugins| !plugins.is_empty());
        let plugins = plugins.ok_or("plugins: a list of at least one is required")?;
        let plugins = plugins
            .iter()
            .enumerate()
            .map(|(at, plugin)| Plugin::of(plugin).map_err(|reason| format!("plugins[{at}].{reason}")));
        let plugins = plugins.collect::<Result<_, _>>()?;
        let version = version(&source)?;
        let is_checked = !switch(&source, "disableCheck")?;
        let is_collected = !switch(&source, "disableGC")?;
        Ok(Network { name, version, is_checked, is_collected, plugins, source })
    }

    /// Whether one of its plugins says that it takes what a capability tells.
    pub fn takes(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.takes(capability))
    }
}

impl Plugin {
    fn of(source: &Value) -> Result<Plugin, String> {
        let kind = source["type"].as_str().unwrap_or_default();
        if kind.is_empty() || kind.contains('/') {
            return Err("type: the name of a program is required".to_owned());
        }
        Ok(Plugin { kind: kind.to_owned(), config: source.as_object().cloned().unwrap_or_default() })
    }

    pub fn takes(&self, capability: &str) -> bool {
        self.config.get("capabilities").is_some_and(|all| all[capability] == true)
    }
}

/// The highest that both the file and we know.
fn version(source: &Value) -> Result<Version, String> {
    let all = source["cniVersions"].as_array().into_iter().flatten().chain(source.get("cniVersion"));
    let all: Vec<&str> = all.filter_map(Value::as_str).collect();
    let highest = all.iter().filter_map(|text| Version::parse(text)).max();
    highest.ok_or_else(|| match all.is_empty() {
        true => "cniVersion: 0.3.0 to 1.1.0 is required".to_owned(),
        false => format!("cniVersion: {}: podkeep knows 0.3.0 to 1.1.0", all.join(", ")),
    })
}

/// libcni takes words for it, too.
fn switch(source: &Value, key: &str) -> Result<bool, String> {
    match source.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{key}: must be true or false")),
    }
}

/// Names of networks and containers (`pkg/utils/utils.go`): plugins make files of them.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().next().is_some_and(is_plain)
        && text.bytes().all(|byte| is_plain(byte) || b"_.-".contains(&byte))
}

fn first_file(dir: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut first: Option<PathBuf> = None;
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let counts = ["conflist", "conf", "json"].contains(&extension) && !path.is_dir();
        if counts && first.as_ref().is_none_or(|first| path < *first) {
            first = Some(path);
        }
    }
    Ok(first)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it has more than 2 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_by_name_counts_and_a_single_plugin_is_a_list_of_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Network::first_of(&dir.path().join("none")).unwrap(), None);
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("00-old.conflist.bak", "{");
        write("10-calico-kubeconfig", "{");
        fs::create_dir(dir.path().join("05-folder.conf")).unwrap();
        assert_eq!(Network::first_of(dir.path()).unwrap(), None);
        let name = || Network::first_of(dir.path()).unwrap().unwrap().0.name;
        write("30-c.conflist", r#"{"cniVersion": "1.0.0", "name": "c", "plugins": [{"type": "bridge"}]}"#);
        assert_eq!(name(), "c");
        write(
            "20-b.conf",
            r#"{"cniVersion": "0.3.1", "name": "b", "type": "ptp", "ipam": {"type": "host-local"}}"#,
        );
        let (network, path) = Network::first_of(dir.path()).unwrap().unwrap();
        assert_eq!((network.name.as_str(), path), ("b", dir.path().join("20-b.conf")));
        assert_eq!(network.version, Version::V0_3_1);
        assert_eq!(
            (network.plugins[0].kind.as_str(), &network.plugins[0].config["ipam"]["type"]),
            ("ptp", &"host-local".into())
        );
        // What is broken is not passed over: Pods would be on another network than their owner thinks.
        write("10-a.json", "{");
        let error = Network::first_of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("10-a.json: EOF while parsing"), "{error}");
    }

    #[test]
    fn the_highest_version_that_both_know_is_spoken() {
        let version = |text: &str| {
            let list = format!(r#"{{{text} "name": "n", "plugins": [{{"type": "t"}}]}}"#);
            Network::of(serde_json::from_str(&list).unwrap()).map(|network| network.version.as_str())
        };
        assert_eq!(version(r#""cniVersion": "0.4.0","#), Ok("0.4.0"));
        assert_eq!(
            version(r#""cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "2.0.0"],"#),
            Ok("1.1.0")
        );
        for wrong in ["", r#""cniVersion": "0.2.0","#, r#""cniVersion": "2.0.0","#, r#""cniVersion": 1,"#] {
            assert!(version(wrong).unwrap_err().starts_with("cniVersion: "), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_network_is_said() {
        let reason = |text: &str, is_list: bool| Network::parse(text.as_bytes(), is_list).unwrap_err();
        let list = |rest: &str| reason(&format!(r#"{{"cniVersion": "1.0.0", {rest}}}"#), true);
        assert!(list(r#""plugins": [{"type": "a"}]"#).starts_with("name: "));
        assert!(list(r#""name": "../a", "plugins": [{"type": "a"}]"#).starts_with("name: \"../a\": "));
        assert!(list(r#""name": "n""#).starts_with("plugins: "));
        assert!(list(r#""name": "n", "plugins": []"#).starts_with("plugins: "));
        assert!(
            list(r#""name": "n", "plugins": [{"type": "a"}, {"type": "../a"}]"#)
                .starts_with("plugins[1].type: ")
        );
        assert!(
            list(r#""name": "n", "plugins": [{"type": "a"}], "disableCheck": "perhaps""#)
                .starts_with("disableCheck: ")
        );
        assert!(reason("[]", true).starts_with("expected"));
        let misnamed = reason(r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "a"}]}"#, false);
        assert!(misnamed.contains(".conflist"), "{misnamed}");
    }

    #[test]
    fn checks_and_collections_can_be_turned_off_and_capabilities_on() {
        let list = r#"{"cniVersion": "1.1.0", "name": "n", "disableCheck": true, "disableGC": "True",
            "plugins": [{"type": "a", "capabilities": {"ips": false}}, {"type": "b", "capabilities": {"portMappings": true}}]}"#;
        let network = Network::parse(list.as_bytes(), true).unwrap();
        assert!(!network.is_checked && !network.is_collected);
        assert!(network.takes("portMappings") && !network.takes("ips") && !network.takes("mac"));
        // What was written down is read again as the same.
        assert_eq!(Network::of(network.source.clone()), Ok(network));
    }
}
