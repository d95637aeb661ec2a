//! What the requests of one client and its connections tell each other: who may be spoken to, who has answered, how long
//! that was waited for, and how much came.
//!
//! One thing is asked at a time, and read to its end, or given up, before the next.

use super::near::{self, Ranges};
use super::pace::{Pace, TooSlow};
use super::url::absolute;
use crate::error::{Error, Kind};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much a server may send, in bytes, before a byte of the answer comes that somebody reads: heads, interim
/// answers, trailers, TLS records without content. The input buffer bounds a head (16 KiB), ureq its fields (128) and a
/// chunk's length and extension (20 bytes); nobody how many interim answers there are, or trailers.
const FRUITLESS_MAX: usize = 256 << 10;

/// What one client's requests and connections share.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The host that the user has named, as `host[:port]`.
    own: String,
    /// In which near ranges the peer of the request under way may be.
    allowed: AtomicU8,
    /// In which of them the peer is that was read from last.
    peer: AtomicU8,
    /// In which of them the peer was that last answered a request of the user's own.
    own_peer: AtomicU8,
    /// What was received since the last byte that somebody could read.
    fruitless: AtomicUsize,
    pace: Mutex<Pace>,
}

impl Exchange {
    /// For the host `own`. Nothing was asked yet.
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

    /// Something is asked for: whatever was slow before is none of its fault.
    pub(super) fn begins(&self) {
        self.pace().begins();
    }

    /// The next request may go to a peer in these ranges.
    pub(super) fn allow(&self, ranges: Ranges) {
        self.allowed.store(ranges, Ordering::Relaxed);
    }

    /// What the registry itself may refer to: what is in the ranges of the peer that has answered for it. As long as none
    /// has, those of its name, where that is an address.
    pub(super) fn referred(&self) -> Ranges {
        near::refers_to(self.own_peer.load(Ordering::Relaxed))
    }

    /// A request was answered. The ranges in which this peer may refer to others; a request of the user's `own` says who the
    /// registry is.
    pub(super) fn answered(&self, own: bool) -> Ranges {
        let peer = self.peer.load(Ordering::Relaxed);
        if own {
            self.own_peer.store(peer, Ordering::Relaxed);
        }
        near::refers_to(peer)
    }

    /// May a peer in these ranges be spoken to?
    pub(super) fn may_reach(&self, ranges: Ranges) -> bool {
        near::is_allowed(ranges, self.allowed.load(Ordering::Relaxed))
    }

    /// The refusal of a peer that may not be spoken to.
    pub(super) fn refusal(&self, peer: impl fmt::Display) -> ureq::Error {
        let message = format!("{} refers to {peer}, which only this board can reach", self.own);
        ureq::Error::Other(Box::new(
            Error::new(Kind::Network, message)
                .hint("refused: no registry has to send a board to itself, its link or a metadata service"),
        ))
    }

    /// Bytes were received from a peer in these ranges, of which nobody knows yet what they are.
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

    /// Somebody reads on: from here on something has to come of it.
    pub(super) fn reads_on(&self) {
        self.fruitless.store(0, Ordering::Relaxed);
    }

    /// So many bytes came of what was asked for, or were taken of what is sent.
    pub(super) fn came(&self, bytes: usize) {
        self.pace().came(bytes as u64);
    }

    /// The peer was waited for.
    pub(super) fn waited(&self, time: Duration) {
        self.pace().waited(time);
    }

    /// How much longer the peer may be waited for.
    pub(super) fn patience(&self) -> Result<Duration, TooSlow> {
        self.pace().patience()
    }

    /// For how long any peer was waited for since the beginning.
    pub(super) fn waited_in_all(&self) -> Duration {
        self.pace().in_all()
    }
}
