//! The kubelet's back-off: the first retry is immediate or after the initial delay, every later one twice as long,
//! up to a maximum; a long quiet time starts it afresh.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BootTime;

/// The numbers of one kind of back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub initial: Duration,
    pub max: Duration,
    /// A try that comes later than this after the last one starts the back-off afresh.
    pub reset: Duration,
}

impl Pace {
    /// Restarts of a container (`KGO:newCrashLoopBackOff`, client-go `flowcontrol/backoff.go`): 10 s to 300 s, forgotten
    /// after 10 minutes of running.
    pub const CRASH_LOOP: Pace = Pace {
        initial: Duration::from_secs(10),
        max: Duration::from_secs(300),
        reset: Duration::from_secs(600),
    };
    /// Looking again for an image that was not there (`K/images/image_manager.go`).
    pub const IMAGE: Pace = Pace::CRASH_LOOP;
    /// Restarts of a container that never waits longer than `max`.
    pub fn crash_loop(max: Duration) -> Pace {
        Pace { initial: Pace::CRASH_LOOP.initial.min(max), max, ..Pace::CRASH_LOOP }
    }

    /// Preparing a Pod's volumes again (`goroutinemap/exponentialbackoff`): 500 ms to about 2 minutes.
    pub const PREPARE: Pace = Pace {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(122),
        reset: Duration::from_secs(600),
    };
}

/// How far one thing's retries have been pushed apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// The delay that the next failure has to wait; `None` before the first step.
    delay: Option<Duration>,
    last_step: Option<BootTime>,
}

impl BackOff {
    /// When a try that failed at `failed_at` may be repeated: at once if nothing has been held back yet (or not for
    /// `pace.reset`), else after the delay.
    pub fn due(&self, failed_at: BootTime, pace: Pace) -> BootTime {
        match self.delay {
            Some(delay) if !self.expired(failed_at, pace) => failed_at + delay,
            _ => failed_at,
        }
    }

    /// The try is being repeated now, after a failure at `failed_at`: the next one waits longer.
    pub fn step(&mut self, failed_at: BootTime, now: BootTime, pace: Pace) {
        self.delay = Some(match self.delay {
            Some(delay) if !self.expired(failed_at, pace) => (delay * 2).min(pace.max),
            _ => pace.initial.min(pace.max),
        });
        self.last_step = Some(now);
    }

    fn expired(&self, failed_at: BootTime, pace: Pace) -> bool {
        self.last_step.is_some_and(|last| failed_at - last > pace.reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime::from_nanos(5_000_000_000);

    /// Fails immediately after every try, and tells how long each retry had to wait.
    fn delays(count: usize) -> Vec<u64> {
        let (mut back_off, mut now) = (BackOff::default(), START);
        let mut waited = Vec::new();
        for _ in 0..count {
            let due = back_off.due(now, Pace::CRASH_LOOP);
            waited.push((due - now).as_secs());
            back_off.step(now, due, Pace::CRASH_LOOP);
            now = due;
        }
        waited
    }

    #[test]
    fn a_crash_loop_waits_as_long_as_the_kubelet() {
        assert_eq!(delays(9), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_running_start_it_afresh() {
        let mut back_off = BackOff::default();
        for _ in 0..5 {
            back_off.step(START, START, Pace::CRASH_LOOP);
        }
        let at_the_limit = START + Duration::from_secs(600);
        assert!(back_off.due(at_the_limit, Pace::CRASH_LOOP) > at_the_limit);
        let after = at_the_limit + Duration::from_nanos(1);
        assert_eq!(back_off.due(after, Pace::CRASH_LOOP), after);
        back_off.step(after, after, Pace::CRASH_LOOP);
        assert_eq!(back_off.due(after, Pace::CRASH_LOOP) - after, Duration::from_secs(10));
    }
}
