//! Headers that a person configures, and which can be sent.

use std::fmt;

/// Headers by name. Their values may be secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    all: Vec<(String, String)>,
}

/// What cannot be sent as a header. Does not hold the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    #[error("{0:?} cannot be the name of a header")]
    Name(String),
    #[error("a value of {0} has characters that a header cannot have")]
    Value(String),
}

impl Headers {
    /// Adds one; a name may come more than once.
    ///
    /// # Errors
    /// When RFC 9110 does not allow its name, or its value outside of visible ASCII, spaces and tabs.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        check(name, value)?;
        self.all.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.all.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    /// Name and value of each, in the order of their coming.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Whether both can be sent as they are (RFC 9110, sections 5.1 and 5.5; of values, visible ASCII, spaces and tabs).
pub(super) fn check(name: &str, value: &str) -> Result<(), InvalidHeader> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(InvalidHeader::Name(name.to_owned()));
    }
    let is_value = |byte| byte == b'\t' || (b' '..=b'~').contains(&byte);
    if value.bytes().all(is_value) { Ok(()) } else { Err(InvalidHeader::Value(name.to_owned())) }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown() {
        let mut headers = Headers::default();
        headers.add("X-Token", "secret").unwrap();
        assert_eq!(format!("{headers:?}"), r#"["X-Token"]"#);
        let error = headers.add("X-Token", "secret\r\nX-Other: 1").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert!(headers.add("X Token", "1").is_err());
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("X-Token", "secret")]);
        assert!(headers.contains("x-token") && !headers.contains("x"));
    }
}
