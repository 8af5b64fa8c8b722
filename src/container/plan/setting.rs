//! What a `Spec` cannot say: descriptors, and how its process is started.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Root;
use crate::container::namespaces::Namespaces;
use crate::container::seccomp::Program;
use crate::container::sub_path::SubPath;

/// Beside the `Spec`, all that a plan is made from.
#[derive(Debug)]
pub struct Setting {
    pub root: Root,
    /// Those that are joined. What the `Spec` lists beside them is made anew.
    pub namespaces: Namespaces,
    pub stdio: Stdio,
    /// Of bind mounts of the `Spec` that show a part of a volume.
    pub sub_paths: Vec<SubPath>,
    /// What confines it, if that is compiled already; else the `Spec` has the profile, if there is any.
    pub seccomp: Option<Arc<Program>>,
    /// How many descriptors from 3 on stay open.
    pub preserve_fds: u32,
    /// The process waits for a byte from here before it becomes the program.
    pub start: Option<OwnedFd>,
    /// Whether the process waits for a word once all is mounted and the root not pivoted yet.
    pub hooks: bool,
    /// Without, the root is moved over the host's: for hosts whose root cannot be pivoted.
    pub pivot: bool,
    /// The name of the session keyring that it has; `None` for the caller's own.
    pub keyring: Option<String>,
}

impl Setting {
    /// As a node starts a container: it waits for nothing.
    pub fn new(root: Root, namespaces: Namespaces, stdio: Stdio) -> Setting {
        Setting {
            root,
            namespaces,
            stdio,
            sub_paths: Vec::new(),
            seccomp: None,
            preserve_fds: 0,
            start: None,
            hooks: false,
            pivot: true,
            keyring: None,
        }
    }
}

/// What the standard streams are.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// Without `stdin`, the container's `/dev/null`.
    Streams { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal, whose other end is sent over this unix socket.
    Terminal { console: OwnedFd },
}
