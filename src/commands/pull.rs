//! `edgepull pull`: the right entry's layers become a root file system, which shows only when it is whole.

use super::image::{announce, check_program, choose, warn, write_config};
use super::plan::Plan;
use super::report::{Report, bytes};
use super::{image, open};
use crate::cli::{self, Options};
use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::layer::Stats;
use crate::platform::Host;
use crate::store::layers;
use crate::store::staging::Staging;
use crate::trust::Trust;
use serde_json::json;
use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;

pub fn run(
    pull: &cli::Pull,
    host: &Host,
    options: &Options,
    clock: &Arc<Clock>,
    report: &Report,
) -> Result<()> {
    log::info!("{host}");
    // Claimed before anything is fetched: a destination that cannot be should not cost a download.
    let mut staging = Staging::begin(&pull.directory, pull.replace)?;
    match into(&staging, pull, host, options, clock, report) {
        Ok((chosen, totals)) => {
            staging.commit()?;
            done(&chosen, &totals, pull, report)
        }
        Err(error) => {
            // An image that is refused will be refused again, and a full disk needs the room; everything else
            // may pass.
            if matches!(error.kind(), Kind::BadImage | Kind::NoPlatform | Kind::Disk) {
                staging.discard();
            }
            if let Some(kept) = staging.kept() {
                log::warn!(
                    "what was fetched is kept in {}; the same command goes on from there",
                    kept.display()
                );
            }
            Err(error)
        }
    }
}

/// Everything up to the moment before it shows.
fn into(
    staging: &Staging,
    pull: &cli::Pull,
    host: &Host,
    options: &Options,
    clock: &Arc<Clock>,
    report: &Report,
) -> Result<(image::Chosen, Stats)> {
    let trust = Trust::new(&pull.image, options.policy.as_deref(), &options.verify_keys)?;
    let mut source = open(&pull.image, options, clock)?;
    announce(host, &pull.image, report)?;
    let chosen = choose(&mut *source, host, Some(&trust), pull.force, report)?;
    let layers = staging.layers()?;
    let wanted: Vec<String> = chosen.config.rootfs.diff_ids.iter().map(layers::name).collect();
    layers.retain(&|name| wanted.iter().any(|wanted| wanted == name))?;
    let plan = Plan::new(&chosen, &layers, &[])?;
    let mut totals = plan.fetch(&mut *source, None, report)?;
    let root = staging.open(if pull.bundle { "rootfs" } else { "" })?;
    let again = root.try_clone().map_err(|error| crate::error::Error::disk("the root", error))?;
    let summary = layers.compose(&chosen.config.rootfs.diff_ids, again, staging.open_scratch()?)?;
    warn(mem::take(&mut totals.warnings), summary);
    check_program(&chosen, host, root.as_fd(), pull.force)?;
    if pull.bundle {
        write_config(&chosen, root.as_fd(), false, &staging.tree().join("config.json"))?;
    }
    Ok((chosen, totals))
}

fn done(chosen: &image::Chosen, totals: &Stats, pull: &cli::Pull, report: &Report) -> Result<()> {
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
            "written": totals.written,
        })
    })?;
    log::info!("CPU by stage: {}", totals.cpu);
    Ok(())
}
