//! `edgepull pull`: the right entry's layers become a root file system, which shows only when it is whole.

use super::confined::{Question, Settled, confined, settled};
use super::image::{announce, check_program, choose, process, warn, write_config};
use super::plan::Plan;
use super::report::{Report, bytes};
use super::{open, verifier};
use crate::cli::{self, Options};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::runtime::Process;
use crate::platform::Host;
use crate::sandbox::{Line, Rights, Verbatim};
use crate::source::Source;
use crate::store::layers;
use crate::store::staging::Staging;
use crate::trust::Trust;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;

/// What was pulled, and what it took.
#[derive(Serialize, Deserialize)]
struct Pulled {
    platform: String,
    digest: Digest,
    entries: u64,
    fetched: u64,
    unpacked: u64,
    written: u64,
    /// For a bundle: what it runs.
    process: Option<Verbatim<Process>>,
}

pub fn run(
    pull: &cli::Pull,
    host: &Host,
    options: &Options,
    clock: &Arc<Clock>,
    report: &Report,
) -> Result<()> {
    log::info!("{host}");
    let trust = Trust::new(&pull.image, options.policy.as_deref(), &options.verify_keys)?;
    // Claimed before anything is fetched: a destination that cannot be should not cost a download.
    let mut staging = Staging::begin(&pull.directory, pull.replace)?;
    let mut accepted = None;
    let pulled = open(&pull.image, options, clock).and_then(|mut source| {
        let rights = Rights {
            writable: vec![staging.work()],
            readable: source.files(),
            ending: Some(staging.directory().to_owned()),
            ..Rights::default()
        };
        let work = |line: &mut Line| into(&staging, pull, host, &trust, &mut *source, line, report);
        let pulled = confined(rights, options, clock, work, |question| match question {
            Question::Image(settled) => {
                verifier::ask(options.verifier.as_deref(), &pull.image, &settled)?;
                accepted = Some(settled);
                Ok(true)
            }
            _ => Ok(true),
        })?;
        let Settled { digest, .. } = settled(accepted)?;
        if let Some(Verbatim(process)) = &pulled.process {
            write_config(process, false, &staging.tree())?;
        }
        Ok(Pulled { digest, ..pulled })
    });
    match pulled {
        Ok(pulled) => {
            staging.commit()?;
            done(&pulled, pull, report)
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
    trust: &Trust,
    source: &mut dyn Source,
    line: &mut Line,
    report: &Report,
) -> Result<Pulled> {
    announce(host, &pull.image, report)?;
    let chosen = choose(source, host, Some(trust), pull.force, report)?;
    line.ask(&Question::Image(Settled::of(&chosen)))?;
    let layers = staging.layers()?;
    let wanted: Vec<String> = chosen.config.rootfs.diff_ids.iter().map(layers::name).collect();
    layers.retain(&|name| wanted.iter().any(|wanted| wanted == name))?;
    let plan = Plan::new(&chosen.manifest, &chosen.config, &layers, &[])?;
    let mut totals = plan.fetch(source, None, report)?;
    let root = staging.open(if pull.bundle { "rootfs" } else { "" })?;
    let again = root.try_clone().map_err(|error| Error::disk("the root", error))?;
    let summary = layers.compose(&chosen.config.rootfs.diff_ids, again, staging.open_scratch()?)?;
    warn(mem::take(&mut totals.warnings), summary);
    check_program(&chosen, host, root.as_fd(), pull.force)?;
    let process = pull.bundle.then(|| process(&chosen, root.as_fd()).map(Verbatim)).transpose()?;
    log::info!("CPU by stage: {}", totals.cpu);
    Ok(Pulled {
        platform: chosen.platform.to_string(),
        digest: chosen.digest,
        entries: totals.entries,
        fetched: totals.wire_bytes,
        unpacked: totals.tar_bytes,
        written: totals.written,
        process,
    })
}

fn done(pulled: &Pulled, pull: &cli::Pull, report: &Report) -> Result<()> {
    let line = format!(
        "{} {}: {} entries, {} in {}",
        pulled.platform,
        pulled.digest,
        pulled.entries,
        bytes(pulled.unpacked),
        pull.directory.display()
    );
    report.event(line, || {
        json!({
            "event": "done",
            "platform": pulled.platform,
            "digest": pulled.digest,
            "directory": pull.directory.display().to_string(),
            "entries": pulled.entries,
            "fetched": pulled.fetched,
            "unpacked": pulled.unpacked,
            "written": pulled.written,
        })
    })
}
