//! Why a Pod as a whole has failed, whatever its containers did.

use super::*;

/// What an evicted Pod has to end: the kubelet gives 1 s (`K/eviction/eviction_manager.go:immediateEvictionGracePeriodSeconds`),
/// and nobody less than 2 (`KR/kuberuntime_container.go:minimumGracePeriodInSeconds`).
const EVICTION_GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Failure {
    DeadlineExceeded,
    Evicted { message: String },
}

impl Failure {
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::DeadlineExceeded => "DeadlineExceeded",
            Failure::Evicted { .. } => "Evicted",
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Failure::DeadlineExceeded => "Pod was active on the node longer than the specified deadline",
            Failure::Evicted { message } => message,
        }
    }
}

impl Machine {
    /// When the Pod has been active for as long as it may, if that is still to come.
    pub(super) fn active_deadline(&self) -> Option<BootTime> {
        let deadline = self.pod.active_deadline.filter(|_| self.can_fail());
        deadline.map(|deadline| self.state.started_at + deadline)
    }

    pub(super) fn deadline_exceeded(&mut self, now: BootTime, todo: &mut Vec<Command>) {
        self.fail(Failure::DeadlineExceeded, self.pod.termination_grace, now, todo);
    }

    pub(super) fn storage_exceeded(&mut self, message: String, now: BootTime, todo: &mut Vec<Command>) {
        if self.can_fail() {
            let grace = EVICTION_GRACE.min(self.pod.termination_grace);
            self.fail(Failure::Evicted { message }, grace, now, todo);
        }
    }

    /// It may run, and it is its turn.
    pub fn can_fail(&self) -> bool {
        !is_ending(self.state.stage) && self.rehearsal().is_none()
    }

    fn fail(&mut self, why: Failure, grace: Duration, now: BootTime, todo: &mut Vec<Command>) {
        self.state.failure = Some(why);
        self.stop_within(grace, Rest::Finished, now, todo);
    }
}
