//! One repository at one place, the registry or a mirror of it: a request that is authorized.

use super::auth;
use super::credentials::{Lookup, Secret, lookup};
use super::hosts::Place;
use super::http::{Answer, Class, Failure, Http};
use super::outcome::{may_pass, outcome, passing};
use super::proxy::Proxies;
#[cfg(feature = "publish")]
use super::url::Origin;
use super::url::encode;
use crate::error::{Error, Kind, Result};
use crate::image::reference::RegistryReference;
use crate::source::Options;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use ureq::http::uri::Scheme;
use ureq::http::{HeaderName, Method, Uri, Version, header};

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

    /// Is it for a list of referrers, which not everybody has who has manifests?
    pub(super) fn is_for_referrers(&self) -> bool {
        self.path.starts_with("referrers/")
    }

    /// Whether an answer of this status may be what was asked for.
    pub(super) fn may_get(&self, status: u16) -> bool {
        let is_ranged = self.headers.iter().any(|(name, _)| name == header::RANGE);
        let is_document = self.path.starts_with("manifests/") && matches!(status, 200..=299);
        status == 200 || is_document || (is_ranged && matches!(status, 206 | 416))
    }
}

/// What is to be done there: which rights a token server is asked for, and what users are told who lack them.
pub(super) enum Access {
    /// Read.
    Pull,
    /// Write; and read the blobs of that other repository.
    #[cfg(feature = "publish")]
    Push { from: Option<String> },
}

impl Access {
    /// The scopes of a token, separated by spaces (distribution docs, spec/auth/scope): those of the challenge, if it has any,
    /// and what is to be done, if that is not among them: challenges name `*`, or another repository. Who writes gets one
    /// token for all of that: with one that may only read, which is what a challenge to a status of an upload names, the
    /// next write would be refused, and its answer perhaps be lost.
    pub(super) fn scope(&self, challenge: Option<&str>, repository: &str) -> String {
        let (rights, from) = match self {
            Access::Pull => ("pull", None),
            #[cfg(feature = "publish")]
            Access::Push { from } => ("pull,push", from.as_ref()),
        };
        let own = format!("repository:{repository}:{rights}");
        let from = from.map(|from: &String| format!("repository:{from}:pull"));
        let mut scopes: Vec<&str> = challenge.unwrap_or_default().split_ascii_whitespace().collect();
        for wanted in [Some(own.as_str()), from.as_deref()].into_iter().flatten() {
            if !scopes.iter().any(|scope| grants(scope, wanted)) {
                scopes.push(wanted);
            }
        }
        scopes.join(" ")
    }
}

/// Whether a scope has all rights of another one: `repository:a:pull,push` has those of `repository:a:pull`.
fn grants(scope: &str, wanted: &str) -> bool {
    let (Some((name, rights)), Some((wanted_name, wanted))) =
        (scope.rsplit_once(':'), wanted.rsplit_once(':'))
    else {
        return false;
    };
    name == wanted_name && wanted.split(',').all(|right| rights.split(',').any(|granted| granted == right))
}

/// What was learnt about it.
struct State {
    /// Https? `None`: a loopback host that was not asked yet.
    secure: Option<bool>,
    /// Has it ever answered?
    answered: bool,
    /// And otherwise than by asking for TLS?
    understands: bool,
    /// The `Authorization` header that it last took.
    authorization: Option<Secret>,
}

/// What was given for the registry itself, or what the files have.
fn credentials(host: &str, repository: &str, is_mirror: bool, options: &Options) -> Result<Lookup> {
    #[cfg(feature = "publish")]
    if let Some(login) = options.login.as_ref().filter(|_| !is_mirror) {
        return Ok(login.lookup());
    }
    #[cfg(not(feature = "publish"))]
    let _ = is_mirror;
    lookup(options.auth_file.as_deref(), host, repository, &options.network)
}

impl Endpoint {
    /// Finds the credentials of `place`, which is the registry of `image` or a mirror of it, and sends nothing yet.
    pub(super) fn new(
        place: Place,
        image: &RegistryReference,
        is_mirror: bool,
        proxies: &Arc<Proxies>,
        options: &Options,
    ) -> Endpoint {
        // What credentials are kept under.
        let host = if place.namespace.is_none() { &image.host } else { &place.authority };
        let repository = image.repository.as_str();
        Endpoint {
            http: Http::new(&place, &image.host, is_mirror, proxies, options),
            host: host.clone(),
            repository: repository.to_owned(),
            credentials: credentials(host, repository, is_mirror, options),
            state: Mutex::new(State {
                secure: place.secure,
                answered: false,
                understands: false,
                authorization: None,
            }),
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
    pub(super) fn attempt(&self, ask: &Ask, access: &Access) -> Result<Answer, Failure> {
        self.authorized(access, &mut |authorization| {
            self.decided(&mut |secure| {
                let url = self.url(secure, ask.path)?;
                self.http.get(&ask.method, &url, ask.headers, authorization)
            })
        })
    }

    /// Sends something that can be sent again, with what lets us in.
    pub(super) fn authorized(
        &self,
        access: &Access,
        send: &mut dyn FnMut(Option<&str>) -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let mut fresh = false;
        loop {
            let authorization = self.authorization();
            let answer = send(authorization.as_ref().map(Secret::reveal))?;
            match answer.status() {
                401 if answer.same_origin && !fresh => {
                    self.log_in(answer, access)?;
                    fresh = true;
                }
                _ => return self.admitted(answer, access),
            }
        }
    }

    /// An answer whose status is none of those that stand for "log in" or "try again".
    pub(super) fn admitted(&self, answer: Answer, access: &Access) -> Result<Answer, Failure> {
        match answer.status() {
            401 | 403 if answer.same_origin => Err(self.denied(answer, access)),
            // A signed URL that has expired; the next try gets a new one.
            401 | 403 => Err(passing(answer)),
            _ => self.asks_for_tls(may_pass(answer)?),
        }
    }

    /// What the place last took as an `Authorization` header.
    pub(super) fn authorization(&self) -> Option<Secret> {
        self.state().authorization.clone()
    }

    /// Does what a 401 asks for, so that the next request may be let in.
    pub(super) fn log_in(&self, answer: Answer, access: &Access) -> Result<(), Failure> {
        let authorization = auth::authorize(self, answer, access)?;
        self.state().authorization = Some(authorization);
        Ok(())
    }

    /// Sends with TLS or without, which for a loopback host has to be found out.
    pub(super) fn decided(
        &self,
        send: &mut dyn FnMut(bool) -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let decided = self.state().secure;
        let mut secure = decided.unwrap_or(true);
        let mut result = send(secure);
        if decided.is_none()
            && result.as_ref().is_err_and(|why| why.no_tls || why.class == Class::Unreachable)
        {
            // What Docker does for loopback hosts, where nobody can listen in. Never after a certificate
            // was refused.
            secure = false;
            result = send(secure);
            if result.is_ok() {
                log::info!("{}: no TLS there; going on without, as this is the machine itself", self.host);
            }
        }
        let answer = result.map_err(|failure| self.with_or_without(failure, secure))?;
        let mut state = self.state();
        state.secure = Some(secure);
        state.answered = true;
        Ok(answer)
    }

    /// Adds what to change where the place may speak TLS and was asked without it, or the other way round.
    fn with_or_without(&self, failure: Failure, secure: bool) -> Failure {
        let is_mirror = self.place.namespace.is_some();
        // Many servers that speak TLS only just close the connection.
        let is_shut = failure.class == Class::Passing && !failure.offline;
        let hint = match secure {
            true if !failure.no_tls => return failure,
            true if is_mirror => {
                format!("write http://{} in hosts.toml if this mirror has no TLS", self.host)
            }
            true => "--plain-http, or http:// in its hosts.toml, if this registry has no TLS".to_owned(),
            false if !failure.wants_tls && (!is_shut || self.answered()) => return failure,
            false if is_mirror => format!("write https://{} in hosts.toml if it speaks TLS only", self.host),
            false => {
                "without --plain-http, or with https:// in its hosts.toml, if it speaks TLS only".to_owned()
            }
        };
        Failure { error: failure.error.hint(hint), ..failure }
    }

    /// Returns the failure that an answer stands for with which a server asks for TLS, if the place has never answered otherwise:
    /// a 400 to a request without TLS that is no document of a registry's. Go's servers write it as HTTP/1.0 and without a
    /// Content-Type, nginx and Apache as a page of HTML.
    fn asks_for_tls(&self, answer: Answer) -> Result<Answer, Failure> {
        let is_plain = answer.url.scheme() == Some(&Scheme::HTTP) && self.place.own().is(&answer.url);
        let is_from_elsewhere = match answer.header(header::CONTENT_TYPE) {
            Some(kind) => kind.starts_with("text/"),
            None => answer.response.version() == Version::HTTP_10,
        };
        let mut state = self.state();
        if state.understands || answer.status() != 400 || !is_plain || !is_from_elsewhere {
            state.understands = true;
            return Ok(answer);
        }
        drop(state);
        let message = format!("{}: {}, as servers answer that speak TLS only", self.host, outcome(answer));
        let failure = Failure::last(Error::new(Kind::Network, message));
        Err(self.with_or_without(Failure { wants_tls: true, ..failure }, false))
    }

    /// Is that this place, and reached as it has been so far?
    #[cfg(feature = "publish")]
    pub(super) fn is_at(&self, url: &Uri) -> bool {
        let secure = self.state().secure.unwrap_or(true);
        self.url(secure, "").is_ok_and(|own| Origin::of(&own) == Origin::of(url))
    }

    /// The URL of something in the repository; `path` is what follows `/v2/<repository>/`.
    pub(super) fn url(&self, secure: bool, path: &str) -> Result<Uri, Failure> {
        let scheme = if secure { "https" } else { "http" };
        let Place { authority, path: root, namespace, .. } = &self.place;
        let mut text = format!("{scheme}://{authority}{root}/{}/{path}", self.repository);
        if let Some(namespace) = namespace {
            text.push(if path.contains('?') { '&' } else { '?' });
            text.push_str("ns=");
            text.push_str(&encode(namespace));
        }
        text.parse().map_err(|_| {
            Failure::last(Error::new(Kind::Usage, format!("{text} is not a URL that can be asked for")))
        })
    }

    /// The error of a place that does not let us in, with the reason that is on our side.
    pub(super) fn denied(&self, answer: Answer, access: &Access) -> Failure {
        let answered = outcome(answer);
        let message = format!("{}: access to {} denied: {answered}", self.host, self.repository);
        Failure::last(auth::explain(self, message, access))
    }
}
