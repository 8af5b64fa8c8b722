//! The name of a Pod's cgroup: one that a person can read in `/proc/PID/cgroup`.

use std::fmt;

use crate::manifest::{PodId, Uid};

/// A directory's name is at most 255 bytes (NAME_MAX).
const LONGEST: usize = 255;
/// Hex digits of the uid that tell a Pod from its successor of the same name.
const UID_DIGITS: usize = 8;

/// `<namespace>_<name>_<8 hex digits of the uid>`.
///
/// Kubernetes' names have no `_`, and a name with one is never that of an interface file of the kernel.
/// A Pod's name may have 253 bytes, its namespace 63: the name is cut where that would be too long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodCgroupName(String);

impl PodCgroupName {
    pub fn new(id: &PodId, uid: &Uid) -> PodCgroupName {
        let room = LONGEST.saturating_sub(id.namespace.len() + UID_DIGITS + 2);
        let name = &id.name[..id.name.floor_char_boundary(room)];
        PodCgroupName(format!("{}_{name}_{}", id.namespace, &uid.as_str()[..UID_DIGITS]))
    }

    /// Reads the name back from a directory of the tree; `None` if no Pod's cgroup is named so.
    pub(super) fn parse(directory: &str) -> Option<PodCgroupName> {
        let mut parts = directory.splitn(3, '_');
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex = uid.len() == UID_DIGITS && uid.bytes().all(|b| b.is_ascii_hexdigit());
        (!namespace.is_empty() && !name.is_empty() && is_hex).then(|| PodCgroupName(directory.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodCgroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(namespace: &str, pod: &str) -> PodCgroupName {
        let id = PodId { namespace: namespace.into(), name: pod.into() };
        PodCgroupName::new(&id, &Uid::parse("0123456789abcdef0123456789abcdef").unwrap())
    }

    #[test]
    fn a_name_can_be_read_and_read_back() {
        let name = name("default", "web-edge7");
        assert_eq!(name.as_str(), "default_web-edge7_01234567");
        assert_eq!(PodCgroupName::parse(name.as_str()), Some(name));
    }

    #[test]
    fn the_longest_names_fit_into_a_directory_entry() {
        let name = name(&"n".repeat(63), &"p".repeat(253));
        assert_eq!(name.as_str().len(), LONGEST);
        assert!(name.as_str().ends_with("p_01234567"));
    }

    #[test]
    fn what_is_no_pod_is_not_taken_for_one() {
        for text in
            ["node", "system.slice", "a_b", "a_b_0123456", "a_b_0123456g", "_b_01234567", "a_b_c_01234567"]
        {
            assert_eq!(PodCgroupName::parse(text), None, "{text}");
        }
    }
}
