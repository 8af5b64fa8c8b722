//! What is known from a running container's probes, and when each is due (reference §4).
//!
//! Pure: a probe is asked for, its outcome comes back, and thresholds make a result of it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::BootTime;
use super::event::{Outcome, ProbeKind};
use crate::manifest::pod::{Probe, Probes};

/// A probe that could not be made is tried so often before it counts for nothing (`K/prober/prober.go:runProbeWithRetries`).
const TRIES: u8 = 3;

/// A probe is asked for a little after its time, by less than this: its period must not grow by it. Nanoseconds.
const LATE: u64 = 10_000_000;

/// The probes of one run. One that has not begun, or does not exist, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Probing {
    startup: Option<Track>,
    liveness: Option<Track>,
    readiness: Option<Track>,
}

/// One probe's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Track {
    /// When it is due; `None` while it is under way, and after a result that nothing comes after.
    due: Option<BootTime>,
    /// When it was last asked for.
    asked_at: Option<BootTime>,
    /// The result that counts: a threshold was reached.
    passes: Option<bool>,
    /// The last outcome, and how often it came in a row.
    last: (bool, u32),
    /// Tries in a row that came to nothing.
    broken: u8,
}

impl Track {
    fn new(due: BootTime) -> Track {
        Track { due: Some(due), asked_at: None, passes: None, last: (false, 0), broken: 0 }
    }

    fn is_under_way(&self) -> bool {
        self.due.is_none() && self.asked_at.is_some()
    }

    fn hold(&mut self) {
        (self.due, self.asked_at) = (None, None);
    }

    /// Counts an outcome; says what counts from now on, if a threshold is reached.
    fn take_in(&mut self, spec: &Probe, success: Option<bool>, now: BootTime) -> Option<bool> {
        let Some(success) = success else {
            self.broken += 1;
            let again_at_once = self.broken < TRIES;
            self.due = if again_at_once { Some(now) } else { self.next(spec, now) };
            return None;
        };
        self.due = self.next(spec, now);
        let (last, count) = self.last;
        let count = if last == success { count.saturating_add(1) } else { 1 };
        self.last = (success, count);
        let threshold = if success { spec.success_threshold } else { spec.failure_threshold };
        if count < threshold {
            return None;
        }
        self.passes = Some(success);
        Some(success)
    }

    /// A period after it was asked for, or now if it took longer than that; and with others that are due at about that time.
    fn next(&mut self, spec: &Probe, now: BootTime) -> Option<BootTime> {
        self.broken = 0;
        let due = (self.asked_at? + spec.period).max(now);
        Some(BootTime::from_nanos(due.as_nanos().saturating_sub(LATE)).together())
    }
}

impl Probing {
    /// A container was started.
    pub fn begin(specs: &Probes, since: BootTime) -> Probing {
        let mut probing = Probing::default();
        match &specs.startup {
            Some(spec) => probing.startup = Some(Track::new(since + spec.initial_delay)),
            None => probing.begin_others(specs, since, since),
        }
        probing
    }

    /// Liveness and readiness are nobody's business before the container has started.
    fn begin_others(&mut self, specs: &Probes, since: BootTime, now: BootTime) {
        let track = |spec: &Option<Probe>| Some(Track::new((since + spec.as_ref()?.initial_delay).max(now)));
        self.liveness = track(&specs.liveness);
        self.readiness = track(&specs.readiness);
    }

    /// Whether its startup probe has passed, if it has one.
    pub fn has_started(&self, specs: &Probes) -> bool {
        specs.startup.is_none() || self.startup.as_ref().is_some_and(|track| track.passes == Some(true))
    }

    /// Whether its readiness probe passes, if it has one. What was never probed is not ready.
    pub fn is_ready(&self, specs: &Probes) -> bool {
        specs.readiness.is_none() || self.readiness.as_ref().is_some_and(|track| track.passes == Some(true))
    }

    /// A container that is being ended is asked only whether it is still ready.
    pub fn deadline(&self, ending: bool) -> Option<BootTime> {
        let asked = [&self.startup, &self.liveness].into_iter().filter(|_| !ending);
        asked.chain([&self.readiness]).flatten().filter_map(|track| track.due).min()
    }

    /// The probes that are due: they are under way from now on.
    pub fn ask(&mut self, ending: bool, now: BootTime) -> Vec<ProbeKind> {
        let mut due = Vec::new();
        for kind in ProbeKind::ALL {
            let is_asked = !ending || kind == ProbeKind::Readiness;
            if let Some(track) = self.track(kind)
                && is_asked
                && track.due.is_some_and(|due| due <= now)
            {
                (track.due, track.asked_at) = (None, Some(now));
                due.push(kind);
            }
        }
        due
    }

    /// Whether this outcome is what came last and what counts: it changes nothing but when the probe is due.
    pub fn is_old_news(&self, kind: ProbeKind, outcome: &Outcome) -> bool {
        let track = match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Liveness => &self.liveness,
            ProbeKind::Readiness => &self.readiness,
        };
        let passes = |track: &Track| track.passes == Some(true) && track.last.0 && track.broken == 0;
        *outcome == Outcome::Success && track.as_ref().is_some_and(passes)
    }

    /// Says whether the container has to be ended for it.
    pub fn take_in(
        &mut self,
        specs: &Probes,
        kind: ProbeKind,
        outcome: &Outcome,
        since: BootTime,
        now: BootTime,
    ) -> bool {
        let success = match outcome {
            Outcome::Success => Some(true),
            Outcome::Failure(_) => Some(false),
            Outcome::Broken(_) => None,
        };
        let Some(spec) = of(specs, kind) else { return false };
        let Some(track) = self.track(kind).as_mut().filter(|track| track.is_under_way()) else {
            return false;
        };
        let result = track.take_in(spec, success, now);
        match (kind, result) {
            (ProbeKind::Startup, Some(true)) => {
                track.hold();
                self.begin_others(specs, since, now);
                false
            }
            // On hold until the container's next run.
            (ProbeKind::Startup | ProbeKind::Liveness, Some(false)) => {
                track.hold();
                true
            }
            _ => false,
        }
    }

    /// A new worker: what was under way is lost, and what came due meanwhile is not made up for all at once, but some time
    /// within the next period. `seed` says when; two that differ by less than 4 may say the same.
    pub fn spread(&mut self, specs: &Probes, seed: u64, now: BootTime) {
        for kind in ProbeKind::ALL {
            let Some(spec) = of(specs, kind) else { continue };
            let Some(track) = self.track(kind) else { continue };
            if track.is_under_way() || track.due.is_some_and(|due| due <= now) {
                track.due = Some(now + share_of(spec.period, seed ^ kind as u64));
            }
        }
    }

    fn track(&mut self, kind: ProbeKind) -> &mut Option<Track> {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        }
    }
}

/// What the manifest says of it.
pub fn of(specs: &Probes, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => specs.startup.as_ref(),
        ProbeKind::Liveness => specs.liveness.as_ref(),
        ProbeKind::Readiness => specs.readiness.as_ref(),
    }
}

/// A part of the period, by chance that can be repeated (one step of splitmix64).
fn share_of(period: Duration, seed: u64) -> Duration {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    period.mul_f64((z >> 40) as f64 / (1 << 24) as f64)
}

#[cfg(test)]
mod tests;
