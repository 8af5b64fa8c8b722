//! One power cut, as the seed has it: when it comes, and how much it keeps.

use std::time::Duration;

use crate::disk::Mercy;
use crate::random::Random;
use crate::supply::When;

pub struct Cut {
    /// Counted from when the guest has begun to work, as all that follows.
    pub when: When,
    /// It comes when the guest has said this often that podkeep is done with something; then `when` is never.
    pub after_words: Option<u64>,
    /// It comes after this long at the latest.
    pub latest: Duration,
    pub mercy: Mercy,
    /// What else is up to chance.
    pub random: Random,
}

/// Whether the guest says in this line that podkeep is done with something, for good.
pub fn is_word(line: &str) -> bool {
    let is_image = line.starts_with("note image ") && (line.ends_with(" there") || line.ends_with(" gone"));
    is_image
        || ["saved", "forgotten", "survives"].iter().any(|kind| line.starts_with(&format!("note {kind} ")))
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
        let mut when = When { requests: 1 + random.below(most), unflushed: random.pick(&[0, 0, 3, 12]) };
        let (latest, mercy) = (Duration::from_secs(2) + random.up_to(10), random.pick(&MERCIES));
        // What podkeep has said to have done has to last, though nothing else has synced the disk since.
        let after_words = random.one_in(2).then(|| random.below(4));
        if after_words.is_some() {
            when.requests = u64::MAX;
        }
        Cut { when, after_words, latest, mercy, random }
    }
}

/// Neighbours must not be alike.
pub fn mix(seed: u64, number: u64) -> u64 {
    Random::new(seed).below(u64::MAX) ^ Random::new(!number).below(u64::MAX)
}
