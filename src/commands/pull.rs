//! `edgepull pull`: the right entry's layers become a root file system, which shows only when it is whole.

use super::report::{Report, bytes};
use super::{Documents, open};
use crate::cli::{self, Options};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Compression, Descriptor, Document, ImageConfig, Manifest};
use crate::image::program::{self, Finding};
use crate::image::runtime;
use crate::image::select;
use crate::layer::rootfs::{self, Rootfs, open_in_root};
use crate::layer::{self, Layer, Stats};
use crate::platform::{Host, Platform};
use crate::source::Source;
use crate::store::staging::Staging;
use crate::sys;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// An image that is settled on: everything but the layers' bytes.
struct Chosen {
    digest: Digest,
    platform: Platform,
    manifest: Box<Manifest>,
    config: ImageConfig,
}

pub fn run(
    pull: &cli::Pull,
    host: &Host,
    options: &Options,
    clock: &Arc<Clock>,
    report: &Report,
) -> Result<()> {
    log::info!("{host}");
    // Claimed before anything is fetched: a destination that cannot be should not cost a download.
    let staging = Staging::begin(&pull.directory, pull.replace)?;
    let mut source = open(&pull.image, options, clock)?;
    announce(host, pull, report)?;
    let chosen = choose(&mut *source, host, pull, report)?;
    let layers = plan(&chosen)?;

    let root = staging.open(if pull.bundle { "rootfs" } else { "" })?;
    let totals = unpack(&mut *source, &layers, &root, &staging, report)?;
    check_program(&chosen, host, root.as_fd(), pull.force)?;
    if pull.bundle {
        write_config(&chosen, root.as_fd(), &staging)?;
    }
    staging.commit()?;

    let line = format!(
        "{} {}: {} entries, {} in {}",
        chosen.platform,
        chosen.digest,
        totals.entries,
        bytes(totals.tar_bytes),
        pull.directory.display()
    );
    report.event(line, || {
        json!({
            "event": "done",
            "platform": chosen.platform.to_string(),
            "digest": chosen.digest,
            "directory": pull.directory.display().to_string(),
            "entries": totals.entries,
            "fetched": totals.wire_bytes,
            "unpacked": totals.tar_bytes,
        })
    })?;
    log::info!("CPU by stage: {}", totals.cpu);
    Ok(())
}

/// Says who the machine is.
fn announce(host: &Host, pull: &cli::Pull, report: &Report) -> Result<()> {
    let best = host.candidates.first();
    let line = match best {
        Some(best) => format!("this board: {} ({})", best.platform, best.reason),
        None => format!("this board: no platform ({})", host.refusal.as_deref().unwrap_or("no evidence")),
    };
    report.event(line, || {
        json!({
            "event": "board",
            "image": pull.image.to_string(),
            "platform": best.map(|best| best.platform.to_string()),
            "reason": best.map(|best| best.reason.as_str()).or(host.refusal.as_deref()),
        })
    })
}

/// Picks the entry, or holds a single image against the board.
fn choose(source: &mut dyn Source, host: &Host, pull: &cli::Pull, report: &Report) -> Result<Chosen> {
    let root = source.root()?;
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
        None => single_platform(&config, host, pull.force)?,
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
    Ok(Chosen { digest, platform, manifest, config })
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

/// A layer that is to be unpacked.
struct Planned<'a> {
    descriptor: &'a Descriptor,
    compression: Compression,
    diff_id: Digest,
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

/// Streams every layer into `root`, bottom first.
fn unpack(
    source: &mut dyn Source,
    layers: &[Planned],
    root: &OwnedFd,
    staging: &Staging,
    report: &Report,
) -> Result<Stats> {
    let root = root.try_clone().map_err(|error| Error::disk("the root", error))?;
    let mut rootfs = Rootfs::open(root, staging.open_scratch()?, rootfs::Options::default())?;
    let mut totals = Stats::default();
    for (at, planned) in layers.iter().enumerate() {
        let descriptor = planned.descriptor;
        let name = format!("layer {}/{} {}", at + 1, layers.len(), descriptor.digest);
        let progress = report.layer(at + 1, layers.len(), descriptor.digest, descriptor.size);
        let wire = source.layer(descriptor, 0).map_err(|error| error.context(&name))?;
        let layer = Layer {
            compression: planned.compression,
            wire_digest: descriptor.digest.0,
            wire_size: descriptor.size,
            diff_id: planned.diff_id.0,
            name: &name,
        };
        totals += layer::unpack(wire, &layer, &mut rootfs, &progress)?;
        progress.finish()?;
    }
    for warning in rootfs.finish()?.warnings {
        log::warn!("{warning}");
    }
    Ok(totals)
}

/// Reads the program that the image runs; refuses the image if it lies.
fn check_program(chosen: &Chosen, host: &Host, root: std::os::fd::BorrowedFd, force: bool) -> Result<()> {
    let open = |path: &Path| open_in_root(root, path);
    match program::check(&chosen.config.config, &chosen.platform, host, &open) {
        Ok(Finding::Fits(files)) => log::info!("checked against {}: {}", chosen.platform, files.join(", ")),
        Ok(Finding::Unknown(why)) => log::info!("no program checked: {why}"),
        Err(error) => refuse(error, force)?,
    }
    Ok(())
}

fn write_config(chosen: &Chosen, root: std::os::fd::BorrowedFd, staging: &Staging) -> Result<()> {
    let rootless = match sys::effective_ids() {
        (0, _) => None,
        ids => Some(ids),
    };
    let text = runtime::config_json(&chosen.config, &|path: &Path| open_in_root(root, path), rootless)?;
    let path = staging.tree().join("config.json");
    let written = File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::disk(path.display(), error))
}
