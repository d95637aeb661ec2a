//! What all connections of a run share: how fast they may be, how long to wait for the network, and what was
//! learnt of mirrors and from credential helpers, so that each is asked, and each warned of, once.

use super::credentials::Credential;
use super::helper;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The slowest rate that can be asked for, in bytes a second: a TLS handshake has to fit into its time-out.
pub const RATE_MIN: u64 = 1 << 10;
/// What an idle link may catch up with, as a time.
const BURST: Duration = Duration::from_millis(250);
/// How much of a limited link is read at once, as a share of a second, and at least in bytes.
const SHARE: (u64, u64) = (8, 512);
/// The first and the longest pause while the network is waited for.
const ONLINE_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What all connections of a run share.
#[derive(Debug, Default)]
pub struct Network {
    /// Bytes a second.
    rate: Option<u64>,
    wait_online: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the bytes read so far will have been worth their time.
    paid_at: Option<Instant>,
    /// When waiting for the network ends, and the last pause.
    online_by: Option<(Instant, Duration)>,
    /// Has anything answered in this run?
    online: bool,
    /// Mirrors by their URL, and whether they may be tried again where all else fails.
    set_aside: Vec<(String, bool)>,
    /// Helper and host, and what came of it; an error as its text.
    helped: Vec<Helped>,
    /// What was warned of.
    warned: Vec<String>,
}

/// What one process of a run has learnt, for the next.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    online: bool,
    /// The time to wait for the network is over.
    waited: bool,
    set_aside: Vec<(String, bool)>,
    warned: Vec<String>,
}

#[derive(Debug)]
struct Helped {
    helper: String,
    host: String,
    found: Result<Option<Credential>, String>,
}

impl Network {
    /// `rate` is in bytes a second, at least [`RATE_MIN`]; `None`: as fast as it goes. For `wait_online` the first
    /// request is tried again while nothing can be reached.
    pub fn new(rate: Option<u64>, wait_online: Duration) -> Network {
        Network { rate, wait_online, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to know for other processes of this run.
    pub fn learnt(&self) -> Learnt {
        let state = self.state();
        Learnt {
            online: state.online,
            waited: state.online_by.is_some(),
            set_aside: state.set_aside.clone(),
            warned: state.warned.clone(),
        }
    }

    /// Knows what another process of this run has learnt, that began with what this one knew.
    pub fn learn(&self, learnt: Learnt) {
        let mut state = self.state();
        state.online |= learnt.online;
        if learnt.waited && !state.online {
            state.online_by = Some((Instant::now(), ONLINE_PAUSES.1));
        }
        (state.set_aside, state.warned) = (learnt.set_aside, learnt.warned);
    }

    /// Waits until something may be read again, and says how much at once, of `wanted` bytes.
    pub(super) fn allowance(&self, wanted: usize) -> usize {
        let Some(rate) = self.rate else { return wanted };
        let until = self.state().paid_at;
        if let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            std::thread::sleep(left);
        }
        wanted.min(usize::try_from((rate / SHARE.0).max(SHARE.1)).unwrap_or(wanted))
    }

    /// So many bytes were read.
    pub(super) fn spent(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let mut state = self.state();
        let since = Instant::now().checked_sub(BURST).into_iter().chain(state.paid_at).max();
        let cost = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate);
        state.paid_at = Some(since.unwrap_or_else(Instant::now) + cost);
    }

    /// Something has answered: from now on the network is there.
    pub(super) fn online(&self) {
        self.state().online = true;
    }

    /// Nothing can be reached. The pause before the next try; `None`: that is a failure.
    pub(super) fn pause_offline(&self) -> Option<Duration> {
        let mut state = self.state();
        if state.online || self.wait_online.is_zero() {
            return None;
        }
        let now = Instant::now();
        let (by, last) = state.online_by.unwrap_or((now + self.wait_online, ONLINE_PAUSES.0 / 2));
        let pause = (last * 2).min(ONLINE_PAUSES.1);
        state.online_by = Some((by, pause));
        by.checked_duration_since(now).filter(|left| !left.is_zero()).map(|left| pause.min(left))
    }

    /// A mirror is not asked any more in this run; `for_good`, whatever becomes of the others.
    pub(super) fn set_aside(&self, mirror: &str, for_good: bool) {
        let mut state = self.state();
        match state.set_aside.iter_mut().find(|(known, _)| known == mirror) {
            Some((_, known)) => *known |= for_good,
            None => state.set_aside.push((mirror.to_owned(), for_good)),
        }
    }

    /// Whether a mirror is not to be asked.
    pub(super) fn is_set_aside(&self, mirror: &str) -> bool {
        self.state().set_aside.iter().any(|(known, _)| known == mirror)
    }

    /// The registry has failed, too: its mirrors get another chance, but for those that have lied. Whether any
    /// does.
    pub(super) fn give_another_chance<'a>(&self, mirrors: impl Iterator<Item = &'a str>) -> bool {
        let mut state = self.state();
        let before = state.set_aside.len();
        for mirror in mirrors {
            state.set_aside.retain(|(known, for_good)| *for_good || known != mirror);
        }
        state.set_aside.len() < before
    }

    /// Asks a credential helper, once in a run for each host.
    pub(super) fn helper(&self, name: &str, host: &str) -> Result<Option<Credential>> {
        let is_it = |known: &&Helped| known.helper == name && known.host == host;
        let known = self.state().helped.iter().find(is_it).map(|known| known.found.clone());
        let found = known.unwrap_or_else(|| {
            let found = helper::get(name, host).map_err(|error| error.to_string());
            self.state().helped.push(Helped {
                helper: name.to_owned(),
                host: host.to_owned(),
                found: found.clone(),
            });
            found
        });
        found.map_err(|text| Error::new(Kind::Usage, text))
    }

    /// Warns, once in a run.
    pub(super) fn warn(&self, text: String) {
        let mut state = self.state();
        if !state.warned.contains(&text) {
            log::warn!("{text}");
            state.warned.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_of_a_run_learns_from_another() {
        let (ours, theirs) =
            (Network::new(None, Duration::from_secs(60)), Network::new(None, Duration::from_secs(60)));
        theirs.set_aside("https://mirror", true);
        theirs.warn("the mirror is left out".into());
        assert!(theirs.pause_offline().is_some());
        ours.learn(theirs.learnt());
        assert!(ours.is_set_aside("https://mirror") && !ours.is_set_aside("https://other"));
        // The time was waited once, for all.
        assert_eq!(ours.pause_offline(), None);
        assert_eq!(ours.learnt().warned, ["the mirror is left out"]);
    }

    #[test]
    fn a_limited_link_pays_for_what_it_has_read() {
        let network = Network::new(Some(8000), Duration::ZERO);
        assert_eq!(network.allowance(16 << 10), 1000);
        assert_eq!(Network::default().allowance(16 << 10), 16 << 10);
        let started = Instant::now();
        for _ in 0..6 {
            network.allowance(1000);
            network.spent(1000);
        }
        network.allowance(1000);
        // 6000 bytes at 8000 a second, less the burst.
        assert!(started.elapsed() >= Duration::from_millis(490), "{:?}", started.elapsed());
    }

    #[test]
    fn waiting_for_the_network_ends() {
        assert_eq!(Network::default().pause_offline(), None);
        let network = Network::new(None, Duration::from_secs(60));
        let pauses: Vec<_> = (0..6).map(|_| network.pause_offline().unwrap().as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        network.online();
        assert_eq!(network.pause_offline(), None);
        let short = Network::new(None, Duration::from_millis(1));
        short.pause_offline();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(short.pause_offline(), None);
    }

    #[test]
    fn who_has_lied_gets_no_other_chance() {
        let network = Network::default();
        network.set_aside("a", false);
        network.set_aside("b", true);
        network.set_aside("b", false);
        assert!(network.give_another_chance(["a", "b"].into_iter()));
        assert_eq!((network.is_set_aside("a"), network.is_set_aside("b")), (false, true));
        assert!(!network.give_another_chance(["a", "b"].into_iter()));
    }
}
