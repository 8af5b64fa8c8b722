//! Every crate podkeep is built from keeps to the lists in `deny.toml`: names, licences, sources.
//!
//! cargo-deny would do the same, but to build it costs CI more than everything else. Only the lists are read here, which are
//! plain arrays of strings.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_is_allowed() {
    let rules = Rules::read();
    let faults: Vec<String> = packages().iter().filter_map(|package| rules.fault(package)).collect();
    assert!(faults.is_empty(), "deny.toml forbids what Cargo.lock brings in:\n{}", faults.join("\n"));
}

struct Rules {
    banned: Vec<String>,
    licences: Vec<String>,
    registries: Vec<String>,
}

impl Rules {
    fn read() -> Rules {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
        let text = fs::read_to_string(path).expect("deny.toml is there");
        let list = |section, key| {
            list_of(&text, section, key)
                .unwrap_or_else(|| panic!("deny.toml has no list {key} in [{section}]"))
        };
        Rules {
            banned: list("bans", "deny"),
            licences: list("licenses", "allow"),
            registries: list("sources", "allow-registry"),
        }
    }

    /// What is wrong with a package of `cargo metadata`, as a sentence.
    fn fault(&self, package: &Package) -> Option<String> {
        let Package { name, version, licence, source } = package;
        if self.banned.contains(name) {
            return Some(format!(
                "{name} {version} is a banned crate (`cargo tree -i {name}` says who wants it)"
            ));
        }
        let is_known =
            |source: &str| self.registries.iter().any(|r| source.strip_prefix("registry+") == Some(r));
        if let Some(source) = source.as_deref().filter(|source| !is_known(source)) {
            return Some(format!("{name} {version} comes from {source}, which is no allowed registry"));
        }
        match licence {
            None => Some(format!("{name} {version} does not say its licence")),
            Some(licence) if !is_allowed(licence, &self.licences) => {
                Some(format!("{name} {version} is under `{licence}`, which is not allowed"))
            }
            Some(_) => None,
        }
    }
}

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for podkeep itself and for crates of a path.
    source: Option<String>,
}

/// What is built for this platform: crates for other systems are never compiled, nor always downloaded.
fn packages() -> Vec<Package> {
    let platform = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("cargo lists the packages");
    assert!(packages.len() > 10, "only {} packages", packages.len());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let package = |p: &Value| Package {
        name: text(&p["name"]).expect("every package has a name"),
        version: text(&p["version"]).expect("every package has a version"),
        licence: text(&p["license"]),
        source: text(&p["source"]),
    };
    packages.iter().map(package).collect()
}

/// The strings of `key = [ … ]` in `[section]`.
fn list_of(toml: &str, section: &str, key: &str) -> Option<Vec<String>> {
    let without_comments = toml.lines().map(|line| line.split('#').next().unwrap_or_default());
    let header = format!("[{section}]");
    let mut lines = without_comments.skip_while(|line| line.trim() != header).skip(1);
    let first = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().strip_prefix('[').map(str::to_owned))?
    })?;
    let mut body = first;
    while !body.contains(']') {
        body.push_str(lines.next()?);
    }
    let strings = body.split(']').next()?.split('"').skip(1).step_by(2);
    Some(strings.map(str::to_owned).collect())
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is how older crates write OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest, allowed);
    met && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = both(words, allowed);
    while take(words, "OR") {
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while take(words, "AND") {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    if take(words, "(") {
        return either(words, allowed) & take(words, ")");
    }
    let Some((name, rest)) = words.split_first() else { return false };
    *words = rest;
    if !take(words, "WITH") {
        return allowed.iter().any(|a| a == name);
    }
    let Some((exception, rest)) = words.split_first() else { return false };
    *words = rest;
    allowed.contains(&format!("{name} WITH {exception}"))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    let is_next = words.first() == Some(&word);
    if is_next {
        *words = &words[1..];
    }
    is_next
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, is_met) in [
        ("MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT OR LGPL-2.1-or-later", true),
        ("GPL-3.0-only", false),
        ("MIT AND GPL-2.0-only", false),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", true),
        ("MIT AND (GPL-2.0-only OR LGPL-3.0-only)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("(MIT", false),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), is_met, "{expression:?}");
    }
}

#[test]
fn a_forbidden_crate_is_named() {
    let rules = Rules::read();
    let package = |name: &str, licence: Option<&str>, source: &str| Package {
        name: name.into(),
        version: "1.0.0".into(),
        licence: licence.map(str::to_owned),
        source: Some(source.into()),
    };
    let crates_io = "registry+https://github.com/rust-lang/crates.io-index";
    assert_eq!(rules.fault(&package("serde", Some("MIT"), crates_io)), None);
    for (package, said) in [
        (package("tokio", Some("MIT"), crates_io), "tokio 1.0.0 is a banned crate"),
        (package("zbus", Some("MIT"), crates_io), "zbus 1.0.0 is a banned crate"),
        (package("readline", Some("GPL-3.0-only"), crates_io), "readline 1.0.0 is under `GPL-3.0-only`"),
        (package("quiet", None, crates_io), "quiet 1.0.0 does not say its licence"),
        (package("serde", Some("MIT"), "git+https://example.org/serde"), "serde 1.0.0 comes from git+"),
    ] {
        let fault = rules.fault(&package).expect(said);
        assert!(fault.starts_with(said), "{fault}");
    }
}
