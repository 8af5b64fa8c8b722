//! The node's own key: what is saved of Secrets under it tells nobody anything who has not got the key as well.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::hmac;
use rustix::rand::GetRandomFlags;

use super::state::{Error, error, sync_parent};
use super::worker::{Done, Worker};

/// Bytes of the key.
const LENGTH: usize = 32;

#[derive(Clone)]
pub struct NodeKey(hmac::Key);

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
    /// The key, made when it is first needed. `None` if there is one that cannot be read, which was said.
    pub fn node_key(&mut self) -> Option<NodeKey> {
        if self.node_key.is_none() {
            match self.read_or_make_key() {
                Ok(key) => self.node_key = Some(key),
                Err(error) => log::error!("no Pod is restarted for a change of what it uses: {error}"),
            }
        }
        self.node_key.clone()
    }

    fn read_or_make_key(&mut self) -> Result<NodeKey, Error> {
        let path = self.options.folders.node_key();
        match fs::read(&path) {
            Ok(bytes) => match <[u8; LENGTH]>::try_from(bytes) {
                Ok(bytes) => Ok(NodeKey::new(&bytes)),
                Err(bytes) => {
                    let message = format!("{} bytes instead of {LENGTH}", bytes.len());
                    Err(error("read", &path)(io::Error::other(message)))
                }
            },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; LENGTH];
                rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
                    .map_err(|errno| error("make", &path)(errno.into()))?;
                // What is saved under it is in a tmpfs: a power cut before it is on the disk takes both.
                self.disk
                    .add(move || Done::Finished(write(&path, &bytes).map_err(|error| error.to_string())));
                Ok(NodeKey::new(&bytes))
            }
            Err(cause) => Err(error("read", &path)(cause)),
        }
    }
}

/// Whole or absent, and for root's eyes only.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = path.with_extension("tmp");
    match fs::remove_file(&aside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(error("write", &aside)(cause)),
        _ => {}
    }
    let made = File::options().write(true).create_new(true).mode(0o400).open(&aside);
    let mut file = made.map_err(error("write", &aside))?;
    file.write_all(bytes).and_then(|()| file.sync_data()).map_err(error("write", &aside))?;
    fs::rename(&aside, path).map_err(error("write", path))?;
    sync_parent(path)
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
