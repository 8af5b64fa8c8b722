//! The Pod as the new version of another one: it is rehearsed while that one runs, and takes its place afterwards.

use std::sync::Arc;

use podkeep::pod::machine::Settings;
use podkeep::pod::{Command, Event, Machine, Rehearsal};

use super::ledger::Ledger;
use super::worker::Saved;
use super::world::World;

impl World {
    /// Ends with the moment at which the old version is gone.
    pub fn rehearse(&mut self) {
        self.rehearsing = true;
        self.begin_rehearsal();
        for _ in 0..self.random.below(40) {
            match self.random.below(20) {
                // Nothing of a rehearsal is saved: the next worker begins it anew.
                0 => self.begin_rehearsal(),
                1 => self.image_arrives(),
                2 => self.happens(Event::ObjectsChanged { fingerprint: None }),
                _ => self.pass_time(),
            }
            self.check_rehearsal();
        }
        self.calm = true;
        let mut turns = 0;
        while self.machine.rehearsal() != Some(Rehearsal::Passed) {
            turns += 1;
            // Broken by a `deadline` that knows no `RehearsalBackOff`: found.
            assert!(turns < 200, "a rehearsal that can pass does");
            self.pass_time();
            self.check_rehearsal();
        }
        self.calm = false;
        let old_is_gone = self.soon(100);
        self.advance(old_is_gone);
        self.rehearsing = false;
        // Broken by a `proceed` that takes what was rehearsed for tried: found.
        self.ledgers.iter_mut().for_each(|ledger| ledger.passed = false);
        self.began_at = self.now;
        let unsaved = Machine::new(Arc::clone(&self.pod), Settings::default(), self.now);
        self.saved = Saved::new(unsaved.state().clone(), self.ledgers.clone());
        self.happens(Event::Proceed);
    }

    pub fn begin_rehearsal(&mut self) {
        self.answers.clear();
        self.ledgers.fill(Ledger::default());
        self.machine = Machine::rehearsing(Arc::clone(&self.pod), Settings::default(), self.now);
        let commands = self.machine.begin();
        // Broken by a `begin` that prepares as well: found.
        assert_eq!(commands, [Command::Rehearse]);
        if !self.carry_out(commands) {
            self.begin_rehearsal();
        }
    }

    pub fn check_rehearsal(&self) {
        // Broken by a `start` that heeds `Rehearsed` no less than `Active`: found.
        let is_made = self.held || self.groups.iter().any(Option::is_some);
        assert!(!is_made && self.machine.rehearsal().is_some(), "a rehearsal makes nothing");
    }
}
