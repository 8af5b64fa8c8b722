//! The only clock the decisions know.

use std::ops::{Add, Sub};
use std::time::Duration;

/// What is due of probes and their answers within this time is done together, at its end: to wake up for each costs as much as the
/// probe. Nanoseconds.
const TOGETHER: u64 = 50_000_000;

/// A moment on `CLOCK_BOOTTIME`, in nanoseconds since the machine started: setting the wall clock years forward or
/// back changes no decision, and a suspended machine's time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct BootTime(u64);

impl BootTime {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    pub const fn since_boot(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// When a probe that is due then is made, or an answer looked at: with all others of the moment.
    pub const fn together(self) -> Self {
        Self(self.0.next_multiple_of(TOGETHER))
    }
}

impl From<Duration> for BootTime {
    /// Saturates after 584 years.
    fn from(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, rhs: Duration) -> BootTime {
        Self(self.0.saturating_add(Self::from(rhs).0))
    }
}

impl Sub for BootTime {
    type Output = Duration;

    /// Zero where `rhs` is later.
    fn sub(self, rhs: BootTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(rhs.0))
    }
}
