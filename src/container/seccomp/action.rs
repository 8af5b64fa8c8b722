//! What a filter answers, as the number that it returns to the kernel: an action and 16 bits of data.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall};

use super::error::SeccompError;

/// The kernel (`MAX_ERRNO`, include/linux/err.h) makes every greater errno this one.
const MAX_ERRNO: u32 = 4095;

/// The answer to a call that no rule decides.
pub(super) fn default(profile: &LinuxSeccomp) -> Result<u32, SeccompError> {
    value(profile.default_action(), profile.default_errno_ret(), || "default action".to_owned())
}

/// The answer of a rule.
pub(super) fn of_rule(syscall: &LinuxSyscall) -> Result<u32, SeccompError> {
    value(syscall.action(), syscall.errno_ret(), || name(syscall))
}

/// The call fails with `errno`.
pub(super) fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// What a person calls a rule: by the first call that it names.
pub(super) fn name(syscall: &LinuxSyscall) -> String {
    format!("rule for `{}`", syscall.names().first().map_or("", String::as_str))
}

/// An errno beside an action that takes none has to be an error (runtime-spec 1.2, config-linux.md, `errnoRet`).
fn value(action: Action, errno: Option<u32>, rule: impl Fn() -> String) -> Result<u32, SeccompError> {
    let plain = match action {
        Action::ScmpActErrno => return with_data(libc::SECCOMP_RET_ERRNO, errno, MAX_ERRNO, rule),
        // Its data is what the tracer is told, which need not be an errno.
        Action::ScmpActTrace => {
            return with_data(libc::SECCOMP_RET_TRACE, errno, libc::SECCOMP_RET_DATA, rule);
        }
        Action::ScmpActNotify => return Err(SeccompError::Listener("SCMP_ACT_NOTIFY")),
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    };
    match errno {
        None => Ok(plain),
        Some(errno) => Err(SeccompError::ErrnoUnused { rule: rule(), errno }),
    }
}

fn with_data(
    action: u32,
    errno: Option<u32>,
    max: u32,
    rule: impl Fn() -> String,
) -> Result<u32, SeccompError> {
    match errno.unwrap_or(libc::EPERM as u32) {
        errno if errno > max => Err(SeccompError::ErrnoTooGreat { rule: rule(), errno, max }),
        errno => Ok(action | errno),
    }
}
