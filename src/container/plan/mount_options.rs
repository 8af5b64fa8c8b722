//! The options of one mount, sorted by who understands them (OCI runtime specification, "Linux mount options").

use oci_spec::runtime::Mount;

use super::PlanError;
use crate::sys::step::{MountChange, Propagation, PropagationKind};

#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    /// Whether it is a bind mount, and then whether of all that is mounted below.
    pub bind: Option<bool>,
    /// Changes a mount that is there.
    pub remount: bool,
    pub change: MountChange,
    /// Owners are shown by the maps of a user namespace, and then whether also in what is mounted below.
    pub map: Option<bool>,
    pub copy_up: bool,
    /// The file system's own.
    pub data: Vec<&'a str>,
}

/// The kernel's `MOUNT_ATTR_*`.
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x0020_0000;
/// relatime is 0 in this mask: it is had by clearing the others.
const ACCESS_TIMES: u64 = 0x70;

/// Set, and cleared.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ACCESS_TIMES),
        "strictatime" => (STRICTATIME, ACCESS_TIMES),
        "atime" | "relatime" | "norelatime" | "nostrictatime" => (0, ACCESS_TIMES),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<Propagation> {
    let (kind, recursive) = match option {
        "private" => (PropagationKind::Private, false),
        "rprivate" => (PropagationKind::Private, true),
        "slave" => (PropagationKind::Slave, false),
        "rslave" => (PropagationKind::Slave, true),
        "shared" => (PropagationKind::Shared, false),
        "rshared" => (PropagationKind::Shared, true),
        "unbindable" => (PropagationKind::Unbindable, false),
        "runbindable" => (PropagationKind::Unbindable, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// `rro`, `rnosuid` and so on: for what is mounted below too.
fn recursive_attribute(option: &str) -> Option<(u64, u64)> {
    option.strip_prefix('r').and_then(attribute)
}

pub(super) fn sort(mount: &Mount) -> Result<Options<'_>, PlanError> {
    let is_bind = mount.typ().as_deref() == Some("bind");
    let mut options = Options { bind: is_bind.then_some(false), ..Options::default() };
    for option in mount.options().iter().flatten() {
        options.take(option);
    }
    let of_a_bind = options.bind.is_some() || options.remount;
    let refused = options.data.iter().find(|option| match **option {
        // What only a new file system could have: the kernel ignores it too.
        "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" => false,
        // Flags of mount(2) of which fsconfig(2) knows nothing.
        "silent" | "iversion" | "noiversion" => true,
        _ => of_a_bind,
    });
    match refused {
        None => Ok(options),
        Some(option) => {
            Err(PlanError::MountOption { at: mount.destination().clone(), option: (*option).to_owned() })
        }
    }
}

impl<'a> Options<'a> {
    fn take(&mut self, option: &'a str) {
        if let Some((set, clear)) = attribute(option) {
            // The last word counts.
            self.change.set = self.change.set & !clear | set;
            self.change.clear = self.change.clear & !set | clear;
        } else if let Some(propagation) = propagation(option) {
            self.change.propagation.push(propagation);
        } else if let Some((set, clear)) = recursive_attribute(option) {
            self.change.recursive_set = self.change.recursive_set & !clear | set;
            self.change.recursive_clear = self.change.recursive_clear & !set | clear;
        } else {
            match option {
                // The kernel is loud unless it is told not to be.
                "" | "defaults" | "loud" => {}
                "bind" => self.bind = Some(self.bind.unwrap_or(false)),
                "rbind" => self.bind = Some(true),
                "remount" => self.remount = true,
                "idmap" => self.map = Some(self.map.unwrap_or(false)),
                "ridmap" => self.map = Some(true),
                "tmpcopyup" => self.copy_up = true,
                other => self.data.push(other),
            }
        }
    }
}
