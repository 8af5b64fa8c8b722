//! What a container's present run was told and asked: its hooks, its probes, and by when it has to be over.

use std::time::Duration;

use podkeep::manifest::Container;
use podkeep::manifest::pod::{Probe, Role};
use podkeep::pod::{BootTime, Hook, Outcome, ProbeKind};

#[derive(Clone, Default)]
pub struct Facts {
    since: Option<BootTime>,
    /// How its postStart hook ended; `None` until then.
    post_start: Option<bool>,
    pre_stop_ended: bool,
    /// By kind: the outcome of the last probes, and how many they were in a row.
    streaks: [(bool, u32); 3],
    /// By kind: the result that counts.
    verdicts: [Option<bool>; 3],
    asked_at: [Option<BootTime>; 3],
    broken: [u32; 3],
    pub unhealthy: bool,
    /// It is to be ended for its own sake, and killed then.
    pub kill_by: Option<BootTime>,
}

impl Facts {
    pub fn begin(now: BootTime) -> Facts {
        Facts { since: Some(now), ..Facts::default() }
    }

    pub fn hook_ended(&mut self, spec: &Container, hook: Hook, failed: bool, grace: Duration, now: BootTime) {
        match hook {
            Hook::PreStop => self.pre_stop_ended = true,
            Hook::PostStart if self.post_start.is_none() && spec.lifecycle.post_start.is_some() => {
                self.post_start = Some(!failed);
                if failed {
                    self.kill_by.get_or_insert(now + grace);
                }
            }
            Hook::PostStart => {}
        }
    }

    /// `ending`: the whole Pod is being ended, and nobody is killed for a probe any more.
    pub fn probe_result(
        &mut self,
        spec: &Container,
        kind: ProbeKind,
        outcome: &Outcome,
        grace: Duration,
        ending: bool,
        now: BootTime,
    ) {
        let Some(probe) = spec_of(spec, kind) else { return };
        let place = kind as usize;
        let success = match outcome {
            Outcome::Broken(_) => {
                self.broken[place] += 1;
                return;
            }
            other => *other == Outcome::Success,
        };
        self.broken[place] = 0;
        let (last, count) = self.streaks[place];
        let count = if last == success { count + 1 } else { 1 };
        self.streaks[place] = (success, count);
        let threshold = if success { probe.success_threshold } else { probe.failure_threshold };
        if count < threshold {
            return;
        }
        self.verdicts[place] = Some(success);
        if !success && kind != ProbeKind::Readiness && self.kill_by.is_none() && !ending {
            self.unhealthy = true;
            self.kill_by = Some(now + probe.termination_grace.unwrap_or(grace));
        }
    }

    /// The run has not begun, as far as the worker was told.
    pub fn is_new(&self) -> bool {
        self.since.is_none()
    }

    /// A new worker probes when it thinks fit.
    pub fn forget_when(&mut self) {
        self.asked_at = [None; 3];
    }

    pub fn asked_probe(&mut self, spec: &Container, kind: ProbeKind, ending: bool, now: BootTime) {
        let probe = spec_of(spec, kind).expect("only what the manifest has is asked for");
        let since = self.since.expect("only what runs is probed");
        assert!(now >= since + probe.initial_delay, "no probe before its delay is over");
        if kind != ProbeKind::Startup {
            assert!(self.has_started(spec), "{kind:?} waits for the startup probe");
            assert!(
                kind == ProbeKind::Readiness || !ending,
                "what is being ended is not asked whether it lives"
            );
        }
        let place = kind as usize;
        if let Some(before) = self.asked_at[place] {
            let retries = (1..3).contains(&self.broken[place]);
            // Those within 10 ms are made together.
            let early = Duration::from_millis(10);
            assert!(retries || now + early >= before + probe.period, "probes keep their period");
        }
        if self.broken[place] >= 3 {
            self.broken[place] = 0;
        }
        self.asked_at[place] = Some(now);
    }

    pub fn pre_stop_is_over(&self, spec: &Container) -> bool {
        spec.lifecycle.pre_stop.is_none() || self.pre_stop_ended
    }

    fn has_started(&self, spec: &Container) -> bool {
        spec.probes.startup.is_none() || self.verdicts[ProbeKind::Startup as usize] == Some(true)
    }

    /// Whoever stands behind it need not wait for it any more.
    pub fn lets_pass(&self, spec: &Container) -> bool {
        let hook_done = spec.lifecycle.post_start.is_none() || self.post_start.is_some();
        let hook_good = spec.lifecycle.post_start.is_none() || self.post_start == Some(true);
        match spec.role {
            Role::Init => false,
            Role::Sidecar => hook_good && self.has_started(spec) && self.kill_by.is_none(),
            Role::Main => hook_done,
        }
    }

    pub fn is_ready(&self, spec: &Container) -> bool {
        let hook_done = spec.lifecycle.post_start.is_none() || self.post_start.is_some();
        let probe =
            spec.probes.readiness.is_none() || self.verdicts[ProbeKind::Readiness as usize] == Some(true);
        hook_done && self.has_started(spec) && probe
    }
}

fn spec_of(spec: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => spec.probes.startup.as_ref(),
        ProbeKind::Liveness => spec.probes.liveness.as_ref(),
        ProbeKind::Readiness => spec.probes.readiness.as_ref(),
    }
}
