//! What runs, with which environment, where and as whom.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User};

use rustix::process::{Resource, getrlimit};

use super::{Error, capabilities};
use crate::container::expand::expand;
use crate::container::recipe::{ImageConfig, Recipe};
use crate::manifest::pod::EnvVar;

/// Where programs are looked for if nobody says where, as containerd has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(recipe: &Recipe<'_>) -> Result<Process, Error> {
    let variables = expanded_variables(&recipe.container.env);
    let mut user = User::default();
    user.set_uid(recipe.user.uid)
        .set_gid(recipe.user.gid)
        .set_umask(Some(0o022))
        .set_additional_gids(Some(recipe.user.additional_gids.clone()));

    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user)
        .set_args(Some(arguments(recipe, &variables)?))
        .set_env(Some(environment(recipe, &variables)))
        .set_cwd(working_directory(recipe).into())
        .set_capabilities(Some(capabilities::capabilities(&recipe.container.security)?))
        .set_rlimits(recipe.open_files.map(open_files_limit).transpose()?)
        .set_no_new_privileges(Some(false));
    Ok(process)
}

/// Only the soft one: the hard limit stays as podkeep's own is.
fn open_files_limit(soft: u64) -> Result<Vec<PosixRlimit>, Error> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let limit =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(soft.min(hard)).hard(hard);
    Ok(vec![limit.build().map_err(Error::Spec)?])
}

/// Names and values; a value sees only the variables before it.
fn expanded_variables(env: &[EnvVar]) -> Vec<(String, String)> {
    let mut variables = Vec::with_capacity(env.len());
    for variable in env {
        let value = expand(&variable.value, |name| lookup(&variables, name));
        variables.push((variable.name.clone(), value));
    }
    variables
}

/// The last one of that name.
fn lookup<'v>(variables: &'v [(String, String)], name: &str) -> Option<&'v str> {
    variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Kubernetes' rules: a `command` replaces the image's entrypoint and cmd, `args` alone only its cmd.
fn arguments(recipe: &Recipe<'_>, variables: &[(String, String)]) -> Result<Vec<String>, Error> {
    let container = recipe.container;
    let ImageConfig { entrypoint, cmd, .. } = recipe.image;
    let expanded = |texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| expand(text, |name| lookup(variables, name))).collect()
    };
    let (mut arguments, image_arguments) = if container.command.is_empty() {
        (entrypoint.clone(), cmd.as_slice())
    } else {
        (expanded(&container.command), &[][..])
    };
    if container.args.is_empty() {
        arguments.extend_from_slice(image_arguments);
    } else {
        arguments.extend(expanded(&container.args));
    }
    if arguments.is_empty() { Err(Error::NothingToRun) } else { Ok(arguments) }
}

/// The image's variables, those that a runtime sets, and over them the container's.
fn environment(recipe: &Recipe<'_>, variables: &[(String, String)]) -> Vec<String> {
    let mut environment = Environment::default();
    environment.set("PATH", DEFAULT_PATH);
    for variable in &recipe.image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        environment.set(name, value);
    }
    environment.set("HOSTNAME", recipe.hostname);
    for (name, value) in variables {
        environment.set(name, value);
    }
    if !environment.has("HOME") {
        environment.set("HOME", &recipe.user.home);
    }
    environment.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Variables in the order of their first appearance, each once.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

/// The manifest's, else the image's; an image's relative one starts at `/`.
fn working_directory(recipe: &Recipe<'_>) -> String {
    let chosen = recipe.container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = chosen.or(recipe.image.working_dir.as_deref()).unwrap_or_default();
    if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") }
}
