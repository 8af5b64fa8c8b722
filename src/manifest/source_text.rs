//! The text of a file, to look up what stands at a place, and JSON made readable as YAML.

use std::borrow::Cow;

use super::tree::Place;

/// A file's text with the start of every line.
pub(crate) struct SourceText<'a> {
    text: Cow<'a, str>,
    line_starts: Vec<usize>,
}

impl<'a> SourceText<'a> {
    pub fn new(text: &'a str) -> SourceText<'a> {
        let text =
            if text.trim_start().starts_with(['{', '[']) { join_surrogates(text) } else { text.into() };
        let line_starts = line_starts(&text);
        SourceText { text, line_starts }
    }

    /// The text as the YAML parser shall read it.
    pub fn yaml(&self) -> &str {
        &self.text
    }

    /// Whether the scalar at `place` is plain: neither quoted nor a block nor tagged as a string.
    pub fn is_plain(&self, place: Place) -> bool {
        let start = self.line_starts.get(place.line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let mut rest = &self.text[start..];
        if let Some((offset, _)) = rest.char_indices().nth(place.column.saturating_sub(1)) {
            rest = &rest[offset..];
        }
        // A place before an anchor (`&name`) is the place of the anchor.
        while rest.starts_with('&') {
            rest = rest.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
        }
        !rest.starts_with(['"', '\'', '|', '>', '!'])
    }
}

/// Lines end where libyaml ends them, so that its places fit.
fn line_starts(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    let mut chars = text.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        let ends = match c {
            '\r' => chars.peek().is_none_or(|(_, next)| *next != '\n'),
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
            _ => false,
        };
        if ends {
            starts.push(chars.peek().map_or(text.len(), |(offset, _)| *offset));
        }
    }
    starts
}

/// JSON writes a character beyond 16 bits as a pair (`\ud83d\ude00`), which YAML refuses: write it as `\U0001f600`.
fn join_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\ud") && !json.contains("\\uD") {
        return json.into();
    }
    let mut joined = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(backslash) = rest.find('\\') {
        joined.push_str(&rest[..backslash]);
        rest = &rest[backslash..];
        let (replaced, length) = match surrogate_pair(rest) {
            Some(c) => (format!("\\U{:08x}", u32::from(c)), 12),
            // A backslash and what it escapes stay together: `\\ud83d` is no pair.
            None => {
                let length = rest.chars().take(2).map(char::len_utf8).sum();
                (rest[..length].to_owned(), length)
            }
        };
        joined.push_str(&replaced);
        rest = &rest[length..];
    }
    joined.push_str(rest);
    joined.into()
}

fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |from: usize| {
        let escape = text.get(from..from + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    char::decode_utf16([unit(0)?, unit(6)?]).next()?.ok().filter(|c| c.len_utf16() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogate_pairs_of_json_are_joined_and_nothing_else_is_touched() {
        let cases = [
            (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\U0001f600"}"#),
            (r#"{"a":"\\ud83d\\ude00"}"#, r#"{"a":"\\ud83d\\ude00"}"#),
            (r#"{"a":"\ud83d"}"#, r#"{"a":"\ud83d"}"#),
            (r#"{"a":"\ud83dé\"#, r#"{"a":"\ud83dé\"#),
        ];
        for (json, yaml) in cases {
            assert_eq!(join_surrogates(json), yaml);
        }
    }

    #[test]
    fn plain_scalars_are_told_from_quoted_ones() {
        let text = SourceText::new("é: yes\r\nb: \"yes\"\nc: &x 'yes'\nd: &y yes\ne: !!str yes");
        let places = [(1, 4, true), (2, 4, false), (3, 4, false), (4, 4, true), (5, 4, false)];
        for (line, column, plain) in places {
            assert_eq!(text.is_plain(Place { line, column }), plain, "{line}:{column}");
        }
    }
}
