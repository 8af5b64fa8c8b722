//! `$(VAR)` in commands, arguments and values of variables, by Kubernetes' rules.

/// Replaces each `$(NAME)` that `lookup` knows; what it does not know stays as it is written.
///
/// `$$` is a literal `$` (so `$$(NAME)` is never expanded), an unterminated `$(` stays, and what was put in
/// is not expanded again.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (written, left) = dollar(after, &lookup);
        match written {
            Dollar::Literal(text) => out.push_str(text),
            Dollar::Value(value) => out.push_str(value),
            Dollar::Unknown(name) => {
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
        }
        rest = left;
    }
    out.push_str(rest);
    out
}

enum Dollar<'t, 'v> {
    Literal(&'static str),
    Value(&'v str),
    Unknown(&'t str),
}

/// What stands for a `$` and the text behind it, and the text that is left.
fn dollar<'t, 'v>(after: &'t str, lookup: impl Fn(&str) -> Option<&'v str>) -> (Dollar<'t, 'v>, &'t str) {
    if let Some(left) = after.strip_prefix('$') {
        return (Dollar::Literal("$"), left);
    }
    let Some(inside) = after.strip_prefix('(') else {
        return (Dollar::Literal("$"), after);
    };
    match inside.split_once(')') {
        Some((name, left)) => (lookup(name).map_or(Dollar::Unknown(name), Dollar::Value), left),
        None => (Dollar::Literal("$("), inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> String {
        expand(text, |name| match name {
            "A" => Some("one"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn kubernetes_rules_hold() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "one"),
            ("-$(A)-$(A)-", "-one-one-"),
            ("$(B)", "$(A)"),
            ("$(EMPTY)|", "|"),
            ("$(NONE)", "$(NONE)"),
            ("$()", "$()"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$$$$(A)", "$$(A)"),
            ("$A ${A}", "$A ${A}"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$$", "$"),
            ("é$(A)ü", "éoneü"),
            ("$($(A))", "$($(A))"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expanded(text), wanted, "{text}");
        }
    }
}
