//! Limits how slow a registry may be.
//!
//! A stall ends a connection; but a server that sends a byte before each time-out would never stall, and one that
//! breaks off after each byte would be tried for ever. So there is a lowest rate (curl: `--speed-limit`, git:
//! `http.lowSpeedLimit`), and an account of it: the time for which the registry was waited for, less the time that
//! the bytes of use take at the lowest rate. A registry that owes more than a minute ([`Lowest`]), and the time of
//! one TLS record, is given up like one that has stalled, and all tries are open again ([`super::retry`]) only when
//! nothing is owed. There is no credit: bytes that came fast do not make later ones good.
//!
//! Only waiting counts, by a clock that nobody can set: the time in which a read or a write has to wait because the
//! other side has sent, or taken, nothing. A busy disk, a limit of our own (`--limit-rate`), or a stopped process
//! (SIGSTOP, the cgroup freezer) makes no registry slow.

use crate::error::{Error, Kind};
use crate::source::Lowest;
use std::fmt;
use std::time::Duration;

/// Limits a TLS record's content, in bytes (RFC 8446, 5.1); none of it can be read before all of it has come.
const RECORD: u64 = 16 << 10;

/// Keeps the account of what one side owes, as a time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    came: u64,
    spent: Duration,
}

impl Account {
    /// Notes that so many bytes came, and returns whether nothing is owed; then the account begins anew.
    pub(super) fn came(&mut self, bytes: u64, lowest: u64) -> bool {
        self.came = self.came.saturating_add(bytes);
        let even = self.owed(lowest).is_zero();
        if even {
            *self = Account::default();
        }
        even
    }

    /// Notes that so much time was spent.
    pub(super) fn spent(&mut self, time: Duration) {
        self.spent = self.spent.saturating_add(time);
    }

    /// Returns the time that was spent, less what came is worth at the rate of `lowest` bytes a second.
    fn owed(&self, lowest: u64) -> Duration {
        self.spent.saturating_sub(worth(self.came, lowest))
    }
}

/// Returns how long so many bytes take at `rate`, in bytes a second.
fn worth(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Measures how fast the bytes come that are asked for.
#[derive(Debug)]
pub(super) struct Pace {
    lowest: Lowest,
    /// Keeps the account of what is being fetched.
    account: Account,
    in_all: Duration,
}

impl Pace {
    /// Starts with nothing asked.
    pub(super) fn new(lowest: Lowest) -> Pace {
        Pace { lowest, account: Account::default(), in_all: Duration::ZERO }
    }

    /// Begins a new account, for something new that is asked for.
    pub(super) fn begins(&mut self) {
        self.account = Account::default();
    }

    /// Notes that so many bytes of it came.
    pub(super) fn came(&mut self, bytes: u64) {
        self.account.came(bytes, self.lowest.rate);
    }

    /// Notes how long it was waited for.
    pub(super) fn waited(&mut self, time: Duration) {
        self.account.spent(time);
        self.in_all = self.in_all.saturating_add(time);
    }

    /// Returns how long it may still be waited for, or [`TooSlow`] if that time is over.
    pub(super) fn patience(&self) -> Result<Duration, TooSlow> {
        let Lowest { rate, patience } = self.lowest;
        let most = patience.saturating_add(worth(RECORD, rate));
        let left = most.saturating_sub(self.account.owed(rate));
        let Account { came, spent } = self.account;
        if left.is_zero() { Err(TooSlow { came, spent, lowest: rate }) } else { Ok(left) }
    }

    /// Returns how long was waited in all, since the beginning.
    pub(super) fn in_all(&self) -> Duration {
        self.in_all
    }
}

/// Says that what was asked for comes too slowly.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooSlow {
    came: u64,
    spent: Duration,
    lowest: u64,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooSlow { came, spent, lowest } = self;
        write!(
            f,
            "too slow: {came} bytes while {} s were waited for it, less than {lowest} bytes a second",
            spent.as_secs()
        )
    }
}

impl std::error::Error for TooSlow {}

impl TooSlow {
    /// Makes an error for the user of it, about `host`, which has been asked.
    pub(super) fn error(&self, host: &str) -> Error {
        Error::new(Kind::Network, format!("{host}: {self}")).hint(
            "what has come is kept, the next run goes on there; a slower link wants a lower --lowest-rate",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how long a server that sends `bytes` after each wait is borne, at most a day.
    fn borne(lowest: Lowest, bytes: u64, wait: Duration) -> Result<Duration, TooSlow> {
        let mut pace = Pace::new(lowest);
        pace.begins();
        while pace.in_all() < Duration::from_secs(86_400) {
            let patience = pace.patience()?;
            assert!(patience <= Duration::from_secs(92), "{patience:?}");
            pace.waited(wait);
            pace.came(bytes);
        }
        Ok(pace.in_all())
    }

    #[test]
    fn a_slow_link_is_borne_and_a_hostile_one_is_not() {
        for (bytes, seconds, ends_after) in [
            // GPRS at its worst; segments of it in bursts; TLS records as they get whole.
            (1024, 1, None),
            (1400 * 20, 27, None),
            (16 << 10, 31, None),
            (512, 1, None),
            (0, 1, Some(92)),
            (120, 1, Some(121)),
            (1, 29, Some(116)),
            (500, 1, Some(3926)),
        ] {
            let (wait, lowest) = (Duration::from_secs(seconds), Lowest::default());
            match (borne(lowest, bytes, wait), ends_after) {
                (Ok(_), None) => {}
                (Err(slow), Some(after)) => {
                    assert_eq!(slow.spent.as_secs(), after, "{bytes} each {wait:?}: {slow}")
                }
                (other, _) => panic!("{bytes} each {wait:?}: {other:?}"),
            }
        }
        // A record that is whole only after minutes is nobody's fault where so little is demanded.
        let satellite = Lowest { rate: 100, ..Lowest::default() };
        assert!(Pace::new(satellite).patience().unwrap() > Duration::from_secs(60 + 160));
    }

    #[test]
    fn what_was_fast_before_makes_nothing_slow_good() {
        let mut pace = Pace::new(Lowest::default());
        pace.waited(Duration::from_secs(1));
        pace.came(1 << 30);
        pace.waited(Duration::from_secs(92));
        let slow = pace.patience().unwrap_err();
        assert_eq!(
            slow.to_string(),
            "too slow: 0 bytes while 92 s were waited for it, less than 512 bytes a second"
        );
        // Something else begins anew; what was waited in all stays known.
        pace.begins();
        assert_eq!(pace.patience().unwrap(), Duration::from_secs(92));
        assert_eq!(pace.in_all(), Duration::from_secs(93));
    }
}
