//! The clocks, read here and nowhere below.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::pod::BootTime;

/// Time since the machine was started, suspended time included.
pub fn now() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    // Neither part of this clock is ever negative.
    BootTime::from(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
}

/// The wall clock's time of a moment, by what both clocks say now.
pub fn wall(moment: BootTime) -> SystemTime {
    let (wall, boot) = (SystemTime::now(), now());
    wall.checked_sub(boot - moment).unwrap_or(SystemTime::UNIX_EPOCH)
}
