//! The folder in `tmp` that a writer holds for as long as it lives.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::store::{Lock, names_in};
use super::{Digest, Error, Store};
use crate::sys::remove_tree::remove_tree;

/// A writer's own folder in `tmp`. Removed when it is dropped.
pub(super) struct WriterFolder {
    tmp: PathBuf,
    name: OsString,
    pub(super) path: PathBuf,
    /// Holds the `flock` that says that the writer lives.
    _alive: File,
}

/// Begins the name of a file in a writer's folder that says which layer of the store it relies on.
const PIN: &str = "pin-";

impl WriterFolder {
    /// The store's lock keeps those away who look for folders of the dead, until this one is held.
    pub(super) fn new(store: &Store, _: &Lock) -> Result<WriterFolder, Error> {
        let tmp = store.tmp_dir();
        for number in 0u32.. {
            let name = format!("{}-{number}", std::process::id());
            let path = tmp.join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(Error::io("create", &path))?,
            }
            let alive = File::open(&path).map_err(Error::io("open", &path))?;
            rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive)
                .map_err(Error::io("lock", &path))?;
            return Ok(WriterFolder { tmp: tmp.to_owned(), name: name.into(), path, _alive: alive });
        }
        unreachable!("a process has fewer writers than there are numbers")
    }

    /// A folder in `tmp` whose writer is dead; `None` if it lives. The caller holds the store's lock.
    pub(super) fn of_the_dead(store: &Store, _: &Lock, name: &OsStr) -> Result<Option<WriterFolder>, Error> {
        let path = store.tmp_dir().join(name);
        let alive = match File::open(&path) {
            // It has ended well meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", &path))?,
        };
        match rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(Error::io("lock", &path))?,
        }
        let (tmp, name) = (store.tmp_dir().to_owned(), name.to_owned());
        Ok(Some(WriterFolder { tmp, name, path, _alive: alive }))
    }

    /// Says that the store's layer is relied on. The caller holds the store's lock.
    pub(super) fn pin(&self, diff_id: &Digest) -> Result<(), Error> {
        let path = self.path.join(format!("{PIN}{}", diff_id.hex()));
        File::create(&path).map(drop).map_err(Error::io("create", &path))
    }
}

/// The layers that writers rely on, the dead too until the store is opened again.
pub(super) fn pins(store: &Store) -> Result<HashSet<Digest>, Error> {
    let mut pinned = HashSet::new();
    for writer in names_in(store.tmp_dir())? {
        // A writer may be gone by now, with its folder.
        let Ok(names) = names_in(&store.tmp_dir().join(writer)) else { continue };
        let hex = |name: &OsString| Some(format!("sha256:{}", name.to_str()?.strip_prefix(PIN)?));
        pinned.extend(names.iter().filter_map(hex).filter_map(|digest| digest.parse().ok()));
    }
    Ok(pinned)
}

impl Drop for WriterFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is opened again.
        if let Ok(tmp) = File::open(&self.tmp) {
            let _ = remove_tree(tmp.as_fd(), &self.name);
        }
    }
}
