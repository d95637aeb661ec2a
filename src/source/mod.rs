//! Where an image's bytes come from, and, for who publishes, where they are written to. Every source answers the same
//! three questions; none knows what happens to the answers. Every destination takes blobs, then documents, then a name.
//!
//! | reference | source | destination |
//! |---|---|---|
//! | `host/repository:tag` | `registry` | `registry` (its `push`) |
//! | `oci:DIR[:NAME]` | `layout` | `layout_writer` |
//! | `oci-archive:FILE[:NAME]` | `layout` over the members of a tar (`archive`) | `archive_writer` |
//! | `docker-archive:FILE[:NAME]` | `docker_archive` | none: it has no lists |
//!
//! `transfer` is an image's way from one to the other; `partial` and `entries` are what both writers of files have in
//! common: a file in the making, and `index.json`.

mod archive;
#[cfg(feature = "publish")]
mod archive_writer;
mod attached;
#[cfg(feature = "publish")]
mod destination;
mod docker_archive;
#[cfg(feature = "publish")]
mod entries;
mod layout;
#[cfg(feature = "publish")]
mod layout_writer;
mod names;
#[cfg(feature = "publish")]
mod partial;
mod registry;
#[cfg(feature = "publish")]
mod transfer;

#[cfg(feature = "publish")]
pub use archive_writer::ArchiveWriter;
pub(crate) use attached::COSIGN_SIGN;
pub use attached::{Attached, Found, PAYLOAD_MAX, SIGNATURES_MAX};
#[cfg(feature = "publish")]
pub use destination::{Destination, Open};
#[cfg(feature = "publish")]
pub use layout_writer::LayoutWriter;
#[cfg(feature = "publish")]
pub use registry::Login;
#[cfg(fuzzing)]
pub use registry::fuzzing;
pub use registry::{Learnt, Network, RATE_MIN};
#[cfg(feature = "publish")]
pub use transfer::{Progress, Step, Totals, Transfer};

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCUMENT_MAX, Descriptor, Document, Manifest};
use crate::image::reference::Reference;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The bytes of an index, manifest or config, whose digest was verified.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the source says they are (Content-Type or descriptor); empty if it says nothing.
    pub media_type: String,
}

impl Fetched {
    /// Returns the manifest that this is; `None` for an index, and for what cannot be read.
    fn image_manifest(&self) -> Option<Box<Manifest>> {
        match Document::parse(&self.media_type, &self.bytes) {
            Ok(Document::Manifest(manifest)) => Some(manifest),
            _ => None,
        }
    }
}

/// The most that is taken along of what is attached to one digest. What is beyond is left out, with a warning.
#[cfg(feature = "publish")]
pub const ATTACHMENTS_MAX: usize = 64;

/// Something that is attached to an image: a signature, an attestation, a list of what is in it.
#[cfg(feature = "publish")]
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its manifest or index.
    pub document: Fetched,
    /// The tag by which cosign finds it (`sha256-<hex>.sig`); `None` if its `subject` says to what it belongs.
    pub tag: Option<String>,
}

/// A place that has one image, perhaps for several platforms.
pub trait Source {
    /// What the reference names: an index or a manifest.
    fn root(&mut self) -> Result<Fetched>;

    /// The digest of what [`Source::root`] would give, where that can be had for less. It is what the source says,
    /// and good for one thing: to see that nothing is new.
    fn current(&mut self) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Whether the blob that `descriptor` points at is there, as far as that is seen without asking for it: `docker save`
    /// and its like leave platforms out of what they write, and not of the index.
    fn has(&mut self, _descriptor: &Descriptor) -> bool {
        true
    }

    /// The index or manifest that an entry of an index points at.
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched>;

    /// The image config.
    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched>;

    /// A layer's bytes as they are stored, from byte `offset` on. They are not verified here: whoever
    /// reads them hashes them anyway. The reader survives dropped connections; its errors carry an
    /// [`Error`] ([`Error::from_io`]).
    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;

    /// Everything that is attached to `digest` as a signature, until `found` says that it is enough. Nothing of it is
    /// verified; each is bounded by [`PAYLOAD_MAX`], and all by [`SIGNATURES_MAX`].
    fn signatures(&mut self, _digest: &Digest, _found: &mut Found) -> Result<()> {
        Ok(())
    }

    /// Finds what is attached to `digest`, whatever it is: at most [`ATTACHMENTS_MAX`].
    #[cfg(feature = "publish")]
    fn attachments(&mut self, _digest: &Digest) -> Result<Vec<Attachment>> {
        Ok(Vec::new())
    }

    /// The files that it has yet to open, and directories with such files. Those that are not there are left out.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The bytes that [`Source::layer`] gave were not those that were promised. Whether it is worth to ask again:
    /// whoever gave them is left out then.
    fn distrust(&mut self, _: &Descriptor) -> bool {
        false
    }
}

/// How a source is to be reached. Local sources heed none of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Speak HTTP without TLS to the registry. Loopback hosts fall back to it by themselves.
    pub plain_http: bool,
    /// Try the registry without TLS where it has none. What certificate it has is checked all the same.
    #[cfg(feature = "publish")]
    pub insecure: bool,
    /// Credentials for the registry, before those of any file.
    #[cfg(feature = "publish")]
    pub login: Option<Login>,
    /// PEM certificates that replace the system's trusted roots, as curl's `--cacert` does.
    pub ca_file: Option<PathBuf>,
    /// The only credentials file; `None`: those that docs/registries.md lists, of which the first that has
    /// something for the host wins.
    pub auth_file: Option<PathBuf>,
    /// Where the hosts' directories with `hosts.toml` and certificates are; `None`: `/etc/edgepull/certs.d`.
    pub hosts_dir: Option<PathBuf>,
    /// Go by the proxies that the environment names.
    pub proxies: bool,
    /// What all connections of a run share.
    pub network: Arc<Network>,
    /// By which servers' certificates are judged, and which learns from servers what time it is.
    pub clock: Arc<Clock>,
    /// How long a connection may send nothing before it counts as dead.
    pub stall: Duration,
    /// Says how slow a connection may be; a slower one counts as dead, too.
    pub lowest: Lowest,
    /// The pause before the first retry; every further one is twice as long, up to 30 s.
    pub pause: Duration,
}

/// Says how slowly a registry may send or take bytes. A real GPRS link has 1 KiB a second and more.
#[derive(Debug, Clone, Copy)]
pub struct Lowest {
    /// Gives the lowest rate, in bytes a second, at least 1.
    pub rate: u64,
    /// Limits how far it may fall behind: the time that it was waited for, less what its bytes take at that rate.
    pub patience: Duration,
}

impl Default for Lowest {
    fn default() -> Lowest {
        Lowest { rate: 512, patience: Duration::from_secs(60) }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            plain_http: false,
            #[cfg(feature = "publish")]
            insecure: false,
            #[cfg(feature = "publish")]
            login: None,
            ca_file: None,
            auth_file: None,
            hosts_dir: None,
            proxies: true,
            network: Arc::default(),
            clock: Arc::default(),
            stall: Duration::from_secs(30),
            lowest: Lowest::default(),
            pause: Duration::from_millis(500),
        }
    }
}

/// Opens the source that `reference` names. Local files are looked at here, and so are a registry's hosts.toml and
/// all credentials: programs that have them are run now and never later. A registry is first spoken to when
/// something is asked of it. Retries are logged at level info.
pub fn open(reference: &Reference, options: &Options) -> Result<Box<dyn Source>> {
    Ok(match reference {
        Reference::Registry(image) => Box::new(registry::Registry::new(image, options)?),
        Reference::Layout(local) => Box::new(layout::Layout::directory(local)?),
        Reference::OciArchive(local) => Box::new(layout::Layout::archive(local)?),
        Reference::DockerArchive(local) => Box::new(docker_archive::DockerArchive::open(local)?),
    })
}

/// Opens the place that `reference` names, to write an image there. A registry's hosts.toml and all credentials are looked
/// at here, as [`open`] does; it is first spoken to when something is asked of it, or written. Retries are logged at level
/// info.
///
/// # Errors
/// [`Kind::Usage`] for a place that cannot hold what is written: a docker-archive has no manifest lists.
#[cfg(feature = "publish")]
pub fn open_destination(reference: &Reference, options: &Options) -> Result<Box<dyn Destination>> {
    match reference {
        Reference::Registry(image) => Ok(Box::new(registry::Pusher::new(image, options)?)),
        Reference::Layout(local) => Ok(Box::new(layout_writer::LayoutWriter::open(local)?)),
        Reference::OciArchive(local) => Ok(Box::new(archive_writer::ArchiveWriter::open(local)?)),
        Reference::DockerArchive(_) => {
            Err(Error::new(Kind::Usage, "a docker-archive cannot hold a manifest list")
                .hint("write oci-archive:FILE"))
        }
    }
}

/// Reads a document of `size` bytes (unknown: `None`) whole, within [`DOCUMENT_MAX`]. `kind` is that of
/// a failed read.
fn read_document(reader: impl Read, size: Option<u64>, kind: Kind, what: &str) -> Result<Vec<u8>> {
    if size.is_some_and(|size| size > DOCUMENT_MAX) {
        return Err(too_large(what));
    }
    // One byte more than there should be shows what is longer than its descriptor says.
    let limit = size.unwrap_or(DOCUMENT_MAX) + 1;
    let mut bytes = Vec::new();
    let mut limited = reader.take(limit);
    limited.read_to_end(&mut bytes).map_err(|error| Error::from_io(kind, error).context(what))?;
    match bytes.len() as u64 > DOCUMENT_MAX {
        true => Err(too_large(what)),
        false => Ok(bytes),
    }
}

/// A document that is larger than [`DOCUMENT_MAX`].
fn too_large(what: &str) -> Error {
    Error::new(Kind::BadImage, format!("{what} is larger than 4 MiB"))
        .hint("edgepull's limit DOCUMENT_MAX; no real manifest comes near")
}

/// Holds `bytes` against the descriptor that pointed at them.
fn verified(bytes: Vec<u8>, descriptor: &Descriptor, what: &str) -> Result<Fetched> {
    let digest = Digest::of(&bytes);
    if bytes.len() as u64 > descriptor.size {
        return Err(Error::new(
            Kind::Verification,
            format!("{what} is longer than the {} bytes that its descriptor says", descriptor.size),
        ));
    }
    if digest != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(Error::new(
            Kind::Verification,
            format!(
                "{what}: expected {} of {} bytes, got {digest} of {} bytes",
                descriptor.digest,
                descriptor.size,
                bytes.len()
            ),
        ));
    }
    Ok(Fetched { bytes, digest, media_type: descriptor.media_type.clone() })
}
