//! An image's layers: which of them are here, and how the others get here.
//! What `pull` and `deploy` have in common, as [`super::image`].

use super::report::{Report, bytes};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Compression, Descriptor, ImageConfig, Manifest};
use crate::layer::{self, Layer, Stats};
use crate::source::Source;
use crate::store::deployment::Missing;
use crate::store::layers::Layers;
use serde_json::json;
use std::os::fd::OwnedFd;

/// What there is to do for an image's layers: which are kept already, and which have to be fetched.
pub(super) struct Plan<'a> {
    layers: &'a Layers,
    steps: Vec<Step<'a>>,
}

/// A layer that the tree is made of.
struct Step<'a> {
    descriptor: &'a Descriptor,
    compression: Compression,
    diff_id: Digest,
    /// What is in it, where it need not be fetched.
    kept: Option<Stats>,
}

impl Step<'_> {
    fn promise<'n>(&self, name: &'n str) -> Layer<'n> {
        Layer {
            compression: self.compression,
            wire_digest: self.descriptor.digest.0,
            wire_size: self.descriptor.size,
            diff_id: self.diff_id.0,
            name,
        }
    }
}

impl<'a> Plan<'a> {
    /// Puts layers and diff-ids together; both documents must agree on how many there are. Layers of `renew` are
    /// fetched even where they are kept.
    pub(super) fn new(
        manifest: &'a Manifest,
        config: &ImageConfig,
        layers: &'a Layers,
        renew: &[Digest],
    ) -> Result<Plan<'a>> {
        let bad = |message: String| Error::new(Kind::BadImage, message);
        let (blobs, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
        if blobs.len() != diff_ids.len() {
            let (blobs, diff_ids) = (blobs.len(), diff_ids.len());
            return Err(bad(format!("the manifest has {blobs} layers, its config {diff_ids} diff_ids")));
        }
        let mut steps = Vec::with_capacity(blobs.len());
        for (descriptor, diff_id) in blobs.iter().zip(diff_ids) {
            if descriptor.media_type.ends_with("+encrypted") {
                let hint = "edgepull has no keys for ocicrypt; publish the image without encryption";
                return Err(bad("the image is encrypted: its layers are unreadable".to_owned()).hint(hint));
            }
            // The bytes decide what a layer is, whatever it is called; a type that nobody knows says nothing.
            let compression = descriptor.layer_compression().unwrap_or_else(|| {
                log::info!("layer of the unknown media type {:?}", descriptor.media_type);
                Compression::None
            });
            let kept = if renew.contains(diff_id) { None } else { layers.get(diff_id)? };
            let kept = kept.map(|kept| kept.stats());
            steps.push(Step { descriptor, compression, diff_id: *diff_id, kept });
        }
        Ok(Plan { layers, steps })
    }

    /// The layers that have to be fetched, each once.
    fn wanted(&self) -> impl Iterator<Item = &Step<'a>> {
        let is_first = |at: usize| self.first(at) == at;
        self.steps
            .iter()
            .enumerate()
            .filter(move |(at, step)| step.kept.is_none() && is_first(*at))
            .map(|(_, step)| step)
    }

    /// Where the layer at `at` occurs first: an image may have one twice.
    fn first(&self, at: usize) -> usize {
        self.steps.iter().position(|step| step.diff_id == self.steps[at].diff_id).unwrap_or(at)
    }

    /// Lists for the record the layers that have to be fetched, and those that are kept but are in `unrecorded`,
    /// which is sorted: no record names these, as an interrupted fetch of another image has left them.
    pub(super) fn unrecorded(&self, unrecorded: &[Digest]) -> Vec<Missing> {
        let missing = |step: &Step<'_>| Missing {
            diff_id: step.diff_id,
            blob: step.descriptor.digest,
            size: step.descriptor.size,
        };
        let is_left =
            |step: &&Step<'_>| step.kept.is_some() && unrecorded.binary_search(&step.diff_id).is_ok();
        let left = self.steps.iter().filter(is_left);
        self.wanted().chain(left).map(missing).collect()
    }

    /// Fetches what is missing. `base` is the root of an older tree of the same image.
    pub(super) fn fetch(
        &self,
        source: &mut dyn Source,
        base: Option<&OwnedFd>,
        report: &Report,
    ) -> Result<Stats> {
        self.check_space()?;
        let mut sum = Stats::default();
        for (at, step) in self.steps.iter().enumerate() {
            let descriptor = step.descriptor;
            let (number, count) = (at + 1, self.steps.len());
            let name = format!("layer {number}/{count} {}", descriptor.digest);
            let kept = match step.kept {
                None if self.first(at) < at => self.layers.get(&step.diff_id)?.map(|kept| kept.stats()),
                ref kept => kept.clone(),
            };
            if let Some(kept) = kept {
                sum += kept;
                report.event(
                    format_args!("{name}: here already"),
                    || json!({ "event": "layer", "number": number, "digest": descriptor.digest, "kept": true }),
                )?;
                continue;
            }
            let progress = report.layer(number, count, descriptor.digest, descriptor.size);
            // Without an older tree, all is written.
            let base = base.and_then(|base| base.try_clone().ok());
            let options = layer::Options { base, ..layer::Options::default() };
            sum += loop {
                let mut open = |offset| source.layer(descriptor, offset);
                match self.layers.fetch(&step.promise(&name), &options, &mut open, &progress) {
                    // Wrong bytes of a mirror, which looked like a bad image only as long as their digest was not
                    // known: there are fewer places to ask each time.
                    Err(error)
                        if error.kind() == Kind::Verification
                            && progress.may_be_damaged()
                            && source.distrust(descriptor) =>
                    {
                        log::warn!("{error}; it starts over");
                        layer::Observer::starts_over(&progress);
                    }
                    other => break other?,
                }
            };
            progress.finish()?;
        }
        Ok(sum)
    }

    /// Refuses what cannot fit, before a byte of it is fetched. A layer takes at least what it has on the wire.
    fn check_space(&self) -> Result<()> {
        let lacks =
            |step: &Step<'_>| step.descriptor.size.saturating_sub(self.layers.spared(&step.promise("")));
        let needed = self.wanted().map(lacks).fold(0, u64::saturating_add);
        let (free, all) = self.layers.room()?;
        let reserve = layer::reserve(all);
        // 0 of all: a file system without a limit, as ramfs is.
        if needed == 0 || all == 0 || needed.saturating_add(reserve) <= free {
            return Ok(());
        }
        let message = format!(
            "the image needs at least {} and {} in reserve, and {} are free",
            bytes(needed),
            bytes(reserve),
            bytes(free)
        );
        Err(Error::new(Kind::Disk, message).hint("free some room and run the same command again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::image::manifest::{Document, media_type::OCI_MANIFEST};
    use crate::source::Fetched;
    use std::io::Read;

    /// Has no layer.
    struct Empty;

    impl Source for Empty {
        fn root(&mut self) -> Result<Fetched> {
            unreachable!("only layers are asked for")
        }
        fn manifest(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("only layers are asked for")
        }
        fn config(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("only layers are asked for")
        }
        fn layer(&mut self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
            Err(Error::new(Kind::NotFound, "it is not there"))
        }
    }

    #[test]
    fn an_error_names_its_layer_once() {
        // Fetching changes the umask, which other tests share.
        crate::sys::own_directory_and_umask().unwrap();
        let (directory, digest) = (tempfile::tempdir().unwrap(), Digest::of(b"layer"));
        let blob = format!(r#"{{"digest":"{digest}","size":5}}"#);
        let manifest = format!(r#"{{"config":{blob},"layers":[{blob}]}}"#);
        let Ok(Document::Manifest(manifest)) = Document::parse(OCI_MANIFEST, manifest.as_bytes()) else {
            panic!("{manifest}")
        };
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{digest}"]}}}}"#);
        let config = ImageConfig::parse(config.as_bytes()).unwrap();
        let layers = Layers::open(directory.path()).unwrap();
        let plan = Plan::new(&manifest, &config, &layers, &[]).unwrap();
        let quiet = Options { quiet: true, ..Options::default() };
        let error = plan.fetch(&mut Empty, None, &Report::new(&quiet)).unwrap_err();
        assert_eq!(error.to_string(), format!("layer 1/1 {digest}: it is not there"));
    }
}
