//! Mounts of a `Spec` → steps.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::dev::{self, Device};
use super::mount_options::{self, Options};
use super::root::{ImageVolume, OpenedImage};
use super::{PlanError, duplicate, text};
use crate::container::namespaces::Namespaces;
use crate::container::sub_path::SubPath;
use crate::sys::step::{Below, Inherit, Mapping, MountOption, PropagationKind, Slot, Step};

pub(super) struct Mounts {
    /// The layers of images that are mounted as volumes, and where their steps expect them.
    pub images: Vec<OpenedImage>,
    /// Taken as the host's root, where a user namespace is joined: nobody in that may map the owners of the host's files.
    pub outside: Vec<Step>,
    /// Taken before the host's mounts are cut off: they stay the host's peers.
    pub shared_sources: Vec<Step>,
    /// Taken while the host's files are still there.
    pub sources: Vec<Step>,
    /// Taken below the new root.
    pub inside: Vec<Step>,
    /// Whether a mount wants to see what the host mounts later.
    pub wants_slave: bool,
    pub slots: usize,
}

/// What is mounted where the `Spec` names the source of a bind mount only.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub images: &'a [ImageVolume],
    pub sub_paths: &'a [SubPath],
}

pub(super) fn steps(
    spec: &Spec,
    namespaces: &Namespaces,
    in_user_namespace: bool,
    parts: Parts<'_>,
) -> Result<Mounts, PlanError> {
    let mut mounts = Mounts {
        images: Vec::new(),
        outside: Vec::new(),
        shared_sources: Vec::new(),
        sources: Vec::new(),
        inside: Vec::new(),
        wants_slave: false,
        slots: 0,
    };
    let is_dev = |mount: &Mount| mount.destination() == Path::new("/dev");
    let listed = spec.mounts().as_deref().unwrap_or_default();
    if !listed.iter().any(is_dev) {
        // The root's own.
        mounts.devices(spec, in_user_namespace)?;
    }
    for (index, mount) in listed.iter().enumerate() {
        if mount.destination() == Path::new("/") {
            return Err(PlanError::MountOnRoot);
        }
        let options = mount_options::sort(mount)?;
        let is_bind = options.bind.is_some();
        if options.remount {
            let at = text::absolute("mount point", mount.destination())?;
            mounts.inside.push(Step::Remount { at, change: options.change });
            continue;
        }
        match options.bind {
            Some(recursive) => {
                let at = mount.destination();
                let part = parts.sub_paths.iter().find(|part| part.destination == *at);
                match parts.images.iter().find(|volume| volume.destination == *at) {
                    Some(volume) => mounts.image(mount, options, volume, part)?,
                    None => mounts.bind(index, mount, options, recursive, namespaces, part)?,
                }
            }
            None => mounts.file_system(spec, mount, options)?,
        }
        if is_dev(mount) && !is_bind {
            mounts.devices(spec, in_user_namespace)?;
        }
    }
    // Over what is mounted, wherever they lie.
    for (directory, device) in dev::elsewhere(spec)? {
        let slot = mounts.next_slot();
        mounts.inside.push(Step::OpenDirectory { at: directory, slot });
        mounts.device(slot, device, in_user_namespace);
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
        index: usize,
        mount: &Mount,
        options: Options<'_>,
        recursive: bool,
        namespaces: &Namespaces,
        part: Option<&SubPath>,
    ) -> Result<(), PlanError> {
        let slot = self.next_slot();
        let source = mount.source().as_deref().ok_or(PlanError::Missing("source of a bind mount"))?;
        let opened = text::absolute("the source of a mount", part.map_or(source, |part| &part.volume))?;
        let source = text::absolute("the source of a mount", source)?;
        let at = text::absolute("mount point", mount.destination())?;
        let below = part.map(below).transpose()?;
        let map = mapping(index, mount, options.map, namespaces)?;
        // In a user namespace, root may not even pass through the host's folders.
        let outside = namespaces.user.is_some();
        let open = Step::OpenSource { source: opened, below, recursive, slot, map };
        let wants = |kind| options.change.propagation.iter().any(|propagation| propagation.kind == kind);
        self.wants_slave |= wants(PropagationKind::Slave);
        if outside {
            self.outside.push(open);
        } else if wants(PropagationKind::Shared) {
            self.shared_sources.push(open);
        } else {
            self.sources.push(open);
        }
        self.inside.push(Step::Bind { slot, source, at, change: options.change });
        Ok(())
    }

    /// The layers are opened with those of the root.
    fn image(
        &mut self,
        mount: &Mount,
        options: Options<'_>,
        volume: &ImageVolume,
        part: Option<&SubPath>,
    ) -> Result<(), PlanError> {
        let slot = self.next_slot();
        let below = part.map(below).transpose()?;
        self.images.push(OpenedImage { slot, lower: volume.lower.clone(), below });
        let source = mount.source().as_deref().ok_or(PlanError::Missing("source of a bind mount"))?;
        let source = text::absolute("the source of a mount", source)?;
        let at = text::absolute("mount point", mount.destination())?;
        self.inside.push(Step::Bind { slot, source, at, change: options.change });
        Ok(())
    }

    fn file_system(&mut self, spec: &Spec, mount: &Mount, options: Options<'_>) -> Result<(), PlanError> {
        let kind = match mount.typ().as_deref().ok_or(PlanError::Missing("type of a mount"))? {
            // OCI's word for whatever cgroups the host has; we only ever have the unified ones.
            "cgroup" => "cgroup2",
            kind => kind,
        };
        if options.map.is_some() || mount.uid_mappings().is_some() {
            return Err(PlanError::MappedFileSystem { at: mount.destination().clone() });
        }
        let inherit = match kind {
            "tmpfs" if options.copy_up => Inherit::Content,
            "tmpfs" if !options.data.iter().any(|option| option.starts_with("mode=")) => Inherit::Mode,
            _ => Inherit::Nothing,
        };
        let mut data = file_system_options(kind, mount, &options.data)?;
        data.extend(label(spec, kind)?);
        self.inside.push(Step::Mount {
            kind: text::c_string("type of a mount", kind)?,
            options: data,
            change: options.change,
            at: text::absolute("mount point", mount.destination())?,
            slot: None,
            inherit,
        });
        Ok(())
    }

    fn devices(&mut self, spec: &Spec, in_user_namespace: bool) -> Result<(), PlanError> {
        let slot = self.next_slot();
        self.inside.push(Step::OpenDirectory { at: c"/dev".to_owned(), slot });
        for device in dev::devices(spec)? {
            self.device(slot, device, in_user_namespace);
        }
        self.inside.extend(dev::links(slot)?);
        Ok(())
    }

    /// Nobody in a user namespace may make one: there it is the host's.
    fn device(&mut self, below: Slot, device: Device, in_user_namespace: bool) {
        let Device { on_host: source, path, parent, node } = device;
        self.inside.extend(parent.map(|path| Step::MakeDirectory { below, path }));
        if in_user_namespace {
            let slot = self.next_slot();
            self.sources.push(Step::OpenSource { source, below: None, recursive: false, slot, map: None });
            self.inside.push(Step::BindNode { below, path, node: slot });
        } else {
            self.inside.push(Step::MakeNode { below, path, node });
        }
    }
}

/// Every prefix of the path, so that the child has nothing to put together.
fn below(part: &SubPath) -> Result<Below, PlanError> {
    let ends = part.path.match_indices('/').map(|(end, _)| end).chain([part.path.len()]);
    let prefixes = ends.map(|end| text::c_string("subPath", &part.path[..end]));
    Ok(Below { prefixes: prefixes.collect::<Result<_, _>>()?, owner: part.owner })
}

/// By the mount's own maps, else by the container's user namespace.
fn mapping(
    index: usize,
    mount: &Mount,
    asked: Option<bool>,
    namespaces: &Namespaces,
) -> Result<Option<Mapping>, PlanError> {
    let own = namespaces.mounts.iter().find(|(of, _)| *of == index).map(|(_, namespace)| namespace);
    if own.is_none() && asked.is_none() {
        return Ok(None);
    }
    let by = own
        .or(namespaces.user.as_ref())
        .ok_or_else(|| PlanError::MappedByNone { at: mount.destination().clone() })?;
    let user_namespace = duplicate(LinuxNamespaceType::User, by)?;
    Ok(Some(Mapping { user_namespace, recursive: asked.unwrap_or(false) }))
}

/// Without a name of its own, a file system is shown by its kind.
fn file_system_options(kind: &str, mount: &Mount, data: &[&str]) -> Result<Vec<MountOption>, PlanError> {
    let mut options = data.iter().map(|option| mount_option(option)).collect::<Result<Vec<_>, _>>()?;
    let source = mount.source().as_deref().and_then(Path::to_str).filter(|source| !source.is_empty());
    let source = source.unwrap_or(kind);
    options.push(MountOption::Value(c"source".to_owned(), text::c_string("source of a mount", source)?));
    Ok(options)
}

fn mount_option(option: &str) -> Result<MountOption, PlanError> {
    let c_string = |text| text::c_string("mount option", text);
    Ok(match option.split_once('=') {
        Some((name, value)) => MountOption::Value(c_string(name)?, c_string(value)?),
        None => MountOption::Flag(c_string(option)?),
    })
}

/// `linux.mountLabel`, for the file systems that take one.
pub(super) fn label(spec: &Spec, kind: &str) -> Result<Option<MountOption>, PlanError> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    match label.filter(|label| !label.is_empty() && matches!(kind, "tmpfs" | "devpts" | "overlay")) {
        None => Ok(None),
        Some(label) => {
            Ok(Some(MountOption::Value(c"context".to_owned(), text::c_string("mount label", label)?)))
        }
    }
}
