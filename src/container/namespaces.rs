//! The namespaces that the containers of a Pod share: net, ipc, uts.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};

/// Descriptors of a Pod's namespaces; `None` means the host's.
#[derive(Debug, Default)]
pub struct Namespaces {
    pub net: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
    pub uts: Option<OwnedFd>,
}

/// Which step of making namespaces failed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("start a thread to make namespaces: {0}")]
    Thread(#[source] io::Error),
    #[error("the thread that makes namespaces panicked")]
    Panicked,
    #[error("unshare the Pod's namespaces: {0}")]
    Unshare(#[source] nix::Error),
    #[error("set the host name `{name}`: {cause}")]
    Hostname { name: String, cause: nix::Error },
    #[error("bring up the loopback interface: {0}")]
    Loopback(#[source] io::Error),
    #[error("open {path}: {cause}")]
    Open { path: &'static str, cause: io::Error },
}

impl Namespaces {
    /// Makes the namespaces of one Pod: ipc always, uts with `hostname`, net (loopback up) unless the Pod is
    /// on the host's network.
    ///
    /// # Errors
    /// Names the step that failed; nothing is left behind.
    pub fn create(hostname: Option<&str>, host_network: bool) -> Result<Namespaces, NamespaceError> {
        // On a thread of its own: unshare moves the calling thread, and it cannot always go back.
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("namespaces".to_owned())
                .spawn_scoped(scope, || create_here(hostname, host_network))
                .map_err(NamespaceError::Thread)?
                .join()
                .map_err(|_| NamespaceError::Panicked)?
        })
    }
}

/// Moves the calling thread into new namespaces and opens them.
fn create_here(hostname: Option<&str>, host_network: bool) -> Result<Namespaces, NamespaceError> {
    let mut flags = CloneFlags::CLONE_NEWIPC;
    flags.set(CloneFlags::CLONE_NEWUTS, hostname.is_some());
    flags.set(CloneFlags::CLONE_NEWNET, !host_network);
    unshare(flags).map_err(NamespaceError::Unshare)?;

    if let Some(name) = hostname {
        nix::unistd::sethostname(name)
            .map_err(|cause| NamespaceError::Hostname { name: name.to_owned(), cause })?;
    }
    if !host_network {
        crate::sys::interface::set_up(c"lo").map_err(NamespaceError::Loopback)?;
    }
    Ok(Namespaces {
        net: (!host_network).then(|| open("/proc/thread-self/ns/net")).transpose()?,
        ipc: Some(open("/proc/thread-self/ns/ipc")?),
        uts: hostname.map(|_| open("/proc/thread-self/ns/uts")).transpose()?,
    })
}

fn open(path: &'static str) -> Result<OwnedFd, NamespaceError> {
    File::open(path).map(OwnedFd::from).map_err(|cause| NamespaceError::Open { path, cause })
}
