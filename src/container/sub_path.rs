//! The part of a volume that a mount shows: `subPath`, and `subPathExpr` with the container's variables in it.

use std::cell::RefCell;
use std::path::PathBuf;

use super::environment::Environment;
use super::expand::expand;
use crate::manifest::pod;
use crate::order;

/// What a bind mount of a `Spec` shows where that is no whole volume. The `Spec` can only name it, and what a name leads to may
/// change until it is opened: the plan finds it below the volume, by descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubPath {
    /// That of the bind mount.
    pub destination: PathBuf,
    /// Absolute, on the host.
    pub volume: PathBuf,
    /// Relative, of plain names.
    pub path: String,
    /// Whose the folders are that are made where they are missing, with the volume's mode; `None`: it has to be there.
    pub owner: Option<u32>,
}

/// Why there is no such part, in the kubelet's words (`ExpandContainerVolumeMounts`, `makeMounts`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubPathError {
    #[error("missing value for {}", .0.join(", "))]
    Missing(Vec<String>),
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    BackSteps(String),
}

/// The names on the way from the volume; empty where that is the volume itself.
///
/// # Errors
/// When a variable of an expression is not there or empty, or what comes of it leads out of the volume.
pub fn expanded_sub_path(written: &pod::SubPath, environment: &Environment) -> Result<String, SubPathError> {
    let expanded = match written {
        pod::SubPath::Plain(path) => path.clone(),
        pod::SubPath::Expression(expression) => expanded_expression(expression, environment)?,
    };
    if expanded.starts_with('/') {
        return Err(SubPathError::Absolute(expanded));
    }
    let names: Vec<&str> = expanded.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err(SubPathError::BackSteps(expanded));
    }
    Ok(names.join("/"))
}

fn expanded_expression(expression: &str, environment: &Environment) -> Result<String, SubPathError> {
    let missing = RefCell::new(Vec::new());
    let expanded = expand(expression, |name| {
        let value = environment.get(name).filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        value
    });
    let mut missing = missing.into_inner();
    if missing.is_empty() {
        return Ok(expanded);
    }
    order::sort(&mut missing);
    missing.dedup();
    Err(SubPathError::Missing(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(expression: &str) -> Result<String, String> {
        let mut environment = Environment::default();
        for (name, value) in [("POD", "web-0"), ("EMPTY", ""), ("UP", "a/../b"), ("ROOT", "/etc")] {
            environment.set(name, value);
        }
        let written = pod::SubPath::Expression(expression.to_owned());
        expanded_sub_path(&written, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn an_expression_has_the_variables_of_its_container() {
        assert_eq!(expanded("logs/$(POD)").unwrap(), "logs/web-0");
        assert_eq!(expanded("$$(POD)").unwrap(), "$(POD)");
        assert_eq!(expanded("a//$(POD)/./b/").unwrap(), "a/web-0/b");
        assert_eq!(expanded(".").unwrap(), "");
    }

    #[test]
    fn what_lacks_a_variable_or_leads_elsewhere_is_refused_in_the_kubelets_words() {
        for (expression, error) in [
            ("$(ZZZ)/$(EMPTY)/$(NONE)/$(ZZZ)", "missing value for EMPTY, NONE, ZZZ"),
            ("x/$(UP)", "unable to provision SubPath `x/a/../b`: must not contain '..'"),
            ("$(ROOT)/x", "error SubPath `/etc/x` must not be an absolute path"),
        ] {
            assert_eq!(expanded(expression), Err(error.to_owned()));
        }
    }

    #[test]
    fn a_plain_path_is_not_expanded() {
        let written = pod::SubPath::Plain("$(POD)".to_owned());
        assert_eq!(expanded_sub_path(&written, &Environment::default()), Ok("$(POD)".to_owned()));
    }
}
