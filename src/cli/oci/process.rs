//! The process that `exec` runs: one described in a file, or the container's own with what was typed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::args::ExecArgs;
use super::capabilities;

/// With the names of capabilities that nobody knows, which it does not have.
///
/// # Errors
/// When it is not said what to run, or a capability has no such name.
pub fn process(args: &ExecArgs, spec: &Spec) -> Result<(Process, Vec<String>)> {
    let (mut process, unknown_capabilities) = match &args.process {
        Some(path) => read(path)?,
        None => (of_the_container(args, spec)?, Vec::new()),
    };
    process.set_terminal(Some(args.tty || process.terminal().unwrap_or(false)));
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        bail!("exec needs a command, or a process by --process");
    }
    Ok((process, unknown_capabilities))
}

fn read(path: &Path) -> Result<(Process, Vec<String>)> {
    let doing = || format!("read {}", path.display());
    let text = fs::read(path).with_context(doing)?;
    match serde_json::from_slice(&text) {
        Ok(process) => Ok((process, Vec::new())),
        Err(error) => {
            let (text, unknown) = capabilities::only_known(&text, "").ok_or(error).with_context(doing)?;
            Ok((serde_json::from_slice(&text).with_context(doing)?, unknown))
        }
    }
}

fn of_the_container(args: &ExecArgs, spec: &Spec) -> Result<Process> {
    let mut process = spec.process().clone().context("the container's config.json has no process")?;
    process.set_args(Some(args.command.clone()));
    // The first process may have a terminal of a certain size; this one has what was typed.
    process.set_terminal(None).set_console_size(None);
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    process.set_env(Some(with(process.env().clone(), &args.env)));
    if let Some(user) = args.user {
        process.user_mut().set_uid(user.uid);
        user.gid.map(|gid| process.user_mut().set_gid(gid).to_owned());
    }
    let groups = process.user().additional_gids().clone();
    process.user_mut().set_additional_gids(Some(with(groups, &args.additional_gids)));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if !args.cap.is_empty() {
        let sets = add_capabilities(process.capabilities().clone(), &args.cap)?;
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

fn with<T: Clone>(list: Option<Vec<T>>, more: &[T]) -> Vec<T> {
    list.into_iter().flatten().chain(more.iter().cloned()).collect()
}

/// To the three sets that a process starts with. Never to the inheritable one (CVE-2022-29162), nor to the ambient one.
fn add_capabilities(sets: Option<LinuxCapabilities>, names: &[String]) -> Result<LinuxCapabilities> {
    let mut sets = sets.unwrap_or_else(none);
    let more: Capabilities = names.iter().map(|name| capability(name)).collect::<Result<_>>()?;
    let joined = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&more).copied().collect());
    let (bounding, effective, permitted) =
        (joined(sets.bounding()), joined(sets.effective()), joined(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(sets)
}

/// The crate's default is not empty.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

fn capability(name: &str) -> Result<Capability> {
    let full = serde_json::Value::from(match name.to_ascii_uppercase() {
        upper if upper.starts_with("CAP_") => upper,
        upper => format!("CAP_{upper}"),
    });
    serde_json::from_value(full).with_context(|| format!("{name:?} is no capability"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Called, Command};
    use super::*;

    fn typed(line: &str) -> Result<Process> {
        let words = ["podkeep-oci"].into_iter().chain(line.split_whitespace());
        let Command::Exec(args) = Called::parse_from(words).oci.command else { panic!("{line}") };
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.2.0","process":{"terminal":true,"user":{"uid":1,"gid":2,"additionalGids":[3]},
                "args":["first"],"env":["A=B"],"cwd":"/w","capabilities":{"bounding":["CAP_KILL"]}}}"#,
        )
        .unwrap();
        Ok(process(&args, &spec)?.0)
    }

    #[test]
    fn it_is_the_containers_own_with_what_was_typed() {
        let process = typed("exec web ls -l").unwrap();
        assert_eq!(process.args().clone().unwrap(), ["ls", "-l"]);
        assert_eq!((process.user().uid(), process.user().gid(), process.terminal()), (1, 2, Some(false)));
        assert_eq!(process.cwd().to_str(), Some("/w"));

        let process = typed("exec -t -u 5 -g 9 --cwd /x -e C=D --no-new-privs -c net_admin web ls").unwrap();
        assert_eq!((process.user().uid(), process.user().gid(), process.terminal()), (5, 2, Some(true)));
        assert_eq!(process.user().additional_gids().clone().unwrap(), [3, 9]);
        assert_eq!(process.env().clone().unwrap(), ["A=B", "C=D"]);
        assert_eq!((process.cwd().to_str(), process.no_new_privileges()), (Some("/x"), Some(true)));
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert_eq!(sets.permitted().as_ref().unwrap().len(), 1);
        assert!(sets.inheritable().is_none() && sets.ambient().is_none());
    }

    #[test]
    fn what_makes_no_process_is_refused() {
        assert!(typed("exec web").unwrap_err().to_string().contains("needs a command"));
        assert!(typed("exec -c nonsense web ls").unwrap_err().to_string().contains("no capability"));
    }
}
