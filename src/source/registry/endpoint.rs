//! One repository at one place, the registry or a mirror of it: a request that is authorized.

use super::auth;
use super::credentials::{Lookup, Secret, lookup};
use super::hosts::Place;
use super::http::{Answer, Class, Failure, Http};
use super::outcome::{may_pass, outcome, passing};
use super::proxy::Proxies;
use super::url::encode;
use crate::error::{Error, Kind, Result};
use crate::source::Options;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::http::{HeaderName, Method, Uri, header};

/// One place that is asked about one repository.
pub(super) struct Endpoint {
    pub(super) http: Http,
    pub(super) place: Place,
    /// As messages and credentials call it: what the user wrote, or a mirror's `host:port`.
    pub(super) host: String,
    pub(super) repository: String,
    credentials: Result<Lookup>,
    state: Mutex<State>,
}

/// One thing to ask the registry for.
pub(super) struct Ask<'a> {
    /// GET or HEAD.
    pub(super) method: Method,
    /// What follows `/v2/<repository>/`.
    pub(super) path: &'a str,
    /// Request headers.
    pub(super) headers: &'a [(HeaderName, &'a str)],
}

impl Ask<'_> {
    /// Can nobody lie about the answer without being found out?
    pub(super) fn is_by_digest(&self) -> bool {
        let named = self.path.strip_prefix("manifests/").unwrap_or_default();
        self.path.starts_with("blobs/") || named.contains(':')
    }

    /// Whether an answer of this status may be what was asked for.
    pub(super) fn may_get(&self, status: u16) -> bool {
        let is_ranged = self.headers.iter().any(|(name, _)| name == header::RANGE);
        status == 200 || (is_ranged && matches!(status, 206 | 416))
    }
}

/// What was learnt about it.
struct State {
    /// Https? `None`: a loopback host that was not asked yet.
    secure: Option<bool>,
    /// Has it ever answered?
    answered: bool,
    /// The `Authorization` header that it last took.
    authorization: Option<Secret>,
}

impl Endpoint {
    /// Finds its credentials; nothing is sent yet. `host` is what they are kept under.
    pub(super) fn new(
        place: Place,
        host: &str,
        repository: &str,
        is_mirror: bool,
        proxies: &Arc<Proxies>,
        options: &Options,
    ) -> Endpoint {
        Endpoint {
            http: Http::new(&place, is_mirror, proxies, options),
            host: host.to_owned(),
            repository: repository.to_owned(),
            credentials: lookup(options.auth_file.as_deref(), host, repository, &options.network),
            state: Mutex::new(State { secure: place.secure, answered: false, authorization: None }),
            place,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-written state: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user's credentials for this repository. What is wrong with them matters only where they are needed.
    pub(super) fn credentials(&self) -> Result<&Lookup> {
        self.credentials.as_ref().map_err(|error| Error::new(error.kind(), error.to_string()))
    }

    /// Has it ever answered?
    pub(super) fn answered(&self) -> bool {
        self.state().answered
    }

    /// One try. The answer's status is none of those that stand for "log in" or "try again".
    pub(super) fn attempt(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut fresh = false;
        loop {
            let answer = self.send(ask)?;
            match answer.status() {
                401 if answer.same_origin && !fresh => {
                    let authorization = auth::authorize(self, answer)?;
                    self.state().authorization = Some(authorization);
                    fresh = true;
                }
                401 | 403 if answer.same_origin => return Err(self.denied(answer)),
                // A signed URL that has expired; the next try gets a new one.
                401 | 403 => return Err(passing(answer)),
                _ => return may_pass(answer),
            }
        }
    }

    fn send(&self, ask: &Ask) -> Result<Answer, Failure> {
        let decided = self.state().secure;
        let mut secure = decided.unwrap_or(true);
        let mut result = self.send_over(secure, ask);
        if decided.is_none()
            && result.as_ref().is_err_and(|why| why.no_tls || why.class == Class::Unreachable)
        {
            // What Docker does for loopback hosts, where nobody can listen in. Never after a certificate
            // was refused.
            secure = false;
            result = self.send_over(secure, ask);
            if result.is_ok() {
                log::info!("{}: no TLS there; going on without, as this is the machine itself", self.host);
            }
        }
        let answer = result?;
        let mut state = self.state();
        state.secure = Some(secure);
        state.answered = true;
        Ok(answer)
    }

    fn send_over(&self, secure: bool, ask: &Ask) -> Result<Answer, Failure> {
        let scheme = if secure { "https" } else { "http" };
        let Place { authority, path, namespace, .. } = &self.place;
        let mut text = format!("{scheme}://{authority}{path}/{}/{}", self.repository, ask.path);
        if let Some(namespace) = namespace {
            text.push(if ask.path.contains('?') { '&' } else { '?' });
            text.push_str("ns=");
            text.push_str(&encode(namespace));
        }
        let url: Uri = text.parse().map_err(|_| {
            Failure::last(Error::new(Kind::Usage, format!("{text} is not a URL that can be asked for")))
        })?;
        let authorization = self.state().authorization.clone();
        self.http.get(&ask.method, &url, ask.headers, authorization.as_ref().map(Secret::reveal))
    }

    /// The error of a place that does not let us in, with the reason that is on our side.
    pub(super) fn denied(&self, answer: Answer) -> Failure {
        let answered = outcome(answer);
        let message = format!("{}: access to {} denied: {answered}", self.host, self.repository);
        Failure::last(auth::explain(self, message))
    }
}
