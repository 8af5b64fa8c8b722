//! The wall clock as the CRI log format and the names of rotated files write it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Knows the node's time zone.
pub(super) struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// Looks the time zone up, once; UTC if it is unknown (a static binary on a system without zone files).
    pub fn new() -> Clock {
        Clock { zone: TimeZone::try_system().unwrap_or(TimeZone::UTC) }
    }

    pub fn now(&self) -> Moment {
        let now = Timestamp::now();
        Moment { line: rfc3339(now, &self.zone), file: file_stamp(now) }
    }
}

/// One reading of the clock.
pub(super) struct Moment {
    /// RFC 3339 with nanoseconds and the local offset.
    pub line: String,
    /// `YYYYMMDD-HHMMSS`, in UTC so that the names of rotated files sort over a change to winter time.
    pub file: String,
}

/// Always nine digits and a numeric offset, so that a line written again after a crash is exactly as long as before:
/// whoever reads along at that moment does not lose its place.
fn rfc3339(now: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(now);
    let local = offset.to_datetime(now);
    let minutes = offset.seconds() / 60;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}{}{:02}:{:02}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second(),
        local.subsec_nanosecond(),
        if minutes < 0 { '-' } else { '+' },
        minutes.abs() / 60,
        minutes.abs() % 60,
    )
}

fn file_stamp(now: Timestamp) -> String {
    let utc = TimeZone::UTC.to_datetime(now);
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        utc.year(),
        utc.month(),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_nine_digits_and_the_local_offset() {
        let time = Timestamp::new(1_767_323_045, 6_000).expect("in range");
        let zone = TimeZone::fixed(jiff::tz::offset(-3).saturating_sub(jiff::Span::new().minutes(30)));
        assert_eq!(rfc3339(time, &TimeZone::UTC), "2026-01-02T03:04:05.000006000+00:00");
        assert_eq!(rfc3339(time, &zone), "2026-01-01T23:34:05.000006000-03:30");
        assert_eq!(file_stamp(time), "20260102-030405");
    }
}
