//! The last step: which file is executed, with what.

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::{PlanError, text};
use crate::container::spec::DEFAULT_PATH;
use crate::sys::step::{Step, StringArray};

pub(super) fn step(process: &Process, candidates: Vec<CString>) -> Result<Step, PlanError> {
    Ok(Step::Execute {
        candidates,
        arguments: array("argument", process.args().as_deref().unwrap_or_default())?,
        environment: array("environment variable", process.env().as_deref().unwrap_or_default())?,
    })
}

/// A name with a slash is a path; any other is looked for in the container's own `PATH`.
///
/// An empty entry of `PATH`, which means the working directory to a shell, is passed over: nobody means it.
pub(super) fn candidates(process: &Process) -> Result<Vec<CString>, PlanError> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let environment = process.env().as_deref().unwrap_or_default();
    let program = arguments.first().ok_or(PlanError::Missing("command to run"))?;
    if program.contains('/') {
        return Ok(vec![text::c_string("command", program)?]);
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .filter(|directory| !directory.is_empty() && !program.is_empty())
        .map(|directory| text::c_string("command", &format!("{}/{program}", directory.trim_end_matches('/'))))
        .collect()
}

pub(super) fn array(what: &'static str, strings: &[String]) -> Result<StringArray, PlanError> {
    let strings = strings.iter().map(|string| text::c_string(what, string));
    Ok(StringArray::new(strings.collect::<Result<_, _>>()?))
}
