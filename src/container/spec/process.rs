//! What runs, with which environment, where and as whom.

use std::collections::HashSet;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User};

use rustix::process::{Resource, getrlimit};

use super::{Error, capabilities, namespaces, security};
use crate::container::environment::Environment;
use crate::container::expand::expand;
use crate::container::recipe::{ImageConfig, Recipe};
use crate::manifest::pod::SupplementalGroupsPolicy;

/// Where programs are looked for if nobody says where, as containerd has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(recipe: &Recipe<'_>) -> Result<Process, Error> {
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user(recipe)?)
        .set_args(Some(arguments(recipe)?))
        .set_env(Some(environment(recipe)))
        .set_cwd(working_directory(recipe).into())
        .set_capabilities(Some(capabilities::capabilities(&recipe.container.security)?))
        .set_rlimits(recipe.open_files.map(open_files_limit).transpose()?)
        .set_no_new_privileges(Some(recipe.container.security.allow_privilege_escalation == Some(false)))
        .set_apparmor_profile(security::apparmor_profile(recipe))
        .set_selinux_label(security::process_label(recipe))
        .set_oom_score_adj(recipe.oom_score_adj);
    Ok(process)
}

fn user(recipe: &Recipe<'_>) -> Result<User, Error> {
    let (uid, gid, groups) = (recipe.user.uid, recipe.user.gid, groups(recipe));
    if let Some(ids) = namespaces::own_ids(recipe)? {
        let all = [("user", uid), ("group", gid)].into_iter().chain(groups.iter().map(|gid| ("group", *gid)));
        // The kernel would say EINVAL and not of which.
        if let Some((what, id)) = all.into_iter().find(|(_, id)| *id >= ids.size) {
            return Err(Error::IdOutsideRange { what, id, size: ids.size });
        }
    }
    let mut user = User::default();
    user.set_uid(uid).set_gid(gid).set_umask(Some(0o022)).set_additional_gids(Some(groups));
    Ok(user)
}

/// The user's groups (with `Strict` only its first, which is its own), then the Pod's; each once.
fn groups(recipe: &Recipe<'_>) -> Vec<u32> {
    let pod = recipe.pod;
    let of_the_image = match pod.supplemental_groups_policy {
        SupplementalGroupsPolicy::Merge => usize::MAX,
        SupplementalGroupsPolicy::Strict => 1,
    };
    let image = recipe.user.additional_gids.iter().take(of_the_image);
    let all = image.chain(&pod.supplemental_groups).chain(&pod.fs_group).copied();
    let mut seen = HashSet::new();
    all.filter(|gid| seen.insert(*gid)).collect()
}

/// Only the soft one: the hard limit stays as podkeep's own is.
fn open_files_limit(soft: u64) -> Result<Vec<PosixRlimit>, Error> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let limit =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(soft.min(hard)).hard(hard);
    Ok(vec![limit.build().map_err(Error::Spec)?])
}

fn expanded(texts: &[String], variables: &Environment) -> Vec<String> {
    texts.iter().map(|text| expand(text, |name| variables.get(name))).collect()
}

/// Kubernetes' rules: a `command` replaces the image's entrypoint and cmd, `args` alone only its cmd.
fn arguments(recipe: &Recipe<'_>) -> Result<Vec<String>, Error> {
    let (container, variables) = (recipe.container, recipe.environment);
    let ImageConfig { entrypoint, cmd, .. } = recipe.image;
    let (mut arguments, image_arguments) = if container.command.is_empty() {
        (entrypoint.clone(), cmd.as_slice())
    } else {
        (expanded(&container.command, variables), &[][..])
    };
    if container.args.is_empty() {
        arguments.extend_from_slice(image_arguments);
    } else {
        arguments.extend(expanded(&container.args, variables));
    }
    if arguments.is_empty() { Err(Error::NothingToRun) } else { Ok(arguments) }
}

/// The image's variables, those that a runtime sets, and over them the container's.
fn environment(recipe: &Recipe<'_>) -> Vec<String> {
    let mut environment = Environment::default();
    environment.set("PATH", DEFAULT_PATH);
    for variable in &recipe.image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        environment.set(name, value);
    }
    environment.set("HOSTNAME", recipe.hostname);
    for (name, value) in recipe.environment.variables() {
        environment.set(name, value);
    }
    if environment.get("HOME").is_none() {
        environment.set("HOME", &recipe.user.home);
    }
    environment.variables().iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The manifest's, else the image's; an image's relative one starts at `/`.
fn working_directory(recipe: &Recipe<'_>) -> String {
    let chosen = recipe.container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = chosen.or(recipe.image.working_dir.as_deref()).unwrap_or_default();
    if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") }
}
