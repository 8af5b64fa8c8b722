//! User namespaces, made from mappings of ids.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxIdMappingBuilder, Mount};

use super::make::{Held, NamespaceError};

/// Which ids of a user namespace are which outside, as `/proc/PID/uid_map` and `gid_map` take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mappings {
    pub uids: Vec<LinuxIdMapping>,
    pub gids: Vec<LinuxIdMapping>,
}

/// Why there is no user namespace of these mappings.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    #[error("a user namespace needs mappings of both user and group ids")]
    Incomplete,
    #[error("write {map} `{lines}`: {cause}")]
    Write { map: &'static str, lines: String, cause: io::Error },
    #[error(transparent)]
    Make(#[from] NamespaceError),
}

impl Mappings {
    pub(super) fn of_spec(linux: &Linux) -> Mappings {
        Mappings {
            uids: linux.uid_mappings().clone().unwrap_or_default(),
            gids: linux.gid_mappings().clone().unwrap_or_default(),
        }
    }

    /// `None` for a mount that shows owners as they are, or by the container's own maps.
    pub(super) fn of_mount(mount: &Mount) -> Option<Mappings> {
        match (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref()) {
            (None | Some([]), None | Some([])) => None,
            (uids, gids) => Some(Mappings {
                uids: uids.unwrap_or_default().into(),
                gids: gids.unwrap_or_default().into(),
            }),
        }
    }

    /// `size` ids from 0 on are those from `host` on outside, of users and groups alike.
    pub fn range(host: u32, size: u32) -> Mappings {
        let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(host).size(size).build();
        // All three are given, which is all that it could miss.
        let mapping = mapping.unwrap_or_default();
        Mappings { uids: vec![mapping], gids: vec![mapping] }
    }

    /// Gives a process that has just been made in a user namespace its maps.
    pub(super) fn write(&self, pid: u32) -> Result<(), MappingError> {
        if self.uids.is_empty() || self.gids.is_empty() {
            return Err(MappingError::Incomplete);
        }
        for (map, mappings) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let lines = lines(mappings);
            fs::write(format!("/proc/{pid}/{map}"), &lines).map_err(|cause| MappingError::Write {
                map,
                lines: lines.trim_end().to_owned(),
                cause,
            })?;
        }
        Ok(())
    }
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut lines, mapping| {
        // Writing into a string cannot fail.
        let _ = writeln!(lines, "{} {} {}", mapping.container_id(), mapping.host_id(), mapping.size());
        lines
    })
}

/// A user namespace with nobody in it.
///
/// # Errors
/// When the kernel refuses the mappings, or user namespaces at all (`user.max_user_namespaces`).
pub fn user_namespace(mappings: &Mappings) -> Result<OwnedFd, MappingError> {
    let held = Held::start(libc::CLONE_NEWUSER as u64, Vec::new())?;
    mappings.write(held.pid())?;
    Ok(held.open("user")?)
}
