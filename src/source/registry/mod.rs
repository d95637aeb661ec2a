//! Pulling from a registry, and pushing to it (OCI distribution-spec, "Pull" and "Push"; Docker Registry HTTP API V2).
//!
//! ```text
//! Registry            which document, which blob; what was promised about it
//!   signatures        what is attached to a digest
//!   blob              one blob as an unbroken stream: ranges, foreign urls
//! Pusher              what is there already; documents and their names
//!   upload            one blob in requests of 8 MiB: what the registry has of it, and how it goes on
//!     payload         the blob's bytes: read once, hashed as they go
//!   write             one request that writes: to the registry itself, where it says
//!   client            one repository: mirrors, then the registry; 429/5xx -> retry
//!     endpoint        one of them: 401 -> auth, loopback without TLS
//!       auth          challenge, credentials -> token
//!       outcome       what an answer stands for that is none
//!       http, body    one request with its redirects; what kind of failure
//!         dns, near   names, where there is a DNS; addresses that nobody may refer to
//!         failure     what a request without an answer means for the next try
//!         tcp         one connection, and how much of it may lie unread
//!         exchange    what one client's requests and connections share
//!           pace      how slow a registry may be
//!         proxy       the connection goes to a proxy
//!         tls, roots  rustls below ureq
//!           identity  client certificates
//!           verify    by which time a certificate is judged
//!           refusal   why one is refused, in words
//! hosts, toml         hosts.toml: which mirrors, and how each is reached
//! credentials         files, and helper programs (helper)
//! network             what all of these share in a run
//! file, url, hub      small files, addresses, Docker Hub's names
//! ```

mod auth;
mod blob;
mod body;
mod challenge;
mod client;
mod credentials;
mod dns;
mod endpoint;
mod exchange;
mod failure;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod helper;
mod hosts;
mod http;
mod hub;
mod identity;
mod near;
mod network;
mod outcome;
mod pace;
#[cfg(feature = "publish")]
mod payload;
#[cfg(test)]
mod peers;
mod proxy;
#[cfg(feature = "publish")]
mod push;
mod refusal;
mod retry;
mod roots;
mod signatures;
mod tcp;
mod tls;
mod toml;
#[cfg(feature = "publish")]
mod upload;
mod url;
mod verify;
#[cfg(feature = "publish")]
mod write;

#[cfg(feature = "publish")]
pub use self::credentials::Login;
pub use self::network::{Learnt, Network, RATE_MIN};
#[cfg(feature = "publish")]
pub(super) use self::push::Pusher;

use self::blob::BlobReader;
use self::client::Client;
use self::endpoint::Ask;
use self::http::{Answer, Class, Failure};
use self::outcome::{asked_host, outcome};
#[cfg(feature = "publish")]
use super::Attachment;
use super::{Fetched, Found, Options, Source, read_document, verified};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, media_type};
use crate::image::reference::RegistryReference;
use crate::sys::{self, Randomness};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use ureq::http::{HeaderName, Method, header};

/// The manifests that edgepull understands, indexes first: a registry that has both sends the index.
/// Each is sent in a header of its own, as docker and skopeo do: some registries take a list for one unknown type.
const ACCEPT: [&str; 4] =
    [media_type::OCI_INDEX, media_type::DOCKER_LIST, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];
/// What the registry takes the manifest's digest for.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// One image in a registry.
pub(super) struct Registry {
    client: Arc<Client>,
    image: RegistryReference,
}

impl Registry {
    /// Finds out whom to ask, and all credentials. Nothing is sent yet.
    pub(super) fn new(image: &RegistryReference, options: &Options) -> Result<Registry> {
        if !options.plain_http {
            wait_for_randomness()?;
        }
        Ok(Registry { client: Arc::new(Client::new(image, options)?), image: image.clone() })
    }

    /// The manifest called `name` (a tag or digest). `size` is what a descriptor promised.
    fn fetch(&self, name: &str, size: Option<u64>) -> Result<Fetched> {
        let what = format!("manifest {name} of {}", self.image.repository);
        let mut attempts = self.client.attempts();
        loop {
            match self.try_fetch(name, size) {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => self.client.pause(&mut attempts, failure, &what)?,
            }
        }
    }

    fn try_fetch(&self, name: &str, size: Option<u64>) -> Result<Fetched, Failure> {
        let path = format!("manifests/{name}");
        let headers = ACCEPT.map(|media_type| (header::ACCEPT, media_type));
        let answer = self.client.attempt(&Ask { method: Method::GET, path: &path, headers: &headers })?;
        let host = asked_host(&answer);
        match answer.status() {
            // Go's clients take any of these. What is none is seen by its bytes.
            200..=299 => {}
            404 => {
                let error =
                    Error::new(Kind::NotFound, format!("{host} does not have it: {}", outcome(answer)));
                return Err(Failure::last(error.hint("check the name and the tag")));
            }
            _ => {
                let message = format!("{host}: unexpected answer {}", outcome(answer));
                return Err(Failure::last(Error::new(Kind::Network, message)));
            }
        }
        let content_type = answer.media_type().to_owned();
        let (promised, place) = (promised(&answer), answer.place);
        let bytes = self.client.read(answer, size, "the answer")?;
        let digest = Digest::of(&bytes);
        let wrong = |message: String| Error::new(Kind::Verification, format!("{host}: {message}"));
        if name.parse().ok() != Some(digest) {
            self.client.check(&bytes, &content_type, &host, place)?;
        }
        match (name.parse::<Digest>(), promised) {
            // A mirror's answer is judged at once, as another one can be had; the registry's by who has asked.
            (Ok(asked), _) if asked != digest && self.client.lied(place) => {
                Err(Failure::new(Class::Elsewhere, wrong(format!("asked for {name}, got {digest}"))))
            }
            (Err(_), Some(promised)) if promised != digest => {
                Err(self.client.wrong(place, wrong(format!("its head says {promised}, got {digest}"))))
            }
            _ => Ok(Fetched { bytes, digest, media_type: content_type }),
        }
    }
}

/// Makes a failure of whoever has answered with something that is not what a registry has.
fn no_registry(message: String) -> Failure {
    Failure::last(
        Error::new(Kind::Network, message).hint("it is not a registry, or a login page is before it"),
    )
}

/// What the head of an answer promises that the body would be.
fn promised(answer: &Answer) -> Option<Digest> {
    answer.header(DOCKER_CONTENT_DIGEST).and_then(|digest| digest.parse().ok())
}

/// TLS needs keys. Early in a boot the kernel may have nothing yet to make them of; ring would wait just as
/// long, without a word.
fn wait_for_randomness() -> Result<()> {
    match sys::randomness() {
        Randomness::Ready => Ok(()),
        Randomness::NotYet => {
            log::warn!("the kernel has no random numbers yet, as it has just started: waiting for them");
            Ok(())
        }
        Randomness::Missing => {
            let message = "there are no random numbers for TLS: this kernel has no getrandom, and there is no \
                           /dev/urandom";
            Err(Error::new(Kind::Other, message).hint("mount -t devtmpfs dev /dev"))
        }
    }
}

impl Source for Registry {
    fn root(&mut self) -> Result<Fetched> {
        let fetched = self.fetch(&self.image.tag_or_digest(), None)?;
        match self.image.digest {
            Some(wanted) if wanted != fetched.digest => Err(Error::new(
                Kind::Verification,
                format!("{}: asked for {wanted}, got {}", self.image.host, fetched.digest),
            )),
            _ => Ok(fetched),
        }
    }

    fn current(&mut self) -> Result<Option<Digest>> {
        if self.image.digest.is_some() {
            return Ok(self.image.digest);
        }
        let path = format!("manifests/{}", self.image.tag_or_digest());
        let headers = ACCEPT.map(|media_type| (header::ACCEPT, media_type));
        // Whoever does not answer this, or not with a digest, is asked for the manifest itself, which decides: there are
        // registries, and things before them, that refuse HEAD alone.
        match self.client.attempt(&Ask { method: Method::HEAD, path: &path, headers: &headers }) {
            Ok(answer) => Ok(promised(&answer).filter(|_| matches!(answer.status(), 200..=299))),
            Err(failure) => {
                log::info!("{}; asking for the manifest itself", failure.error);
                Ok(None)
            }
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        let fetched = self.fetch(&descriptor.digest.to_string(), Some(descriptor.size))?;
        verified(fetched.bytes, descriptor, &format!("{}: manifest", self.image.host))
    }

    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        let what = format!("{}: config {}", self.image.host, descriptor.digest);
        loop {
            let reader = BlobReader::open(self.client.clone(), descriptor, 0)?;
            let read = read_document(reader, Some(descriptor.size), Kind::Network, &what);
            match read.and_then(|bytes| verified(bytes, descriptor, &what)) {
                // There are fewer places to ask each time.
                Err(error)
                    if error.kind() == Kind::Verification && self.client.distrust(&descriptor.digest) => {}
                other => return other,
            }
        }
    }

    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(BlobReader::open(self.client.clone(), descriptor, offset)?))
    }

    fn signatures(&mut self, digest: &Digest, found: &mut Found) -> Result<()> {
        signatures::of(self, digest, found)
    }

    #[cfg(feature = "publish")]
    fn attachments(&mut self, digest: &Digest) -> Result<Vec<Attachment>> {
        signatures::attachments(self, digest)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.client.files.clone()
    }

    fn distrust(&mut self, descriptor: &Descriptor) -> bool {
        self.client.distrust(&descriptor.digest)
    }
}
