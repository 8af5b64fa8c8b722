//! A container's name: it becomes a directory and a cgroup, so only what is safe as both is one.

use std::fmt;
use std::str::FromStr;

/// `[a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*`, at most 255 bytes: never `.`, `..`, empty or a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// Why a text is no container's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "invalid container ID {0:?}: it consists of up to 255 letters, digits and `_+.-`, and does not begin with a dot"
)]
pub struct InvalidId(String);

/// `NAME_MAX` of Linux.
const LONGEST: usize = 255;

impl FromStr for ContainerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<ContainerId, InvalidId> {
        let first = |c: u8| c.is_ascii_alphanumeric() || b"_+-".contains(&c);
        let sound = match text.as_bytes() {
            [] => false,
            [head, tail @ ..] => {
                text.len() <= LONGEST && first(*head) && tail.iter().all(|c| first(*c) || *c == b'.')
            }
        };
        if sound { Ok(ContainerId(text.to_owned())) } else { Err(InvalidId(text.to_owned())) }
    }
}

impl ContainerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_a_file() {
        for sound in ["a", "web-1", "+x", "-d", "_", "a..b", "0.9", &"x".repeat(255)] {
            assert_eq!(ContainerId::from_str(sound).unwrap().as_str(), sound);
        }
        for wrong in ["", ".", "..", ".a", "a/b", "/", "a b", "ä", "a\0", "a\n", &"x".repeat(256)] {
            assert!(ContainerId::from_str(wrong).is_err(), "{wrong:?}");
        }
    }
}
