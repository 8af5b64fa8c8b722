//! What oci-spec uses of the crate `regex`: one question about one field (`process.execCPUAffinity`), asked with one expression.
//!
//! The whole engine with its Unicode tables is 0.9 MB of the binary, regex-lite still some tens of kB. An expression that this does
//! not know is an error when it is made, so that another version of oci-spec cannot be answered wrongly.

#![forbid(unsafe_code)]

use std::fmt;

/// Numbers and ranges of numbers, separated by commas.
const CPU_LIST: &str = r"^(\d+(-\d+)?)(,\d+(-\d+)?)*$";

/// The one expression.
#[derive(Clone, Debug)]
pub struct Regex(());

/// It is another expression.
#[derive(Clone, Debug)]
pub struct Error(());

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("podkeep's stand-in for the crate regex knows one expression, and this is another")
    }
}

impl std::error::Error for Error {}

impl Regex {
    /// # Errors
    /// If it is not the expression that oci-spec 0.10 uses.
    pub fn new(expression: &str) -> Result<Regex, Error> {
        if expression == CPU_LIST { Ok(Regex(())) } else { Err(Error(())) }
    }

    /// Whether the whole text matches. `\d` is ASCII, as in Go, where the rule comes from.
    pub fn is_match(&self, text: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.split(',').all(|part| match part.split_once('-') {
            Some((first, last)) => is_number(first) && is_number(last),
            None => is_number(part),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_match_and_nothing_else_does() {
        let regex = Regex::new(CPU_LIST).unwrap();
        for text in ["0", "0-3", "0-3,7,10-11"] {
            assert!(regex.is_match(text), "{text}");
        }
        for text in ["", ",", "0-", "-3", "0,", "0-1-2", "a", "0 ", "٣"] {
            assert!(!regex.is_match(text), "{text}");
        }
        assert!(Regex::new("^a$").is_err());
    }
}
