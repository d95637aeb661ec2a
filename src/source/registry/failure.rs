//! What became of a request that got no answer, or one that is an error.

use crate::error::Error;
use std::time::Duration;

/// What a failure means for the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nobody is there: connection refused, unknown name. May be a typing error.
    Unreachable,
    /// Will pass: reset, stalled, slow, overloaded.
    Passing,
    /// A mirror's, which is not asked any more: somebody else is, at once, and no try is lost by it.
    Elsewhere,
    /// Trying again would change nothing.
    Final,
}

/// A request that got no answer, or one that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    /// What it means for the next try.
    pub(super) class: Class,
    /// Did the peer answer the TLS handshake with something else, or not at all?
    pub(super) no_tls: bool,
    /// Is it as if there were no network?
    pub(super) offline: bool,
    /// When the server wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// For the user.
    pub(super) error: Error,
}

impl Failure {
    /// A failure of `class` without a Retry-After.
    pub(super) fn new(class: Class, error: Error) -> Failure {
        Failure { class, no_tls: false, offline: false, retry_after: None, error }
    }

    /// The same, met behind a redirect: the host that was asked is there and speaks its protocol.
    pub(super) fn behind_redirect(mut self) -> Failure {
        self.no_tls = false;
        self.offline = false;
        if self.class == Class::Unreachable {
            self.class = Class::Passing;
        }
        self
    }

    /// The same, and perhaps there is no network yet.
    pub(super) fn offline(mut self) -> Failure {
        self.offline = true;
        self
    }

    /// A failure that no further try will mend.
    pub(super) fn last(error: Error) -> Failure {
        Failure::new(Class::Final, error)
    }
}
