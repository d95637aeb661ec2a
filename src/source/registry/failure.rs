//! Describes a request that got no answer, or one that is an error.

use crate::error::Error;
use std::time::Duration;

/// Says what a failure means for the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nobody listens there: the connection was refused, or the name is unknown, which may be a typing error.
    Unreachable,
    /// The link is in trouble that will pass: the connection was reset, has stalled, or is slow.
    Passing,
    /// The server has answered that it can't now: it is overloaded (429), or has tripped over something (5xx).
    Busy,
    /// A mirror has failed, and is not asked any more: the next place is asked at once, and no try is lost by that.
    Elsewhere,
    /// A further try would change nothing.
    Final,
}

/// Describes a request that got no answer, or one that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    /// Says what it means for the next try.
    pub(super) class: Class,
    /// Is set if the peer answered the TLS handshake with something else, or not at all.
    pub(super) no_tls: bool,
    /// Is set if the peer answered a request without TLS as servers do that speak nothing else.
    pub(super) wants_tls: bool,
    /// Is set if there may be no network yet.
    pub(super) offline: bool,
    /// Gives the status of the answer that it stands for, if there was one.
    pub(super) status: Option<u16>,
    /// Gives the time for which the server wants to be left alone (Retry-After).
    pub(super) retry_after: Option<Duration>,
    /// Tells the user what has failed.
    pub(super) error: Error,
}

impl Failure {
    /// Makes a failure of `class` without a Retry-After.
    pub(super) fn new(class: Class, error: Error) -> Failure {
        let (no_tls, wants_tls, offline) = (false, false, false);
        Failure { class, no_tls, wants_tls, offline, status: None, retry_after: None, error }
    }

    /// Returns it as one that was met behind a redirect: the host that was asked is there and speaks its protocol.
    pub(super) fn behind_redirect(mut self) -> Failure {
        self.no_tls = false;
        self.wants_tls = false;
        self.offline = false;
        if self.class == Class::Unreachable {
            self.class = Class::Passing;
        }
        self
    }

    /// Returns it with a mark that there may be no network yet.
    pub(super) fn offline(mut self) -> Failure {
        self.offline = true;
        self
    }

    /// Makes a failure that no further try will mend.
    pub(super) fn last(error: Error) -> Failure {
        Failure::new(Class::Final, error)
    }
}
