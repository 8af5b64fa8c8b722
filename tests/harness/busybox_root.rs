//! A root of busybox, for containers that are made without a node.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const APPLETS: &[&str] = &[
    "cat", "cmp", "cut", "echo", "env", "grep", "hostname", "id", "ip", "kill", "ls", "mkdir", "mount", "ps",
    "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "touch", "tr", "true", "tty", "uname", "wc",
    "yes",
];

/// A root that has what a shell script needs.
pub fn fill(root: &Path) {
    for folder in ["bin", "proc", "sys", "dev", "tmp", "mnt", "etc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let bin = root.join("bin");
    fs::copy("/run/vm/busybox", bin.join("busybox")).unwrap();
    fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
}
