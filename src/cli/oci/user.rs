//! `UID[:GID]` as it is typed, strictly: what is parsed leniently beyond 31 bits became root elsewhere (CVE-2026-30892).

use std::str::FromStr;

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: Option<u32>,
}

/// Why a text is no user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no id: a decimal number up to 2147483647")]
pub struct InvalidId(String);

impl FromStr for User {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<User, InvalidId> {
        match text.split_once(':') {
            Some((uid, gid)) => Ok(User { uid: parse_id(uid)?, gid: Some(parse_id(gid)?) }),
            None => Ok(User { uid: parse_id(text)?, gid: None }),
        }
    }
}

/// Digits only: `u32` would also read `+1`.
pub fn parse_id(text: &str) -> Result<u32, InvalidId> {
    let invalid = || InvalidId(text.to_owned());
    if !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(invalid());
    }
    let id: u32 = text.parse().map_err(|_| invalid())?;
    if id > i32::MAX as u32 { Err(invalid()) } else { Ok(id) }
}
