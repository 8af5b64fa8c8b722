//! How often registries are asked: `registryPullQPS` on the whole, `registryBurst` at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of turns. The kubelet fails a pull that finds it empty; here one waits.
pub struct PullRate {
    interval: Duration,
    /// How far turns may be taken ahead of their time.
    ahead: Duration,
    /// When the next turn would be due if they came one by one.
    due: Mutex<Option<Instant>>,
}

impl PullRate {
    /// `qps` turns in a second, `burst` at once; `None` where `qps` is 0: no limit.
    pub fn new(qps: u32, burst: u32) -> Option<PullRate> {
        let interval = Duration::from_secs(1).checked_div(qps)?;
        let ahead = interval.saturating_mul(burst.saturating_sub(1));
        Some(PullRate { interval, ahead, due: Mutex::default() })
    }

    /// Takes a turn, and returns how long to wait until it comes.
    pub fn take(&self, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = due.map_or(now, |due| due.max(now));
        *due = Some(turn + self.interval);
        turn.saturating_duration_since(now).saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_each_waits_for_its_turn() {
        let rate = PullRate::new(5, 3).unwrap();
        let start = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| rate.take(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 200, 400]);
        let later = start + Duration::from_secs(60);
        let waits: Vec<_> = (0..4).map(|_| rate.take(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 200], "a long rest gives no more than one burst");
    }

    #[test]
    fn zero_is_no_limit_and_a_burst_of_zero_still_lets_one_at_a_time_through() {
        assert!(PullRate::new(0, 10).is_none());
        let rate = PullRate::new(1, 0).unwrap();
        let now = Instant::now();
        assert_eq!([rate.take(now), rate.take(now)], [Duration::ZERO, Duration::from_secs(1)]);
    }
}
