//! One repository at one registry: a request that is authorized, and tried again where that helps.

use super::auth;
use super::credentials::{Lookup, Secret, lookup};
use super::http::{Answer, Class, Failure, Http};
use super::retry::{ATTEMPTS_MAX, ATTEMPTS_UNKNOWN_MAX, Attempts};
use super::url;
use crate::decimal::Decimal;
use crate::error::{Error, Kind};
use crate::image::reference::{DEFAULT_HOST, RegistryReference};
use crate::source::Options;
use serde::Deserialize;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use ureq::BodyReader;
use ureq::http::{HeaderName, Method, Uri};

/// Docker Hub's API is not where its name says.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// How much of an error's body is read, in bytes.
const ERROR_BODY_MAX: u64 = 4 << 10;
/// The longest message of a server that is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Asks one registry about one repository.
pub(super) struct Client {
    pub(super) http: Http,
    /// As the user wrote it.
    pub(super) host: String,
    /// `host[:port]` of the API.
    pub(super) authority: String,
    pub(super) repository: String,
    auth_file: Option<PathBuf>,
    pause: Duration,
    state: Mutex<State>,
}

/// What was learnt about the registry.
struct State {
    /// Https? `None`: a loopback host that was not asked yet.
    secure: Option<bool>,
    /// Has it ever answered?
    answered: bool,
    /// The `Authorization` header that it last took.
    authorization: Option<Secret>,
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

impl Client {
    /// Nothing is sent yet.
    pub(super) fn new(image: &RegistryReference, options: &Options) -> Client {
        let secure = match options.plain_http {
            true => Some(false),
            false => (!url::is_loopback(&image.host)).then_some(true),
        };
        let authority = if image.host == DEFAULT_HOST { DOCKER_HUB_API } else { &image.host };
        Client {
            http: Http::new(options),
            host: image.host.clone(),
            authority: authority.to_owned(),
            repository: image.repository.clone(),
            auth_file: options.auth_file.clone(),
            pause: options.pause,
            state: Mutex::new(State { secure, answered: false, authorization: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-written state: every change is one assignment.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The user's credentials for this repository.
    pub(super) fn credentials(&self) -> Result<Lookup, Error> {
        lookup(self.auth_file.as_deref(), &self.host, &self.repository)
    }

    /// A fresh count of tries.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.pause)
    }

    /// Waits before the next try, or gives up with what failed. `what` is being fetched.
    pub(super) fn pause(&self, attempts: &mut Attempts, failure: Failure, what: &str) -> Result<(), Error> {
        let most = match failure.class {
            Class::Final => return Err(failure.error.context(what)),
            Class::Unreachable if !self.state().answered => ATTEMPTS_UNKNOWN_MAX,
            Class::Unreachable | Class::Passing => ATTEMPTS_MAX,
        };
        match attempts.pause(most, failure.retry_after) {
            Some(pause) => {
                let failed = attempts.failed();
                let seconds = Decimal { value: pause.as_millis() as u64, unit: 1000, places: 1 };
                log::info!("{what}: {} (try {failed} of {most}; the next in {seconds} s)", failure.error);
                std::thread::sleep(pause);
                Ok(())
            }
            None => Err(failure.error.context(format_args!("{what}: tried {most} times"))),
        }
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
        let text = format!("{scheme}://{}/v2/{}/{}", self.authority, self.repository, ask.path);
        let url: Uri = text.parse().map_err(|_| {
            Failure::last(Error::new(Kind::Usage, format!("{text} is not a URL that can be asked for")))
        })?;
        let authorization = self.state().authorization.clone();
        self.http.get(&ask.method, &url, ask.headers, authorization.as_ref().map(Secret::reveal))
    }

    /// One try of a URL that is not the registry's (foreign layers): no credentials.
    pub(super) fn attempt_elsewhere(
        &self,
        url: &Uri,
        headers: &[(HeaderName, &str)],
    ) -> Result<Answer, Failure> {
        let answer = self.http.get(&Method::GET, url, headers, None)?;
        may_pass(answer)
    }

    /// The error of a registry that does not let us in, with the reason that is on our side.
    pub(super) fn denied(&self, answer: Answer) -> Failure {
        let answered = outcome(answer);
        let message = format!("{}: access to {} denied: {answered}", self.host, self.repository);
        Failure::last(auth::explain(self, message))
    }

    /// The stream of an answer's body, with errors that tell who broke off.
    pub(super) fn body(&self, answer: Answer) -> BodyStream<'_> {
        BodyStream { http: &self.http, url: answer.url, reader: answer.response.into_body().into_reader() }
    }
}

/// A body; its errors carry an [`Error`].
pub(super) struct BodyStream<'a> {
    http: &'a Http,
    url: Uri,
    reader: BodyReader<'static>,
}

impl Read for BodyStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| self.http.broken_body(error, &self.url).error.into())
    }
}

/// Sorts out the statuses that ask for patience (distribution-spec, error codes; RFC 9110).
fn may_pass(answer: Answer) -> Result<Answer, Failure> {
    match answer.status() {
        408 | 425 | 429 | 500 | 502 | 503 | 504 => Err(passing(answer)),
        _ => Ok(answer),
    }
}

fn passing(answer: Answer) -> Failure {
    let asked = answer.retry_after();
    let busy = answer.status() == 429;
    let error = Error::new(Kind::Network, format!("{}: {}", asked_host(&answer), outcome(answer)));
    let error = match busy {
        true => error.hint("the registry limits how much is pulled: wait, or log in"),
        false => error,
    };
    Failure { retry_after: asked, ..Failure::new(Class::Passing, error) }
}

/// Who gave an answer, for messages.
pub(super) fn asked_host(answer: &Answer) -> String {
    answer.url.authority().map_or_else(String::new, |authority| authority.to_string())
}

/// `HTTP 404 (NAME_UNKNOWN: repository name not known to registry)`.
pub(super) fn outcome(answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: [One; 1],
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = answer.status();
    let mut body = Vec::new();
    // What cannot be read is not told; the status says enough.
    let _ = answer.response.into_body().into_reader().take(ERROR_BODY_MAX).read_to_end(&mut body);
    match serde_json::from_slice::<Errors>(&body) {
        Ok(Errors { errors: [One { code, message }] }) => {
            format!("HTTP {status} ({}: {})", sanitized(&code), sanitized(&message))
        }
        Err(_) => format!("HTTP {status}"),
    }
}

/// A server's text, fit for a terminal.
pub(super) fn sanitized(text: &str) -> String {
    let visible = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().take(SHOWN_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        assert_eq!(sanitized("a\x1b[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(sanitized(&"é".repeat(1000)).chars().count(), SHOWN_MAX);
    }
}
