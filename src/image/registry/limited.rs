//! Servers that want to be left alone for long: whoever asks again meanwhile is only put off for longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Until when which server is not asked. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Limited(Arc<Mutex<HashMap<Asker, (Instant, Timestamp)>>>);

/// Host and port, and whether we say who we are: registries count each user's requests, and those of nobody in particular.
type Asker = (String, bool);

impl Limited {
    /// The server takes no request before `until`, which is `rest` from `now`: by a clock that nobody sets.
    pub(super) fn put(&self, asker: Asker, until: Timestamp, rest: Duration, now: Instant) {
        let Some(over) = now.checked_add(rest) else { return };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(asker, (over, until));
    }

    /// Until when the server takes none.
    pub(super) fn until(&self, asker: &Asker, now: Instant) -> Option<Timestamp> {
        let mut limited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limited.retain(|_, (over, _)| *over > now);
        limited.get(asker).map(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_by_itself_and_is_one_askers_own() {
        let (limited, now) = (Limited::default(), Instant::now());
        let until: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        let nobody = ("r.example".to_owned(), false);
        limited.put(nobody.clone(), until, Duration::from_secs(120), now);
        assert_eq!(limited.until(&nobody, now + Duration::from_secs(119)), Some(until));
        assert_eq!(limited.until(&("r.example".to_owned(), true), now), None);
        assert_eq!(limited.until(&nobody, now + Duration::from_secs(120)), None);
    }
}
