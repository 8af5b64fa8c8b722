//! config
#![forbid(unsafe_code)]
use std::path::PathBuf;
use std::time::Duration;
#[derive(Debug, Clone)]
pub struct Config {
    pub static_pod_path: Option<PathBuf>,
    pub file_check_frequency: Duration,
    pub pod_logs_dir: PathBuf,
    pub cgroup_root: Option<String>,
    pub container_log_max_size: Option<u64>,
    pub container_log_max_files: u32,
    pub max_pods: Option<u32>,
    pub pod_pids_limit: Option<u64>,
    pub require_cgroup_controllers: bool,
}

pub struct Decoded {
    pub config: Config,
    pub no_effect: Vec<String>,
}
impl Config {
    pub fn decode(_f: &std::path::Path, _b: &[u8]) -> Result<Decoded, Vec<crate::manifest::Diagnostic>> {
        Err(Vec::new())
    }
}

impl Default for Config { fn default() -> Self { Config { static_pod_path: None, file_check_frequency: Duration::from_secs(20), pod_logs_dir: "/var/log/pods".into(), cgroup_root: None, container_log_max_size: Some(10<<20), container_log_max_files: 5, max_pods: None, pod_pids_limit: None, require_cgroup_controllers: false } } }
