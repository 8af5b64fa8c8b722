//! What the configuration says of networks that plugins of others make.

use std::path::PathBuf;

use crate::manifest::tree::{Data, Node};

pub(super) const FIELDS: &[&str] = &["cniConfDir", "cniBinDirs"];

/// Where they are described, and where the plugins lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    pub rule: CniRule,
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
}

/// Whether Pods are on such a network (`podNetwork`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CniRule {
    /// If [`CniConfig::conf_dir`] has one.
    #[default]
    WhereFound,
    Always,
    Never,
}

impl Default for CniConfig {
    /// Where containerd looks, and where Debian's plugins are.
    fn default() -> CniConfig {
        CniConfig {
            rule: CniRule::default(),
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
        }
    }
}

impl CniConfig {
    /// Takes one of [`FIELDS`].
    pub(super) fn set(&mut self, key: &str, value: &Node) -> Result<(), String> {
        match key {
            "cniConfDir" => self.conf_dir = folder(value)?,
            "cniBinDirs" => {
                let Data::List(items) = &value.data else {
                    return Err("expected a list of folders".to_owned());
                };
                self.bin_dirs = items.iter().map(folder).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn folder(value: &Node) -> Result<PathBuf, String> {
    let text = value.text().filter(|text| text.starts_with('/'));
    text.map(PathBuf::from).ok_or_else(|| "must be an absolute path".to_owned())
}
