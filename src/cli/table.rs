//! Columns as `kubectl` prints them: as wide as their widest cell, three spaces between them.

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Timestamp;

/// Prints a header and rows of as many cells. The last column is never padded.
pub fn print<const N: usize>(header: [&str; N], rows: &[[String; N]], mut out: impl Write) -> io::Result<()> {
    let rows: Vec<[Cow<'_, str>; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut line = |cells: [&str; N]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("   ").trim_end())
    };
    line(header)?;
    for row in &rows {
        line(row.each_ref().map(|cell| &**cell))?;
    }
    Ok(())
}

/// What a container or an image has written commands no terminal (CVE-2021-25743), and stays in its line.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// An age as `kubectl` shows it: `12s`, `4m5s`, `3h12m`, `2d3h`, `40d`.
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if !hours.is_multiple_of(24) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// How long ago that was.
pub fn since(at: Timestamp, now: Timestamp) -> String {
    age(now.as_second().saturating_sub(at.as_second()).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let shown: Vec<String> =
            [5, 119, 125, 180, 3600, 11_000, 90_000, 200_000, 9_000_000].map(age).to_vec();
        assert_eq!(shown, ["5s", "119s", "2m5s", "3m", "60m", "3h3m", "25h", "2d7h", "104d"]);
    }

    #[test]
    fn nobodys_message_commands_the_terminal() {
        let mut out = Vec::new();
        let row = ["\u{1b}]0;x\u{7}\u{9b}2J".to_owned(), "a\nb\rc\tä".to_owned()];
        print(["N", "WHAT"], &[row], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\\u{1b}]0;x\\u{7}\\u{9b}2J   a\\nb\\rc\\tä\n"), "{text}");
    }

    #[test]
    fn columns_line_up() {
        let mut out = Vec::new();
        let rows = [["a".to_owned(), "long one".to_owned()], ["bcde".to_owned(), "x".to_owned()]];
        print(["N", "WHAT"], &rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "N      WHAT\na      long one\nbcde   x\n");
    }
}
