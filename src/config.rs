//! The node's configuration: a file of `kind: KubeletConfiguration`.
#![forbid(unsafe_code)]

mod cni;
mod dns;
mod images;
mod shutdown;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cni::{CniConfig, CniRule};
pub use dns::{DnsConfig, ResolvConf};
pub use images::ImageConfig;
pub use shutdown::ShutdownConfig;

use crate::http::{Headers, Url};
use crate::manifest::findings::Findings;
use crate::manifest::quantity::Quantity;
use crate::manifest::tree::{Data, Node, Path as Field, Place};
use crate::manifest::{Diagnostic, MAX_BYTES, duration, sysctl, text};
use crate::network::Ranges;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// What podkeep takes from its configuration; [`Config::default`] is Kubernetes' default for each, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub static_pod_path: Option<PathBuf>,
    /// Where else manifests come from.
    pub static_pod_url: Option<Url>,
    /// What is sent with every request for it.
    pub static_pod_url_header: Headers,
    pub file_check_frequency: Duration,
    /// From one answer of [`Config::static_pod_url`] to the next question.
    pub http_check_frequency: Duration,
    pub pod_logs_dir: PathBuf,
    pub cgroup_root: Option<String>,
    /// Bytes.
    pub container_log_max_size: u64,
    /// At least 2.
    pub container_log_max_files: u32,
    /// `None`: no limit.
    pub max_pods: Option<u32>,
    /// `None`: no limit.
    pub pod_pids_limit: Option<u64>,
    /// What Pods may set besides the safe ones: names, or beginnings of names with `*` behind. Each is one of a namespace.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether a container that says nothing has the profile `RuntimeDefault`. On, other than in Kubernetes.
    pub seccomp_default: bool,
    /// How many ids a Pod with a user namespace of its own has: a multiple of 65536, not zero
    /// (`userNamespaces.idsPerPod`).
    pub user_ids_per_pod: u32,
    /// The longest wait between two runs of a container that fails again and again: 1 s to 300 s
    /// (`crashLoopBackOff.maxContainerRestartPeriod`). A Pod's annotation goes before it.
    pub max_container_restart_period: Duration,
    /// How old what was measured of Pods' disk usage may become where anything has changed; `None`: nothing is measured
    /// (`volumeStatsAggPeriod`, a negative one).
    pub volume_stats_period: Option<Duration>,
    pub pod_network: PodNetwork,
    pub cni: CniConfig,
    pub dns: DnsConfig,
    pub images: ImageConfig,
    pub shutdown: ShutdownConfig,
    /// Ours: refuse a Pod whose limits this host cannot enforce.
    pub require_cgroup_controllers: bool,
}

/// What Pods have that are not on the host's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// Addresses of podkeep's choice.
    #[default]
    Usual,
    /// Of these (`podCIDR`).
    Ranges(Ranges),
    /// None of podkeep's: a loopback of their own, and what plugins give them ([`CniConfig`]).
    Loopback,
}

/// `volumeStatsAggPeriod` where none is written.
const VOLUME_STATS_PERIOD: Duration = Duration::from_secs(60);

/// What `idsPerPod` must be a multiple of, and its default: as many ids as a system of 16-bit ids has.
const USER_IDS: u32 = 65536;

impl Default for Config {
    fn default() -> Config {
        Config {
            static_pod_path: None,
            static_pod_url: None,
            static_pod_url_header: Headers::default(),
            file_check_frequency: Duration::from_secs(20),
            http_check_frequency: Duration::from_secs(20),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            cgroup_root: None,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            max_pods: None,
            pod_pids_limit: None,
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: true,
            user_ids_per_pod: USER_IDS,
            max_container_restart_period: Duration::from_secs(300),
            volume_stats_period: Some(VOLUME_STATS_PERIOD),
            pod_network: PodNetwork::default(),
            cni: CniConfig::default(),
            dns: DnsConfig::default(),
            images: ImageConfig::default(),
            shutdown: ShutdownConfig::default(),
            require_cgroup_controllers: false,
        }
    }
}

/// A configuration, and which of its fields have no effect yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub config: Config,
    pub no_effect: Vec<String>,
}

const HONOURED: &[&str] = &[
    "apiVersion",
    "kind",
    "staticPodPath",
    "staticPodURL",
    "staticPodURLHeader",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "podLogsDir",
    "cgroupRoot",
    "containerLogMaxSize",
    "containerLogMaxFiles",
    "maxPods",
    "podPidsLimit",
    "allowedUnsafeSysctls",
    "seccompDefault",
    "userNamespaces",
    "crashLoopBackOff",
    "volumeStatsAggPeriod",
    "podCIDR",
    "podNetwork",
    "requireCgroupControllers",
];

/// The other fields of v1beta1.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "address", "authentication", "authorization", "cgroupDriver", "cgroupsPerQOS",
    "configMapAndSecretChangeDetectionStrategy", "containerLogMaxWorkers",
    "containerLogMonitorInterval", "containerRuntimeEndpoint", "contentType", "cpuCFSQuota", "cpuCFSQuotaPeriod",
    "cpuManagerPolicy", "cpuManagerPolicyOptions", "cpuManagerReconcilePeriod", "enableContentionProfiling", "enableControllerAttachDetach", "enableDebugFlagsHandler",
    "enableDebuggingHandlers", "enableProfilingHandler", "enableServer", "enableSystemLogHandler",
    "enableSystemLogQuery", "enforceNodeAllocatable", "eventBurst", "eventRecordQPS", "evictionHard",
    "evictionMaxPodGracePeriod", "evictionMinimumReclaim", "evictionPressureTransitionPeriod", "evictionSoft",
    "evictionSoftGracePeriod", "failCgroupV1", "failSwapOn", "featureGates", "hairpinMode", "healthzBindAddress",
    "healthzPort", "imagePullCredentialsVerificationPolicy", "imageServiceEndpoint",
    "iptablesDropBit", "iptablesMasqueradeBit", "kernelMemcgNotification", "kubeAPIBurst", "kubeAPIQPS",
    "kubeReserved", "kubeReservedCgroup", "kubeletCgroups", "localStorageCapacityIsolation", "logging",
    "makeIPTablesUtilChains", "maxOpenFiles", "memoryManagerPolicy",
    "memoryReservationPolicy", "memorySwap", "memoryThrottlingFactor", "mergeDefaultEvictionSettings",
    "nodeLeaseDurationSeconds", "nodeStatusMaxImages", "nodeStatusReportFrequency", "nodeStatusUpdateFrequency",
    "oomScoreAdj", "podsPerCore", "port", "preloadedImagesVerificationAllowlist",
    "protectKernelDefaults", "providerID", "qosReserved", "readOnlyPort", "registerNode", "registerWithTaints",
    "reservedMemory", "reservedSystemCPUs", "rotateCertificates",
    "runOnce", "runtimeRequestTimeout", "serverTLSBootstrap",
    "showHiddenMetricsForVersion", "singleProcessOOMKill",
    "streamingConnectionIdleTimeout", "syncFrequency", "systemCgroups", "systemReserved", "systemReservedCgroup",
    "tlsCertFile", "tlsCipherSuites", "tlsCurvePreferences", "tlsMinVersion", "tlsPrivateKeyFile",
    "topologyManagerPolicy", "topologyManagerPolicyOptions", "topologyManagerScope", "tracing",
    "volumePluginDir",
];

impl Config {
    /// Decodes a configuration file; an empty one gives the defaults.
    ///
    /// # Errors
    /// Everything that is wrong, sorted by place.
    pub fn decode(file: &Path, bytes: &[u8]) -> Result<Decoded, Vec<Diagnostic>> {
        let mut findings = Findings::new(file);
        let mut decoded = Decoded::default();
        if bytes.len() > MAX_BYTES {
            findings.error(Place::START, None, format!("the file is larger than {MAX_BYTES} bytes"));
        } else {
            match text::documents(bytes, &mut findings).as_slice() {
                [] => {}
                [document] => decoded = read(document, &mut findings),
                [_, second, ..] => {
                    findings.error(second.place, None, "a configuration file holds one document");
                }
            }
        }
        if findings.has_errors() { Err(findings.into_sorted()) } else { Ok(decoded) }
    }
}

fn read(document: &Node, findings: &mut Findings) -> Decoded {
    let mut decoded = Decoded::default();
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", "KubeletConfiguration")] {
        if document.get(key).and_then(Node::text) != Some(expected) {
            let path = Field::of(key);
            findings.error(document.place_of(&path), Some(&path), format!("{key}: must be {expected:?}"));
        }
    }
    let others = [HONOURED, cni::FIELDS, dns::FIELDS, images::FIELDS, shutdown::FIELDS].concat();
    for entry in document.entries() {
        let key = entry.key.as_str();
        if KNOWN.contains(&key) {
            decoded.no_effect.push(key.to_owned());
        } else if !others.contains(&key) {
            let all = [&others[..], KNOWN].concat();
            let hint = crate::manifest::nearest(key, &all).map(|name| format!("; did you mean `{name}`?"));
            let message = format!("unknown field: {key}{}", hint.unwrap_or_default());
            findings.error(entry.place, Some(&Field::of(key)), message);
        } else if entry.value.data != Data::Null
            && let Err(reason) = set(&mut decoded.config, key, &entry.value)
        {
            findings.error(entry.value.place, Some(&Field::of(key)), format!("{key}: {reason}"));
        }
    }
    let wrong = [decoded.config.images.verify(), decoded.config.shutdown.verify()];
    for (key, reason) in wrong.into_iter().filter_map(Result::err) {
        let field = Field::of(key);
        findings.error(document.place_of(&field), Some(&field), format!("{key}: {reason}"));
    }
    decoded
}

fn set(config: &mut Config, key: &str, value: &Node) -> Result<(), String> {
    let text = || value.text().ok_or("expected a string");
    let filled = || text().map(|text| Some(text).filter(|text| !text.is_empty()));
    match key {
        "staticPodPath" => config.static_pod_path = filled()?.map(PathBuf::from),
        "podLogsDir" => config.pod_logs_dir = filled()?.map_or(Config::default().pod_logs_dir, PathBuf::from),
        "cgroupRoot" => config.cgroup_root = filled()?.map(str::to_owned),
        "staticPodURL" => {
            let url = filled()?.map(str::parse::<Url>).transpose();
            config.static_pod_url = url.map_err(|error| error.to_string())?;
        }
        "staticPodURLHeader" => config.static_pod_url_header = headers(value)?,
        "fileCheckFrequency" => {
            config.file_check_frequency = period(text()?, Config::default().file_check_frequency)?;
        }
        "httpCheckFrequency" => {
            config.http_check_frequency = period(text()?, Config::default().http_check_frequency)?;
        }
        "containerLogMaxSize" => {
            let size =
                Quantity::parse(&value.scalar().unwrap_or_default()).map_err(|error| error.to_string())?;
            config.container_log_max_size = size.units();
        }
        "containerLogMaxFiles" => {
            let files = number(value, 2)?;
            config.container_log_max_files = u32::try_from(files).map_err(|_| "too large")?;
        }
        "maxPods" => config.max_pods = Some(u32::try_from(number(value, 0)?).map_err(|_| "too large")?),
        "podPidsLimit" => config.pod_pids_limit = u64::try_from(number(value, -1)?).ok().filter(|n| *n > 0),
        "allowedUnsafeSysctls" => config.allowed_unsafe_sysctls = sysctl_patterns(value)?,
        "seccompDefault" => config.seccomp_default = switch(value)?,
        "userNamespaces" => config.user_ids_per_pod = user_ids_per_pod(value)?,
        "crashLoopBackOff" => config.max_container_restart_period = max_restart_period(value)?,
        "volumeStatsAggPeriod" => config.volume_stats_period = volume_stats_period(text()?)?,
        "podCIDR" => set_ranges(config, text()?)?,
        "podNetwork" => set_network(config, text()?)?,
        "requireCgroupControllers" => config.require_cgroup_controllers = switch(value)?,
        _ if cni::FIELDS.contains(&key) => config.cni.set(key, value)?,
        _ if dns::FIELDS.contains(&key) => config.dns.set(key, value)?,
        _ if images::FIELDS.contains(&key) => config.images.set(key, value)?,
        _ if shutdown::FIELDS.contains(&key) => config.shutdown.set(key, value)?,
        _ => {}
    }
    Ok(())
}

/// None where Pods have no network of podkeep's own, whichever of the two fields stands first. Who names ranges wants addresses of them.
fn set_ranges(config: &mut Config, text: &str) -> Result<(), String> {
    let ranges = Ranges::parse(text)?;
    if config.pod_network != PodNetwork::Loopback {
        config.pod_network = PodNetwork::Ranges(ranges);
        config.cni.rule = CniRule::Never;
    }
    Ok(())
}

/// Ours.
fn set_network(config: &mut Config, text: &str) -> Result<(), String> {
    config.cni.rule = CniRule::Never;
    match text {
        "Addresses" => {}
        "Loopback" => config.pod_network = PodNetwork::Loopback,
        "CNI" => {
            config.pod_network = PodNetwork::Loopback;
            config.cni.rule = CniRule::Always;
        }
        _ => return Err("must be `Addresses`, `CNI` or `Loopback`".to_owned()),
    }
    Ok(())
}

fn switch(value: &Node) -> Result<bool, String> {
    if let Data::Bool(on) = value.data { Ok(on) } else { Err("expected true or false".to_owned()) }
}

/// Zero stands for the default, as in Kubernetes.
fn period(text: &str, default: Duration) -> Result<Duration, String> {
    let period = duration::parse(text).ok_or("expected a duration such as 20s or 1m30s")?;
    Ok(if period.is_zero() { default } else { period })
}

/// A negative one switches it off.
fn volume_stats_period(text: &str) -> Result<Option<Duration>, String> {
    match text.strip_prefix('-').and_then(duration::parse) {
        Some(below) if !below.is_zero() => Ok(None),
        _ => period(text, VOLUME_STATS_PERIOD).map(Some),
    }
}

/// A map from names to lists of values. No error holds a value: it may be a token.
fn headers(value: &Node) -> Result<Headers, String> {
    const EXPECTED: &str = "expected a map from names of headers to lists of strings";
    let Data::Map(entries) = &value.data else { return Err(EXPECTED.to_owned()) };
    let mut headers = Headers::default();
    for entry in entries {
        let Data::List(values) = &entry.value.data else { return Err(EXPECTED.to_owned()) };
        for value in values {
            let text = value.text().ok_or(EXPECTED)?;
            headers.add(&entry.key, text).map_err(|error| error.to_string())?;
        }
    }
    Ok(headers)
}

fn sysctl_patterns(value: &Node) -> Result<Vec<String>, String> {
    let Data::List(items) = &value.data else { return Err("expected a list".to_owned()) };
    let pattern = |item: &Node| {
        let pattern = item.text().ok_or("expected a list of strings")?;
        sysctl::valid_pattern(pattern).map_err(|reason| format!("{pattern:?}: {reason}"))?;
        Ok(pattern.to_owned())
    };
    items.iter().map(pattern).collect()
}

/// The one field that a map may have; `None` where it is not written.
fn only_field<'a>(value: &'a Node, field: &str) -> Result<Option<&'a Node>, String> {
    let Data::Map(entries) = &value.data else { return Err("expected a map".to_owned()) };
    if let Some(unknown) = entries.iter().find(|entry| entry.key != field) {
        return Err(format!("unknown field: {}", unknown.key));
    }
    Ok(value.get(field).filter(|node| node.data != Data::Null))
}

fn max_restart_period(value: &Node) -> Result<Duration, String> {
    const FIELD: &str = "maxContainerRestartPeriod";
    let Some(written) = only_field(value, FIELD)? else {
        return Ok(Config::default().max_container_restart_period);
    };
    let period = duration::max_restart_period(written.text().unwrap_or_default());
    period.map_err(|reason| format!("{FIELD}: {reason}"))
}

fn user_ids_per_pod(value: &Node) -> Result<u32, String> {
    let Some(written) = only_field(value, "idsPerPod")? else { return Ok(USER_IDS) };
    let ids = u32::try_from(number(written, USER_IDS.into())?).map_err(|_| "idsPerPod: too large")?;
    if ids.is_multiple_of(USER_IDS) {
        Ok(ids)
    } else {
        Err(format!("idsPerPod: must be a multiple of {USER_IDS}"))
    }
}

fn number(value: &Node, least: i64) -> Result<i64, String> {
    let number = match &value.data {
        Data::Number(number) => number.as_i64(),
        _ => None,
    };
    number.filter(|number| *number >= least).ok_or_else(|| format!("expected an integer of at least {least}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn decode(body: &str) -> Result<Decoded, Vec<String>> {
        let decoded = Config::decode(Path::new("c.yaml"), format!("{HEAD}{body}").as_bytes());
        decoded.map_err(|list| list.iter().map(Diagnostic::to_string).collect())
    }

    #[test]
    fn what_is_written_beats_the_defaults() {
        let decoded = decode(
            "staticPodPath: /etc/p\nfileCheckFrequency: 1m30s\ncontainerLogMaxSize: 1Mi\nmaxPods: 3\n\
             podPidsLimit: -1\ncpuCFSQuota: true\nrequireCgroupControllers: yes\n",
        )
        .unwrap();
        let expected = Config {
            static_pod_path: Some("/etc/p".into()),
            file_check_frequency: Duration::from_secs(90),
            container_log_max_size: 1 << 20,
            max_pods: Some(3),
            require_cgroup_controllers: true,
            ..Config::default()
        };
        assert_eq!(decoded, Decoded { config: expected, no_effect: vec!["cpuCFSQuota".to_owned()] });
    }

    #[test]
    fn what_is_wrong_is_named_at_its_place() {
        let errors =
            decode("staticPodPaht: /a\ncontainerLogMaxFiles: 1\nfileCheckFrequency: soon\n").unwrap_err();
        assert_eq!(
            errors,
            [
                "c.yaml:3:1: error: unknown field: staticPodPaht; did you mean `staticPodPath`?",
                "c.yaml:4:23: error: containerLogMaxFiles: expected an integer of at least 2",
                "c.yaml:5:21: error: fileCheckFrequency: expected a duration such as 20s or 1m30s",
            ]
        );
    }

    #[test]
    fn disk_usage_is_measured_once_in_a_while_or_not_at_all() {
        let period = |text: &str| {
            let decoded = decode(&format!("volumeStatsAggPeriod: {text}\n"));
            decoded.map(|decoded| decoded.config.volume_stats_period.map(|period| period.as_secs()))
        };
        assert_eq!(period("5m"), Ok(Some(300)));
        assert_eq!(period("0s"), Ok(Some(60)));
        assert_eq!(period("-1s"), Ok(None));
        assert!(period("-soon").unwrap_err()[0].contains("expected a duration"));
    }

    #[test]
    fn what_pods_may_ask_for_is_the_nodes_to_say() {
        let text = "allowedUnsafeSysctls: [net.core.*, kernel.sem]\nseccompDefault: false\n\
                    userNamespaces: {idsPerPod: 131072}\n";
        let config = decode(text).unwrap().config;
        assert_eq!(config.allowed_unsafe_sysctls, ["net.core.*", "kernel.sem"]);
        assert_eq!((config.seccomp_default, config.user_ids_per_pod), (false, 131_072));

        let default = decode("userNamespaces: {}\nseccompDefault: null\n").unwrap();
        assert_eq!(default, Decoded::default());
    }

    #[test]
    fn pods_have_time_by_their_priority() {
        let periods = |text: &str| {
            let periods = decode(text).unwrap().config.shutdown.periods();
            periods.into_iter().map(|period| (period.priority, period.within)).collect::<Vec<_>>()
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(periods(""), [(0, None), (2_000_000_000, None)]);
        assert_eq!(
            periods("shutdownGracePeriod: 1m\nshutdownGracePeriodCriticalPods: 10s\n"),
            [(0, seconds(50)), (2_000_000_000, seconds(10))]
        );
        let listed = "shutdownGracePeriodByPodPriority: [{priority: 1000, shutdownGracePeriodSeconds: 5}, \
                      {priority: -1, shutdownGracePeriodSeconds: 0}]\n";
        assert_eq!(periods(listed), [(-1, seconds(0)), (1000, seconds(5))]);
        for (text, reason) in [
            ("shutdownGracePeriodCriticalPods: 1s", "must not be longer than shutdownGracePeriod"),
            (&*format!("shutdownGracePeriod: 9s\n{listed}"), "cannot stand beside shutdownGracePeriod"),
            ("shutdownGracePeriodByPodPriority: [{prio: 1}]", "unknown field: prio"),
        ] {
            let errors = decode(text).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(reason), "{text}: {errors:?}");
        }
    }

    #[test]
    fn names_are_looked_up_in_the_cluster_or_as_the_host_does() {
        let dns = |text: &str| decode(text).unwrap().config.dns;
        assert_eq!(dns("clusterDNS: null\nclusterDomain: ''\nresolvConf: null\n"), DnsConfig::default());
        assert_eq!(dns("clusterDNS: []\n").cluster_dns, Some(Vec::new()), "nobody");
        let text =
            "clusterDNS: [10.96.0.10, 'fd00::a']\nclusterDomain: c.local.\nresolvConf: /run/resolv.conf\n";
        let expected = DnsConfig {
            cluster_dns: Some(vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()]),
            cluster_domain: "c.local".to_owned(),
            resolv_conf: ResolvConf::File("/run/resolv.conf".into()),
        };
        assert_eq!(dns(text), expected);
        assert_eq!(dns("resolvConf: ''\n").resolv_conf, ResolvConf::Nowhere);
    }

    #[test]
    fn pods_have_addresses_of_a_range_or_a_loopback_only() {
        let network = |text: &str| decode(text).unwrap().config.pod_network;
        assert_eq!(network("podNetwork: Addresses\n"), PodNetwork::Usual);
        let ranges = "podCIDR: 10.1.0.0/16,fd00::/64\n";
        assert!(matches!(network(ranges), PodNetwork::Ranges(_)));
        for both in [format!("{ranges}podNetwork: Loopback\n"), format!("podNetwork: Loopback\n{ranges}")] {
            assert_eq!(network(&both), PodNetwork::Loopback);
        }
        for wrong in
            ["podCIDR: 10.1.0.1/16\n", "podNetwork: none\n", "cniConfDir: net.d\n", "cniBinDirs: /opt\n"]
        {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_says_nothing_of_the_network_gets_cni_where_it_is() {
        let decoded = |text: &str| decode(text).unwrap().config;
        let rule = |text: &str| (decoded(text).cni.rule, decoded(text).pod_network == PodNetwork::Loopback);
        assert_eq!(rule("cniConfDir: /etc/net.d\n"), (CniRule::WhereFound, false));
        let ranges = "podCIDR: 10.1.0.0/16\n";
        for own in [ranges, "podNetwork: Addresses\n"] {
            assert_eq!(rule(own), (CniRule::Never, false), "{own}");
        }
        assert_eq!(rule("podNetwork: Loopback\n"), (CniRule::Never, true));
        for cni in [format!("{ranges}podNetwork: CNI\n"), format!("podNetwork: CNI\n{ranges}")] {
            assert_eq!(rule(&cni), (CniRule::Always, true), "{cni}");
        }
        let cni = decoded("cniConfDir: /etc/net.d\ncniBinDirs: [/a, /b]\n").cni;
        assert_eq!((cni.conf_dir, cni.bin_dirs), ("/etc/net.d".into(), vec!["/a".into(), "/b".into()]));
    }

    #[test]
    fn a_url_of_manifests_has_headers_and_a_period() {
        let text = "staticPodURL: https://h.example/pods\nhttpCheckFrequency: 1m\n\
                    staticPodURLHeader: {X-Token: [a, b], X-Node: [one]}\n";
        let config = decode(text).unwrap().config;
        assert_eq!(config.static_pod_url, Some("https://h.example/pods".parse().unwrap()));
        assert_eq!(config.http_check_frequency, Duration::from_secs(60));
        let headers: Vec<_> = config.static_pod_url_header.iter().collect();
        assert_eq!(headers, [("X-Token", "a"), ("X-Token", "b"), ("X-Node", "one")]);
        assert_eq!(decode("staticPodURL: ''\nhttpCheckFrequency: 0s\n").unwrap(), Decoded::default());
    }

    #[test]
    fn no_error_holds_a_password_or_token() {
        for text in [
            "staticPodURL: https://me:secret@h:99999/",
            "staticPodURL: ftp://me:secret@h/",
            "staticPodURLHeader: {X-Token: secret}",
            "staticPodURLHeader: {X-Token: [\"secret\\n\"]}",
            "staticPodURLHeader: {X Token: [secret]}",
            "staticPodURLHeader: [secret]",
        ] {
            let errors = decode(text).unwrap_err();
            assert!(errors.len() == 1 && !errors[0].contains("secret"), "{text}: {errors:?}");
        }
    }

    #[test]
    fn what_no_pod_can_have_is_refused() {
        let cases = [
            ("allowedUnsafeSysctls: [vm.swappiness]", "\"vm.swappiness\": a Pod cannot have such sysctls"),
            ("allowedUnsafeSysctls: [net.*.a]", "must have at most 253 characters"),
            ("allowedUnsafeSysctls: net.*", "expected a list"),
            ("userNamespaces: {idsPerPod: 65537}", "must be a multiple of 65536"),
            ("userNamespaces: {idsPerPod: 0}", "expected an integer of at least 65536"),
            ("userNamespaces: {idsPerPod: 4294967296}", "too large"),
            ("userNamespaces: {ids: 1}", "unknown field: ids"),
            ("crashLoopBackOff: {maxContainerRestartPeriod: 301s}", "between 1s and 300s"),
            ("crashLoopBackOff: {maxContainerRestartPeriod: 5}", "between 1s and 300s"),
            ("clusterDNS: [10.0.0.256]", "\"10.0.0.256\" is no IP address"),
            ("clusterDNS: 10.0.0.1", "expected a list of IP addresses"),
            ("clusterDomain: Cluster.local", "lowercase RFC 1123 subdomain"),
            ("resolvConf: resolv.conf", "must be an absolute path, or empty"),
            ("seccompDefault: maybe", "expected true or false"),
        ];
        for (text, reason) in cases {
            let errors = decode(text).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(reason), "{text}: {errors:?}");
        }
    }
}
