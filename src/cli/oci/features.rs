//! `podkeep oci features`: what this runtime can do, in the form of the runtime specification's features.md.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::state::OCI_VERSION;
use crate::order;

/// What stands for itself in `mounts[].options`; a file system's own options are handed to it.
const MOUNT_OPTIONS: [&str; 57] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "lazytime",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// The specification's hooks, in the order in which they are run.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

pub fn features() -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &all())?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}

fn all() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities(),
            "cgroup": {"v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false},
        },
    })
}

fn capabilities() -> Vec<String> {
    let mut names: Vec<String> = caps::all().into_iter().map(|capability| capability.to_string()).collect();
    order::sort(&mut names);
    names
}

fn seccomp() -> Value {
    let archs: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &["SCMP_ARCH_AARCH64"]
    };
    let flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": archs,
        "knownFlags": flags,
        "supportedFlags": flags,
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Features, LinuxSeccomp, Spec};

    use super::*;
    use crate::container::{self, Namespaces, Root, Setting, Stdio, seccomp};

    #[test]
    fn the_form_is_that_of_the_specification() {
        let features: Features = serde_json::from_value(all()).unwrap();
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert!(linux.capabilities().as_ref().unwrap().contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    /// A bind mount has no file system that an unknown option could be handed to.
    #[test]
    fn every_mount_option_is_understood() {
        let plan = |option: &str| {
            let mounts =
                json!([{"destination": "/m", "type": "bind", "source": "/", "options": ["bind", option]}]);
            let spec = json!({
                "ociVersion": OCI_VERSION, "root": {"path": "/r"}, "mounts": mounts,
                "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"]},
                "linux": {"namespaces": [{"type": "mount"}]},
            });
            let spec: Spec = serde_json::from_value(spec).unwrap();
            let root = Root::Directory("/r".into());
            container::plan(&spec, Setting::new(root, Namespaces::default(), Stdio::Inherit))
        };
        // These two need maps, which are not in this spec.
        for option in MOUNT_OPTIONS.into_iter().filter(|option| !option.ends_with("idmap")) {
            plan(option).unwrap_or_else(|error| panic!("{option}: {error}"));
        }
        assert!(plan("nonsense").is_err());
    }

    #[test]
    fn every_action_operator_and_flag_can_be_compiled() {
        let said = super::seccomp();
        let list = |name: &str| said[name].as_array().unwrap().clone();
        let compile = |profile: Value| {
            let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
            seccomp::program(&profile).unwrap();
        };
        for action in list("actions") {
            compile(
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": action}]}),
            );
        }
        for operator in list("operators") {
            let args = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": operator}]);
            compile(json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args}]}));
        }
        compile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": list("archs"),
            "flags": list("supportedFlags")}));
    }
}
