//! An age file as text: PEM in its strict form (RFC 7468, figure 3). Only white space may stand around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::header::Malformed;

pub const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Letters of every line but the last one.
const COLUMNS: usize = 64;

/// With a line break at the end of each line.
pub fn armored(file: &[u8]) -> String {
    let letters = STANDARD.encode(file);
    let mut text = format!("{BEGIN}\n");
    let mut rest = letters.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(COLUMNS));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend([END, "\n"]);
    text
}

/// The file. `text` begins with [`BEGIN`] or white space.
pub fn dearmored(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Armor)?.trim_ascii();
    let body = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(Malformed::Armor)?;
    // Behind the first line, and before the last one.
    let body = body.strip_suffix('\n').ok_or(Malformed::Armor)?;
    let mut lines = body.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next() != Some("") {
        return Err(Malformed::Armor);
    }
    let mut letters = String::with_capacity(body.len());
    for line in lines {
        // Only the last one is shorter, and none is empty.
        if line.is_empty() || line.len() > COLUMNS || !letters.len().is_multiple_of(COLUMNS) {
            return Err(Malformed::Armor);
        }
        letters.push_str(line);
    }
    STANDARD.decode(letters).map_err(|_| Malformed::Armor)
}
