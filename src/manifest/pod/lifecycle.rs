//! Hooks and probes: what they do, and a probe's numbers.

use std::time::Duration;

/// `lifecycle`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Right after the container's start.
    pub post_start: Option<HookAction>,
    /// Before its stop signal, within the grace period.
    pub pre_stop: Option<HookAction>,
    /// Instead of the image's; one of Kubernetes' names, such as `SIGTERM` or `SIGRTMIN+3`.
    pub stop_signal: Option<&'static str>,
}

/// What a hook does. A hook has no `tcpSocket`: the kubelet takes it and fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// A command in the container, without a shell; at least one word.
    Exec(Vec<String>),
    HttpGet(HttpGet),
    /// Whole seconds, no longer than the Pod's grace period.
    Sleep(Duration),
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// A command in the container, without a shell; at least one word.
    Exec(Vec<String>),
    HttpGet(HttpGet),
    TcpSocket {
        /// The Pod's own address where there is none.
        host: Option<String>,
        port: u16,
    },
    /// `grpc.health.v1.Health/Check` without TLS.
    Grpc {
        port: u16,
        /// Empty: the server as a whole.
        service: String,
    },
}

/// `httpGet`, of a hook or of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    pub https: bool,
    /// The Pod's own address where there is none.
    pub host: Option<String>,
    /// Never zero; a name stands for the port of the same container that has it.
    pub port: u16,
    /// With the query; `/` where none is written.
    pub path: String,
    /// In the manifest's order; names are tokens of letters, digits and `-`.
    pub headers: Vec<(String, String)>,
}

/// A probe with Kubernetes' defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub action: ProbeAction,
    /// From the container's start to the first one. Whole seconds, as all here.
    pub initial_delay: Duration,
    /// From one to the next; at least a second.
    pub period: Duration,
    /// A second or more; what takes longer has failed.
    pub timeout: Duration,
    /// So many in a row count as a success; 1 but for readiness.
    pub success_threshold: u32,
    /// So many in a row count as a failure; at least 1.
    pub failure_threshold: u32,
    /// The grace period of a container that this probe ends; longer than the Pod's if need be. Never with readiness.
    pub termination_grace: Option<Duration>,
}

/// The probes of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    pub startup: Option<Probe>,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
}
