//! Whether an image may be unpacked: what the policy and the keys demand, and who has signed it.
//!
//! ```text
//! Trust         what is demanded of one image; whether it is met
//!   policy      policy.json: scopes -> requirements
//!     requirement  one requirement, field by field
//!     scope     which scopes an image is in, and which none can be in
//!   identity    the name in a signature, and the one that was asked for
//!   payload     what a signature is of: cosign's payload, DSSE statement, message signature
//!     key       PEM -> public key -> does it verify
//!       point   is it one that somebody can sign by, and not everybody
//!     json      documents in which no key occurs twice
//! rollback      which of two images is the older one
//! ```
//!
//! Signatures are hostile until a key has verified them: what is read before that is bounded by
//! [`crate::source::PAYLOAD_MAX`] and [`crate::source::SIGNATURES_MAX`], and decides nothing.
//!
//! A signature covers an image if it is of the manifest, or of the index that names the manifest's digest.

#[cfg(fuzzing)]
pub mod fuzzing;
mod identity;
mod json;
mod key;
mod payload;
mod point;
mod policy;
mod requirement;
pub mod rollback;
mod scope;

pub use payload::Subject;

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::source::{Attached, Source};
use identity::{Name, Rule};
use key::Key;
use payload::{Miss, verify};
use policy::Policy;
use requirement::{KeySource, Requirement};
use std::path::{Path, PathBuf};

/// Where the policy is, unless `--policy` names another file. Without it, everything is accepted.
pub const POLICY: &str = "/etc/edgepull/policy.json";

/// What is demanded of one image.
#[derive(Debug)]
pub struct Trust {
    /// The image, as it was asked for.
    image: String,
    /// The same for signatures; local images have no names.
    name: Option<Name>,
    /// Why this image is refused, whatever its signatures.
    refused: Option<Refused>,
    /// All of which have to be met.
    demands: Vec<Demand>,
}

#[derive(Debug)]
struct Refused {
    /// Where that stands.
    place: String,
    /// What edgepull cannot check; `None`: it is rejected.
    unsupported: Option<&'static str>,
}

/// A signature by any of these keys.
#[derive(Debug)]
struct Demand {
    /// Who demands it.
    place: String,
    keys: Vec<Key>,
    identity: Rule,
}

impl Trust {
    /// What `policy` (`None`: [`POLICY`], if it is there) demands of `image`, and in addition, where `keys` has files,
    /// a signature by one of these.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a policy or key that cannot be read.
    pub fn new(image: &Reference, policy: Option<&Path>, keys: &[PathBuf]) -> Result<Trust> {
        let name = match image {
            Reference::Registry(image) => Some(Name::of(image)),
            _ => None,
        };
        let mut trust = Trust { image: image.to_string(), name, refused: None, demands: Vec::new() };
        match (Policy::read(policy.unwrap_or(Path::new(POLICY)))?, policy) {
            (Some(policy), _) => {
                let (place, requirements) = policy.requirements(image)?;
                log::info!("policy: {place}");
                requirements.iter().try_for_each(|one| trust.require(one, &place))?;
            }
            (None, Some(path)) => {
                let message = format!("policy {}: no such file", path.display());
                return Err(Error::new(Kind::Usage, message));
            }
            (None, None) if keys.is_empty() => {
                log::info!("no {POLICY}, no --verify-key: nobody has to have signed the image");
            }
            (None, None) => {}
        }
        if !keys.is_empty() {
            let names: Vec<_> = keys.iter().map(|path| path.display().to_string()).collect();
            let place = format!("--verify-key {}", names.join(", "));
            let keys = keys.iter().map(|path| Key::read(path)).collect::<Result<_>>()?;
            trust.demands.push(Demand { place, keys, identity: Rule::DigestOnly });
        }
        Ok(trust)
    }

    fn require(&mut self, requirement: &Requirement, place: &str) -> Result<()> {
        match requirement {
            Requirement::AcceptAnything => {}
            Requirement::Reject => {
                self.refused = Some(Refused { place: place.to_owned(), unsupported: None });
            }
            Requirement::Unsupported(what) => {
                self.refused = Some(Refused { place: place.to_owned(), unsupported: Some(what) });
            }
            Requirement::Signed { keys, identity } => {
                let read = |source: &KeySource| match source {
                    KeySource::Path(path) => Key::read(path),
                    KeySource::Data { field, pem } => Key::parse(pem, format!("{field} of the policy")),
                };
                let keys =
                    keys.iter().map(read).collect::<Result<_>>().map_err(|error| error.context(place))?;
                self.demands.push(Demand { place: place.to_owned(), keys, identity: identity.clone() });
            }
        }
        Ok(())
    }

    /// Holds the signatures that `source` has for the subjects against what is demanded: first what the reference named
    /// (`root`), then the `manifest` that was chosen. Whether the root is covered, too: where only the
    /// manifest was signed, what an index says besides its digest is nobody's word.
    ///
    /// # Errors
    /// [`Kind::Verification`]; those of asking for signatures.
    pub fn check(&self, source: &mut dyn Source, root: Subject, manifest: Subject) -> Result<bool> {
        if let Some(Refused { place, unsupported }) = &self.refused {
            let why =
                unsupported.map_or("it rejects the image".to_owned(), |what| format!("it demands {what}"));
            let message = format!("{}: {} is refused by {place}: {why}", self.image, manifest.digest);
            let error = Error::new(Kind::Verification, message);
            return Err(match unsupported {
                Some(_) => error.hint("edgepull cannot check that; it checks sigstoreSigned with keys"),
                None => error,
            });
        }
        let mut open: Vec<Open> = self.demands.iter().map(Open::new).collect();
        if open.is_empty() {
            return Ok(true);
        }
        self.look(source, root, &mut open)?;
        let root_is_covered = open.iter().all(|one| one.met);
        if !root_is_covered && manifest.digest != root.digest {
            self.look(source, manifest, &mut open)?;
        }
        match open.iter().find(|one| !one.met) {
            None => Ok(root_is_covered),
            Some(one) => Err(self.refusal(one, root, manifest)),
        }
    }

    /// Looks at what is attached to `subject`, until no demand is open.
    fn look(&self, source: &mut dyn Source, subject: Subject, open: &mut [Open]) -> Result<()> {
        let mut found = |attached: Attached| {
            for one in open.iter_mut().filter(|one| !one.met) {
                one.consider(&attached, subject, self.name.as_ref());
            }
            open.iter().all(|one| one.met)
        };
        let searched = source.signatures(&subject.digest, &mut found);
        searched.map_err(|error| error.context("signatures"))
    }

    fn refusal(&self, open: &Open, root: Subject, manifest: Subject) -> Error {
        let Demand { place, keys, identity } = open.demand;
        let what = match root.digest == manifest.digest {
            true => root.digest.to_string(),
            false => format!("neither {} nor the index {}", manifest.digest, root.digest),
        };
        let seen = open.seen;
        let (why, hint) = match &open.nearest {
            None => {
                ("no signature".to_owned(), "sign it by cosign or skopeo, or name another image".to_owned())
            }
            Some(Near::Name(signed)) => {
                let wanted = identity.wanted(self.name.as_ref());
                let why = match signed {
                    Some(name) => format!("signed as {}", name.escape_debug()),
                    None => "signed without a name".to_owned(),
                };
                (format!("{why}, not as {wanted}"), "signedIdentity says which names will do".to_owned())
            }
            Some(Near::Miss(Miss::OtherKey)) => {
                let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
                let why = format!("none of {seen} signatures is by {}", names.join(" or "));
                (why, "sign it by one of these keys, or add the new key".to_owned())
            }
            Some(Near::Miss(Miss::OtherKeyRsa(size))) => {
                let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
                let why = format!(
                    "none of {seen} signatures is by {}; one has the {size} bytes of an RSA key's, and RSA keys are not read",
                    names.join(" or ")
                );
                (why, format!("sign it by another kind of key: {}", key::KINDS))
            }
            Some(Near::Miss(Miss::OtherDigest(of))) => (
                format!("its signature is that of {}", of.escape_debug()),
                "somebody has moved it here".to_owned(),
            ),
            Some(Near::Miss(Miss::Unreadable(why) | Miss::NoSignature(why))) => {
                (format!("none of {seen} signatures will do: {why}"), "sign it again".to_owned())
            }
        };
        let message = format!("{}: {what} is not signed as {place} demands: {why}", self.image);
        Error::new(Kind::Verification, message).hint(hint)
    }
}

/// How near something came to meeting a demand; the later, the nearer.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Near {
    /// Not a signature of this.
    Miss(Miss),
    /// It holds, but has this name.
    Name(Option<String>),
}

/// A demand, and how far it is from being met.
struct Open<'a> {
    demand: &'a Demand,
    met: bool,
    /// What was looked at for it.
    seen: usize,
    nearest: Option<Near>,
}

impl<'a> Open<'a> {
    fn new(demand: &'a Demand) -> Open<'a> {
        Open { demand, met: false, seen: 0, nearest: None }
    }

    fn consider(&mut self, attached: &Attached, subject: Subject, name: Option<&Name>) {
        self.seen += 1;
        let Demand { place, keys, identity } = self.demand;
        let near = match verify(attached, subject, keys) {
            Ok(signed) if identity.is_met(name, signed.name.as_deref()) => {
                log::info!("{} is signed by {}, as {place} demands", subject.digest, signed.key.name);
                self.met = true;
                return;
            }
            Ok(signed) => Near::Name(signed.name),
            Err(miss) => Near::Miss(miss),
        };
        if self.nearest.as_ref().is_none_or(|nearest| *nearest < near) {
            self.nearest = Some(near);
        }
    }
}

#[cfg(test)]
mod tests;
