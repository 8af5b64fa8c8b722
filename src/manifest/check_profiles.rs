//! Which seccomp and AppArmor profiles a container asks for.

use k8s_openapi::api::core::v1 as api;

use super::check::{Checker, Pairs};
use super::pod::{AppArmorProfile, SeccompProfile};
use super::tree::Path;

/// Followed by a container's name: how AppArmor profiles were asked for before they had a field. The kubelet still reads
/// it in static Pods.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// As long as a path may be, without its end.
const MAX_PROFILE_NAME: usize = 4095;

const NO_PROFILE: &str = "podkeep brings no AppArmor profile: AppArmor does not confine the container";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    RuntimeDefault,
    Unconfined,
    Localhost,
}

const KINDS: &[(&str, Kind)] = &[
    ("Localhost", Kind::Localhost),
    ("RuntimeDefault", Kind::RuntimeDefault),
    ("Unconfined", Kind::Unconfined),
];

/// The type and, for `Localhost`, the name of `field` below the `securityContext` at `path`.
struct Asked<'a> {
    path: Path,
    kind: Kind,
    name: &'a str,
}

impl<'a> Asked<'a> {
    fn read(
        written: &'a str,
        name: Option<&'a str>,
        words: [&str; 2],
        path: &Path,
        checker: &mut Checker<'_>,
    ) -> Option<Asked<'a>> {
        let [field, system] = words;
        let path = path.key(field);
        if written.is_empty() {
            let reason = format!("Required value: type is required when {field} is set");
            checker.error(&path.key("type"), reason);
            return None;
        }
        let kind = checker.word(&path.key("type"), Some(written), KINDS, Kind::Unconfined);
        let name_path = path.key("localhostProfile");
        match (kind, name) {
            (Kind::Localhost, None | Some("")) => {
                checker.error(
                    &name_path,
                    format!("Required value: must be set when {system} type is Localhost"),
                );
            }
            (Kind::RuntimeDefault | Kind::Unconfined, Some(name)) => {
                checker.invalid(&name_path, name, format!("can only be set when {system} type is Localhost"));
            }
            _ => {}
        }
        Some(Asked { path: name_path, kind, name: name.unwrap_or_default() })
    }
}

pub(super) fn seccomp(
    written: Option<&api::SeccompProfile>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<SeccompProfile> {
    let written = written?;
    let name = written.localhost_profile.as_deref();
    let asked = Asked::read(&written.type_, name, ["seccompProfile", "seccomp"], path, checker)?;
    Some(match asked.kind {
        Kind::RuntimeDefault => SeccompProfile::RuntimeDefault,
        Kind::Unconfined => SeccompProfile::Unconfined,
        Kind::Localhost => {
            if asked.name.starts_with('/') {
                checker.invalid(&asked.path, asked.name, "must be a relative path");
            }
            if asked.name.split('/').any(|part| part == "..") {
                checker.invalid(&asked.path, asked.name, "must not contain '..'");
            }
            if asked.name.contains('\0') {
                checker.invalid(&asked.path, asked.name, "must not contain NUL");
            }
            SeccompProfile::Localhost(asked.name.to_owned())
        }
    })
}

pub(super) fn apparmor(
    written: Option<&api::AppArmorProfile>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Option<AppArmorProfile> {
    let written = written?;
    let name = written.localhost_profile.as_deref();
    let asked = Asked::read(&written.type_, name, ["appArmorProfile", "AppArmor"], path, checker)?;
    Some(match asked.kind {
        Kind::RuntimeDefault => {
            let path = path.key("appArmorProfile");
            checker.findings.warn(checker.root.place_of(&path), Some(&path), format!("{path}: {NO_PROFILE}"));
            AppArmorProfile::RuntimeDefault
        }
        Kind::Unconfined => AppArmorProfile::Unconfined,
        Kind::Localhost => {
            apparmor_name(asked.name, &asked.path, checker);
            AppArmorProfile::Localhost(asked.name.to_owned())
        }
    })
}

fn apparmor_name(name: &str, path: &Path, checker: &mut Checker<'_>) {
    if name.trim() != name {
        checker.invalid(path, name, "must not be padded with whitespace");
    }
    if name.len() > MAX_PROFILE_NAME {
        checker.error(path, format!("Too long: may not be more than {MAX_PROFILE_NAME} bytes"));
    }
    if name.contains('\0') {
        checker.invalid(path, name, "must not contain NUL");
    }
}

/// The profile that an annotation asks for.
pub(super) fn annotated(
    container: &str,
    annotations: &Pairs,
    checker: &mut Checker<'_>,
) -> Option<AppArmorProfile> {
    let key = format!("{ANNOTATION}{container}");
    let written = annotations.get(&key)?;
    let path = Path::of("metadata.annotations").key(&key);
    match (written.as_str(), written.strip_prefix("localhost/")) {
        ("" | "unconfined", _) => Some(AppArmorProfile::Unconfined),
        ("runtime/default", _) => Some(AppArmorProfile::RuntimeDefault),
        (_, Some(name)) => {
            apparmor_name(name, &path, checker);
            Some(AppArmorProfile::Localhost(name.to_owned()))
        }
        _ => {
            checker.invalid(&path, written, "invalid AppArmor profile name");
            None
        }
    }
}
