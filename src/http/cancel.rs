//! Ends requests and waits of other threads at once.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A switch that several threads share: once it is thrown, what was begun with it fails with [`super::Cause::Cancelled`].
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    thrown: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    connections: Vec<Weak<TcpStream>>,
    children: Vec<Weak<Shared>>,
}

impl Cancel {
    /// One that can be thrown by itself, and is thrown with this one.
    pub fn child(&self) -> Cancel {
        let child = Cancel::default();
        let mut state = self.state();
        child.state().cancelled = state.cancelled;
        state.children.retain(|known| known.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.shared));
        child
    }

    /// Closes the connections of every client that was made with it.
    pub fn cancel(&self) {
        let (connections, children) = {
            let mut state = self.state();
            state.cancelled = true;
            (std::mem::take(&mut state.connections), std::mem::take(&mut state.children))
        };
        self.shared.thrown.notify_all();
        for connection in connections.iter().filter_map(Weak::upgrade) {
            // Fails for one that has ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
        children.iter().filter_map(Weak::upgrade).for_each(|shared| Cancel { shared }.cancel());
    }

    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Waits this long, and returns whether it was for nothing because the switch was thrown.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.cancelled || left.is_zero() {
                return state.cancelled;
            }
            let waited = self.shared.thrown.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The connection is shut down with the switch, at once if it was thrown before.
    pub(super) fn register(&self, connection: &Arc<TcpStream>) {
        let mut state = self.state();
        if state.cancelled {
            let _ = connection.shutdown(Shutdown::Both);
        } else {
            state.connections.retain(|known| known.strong_count() > 0);
            state.connections.push(Arc::downgrade(connection));
        }
    }

    /// Nothing under the lock can leave it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_cancelled_with_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::default();
        let (child, other) = (parent.child(), parent.child());
        child.cancel();
        assert!(child.is_cancelled() && !parent.is_cancelled() && !other.is_cancelled());
        parent.cancel();
        assert!(other.is_cancelled() && parent.child().is_cancelled());
    }

    #[test]
    fn a_wait_ends_when_it_is_cancelled() {
        let cancel = Cancel::default();
        assert!(!cancel.wait(Duration::ZERO));
        let waiting = std::thread::spawn({
            let cancel = cancel.clone();
            move || cancel.wait(Duration::from_secs(3600))
        });
        cancel.cancel();
        assert!(waiting.join().unwrap());
    }
}
