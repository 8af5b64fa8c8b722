//! Connections that wait to be used again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::socket::Stream;
use super::url::Url;

/// Shorter than servers keep them: one that is closed while it is used costs a request.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// As many as a pull has downloads at once, with one for questions.
const MOST: usize = 4;

/// The idle connections of one client.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    /// A URL of the server that it leads to.
    to: Url,
    stream: Box<dyn Stream>,
    since: Instant,
}

impl Pool {
    /// One that leads to the server of `url`, as it was used last.
    pub(super) fn take(&self, url: &Url) -> Option<Box<dyn Stream>> {
        loop {
            let mut idle = self.idle();
            idle.retain(|one| one.since.elapsed() < LONGEST_REST);
            let at = idle.iter().rposition(|one| one.to.is_same_origin(url))?;
            let mut found = idle.remove(at);
            drop(idle);
            // Whoever speaks unasked says goodbye, or says what the next answer would be taken for.
            if found.stream.socket().is_quiet() {
                return Some(found.stream);
            }
        }
    }

    pub(super) fn put(&self, to: Url, stream: Box<dyn Stream>) {
        let mut idle = self.idle();
        if idle.len() == MOST {
            idle.remove(0);
        }
        idle.push(Idle { to, stream, since: Instant::now() });
    }

    /// Nothing under the lock can leave it half changed.
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
