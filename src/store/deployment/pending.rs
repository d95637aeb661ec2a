//! `STATE/deployments/NAME/pending`: what a deployment is fetching, as JSON. It is written before the first byte is
//! fetched, and removed when the generation is staged: in between, nothing that was fetched for it is
//! removed as unneeded, and `status` can tell what an interrupted fetch still lacks.

use super::{Deployment, PlatformName};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::LAYERS_MAX;
use crate::layer::{Compression, Layer};
use crate::store::disk;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

const NAME: &str = "pending";
/// The largest that is read, in bytes: 1024 layers, the most that a manifest can have, take 200 KiB.
const PENDING_MAX: u64 = 256 * 1024;

/// A layer that was not here when the fetch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its diff-id.
    pub diff_id: Digest,
    /// The digest of its blob.
    pub blob: Digest,
    /// Its size on the wire, in bytes.
    pub size: u64,
}

impl Missing {
    /// What is promised about it, as far as that tells where a fetch goes on.
    pub fn promise<'n>(&self, name: &'n str) -> Layer<'n> {
        Layer {
            compression: Compression::None,
            wire_digest: self.blob.0,
            wire_size: self.size,
            diff_id: self.diff_id.0,
            name,
        }
    }
}

/// What is being fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The manifest's digest.
    pub digest: Digest,
    /// The platform that was taken.
    pub platform: PlatformName,
    /// Holds the layers that had to be fetched, at most as many as a manifest can have (1024). Some may be here by
    /// now.
    #[serde(deserialize_with = "at_most_layers_max")]
    pub missing: Vec<Missing>,
}

/// Reads a list of at most [`LAYERS_MAX`] layers, so that a file that somebody wrote into the directory costs no more.
fn at_most_layers_max<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Missing>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Missing>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {LAYERS_MAX} layers")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<Missing>, A::Error> {
            let mut list = Vec::new();
            while let Some(missing) = from.next_element()? {
                if list.len() == LAYERS_MAX {
                    return Err(serde::de::Error::invalid_length(LAYERS_MAX + 1, &self));
                }
                list.push(missing);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(Bounded)
}

impl Pending {
    /// What `deployment` is fetching. A damaged file is like none: it only spares work.
    pub fn load(deployment: &Deployment) -> Option<Pending> {
        let bytes = disk::read(&deployment.directory().join(NAME), PENDING_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers it, durably; writes nothing where it is the same as before.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn save(&self, deployment: &Deployment) -> Result<()> {
        if Pending::load(deployment).as_ref() == Some(self) {
            return Ok(());
        }
        let text = serde_json::to_vec(self).unwrap_or_default();
        disk::replace(deployment.directory(), NAME, &text, disk::PRIVATE)
    }

    /// It is staged, or no longer wanted.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn forget(deployment: &Deployment) -> Result<()> {
        disk::unlink(deployment.directory(), NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::home::Home;
    use super::*;
    use crate::store::deployment::Tracking;

    fn of(layers: usize) -> Pending {
        let missing = |at: usize| Missing {
            diff_id: Digest::of(&at.to_le_bytes()),
            blob: Digest::of(&at.to_be_bytes()),
            size: u64::MAX,
        };
        Pending {
            digest: Digest([255; 32]),
            platform: "\"".repeat(5000).into(),
            missing: (0..layers).map(missing).collect(),
        }
    }

    #[test]
    fn as_many_layers_as_a_manifest_may_have_are_remembered() {
        let home = Home::new(Tracking::default());
        let (deployment, most) = (home.load(), of(LAYERS_MAX));
        most.save(&deployment).unwrap();
        assert_eq!(Pending::load(&deployment), Some(most));
        Pending::forget(&deployment).unwrap();
        assert_eq!(Pending::load(&deployment), None);
    }

    #[test]
    fn who_names_more_than_a_manifest_may_have_is_not_listened_to() {
        let more = serde_json::to_vec(&of(LAYERS_MAX + 1)).unwrap();
        let error = serde_json::from_slice::<Pending>(&more).unwrap_err().to_string();
        assert!(error.contains("1024"), "{error}");
    }
}
