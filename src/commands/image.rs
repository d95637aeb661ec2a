//! From a reference to a root file system, in the steps that `pull` and `deploy` have in common: the board is
//! named, an entry chosen, its layers fetched, a tree composed of them, and the program in it read.

use super::Documents;
use super::report::{Report, bytes};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Compression, Descriptor, Document, ImageConfig, Manifest};
use crate::image::program::{self, Finding};
use crate::image::reference::Reference;
use crate::image::runtime;
use crate::image::select;
use crate::layer::rootfs::{self, Rootfs, Warning, open_in_root};
use crate::layer::{self, Layer, Stats};
use crate::platform::{Host, Platform};
use crate::source::Source;
use crate::store::deployment::Missing;
use crate::store::layers::Layers;
use crate::sys;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What stays free on the file system after a fetch, for the tree's directories, for the record, and for everybody
/// else there: a twentieth of it, but not more than so many bytes.
const RESERVE_MAX: u64 = 16 << 20;

/// An image that is settled on: everything but the layers' bytes.
pub(super) struct Chosen {
    /// Of what the reference names: an index or a manifest.
    pub(super) root: Digest,
    /// Of the manifest.
    pub(super) digest: Digest,
    pub(super) platform: Platform,
    pub(super) manifest: Box<Manifest>,
    pub(super) config: ImageConfig,
}

/// Says who the machine is.
pub(super) fn announce(host: &Host, image: &Reference, report: &Report) -> Result<()> {
    let best = host.candidates.first();
    let line = match best {
        Some(best) => format!("this board: {} ({})", best.platform, best.reason),
        None => format!("this board: no platform ({})", host.refusal.as_deref().unwrap_or("no evidence")),
    };
    report.event(line, || {
        json!({
            "event": "board",
            "image": image.to_string(),
            "platform": best.map(|best| best.platform.to_string()),
            "reason": best.map(|best| best.reason.as_str()).or(host.refusal.as_deref()),
        })
    })
}

/// Picks the entry, or holds a single image against the board.
pub(super) fn choose(source: &mut dyn Source, host: &Host, force: bool, report: &Report) -> Result<Chosen> {
    let root = source.root()?;
    let root_digest = root.digest;
    let mut documents = Documents(source);
    let (digest, platform, manifest, why) = match Document::parse(&root.media_type, &root.bytes)? {
        Document::Index(index) => {
            let mut selection = select::select(index, host, &mut documents)?;
            let Some((entry, candidate)) = selection.taken else { return Err(selection.refusal(host)) };
            let count = selection.entries.len();
            let entry = selection.entries.swap_remove(entry);
            let manifest = documents.image(&entry.descriptor)?;
            let best = &host.candidates[candidate];
            let why = format!("{} of {count} entries: {}", ordinal(candidate), best.reason);
            (entry.descriptor.digest, Some(best.platform.clone()), manifest, why)
        }
        Document::Manifest(manifest) => (root.digest, None, manifest, "the only image there is".to_owned()),
    };
    let config = documents.config(&manifest.config)?;
    let platform = match platform {
        Some(platform) => platform,
        None => single_platform(&config, host, force)?,
    };
    report.event(format!("image: {platform} {digest} ({why})"), || {
        json!({
            "event": "image",
            "platform": platform.to_string(),
            "digest": digest,
            "reason": why,
            "layers": manifest.layers.len(),
            "size": manifest.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size)),
        })
    })?;
    Ok(Chosen { root: root_digest, digest, platform, manifest, config })
}

/// What the candidate's place in the board's list means.
fn ordinal(candidate: usize) -> String {
    match candidate {
        0 => "the best match".to_owned(),
        _ => format!("fallback {candidate}, for nothing better is there,"),
    }
}

fn single_platform(config: &ImageConfig, host: &Host, force: bool) -> Result<Platform> {
    let platform = config.platform();
    select::check_single(&platform, host).or_else(|error| refuse(error, force))?;
    Ok(platform)
}

/// A refusal, which `--force` turns into a warning.
fn refuse(error: Error, force: bool) -> Result<()> {
    if !force {
        return Err(error);
    }
    log::warn!("forced: {error}");
    Ok(())
}

/// A layer that the tree is made of.
struct Planned<'a> {
    descriptor: &'a Descriptor,
    compression: Compression,
    diff_id: Digest,
}

impl Planned<'_> {
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

/// Puts layers and diff-ids together; both documents must agree on how many there are.
fn plan(chosen: &Chosen) -> Result<Vec<Planned<'_>>> {
    let bad = |message: String| Error::new(Kind::BadImage, message);
    let (layers, diff_ids) = (&chosen.manifest.layers, &chosen.config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        let (layers, diff_ids) = (layers.len(), diff_ids.len());
        return Err(bad(format!("the manifest has {layers} layers, its config {diff_ids} diff_ids")));
    }
    let mut planned = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        let Some(compression) = descriptor.layer_compression() else {
            return Err(bad(format!("{:?} is no layer that can be unpacked", descriptor.media_type)));
        };
        planned.push(Planned { descriptor, compression, diff_id: *diff_id });
    }
    Ok(planned)
}

impl Chosen {
    /// The layers that are not kept already.
    pub(super) fn missing(&self, layers: &Layers) -> Result<Vec<Missing>> {
        let mut missing = Vec::new();
        for planned in plan(self)? {
            if layers.get(&planned.diff_id)?.is_none() {
                let Descriptor { digest, size, .. } = planned.descriptor;
                missing.push(Missing { diff_id: planned.diff_id, blob: *digest, size: *size });
            }
        }
        Ok(missing)
    }
}

/// Fetches every layer that is not kept already, and those of `renew`. `base` is the root of an older tree of the
/// same image.
pub(super) fn fetch(
    source: &mut dyn Source,
    chosen: &Chosen,
    layers: &Layers,
    renew: &[Digest],
    base: Option<&Path>,
    report: &Report,
) -> Result<Stats> {
    let planned = plan(chosen)?;
    check_space(&planned, layers)?;
    let mut totals = Stats::default();
    for (at, planned) in planned.iter().enumerate() {
        let descriptor = planned.descriptor;
        let name = format!("layer {}/{} {}", at + 1, chosen.manifest.layers.len(), descriptor.digest);
        let kept = if renew.contains(&planned.diff_id) { None } else { layers.get(&planned.diff_id)? };
        if let Some(kept) = kept {
            totals.entries += kept.entries();
            totals.tar_bytes += kept.tar_bytes();
            report.event(
                format_args!("{name}: here already"),
                || json!({ "event": "layer", "number": at + 1, "digest": descriptor.digest, "kept": true }),
            )?;
            continue;
        }
        let progress = report.layer(at + 1, chosen.manifest.layers.len(), descriptor.digest, descriptor.size);
        let options = layer::Options { base: base.and_then(open_base), ..layer::Options::default() };
        let mut open = |offset| source.layer(descriptor, offset).map_err(|error| error.context(&name));
        totals += layers.fetch(&planned.promise(&name), &options, &mut open, &progress)?;
        progress.finish()?;
    }
    Ok(totals)
}

/// Without an older tree, all is written.
fn open_base(path: &Path) -> Option<OwnedFd> {
    File::open(path).map(OwnedFd::from).ok()
}

/// Refuses what cannot fit, before a byte of it is fetched. A layer takes at least what it has on the wire.
fn check_space(planned: &[Planned<'_>], layers: &Layers) -> Result<()> {
    let mut needed = 0u64;
    for planned in planned {
        if layers.get(&planned.diff_id)?.is_none() {
            let spared = layers.spared(&planned.promise(""));
            needed = needed.saturating_add(planned.descriptor.size.saturating_sub(spared));
        }
    }
    let (free, all) = layers.room()?;
    let reserve = (all / 20).min(RESERVE_MAX);
    if needed == 0 || needed.saturating_add(reserve) <= free {
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

/// Makes the root file system of kept layers, bottom first. `warnings` are those of the layers, which it adds its own to
/// and tells.
pub(super) fn compose(
    chosen: &Chosen,
    layers: &Layers,
    root: OwnedFd,
    scratch: OwnedFd,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    let planned = plan(chosen)?;
    let mut rootfs = Rootfs::open(root, scratch, rootfs::Options::default())?;
    for (at, planned) in planned.iter().enumerate() {
        let name = format!("layer {}/{} {}", at + 1, chosen.manifest.layers.len(), planned.descriptor.digest);
        let gone = || Error::new(Kind::Disk, "it was kept a moment ago, and is gone");
        let kept = layers.get(&planned.diff_id)?.ok_or_else(gone);
        kept.and_then(|kept| kept.apply(&mut rootfs)).map_err(|error| error.context(&name))?;
    }
    rootfs::merge(warnings, rootfs.finish()?.warnings);
    for warning in warnings {
        log::warn!("{warning}");
    }
    Ok(())
}

/// Reads the program that the image runs; refuses the image if it lies.
pub(super) fn check_program(chosen: &Chosen, host: &Host, root: BorrowedFd<'_>, force: bool) -> Result<()> {
    let open = |path: &Path| open_in_root(root, path);
    match program::check(&chosen.config.config, &chosen.platform, host, &open) {
        Ok(Finding::Fits(files)) => log::info!("checked against {}: {}", chosen.platform, files.join(", ")),
        Ok(Finding::Unknown(why)) => log::info!("no program checked: {why}"),
        Err(error) => refuse(error, force)?,
    }
    Ok(())
}

/// Writes the runtime bundle's `config.json` beside the root.
pub(super) fn write_config(chosen: &Chosen, root: BorrowedFd<'_>, readonly: bool, path: &Path) -> Result<()> {
    let rootless = match sys::effective_ids() {
        (0, _) => None,
        ids => Some(ids),
    };
    let open = |path: &Path| open_in_root(root, path);
    let text = runtime::config_json(&chosen.config, &open, rootless, readonly)?;
    // Composing has left the umask at 0.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::disk(path.display(), error))
}
