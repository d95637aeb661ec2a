//! An image on its way from a source to a destination, as it is: every byte that a digest names stays what it is.
//!
//! Leaves first: the blobs of each manifest, the manifest, then the index that points at it. What the destination has is
//! not sent, and a manifest that it has stands for all beneath it, as it was put there last. So a run that was cut short
//! is carried on by the next.

use super::destination::{Destination, in_memory};
use super::{Attachment, Fetched, Source};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, PlatformField};
use crate::image::reference::Reference;
use crate::image::select::{NESTING_MAX, own_trouble};
use serde::{Deserialize, Serialize};
use std::mem;

/// What came of it, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Manifests and indexes that were written.
    pub manifests: u64,
    /// Blobs whose bytes were sent.
    pub sent: u64,
    /// How many bytes those have together.
    pub bytes: u64,
    /// Blobs that the registry has taken over from another repository.
    pub mounted: u64,
    /// Blobs and manifests that were there.
    pub present: u64,
}

/// What happens to a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is there already.
    Present,
    /// It was taken over from another repository.
    Mounted,
    /// It may not be distributed: whoever pulls the image gets it where its urls say.
    Foreign,
    /// So many more bytes of it are there.
    Sent(u64),
    /// All of it is.
    Done,
}

/// Hears of every blob what happens to it.
pub type Progress<'a> = dyn FnMut(&Descriptor, Step) + 'a;

/// From one source to one destination.
pub struct Transfer<'a> {
    /// Where it comes from.
    pub source: &'a mut dyn Source,
    /// The source's name, from which a registry may take blobs over.
    pub from: &'a Reference,
    /// Where it goes.
    pub to: &'a mut dyn Destination,
    /// Who hears of it.
    pub progress: &'a mut Progress<'a>,
    /// What has come of it so far.
    pub totals: Totals,
    /// Names the entries of indexes that the source does not have, or whose digests cannot be checked; each with the reason.
    /// They stay in the index, and are not there.
    pub missing: Vec<String>,
    /// The digests of the documents that are there now, of each of which something may be attached.
    pub documents: Vec<Digest>,
    /// Whether the last error was about what the source has, and not about the destination.
    is_of_source: bool,
}

impl<'a> Transfer<'a> {
    /// Begins with nothing.
    pub fn new(
        source: &'a mut dyn Source,
        from: &'a Reference,
        to: &'a mut dyn Destination,
        progress: &'a mut Progress<'a>,
    ) -> Transfer<'a> {
        Transfer {
            source,
            from,
            to,
            progress,
            totals: Totals::default(),
            missing: Vec::new(),
            documents: Vec::new(),
            is_of_source: false,
        }
    }

    /// Writes `document` and all beneath it; it has no name there yet.
    ///
    /// # Errors
    /// Those of both sides; [`Kind::BadImage`] for what is no image.
    pub fn document(&mut self, document: &Fetched) -> Result<()> {
        self.beneath(document, 1)
    }

    /// Writes what an entry of an index points at, and all beneath it, unless it is there.
    ///
    /// # Errors
    /// As [`Transfer::document`].
    pub fn entry(&mut self, entry: &Descriptor) -> Result<()> {
        self.entry_at(entry, 1)
    }

    fn entry_at(&mut self, entry: &Descriptor, depth: usize) -> Result<()> {
        if self.to.has_manifest(entry)? {
            self.totals.present += 1;
            self.documents.push(entry.digest);
            return Ok(());
        }
        let fetched = self.source.manifest(entry);
        let fetched = self.of_source(fetched)?;
        self.beneath(&fetched, depth)
    }

    /// Notes where an error has come from.
    fn of_source<T>(&mut self, result: Result<T>) -> Result<T> {
        self.is_of_source = result.is_err();
        result
    }

    fn beneath(&mut self, document: &Fetched, depth: usize) -> Result<()> {
        let before = self.missing.len();
        self.parts(document, depth)?;
        let taken = self.to.manifest(document);
        taken.map_err(|error| incomplete(error, &self.missing[before..]))?;
        self.documents.push(document.digest);
        self.totals.manifests += 1;
        Ok(())
    }

    /// Writes what is attached to a document that is there.
    ///
    /// # Errors
    /// Returns those of [`Transfer::document`].
    pub fn attachment(&mut self, attachment: &Attachment, subject: &Digest) -> Result<()> {
        self.parts(&attachment.document, 1)?;
        self.to.attach(attachment, subject)?;
        self.totals.manifests += 1;
        Ok(())
    }

    fn parts(&mut self, document: &Fetched, depth: usize) -> Result<()> {
        let parsed = Document::parse(&document.media_type, &document.bytes);
        match self.of_source(parsed)? {
            Document::Index(_) if depth > NESTING_MAX => {
                let message = format!("indexes are nested deeper than {NESTING_MAX} (limit NESTING_MAX)");
                return Err(Error::new(Kind::BadImage, message));
            }
            Document::Index(index) => {
                let (mut is_any_there, mut is_any_missing, before) = (false, false, self.missing.len());
                for entry in &index.unusable {
                    self.lacks(&entry.digest, entry.platform.as_ref(), &entry.why);
                }
                for entry in &index.entries {
                    let why = if self.source.has(entry) {
                        match self.entry_at(entry, depth + 1) {
                            Err(error) if mem::take(&mut self.is_of_source) => {
                                is_any_missing |= error.kind() == Kind::NotFound;
                                own_trouble(error)?
                            }
                            other => {
                                other?;
                                is_any_there = true;
                                continue;
                            }
                        }
                    } else {
                        is_any_missing = true;
                        "it is not in this layout".to_owned()
                    };
                    self.lacks(&entry.digest.to_string(), entry.platform.as_ref(), &why);
                }
                // A list of nothing is of no use to anybody.
                if let (Some(first), false) = (self.missing.get(before), is_any_there) {
                    let message = format!("none of the list's entries can be used: {first}");
                    // What is not there may come; what is there and no image stays so.
                    let kind = if is_any_missing { Kind::NotFound } else { Kind::BadImage };
                    return self.of_source(Err(Error::new(kind, message)));
                }
            }
            Document::Manifest(manifest) => {
                manifest.layers.iter().try_for_each(|layer| self.blob(layer, false))?;
                self.blob(&manifest.config, true)?;
            }
        }
        Ok(())
    }

    fn lacks(&mut self, digest: &str, platform: Option<&PlatformField>, why: &str) {
        let platform = platform
            .map_or_else(|| "an entry without a platform".to_owned(), |field| field.normal().to_string());
        self.missing.push(match digest {
            "" => format!("{platform}: {why}"),
            digest => format!("{platform} {digest}: {why}"),
        });
    }

    fn blob(&mut self, blob: &Descriptor, is_config: bool) -> Result<()> {
        if blob.is_foreign() {
            (self.progress)(blob, Step::Foreign);
            return Ok(());
        }
        if self.to.has_blob(blob)? {
            self.totals.present += 1;
            (self.progress)(blob, Step::Present);
            return Ok(());
        }
        if self.to.mount(blob, self.from)? {
            self.totals.mounted += 1;
            (self.progress)(blob, Step::Mounted);
            return Ok(());
        }
        let Transfer { source, to, progress, totals, .. } = self;
        let mut sent = |bytes| progress(blob, Step::Sent(bytes));
        if is_config {
            let config = source.config(blob);
            self.is_of_source = config.is_err();
            to.blob(blob, &mut in_memory(&config?.bytes), &mut sent)?;
        } else {
            let is_of_source = &mut self.is_of_source;
            let mut open = |offset| {
                let layer = source.layer(blob, offset);
                *is_of_source = layer.is_err();
                layer
            };
            to.blob(blob, &mut open, &mut sent)?;
        }
        totals.sent += 1;
        totals.bytes += blob.size;
        progress(blob, Step::Done);
        Ok(())
    }
}

/// The most missing entries that an error names.
const NAMED_MAX: usize = 4;

/// Says what is `missing` of a list that was refused for its content: many registries take one only with all that it
/// names (distribution-spec, "Pushing Manifests", MANIFEST_BLOB_UNKNOWN).
fn incomplete(error: Error, missing: &[String]) -> Error {
    if missing.is_empty() || !matches!(error.kind(), Kind::BadImage | Kind::NotFound) {
        return error;
    }
    let named = missing[..missing.len().min(NAMED_MAX)].join("; ");
    let more = match missing.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    error.context(format!(
        "the list is refused, perhaps because not all of its entries are there ({named}{more}); \
         --platform copies only some of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::media_type::OCI_INDEX;
    use std::io::Read;

    /// Has a list, and nothing that is in it.
    struct ListOnly;

    impl Source for ListOnly {
        fn root(&mut self) -> Result<Fetched> {
            unreachable!("the list is given")
        }
        fn has(&mut self, entry: &Descriptor) -> bool {
            entry.digest == Digest::of(THERE)
        }
        fn manifest(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("nothing is there")
        }
        fn config(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("nothing is there")
        }
        fn layer(&mut self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
            unreachable!("nothing is there")
        }
    }

    /// Makes the digest of the one image that both sides have.
    const THERE: &[u8] = b"there";

    /// Refuses every document with an error of this kind.
    struct Refusing(Kind);

    impl Destination for Refusing {
        fn has_blob(&mut self, _: &Descriptor) -> Result<bool> {
            Ok(false)
        }
        fn blob(
            &mut self,
            _: &Descriptor,
            _: &mut crate::source::destination::Open<'_>,
            _: &mut dyn FnMut(u64),
        ) -> Result<()> {
            unreachable!("there are no blobs")
        }
        fn has_manifest(&mut self, manifest: &Descriptor) -> Result<bool> {
            Ok(manifest.digest == Digest::of(THERE))
        }
        fn manifest(&mut self, _: &Fetched) -> Result<()> {
            Err(Error::new(self.0, "HTTP 400 (MANIFEST_BLOB_UNKNOWN: blob unknown to registry)"))
        }
        fn attach(&mut self, _: &Attachment, _: &Digest) -> Result<()> {
            unreachable!("nothing is attached")
        }
        fn publish(&mut self, _: &Fetched, _: &[String]) -> Result<()> {
            unreachable!("it was refused")
        }
    }

    fn refusal(kind: Kind, entries: &str) -> String {
        let there = format!(r#"{{"digest":"{}","size":3}}"#, Digest::of(THERE));
        let comma = if entries.is_empty() { "" } else { "," };
        let bytes = format!(r#"{{"manifests":[{there}{comma}{entries}]}}"#).into_bytes();
        let list = Fetched { digest: Digest::of(&bytes), media_type: OCI_INDEX.into(), bytes };
        let from = "oci:list".parse().unwrap();
        let (mut source, mut to, mut progress) = (ListOnly, Refusing(kind), |_: &Descriptor, _| {});
        let mut transfer = Transfer::new(&mut source, &from, &mut to, &mut progress);
        let error = transfer.document(&list).unwrap_err();
        assert_eq!(error.kind(), kind);
        error.to_string()
    }

    #[test]
    fn a_list_that_is_refused_for_what_it_lacks_says_what_that_is() {
        let digest = Digest::of(b"arm");
        let arm = format!(
            r#"{{"digest":"{digest}","size":3,"platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}}"#
        );
        for kind in [Kind::BadImage, Kind::NotFound] {
            let said = refusal(kind, &format!("{arm},null"));
            for part in [
                "(an entry without a platform: it is null; linux/arm/v6 ",
                &*format!(" {digest}: it is not in this layout)"),
                "--platform copies only some",
                "MANIFEST_BLOB_UNKNOWN",
            ] {
                assert!(said.contains(part), "{said}");
            }
        }
        let many = [arm.as_str(); 9].join(",");
        let said = refusal(Kind::BadImage, &many);
        assert!(said.contains("; and 5 more)") && said.matches("linux/arm").count() == 4, "{said}");
        assert!(!refusal(Kind::Network, &arm).contains("--platform"));
        assert!(!refusal(Kind::BadImage, "").contains("--platform"));
    }
}
