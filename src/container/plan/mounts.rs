//! Mounts of a `Spec` → steps.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::{PlanError, dev, text};
use crate::sys::step::{MountOption, Slot, Step};

pub(super) struct Mounts {
    /// Taken while the host's files are still there.
    pub sources: Vec<Step>,
    /// Taken inside the new root.
    pub inside: Vec<Step>,
    pub slots: usize,
}

pub(super) fn steps(spec: &Spec) -> Result<Mounts, PlanError> {
    let mut mounts = Mounts { sources: Vec::new(), inside: Vec::new(), slots: 0 };
    for mount in spec.mounts().iter().flatten() {
        if mount.destination() == Path::new("/") {
            return Err(PlanError::MountOnRoot);
        }
        match options(mount)? {
            Options { bind: Some(recursive), attributes, attributes_recursive, data } => {
                if let Some(option) = data.first() {
                    return Err(unsupported(mount, option));
                }
                mounts.bind(mount, recursive, attributes, attributes_recursive)?;
            }
            Options { bind: None, attributes, data, .. } => {
                mounts.file_system(spec, mount, attributes, &data)?
            }
        }
    }
    Ok(mounts)
}

impl Mounts {
    fn next_slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    fn bind(
        &mut self,
        mount: &Mount,
        recursive: bool,
        attributes: u64,
        attributes_recursive: bool,
    ) -> Result<(), PlanError> {
        let slot = self.next_slot();
        let source = mount.source().as_deref().ok_or(PlanError::Missing("source of a bind mount"))?;
        let source = text::absolute("the source of a mount", source)?;
        let at = text::absolute("mount point", mount.destination())?;
        self.sources.push(Step::OpenSource { source: source.clone(), recursive, slot });
        self.inside.push(Step::Bind { slot, source, at, attributes, recursive: attributes_recursive });
        Ok(())
    }

    fn file_system(
        &mut self,
        spec: &Spec,
        mount: &Mount,
        attributes: u64,
        data: &[&str],
    ) -> Result<(), PlanError> {
        let kind = match mount.typ().as_deref().ok_or(PlanError::Missing("type of a mount"))? {
            // OCI's word for whatever cgroups the host has; we only ever have the unified ones.
            "cgroup" => "cgroup2",
            kind => kind,
        };
        let is_dev = mount.destination() == Path::new("/dev");
        let slot = is_dev.then(|| self.next_slot());
        self.inside.push(Step::Mount {
            kind: text::c_string("type of a mount", kind)?,
            options: data.iter().map(|option| mount_option(option)).collect::<Result<_, _>>()?,
            attributes,
            at: text::absolute("mount point", mount.destination())?,
            slot,
        });
        if let Some(slot) = slot {
            self.inside.extend(dev::steps(spec, slot)?);
        }
        Ok(())
    }
}

fn mount_option(option: &str) -> Result<MountOption, PlanError> {
    let c_string = |text| text::c_string("mount option", text);
    Ok(match option.split_once('=') {
        Some((name, value)) => MountOption::Value(c_string(name)?, c_string(value)?),
        None => MountOption::Flag(c_string(option)?),
    })
}

/// The options of one mount, sorted by who understands them.
struct Options<'a> {
    /// Whether it is a bind mount, and then whether of all that is mounted below.
    bind: Option<bool>,
    attributes: u64,
    /// `rro`: the attributes go for what is mounted below too.
    attributes_recursive: bool,
    /// The file system's own.
    data: Vec<&'a str>,
}

/// The kernel's `MOUNT_ATTR_*`.
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;

fn options(mount: &Mount) -> Result<Options<'_>, PlanError> {
    let is_bind = mount.typ().as_deref() == Some("bind");
    let mut options = Options {
        bind: is_bind.then_some(false),
        attributes: 0,
        attributes_recursive: false,
        data: Vec::new(),
    };
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "bind" => options.bind = Some(options.bind.unwrap_or(false)),
            "rbind" => options.bind = Some(true),
            "ro" => options.attributes |= RDONLY,
            "rro" => {
                options.attributes |= RDONLY;
                options.attributes_recursive = true;
            }
            "nosuid" => options.attributes |= NOSUID,
            "nodev" => options.attributes |= NODEV,
            "noexec" => options.attributes |= NOEXEC,
            "noatime" => options.attributes |= NOATIME,
            "strictatime" => options.attributes |= STRICTATIME,
            "nodiratime" => options.attributes |= NODIRATIME,
            // What a new mount is anyway; the child's mounts are private already.
            "rw" | "relatime" | "suid" | "dev" | "exec" | "private" | "rprivate" => {}
            "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                return Err(unsupported(mount, option));
            }
            other => options.data.push(other),
        }
    }
    Ok(options)
}

fn unsupported(mount: &Mount, option: &str) -> PlanError {
    PlanError::MountOption { at: mount.destination().clone(), option: option.to_owned() }
}
