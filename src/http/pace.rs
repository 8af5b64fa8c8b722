//! How slow a server may be: one that sends a byte a minute is never silent, and would be listened to for ever.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// So many bytes must come within the time that a silence may last. The slowest links that are in use, over satellites and radio, bring a
/// hundred times as many.
pub(super) const FLOOR: u64 = 4 << 10;

/// Counts the time that was spent in waiting for bytes, and not what was done with them in between.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    /// Since `waited` was zero.
    bytes: u64,
}

/// Bytes come, but too few.
#[derive(Debug)]
pub(super) struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too few bytes come")
    }
}

impl std::error::Error for TooSlow {}

impl Pace {
    /// Reads once; an error if too little has come in `within`.
    pub(super) fn read(
        &mut self,
        within: Duration,
        read: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let begun = Instant::now();
        let count = read()?;
        self.came(count as u64, begun.elapsed(), within)?;
        Ok(count)
    }

    fn came(&mut self, bytes: u64, waited: Duration, within: Duration) -> io::Result<()> {
        self.bytes += bytes;
        self.waited += waited;
        if self.bytes >= FLOOR {
            *self = Pace::default();
        } else if self.waited >= within && bytes > 0 {
            return Err(io::Error::other(TooSlow));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_a_slow_line_is_not() {
        let mut pace = Pace::default();
        assert!(pace.came(1, Duration::from_secs(59), MINUTE).is_ok());
        assert!(pace.came(1, Duration::from_secs(59), MINUTE).is_err());
        let mut pace = Pace::default();
        for _ in 0..1000 {
            assert!(pace.came(FLOOR / 4, Duration::from_secs(14), MINUTE).is_ok());
        }
    }

    #[test]
    fn the_end_is_no_drip() {
        let mut pace = Pace::default();
        assert!(pace.came(0, MINUTE, MINUTE).is_ok());
    }
}
