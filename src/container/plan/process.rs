//! What the process is given beside its identity: limits, priorities, streams, labels.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    PosixRlimitType, Process, Scheduler,
};

use super::{PlanError, Stdio, text};
use crate::sys::step::{ResourceLimit, SchedulerAttributes, Slot, Step, Stream, TerminalSize};

/// While the process is still the host's root: in a user namespace nothing could be raised any more.
pub(super) fn limits(process: &Process) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    for (place, limit) in rlimits.iter().enumerate() {
        if rlimits[..place].iter().any(|earlier| earlier.typ() == limit.typ()) {
            return Err(PlanError::TwoLimits(limit.typ()));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        steps.push(Step::LimitResource(ResourceLimit { resource: number(limit.typ()), soft, hard }));
    }
    if let Some(score) = process.oom_score_adj() {
        steps.push(Step::AdjustOomScore { value: text::c_string("oomScoreAdj", &score.to_string())? });
    }
    if let Some(priority) = process.io_priority() {
        steps.push(Step::SetIoPriority(io_priority(priority.class(), priority.priority())?));
    }
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::SetScheduler(Box::new(attributes(scheduler)?)));
    }
    Ok(steps)
}

fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// `IOPRIO_PRIO_VALUE` of linux/ioprio.h: the class above 13 bits of priority.
fn io_priority(class: IOPriorityClass, priority: i64) -> Result<i32, PlanError> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match i32::try_from(priority) {
        Ok(priority @ 0..=7) => Ok(class << 13 | priority),
        _ => Err(PlanError::Range("process.ioPriority.priority")),
    }
}

/// `SCHED_*` of linux/sched.h.
fn attributes(scheduler: &Scheduler) -> Result<SchedulerAttributes, PlanError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => return Err(PlanError::NotSupported("SCHED_ISO")),
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let priority = u32::try_from(scheduler.priority().unwrap_or(0))
        .map_err(|_| PlanError::Range("process.scheduler.priority"))?;
    Ok(SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// What is redirected at once, and what comes from the container's `/dev` once there is one. `console`: whether a terminal
/// is the container's console too.
pub(super) fn streams(
    process: &Process,
    stdio: Stdio,
    console: bool,
) -> Result<(Vec<Step>, Option<Step>), PlanError> {
    match stdio {
        Stdio::Inherit => Ok((Vec::new(), None)),
        Stdio::Streams { stdin, stdout, stderr } => {
            let null_input = stdin.is_none().then_some(Step::NullInput);
            let output = [redirect(stdout, Stream::Stdout), redirect(stderr, Stream::Stderr)];
            let input = stdin.map(|stdin| redirect(stdin, Stream::Stdin));
            Ok((output.into_iter().chain(input).collect(), null_input))
        }
        Stdio::Terminal { console: socket } => {
            let size = process.console_size();
            let size = size.map(|size| terminal_size(size.height(), size.width())).transpose()?;
            let owner = process.user().uid();
            Ok((Vec::new(), Some(Step::OpenTerminal { socket, size, owner, console })))
        }
    }
}

fn redirect(from: OwnedFd, to: Stream) -> Step {
    Step::Redirect { from, to }
}

fn terminal_size(rows: u64, columns: u64) -> Result<TerminalSize, PlanError> {
    match (u16::try_from(rows), u16::try_from(columns)) {
        (Ok(rows), Ok(columns)) => Ok(TerminalSize { rows, columns }),
        _ => Err(PlanError::Range("process.consoleSize")),
    }
}

/// Inside of the user namespace, if there is one: each has names of its own.
pub(super) fn keyring(name: Option<String>) -> Result<Option<Step>, PlanError> {
    let name = name.map(|name| text::c_string("keyring", &name)).transpose()?;
    Ok(name.map(|name| Step::JoinKeyring { name }))
}

/// Files of a procfs: what AppArmor and SELinux shall confine the process by once it executes its program.
pub(super) const APPARMOR_AT_EXEC: &CStr = c"thread-self/attr/apparmor/exec";
pub(super) const SELINUX_AT_EXEC: &CStr = c"thread-self/attr/exec";

/// Labels take effect at exec.
pub(super) fn labels(process: &Process, proc: Slot) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    let mut write = |path: &CStr, value: &str| -> Result<(), PlanError> {
        steps.push(Step::WriteProc { proc, path: path.to_owned(), value: text::c_string("label", value)? });
        Ok(())
    };
    if let Some(profile) = process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty()) {
        write(APPARMOR_AT_EXEC, &format!("exec {profile}"))?;
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
        write(SELINUX_AT_EXEC, label)?;
    }
    Ok(steps)
}

/// `PER_*` of linux/personality.h.
pub(super) fn personality(linux: &Linux) -> Option<Step> {
    let personality = linux.personality().as_ref()?;
    Some(Step::SetPersonality(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}
