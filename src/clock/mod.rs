//! What time it is, on boards whose clock may not know.
//!
//! Certificates are judged by a time. Many small boards have no clock that runs without power: they start
//! in 1970, or where they were switched off. Leaving the time out of the judgement would let anybody in
//! who ever got hold of a certificate; so the time is never left out, but has a floor:
//!
//! ```text
//! floor = max(built, recorded)
//! time  = the system clock, where that is not below the floor
//!         max(floor, what the registry has shown in this run), where it is: then it is known to be wrong
//! ```
//!
//! | | why it cannot be later than the truth |
//! |---|---|
//! | built | this program runs, so it was built before ([`BUILT`]) |
//! | recorded | a registry with a valid certificate and the board's own clock both said so (`STATE/clock`) |
//! | shown by a certificate | a trusted authority issued it, so that day has come |
//! | shown by a `Date` | the registry says so, and the very chain it showed is valid then, too |
//!
//! The registry is the host that the user has named, over TLS. Nobody else is listened to, whatever his certificate: no
//! mirror, which may have an authority of its own, nothing behind a redirect, no token server. And what one registry
//! has shown counts for it and for those to which it refers, and for no other registry of the same run.
//!
//! What an attacker can do with it:
//!
//! - *A stolen certificate that has expired.* Refused if it expired before the floor. On a clock that runs
//!   the floor changes nothing; on one that doesn't it is all there is, which is why it should rise.
//! - *A clock set back* (1970, hostile NTP): the floor holds.
//! - *A registry that lies about the time.* On a clock that may be right, what it says changes no judgement. On one
//!   that is wrong, a `Date` is taken only if the chain verifies at that time: none gets beyond its own
//!   certificate's life. It counts for this run and this registry only, whose blob stores and mirrors may look
//!   expired then: it can as well not serve. What is kept for later runs is the *smaller* of `Date` and a system
//!   clock that is above the floor: one liar alone, registry or NTP, moves nothing, and a lie into the past is no
//!   step forward. Both together move the floor, as far as the certificate goes: then `STATE/clock` has to be
//!   removed by hand.
//! - *A mirror, or a blob store, that lies about the time* changes nothing.
//! - *A clock that jumps to 2099.* Certificates look expired, so no TLS, so nothing is recorded; nor is anything
//!   beyond [`HORIZON`] ever learnt or read.
//! - *A certificate from the future.* Where the system clock is below the floor, it is known to be wrong, and
//!   the floor is only a bound: a certificate that was issued after it shows that time has gone on, not that
//!   something is amiss. It is then judged, in full, at the moment from which it is valid. Authorities sign
//!   that moment and servers cannot choose it; who can get a certificate for next year can get one for today.
//!   With a clock that may be right, "not valid yet" stays a refusal.
//!
//! Nothing is learnt over HTTP without TLS.

pub mod date;
pub mod rfc3339;

use crate::sys;
use date::Utc;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// When this edgepull was built, in seconds since 1970: `SOURCE_DATE_EPOCH` of the build, else its time.
pub const BUILT: u64 = number(env!("EDGEPULL_BUILD_TIME"));

/// How long after its build an agent may be in use, in seconds: 20 years. A clock that says more is wrong.
pub const HORIZON: u64 = 20 * 365 * DAY;

/// What is less than a day newer than what is known, is not worth a certificate chain's verification, or a
/// write to the board's flash. In seconds.
pub const STEP: u64 = DAY;

const DAY: u64 = 24 * 60 * 60;

/// A decimal number that build.rs has checked.
const fn number(text: &str) -> u64 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u64;
        at += 1;
    }
    value
}

/// Why a time is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The system clock says so.
    System,
    /// This program was built then.
    Built,
    /// It was recorded in this file.
    Recorded(PathBuf),
    /// The certificate of this host is valid only from then on.
    Certificate(String),
    /// This host has said so.
    Date(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::System => f.write_str("by this board's clock"),
            Reason::Built => f.write_str("when this edgepull was built"),
            Reason::Recorded(file) => write!(f, "recorded in {}", file.display()),
            Reason::Certificate(host) => write!(f, "when the certificate of {host} was issued"),
            Reason::Date(host) => write!(f, "as {host} says"),
        }
    }
}

/// What time it is taken to be, and why.
#[derive(Debug, Clone)]
pub struct Reading {
    /// In seconds since 1970; never below the floor.
    pub time: u64,
    /// What the system clock says.
    pub system: u64,
    /// What decided.
    pub reason: Reason,
    /// The system clock is later than an agent of this age can be in use.
    pub far_ahead: bool,
}

impl Reading {
    /// True where the system clock is known to be wrong, because it is below the floor.
    pub fn is_floor(&self) -> bool {
        self.reason != Reason::System
    }
}

/// `this board's clock says 1970-01-01 00:00 UTC, which cannot be true: the time is taken to be at least
/// 2026-11-20 10:00 UTC (when this edgepull was built)`.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this board's clock says {}", Utc(self.system))?;
        if self.is_floor() {
            let (time, reason) = (Utc(self.time), &self.reason);
            write!(f, ", which cannot be true: the time is taken to be at least {time} ({reason})")?;
        } else if self.far_ahead {
            write!(f, ", which is hardly true")?;
        }
        Ok(())
    }
}

/// Judges what time it is, by the board's clock, its floor, and what registries have shown. All connections of a run
/// share it.
pub struct Clock {
    system: Box<dyn Fn() -> u64 + Send + Sync>,
    built: u64,
    /// Holds the time of the build, or the recorded one if that is later; `reason` says which.
    floor: u64,
    reason: Reason,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Holds the newest time that each registry has shown, by its host as the user wrote it.
    shown: Vec<(String, u64, Reason)>,
    /// Holds the newest time that a registry and the system clock agree to have passed.
    witnessed: Option<u64>,
}

impl Default for Clock {
    /// The system clock, and no record.
    fn default() -> Clock {
        Clock::new(None)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Clock {
    /// The system clock with the floor of this build and of a record, if there is one.
    pub fn new(recorded: Option<(u64, PathBuf)>) -> Clock {
        Clock::with(sys::unix_time, BUILT, recorded)
    }

    /// A clock of which everything is given: for tests.
    pub fn with(
        system: impl Fn() -> u64 + Send + Sync + 'static,
        built: u64,
        recorded: Option<(u64, PathBuf)>,
    ) -> Clock {
        let (floor, reason) = match recorded {
            Some((time, file)) if time > built => (time, Reason::Recorded(file)),
            _ => (built, Reason::Built),
        };
        Clock { system: Box::new(system), built, floor, reason, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time that it is taken to be, before any registry has shown anything.
    pub fn now(&self) -> Reading {
        let system = (self.system)();
        let far_ahead = system > self.latest();
        match system >= self.floor {
            true => Reading { time: system, system, reason: Reason::System, far_ahead },
            false => Reading { time: self.floor, system, reason: self.reason.clone(), far_ahead },
        }
    }

    /// Returns the time that it is taken to be for `registry` and those to which it refers.
    pub fn now_at(&self, registry: &str) -> Reading {
        let now = self.now();
        let state = self.state();
        match state.shown.iter().find(|(host, time, _)| host == registry && *time > now.time) {
            Some((_, time, reason)) if now.is_floor() => {
                Reading { time: *time, reason: reason.clone(), ..now }
            }
            _ => now,
        }
    }

    /// The latest time that is believed.
    pub fn latest(&self) -> u64 {
        self.built + HORIZON
    }

    /// Notes that a chain of `registry`, for its name `host`, was verified at `time`, which must have come.
    pub fn issued(&self, registry: &str, time: u64, host: &str) {
        self.show(registry, time, Reason::Certificate(host.to_owned()));
    }

    /// Returns whether a `date` of `registry` would change anything. If not, its chain need not be verified again.
    pub fn would_learn(&self, registry: &str, date: u64) -> bool {
        self.is_news(registry, date)
            || self.agreed(date).is_some_and(|time| time >= self.floor.saturating_add(STEP))
    }

    /// Returns whether `date` is later than what is known. If the system clock may be right, no server knows better.
    fn is_news(&self, registry: &str, date: u64) -> bool {
        let now = self.now_at(registry);
        now.is_floor() && date >= now.time + STEP
    }

    /// Learns a `date` of `registry`, at which its chain for `host` was verified, too.
    pub fn learn(&self, registry: &str, date: u64, host: &str) {
        self.witness(date);
        if self.is_news(registry, date) {
            self.show(registry, date, Reason::Date(host.to_owned()));
        }
    }

    /// Returns the time that both a registry's `date` and a believable system clock say has passed.
    fn agreed(&self, date: u64) -> Option<u64> {
        let system = (self.system)();
        (self.floor..=self.latest()).contains(&system).then(|| date.min(system))
    }

    /// Notes that a registry has said that this time has passed, as far as the system clock agrees.
    pub fn witness(&self, date: u64) {
        if let Some(time) = self.agreed(date) {
            let mut state = self.state();
            state.witnessed = state.witnessed.max(Some(time));
        }
    }

    /// Returns the newest time that a registry and the system clock agree to have passed.
    pub fn witnessed(&self) -> Option<u64> {
        self.state().witnessed
    }

    /// The time to record for later runs: at least [`STEP`] newer than what was known at the start.
    pub fn to_record(&self) -> Option<u64> {
        self.state().witnessed.filter(|time| *time >= self.floor + STEP)
    }

    fn show(&self, registry: &str, time: u64, reason: Reason) {
        let now = self.now_at(registry);
        if !now.is_floor() || time <= now.time || time > self.latest() {
            return;
        }
        let mut state = self.state();
        state.shown.retain(|(host, ..)| host != registry);
        state.shown.push((registry.to_owned(), time, reason));
        drop(state);
        log::info!("{}", self.now_at(registry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: u64 = BUILT;
    const REGISTRY: &str = "r.example:5000";

    fn clock(system: u64, recorded: Option<u64>) -> Clock {
        Clock::with(move || system, BUILD, recorded.map(|time| (time, "/state/clock".into())))
    }

    fn learn(clock: &Clock, date: u64) {
        clock.learn(REGISTRY, date, "r.example");
    }

    #[test]
    fn the_later_of_clock_build_and_record_counts() {
        let (early, late) = (BUILD + DAY, BUILD + 9 * DAY);
        for (system, recorded, time, reason) in [
            (0, None, BUILD, Reason::Built),
            (BUILD - 1, None, BUILD, Reason::Built),
            (BUILD, None, BUILD, Reason::System),
            (0, Some(late), late, Reason::Recorded("/state/clock".into())),
            (early, Some(late), late, Reason::Recorded("/state/clock".into())),
            (late, Some(early), late, Reason::System),
            // An old record of an agent that was updated since.
            (0, Some(BUILD - DAY), BUILD, Reason::Built),
        ] {
            let now = clock(system, recorded).now();
            assert_eq!((now.time, &now.reason), (time, &reason), "{system} {recorded:?}");
            assert_eq!(now.is_floor(), reason != Reason::System);
        }
    }

    #[test]
    fn a_date_counts_where_the_clock_is_wrong_and_is_recorded_only_with_its_consent() {
        let (date, soon) = (BUILD + 30 * DAY, BUILD + STEP);
        // The clock is known to be wrong: nothing is recorded.
        let unset = clock(10, None);
        assert!(unset.would_learn(REGISTRY, date));
        learn(&unset, date);
        assert_eq!(unset.now_at(REGISTRY).time, date);
        assert_eq!(unset.now_at(REGISTRY).reason, Reason::Date("r.example".into()));
        assert_eq!(unset.to_record(), None);
        // It is right: so is the record.
        let right = clock(date, None);
        learn(&right, date + 5);
        assert_eq!((right.to_record(), right.now_at(REGISTRY).reason), (Some(date), Reason::System));
        // A registry that lies into the future moves the record to where the clock is, and no further; and no judgement.
        let lied_to = clock(soon, None);
        learn(&lied_to, BUILD + 900 * DAY);
        lied_to.issued(REGISTRY, BUILD + 900 * DAY, "r.example");
        assert_eq!((lied_to.to_record(), lied_to.now_at(REGISTRY).time), (Some(soon), soon));
        // One that lies into the past moves nothing.
        let slow = clock(date, None);
        assert!(!slow.would_learn(REGISTRY, 1));
        learn(&slow, 1);
        assert_eq!((slow.to_record(), slow.now_at(REGISTRY).time), (None, date));
    }

    #[test]
    fn one_registry_s_time_is_no_other_s() {
        let unset = clock(0, None);
        learn(&unset, BUILD + 30 * DAY);
        unset.issued("other.example", BUILD + 3 * DAY, "other.example");
        for (registry, days) in [(REGISTRY, 30), ("other.example", 3), ("third.example", 0)] {
            assert_eq!(unset.now_at(registry).time, BUILD + days * DAY, "{registry}");
        }
        assert_eq!(unset.now().reason, Reason::Built);
    }

    #[test]
    fn a_clock_that_is_set_in_the_meantime_is_believed_again() {
        let system = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let set = system.clone();
        let clock = Clock::with(move || system.load(std::sync::atomic::Ordering::SeqCst), BUILD, None);
        learn(&clock, BUILD + 900 * DAY);
        set.store(BUILD + DAY, std::sync::atomic::Ordering::SeqCst);
        let now = clock.now_at(REGISTRY);
        assert_eq!((now.time, now.is_floor()), (BUILD + DAY, false));
    }

    #[test]
    fn less_than_a_day_is_not_worth_it() {
        let now = BUILD + 10 * DAY;
        let clock = clock(now, Some(now));
        assert!(!clock.would_learn(REGISTRY, now + STEP - 1));
        learn(&clock, now + 7);
        assert_eq!(clock.to_record(), None);
        assert_eq!(clock.now_at(REGISTRY).reason, Reason::System);
        let unset = self::clock(0, Some(now));
        assert!(!unset.would_learn(REGISTRY, now + STEP - 1));
        assert!(unset.would_learn(REGISTRY, now + STEP));
    }

    #[test]
    fn a_clock_beyond_the_horizon_is_said_to_be_wrong_and_never_recorded() {
        let ahead = clock(BUILD + HORIZON + 1, None);
        learn(&ahead, BUILD + HORIZON + 1);
        assert_eq!(ahead.to_record(), None);
        assert!(ahead.now().far_ahead);
        assert!(ahead.now().to_string().ends_with("which is hardly true"), "{}", ahead.now());
        // Nor does a registry get there.
        let unset = clock(0, None);
        learn(&unset, BUILD + HORIZON + 1);
        unset.issued(REGISTRY, u64::MAX, "r.example");
        assert_eq!(unset.now_at(REGISTRY).time, BUILD);
    }

    #[test]
    fn a_certificate_s_first_day_has_come() {
        let unset = clock(0, None);
        unset.issued(REGISTRY, BUILD + 3 * DAY, "r.example");
        unset.issued(REGISTRY, BUILD + 2 * DAY, "older.example");
        assert_eq!(unset.now_at(REGISTRY).time, BUILD + 3 * DAY);
        assert_eq!(unset.to_record(), None);
        let said = unset.now_at(REGISTRY).to_string();
        assert!(
            said.starts_with("this board's clock says 1970-01-01 00:00 UTC, which cannot be true"),
            "{said}"
        );
        assert!(said.ends_with("(when the certificate of r.example was issued)"), "{said}");
    }
}
