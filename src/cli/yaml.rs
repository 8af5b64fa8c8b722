//! A JSON value as YAML, laid out as `kubectl get -o yaml` does.

use serde_json::Value;

/// Harmless to a terminal, and the same value to each YAML parser, whether of version 1.1 or 1.2.
pub fn of(value: &Value) -> String {
    let mut text = String::new();
    add(&mut text, value, 0);
    text
}

/// Adds a value and the end of its line. The line is at the place where the value begins; others begin at `indent`.
fn add(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (place, (key, value)) in fields.iter().enumerate() {
                if place > 0 {
                    pad(text, indent);
                }
                add_in_line(text, key);
                text.push(':');
                add_field(text, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    pad(text, indent);
                }
                text.push_str("- ");
                add(text, item, indent + 2);
            }
        }
        Value::String(string) if is_for_lines(string) => add_lines(text, string, indent),
        Value::String(string) => {
            add_in_line(text, string);
            text.push('\n');
        }
        // The rest is written as in JSON.
        _ => {
            text.push_str(&value.to_string());
            text.push('\n');
        }
    }
}

/// What stands behind a key; a list begins where the key does.
fn add_field(text: &mut String, value: &Value, indent: usize) {
    let (is_below, indent) = match value {
        Value::Array(items) => (!items.is_empty(), indent),
        Value::Object(fields) => (!fields.is_empty(), indent + 2),
        _ => (false, indent + 2),
    };
    if is_below {
        text.push('\n');
        pad(text, indent);
    } else {
        text.push(' ');
    }
    add(text, value, indent);
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// Whether it is read more easily as lines of its own: a script, say. How far they are indented is told by the first one.
fn is_for_lines(string: &str) -> bool {
    let is_shown = |letter: char| matches!(letter, '\n' | '\t') || !is_special(letter);
    string.contains('\n') && !string.starts_with([' ', '\t', '\n']) && string.chars().all(is_shown)
}

fn add_lines(text: &mut String, string: &str, indent: usize) {
    let body = string.trim_end_matches('\n');
    // What is to become of the line breaks at the end.
    text.push_str(match string.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        if !line.is_empty() {
            pad(text, indent);
        }
        text.push_str(line);
        text.push('\n');
    }
}

fn add_in_line(text: &mut String, string: &str) {
    if is_plain(string) {
        text.push_str(string);
        return;
    }
    text.push('"');
    for letter in string.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            _ if is_special(letter) => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => text.push(letter),
        }
    }
    text.push('"');
}

/// Commands a terminal, or is a line break or a mark to some parsers.
fn is_special(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Whether nobody can take it for anything but this string, without quotation marks.
fn is_plain(string: &str) -> bool {
    const OTHERS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_inside =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    string.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && string.bytes().all(is_inside)
        && !string.ends_with(':')
        && !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(string))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_looks_as_kubectl_prints_it() {
        let pod = json!({
            "kind": "Pod",
            "metadata": { "labels": {}, "name": "web" },
            "spec": {
                "containers": [
                    { "args": ["-c", "echo a\nexec b\n", "80"], "image": "nginx:1.27", "ports": [] },
                    { "name": "true", "stdin": true, "nice": [[1, -2], []] },
                ],
            },
        });
        let expected = "\
kind: Pod
metadata:
  labels: {}
  name: web
spec:
  containers:
  - args:
    - \"-c\"
    - |
      echo a
      exec b
    - \"80\"
    image: nginx:1.27
    ports: []
  - name: \"true\"
    nice:
    - - 1
      - -2
    - []
    stdin: true
";
        assert_eq!(of(&pod), expected);
    }

    #[test]
    fn what_a_container_wrote_commands_no_terminal() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        for string in [all.clone(), format!("a\n{all}"), "a\n\u{9b}2J".to_owned(), "\u{7f}".to_owned()] {
            let text = of(&json!({ "message": string }));
            assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
            assert_eq!(read(&text)["message"], string);
        }
    }

    fn read(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    fn value() -> impl Strategy<Value = Value> {
        let words =
            ["", "~", "NO", "0x1f", "1e3", "12:30", "2026-01-02", "- a", "a: b", "a #b", ".inf", "<<", "='"];
        let string = prop_oneof![
            prop::sample::select(words.to_vec()).prop_map(str::to_owned),
            "[ab \t\n:#'\"\\\\-]{0,12}",
            "\\PC{0,8}",
        ];
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            string.clone().prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 24, 4, move |inner| {
            let fields = prop::collection::btree_map(string.clone(), inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_read_as_the_same_value(value in value()) {
            let value = json!({ "it": value });
            let text = of(&value);
            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
