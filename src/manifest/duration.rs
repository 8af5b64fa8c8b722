//! Durations as Go writes them, in manifests and in the configuration.

use std::time::Duration;

/// `1h2m3.5s`, `300ms`, `0`. Not negative.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(amount.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    Some(total)
}

/// The longest wait between two runs of a container that fails again and again: 1 s to 300 s, as in Kubernetes.
pub(crate) fn max_restart_period(text: &str) -> Result<Duration, &'static str> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(300);
    parse(text).filter(|period| allowed.contains(period)).ok_or("expected a duration between 1s and 300s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in [("0", 0), ("300ms", 300), ("1.5h", 5_400_000), ("1m0.5s", 60_500)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1d", "-1s", "1.1.1s", "99999999999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
