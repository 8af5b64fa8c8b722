//! When which Pod's machine wants to hear that time has passed.

use std::collections::{BTreeSet, HashMap};

use super::pod_run::PodNumber;
use crate::pod::BootTime;

/// The Pods' deadlines in their order: the loop asks for the first one in every turn, and with a thousand Pods
/// must not ask each of them.
#[derive(Debug, Default)]
pub struct Deadlines {
    in_order: BTreeSet<(BootTime, PodNumber)>,
    of: HashMap<PodNumber, BootTime>,
}

impl Deadlines {
    /// Replaces the one that the Pod had.
    pub fn set(&mut self, number: PodNumber, deadline: Option<BootTime>) {
        let before = match deadline {
            Some(at) => self.of.insert(number, at),
            None => self.of.remove(&number),
        };
        if before == deadline {
            return;
        }
        if let Some(at) = before {
            self.in_order.remove(&(at, number));
        }
        if let Some(at) = deadline {
            self.in_order.insert((at, number));
        }
    }

    pub fn first(&self) -> Option<BootTime> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// The Pods whose deadline has come. They stay here until their machine has another one.
    pub fn due(&self, now: BootTime) -> impl Iterator<Item = PodNumber> + '_ {
        self.in_order.iter().take_while(move |(at, _)| *at <= now).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_comes_first_and_the_latest_word_counts() {
        let (a, b) = (PodNumber(1), PodNumber(2));
        let at = BootTime::from_nanos;
        let mut deadlines = Deadlines::default();
        deadlines.set(a, Some(at(20)));
        deadlines.set(b, Some(at(10)));
        assert_eq!(deadlines.first(), Some(at(10)));
        assert_eq!(deadlines.due(at(15)).collect::<Vec<_>>(), [b]);
        deadlines.set(b, Some(at(30)));
        assert_eq!(deadlines.first(), Some(at(20)));
        deadlines.set(a, None);
        assert_eq!(deadlines.due(at(30)).collect::<Vec<_>>(), [b]);
        deadlines.set(b, None);
        assert_eq!((deadlines.first(), deadlines.due(at(99)).count()), (None, 0));
    }
}
