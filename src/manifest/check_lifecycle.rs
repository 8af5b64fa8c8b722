//! Hooks and probes of a container (`validateLifecycle`, `validateProbe`).

use std::time::Duration;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check::Checker;
use super::names;
use super::pod::{HookAction, HttpGet, Lifecycle, Port, Probe, ProbeAction, Probes, Role};
use super::tree::Path;

/// `core.Signal`'s values on Linux, without the real-time ones.
#[rustfmt::skip]
const SIGNALS: [&str; 36] = [
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP",
    "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM",
    "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX",
];
/// `SIGRTMIN+1` … `SIGRTMIN+15` and `SIGRTMAX-14` … `SIGRTMAX-1`.
#[rustfmt::skip]
const REAL_TIME: [&str; 29] = [
    "SIGRTMIN+1", "SIGRTMIN+2", "SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5", "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8",
    "SIGRTMIN+9", "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15",
    "SIGRTMAX-14", "SIGRTMAX-13", "SIGRTMAX-12", "SIGRTMAX-11", "SIGRTMAX-10", "SIGRTMAX-9", "SIGRTMAX-8",
    "SIGRTMAX-7", "SIGRTMAX-6", "SIGRTMAX-5", "SIGRTMAX-4", "SIGRTMAX-3", "SIGRTMAX-2", "SIGRTMAX-1",
];

/// One container's hooks and probes, as they are looked at.
struct Look<'a, 'b> {
    container: &'a api::Container,
    ports: &'a [Port],
    /// The Pod's.
    grace: Duration,
    checker: &'a mut Checker<'b>,
}

/// `grace` is the Pod's; `ports` are the container's own, checked.
pub(super) fn of_container(
    container: &api::Container,
    role: Role,
    ports: &[Port],
    grace: Duration,
    path: &Path,
    checker: &mut Checker<'_>,
) -> (Lifecycle, Probes) {
    let mut look = Look { container, ports, grace, checker };
    if role == Role::Init {
        look.forbid(path);
        return Default::default();
    }
    let lifecycle = container.lifecycle.as_ref();
    (
        lifecycle.map(|written| look.lifecycle(written, &path.key("lifecycle"))).unwrap_or_default(),
        look.probes(path),
    )
}

impl Look<'_, '_> {
    fn forbid(&mut self, path: &Path) {
        let c = self.container;
        let written = [
            ("lifecycle", c.lifecycle.is_some()),
            ("livenessProbe", c.liveness_probe.is_some()),
            ("readinessProbe", c.readiness_probe.is_some()),
            ("startupProbe", c.startup_probe.is_some()),
        ];
        for (key, _) in written.into_iter().filter(|(_, is_written)| *is_written) {
            let reason = "Forbidden: may not be set for init containers without restartPolicy=Always";
            self.checker.error(&path.key(key), reason);
        }
    }

    fn lifecycle(&mut self, written: &api::Lifecycle, path: &Path) -> Lifecycle {
        let post_start = written.post_start.as_ref().and_then(|hook| self.hook(hook, &path.key("postStart")));
        let pre_stop = written.pre_stop.as_ref().and_then(|hook| self.hook(hook, &path.key("preStop")));
        let signal = written.stop_signal.as_deref().filter(|signal| !signal.is_empty());
        let stop_signal = signal.and_then(|signal| {
            let known = SIGNALS.iter().chain(&REAL_TIME).find(|known| **known == signal).copied();
            if known.is_none() {
                let reason = "Unsupported value: no signal's name, as SIGTERM is";
                self.checker.error(&path.key("stopSignal"), format!("{reason}: {signal:?}"));
            }
            known
        });
        Lifecycle { post_start, pre_stop, stop_signal }
    }

    fn hook(&mut self, written: &api::LifecycleHandler, path: &Path) -> Option<HookAction> {
        let api::LifecycleHandler { exec, http_get, sleep, tcp_socket } = written;
        self.one_handler([exec.is_some(), http_get.is_some(), sleep.is_some(), tcp_socket.is_some()], path)?;
        if tcp_socket.is_some() {
            let path = path.key("tcpSocket");
            self.checker.error(&path, "a hook cannot do that, with the kubelet neither: use exec or httpGet");
        }
        let exec = exec.as_ref().map(|exec| HookAction::Exec(self.exec(exec, path)));
        let http = http_get.as_ref().map(|get| HookAction::HttpGet(self.http_get(get, path)));
        let sleep = sleep.as_ref().map(|sleep| HookAction::Sleep(self.sleep(sleep, path)));
        exec.or(http).or(sleep)
    }

    fn probes(&mut self, path: &Path) -> Probes {
        let c = self.container;
        let mut probe = |written: &Option<api::Probe>, key: &str| {
            written.as_ref().and_then(|written| self.probe(written, key, &path.key(key)))
        };
        Probes {
            startup: probe(&c.startup_probe, "startupProbe"),
            liveness: probe(&c.liveness_probe, "livenessProbe"),
            readiness: probe(&c.readiness_probe, "readinessProbe"),
        }
    }

    fn probe(&mut self, written: &api::Probe, kind: &str, path: &Path) -> Option<Probe> {
        let is_readiness = kind == "readinessProbe";
        let mut number = |key, value, default| self.number(&path.key(key), value, default);
        let initial_delay = number("initialDelaySeconds", written.initial_delay_seconds, 0);
        let timeout = number("timeoutSeconds", written.timeout_seconds, 1);
        let period = number("periodSeconds", written.period_seconds, 10);
        let success_threshold = number("successThreshold", written.success_threshold, 1);
        let failure_threshold = number("failureThreshold", written.failure_threshold, 3);
        if success_threshold != 1 && !is_readiness {
            self.checker.invalid(&path.key("successThreshold"), success_threshold, "must be 1");
        }
        let grace = written.termination_grace_period_seconds;
        let grace_path = path.key("terminationGracePeriodSeconds");
        match grace {
            Some(seconds) if is_readiness => {
                self.checker.invalid(&grace_path, seconds, "must not be set for readinessProbes");
            }
            Some(seconds) if seconds <= 0 => {
                self.checker.invalid(&grace_path, seconds, "must be greater than 0");
            }
            _ => {}
        }
        let seconds = |number: u32| Duration::from_secs(number.into());
        Some(Probe {
            action: self.probe_action(written, path)?,
            initial_delay: seconds(initial_delay),
            period: seconds(period),
            timeout: seconds(timeout),
            success_threshold,
            failure_threshold,
            termination_grace: grace.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        })
    }

    fn probe_action(&mut self, written: &api::Probe, path: &Path) -> Option<ProbeAction> {
        let api::Probe { exec, http_get, tcp_socket, grpc, .. } = written;
        self.one_handler([exec.is_some(), http_get.is_some(), tcp_socket.is_some(), grpc.is_some()], path)?;
        let exec = exec.as_ref().map(|exec| ProbeAction::Exec(self.exec(exec, path)));
        let http = http_get.as_ref().map(|get| ProbeAction::HttpGet(self.http_get(get, path)));
        let tcp = tcp_socket.as_ref().map(|tcp| ProbeAction::TcpSocket {
            host: filled(&tcp.host),
            port: self.port(&tcp.port, &path.key("tcpSocket").key("port")),
        });
        let grpc = grpc.as_ref().map(|grpc| ProbeAction::Grpc {
            port: self.port_number(grpc.port, &path.key("grpc").key("port")),
            service: grpc.service.clone().unwrap_or_default(),
        });
        exec.or(http).or(tcp).or(grpc)
    }

    /// `None`, and an error, unless exactly one is there.
    fn one_handler(&mut self, there: [bool; 4], path: &Path) -> Option<()> {
        let reason = match there.into_iter().filter(|there| *there).count() {
            1 => return Some(()),
            0 => "Required value: must specify a handler type",
            _ => "Forbidden: may not specify more than 1 handler type",
        };
        self.checker.error(path, reason);
        None
    }

    fn exec(&mut self, written: &api::ExecAction, path: &Path) -> Vec<String> {
        let path = path.key("exec").key("command");
        let command = written.command.clone().unwrap_or_default();
        if command.is_empty() {
            self.checker.required(&path);
        }
        // Neither of them can be handed to a process.
        for (index, word) in command.iter().enumerate().filter(|(_, word)| word.contains('\0')) {
            self.checker.invalid(&path.index(index), word, "must not contain NUL");
        }
        command
    }

    fn http_get(&mut self, written: &api::HTTPGetAction, path: &Path) -> HttpGet {
        let path = path.key("httpGet");
        let schemes = [("HTTP", false), ("HTTPS", true)];
        let list = path.key("httpHeaders");
        let headers = written.http_headers.iter().flatten().enumerate().map(|(index, header)| {
            self.checker.name(&list.index(index).key("name"), &header.name, names::http_header);
            if header.value.contains(['\r', '\n', '\0']) {
                let path = list.index(index).key("value");
                self.checker.invalid(&path, &header.value, "must not contain line breaks or NUL");
            }
            (header.name.clone(), header.value.clone())
        });
        HttpGet {
            headers: headers.collect(),
            https: self.checker.word(&path.key("scheme"), written.scheme.as_deref(), &schemes, false),
            host: filled(&written.host),
            port: self.port(&written.port, &path.key("port")),
            path: filled(&written.path).unwrap_or_else(|| "/".to_owned()),
        }
    }

    fn sleep(&mut self, written: &api::SleepAction, path: &Path) -> Duration {
        let most = self.grace.as_secs();
        let seconds = u64::try_from(written.seconds).ok().filter(|seconds| *seconds <= most);
        if seconds.is_none() {
            let reason = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
            self.checker.invalid(&path.key("sleep").key("seconds"), written.seconds, reason);
        }
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// A number, or the name of one of the container's own ports. (The kubelet accepts any name, and the probe then fails.)
    fn port(&mut self, written: &IntOrString, path: &Path) -> u16 {
        let name = match written {
            IntOrString::Int(number) => return self.port_number(*number, path),
            IntOrString::String(name) => name,
        };
        self.checker.name(path, name, names::port_name);
        let port = self.ports.iter().find(|port| port.name.as_ref() == Some(name));
        if port.is_none() && names::port_name(name).is_ok() {
            self.checker.error(path, format!("Not found: {name:?}: no port of this container has that name"));
        }
        port.map_or(0, |port| port.container_port)
    }

    fn port_number(&mut self, number: i32, path: &Path) -> u16 {
        super::check_container::port_number(number, path, self.checker)
    }

    /// Zero stands for the default, as in Kubernetes.
    fn number(&mut self, path: &Path, written: Option<i32>, default: u32) -> u32 {
        let number = written.unwrap_or(0);
        if number < 0 {
            self.checker.invalid(path, number, "must be greater than or equal to 0");
        }
        u32::try_from(number).ok().filter(|number| *number != 0).unwrap_or(default)
    }
}

fn filled(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}
