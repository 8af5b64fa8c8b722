//! When a container runs, and what follows its end.

/// What a container is for, and so when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs once, to its success, before whatever stands behind it.
    Init,
    /// An init container with `restartPolicy: Always`: what stands behind it waits only until it has started, and it runs
    /// until all of the Pod's own work is done.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// `spec.restartPolicy`, and a container's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// What follows a container's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The container's own where it has one, else the Pod's. An init container that succeeded never runs again for it.
    pub policy: RestartPolicy,
    /// `restartPolicyRules`: the first that fits goes before the policy. At most 20.
    pub rules: Vec<RestartRule>,
}

/// One of `restartPolicyRules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// Exit codes; at most 255 of them.
    pub codes: Vec<i32>,
    /// Whether it fits where the exit code is one of them (`In`), or where it is none of them (`NotIn`).
    pub one_of: bool,
    pub action: RestartAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartAction {
    Restart,
    /// The whole Pod starts again where it is, init containers first (`RestartAllContainers`).
    RestartAll,
}

impl Restart {
    pub fn by(policy: RestartPolicy) -> Restart {
        Restart { policy, rules: Vec::new() }
    }

    /// What the first rule that fits this exit code asks for.
    pub fn rule_for(&self, exit_code: i32) -> Option<RestartAction> {
        let fits = |rule: &&RestartRule| rule.codes.contains(&exit_code) == rule.one_of;
        self.rules.iter().find(fits).map(|rule| rule.action)
    }
}
