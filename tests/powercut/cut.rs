//! One power cut, as the seed has it: when it comes, and how much it keeps.

use std::time::Duration;

use crate::disk::Mercy;
use crate::random::Random;
use crate::supply::When;

pub struct Cut {
    /// Counted from when the guest has begun to work.
    pub when: When,
    /// It comes this long after that at the latest.
    pub latest: Duration,
    pub mercy: Mercy,
    /// What else is up to chance.
    pub random: Random,
}

/// A disk's cache is written back in part, wholly or not at all.
const MERCIES: [Mercy; 4] = [
    Mercy { kept: 0, torn: 0 },
    Mercy { kept: 100, torn: 0 },
    Mercy { kept: 50, torn: 20 },
    Mercy { kept: 10, torn: 50 },
];

impl Cut {
    pub fn of(seed: u64, number: u64) -> Cut {
        let mut random = Random::new(mix(seed, number));
        // Many soon: what is written once after the start would hardly ever be hit otherwise. And many where much is at
        // stake: mostly nothing is, because a flush follows soon.
        let most = random.pick(&[50, 200, 800]);
        let when = When { requests: 1 + random.below(most), unflushed: random.pick(&[0, 0, 3, 12]) };
        Cut { when, latest: Duration::from_secs(2) + random.up_to(10), mercy: random.pick(&MERCIES), random }
    }
}

/// Neighbours must not be alike.
pub fn mix(seed: u64, number: u64) -> u64 {
    Random::new(seed).below(u64::MAX) ^ Random::new(!number).below(u64::MAX)
}
