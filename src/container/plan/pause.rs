//! The pause process of a Pod whose containers share their PID namespace: it is the first one there, and stays for as long as
//! the Pod does.
//!
//! Containers see it as their PID 1, so it has nothing that they could want: no file, no descriptor, no capability, an empty
//! root, and the Pod's other namespaces (in the host's, `/proc/1/net` would show the host's network to everybody).

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompBuilder, LinuxSyscallBuilder};

use super::{Plan, PlanError, seccomp, text, unshare};
use crate::container::namespaces::Namespaces;
use crate::sys::pause;
use crate::sys::step::{CapabilitySets, Slot, Step, StringArray};

/// User and group of the process, those of Kubernetes' own pause image: below 65536, which is what every user namespace of a
/// Pod has at least.
const NOBODY: u32 = 65535;

/// By which it says that the program could not be executed, and ends.
const TO_FAIL: [&str; 2] = ["sendto", "exit_group"];

/// Where the root is held open before it is one.
const ROOT: Slot = Slot(0);

/// Steps of a process that makes a PID namespace; in the user namespace, if `namespaces` holds one, so that it belongs to that.
///
/// `pod` is what it shows in `ps`. `root` is an empty directory of the host, which becomes its root.
///
/// # Errors
/// When the program cannot be made, or a string holds a zero byte.
pub fn pause_plan(
    pod: &str,
    root: &Path,
    namespaces: Namespaces,
    oom_score_adj: i32,
) -> Result<Plan, PlanError> {
    let program = pause::program().map_err(PlanError::Pause)?;
    let arguments = [pause::NAME, pod].map(|word| text::c_string("name of the Pod", word));
    let arguments = StringArray::new(arguments.into_iter().collect::<Result<_, _>>()?);
    let entrance = unshare::first_of_its_pid_namespace(&namespaces);
    let birth = entrance.forks.birth;

    let mut steps = vec![Step::ResetSignals, Step::IgnoreChildren];
    steps.push(Step::AdjustOomScore { value: text::c_string("OOM score", &oom_score_adj.to_string())? });
    steps.extend(unshare::steps(entrance, namespaces, empty_root(root)?, false));
    steps.push(Step::NewSession);
    steps.push(Step::CloseDescriptors { keep: 0, later: Some(program.as_raw_fd()) });
    steps.push(Step::BoundCapabilities(0));
    steps.push(Step::SetGroups(Vec::new()));
    steps.push(Step::SetGid(NOBODY));
    steps.push(Step::SetUid { uid: NOBODY, keep_capabilities: false });
    steps.push(Step::SetCapabilities(CapabilitySets::default()));
    steps.push(Step::ForbidNewPrivileges);
    let seccomp = seccomp::program(&profile())?;
    steps.push(Step::InstallSeccomp(Arc::clone(seccomp.filter())));
    steps.push(Step::ExecuteFile { program, arguments });
    Ok(Plan { steps, slots: 1, namespaces: birth, seccomp: Some(seccomp) })
}

/// Taken as the host's root: in a Pod with a user namespace of its own, not even its root has a right to these mounts.
fn empty_root(root: &Path) -> Result<Vec<Step>, PlanError> {
    let at = text::absolute("root of the pause process", root)?;
    Ok(vec![
        Step::OpenSource { source: at.clone(), below: None, recursive: false, slot: ROOT, map: None },
        Step::AttachRoot { slot: ROOT, at },
        Step::PivotRoot,
        Step::MakeRootReadOnly,
    ])
}

/// What the program does, and nothing else.
fn profile() -> LinuxSeccomp {
    let names: Vec<String> = pause::CALLS.into_iter().chain(TO_FAIL).map(str::to_owned).collect();
    let allowed = LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow);
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .syscalls(vec![allowed.build().expect("every field has a default")])
        .build()
        .expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn steps(namespaces: Namespaces) -> (Vec<String>, u64) {
        let plan = pause_plan("default/web", Path::new("/run/root"), namespaces, -998).unwrap();
        (plan.to_string().lines().map(str::to_owned).collect(), plan.namespaces)
    }

    #[test]
    fn it_leaves_everything_behind_before_it_executes() {
        let (steps, born_in) = steps(Namespaces::default());
        assert_eq!(born_in, libc::CLONE_NEWPID as u64);
        let expected = [
            "reset signals",
            "ignore SIGCHLD",
            "set oom_score_adj to -998",
            "make a mount namespace",
            "make all mounts private",
            "open /run/root",
            "mount the root on /run/root",
            "pivot root",
            "make the root read-only",
            "start a session",
            "close all other descriptors",
            "bound capabilities to 0x0",
            "set groups []",
            "set gid 65535",
            "set uid 65535",
            "set capabilities 0x0",
            "forbid new privileges",
            "install the seccomp filter",
            "execute podkeep-pause",
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_pid_namespace_is_made_inside_of_the_user_namespace() {
        let own = |name: &str| Some(File::open(format!("/proc/self/ns/{name}")).unwrap().into());
        let namespaces = Namespaces { user: own("user"), net: own("net"), ..Namespaces::default() };
        let (steps, born_in) = steps(namespaces);
        assert_eq!(born_in, 0);
        let place = |step: &str| steps.iter().position(|one| one == step).unwrap();
        assert!(place("join the net namespace") < place("make a mount namespace"));
        assert!(place("make the root read-only") < place("join the user namespace"));
        let fork = place("clone the process inside the namespaces");
        assert!(place("join the user namespace") < fork && fork < place("set uid 65535"));
    }
}
