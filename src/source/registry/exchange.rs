//! Shares between the requests of one client and its connections which peers may be spoken to, which one has
//! answered, how long they were waited for, and how many bytes came.
//!
//! One request is sent at a time, and its answer is read to the end, or given up, before the next.

use super::near::{self, Ranges};
use super::pace::{Pace, TooSlow};
use super::url::absolute;
use crate::error::{Error, Kind};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Limits how many bytes a server may send before a byte of the answer comes that somebody reads: heads, interim
/// answers, trailers, TLS records without content. Heads are bounded by the input buffer (16 KiB), their fields by
/// ureq (128), a chunk's length and extension by ureq, too (20 bytes); the number of interim answers and trailers is
/// bounded by this limit alone.
const FRUITLESS_MAX: usize = 256 << 10;

/// Holds what one client's requests and connections share.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Names the host that the user has named, as `host[:port]`.
    own: String,
    /// Holds the near ranges in which the peer of the request under way may be.
    allowed: AtomicU8,
    /// Holds the near ranges of the peer that was read from last.
    peer: AtomicU8,
    /// Holds the near ranges of the peer that last answered a request of the user's own.
    own_peer: AtomicU8,
    /// Counts the bytes that were received since somebody last began to read.
    fruitless: AtomicUsize,
    pace: Mutex<Pace>,
}

impl Exchange {
    /// Starts with nothing asked, for the host `own`.
    pub(super) fn new(own: String, pace: Pace) -> Exchange {
        // A literal address is known already.
        let known = absolute(&format!("http://{own}/")).map_or(0, |url| near::range_by_name(&url));
        Exchange {
            own,
            allowed: AtomicU8::new(near::ANY),
            peer: AtomicU8::new(known),
            own_peer: AtomicU8::new(known),
            fruitless: AtomicUsize::new(0),
            pace: Mutex::new(pace),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // Every change is whole before the lock is given back.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new account of time for what is asked for now: whatever was slow before does not count against it.
    pub(super) fn begins(&self) {
        self.pace().begins();
    }

    /// Lets the next request go to a peer in these ranges.
    pub(super) fn allow(&self, ranges: Ranges) {
        self.allowed.store(ranges, Ordering::Relaxed);
    }

    /// Returns the ranges to which the registry itself may refer: those of the peer that has answered for it, or, as
    /// long as none has, those of its name if that is an address.
    pub(super) fn referred(&self) -> Ranges {
        near::refers_to(self.own_peer.load(Ordering::Relaxed))
    }

    /// Notes that a request was answered, and returns the ranges to which this peer may refer. The answer to a
    /// request of the user's `own` says which peer the registry is.
    pub(super) fn answered(&self, own: bool) -> Ranges {
        let peer = self.peer.load(Ordering::Relaxed);
        if own {
            self.own_peer.store(peer, Ordering::Relaxed);
        }
        near::refers_to(peer)
    }

    /// Returns whether the request under way may go to a peer in these ranges.
    pub(super) fn may_reach(&self, ranges: Ranges) -> bool {
        near::is_allowed(ranges, self.allowed.load(Ordering::Relaxed))
    }

    /// Returns the error for a peer that the request under way may not go to.
    pub(super) fn refusal(&self, peer: impl fmt::Display) -> ureq::Error {
        let message = format!("{} refers to {peer}, which only this board can reach", self.own);
        ureq::Error::Other(Box::new(
            Error::new(Kind::Network, message)
                .hint("refused: no registry has to send a board to itself, its link or a metadata service"),
        ))
    }

    /// Notes that bytes were received from a peer in these ranges. It fails if they are more than `FRUITLESS_MAX`
    /// since somebody last began to read.
    pub(super) fn received(&self, peer: Ranges, bytes: usize) -> Result<(), ureq::Error> {
        self.peer.store(peer, Ordering::Relaxed);
        match self.fruitless.fetch_add(bytes, Ordering::Relaxed) + bytes > FRUITLESS_MAX {
            false => Ok(()),
            true => Err(ureq::Error::Other(Box::new(
                Error::new(Kind::Network, "the server sends and sends, and nothing of it is an answer")
                    .hint("edgepull's limit FRUITLESS_MAX, 256 KiB"),
            ))),
        }
    }

    /// Notes that somebody reads on, and counts the received bytes from 0 again.
    pub(super) fn reads_on(&self) {
        self.fruitless.store(0, Ordering::Relaxed);
    }

    /// Notes that so many bytes came of what was asked for, or were taken of what is sent.
    pub(super) fn came(&self, bytes: usize) {
        self.pace().came(bytes as u64);
    }

    /// Notes how long the peer was waited for.
    pub(super) fn waited(&self, time: Duration) {
        self.pace().waited(time);
    }

    /// Returns how much longer the peer may be waited for, or [`TooSlow`] if that time is over.
    pub(super) fn patience(&self) -> Result<Duration, TooSlow> {
        self.pace().patience()
    }

    /// Returns how long peers were waited for in all, since the beginning.
    pub(super) fn waited_in_all(&self) -> Duration {
        self.pace().in_all()
    }
}
