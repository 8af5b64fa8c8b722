//! Image references, read and normalised as Docker and Kubernetes do.
//!
//! The grammar is that of the `distribution/reference` module: `[domain/]path[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// `RepositoryNameTotalLengthMax` of the grammar: the path, `library/` included, in bytes.
const MAX_PATH: usize = 255;
/// Longest tag of the grammar, in bytes.
const MAX_TAG: usize = 128;

/// A name for an image: where it comes from, and which one of that name.
///
/// Normalised, so that `nginx`, `docker.io/library/nginx` and `nginx:latest` are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    /// Never `None` where there is no digest.
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is not a reference to an image, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct InvalidReference {
    pub text: String,
    pub reason: &'static str,
}

impl Reference {
    /// The registry: `docker.io`, `registry.example:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path, without tag and digest: `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; `latest` where the text gave neither tag nor digest, `None` where it gave a digest only.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest that is asked for. Where there is one, it decides and the tag is only shown.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The whole normalised form, such as `docker.io/library/nginx:1.27`.
    pub fn canonical(&self) -> String {
        format!("{}{}", self.repository(), Suffix(self))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference { text: text.to_owned(), reason })
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Reference, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.canonical()
    }
}

/// The familiar form: without the default domain and without `library/` (`nginx:1.27`).
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.domain != DEFAULT_DOMAIN {
            return write!(f, "{}/{}{}", self.domain, self.path, Suffix(self));
        }
        let path = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        write!(f, "{path}{}", Suffix(self))
    }
}

/// `:tag@digest`, as much of it as there is.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err("64 hex digits are an image ID, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((_, digest)) if digest.starts_with("sha512:") => {
            return Err("its digest is a SHA-512 one, and podkeep knows SHA-256 only");
        }
        Some((rest, digest)) => {
            (rest, Some(digest.parse().map_err(|_| "its digest is not sha256:<64 hex digits>")?))
        }
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    let (domain, path) = split_domain(name)?;
    if path.len() > MAX_PATH {
        return Err("its name without the registry is longer than 255 bytes");
    }
    let tag = tag.map(checked_tag).transpose()?;
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(Reference { domain, path, tag, digest })
}

/// A colon after the last slash begins the tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first component is a domain if it could not be a path's (`.`, `:`, an upper-case letter) or is `localhost`.
fn split_domain(name: &str) -> Result<(String, String), &'static str> {
    let looks_like_domain = |first: &str| {
        first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    if !is_domain(domain) {
        return Err("the registry's name before the first slash is malformed");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the name must be lower-case");
    }
    if !path.split('/').all(is_path_component) {
        return Err(
            "each part of the name must be letters and digits, joined by single '.', one or two '_', or '-'",
        );
    }
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    Ok((domain.to_owned(), if official { format!("{OFFICIAL_PREFIX}{path}") } else { path.to_owned() }))
}

/// A host name, an IPv4 address or an IPv6 address in brackets, with an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return port_ok && !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port_ok && host.split('.').all(label_ok)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators_ok = text
        .split(is_word)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
    separators_ok && text.starts_with(is_word) && text.ends_with(is_word)
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn checked_tag(tag: &str) -> Result<String, &'static str> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first_ok = tag.bytes().next().is_some_and(is_word);
    let rest_ok = tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
    if first_ok && rest_ok && tag.len() <= MAX_TAG {
        Ok(tag.to_owned())
    } else {
        Err("its tag must be at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let cases = [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("docker.io/nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("team/web", "docker.io/team/web:latest", "team/web:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/web:1", "localhost/web:1", "localhost/web:1"),
            ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web:latest"),
            ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest"),
            (
                "example.com/a/b--c__d.e:V_1.x-y",
                "example.com/a/b--c__d.e:V_1.x-y",
                "example.com/a/b--c__d.e:V_1.x-y",
            ),
            ("Host/web", "Host/web:latest", "Host/web:latest"),
        ];
        for (text, canonical, familiar) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.canonical(), canonical, "{text}");
            assert_eq!(reference.to_string(), familiar, "{text}");
        }
    }

    #[test]
    fn a_digest_stands_instead_of_the_default_tag() {
        let by_digest: Reference = format!("nginx@{DIGEST}").parse().unwrap();
        assert_eq!(by_digest.tag(), None);
        assert_eq!(by_digest.to_string(), format!("nginx@{DIGEST}"));
        let both: Reference = format!("nginx:1@{DIGEST}").parse().unwrap();
        assert_eq!(both.canonical(), format!("docker.io/library/nginx:1@{DIGEST}"));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a".repeat(248);
        let tag = format!("web:{}", "t".repeat(129));
        let id = "a".repeat(64);
        let cases = [
            "",
            ":",
            "/",
            "web:",
            ":1",
            "Web",
            "web/",
            "/web",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "web:.1",
            "web:ä",
            "web@sha256:12",
            "web@",
            "example.com:/a",
            "exa mple/a",
            "-x.com/a",
            &long,
            &tag,
            &id,
        ];
        for text in cases {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_registrys_own_name_does_not_count_for_the_length() {
        let longest = format!("registry.example/{}", "a".repeat(255));
        assert!(longest.parse::<Reference>().is_ok() && format!("{longest}a").parse::<Reference>().is_err());
        assert!("a".repeat(247).parse::<Reference>().is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_is_stable(text in "[a-zA-Z0-9:/@._\\-\\[\\]ä]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference, &reference.to_string().parse().unwrap());
                prop_assert_eq!(&reference, &reference.canonical().parse().unwrap());
            }
        }
    }
}
