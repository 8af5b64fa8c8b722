//! The namespaces that a container joins: a Pod's, which its containers share, or those that a `Spec` names by path.

mod make;
mod mapping;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

pub use make::{NamespaceError, PodNamespaces};
pub use mapping::{Mappings, user_namespace};

/// Descriptors of the namespaces that are joined; of the others, the `Spec` says whether a container gets its own.
#[derive(Debug, Default)]
pub struct Namespaces {
    pub user: Option<OwnedFd>,
    pub pid: Option<OwnedFd>,
    pub net: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
    pub uts: Option<OwnedFd>,
    pub mount: Option<OwnedFd>,
    pub cgroup: Option<OwnedFd>,
    pub time: Option<OwnedFd>,
    /// User namespaces by whose maps the owners in single mounts are shown: index of the mount in the `Spec`.
    pub mounts: Vec<(usize, OwnedFd)>,
}

/// Why a namespace of a `Spec` cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("open the {kind} namespace {path}: {cause}")]
    Open { kind: LinuxNamespaceType, path: PathBuf, cause: io::Error },
    #[error("{path} is a namespace of another kind than {kind}")]
    Kind { kind: LinuxNamespaceType, path: PathBuf },
    #[error(transparent)]
    User(#[from] mapping::MappingError),
    #[error("the {0} namespace stands twice in the spec")]
    Twice(LinuxNamespaceType),
}

impl Namespaces {
    /// Opens every namespace that the spec names by path, and makes the user namespaces of its mappings: those must be
    /// there before the first process.
    ///
    /// # Errors
    /// When a path leads to no namespace of its kind, or the kernel refuses the mappings.
    pub fn open(spec: &Spec) -> Result<Namespaces, JoinError> {
        let mut namespaces = Namespaces::default();
        let Some(linux) = spec.linux().as_ref() else { return Ok(namespaces) };
        let listed = linux.namespaces().as_deref().unwrap_or_default();
        for (at, namespace) in listed.iter().enumerate() {
            let kind = namespace.typ();
            if listed[..at].iter().any(|other| other.typ() == kind) {
                return Err(JoinError::Twice(kind));
            }
            if let Some(path) = namespace.path() {
                *namespaces.slot(kind) = Some(open(kind, path)?);
            } else if kind == LinuxNamespaceType::User {
                namespaces.user = Some(user_namespace(&Mappings::of_spec(linux))?);
            }
        }
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            if let Some(mappings) = Mappings::of_mount(mount) {
                namespaces.mounts.push((index, user_namespace(&mappings)?));
            }
        }
        Ok(namespaces)
    }

    /// Duplicates of all, for a plan to own.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Namespaces> {
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        let mounts = self.mounts.iter().map(|(index, fd)| Ok((*index, fd.try_clone()?)));
        Ok(Namespaces {
            user: clone(&self.user)?,
            pid: clone(&self.pid)?,
            net: clone(&self.net)?,
            ipc: clone(&self.ipc)?,
            uts: clone(&self.uts)?,
            mount: clone(&self.mount)?,
            cgroup: clone(&self.cgroup)?,
            time: clone(&self.time)?,
            mounts: mounts.collect::<io::Result<_>>()?,
        })
    }

    pub(super) fn take(&mut self, kind: LinuxNamespaceType) -> Option<OwnedFd> {
        self.slot(kind).take()
    }

    /// The place of the one of that kind.
    pub fn slot(&mut self, kind: LinuxNamespaceType) -> &mut Option<OwnedFd> {
        match kind {
            LinuxNamespaceType::User => &mut self.user,
            LinuxNamespaceType::Pid => &mut self.pid,
            LinuxNamespaceType::Network => &mut self.net,
            LinuxNamespaceType::Ipc => &mut self.ipc,
            LinuxNamespaceType::Uts => &mut self.uts,
            LinuxNamespaceType::Mount => &mut self.mount,
            LinuxNamespaceType::Cgroup => &mut self.cgroup,
            LinuxNamespaceType::Time => &mut self.time,
        }
    }

    /// The one of that kind, if it is joined.
    pub fn get(&self, kind: LinuxNamespaceType) -> Option<&OwnedFd> {
        match kind {
            LinuxNamespaceType::User => self.user.as_ref(),
            LinuxNamespaceType::Pid => self.pid.as_ref(),
            LinuxNamespaceType::Network => self.net.as_ref(),
            LinuxNamespaceType::Ipc => self.ipc.as_ref(),
            LinuxNamespaceType::Uts => self.uts.as_ref(),
            LinuxNamespaceType::Mount => self.mount.as_ref(),
            LinuxNamespaceType::Cgroup => self.cgroup.as_ref(),
            LinuxNamespaceType::Time => self.time.as_ref(),
        }
    }
}

/// `NS_GET_NSTYPE` of linux/nsfs.h tells what it is: any file could stand at a path.
fn open(kind: LinuxNamespaceType, path: &Path) -> Result<OwnedFd, JoinError> {
    let fd: OwnedFd =
        File::open(path).map_err(|cause| JoinError::Open { kind, path: path.to_owned(), cause })?.into();
    match crate::sys::namespace::kind(&fd) {
        Ok(found) if found == kind as u32 => Ok(fd),
        _ => Err(JoinError::Kind { kind, path: path.to_owned() }),
    }
}
