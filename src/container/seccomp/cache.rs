//! What is made once and used by many containers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_spec::runtime::LinuxSeccomp;

use super::error::SeccompError;
use super::program::Program;

/// How many profiles, and how many programs, are kept: far more than a node has.
pub(super) const KEPT: usize = 64;

/// Default profiles by the capabilities that make a difference.
pub(super) struct Defaults(Mutex<BTreeMap<u64, Arc<LinuxSeccomp>>>);

/// The oldest first.
type Kept<K> = Mutex<Vec<(K, Arc<Program>)>>;

/// Programs by their profiles.
pub(super) struct Programs(Kept<Arc<LinuxSeccomp>>);

/// Programs by the text of the file that their profile was read from.
pub(super) struct OfFiles(Kept<Box<[u8]>>);

impl Defaults {
    pub(super) const fn new() -> Defaults {
        Defaults(Mutex::new(BTreeMap::new()))
    }

    pub(super) fn get_or_make(&self, key: u64, make: impl FnOnce() -> LinuxSeccomp) -> Arc<LinuxSeccomp> {
        let mut kept = lock(&self.0);
        if kept.len() == KEPT && !kept.contains_key(&key) {
            kept.clear();
        }
        Arc::clone(kept.entry(key).or_insert_with(|| Arc::new(make())))
    }
}

impl Programs {
    pub(super) const fn new() -> Programs {
        Programs(Mutex::new(Vec::new()))
    }

    /// The program of `profile`. `own` makes the copy that is kept with a new program; one that is kept
    /// already is found by its address, any other by comparing (which ends at the first difference, mostly
    /// the number of rules).
    pub(super) fn get_or_compile(
        &self,
        profile: &LinuxSeccomp,
        own: impl FnOnce() -> Arc<LinuxSeccomp>,
        compile: impl FnOnce() -> Result<Program, SeccompError>,
    ) -> Result<Arc<Program>, SeccompError> {
        // The lock is held while one compiles, so that nobody compiles the same.
        let mut kept = lock(&self.0);
        let same = |known: &&(Arc<LinuxSeccomp>, _)| std::ptr::eq(&*known.0, profile);
        let equal = |known: &&(Arc<LinuxSeccomp>, _)| *known.0 == *profile;
        if let Some((_, program)) = kept.iter().find(same).or_else(|| kept.iter().find(equal)) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(compile()?);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((own(), Arc::clone(&program)));
        Ok(program)
    }
}

impl OfFiles {
    pub(super) const fn new() -> OfFiles {
        OfFiles(Mutex::new(Vec::new()))
    }

    /// By the whole text, which takes a microsecond or two: a time of change is coarser than two changes can follow each other.
    pub(super) fn get_or_compile(
        &self,
        text: &[u8],
        compile: impl FnOnce() -> Result<Program, SeccompError>,
    ) -> Result<Arc<Program>, SeccompError> {
        let mut kept = lock(&self.0);
        if let Some((_, program)) = kept.iter().find(|(known, _)| **known == *text) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(compile()?);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((text.into(), Arc::clone(&program)));
        Ok(program)
    }
}

/// A panic while a lock is held leaves what it guards whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
