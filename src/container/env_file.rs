//! An env file: what containers of a Pod write for the variables of others (KEP-3721). As much of a shell's language as means the
//! same everywhere: `NAME='value'`, where the value is all up to the next `'`, over lines too.

/// The longest value, as with the kubelet. Bytes.
const MAX_VALUE: usize = 32 * 1024;

/// Where it is no env file. What stands there is not repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Malformed {
    pub line: usize,
    why: &'static str,
}

/// The value of the variable `key`, if the file has one: the last, as in a shell.
///
/// # Errors
/// Where anything in the file is wrong, in the kubelet's words.
pub fn variable<'t>(text: &'t str, key: &str) -> Result<Option<&'t str>, Malformed> {
    let (mut rest, mut found) = (text, None);
    while !rest.is_empty() {
        let (line, behind) = split_line(rest);
        let written = line.trim_matches(BLANK);
        if written.is_empty() || written.starts_with('#') {
            rest = behind;
            continue;
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (name, value, behind) = declaration(rest).map_err(|why| Malformed { line, why })?;
        if name == key {
            found = Some((value, line));
        }
        rest = behind;
    }
    match found {
        Some((value, line)) if value.len() > MAX_VALUE => {
            Err(Malformed { line, why: "environment variable value exceeds maximum size of 32KB" })
        }
        Some((value, line)) if value.contains('\0') => {
            Err(Malformed { line, why: "environment variable value holds a zero byte" })
        }
        found => Ok(found.map(|(value, _)| value)),
    }
}

/// What may stand around a declaration; the last one before the end of a line of DOS.
const BLANK: [char; 3] = [' ', '\t', '\r'];

fn split_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// The name, the value, and the lines behind it.
fn declaration(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let (name, _) = split_line(text).0.split_once('=').ok_or("missing '='")?;
    let value = &text[name.len() + 1..];
    let name = name.trim_start_matches(BLANK);
    if name.is_empty() {
        return Err("empty variable name");
    }
    if name.ends_with(BLANK) {
        return Err("whitespace before '=' is not allowed");
    }
    if value.starts_with([' ', '\t']) {
        return Err("whitespace after '=' is not allowed");
    }
    let value = value.strip_prefix('\'').ok_or("value must be enclosed in single quotes")?;
    let (value, behind) = value.split_once('\'').ok_or("unclosed single quote")?;
    let (comment, rest) = split_line(behind);
    let comment = comment.trim_matches(BLANK);
    if !comment.is_empty() && !comment.starts_with('#') {
        return Err("unexpected content after closing quote");
    }
    Ok((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_is_read_as_a_shell_would() {
        let text = "# of the init container\n\n  \t\nDB_ADDRESS='address'\n\tMULTI='line1\n# line 2 = \"$X\" \\n\n'  # why\n\
            A.B-c=''\nTWICE='one'\nTWICE='two'\r\nLAST='no end of line'";
        for (key, value) in [
            ("DB_ADDRESS", Some("address")),
            ("MULTI", Some("line1\n# line 2 = \"$X\" \\n\n")),
            ("A.B-c", Some("")),
            ("TWICE", Some("two")),
            ("LAST", Some("no end of line")),
            ("# line 2 ", None),
            ("NONE", None),
        ] {
            assert_eq!(variable(text, key), Ok(value), "{key}");
        }
        assert_eq!(variable("", "A"), Ok(None));
    }

    #[test]
    fn what_a_shell_would_read_in_another_way_is_refused_with_its_line() {
        let long = format!("A='{}'", "x".repeat(MAX_VALUE + 1));
        for (text, expected) in [
            ("A=b", "line 1: value must be enclosed in single quotes"),
            ("A=\"b\"", "line 1: value must be enclosed in single quotes"),
            ("A=", "line 1: value must be enclosed in single quotes"),
            ("A='b\nc'\nB = 'c'", "line 3: whitespace before '=' is not allowed"),
            ("A='b'\n\nB= 'c'", "line 3: whitespace after '=' is not allowed"),
            ("A='b''c'", "line 1: unexpected content after closing quote"),
            ("A='b'$C", "line 1: unexpected content after closing quote"),
            ("\n='b'", "line 2: empty variable name"),
            ("export", "line 1: missing '='"),
            ("A='b'\nB='c\nD", "line 2: unclosed single quote"),
            ("A='b\0'", "line 1: environment variable value holds a zero byte"),
            (&long, "line 1: environment variable value exceeds maximum size of 32KB"),
        ] {
            assert_eq!(variable(text, "A").unwrap_err().to_string(), expected, "{text:?}");
        }
        assert_eq!(variable(&long, "B"), Ok(None), "what nobody asks for is no matter");
    }
}
