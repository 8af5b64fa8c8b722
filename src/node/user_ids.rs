//! Which ids of the host a Pod in its own user namespace has: handed out once, kept on disk until the Pod is gone.
//!
//! As the kubelet (`K/userns/userns_manager.go`): ranges of one size from 65536 on, a free one at random, so that what one
//! Pod leaves on a volume is unlikely to belong to another one later.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::rand::{GetRandomFlags, getrandom};

use super::folders::Folders;
use super::state::{Durability, save};
use crate::container::IdRange;
use crate::manifest::{Pod, Uid};
use crate::order;

/// Below it are the host's own users.
const FIRST: u64 = 65_536;
/// The last id of all means "no change" to the kernel, so the range that would hold it is never handed out.
const END: u64 = u32::MAX as u64;
const FILE: &str = "userns";

/// One Pod after the other: two must not find the same range free.
static CLAIMING: Mutex<()> = Mutex::new(());

/// The Pod's range; a new one, on disk before it is used, if it has none. Its folder must be there.
///
/// # Errors
/// When no range is free, or a file cannot be read or written.
pub fn claim(folders: &Folders, uid: &Uid, size: u32) -> Result<IdRange> {
    let _one = CLAIMING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(range) = read(&folders.pod(uid))? {
        return Ok(range);
    }
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty()).context("choose a range of ids")?;
    let Some(range) = choose(&taken(folders)?, size, u64::from_ne_bytes(random)) else {
        bail!("all ranges of {size} ids for user namespaces are in use");
    };
    save(&folders.pod(uid).join(FILE), &range, Durability::Disk)?;
    Ok(range)
}

/// The range of a Pod that was prepared; `None` if it has the host's users.
///
/// # Errors
/// When it has none, and should.
pub fn of(folders: &Folders, pod: &Pod) -> Result<Option<IdRange>> {
    (!pod.host_users).then(|| claimed(folders, &pod.uid)).transpose()
}

fn claimed(folders: &Folders, uid: &Uid) -> Result<IdRange> {
    read(&folders.pod(uid))?.context("the Pod has no range of ids for its user namespace")
}

fn read(pod: &Path) -> Result<Option<IdRange>> {
    let path = pod.join(FILE);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| format!("read {}", path.display()))?;
            let range = serde_json::from_slice(&text);
            range.map(Some).with_context(|| format!("read {}", path.display()))
        }
    }
}

fn taken(folders: &Folders) -> Result<Vec<IdRange>> {
    let pods = folders.pods();
    let entries = fs::read_dir(&pods).with_context(|| format!("list {}", pods.display()))?;
    let mut taken = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", pods.display()))?;
        taken.extend(read(&entry.path())?);
    }
    Ok(taken)
}

/// A free range, looked for from a random one on.
fn choose(taken: &[IdRange], size: u32, random: u64) -> Option<IdRange> {
    let size = u64::from(size);
    let count = (END - FIRST) / size;
    // The size may have been another one when a range was handed out.
    let used = order::set(taken.iter().flat_map(|range| {
        let (first, last) = (u64::from(range.first), u64::from(range.first) + u64::from(range.size) - 1);
        (first.saturating_sub(FIRST) / size)..=(last.saturating_sub(FIRST) / size)
    }));
    let slot = (0..count).map(|step| (random % count + step) % count).find(|slot| !used.contains(slot))?;
    Some(IdRange { first: u32::try_from(FIRST + slot * size).ok()?, size: u32::try_from(size).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_handed_out_once_and_never_reaches_the_last_id() {
        let size = 1 << 30;
        let mut taken: Vec<IdRange> = Vec::new();
        while let Some(range) = choose(&taken, size, 2) {
            assert!(range.first >= 65_536 && u64::from(range.first) + u64::from(size) <= END);
            assert!(taken.iter().all(|other| other.first.abs_diff(range.first) >= size));
            taken.push(range);
        }
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn a_range_of_another_size_is_not_given_a_second_time() {
        let taken = [IdRange { first: 65_536 + 65_536, size: 65_536 }];
        let range = choose(&taken, 131_072, 0).unwrap();
        assert!(range.first >= 65_536 + 131_072, "{range:?}");
    }

    #[test]
    fn a_pod_keeps_its_range() {
        let dir = tempfile::tempdir().unwrap();
        let folders =
            Folders { root: dir.path().into(), run: dir.path().join("run"), logs: dir.path().join("logs") };
        let uid = |digit: char| Uid::parse(&digit.to_string().repeat(32)).unwrap();
        for digit in ['a', 'b'] {
            fs::create_dir_all(folders.pod(&uid(digit))).unwrap();
        }
        let first = claim(&folders, &uid('a'), 65_536).unwrap();
        assert_eq!(claim(&folders, &uid('a'), 65_536).unwrap(), first);
        assert_eq!(claimed(&folders, &uid('a')).unwrap(), first);
        assert_ne!(claim(&folders, &uid('b'), 65_536).unwrap(), first);
    }
}
