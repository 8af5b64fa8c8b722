//! `podkeep oci spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, Spec};

use super::args::SpecArgs;
use super::state::OCI_VERSION;

pub fn spec(args: &SpecArgs) -> Result<ExitCode> {
    if args.rootless {
        bail!("--rootless is not supported: podkeep is root");
    }
    let path = args.bundle.join("config.json");
    // What is there may be somebody's work.
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.with_context(|| format!("make {}", path.display()))?;
    let mut text = serde_json::to_vec_pretty(&template()).context("write the description as JSON")?;
    text.push(b'\n');
    file.write_all(&text).with_context(|| format!("write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A shell on a terminal, in namespaces of its own and with no device but the harmless ones.
fn template() -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned()).set_hostname(Some("podkeep".to_owned())).set_annotations(None);
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true));
    }
    let mut none = LinuxDeviceCgroup::default();
    none.set_allow(false).set_access(Some("rwm".to_owned()));
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut()) {
        resources.set_devices(Some(vec![none]));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{self, Namespaces, Root, Setting, Stdio};

    #[test]
    fn what_is_written_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let args = SpecArgs { bundle: dir.path().to_owned(), rootless: false };
        spec(&args).unwrap();
        let (read, ..) = super::super::bundle::parse(&dir.path().join("config.json")).unwrap();
        let setting = Setting::new(Root::Directory("/rootfs".into()), Namespaces::default(), Stdio::Inherit);
        container::plan(&read, setting).unwrap();
        assert!(spec(&args).is_err(), "it is there already");
        assert!(spec(&SpecArgs { rootless: true, ..args }).is_err());
    }
}
