//! What a registry waits for before it answers.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Past this the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds whoever comes until all have come.
pub struct Gate {
    wanted: usize,
    names: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

impl Gate {
    /// For so many different names.
    pub fn of(wanted: usize) -> Gate {
        Gate { wanted, names: Mutex::default(), changed: Condvar::new() }
    }

    /// Comes, and waits for the others; whether all are there at last.
    pub fn pass(&self, name: &str) -> bool {
        let mut names = self.names.lock().unwrap();
        names.insert(name.to_owned());
        self.changed.notify_all();
        let is_closed = |names: &mut BTreeSet<String>| names.len() < self.wanted;
        let (_names, waited) = self.changed.wait_timeout_while(names, PATIENCE, is_closed).unwrap();
        !waited.timed_out()
    }
}
