//! What a process said of a step that failed → a sentence.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fs;

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::Plan;
use super::process::{APPARMOR_AT_EXEC, SELINUX_AT_EXEC};
use crate::container::spawn::{About, StartError};
use crate::sys::step::Step;

impl Plan {
    /// The step of that index failed with that error number.
    pub(in crate::container) fn explain(&self, index: u32, errno: i32) -> StartError {
        let Some(step) = self.steps.get(index as usize) else { return StartError::UnknownStep(index) };
        let errno = Errno::from_raw(errno);
        let about = match step {
            Step::Execute { .. } | Step::FindProgram { .. } => About::Program,
            Step::OpenSource { below: Some(_), .. } | Step::OpenImage { below: Some(_), .. } => {
                About::SubPath
            }
            _ => About::Machine,
        };
        StartError::Step { step: step.to_string(), errno, hint: hint(step, errno), about }
    }
}

/// What a person can do about it, where that is known.
fn hint(step: &Step, errno: Errno) -> Option<Cow<'static, str>> {
    let hint = match (step, errno) {
        (Step::PivotRoot, Errno::EINVAL) => {
            Some("is the host's root an initramfs? it cannot be pivoted: switch to a disk or a tmpfs first")
        }
        (Step::MountRoot { .. }, Errno::EINVAL) => Some("the kernel's log says why"),
        (Step::MountRoot { .. }, Errno::ENODEV) => Some("the kernel has no overlay file system"),
        (Step::Mount { .. }, Errno::ELOOP) => Some("the image has a symbolic link there"),
        (
            Step::OpenSource { below: Some(_), .. } | Step::OpenImage { below: Some(_), .. },
            Errno::EXDEV | Errno::ELOOP | Errno::ENOENT | Errno::ENOTDIR,
        ) => hint_of_sub_path(errno),
        (Step::OpenSource { map: Some(_), source: path, .. }, Errno::EINVAL)
        | (Step::MapLayers { layers_dir: path, .. }, Errno::EINVAL) => {
            let kind = file_system(path).map_or_else(String::new, |kind| format!(", {kind},"));
            return Some(
                format!("its file system{kind} cannot show its files as another user's on this kernel")
                    .into(),
            );
        }
        (Step::WriteProc { path, .. }, Errno::ENOENT) if path.as_c_str() == APPARMOR_AT_EXEC => {
            Some("no profile of that name is loaded (aa-status lists those that are), or AppArmor is off")
        }
        (Step::WriteProc { path, .. }, Errno::EINVAL) if path.as_c_str() == SELINUX_AT_EXEC => {
            Some("the SELinux policy that is loaded has no such label, or SELinux is off")
        }
        // podman finds its exit codes 127 and 126 in a runtime's words: these two, in the kernel's own.
        (Step::Execute { .. } | Step::FindProgram { .. }, Errno::ENOENT) => Some(
            "no such file or directory in the image's root or its PATH, or its interpreter or loader is missing",
        ),
        (Step::Execute { .. } | Step::FindProgram { .. }, Errno::EACCES) => {
            Some("permission denied: not executable for this user, or a folder")
        }
        (Step::Execute { .. }, Errno::ENOEXEC) => Some("built for another machine, or a script without #!"),
        (Step::Execute { .. }, Errno::E2BIG) => {
            Some("too many arguments or variables, or is the container's memory limit too low to start it?")
        }
        _ => hint_of_memory(errno),
    };
    hint.map(Cow::Borrowed)
}

fn hint_of_sub_path(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EXDEV => {
            "a symbolic link there is absolute or leads out of the volume: make it a relative one to what is in it"
        }
        Errno::ELOOP => "a symbolic link there leads nowhere, or in circles",
        Errno::ENOTDIR => "the volume is a file, or a file is where a folder should be",
        _ => "there is no such file or folder in the volume",
    })
}

/// The kind of file system that is at a path of the host. The process that failed has just been there, so nobody is waited for.
fn file_system(path: &CStr) -> Option<String> {
    let mount = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID).ok()?.stx_mnt_id;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.starts_with(&format!("{mount} ")))?;
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned())
}

/// What a process between clone and exec takes of the kernel's memory is counted as its container's.
pub(in crate::container) fn hint_of_memory(errno: Errno) -> Option<&'static str> {
    (errno == Errno::ENOMEM).then_some("is the container's memory limit too low to start it?")
}
