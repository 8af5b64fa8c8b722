//! The node's own key: what is saved of Secrets under it tells nobody anything who has not got the key as well.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::hmac;
use rustix::rand::GetRandomFlags;

use super::state::{self, Durability, Error, error};
use super::worker::{Done, Worker};

/// Bytes of the key.
const LENGTH: usize = 32;

const NO_KEY: &str = "no Pod is restarted for a change of what it uses";

#[derive(Clone, Debug)]
pub struct NodeKey(hmac::Key);

/// Whether there is one.
#[derive(Debug)]
pub enum KeyState {
    /// Not looked for yet, or not to be had.
    Unknown,
    /// Made, and not yet on the disk.
    Making,
    Known(NodeKey),
}

impl NodeKey {
    fn new(bytes: &[u8; LENGTH]) -> NodeKey {
        NodeKey(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(hmac::Context::with_key(&self.0))
    }
}

/// HMAC-SHA256 of parts, one behind the other.
pub struct Fingerprint(hmac::Context);

impl Fingerprint {
    pub fn add(&mut self, part: &[u8]) {
        // Where one part ends and the next one begins counts as well.
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    pub fn in_hex(self) -> String {
        self.0.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Worker {
    /// The key, made when it is first needed. `None` while it is on its way to the disk ([`key_made`](Self::key_made) follows), and
    /// if there is one that cannot be read, which was said.
    pub fn node_key(&mut self) -> Option<NodeKey> {
        if let KeyState::Unknown = self.node_key {
            match self.read_or_make_key() {
                Ok(state) => self.node_key = state,
                Err(error) => log::error!("{NO_KEY}: {error}"),
            }
        }
        match &self.node_key {
            KeyState::Known(key) => Some(key.clone()),
            KeyState::Unknown | KeyState::Making => None,
        }
    }

    /// It is on the disk now, or could not be written: then it is made again when it is next needed.
    pub fn key_made(&mut self, result: Result<NodeKey, String>) {
        match result {
            Ok(key) => {
                self.node_key = KeyState::Known(key);
                self.tell_of_objects();
            }
            Err(message) => {
                self.node_key = KeyState::Unknown;
                log::error!("{NO_KEY}: {message}");
            }
        }
    }

    fn read_or_make_key(&mut self) -> Result<KeyState, Error> {
        let path = self.options.folders.node_key();
        match fs::read(&path) {
            Ok(bytes) => match <[u8; LENGTH]>::try_from(bytes) {
                Ok(bytes) => Ok(KeyState::Known(NodeKey::new(&bytes))),
                Err(bytes) => {
                    let message = format!("{} bytes instead of {LENGTH}", bytes.len());
                    Err(error("read", &path)(io::Error::other(message)))
                }
            },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; LENGTH];
                rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
                    .map_err(|errno| error("make", &path)(errno.into()))?;
                // Nothing is told apart by a key that the next worker may not find.
                self.disk.add(move || {
                    let written = write(&path, &bytes).map(|()| NodeKey::new(&bytes));
                    Done::KeyMade(written.map_err(|error| error.to_string()))
                });
                Ok(KeyState::Making)
            }
            Err(cause) => Err(error("read", &path)(cause)),
        }
    }
}

/// Whole or absent, and for root's eyes only.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = state::aside(path);
    match fs::remove_file(&aside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(error("write", &aside)(cause)),
        _ => {}
    }
    state::save_bytes(path, bytes, OpenOptions::new().create_new(true).mode(0o400), Durability::Disk)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn print(key: u8, parts: &[&str]) -> String {
        let mut print = NodeKey::new(&[key; LENGTH]).fingerprint();
        parts.iter().for_each(|part| print.add(part.as_bytes()));
        print.in_hex()
    }

    #[test]
    fn another_key_and_other_parts_make_another_fingerprint() {
        assert_eq!(print(1, &["a", "b"]), print(1, &["a", "b"]));
        for (key, parts) in [(2, &["a", "b"] as &[&str]), (1, &["ab"]), (1, &["", "ab"]), (1, &["b", "a"])] {
            assert_ne!(print(key, parts), print(1, &["a", "b"]), "{key} {parts:?}");
        }
        assert_eq!(print(1, &[]).len(), 64);
    }

    #[test]
    fn the_key_is_for_root_alone_and_what_was_left_of_another_try_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        fs::write(dir.path().join("node.tmp"), "half").unwrap();
        write(&path, &[7; LENGTH]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; LENGTH]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
