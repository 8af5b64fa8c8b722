//! The node's keys for what is sealed for it, as `age-keygen` writes them: made when they are first asked for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::age::{NotOpened, decrypt};
use super::x25519::{Identity, Recipient};

/// Others than the owner.
const OTHERS: u32 = 0o077;

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("this node has no key for sealed Secrets: {} is not there (`podkeep seal --public-key` makes one)", .0.display())]
    Missing(PathBuf),
    #[error("{doing} {}: {cause}", .path.display())]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
    /// What stands there is not shown.
    #[error("{}:{line}: neither a comment nor a key of age's own kind (AGE-SECRET-KEY-1…)", .path.display())]
    Line { path: PathBuf, line: usize },
    #[error("{} holds no key", .0.display())]
    Empty(PathBuf),
}

/// All keys of a file: any of them opens what is sealed, and the first one's recipient is the node's.
#[derive(Debug)]
pub struct Keys {
    first: Recipient,
    identities: Vec<Identity>,
    /// A sentence, if others than the owner may read the file.
    pub exposed: Option<String>,
}

impl Keys {
    pub fn recipient(&self) -> Recipient {
        self.first
    }

    /// What a file holds that is not in armor.
    pub fn open(&self, file: &[u8]) -> Result<Vec<u8>, NotOpened> {
        decrypt(file, &self.identities)
    }
}

/// The keys that are there.
pub fn read(path: &Path) -> Result<Keys, KeyError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
        _ => KeyError::Io { doing: "read", path: path.to_owned(), cause },
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    let mut identities = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            let wrong = || KeyError::Line { path: path.to_owned(), line: number + 1 };
            identities.push(Identity::parse(line).ok_or_else(wrong)?);
        }
    }
    let first = identities.first().ok_or_else(|| KeyError::Empty(path.to_owned()))?.recipient();
    // Whoever wanted to read it has read it: a Pod that does not start for that helps nobody.
    let exposed = (mode & OTHERS != 0).then(|| {
        let path = path.display();
        format!("{path} opens every sealed Secret, and others than its owner may read it (mode {mode:o}): chmod 400")
    });
    Ok(Keys { first, identities, exposed })
}

/// The keys that are there, or a new one, and whether it is new.
pub fn read_or_make(path: &Path) -> Result<(Keys, bool), KeyError> {
    match read(path) {
        Err(KeyError::Missing(_)) => {
            let made =
                make(path).map_err(|cause| KeyError::Io { doing: "make", path: path.to_owned(), cause })?;
            Ok((read(path)?, made))
        }
        keys => Ok((keys?, false)),
    }
}

/// Whole or absent, for its owner's eyes only, and never in the place of another: says whether it was made.
fn make(path: &Path) -> io::Result<bool> {
    let identity = Identity::generate()?;
    let (created, recipient) = (jiff::Timestamp::now(), identity.recipient());
    let text = format!("# created: {created:.0}\n# public key: {recipient}\n{}\n", identity.to_text());
    let folder = path.parent().unwrap_or(Path::new("."));
    // As `podkeep run` makes it.
    DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    // Two may make one at the same time.
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&aside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let renamed =
        written.and_then(|()| Ok(rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?));
    match renamed {
        Ok(()) => File::open(folder)?.sync_all().map(|()| true),
        Err(cause) => {
            // The first error is what is to be told.
            let _ = fs::remove_file(&aside);
            if cause.kind() == io::ErrorKind::AlreadyExists { Ok(false) } else { Err(cause) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;
    use crate::seal::encrypt;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root/seal.key");
        assert!(read(&path).unwrap_err().to_string().contains("seal.key is not there"));
        let (keys, made) = read_or_make(&path).unwrap();
        assert!(made && keys.exposed.is_none());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# created: 20"), "{text}");
        assert_eq!(text.lines().nth(1).unwrap(), format!("# public key: {}", keys.recipient()));
        let (again, made) = read_or_make(&path).unwrap();
        assert!(!made && again.recipient() == keys.recipient());
        assert!(!make(&path).unwrap(), "another was faster");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_file_may_hold_several_and_says_where_it_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let [old, new] = [(); 2].map(|()| Identity::generate().unwrap());
        fs::write(&path, format!("# new\n{}\n\n{}", new.to_text(), old.to_text())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        let keys = read(&path).unwrap();
        assert_eq!(keys.recipient(), new.recipient());
        assert!(keys.exposed.unwrap().ends_with("may read it (mode 440): chmod 400"));
        for identity in [&old, &new] {
            let sealed = encrypt(b"sesame", &[identity.recipient()]).unwrap();
            assert_eq!(read(&path).unwrap().open(&sealed).unwrap(), b"sesame");
        }
        let private = new.to_text();
        for (text, said) in [
            (format!("# new\n{private}x\n"), "seal.key:2: neither"),
            ("# nothing\n".to_owned(), "seal.key holds no key"),
        ] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, text).unwrap();
            let error = read_or_make(&path).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains(&private), "{error}");
        }
    }
}
