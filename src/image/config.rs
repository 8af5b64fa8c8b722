//! What an image's configuration says about running it.

use std::collections::BTreeMap;

use crate::order;
use oci_spec::image::ImageConfiguration;

/// The part of an image's configuration that a container starts from (OCI image-spec, `config.md`).
///
/// Empty text and lists mean that the image says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `user`, `uid`, `user:group`, `uid:gid` or a mix; names are those of the image's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// A name or a number, such as `SIGQUIT`, not checked.
    pub stop_signal: Option<String>,
    /// Paths that the image wants on a volume, sorted.
    pub volumes: Vec<String>,
    /// `port/protocol`, sorted.
    pub exposed_ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl Config {
    pub(super) fn from_oci(configuration: &ImageConfiguration) -> Config {
        let Some(config) = configuration.config() else { return Config::default() };
        Config {
            user: config.user().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            working_dir: config.working_dir().clone().unwrap_or_default(),
            stop_signal: config.stop_signal().clone().filter(|signal| !signal.is_empty()),
            volumes: sorted(config.volumes()),
            exposed_ports: sorted(config.exposed_ports()),
            labels: order::map(config.labels().clone().unwrap_or_default()),
        }
    }
}

/// The document holds a set; its order must not change from one reading to the next.
fn sorted(set: &Option<Vec<String>>) -> Vec<String> {
    let mut list = set.clone().unwrap_or_default();
    order::sort(&mut list);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_missing_fields_mean_nothing_said() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"User":"app","Env":null,"Entrypoint":null,"Cmd":["sh"],"Volumes":null,"StopSignal":"",
            "ExposedPorts":{"8080/tcp":{},"443/tcp":{}},"ArgsEscaped":true}}"#;
        let config = Config::from_oci(&serde_json::from_str(text).unwrap());
        let expected = Config {
            user: "app".into(),
            cmd: vec!["sh".into()],
            exposed_ports: vec!["443/tcp".into(), "8080/tcp".into()],
            ..Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn an_image_without_a_config_section_is_empty() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(Config::from_oci(&serde_json::from_str(text).unwrap()), Config::default());
    }
}
