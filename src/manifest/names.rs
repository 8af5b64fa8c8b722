//! Kubernetes' rules for names, keys and values, in its own words (`apimachinery/pkg/util/validation`).

/// What is wrong with a name, or nothing.
pub(crate) type Verdict = Result<(), String>;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or \
    '.', and must start and end with an alphanumeric character or '_' (e.g. 'example.com')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')";
const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', \
    or 'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// A DNS label: containers, volumes, namespaces, `spec.hostname`.
pub(crate) fn dns_label(name: &str) -> Verdict {
    at_most(63, name)?;
    if is_label(name) { Ok(()) } else { Err(LABEL.to_owned()) }
}

/// Labels joined by dots: Pods' names.
pub(crate) fn dns_subdomain(name: &str) -> Verdict {
    at_most(253, name)?;
    if name.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN.to_owned()) }
}

/// What names are looked up in: a DNS subdomain with underscores, as Kubernetes lets it be since 1.34, or the root alone.
pub(crate) fn dns_search(name: &str) -> Verdict {
    if name == "." {
        return Ok(());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    at_most(253, name)?;
    // Where it stands makes no difference: beginnings and ends of labels may be one too.
    if name.replace('_', "a").split('.').all(is_label) { Ok(()) } else { Err(SEARCH.to_owned()) }
}

/// What the kernel takes as a host name (`__NEW_UTS_LEN`).
pub(crate) fn host_name_length(name: &str) -> Verdict {
    at_most(64, name)
        .map_err(|reason| format!("the kernel's name of a host {reason}, and this has {}", name.len()))
}

/// `[prefix/]name`: keys of labels and annotations.
pub(crate) fn qualified_name(key: &str) -> Verdict {
    let name = match key.split_once('/') {
        None => key,
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((_, name)) if name.contains('/') => {
            return Err("a qualified name has at most one '/' (e.g. 'example.com/MyName')".to_owned());
        }
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|reason| format!("prefix part {reason}"))?;
            name
        }
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    at_most(63, name).map_err(|reason| format!("name part {reason}"))?;
    if is_word(name) { Ok(()) } else { Err(QUALIFIED.to_owned()) }
}

pub(crate) fn label_value(value: &str) -> Verdict {
    at_most(63, value)?;
    if value.is_empty() || is_word(value) { Ok(()) } else { Err(LABEL_VALUE.to_owned()) }
}

/// A key of an object's data: a file's name, but none that begins with two dots (`IsConfigMapKey`).
pub(crate) fn data_key(key: &str) -> Verdict {
    at_most(253, key)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if key.is_empty() || !key.bytes().all(good) {
        Err(DATA_KEY.to_owned())
    } else if key == "." || key.starts_with("..") {
        Err("must not be '.' and must not start with '..'".to_owned())
    } else {
        Ok(())
    }
}

/// Where a file lies in a volume (`validateLocalNonReservedPath`, and what the kernel and the kubelet's AtomicWriter ask for).
pub(crate) fn file_path(path: &str) -> Verdict {
    let mut parts = path.split('/');
    if path.starts_with('/') {
        Err("must be a relative path".to_owned())
    } else if parts.clone().any(|part| part == "..") {
        Err("must not contain '..'".to_owned())
    } else if path.starts_with("..") {
        Err("must not start with '..'".to_owned())
    } else if path.len() >= 4096 || parts.clone().any(|part| part.len() > 255) {
        Err("must be no longer than a path of Linux: 4095 bytes, and 255 each part of it".to_owned())
    } else if path.contains('\0') || parts.any(|part| matches!(part, "" | ".")) {
        Err("must be a plain path of a file, such as 'a/b'".to_owned())
    } else {
        Ok(())
    }
}

/// The relaxed rule, which Kubernetes has locked on since 1.34.
pub(crate) fn env_name(name: &str) -> Verdict {
    let good = |b: u8| matches!(b, b' '..=b'~') && b != b'=';
    if name.bytes().all(good) { Ok(()) } else { Err(ENV_NAME.to_owned()) }
}

/// An IANA service name (RFC 6335).
pub(crate) fn port_name(name: &str) -> Verdict {
    let reason = if name.len() > 15 {
        "must be no more than 15 characters"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        "must contain at least one letter (a-z)"
    } else if name.contains("--") {
        "must not contain consecutive hyphens"
    } else if name.starts_with('-') || name.ends_with('-') {
        "must not begin or end with a hyphen"
    } else {
        return Ok(());
    };
    Err(reason.to_owned())
}

/// A header of HTTP, as Kubernetes lets a probe or a hook send it.
pub(crate) fn http_header(name: &str) -> Verdict {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err("a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')".to_owned())
}

/// The host name made of a Pod's name: at most 63 bytes, as the kernel takes 64 with the end, no `-` or `.` at the end.
pub(crate) fn shorten_hostname(name: &str) -> &str {
    // Pods' names are ASCII by now; `floor` keeps this true for any other.
    let end = name.floor_char_boundary(63);
    if end == name.len() { name } else { name[..end].trim_end_matches(['-', '.']) }
}

/// The known name that `written` most probably means: another spelling, or few letters away.
pub(crate) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // The distance costs the product of both lengths, and a key may be megabytes long.
    if written.len() > 100 {
        return None;
    }
    let distance = |name: &str| strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase());
    let (nearest, distance) = known.iter().map(|name| (*name, distance(name))).min_by_key(|(_, far)| *far)?;
    (distance <= (written.chars().count() / 3).max(1)).then_some(nearest)
}

fn at_most(limit: usize, text: &str) -> Verdict {
    if text.len() > limit { Err(format!("must be no more than {limit} bytes")) } else { Ok(()) }
}

fn is_label(label: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = label.as_bytes();
    end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Verdict, good: &[&str], bad: &[&str]) {
        for name in good {
            assert_eq!(rule(name), Ok(()), "{name}");
        }
        for name in bad {
            assert!(rule(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_by_kubernetes_rules() {
        let long = "a".repeat(63);
        let longer = "a".repeat(64);
        check(dns_label, &["a", "1-a", &long], &["", "A", "-a", "a-", "a.b", "a_b", "ä", &longer]);
        check(dns_subdomain, &["a", "a.b-c.1"], &["", ".", "a.", "a..b", "A", &"a.".repeat(127)]);
        check(dns_search, &[".", "a.", "_tcp.a_b.c"], &["", "..", "A", "-a", "a b", &"a.".repeat(128)]);
        check(
            qualified_name,
            &["a", "example.com/My_name.1"],
            &["", "/a", "a/", "a/b/c", "A/b", "-a", &longer],
        );
        check(label_value, &["", "My_value.1"], &["-a", "a b", &longer]);
        check(data_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b", "a b", "ä"]);
        check(
            file_path,
            &["a", ".a", "a/..b", "a/b.c/d"],
            &["", "/a", "..", "a/../b", "..a", "a//b", "./a", "a/", "a\0"],
        );
        check(env_name, &["A", "a.b-c", "1 2"], &["A=B", "ä", "a\n"]);
        check(port_name, &["http", "a-1"], &["", "80", "a--b", "-a", "a-", "HTTP", "abcdefghijklmnop"]);
    }

    #[test]
    fn a_host_name_is_cut_to_what_the_kernel_takes() {
        assert_eq!(shorten_hostname("web-node1"), "web-node1");
        let name = format!("{}-.b", "a".repeat(62));
        assert_eq!(shorten_hostname(&name), "a".repeat(62));
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["image", "imagePullPolicy", "name"];
        assert_eq!(nearest("imagepullpolicy", &known), Some("imagePullPolicy"));
        assert_eq!(nearest("imgae", &known), Some("image"));
        assert_eq!(nearest("cluster", &known), None);
    }
}
