//! What a generation is made of is fetched and composed: the part of `deploy`, `update` and `verify --repair` that is
//! done in a process that can do little. It writes to the layer store and to the deployment's work directory.

use super::confined::{Question, Settled};
use super::follow::By;
use super::image::{Chosen, announce, check_program, choose, process, warn};
use super::needed::strike_recorded;
use super::plan::Plan;
use super::report::{Report, bytes};
use crate::cli::Options;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::runtime::Process;
use crate::layer::rootfs::Warning;
use crate::platform::Host;
use crate::sandbox::{Line, Verbatim};
use crate::source::Source;
use crate::store::deployment::{Content, Deployment, LayerList, Missing, Pending};
use crate::store::layers::Layers;
use crate::sys;
use crate::trust::Trust;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};

/// What a generation is made with.
pub(super) struct Assembly<'a> {
    /// As it was when this process began: what is changed meanwhile, its parent changes.
    pub(super) deployment: &'a Deployment,
    pub(super) layers: &'a Layers,
    /// Holds the deployment's work directory, open.
    pub(super) work: OwnedFd,
    /// Holds the root of an older tree, whose unchanged files are linked.
    pub(super) base: Option<OwnedFd>,
    pub(super) host: &'a Host,
    pub(super) options: &'a Options,
    pub(super) report: &'a Report,
}

impl Assembly<'_> {
    /// Composes what is tracked, as far as it is new, in the staging directory, durably but for the `config.json` of
    /// its process, which it returns. Returns `None` if there is nothing to compose.
    pub(super) fn follow(
        &self,
        image: &Reference,
        by: By,
        trust: &Trust,
        source: &mut dyn Source,
        line: &mut Line,
    ) -> Result<Option<(Content, Verbatim<Process>)>> {
        if by == By::Update
            && let Some(root) = source.current()?
            && !line.ask(&Question::Root(root))?
        {
            return Ok(None);
        }
        announce(self.host, image, self.report)?;
        let chosen = choose(source, self.host, Some(trust), false, self.report)?;
        if !line.ask(&Question::Image(Settled::of(&chosen)))? {
            return Ok(None);
        }
        let plan = Plan::new(&chosen.manifest, &chosen.config, self.layers, &[])?;
        let before = self.begin(&chosen, &plan, line)?;
        let mut totals = plan.fetch(source, self.base.as_ref(), self.report)?;
        totals.written += before;
        let process = self.build(&chosen, mem::take(&mut totals.warnings))?;
        log::info!(
            "written: {} of {} that the image has; {} were there already, {} shared with the generation before",
            bytes(totals.written),
            bytes(totals.tar_bytes),
            bytes(totals.tar_bytes.saturating_sub(totals.written)),
            bytes(totals.shared)
        );
        log::info!("CPU by stage: {}", totals.cpu);
        let content = Content {
            root_digest: chosen.root,
            digest: chosen.digest,
            platform: chosen.platform.to_string().into(),
            layers: LayerList::Unwritten(chosen.config.rootfs.diff_ids),
            image_bytes: totals.tar_bytes,
            written_bytes: totals.written,
            fetched_bytes: totals.wire_bytes,
            entries: totals.entries,
            config_digest: None,
            age: chosen.age,
        };
        Ok(Some((content, process)))
    }

    /// Fetches the `damaged` layers of a generation again, without writing the intact ones anew, and composes its
    /// tree in the staging directory. Returns the list of its layers, and its process.
    pub(super) fn repair(
        &self,
        damaged: &[Digest],
        source: &mut dyn Source,
        line: &mut Line,
    ) -> Result<(LayerList, Verbatim<Process>)> {
        // By its digest, which was accepted when it came: whose signature it had then, no name and no tag says now.
        let chosen = choose(source, self.host, None, false, self.report)?;
        line.ask(&Question::Image(Settled::of(&chosen)))?;
        let plan = Plan::new(&chosen.manifest, &chosen.config, self.layers, damaged)?;
        let totals = plan.fetch(source, self.base.as_ref(), self.report)?;
        let process = self.build(&chosen, totals.warnings)?;
        Ok((LayerList::Unwritten(chosen.config.rootfs.diff_ids), process))
    }

    /// Has it recorded what is going to be fetched. How many bytes were written for it by an interrupted run.
    fn begin(&self, chosen: &Chosen, plan: &Plan<'_>, line: &mut Line) -> Result<u64> {
        // What an interrupted run has finished was written for this update, too.
        let begun = Pending::load(self.deployment).filter(|begun| begun.digest == chosen.digest);
        let mut missing = begun.map_or_else(Vec::new, |begun| begun.missing);
        let before = self.written(&missing)?;
        let mut unrecorded = chosen.config.rootfs.diff_ids.clone();
        unrecorded.sort_unstable();
        unrecorded.dedup();
        if let Err(error) = strike_recorded(&self.options.state_dir, &mut unrecorded) {
            log::info!("layers that are here may count as new: {error}");
        }
        for layer in plan.unrecorded(&unrecorded) {
            if !missing.contains(&layer) {
                missing.push(layer);
            }
        }
        if !missing.is_empty() {
            let platform = chosen.platform.to_string().into();
            line.ask(&Question::Pending(Pending { digest: chosen.digest, platform, missing }))?;
        }
        Ok(before)
    }

    /// What was written of those of `fetched` that are whole, in bytes.
    fn written(&self, fetched: &[Missing]) -> Result<u64> {
        let size = |layer: &Missing| Ok(self.layers.get(&layer.diff_id)?.map_or(0, |kept| kept.written()));
        fetched.iter().try_fold(0, |sum, layer| Ok(sum + size(layer)?))
    }

    /// Composes the tree in the deployment's staging directory, and makes it durable. What it runs.
    fn build(&self, chosen: &Chosen, warnings: Vec<Warning>) -> Result<Verbatim<Process>> {
        let diff_ids = &chosen.config.rootfs.diff_ids;
        let (rootfs, summary) = self.deployment.compose(&self.work, self.layers, diff_ids)?;
        warn(warnings, summary);
        check_program(chosen, self.host, rootfs.as_fd(), false)?;
        let failed = |error| Error::disk(self.deployment.staging().display(), error);
        sys::sync_file_system(rootfs.as_fd()).map_err(failed)?;
        process(chosen, rootfs.as_fd()).map(Verbatim)
    }
}
