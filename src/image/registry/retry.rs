//! Tries again what may succeed in a moment, with longer and longer rests in between.

use std::time::Duration;

use jiff::Timestamp;

use super::Failure;
use crate::http::Cancel;

/// The rest after the first failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// A server that wants more rest than this is left alone: whoever asked us may come again.
pub(super) const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// Failures in a row before a request is given up, and before a blob is.
const MOST_OF_REQUEST: u32 = 3;
const MOST_OF_BLOB: u32 = 5;
/// So many bytes of a blob make the next failure a first one again: a server that sends one byte at a time would never end.
const PROGRESS: u64 = 64 << 10;

/// Something failed, and is tried again after a rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub why: String,
    pub rest: Duration,
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Attempts {
    failures: u32,
    most: u32,
    /// Bytes that have come since the last failure.
    progress: u64,
}

impl Attempts {
    pub(super) fn of_blob() -> Attempts {
        Attempts { failures: 0, most: MOST_OF_BLOB, progress: 0 }
    }

    pub(super) fn of_request() -> Attempts {
        Attempts { failures: 0, most: MOST_OF_REQUEST, progress: 0 }
    }

    pub(super) fn progressed(&mut self, bytes: u64) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            self.failures = 0;
        }
    }

    /// Rests, and returns when the time has come to try again.
    ///
    /// # Errors
    /// The failure itself, where trying again is of no use.
    pub(super) fn rest(
        &mut self,
        failure: Failure,
        cancel: &Cancel,
        tell: &dyn Fn(Wait),
    ) -> Result<(), Failure> {
        self.failures += 1;
        self.progress = 0;
        if !failure.is_transient() || self.failures >= self.most {
            return Err(failure);
        }
        let rest = match failure.wanted_rest(Timestamp::now()) {
            Some(wanted) if wanted > MOST_PATIENCE => return Err(failure),
            Some(wanted) => wanted.max(self.pause()),
            None => self.pause(),
        };
        tell(Wait { why: failure.to_string(), rest });
        if cancel.wait(rest) { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Between half of it and all of it: many nodes that lost one registry must not come back at one moment.
    fn pause(&self) -> Duration {
        let whole = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
        whole / 2 + (whole / 2).mul_f64(random_share())
    }
}

/// Between 0 and 1. Without randomness all nodes rest equally long, which is no harm to this one.
fn random_share() -> f64 {
    let mut bytes = [0; 2];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}

/// Calls `operation` until it succeeds or there is no use in it.
pub(super) fn with_retries<T>(
    cancel: &Cancel,
    tell: &dyn Fn(Wait),
    mut operation: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut attempts = Attempts::of_request();
    loop {
        match operation() {
            Ok(value) => return Ok(value),
            Err(failure) => attempts.rest(failure, cancel, tell)?,
        }
    }
}

/// When a server wants to be asked again: `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<Timestamp> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return now.checked_add(Duration::from_secs(seconds.into())).ok();
    }
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(seconds: i64) -> Failure {
        let until = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        Failure::RateLimited { host: "r".into(), until: Some(until) }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let pause = |failures| Attempts { failures, ..Attempts::of_blob() }.pause();
        for (failures, whole) in [(1, 500), (2, 1000), (3, 2000), (30, 15_000)] {
            let whole = Duration::from_millis(whole);
            assert!((whole / 2..=whole).contains(&pause(failures)), "{failures}");
        }
    }

    #[test]
    fn what_a_server_wants_is_given_unless_it_is_too_much() {
        let cancelled = Cancel::default();
        cancelled.cancel();
        let told = std::cell::RefCell::new(Vec::new());
        let rest = |failure| {
            Attempts::of_request().rest(failure, &cancelled, &|wait| told.borrow_mut().push(wait.rest))
        };
        assert!(matches!(rest(limited(30)), Err(Failure::Cancelled)));
        assert!(matches!(rest(limited(3600)), Err(Failure::RateLimited { .. })));
        let told = told.borrow();
        assert!(told.len() == 1 && told[0] > Duration::from_secs(28), "{told:?}");
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        let mut calls = 0;
        let outcome: Result<(), Failure> = with_retries(&Cancel::default(), &|_| (), || {
            calls += 1;
            Err(Failure::NotFound { host: "r".into(), what: "web".into() })
        });
        assert!(matches!(outcome, Err(Failure::NotFound { .. })));
        assert_eq!(calls, 1);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(retry_after(" 90 ", now), Some("2026-01-01T00:01:30Z".parse().unwrap()));
        let date = retry_after("Thu, 01 Jan 2026 08:49:37 GMT", now);
        assert_eq!(date, Some("2026-01-01T08:49:37Z".parse().unwrap()));
        assert_eq!(retry_after("soon", now), None);
    }
}
