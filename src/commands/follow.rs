//! A deployment is brought to what it tracks: what `deploy` and `update` have in common.

use super::image::{Chosen, announce, check_program, choose, warn, write_config};
use super::plan::Plan;
use super::report::{Report, bytes};
use super::{clock, host, open};
use crate::cli::Options;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::layer::rootfs::Warning;
use crate::platform::{Host, Platform};
use crate::store;
use crate::store::deployment::{
    Bad, Board, Content, Deployment, Deployments, Generation, Missing, Outcome, Pending, State,
};
use crate::store::layers::{self, Layers};
use crate::sys;
use serde_json::json;
use std::mem;
use std::os::fd::AsFd;
use std::path::Path;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// `deploy`: what was found bad before is tried again, and what is pinned is pinned anew.
    Hand {
        /// `--pin-digest`.
        pin: bool,
    },
    /// `update`.
    Update,
}

/// Brings `deployment` to what it tracks. The caller holds the lock, and has ended what an interrupted run has begun
/// ([`recover`]).
///
/// # Errors
/// [`Kind::Unhealthy`] where a generation has failed; those of fetching.
pub(super) fn follow(deployment: &mut Deployment, by: By, options: &Options, report: &Report) -> Result<()> {
    let options = &remembered(deployment, options)?;
    let image: Reference = deployment.record().tracking.image.parse()?;
    let clock = clock(&image, options);
    let followed = tracked(deployment, image, by, options, &clock, report);
    // What a server said about the time is as true when something else went wrong; when nothing is new, nothing
    // is written.
    if let (Some(time), Ok(true) | Err(_)) = (clock.to_record(), &followed) {
        store::clock::save(&options.state_dir, time);
    }
    if !followed? {
        // A run before may have been cut short while it was clearing up. Mostly there is nothing to do, and nothing
        // is written.
        deployment.prune()?;
        forget_layers(&options.state_dir)?;
    }
    Ok(())
}

/// Ends what an interrupted run has begun: a generation on its way goes on, or back.
///
/// # Errors
/// [`Kind::Unhealthy`] where it has failed.
pub(super) fn recover(deployment: &mut Deployment, options: &Options) -> Result<()> {
    match deployment.recover(&Board { json: options.json })? {
        Some(outcome) => outcome.check(deployment.name()),
        None => Ok(()),
    }
}

/// The options of this run, and those that the deployment remembers.
fn remembered(deployment: &Deployment, options: &Options) -> Result<Options> {
    let tracking = &deployment.record().tracking;
    Ok(Options {
        variant: tracking.variant.clone(),
        platform: tracking.platform.as_deref().map(Platform::parse).transpose()?,
        ca_file: tracking.ca_file.clone(),
        auth_file: tracking.auth_file.clone().or_else(|| options.auth_file.clone()),
        hosts_dir: tracking.hosts_dir.clone().or_else(|| options.hosts_dir.clone()),
        plain_http: tracking.plain_http,
        ..options.clone()
    })
}

/// Resolves what is tracked; whether anything was new.
fn tracked(
    deployment: &mut Deployment,
    mut image: Reference,
    by: By,
    options: &Options,
    clock: &std::sync::Arc<crate::clock::Clock>,
    report: &Report,
) -> Result<bool> {
    let pinned = deployment.record().tracking.pin_digest;
    let current = current(deployment)?;
    let is_current = |root: &Digest| current.as_ref().is_some_and(|one| one.content.root_digest == *root);
    if let (Some(pinned), By::Update) = (pinned, by) {
        if is_current(&pinned) {
            return nothing_new(deployment, "it is pinned", report);
        }
        if let Reference::Registry(registry) = &mut image {
            registry.digest = Some(pinned);
        }
    }
    let mut source = open(&image, options, clock)?;
    if by == By::Update
        && let Some(root) = source.current()?
    {
        if is_current(&root) {
            return nothing_new(deployment, "nothing is new", report);
        }
        if let Some(bad) = deployment.record().bad(&root) {
            return nothing_new(deployment, &not_again(bad), report);
        }
    }
    let host = host(options)?;
    announce(&host, &image, report)?;
    let chosen = choose(&mut *source, &host, false, report)?;
    if let (Some(pinned), By::Update) = (pinned, by)
        && pinned != chosen.root
    {
        let message = format!("{} is pinned to {pinned}, and {image} is {}", deployment.name(), chosen.root);
        return Err(Error::new(Kind::Verification, message).hint("edgepull deploy pins another one"));
    }
    if let By::Hand { pin } = by {
        deployment.forgive(&chosen.digest)?;
        let pin_digest = pin.then_some(chosen.root);
        let tracking = deployment.record().tracking.clone();
        deployment.track(store::deployment::Tracking { pin_digest, ..tracking })?;
    }
    let is_chosen = |one: &&Generation| one.content.digest == chosen.digest;
    let there = current.as_ref().filter(is_chosen);
    if let Some(there) = there {
        deployment.resolved(there.number, chosen.root)?;
        // It has failed with other options, perhaps.
        if by == By::Update || there.state != State::Failed {
            return nothing_new(deployment, "nothing is new", report);
        }
    }
    if let Some(bad) = deployment.record().bad(&chosen.digest) {
        return nothing_new(deployment, &not_again(bad), report);
    }
    let number = match there.or(deployment.record().staged().filter(is_chosen)) {
        Some(generation) => generation.number,
        None => match stage(deployment, &mut *source, &chosen, &host, options, report) {
            Ok(number) => number,
            Err(error) => {
                refuse(deployment, &chosen, &error)?;
                return Err(error);
            }
        },
    };
    Pending::forget(deployment)?;
    let outcome = deployment.activate(number, &Board { json: options.json })?;
    deployment.prune()?;
    forget_layers(&options.state_dir)?;
    outcome.check(deployment.name())?;
    tell(deployment, &outcome, number, report)?;
    Ok(true)
}

/// An image that is broken, hostile or no program for this board will be so the next time, too.
fn refuse(deployment: &mut Deployment, chosen: &Chosen, error: &Error) -> Result<()> {
    if error.kind() != Kind::BadImage {
        return Ok(());
    }
    let (digest, when) = (chosen.digest, sys::unix_time());
    let reason = error.to_string();
    deployment.refuse(Bad { digest, root_digest: Some(chosen.root), generation: None, reason, when })?;
    deployment.clear_staging()?;
    Pending::forget(deployment)
}

fn not_again(bad: &Bad) -> String {
    format!("{} is not tried again: {}", bad.digest.short(), bad.reason)
}

/// What is current; `None` before the first generation.
fn current(deployment: &Deployment) -> Result<Option<Generation>> {
    let number = deployment.current()?;
    Ok(number.and_then(|number| deployment.record().generation(number)).cloned())
}

fn nothing_new(deployment: &Deployment, why: &str, report: &Report) -> Result<bool> {
    // What was begun to be fetched is no longer what is tracked.
    Pending::forget(deployment)?;
    let (name, current) = (deployment.name(), deployment.current()?);
    let line = match current {
        Some(number) => format!("{name}: {why}, generation {number} stays"),
        None => format!("{name}: {why}"),
    };
    report.event(
        line,
        || json!({ "event": "unchanged", "name": name, "generation": current, "reason": why }),
    )?;
    Ok(false)
}

/// Fetches what is missing, and makes a generation of it that nobody has switched to yet.
fn stage(
    deployment: &mut Deployment,
    source: &mut dyn crate::source::Source,
    chosen: &Chosen,
    host: &Host,
    options: &Options,
    report: &Report,
) -> Result<u32> {
    let layers = Layers::open(&options.state_dir)?;
    let plan = Plan::new(chosen, &layers, &[])?;
    // What an interrupted run has finished was written for this update, too.
    let begun = Pending::load(deployment).filter(|begun| begun.digest == chosen.digest);
    let mut missing = begun.map_or_else(Vec::new, |begun| begun.missing);
    let before = written(&layers, &missing)?;
    for layer in plan.missing() {
        if !missing.contains(&layer) {
            missing.push(layer);
        }
    }
    if !missing.is_empty() {
        let platform = chosen.platform.to_string();
        Pending { digest: chosen.digest, platform, missing }.save(deployment)?;
        // What was fetched of another image, which the tag no longer names, may be in the way.
        forget_layers(&options.state_dir)?;
    }
    let base = deployment.current_tree()?.map(|tree| tree.join("rootfs"));
    let mut totals = plan.fetch(source, base.as_deref(), report)?;
    totals.written += before;
    let config = build(deployment, chosen, &layers, host, mem::take(&mut totals.warnings))?;
    let content = Content {
        root_digest: chosen.root,
        digest: chosen.digest,
        platform: chosen.platform.to_string(),
        layers: chosen.config.rootfs.diff_ids.clone(),
        image_bytes: totals.tar_bytes,
        written_bytes: totals.written,
        fetched_bytes: totals.wire_bytes,
        entries: totals.entries,
        config_digest: Some(config),
    };
    let number = deployment.stage(&deployment.staging(), content, &Board { json: options.json })?;
    log::info!(
        "written: {} of {} that the image has; {} were there already, {} shared with the generation before",
        bytes(totals.written),
        bytes(totals.tar_bytes),
        bytes(totals.tar_bytes.saturating_sub(totals.written)),
        bytes(totals.shared)
    );
    log::info!("CPU by stage: {}", totals.cpu);
    Ok(number)
}

/// What was written of those of `fetched` that are whole, in bytes.
fn written(layers: &Layers, fetched: &[Missing]) -> Result<u64> {
    fetched
        .iter()
        .try_fold(0, |sum, layer| Ok(sum + layers.get(&layer.diff_id)?.map_or(0, |kept| kept.written())))
}

/// Composes the tree in the deployment's staging directory, and makes it durable. What config.json's digest is.
fn build(
    deployment: &Deployment,
    chosen: &Chosen,
    layers: &Layers,
    host: &Host,
    warnings: Vec<Warning>,
) -> Result<Digest> {
    let (rootfs, summary) = deployment.compose(layers, &chosen.config.rootfs.diff_ids)?;
    warn(warnings, summary);
    check_program(chosen, host, rootfs.as_fd(), false)?;
    // Its files are links to the store's: whoever writes to one writes to all generations.
    let config = write_config(chosen, rootfs.as_fd(), true, &deployment.staging().join("config.json"))?;
    let synced = sys::sync_file_system(rootfs.as_fd());
    synced.map(|()| config).map_err(|error| Error::disk(deployment.staging().display(), error))
}

/// What became of a generation that was not as it was.
pub(super) enum Repaired {
    /// It is whole again, under this number.
    As(u32),
    /// It is gone, as this kernel cannot swap two directories.
    Dropped,
}

/// Fetches the `damaged` layers of a generation again, and composes its tree anew. What is intact is not written
/// again. The current one gets another number and is switched to, so that whoever runs it is told.
pub(super) fn repair(
    deployment: &mut Deployment,
    number: u32,
    damaged: &[Digest],
    options: &Options,
    report: &Report,
) -> Result<Repaired> {
    let options = &remembered(deployment, options)?;
    let Some(generation) = deployment.record().generation(number).cloned() else {
        return Ok(Repaired::Dropped);
    };
    let wanted = generation.content.digest;
    let mut image: Reference = deployment.record().tracking.image.parse()?;
    if let Reference::Registry(registry) = &mut image {
        registry.digest = Some(wanted);
    }
    let mut source = open(&image, options, &clock(&image, options))?;
    let host = host(options)?;
    let chosen = choose(&mut *source, &host, false, report)?;
    if chosen.digest != wanted {
        let message = format!("{image} is {} now, and generation {number} is {wanted}", chosen.digest);
        return Err(Error::new(Kind::NotFound, message).hint("edgepull update gets what is there now"));
    }
    let layers = Layers::open(&options.state_dir)?;
    let tree = deployment.tree(number).join("rootfs");
    let plan = Plan::new(&chosen, &layers, damaged)?;
    let totals = plan.fetch(&mut *source, Some(&tree), report)?;
    let config_digest = Some(build(deployment, &chosen, &layers, &host, totals.warnings)?);
    let content = Content { config_digest, ..generation.content };
    let board = Board { json: options.json };
    if deployment.current()? == Some(number) {
        let new = deployment.stage(&deployment.staging(), content, &board)?;
        deployment.replace(number, new, &board)?.check(deployment.name())?;
        deployment.prune()?;
        return Ok(Repaired::As(new));
    }
    match deployment.renew(number, content)? {
        true => Ok(Repaired::As(number)),
        false => deployment.drop_generation(number).map(|()| Repaired::Dropped),
    }
}

/// Removes layers that neither a generation nor an interrupted fetch of any deployment names.
pub(super) fn forget_layers(state: &Path) -> Result<()> {
    let needed = needed_layers(state)?;
    Layers::open(state)?.retain(&|name| needed.iter().any(|needed| needed == name))
}

/// The layers, in hexadecimal, that generations and interrupted fetches name.
fn needed_layers(state: &Path) -> Result<Vec<String>> {
    let deployments = Deployments::open(state)?;
    let mut needed = Vec::new();
    for name in deployments.names()? {
        let Some(deployment) = deployments.load(&name)? else { continue };
        needed.extend(deployment.record().layers().map(layers::name));
        let pending = Pending::load(&deployment);
        needed.extend(
            pending.iter().flat_map(|pending| &pending.missing).map(|one| layers::name(&one.diff_id)),
        );
    }
    needed.sort();
    needed.dedup();
    Ok(needed)
}

fn tell(deployment: &Deployment, outcome: &Outcome, number: u32, report: &Report) -> Result<()> {
    let Some(generation) = deployment.record().generation(number) else { return Ok(()) };
    let (name, content) = (deployment.name(), &generation.content);
    let waits = match outcome {
        Outcome::Waiting { seconds, .. } => {
            format!("; edgepull confirm {name} is awaited within {seconds} s")
        }
        _ => String::new(),
    };
    let line = format!(
        "{name}: generation {number} is current: {} {}, {} fetched, {} of {} written{waits}",
        content.platform,
        content.digest,
        bytes(content.fetched_bytes),
        bytes(content.written_bytes),
        bytes(content.image_bytes)
    );
    report.event(line, || {
        json!({
            "event": "deployed",
            "name": name,
            "generation": number,
            "platform": content.platform,
            "digest": content.digest,
            "state": generation.state.name(),
            "fetched": content.fetched_bytes,
            "written": content.written_bytes,
            "unpacked": content.image_bytes,
            "entries": content.entries,
        })
    })
}
