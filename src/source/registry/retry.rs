//! How often and after how long something is tried again.
//!
//! The pause doubles from try to try and is drawn at random from its upper half, so that a thousand
//! boards that lost the same registry don't come back in the same second. A server that names a time
//! (Retry-After) gets what it asks for. In the long run it has to give what the lowest rate demands ([`super::pace`]),
//! however it divides that into tries; so that this comes to an end.

use super::pace::Account;
use crate::clock::date;
use crate::sys::any_fraction;
use std::time::Duration;

/// Limits the tries in a row of which too little comes.
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
    /// Gives the lowest rate, in bytes a second.
    lowest: u64,
    /// Keeps the account of the time that was spent since all tries were last open, and of what came for it.
    account: Account,
    /// Holds how long had been waited for servers in all, when the account was last brought up to date.
    noted: Duration,
}

impl Attempts {
    /// Starts with no try made; the first pause will be about `first_pause`. So far, `waited` was spent on waiting,
    /// in all.
    pub(super) fn new(first_pause: Duration, lowest: u64, waited: Duration) -> Attempts {
        Attempts { first_pause, failed: 0, lowest, account: Account::default(), noted: waited }
    }

    /// Notes that so many bytes came. All tries are open again as soon as the bytes since they last were are worth
    /// the time that was spent on them, pauses included; a server that gives a byte with each try gets no further try
    /// for that. `waited` was spent on waiting so far, in all.
    pub(super) fn came(&mut self, bytes: u64, waited: Duration) {
        self.account.spent(waited.saturating_sub(self.noted));
        self.noted = waited;
        if self.account.came(bytes, self.lowest) {
            self.failed = 0;
        }
    }

    /// Opens all tries again, because another place is asked.
    pub(super) fn elsewhere(&mut self, waited: Duration) {
        *self = Attempts::new(self.first_pause, self.lowest, waited);
    }

    /// Returns how many tries have failed since all were open.
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
        let pause = asked.map_or(pause, |asked| asked.clamp(pause, RETRY_AFTER_MAX.max(pause)));
        self.account.spent(pause);
        Some(pause)
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

    fn attempts_with(first_pause: Duration) -> Attempts {
        Attempts::new(first_pause, 512, Duration::ZERO)
    }

    #[test]
    fn tries_are_open_again_when_what_came_was_worth_the_time() {
        let (second, mut waited) = (Duration::from_secs(1), Duration::from_secs(100));
        let mut attempts = Attempts::new(2 * second, 512, waited);
        // What was waited before it began is not its own.
        attempts.came(1, waited);
        assert_eq!(attempts.failed(), 0);
        for _ in 0..3 {
            attempts.pause(ATTEMPTS_MAX, Some(10 * second)).unwrap();
            waited += 10 * second;
            attempts.came(1, waited);
        }
        assert_eq!(attempts.failed(), 3, "a byte each is no progress");
        attempts.came(60 * 512 - 5, waited);
        assert_eq!(attempts.failed(), 3, "almost");
        attempts.came(2, waited);
        assert_eq!(attempts.failed(), 0);
        // Nothing is put by: what came too soon makes no later try good.
        attempts.came(1 << 20, waited);
        attempts.pause(ATTEMPTS_MAX, None).unwrap();
        attempts.came(1, waited);
        assert_eq!(attempts.failed(), 1);
        attempts.elsewhere(waited);
        assert_eq!(attempts.failed(), 0);
    }

    /// Returns how many tries a server gets that gives some bytes with each, after a wait; at most a thousand.
    fn tries(bytes: u64, wait: Duration) -> u32 {
        let (mut attempts, mut waited) = (attempts_with(Duration::from_millis(500)), Duration::ZERO);
        (1..1000)
            .find(|_| {
                waited += wait;
                attempts.came(bytes, waited);
                attempts.pause(ATTEMPTS_MAX, None).is_none()
            })
            .unwrap_or(1000)
    }

    #[test]
    fn who_breaks_off_after_each_byte_is_given_up() {
        for (bytes, wait, ends) in [
            (0, Duration::ZERO, true),
            (1, Duration::ZERO, true),
            (100, Duration::ZERO, true),
            (1, Duration::from_secs(29), true),
            (10_000, Duration::from_secs(29), true),
            // 1 KiB a second, over connections that break.
            (20_000, Duration::from_secs(20), false),
            (1000, Duration::ZERO, false),
        ] {
            assert_eq!(tries(bytes, wait) < 20, ends, "{bytes} {wait:?}");
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut attempts = attempts_with(Duration::from_millis(500));
        for upper in [500, 1000, 2000, 4000, 8000] {
            let pause = attempts.pause(ATTEMPTS_MAX, None).unwrap();
            let upper = Duration::from_millis(upper);
            assert!(pause >= upper / 2 && pause <= upper, "{pause:?} of {upper:?}");
        }
        assert_eq!(attempts.pause(ATTEMPTS_MAX, None), None);
        let mut long = attempts_with(Duration::from_secs(20));
        long.pause(9, None);
        assert!(long.pause(9, None).unwrap() <= PAUSE_MAX);
    }

    #[test]
    fn a_server_s_wish_is_heard_within_reason() {
        let mut attempts = attempts_with(Duration::from_millis(500));
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
