//! Which hooks of a `Spec` are run when, and with what state.

use anyhow::Result;
use oci_spec::runtime::{Hook, Hooks, Spec};

use super::args::Global;
use super::log::{Level, say};
use super::state::{Record, State, Status};
use super::store::Entry;
use crate::container::{Target, run_hooks};

type List = fn(&Hooks) -> &Option<Vec<Hook>>;

fn list(spec: &Spec, list: List) -> &[Hook] {
    spec.hooks().as_ref().and_then(|hooks| list(hooks).as_deref()).unwrap_or_default()
}

/// `prestart` is an old name, and still what many write.
fn prestart(spec: &Spec) -> &[Hook] {
    list(spec, Hooks::prestart)
}

/// Whether the process must wait before its root is pivoted.
pub fn has_create(spec: &Spec) -> bool {
    !(prestart(spec).is_empty()
        && list(spec, Hooks::create_runtime).is_empty()
        && list(spec, Hooks::create_container).is_empty())
}

/// Whether the process must wait before its program.
pub fn has_start_container(spec: &Spec) -> bool {
    !list(spec, Hooks::start_container).is_empty()
}

/// Those of `create`, in the order of the specification: the first two lists outside, the third inside.
///
/// # Errors
/// The first hook that fails.
pub fn create(entry: &Entry, record: &Record, spec: &Spec, inside: &Target) -> Result<()> {
    let state = State::new(&entry.id, record, Status::Creating).to_json()?;
    run_hooks("prestart", prestart(spec), &state, None)?;
    run_hooks("createRuntime", list(spec, Hooks::create_runtime), &state, None)?;
    run_hooks("createContainer", list(spec, Hooks::create_container), &state, Some(inside))?;
    Ok(())
}

/// The one list of `start`, inside, right before the program.
///
/// # Errors
/// The first hook that fails.
pub fn start_container(entry: &Entry, record: &Record, spec: &Spec, inside: &Target) -> Result<()> {
    let state = State::new(&entry.id, record, Status::Created).to_json()?;
    Ok(run_hooks("startContainer", list(spec, Hooks::start_container), &state, Some(inside))?)
}

/// The program runs by then: a failure changes nothing and is only told.
pub fn poststart(global: &Global, entry: &Entry, record: &Record, spec: &Spec) {
    after(global, entry, record, "poststart", list(spec, Hooks::poststart), Status::Running);
}

/// The container is gone by then: a failure changes nothing and is only told, and the other hooks are run all the same.
pub fn poststop(global: &Global, entry: &Entry, record: &Record, spec: &Spec) {
    after(global, entry, record, "poststop", list(spec, Hooks::poststop), Status::Stopped);
}

fn after(
    global: &Global,
    entry: &Entry,
    record: &Record,
    moment: &'static str,
    hooks: &[Hook],
    status: Status,
) {
    for hook in hooks {
        let state = State::new(&entry.id, record, status).to_json();
        let run = state.and_then(|state| Ok(run_hooks(moment, std::slice::from_ref(hook), &state, None)?));
        if let Err(error) = run {
            say(global, Level::Warning, &format!("{error:#}"));
        }
    }
}
