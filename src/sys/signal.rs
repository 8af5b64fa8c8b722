//! Signals that have no name in rustix.

use rustix::process::Signal;

/// The real-time signal with this number; `None` if it is not one.
pub fn real_time(number: i32) -> Option<Signal> {
    // SAFETY: the numbers between libc's SIGRTMIN and SIGRTMAX are free for programs to send; libc keeps its own below.
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .contains(&number)
        .then(|| unsafe { Signal::from_raw_unchecked(number) })
}

/// A signal by name or number, as images' `STOPSIGNAL` and kill(1) have it: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub fn parse(text: &str) -> Option<Signal> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return Signal::from_named_raw(number).or_else(|| real_time(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return real_time(libc::SIGRTMIN() + offset);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().ok()?;
    Signal::from_named_raw(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_docker_writes_them() {
        for text in ["SIGQUIT", "quit", "3"] {
            assert_eq!(parse(text), Some(Signal::QUIT), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3").map(Signal::as_raw), Some(libc::SIGRTMIN() + 3));
        assert_eq!(parse("37").map(Signal::as_raw), Some(37));
        for text in ["", "SIGNOTHING", "0", "99", "SIGRTMIN+99", "-9"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
