//! `edgepull verify`: every file against what was recorded when it came, every tree against what its layers
//! make; and, with `--repair`, what is not as it was is fetched again.

use super::follow::{self, Repaired};
use super::needed::forget_layers;
use super::report::Report;
use crate::cli::Options;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::layer::rootfs::compare;
use crate::store::deployment::{Deployment, Deployments, Generation};
use crate::store::disk;
use crate::store::layers::Layers;
use crate::store::lock::StateLock;
use crate::sys;
use serde_json::json;
use std::os::fd::AsFd;

/// How many differences of one layer or tree are told one by one.
const TOLD_MAX: u64 = 20;
/// The largest `config.json`, in bytes: of what fits a message of the process that fetches, every byte escaped.
const CONFIG_MAX: u64 = 4 << 20;

/// `name`: of this deployment only.
pub fn run(name: Option<&str>, repair: bool, options: &Options, report: &Report) -> Result<()> {
    let deployments = Deployments::open(&options.state_dir)?;
    let names = match name {
        Some(name) => vec![deployments.existing(name)?.name().to_owned()],
        None => deployments.names()?,
    };
    if names.is_empty() {
        return report.text(format_args!("no deployments in {}", options.state_dir.display()));
    }
    let _lock = StateLock::take(&options.state_dir, options.wait, "verify")?;
    let layers = Layers::open(&options.state_dir)?;
    let mut verify = Verify { layers: &layers, report, checked: Vec::new(), damaged: Vec::new() };
    let mut wrong = Vec::new();
    for name in &names {
        let deployment = deployments.existing(name)?;
        for generation in &deployment.record().generations {
            if !verify.generation(&deployment, generation)? {
                wrong.push((name.as_str(), generation.number));
            }
        }
    }
    if wrong.is_empty() {
        let line = format!("{} layers and their trees are as they were", verify.checked.len());
        return report.event(line, || json!({ "event": "verified", "layers": verify.checked.len() }));
    }
    let mut damaged = verify.damaged;
    if !repair {
        let shown: Vec<_> =
            wrong.iter().map(|(name, number)| format!("{name} generation {number}")).collect();
        let message = format!("not as it was: {}", shown.join(", "));
        return Err(
            Error::new(Kind::Verification, message).hint("edgepull verify --repair fetches what differs")
        );
    }
    for (name, number) in wrong {
        let mut deployment = deployments.existing(name)?;
        let generation = deployment.record().generation(number);
        let of_it = generation.and_then(|one| deployment.layers(one).ok()).unwrap_or_default();
        let repaired = follow::repair(&mut deployment, number, &damaged, options, report)?;
        // They are whole now: the next generation that has them is composed of the same files.
        damaged.retain(|diff_id| !of_it.contains(diff_id));
        let (line, new) = match repaired {
            Repaired::As(new) => (format!("{name}: generation {number} is whole again, as {new}"), Some(new)),
            Repaired::Dropped => (format!("{name}: generation {number} is gone"), None),
        };
        report
            .event(line, || json!({ "event": "repaired", "name": name, "generation": number, "as": new }))?;
    }
    forget_layers(&options.state_dir)
}

/// What was found so far.
struct Verify<'a> {
    layers: &'a Layers,
    report: &'a Report,
    checked: Vec<Digest>,
    damaged: Vec<Digest>,
}

impl Verify<'_> {
    /// Whether a generation is as it was: its layers, and its tree.
    fn generation(&mut self, deployment: &Deployment, generation: &Generation) -> Result<bool> {
        let layers = match deployment.layers(generation) {
            Ok(layers) => layers,
            Err(error) => {
                log::info!("{error}");
                let place = format!("{} generation {}", deployment.name(), generation.number);
                self.found(&place, "", "its list of layers is gone, or damaged", &mut 0)?;
                return Ok(false);
            }
        };
        for diff_id in &layers {
            if !self.checked.contains(diff_id) {
                self.checked.push(*diff_id);
                if !self.layer(diff_id)? {
                    self.damaged.push(*diff_id);
                }
            }
        }
        if layers.iter().any(|diff_id| self.damaged.contains(diff_id)) {
            return Ok(false);
        }
        self.tree(deployment, generation, &layers)
    }

    fn layer(&self, diff_id: &Digest) -> Result<bool> {
        let place = format!("layer {}", diff_id.short());
        let mut count = 0;
        match self.layers.get(diff_id)? {
            None => self.found(&place, "", "is missing, or its record is damaged", &mut count)?,
            Some(kept) => {
                let mut failed = Ok(());
                kept.check(sys::effective_ids().0 != 0, |member, how| {
                    let path = String::from_utf8_lossy(&member.path).escape_debug().to_string();
                    failed = self.found(&place, &path, how, &mut count);
                })?;
                failed?;
            }
        }
        Ok(count == 0)
    }

    /// Composes the tree anew, from the kept layers, and compares.
    fn tree(&self, deployment: &Deployment, generation: &Generation, layers: &[Digest]) -> Result<bool> {
        let tree = deployment.tree(generation.number).join("rootfs");
        let failed = |error| Error::disk(tree.display(), error);
        let (should, _) = deployment.compose(&deployment.open_work()?, self.layers, layers)?;
        let place = format!("{} generation {}", deployment.name(), generation.number);
        let (mut count, mut told) = (0, Ok(()));
        match disk::open_directory(&tree) {
            Err(_) => self.found(&place, "", "is gone", &mut count)?,
            Ok(is) => {
                let mut found = |path: &str, how: &str| told = self.found(&place, path, how, &mut count);
                compare(should.as_fd(), is.as_fd(), &mut found).map_err(failed)?;
            }
        }
        deployment.clear_staging()?;
        told?;
        if let Some(should) = &generation.content.config_digest {
            let config = disk::read(&deployment.tree(generation.number).join("config.json"), CONFIG_MAX);
            if !config.is_ok_and(|config| Digest::of(&config) == *should) {
                self.found(&place, "", "its config.json differs", &mut count)?;
            }
        }
        Ok(count == 0)
    }

    fn found(&self, place: &str, path: &str, how: &str, count: &mut u64) -> Result<()> {
        *count += 1;
        match *count {
            TOLD_MAX => self.report.event(
                format_args!("{place}: and more"),
                || json!({ "event": "damaged", "place": place, "more": true }),
            ),
            ..TOLD_MAX => self.report.event(
                format_args!("{place}: {path} {how}"),
                || json!({ "event": "damaged", "place": place, "path": path, "how": how }),
            ),
            _ => Ok(()),
        }
    }
}
