//! What is known of containers from one call to the next: a directory each.
//!
//! ```text
//! <root>/                 0700
//! └── <id>/               0700; making it takes the name
//!     ├── config.json     the bundle's, as it was when the container was created
//!     ├── state.json      whole or absent: absent means that there is no process yet
//!     └── start           a FIFO, there until the container is started; its process waits for a byte from it
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};

use super::id::ContainerId;
use super::state::Record;
use crate::order;
use crate::sys::remove_tree::remove_tree;

const STATE: &str = "state.json";
const ASIDE: &str = "state.json.new";
const CONFIG: &str = "config.json";
const START: &str = "start";

/// All containers of one `--root`.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: ContainerId,
    root: PathBuf,
    dir: PathBuf,
}

/// Held, nobody else starts or removes the container.
#[derive(Debug)]
#[must_use]
pub struct Lock(#[expect(dead_code, reason = "it is held, not read")] File);

impl Store {
    pub fn new(root: &Path) -> Store {
        Store { root: root.to_owned() }
    }

    /// Takes the name for a new container.
    ///
    /// # Errors
    /// When it is taken already.
    pub fn create(&self, id: &ContainerId) -> Result<Entry> {
        let entry = self.entry(id);
        let make = |path: &Path, recursive| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
        let made = match make(&entry.dir, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&self.root, true).with_context(|| format!("make {}", self.root.display()))?;
                make(&entry.dir, false)
            }
            made => made,
        };
        match made {
            Ok(()) => Ok(entry),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("container with id {id} exists already")
            }
            Err(error) => Err(error).with_context(|| format!("make {}", entry.dir.display())),
        }
    }

    /// `None` if there is no container of this name.
    pub fn find(&self, id: &ContainerId) -> Option<Entry> {
        let entry = self.entry(id);
        entry.dir.is_dir().then_some(entry)
    }

    /// As [`Store::find`].
    ///
    /// # Errors
    /// If there is none, in the words by which podman and containerd know that.
    pub fn expect(&self, id: &ContainerId) -> Result<Entry> {
        self.find(id).with_context(|| format!("container {id} does not exist"))
    }

    /// By name.
    ///
    /// # Errors
    /// When the directory cannot be listed; that it is not there is none.
    pub fn all(&self) -> Result<Vec<Entry>> {
        let listing = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.with_context(|| format!("list {}", self.root.display()))?,
        };
        let mut ids: Vec<ContainerId> =
            listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        order::sort(&mut ids);
        Ok(ids.iter().filter_map(|id| self.find(id)).collect())
    }

    fn entry(&self, id: &ContainerId) -> Entry {
        Entry { id: id.clone(), root: self.root.clone(), dir: self.root.join(id.as_str()) }
    }
}

impl Entry {
    /// `None` until the container's process is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record(&self) -> Result<Option<Record>> {
        let path = self.dir.join(STATE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display())).map(Some)
    }

    /// The record of a container that there is.
    ///
    /// # Errors
    /// As [`Entry::record`], and when it is not there yet.
    pub fn expect_record(&self) -> Result<Record> {
        self.record()?.with_context(|| format!("container {} is still being created", self.id))
    }

    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, record: &Record) -> Result<()> {
        self.prepare(record)?;
        self.publish()
    }

    /// Writes aside what [`Entry::publish`] puts into its place: that is done while the container's process has its own work.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prepare(&self, record: &Record) -> Result<()> {
        let aside = self.dir.join(ASIDE);
        let text = serde_json::to_vec(record).context("write the container's state as JSON")?;
        fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))
    }

    /// # Errors
    /// When nothing has been prepared.
    pub fn publish(&self) -> Result<()> {
        let path = self.dir.join(STATE);
        fs::rename(self.dir.join(ASIDE), &path).with_context(|| format!("replace {}", path.display()))
    }

    /// # Errors
    /// When it cannot be written.
    pub fn save_config(&self, text: &[u8]) -> Result<()> {
        let path = self.dir.join(CONFIG);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// The `Spec` that the container was created from.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        super::bundle::parse(&self.dir.join(CONFIG)).map(|(spec, ..)| spec)
    }

    /// Makes what the container's process waits at. Open for both ways, reading waits until somebody writes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make_start(&self) -> Result<OwnedFd> {
        let path = self.dir.join(START);
        let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
        made.with_context(|| format!("make {}", path.display()))?;
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        Ok(opened.with_context(|| format!("open {}", path.display()))?.into())
    }

    pub fn waits_for_start(&self) -> bool {
        self.dir.join(START).exists()
    }

    /// Lets the process go on to its program.
    ///
    /// # Errors
    /// When it is gone.
    pub fn give_start(&self) -> Result<()> {
        let path = self.dir.join(START);
        // Without waiting: with nobody to read, that is an error.
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let mut fifo = opened.with_context(|| format!("open {}", path.display()))?;
        fifo.write_all(&[0]).with_context(|| format!("write to {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// Waits until it can be had.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn lock(&self) -> Result<Lock> {
        let lock = || -> io::Result<File> {
            let dir = File::open(&self.dir)?;
            flock(&dir, FlockOperation::LockExclusive)?;
            // Somebody else may have removed it meanwhile, and even made another.
            fs::symlink_metadata(&self.dir).map(|_| dir)
        };
        match lock() {
            Ok(file) => Ok(Lock(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("container {} does not exist", self.id)
            }
            Err(error) => Err(error).with_context(|| format!("lock {}", self.dir.display())),
        }
    }

    /// Frees the name. The state goes first, so that half a container is none.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let removed = match fs::remove_file(self.dir.join(STATE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => File::open(&self.root)
                .and_then(|root| Ok(remove_tree(root.as_fd(), self.id.as_str().as_ref())?)),
        };
        removed.with_context(|| format!("remove {}", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_is_taken_once_and_freed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("deep/root"));
        let id: ContainerId = "web".parse().unwrap();
        assert!(store.find(&id).is_none() && store.all().unwrap().is_empty());
        let entry = store.create(&id).unwrap();
        assert_eq!(fs::metadata(&entry.dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(store.create(&id).unwrap_err().to_string().contains("exists already"));
        assert!(entry.record().unwrap().is_none());
        assert_eq!(store.all().unwrap().len(), 1);
        entry.remove().unwrap();
        assert!(store.expect(&id).unwrap_err().to_string().contains("does not exist"));
        assert!(entry.lock().unwrap_err().to_string().contains("does not exist"));
    }

    #[test]
    fn a_start_is_given_once_and_only_to_somebody() {
        let dir = tempfile::tempdir().unwrap();
        let entry = Store::new(dir.path()).create(&"web".parse().unwrap()).unwrap();
        let process = entry.make_start().unwrap();
        assert!(entry.waits_for_start());
        entry.give_start().unwrap();
        assert!(!entry.waits_for_start() && entry.give_start().is_err());
        let mut byte = [0u8; 8];
        assert_eq!(rustix::io::read(&process, &mut byte[..]).unwrap(), 1);
        drop(process);
        drop(entry.make_start().unwrap());
        assert!(entry.give_start().is_err(), "nobody waits");
    }
}
