//! What AppArmor, SELinux and sysctls of the Pod's namespaces are told.

use std::collections::HashMap;

use crate::container::recipe::Recipe;
use crate::manifest::Pod;
use crate::manifest::pod::{AppArmorProfile, SeLinuxOptions};

/// What stands for a part of a label that the manifest leaves to the host, as container-selinux' policy has it.
const USER: &str = "system_u";
const PROCESS_ROLE: &str = "system_r";
const PROCESS_TYPE: &str = "container_t";
const FILE_ROLE: &str = "object_r";
const FILE_TYPE: &str = "container_file_t";
const LEVEL: &str = "s0";

/// The profile that exec changes to. `RuntimeDefault` names none: podkeep brings no profile, and says so when the manifest
/// is read.
pub(super) fn apparmor_profile(recipe: &Recipe<'_>) -> Option<String> {
    match &recipe.container.security.apparmor {
        _ if !recipe.lsm.apparmor => None,
        Some(AppArmorProfile::Localhost(name)) => Some(name.clone()),
        Some(AppArmorProfile::Unconfined) => Some("unconfined".to_owned()),
        Some(AppArmorProfile::RuntimeDefault) | None => None,
    }
}

/// The label of the process, where the manifest says something of it and the host has SELinux.
pub(super) fn process_label(recipe: &Recipe<'_>) -> Option<String> {
    asked(recipe).map(|options| {
        let part =
            |said: &Option<String>, otherwise: &str| said.clone().unwrap_or_else(|| otherwise.to_owned());
        let SeLinuxOptions { user, role, kind, level } = options;
        let kind = part(kind, PROCESS_TYPE);
        format!("{}:{}:{kind}:{}", part(user, USER), part(role, PROCESS_ROLE), part(level, LEVEL))
    })
}

/// The label of the container's files: that of any container's, at the level of this one.
pub(super) fn mount_label(recipe: &Recipe<'_>) -> Option<String> {
    asked(recipe).map(|options| {
        let user = options.user.as_deref().unwrap_or(USER);
        let level = options.level.as_deref().unwrap_or(LEVEL);
        format!("{user}:{FILE_ROLE}:{FILE_TYPE}:{level}")
    })
}

fn asked<'a>(recipe: &Recipe<'a>) -> Option<&'a SeLinuxOptions> {
    recipe.container.security.selinux.as_ref().filter(|_| recipe.lsm.selinux)
}

/// With dots between the parts of a name.
pub(super) fn sysctls(pod: &Pod) -> Option<HashMap<String, String>> {
    let pairs = pod.sysctls.iter().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()));
    (!pod.sysctls.is_empty()).then(|| pairs.collect())
}
