//! `restartPolicy` of Pods and containers, `restartPolicyRules`, and what else is said about the Pod's whole life.

use std::time::Duration;

use k8s_openapi::api::core::v1 as api;

use super::check::Checker;
use super::pod::{Restart, RestartAction, RestartPolicy, RestartRule, Role};
use super::tree::Path;
use super::{defaults, names};

/// `VAL:validateContainerRestartPolicy`.
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;
/// The two classes that every cluster has (`pkg/apis/scheduling`); no other can be looked up here.
const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

const POLICIES: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

/// What the Pod says of all its containers that say nothing: each has it as its own then.
pub(super) fn of_pod(spec: &api::PodSpec, checker: &mut Checker<'_>) {
    let path = Path::of("spec.restartPolicy");
    checker.word(&path, spec.restart_policy.as_deref(), &POLICIES, RestartPolicy::Always);
}

/// What an init container is says its own restart policy.
pub(super) fn role(written: &api::Container, is_init: bool) -> Role {
    match (is_init, written.restart_policy.as_deref()) {
        (true, Some("Always")) => Role::Sidecar,
        (true, _) => Role::Init,
        (false, _) => Role::Main,
    }
}

pub(super) fn of_container(
    written: &api::Container,
    of_pod: Option<&str>,
    path: &Path,
    checker: &mut Checker<'_>,
) -> Restart {
    let own = written.restart_policy.as_deref().filter(|policy| !policy.is_empty());
    let rules = written.restart_policy_rules.as_deref().unwrap_or_default();
    let policy_path = path.key("restartPolicy");
    if own.is_none() && !rules.is_empty() {
        let place = path.key("restartPolicyRules");
        checker.error(&place, format!("{policy_path} must be specified where there are rules"));
    }
    let inherited = POLICIES.iter().find(|(word, _)| Some(*word) == of_pod);
    let default = inherited.map_or(RestartPolicy::Always, |(_, policy)| *policy);
    let policy = checker.word(&policy_path, own, &POLICIES, default);
    Restart { policy, rules: self::rules(rules, &path.key("restartPolicyRules"), checker) }
}

fn rules(written: &[api::ContainerRestartRule], list: &Path, checker: &mut Checker<'_>) -> Vec<RestartRule> {
    at_most(MAX_RULES, written.len(), list, checker);
    let rule = |(index, rule)| self::rule(rule, &list.index(index), checker);
    written.iter().enumerate().map(rule).collect()
}

fn rule(written: &api::ContainerRestartRule, path: &Path, checker: &mut Checker<'_>) -> RestartRule {
    let actions = [("Restart", RestartAction::Restart), ("RestartAllContainers", RestartAction::RestartAll)];
    let action = word(&path.key("action"), &written.action, &actions, checker);
    let path = path.key("exitCodes");
    let Some(codes) = &written.exit_codes else {
        checker.required(&path);
        return RestartRule { codes: Vec::new(), one_of: true, action };
    };
    let operators = [("In", true), ("NotIn", false)];
    let one_of = word(&path.key("operator"), &codes.operator, &operators, checker);
    let codes = codes.values.clone().unwrap_or_default();
    at_most(MAX_CODES, codes.len(), &path.key("values"), checker);
    RestartRule { codes, one_of, action }
}

/// A word that must be there.
fn word<T: Copy>(path: &Path, written: &str, words: &[(&str, T); 2], checker: &mut Checker<'_>) -> T {
    if written.is_empty() {
        checker.required(path);
    }
    checker.word(path, Some(written), words, words[0].1)
}

fn at_most(most: usize, count: usize, path: &Path, checker: &mut Checker<'_>) {
    if count > most {
        checker.error(path, format!("Too many: {count}: must have at most {most} items"));
    }
}

pub(super) fn termination_grace(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Duration {
    let seconds = spec.termination_grace_period_seconds.unwrap_or(defaults::GRACE_SECONDS);
    let seconds = u64::try_from(seconds).unwrap_or_else(|_| {
        let path = Path::of("spec.terminationGracePeriodSeconds");
        checker.invalid(&path, seconds, "must be greater than or equal to 0");
        0
    });
    Duration::from_secs(seconds)
}

pub(super) fn active_deadline(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Option<Duration> {
    let seconds = spec.active_deadline_seconds?;
    if !(1..=i64::from(i32::MAX)).contains(&seconds) {
        let path = Path::of("spec.activeDeadlineSeconds");
        checker.invalid(&path, seconds, format!("must be between 1 and {}, inclusive", i32::MAX));
    }
    Some(Duration::from_secs(seconds.unsigned_abs()))
}

pub(super) fn priority_class_name(spec: &api::PodSpec, checker: &mut Checker<'_>) -> Option<String> {
    let name = spec.priority_class_name.as_deref().filter(|name| !name.is_empty())?;
    checker.name(&Path::of("spec.priorityClassName"), name, names::dns_subdomain);
    Some(name.to_owned())
}

/// The number that is written, else that of the class: a static Pod's class is nobody else's to look up.
pub(super) fn priority(spec: &api::PodSpec) -> i32 {
    let class = spec.priority_class_name.as_deref();
    let of_class = SYSTEM_CLASSES.iter().find(|(name, _)| Some(*name) == class);
    spec.priority.or(of_class.map(|(_, priority)| *priority)).unwrap_or(0)
}
