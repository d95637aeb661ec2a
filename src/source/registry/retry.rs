//! How often and after how long something is tried again.
//!
//! The pause doubles from try to try and is drawn at random from its upper half, so that a thousand
//! boards that lost the same registry don't come back in the same second. A server that names a time
//! (Retry-After) gets what it asks for.

use crate::clock::date;
use crate::sys::any_fraction;
use std::time::Duration;

/// The most tries in a row without one new byte.
pub(super) const ATTEMPTS_MAX: u32 = 6;
/// The most tries of a host that has never answered: nobody listens there, or the name is wrong.
pub(super) const ATTEMPTS_UNKNOWN_MAX: u32 = 3;
/// The longest pause of our own choice.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that a server can ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Counts the tries of one thing.
#[derive(Debug)]
pub(super) struct Attempts {
    first_pause: Duration,
    failed: u32,
}

impl Attempts {
    /// Nothing tried yet; the first pause will be about `first_pause`.
    pub(super) fn new(first_pause: Duration) -> Attempts {
        Attempts { first_pause, failed: 0 }
    }

    /// There was progress: all tries are open again.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// How many tries failed since the last progress.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// One more try failed. How long to wait before the next of at most `most`; `None`: give up.
    /// `asked` is what the server asked for.
    pub(super) fn pause(&mut self, most: u32, asked: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= most {
            return None;
        }
        let whole = self.first_pause.saturating_mul(1 << (self.failed - 1).min(16)).min(PAUSE_MAX);
        let pause = whole / 2 + (whole / 2).mul_f64(any_fraction());
        Some(asked.map_or(pause, |asked| asked.clamp(pause, RETRY_AFTER_MAX.max(pause))))
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date; `now` is in seconds since 1970.
pub(super) fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    Some(Duration::from_secs(date::parse_http(value)?.saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let mut attempts = Attempts::new(Duration::from_millis(500));
        for upper in [500, 1000, 2000, 4000, 8000] {
            let pause = attempts.pause(ATTEMPTS_MAX, None).unwrap();
            let upper = Duration::from_millis(upper);
            assert!(pause >= upper / 2 && pause <= upper, "{pause:?} of {upper:?}");
        }
        assert_eq!(attempts.pause(ATTEMPTS_MAX, None), None);
        attempts.reset();
        assert!(attempts.pause(ATTEMPTS_MAX, None).unwrap() <= Duration::from_millis(500));
        let mut long = Attempts::new(Duration::from_secs(20));
        long.pause(9, None);
        assert!(long.pause(9, None).unwrap() <= PAUSE_MAX);
    }

    #[test]
    fn a_server_s_wish_is_heard_within_reason() {
        let mut attempts = Attempts::new(Duration::from_millis(500));
        assert_eq!(attempts.pause(9, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(attempts.pause(9, Some(Duration::from_secs(86_400))), Some(RETRY_AFTER_MAX));
        assert!(attempts.pause(9, Some(Duration::ZERO)).unwrap() >= Duration::from_millis(500));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        for bad in [
            "",
            "soon",
            "-1",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "1e9",
            "Sun, 06 anF 1994 08:49:37 GMT",
        ] {
            assert_eq!(retry_after(bad, now), None, "{bad}");
        }
    }
}
