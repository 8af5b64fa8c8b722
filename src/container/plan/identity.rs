//! From all-powerful to what the container is.

use std::sync::Arc;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process, User};

use super::{PlanError, text};
use crate::container::seccomp::Program;
use crate::container::spec::capability_mask;
use crate::sys::step::{CapabilitySets, Step};

pub(super) struct Identity {
    pub steps: Vec<Step>,
    /// Right before the program.
    pub last: Option<Step>,
}

/// A filter without `no_new_privs` needs CAP_SYS_ADMIN, so it is installed while the child still has that;
/// with it, the filter comes last and judges nothing but exec.
pub(super) fn steps(process: &Process, seccomp: Option<&Program>) -> Result<Identity, PlanError> {
    let user = process.user();
    check_ids(user)?;
    let cwd = text::absolute("working directory", process.cwd())?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let filter = seccomp.map(|program| Step::InstallSeccomp(Arc::clone(program.filter())));
    let (early, last) = if no_new_privileges { (None, filter) } else { (filter, None) };
    let (bounding, sets) = capabilities(process.capabilities().as_ref())?;

    let mut steps = vec![Step::EnterDirectory { path: cwd.clone(), forgive: true }];
    steps.extend(early);
    steps.push(Step::BoundCapabilities(bounding));
    steps.push(Step::SetGroups(user.additional_gids().clone().unwrap_or_default()));
    steps.push(Step::SetGid(user.gid()));
    steps.push(Step::SetUid { uid: user.uid(), keep_capabilities: sets.ambient != 0 });
    steps.push(Step::SetCapabilities(sets));
    if no_new_privileges {
        steps.push(Step::ForbidNewPrivileges);
    }
    steps.push(Step::EnterDirectory { path: cwd, forgive: false });
    steps.push(Step::VerifyDirectory);
    Ok(Identity { steps, last })
}

/// Larger ones are negative to programs that keep ids as `int`, and the largest of all means "leave it as it is" to
/// setresuid(2) and setresgid(2): the process would stay the host's root (CVE-2024-40635, CVE-2026-30892).
fn check_ids(user: &User) -> Result<(), PlanError> {
    let within = |id: u32, what| if id > i32::MAX as u32 { Err(PlanError::Range(what)) } else { Ok(()) };
    within(user.uid(), "process.user.uid")?;
    within(user.gid(), "process.user.gid")?;
    let groups = user.additional_gids().iter().flatten();
    groups.copied().try_for_each(|gid| within(gid, "process.user.additionalGids"))
}

/// The bounding set and the others. What the spec has inheritable and not ambient is dropped: every program that has the same
/// among its file capabilities would get it (CVE-2022-29162).
fn capabilities(sets: Option<&LinuxCapabilities>) -> Result<(u64, CapabilitySets), PlanError> {
    let Some(sets) = sets else { return Ok((0, CapabilitySets::default())) };
    let mask = |set: &Option<Capabilities>| set.as_ref().map_or(0, capability_mask);
    let ambient = mask(sets.ambient());
    let chosen =
        CapabilitySets { permitted: mask(sets.permitted()), effective: mask(sets.effective()), ambient };
    Ok((mask(sets.bounding()), chosen))
}
