//! What a server wants to see before it answers: the `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// A way to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from the server `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The challenges of one header that podkeep can meet.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((scheme, after)) = word(rest) {
        let (parameters, after) = parameters(after);
        let value = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = |name: &str| value(name).map(|(_, value)| value.clone());
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            found.push(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
        }
        rest = after;
    }
    found
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// The next token, and what comes after it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `name=value` after `name=value`, up to the next scheme.
fn parameters(text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = word(rest)
        && let Some(after) = after.trim_start().strip_prefix('=')
    {
        let (value, after) = value(after.trim_start());
        found.push((name, value));
        rest = after;
    }
    (found, rest)
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_challenges_that_registries_send_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push""#;
        let scope = Some("repository:library/a:pull,push");
        assert_eq!(
            challenges(hub),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"), scope)]
        );
        assert_eq!(challenges(r#"Basic realm="Registry""#), [Challenge::Basic]);
        assert_eq!(
            challenges(r#"Negotiate, Basic realm="a, b", bEaReR realm = "https://x/\"y", error=invalid"#),
            [Challenge::Basic, bearer(r#"https://x/"y"#, None, None)]
        );
        assert_eq!(challenges("Bearer service=x"), []);
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "[a-zA-Z\"=, \\\\ä]{0,40}") {
            challenges(&header);
        }
    }
}
