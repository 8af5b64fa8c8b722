//! Names of containers that become names of folders.

use std::fmt;
use std::str::FromStr;

/// A container's id: letters, digits, `_`, `+`, `-` and, not in front, `.`; at most 1024 bytes. So it is never `..` and
/// holds no slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// What is no id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id of a container: it may have letters, digits, _ + - and, not in front, dots")]
pub struct BadId(String);

impl FromStr for ContainerId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<ContainerId, BadId> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+-".contains(&b);
        let first = text.bytes().next().is_some_and(plain);
        if first && text.len() <= 1024 && text.bytes().all(|b| plain(b) || b == b'.') {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(BadId(text.escape_default().to_string()))
        }
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
    fn an_id_is_the_name_of_one_folder() {
        for good in ["a", "web-1", "_x", "+", "a..b", "0.1"] {
            assert_eq!(good.parse::<ContainerId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\n", &"x".repeat(1025)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
    }
}
