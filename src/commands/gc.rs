//! `edgepull gc`: what no generation names is removed, what interrupted fetches have left included.

use super::needed::{forget_layers, strike_kept};
use super::report::{Report, bytes};
use crate::cli::Options;
use crate::error::Result;
use crate::store::deployment::{Deployments, Pending};
use crate::store::layers::{self, Layers};
use crate::store::lock::StateLock;
use serde_json::json;

pub fn run(dry_run: bool, options: &Options, report: &Report) -> Result<()> {
    let _lock = StateLock::take(&options.state_dir, options.wait, "gc")?;
    let layers = Layers::open(&options.state_dir)?;
    let (before, _) = layers.room()?;
    let deployments = Deployments::open(&options.state_dir)?;
    let names = deployments.names()?;
    let mut generations = Vec::new();
    for name in &names {
        let removable = deployments.existing(name)?.removable()?;
        generations.extend(removable.iter().map(|number| format!("{name}/{number}")));
    }
    let goes = |name: &str, number: u32| generations.contains(&format!("{name}/{number}"));
    let (mut count, mut size) = (0u64, 0u64);
    layers.each_unneeded(
        &mut |batch| {
            strike_kept(&options.state_dir, batch, &|deployment, one| !goes(deployment.name(), one.number))
        },
        &mut |home, name| {
            (count, size) = (count + 1, size + layers::disk_usage(&home.join(name)));
            Ok(())
        },
    )?;
    if !dry_run {
        // First what takes no room to remove: a disk that is full may have none for a new record.
        for name in &names {
            let deployment = deployments.existing(name)?;
            deployment.clear_staging()?;
            Pending::forget(&deployment)?;
            deployment.sweep()?;
        }
        forget_layers(&options.state_dir)?;
        for name in &names {
            deployments.existing(name)?.prune()?;
        }
        forget_layers(&options.state_dir)?;
        size = layers.room()?.0.saturating_sub(before);
    }
    let would = if dry_run { "would be " } else { "" };
    let line = format!(
        "{} generations and {count} layers {would}removed, {} {would}freed",
        generations.len(),
        bytes(size)
    );
    report.event(line, || {
        json!({ "event": "gc", "dryRun": dry_run, "generations": generations, "layers": count, "bytes": size })
    })
}
