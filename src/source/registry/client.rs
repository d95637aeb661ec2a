//! One repository: the registry that the user has named, and its mirrors before it. A request goes from one to
//! the next, and is tried again where that helps.
//!
//! A mirror is asked for what a digest names, and what a tag means only if it may say that. One that fails is
//! not asked again in the same run, unless the registry fails, too; one that has given wrong bytes never is. That
//! it lacks something is no failure.

use super::body::BodyStream;
use super::dns;
use super::endpoint::{Access, Ask, Endpoint};
use super::hosts::{Place, places};
use super::http::{Answer, Class, Failure};
use super::network::Network;
use super::no_registry;
use super::outcome::{asked_host, begins_a_page, is_html, may_pass, outcome};
use super::proxy::Proxies;
use super::retry::{ATTEMPTS_MAX, ATTEMPTS_UNKNOWN_MAX, Attempts};
use super::roots;
use crate::decimal::Decimal;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Look};
use crate::image::reference::RegistryReference;
use crate::source::{Options, read_document};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ureq::http::{HeaderName, Method, Uri};

/// Asks about one repository.
pub(super) struct Client {
    /// Mirrors in their order; the registry is last.
    endpoints: Vec<Endpoint>,
    /// As the user wrote it.
    pub(super) host: String,
    pub(super) repository: String,
    pause: Duration,
    /// Gives the lowest rate of the options, in bytes a second.
    lowest: u64,
    pub(super) network: Arc<Network>,
    /// What is read when it is needed: for names, and for TLS.
    pub(super) files: Vec<PathBuf>,
    /// Which mirrors have given bytes of which blob, as one bit each.
    given: Mutex<Vec<(Digest, u32)>>,
}

impl Client {
    /// Finds out whom to ask, and all credentials, for which helper programs may be run. Nothing is sent yet.
    pub(super) fn new(image: &RegistryReference, options: &Options) -> Result<Client> {
        let places = places(&image.host, options)?;
        let proxies = if options.proxies { Proxies::of_environment() } else { Proxies::default() };
        let mut files = dns::files();
        files.extend(roots::files(options.ca_file.as_deref()));
        for place in &places {
            files.extend(place.authorities.iter().cloned());
            files.extend(place.client.iter().flat_map(|(certificate, key)| [certificate, key]).cloned());
        }
        let (mirrors, proxies) = (places.len() - 1, Arc::new(proxies));
        let endpoint = |(at, place)| Endpoint::new(place, image, at < mirrors, &proxies, options);
        Ok(Client {
            endpoints: places.into_iter().enumerate().map(endpoint).collect(),
            host: image.host.clone(),
            repository: image.repository.clone(),
            pause: options.pause,
            lowest: options.lowest.rate,
            network: options.network.clone(),
            files,
            given: Mutex::default(),
        })
    }

    /// The registry itself.
    pub(super) fn registry(&self) -> &Endpoint {
        self.endpoints.last().expect("the registry is always there")
    }

    /// What is asked before it.
    pub(super) fn mirrors(&self) -> &[Endpoint] {
        &self.endpoints[..self.endpoints.len() - 1]
    }

    /// A fresh count of tries.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.pause, self.lowest, self.waited())
    }

    /// Returns how long all of its places together were waited for.
    pub(super) fn waited(&self) -> Duration {
        self.endpoints.iter().map(|endpoint| endpoint.http.waited()).sum()
    }

    /// Waits before the next try, or gives up with what failed. `what` is being fetched.
    pub(super) fn pause(&self, attempts: &mut Attempts, failure: Failure, what: &str) -> Result<(), Error> {
        if let Some(pause) = failure.offline.then(|| self.network.pause_offline()).flatten() {
            log::info!("{what}: {}; waiting for the network", failure.error);
            std::thread::sleep(pause);
            return Ok(());
        }
        let answered = self.endpoints.iter().any(Endpoint::answered);
        let most = match failure.class {
            Class::Final => return Err(failure.error.context(what)),
            Class::Elsewhere => {
                log::info!("{what}: {}; asking elsewhere", failure.error);
                return Ok(());
            }
            Class::Unreachable if !answered => ATTEMPTS_UNKNOWN_MAX,
            Class::Unreachable | Class::Passing | Class::Busy => ATTEMPTS_MAX,
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

    /// One try, at all places that may answer. The answer's status is none of those that stand for "log in" or "try
    /// again".
    pub(super) fn attempt(&self, ask: &Ask) -> Result<Answer, Failure> {
        let may = |place: &Place| if ask.is_by_digest() { place.pull } else { place.resolve };
        for (at, mirror) in self.mirrors().iter().enumerate() {
            if !may(&mirror.place) || self.network.is_set_aside(&mirror.place.key()) {
                continue;
            }
            match mirror.attempt(ask, &Access::Pull) {
                Ok(answer) if ask.may_get(answer.status()) => {
                    self.network.online();
                    return Ok(Answer { place: at, ..answer });
                }
                Ok(answer) if matches!(answer.status(), 404 | 410) || ask.is_for_referrers() => {
                    log::info!("the mirror {} does not have {}", mirror.host, ask.path);
                    // Read to its end, the connection is free for the next request.
                    outcome(answer);
                }
                // The manifest itself may be had from whoever does not tell its digest.
                Ok(answer) if ask.method == Method::HEAD => drop(outcome(answer)),
                Err(failure) if ask.method == Method::HEAD && failure.class != Class::Unreachable => {}
                Ok(answer) => self.set_aside(at, &format!("unexpected answer {}", outcome(answer))),
                Err(failure) => self.set_aside(at, &failure.error.to_string()),
            }
        }
        if !may(&self.registry().place) {
            let message = format!("{}: nobody may be asked for {}", self.host, ask.path);
            return Err(Failure::last(
                Error::new(Kind::Network, message).hint("see the capabilities in hosts.toml"),
            ));
        }
        let result = self.registry().attempt(ask, &Access::Pull);
        match result {
            Ok(answer) => {
                self.network.online();
                Ok(Answer { place: self.mirrors().len(), ..answer })
            }
            Err(failure) if failure.class == Class::Final && !failure.offline => Err(failure),
            Err(failure) => {
                let names: Vec<String> = self.mirrors().iter().map(|mirror| mirror.place.key()).collect();
                match self.network.give_another_chance(names.iter().map(String::as_str)) {
                    true => Err(Failure { class: Class::Passing, ..failure }),
                    false => Err(failure),
                }
            }
        }
    }

    /// A mirror has failed: it is not asked any more in this run, as long as the registry answers.
    fn set_aside(&self, place: usize, why: &str) {
        let mirror = &self.endpoints[place].place;
        self.network.warn(format!("the mirror {} is left out: {why}", mirror.shown()));
        self.network.set_aside(&mirror.key(), false);
    }

    /// Whether that place is a mirror, and not the registry itself.
    pub(super) fn is_mirror(&self, place: usize) -> bool {
        place < self.mirrors().len()
    }

    /// What this place had begun to give has failed: a mirror is left out then.
    pub(super) fn broke_off(&self, place: usize, failure: Failure) -> Failure {
        if place >= self.mirrors().len() {
            return failure;
        }
        self.set_aside(place, &failure.error.to_string());
        Failure::new(Class::Elsewhere, failure.error)
    }

    /// What this place gave is not what was asked for: a mirror is never asked again, and the registry has the last
    /// word.
    pub(super) fn wrong(&self, place: usize, error: Error) -> Failure {
        Failure::new(if self.lied(place) { Class::Elsewhere } else { Class::Final }, error)
    }

    /// Whether it was a mirror that gave wrong bytes; then it is never asked again.
    pub(super) fn lied(&self, place: usize) -> bool {
        let Some(mirror) = self.mirrors().get(place).map(|mirror| &mirror.place) else { return false };
        self.network.warn(format!("the mirror {} is left out: it has given wrong bytes", mirror.shown()));
        self.network.set_aside(&mirror.key(), true);
        true
    }

    /// Reads a document whole. `size` is what a descriptor promised.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for one that is too large; or [`Kind::Network`] if that is a page of HTML, which nobody has
    /// promised.
    pub(super) fn read(&self, answer: Answer, size: Option<u64>, what: &str) -> Result<Vec<u8>, Failure> {
        let (place, host, is_html) = (answer.place, asked_host(&answer), is_html(&answer));
        let mut body = Beginning { body: answer.into_body(), bytes: Vec::new() };
        read_document(&mut body, size, Kind::Network, what).map_err(|error| match error.kind() {
            Kind::Network => self.broke_off(place, Failure::new(Class::Passing, error)),
            _ if size.is_none() && (is_html || begins_a_page(&body.bytes)) => {
                self.broke_off(place, no_registry(format!("{host}: its answer is no manifest")))
            }
            _ => self.wrong(place, error),
        })
    }

    /// Reads a manifest that no digest names, of the type `declared`.
    ///
    /// # Errors
    /// Returns those of [`Client::read`] and [`Client::check`].
    pub(super) fn read_manifest(&self, answer: Answer, declared: &str) -> Result<Vec<u8>, Failure> {
        let (host, place) = (asked_host(&answer), answer.place);
        let bytes = self.read(answer, None, "the answer")?;
        self.check(&bytes, declared, &host, place)?;
        Ok(bytes)
    }

    /// Bytes that no digest names are a manifest only if they look like one. Else it is whoever answered that is not what it
    /// should be: a login page stands before it, or it is no registry at all. That says nothing of the image.
    ///
    /// # Errors
    /// Returns [`Kind::Network`]; from a mirror, another place is asked then. A mirror is not believed either when it says
    /// that the image is of Docker's schema 1; from the registry itself that goes on, and is refused by its name.
    pub(super) fn check(
        &self,
        bytes: &[u8],
        content_type: &str,
        host: &str,
        place: usize,
    ) -> Result<(), Failure> {
        let message = match manifest::look(content_type, bytes) {
            Look::Manifest => return Ok(()),
            Look::Schema1 if self.is_mirror(place) => "its answer is a Docker schema 1 manifest",
            Look::Schema1 => return Ok(()),
            Look::Neither => "its answer is no manifest",
        };
        Err(self.broke_off(place, no_registry(format!("{host}: {message}"))))
    }

    fn given(&self) -> MutexGuard<'_, Vec<(Digest, u32)>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a blob come from this place.
    pub(super) fn gives(&self, blob: Digest, place: usize) {
        if place >= self.mirrors().len() {
            return;
        }
        let mut given = self.given();
        match given.iter_mut().find(|(known, _)| *known == blob) {
            Some((_, places)) => *places |= 1 << place,
            None => given.push((blob, 1 << place)),
        }
    }

    /// A blob was not what its digest promised: mirrors that gave some of it are never asked again. Whether there
    /// was one.
    pub(super) fn distrust(&self, blob: &Digest) -> bool {
        let known = self.given().iter().position(|(known, _)| known == blob);
        let Some((_, places)) = known.map(|at| self.given().swap_remove(at)) else { return false };
        (0..self.mirrors().len())
            .filter(|place| places & (1 << place) != 0)
            .fold(false, |_, place| self.lied(place))
    }

    /// One try of a URL that an image has named (foreign layers): no credentials, and no headers of the user's.
    pub(super) fn attempt_elsewhere(
        &self,
        url: &Uri,
        headers: &[(HeaderName, &str)],
    ) -> Result<Answer, Failure> {
        let answer = self.registry().http.get_foreign(url, headers)?;
        may_pass(Answer { place: self.mirrors().len(), ..answer })
    }
}

/// Keeps how a body begins.
struct Beginning {
    body: BodyStream,
    /// Holds its first bytes, at most [`BEGINNING`].
    bytes: Vec<u8>,
}

/// How many bytes show whether a page begins.
const BEGINNING: usize = 64;

impl Read for Beginning {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(buffer)?;
        let missing = BEGINNING - self.bytes.len();
        self.bytes.extend_from_slice(&buffer[..read.min(missing)]);
        Ok(read)
    }
}
