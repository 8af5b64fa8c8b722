//! An OCI bundle: a busybox root and a `Spec` as JSON, for tests to change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

const APPLETS: &[&str] = &[
    "cat", "cmp", "cut", "echo", "env", "grep", "hostname", "id", "ip", "ls", "mkdir", "mount", "pwd",
    "readlink", "rm", "sh", "sleep", "stat", "stty", "touch", "tr", "true", "tty", "uname", "wc",
];

/// A root that has what a shell script needs.
pub fn fill_root(root: &Path) {
    for folder in ["bin", "proc", "sys", "dev", "tmp", "mnt"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let bin = root.join("bin");
    fs::copy("/run/vm/busybox", bin.join("busybox")).unwrap();
    fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
}

/// Namespaces of its own but for user and time; its host name is `bench`.
pub fn spec() -> Value {
    let all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_KILL", "CAP_SETUID"];
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": all, "effective": all, "permitted": all},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "cgroup"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/acpi"],
            "readonlyPaths": ["/proc/bus"],
        },
    })
}
