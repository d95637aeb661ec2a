//! A deployment is brought to what it tracks: what `deploy` and `update` have in common.

use super::assemble::Assembly;
use super::confined::{Question, Settled, confined, settled};
use super::image::write_config;
use super::needed::forget_layers;
use super::report::{Report, bytes};
use super::{clock, host, open, verifier};
use crate::cli::Options;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::platform::Platform;
use crate::sandbox::{self, Line, Rights, Verbatim};
use crate::store;
use crate::store::deployment::{
    Bad, Board, Content, Deployment, Generation, LayerList, Outcome, Pending, State, Tracking,
};
use crate::store::layers::Layers;
use crate::sys;
use crate::trust::Trust;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
/// ([`recover`]); `fetches` is called before layers are fetched.
///
/// # Errors
/// [`Kind::Unhealthy`] where a generation has failed; those of fetching.
pub(super) fn follow(
    deployment: &mut Deployment,
    by: By,
    fetches: &mut dyn FnMut(),
    options: &Options,
    report: &Report,
) -> Result<()> {
    let options = &remembered(deployment, options)?;
    let image: Reference = deployment.record().tracking.image.parse()?;
    let clock = clock(&image, options);
    let followed = tracked(deployment, image, by, fetches, options, &clock, report);
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

/// Joins what the deployment remembers and the options of this run: what is remembered comes first, and what it says nothing
/// of is as the run's options have it.
fn remembered(deployment: &Deployment, options: &Options) -> Result<Options> {
    let tracking = &deployment.record().tracking;
    let ordered = tracking.platform.as_deref().map(Platform::parse_with_features).transpose()?;
    // Each of these two is an order without the other.
    let (variant, platform, os_features) = match (tracking.variant.clone(), ordered) {
        (None, None) => (options.variant.clone(), options.platform.clone(), options.os_features.clone()),
        (variant, None) => (variant, None, Vec::new()),
        (variant, Some((platform, os_features))) => (variant, Some(platform), os_features),
    };
    Ok(Options {
        variant,
        platform,
        os_features,
        ca_file: tracking.ca_file.clone().or_else(|| options.ca_file.clone()),
        auth_file: tracking.auth_file.clone().or_else(|| options.auth_file.clone()),
        hosts_dir: tracking.hosts_dir.clone().or_else(|| options.hosts_dir.clone()),
        plain_http: tracking.plain_http || options.plain_http,
        verifier: tracking.verifier.clone(),
        policy: tracking.policy.clone(),
        verify_keys: tracking.verify_keys.clone(),
        ..options.clone()
    })
}

/// Resolves what is tracked; whether anything was new.
fn tracked(
    deployment: &mut Deployment,
    mut image: Reference,
    by: By,
    fetches: &mut dyn FnMut(),
    options: &Options,
    clock: &Arc<Clock>,
    report: &Report,
) -> Result<bool> {
    // What was asked for has the name that signatures have, also where its digest is pinned.
    let trust = Trust::new(&image, options.policy.as_deref(), &options.verify_keys)?;
    let pinned = deployment.record().tracking.pin_digest.filter(|_| by == By::Update);
    let current = current(deployment)?;
    if let Some(pinned) = pinned {
        if current.as_ref().is_some_and(|one| one.content.root_digest == pinned) {
            nothing_new(deployment, "it is pinned", report)?;
            return Ok(false);
        }
        if let Reference::Registry(registry) = &mut image {
            registry.digest = Some(pinned);
        }
    }
    let mut source = open(&image, options, clock)?;
    let host = host(options)?;
    let layers = Layers::open(&options.state_dir)?;
    let (view, base) = (deployment.clone(), deployment.current_tree()?);
    let rights = rights(source.files(), &layers, deployment, base.as_deref(), &options.state_dir);
    let linked = rights.linked.clone();
    let assemble = |line: &mut Line| {
        let layers = &given(&layers, line)?;
        let (work, base) = (line.open(&view.work())?, linked.and_then(|base| line.open(&base).ok()));
        let assembly = Assembly { deployment: &view, layers, work, base, host: &host, options, report };
        assembly.follow(&image, by, &trust, &mut *source, line)
    };
    let state = &options.state_dir;
    let mut books = Books {
        deployment,
        state,
        image: &image,
        by,
        pinned,
        current,
        fetches,
        report,
        settled: None,
        next: None,
    };
    let assembled = confined(rights, options, clock, assemble, |question| books.answer(question));
    let (accepted, next) = (books.settled.take(), books.next.take());
    let number = match (next, assembled) {
        (Some(Next::Nothing), Ok(_)) => return Ok(false),
        (Some(Next::Activate(number)), Ok(_)) => number,
        (None, Ok(Some((content, Verbatim(process))))) => {
            let Settled { root, digest, age, .. } = self::settled(accepted)?;
            let LayerList::Unwritten(_) = content.layers else { return Err(sandbox::nonsense()) };
            // Its files are links to the store's: whoever writes to one writes to all generations.
            let config_digest = Some(write_config(&process, true, &deployment.staging())?);
            let content = Content { root_digest: root, digest, age, config_digest, ..content };
            deployment.stage(&deployment.staging(), content, &Board { json: options.json })?
        }
        (None, Ok(None)) => return Err(Error::new(Kind::Other, "nothing was fetched")),
        (_, Err(error)) => {
            if let Some(settled) = accepted {
                refuse(deployment, &settled, &error)?;
            }
            return Err(error);
        }
    };
    Pending::forget(deployment)?;
    let outcome = deployment.activate(number, &Board { json: options.json })?;
    deployment.prune()?;
    forget_layers(&options.state_dir)?;
    outcome.check(deployment.name())?;
    tell(deployment, &outcome, number, report)?;
    Ok(true)
}

/// Gives the process that fetches for a deployment its rights. `base` is the tree whose unchanged files it links. It
/// reads what is `readable`, and the state directory, as all records together say which layers are needed. It writes
/// to the layer store and the deployment's work directory, which it is given open.
fn rights(
    mut readable: Vec<PathBuf>,
    layers: &Layers,
    deployment: &Deployment,
    base: Option<&Path>,
    state: &Path,
) -> Rights {
    readable.push(state.to_owned());
    Rights {
        together: [layers.whole(), layers.partial(), &deployment.work()].map(Path::to_owned).to_vec(),
        linked: base.map(|tree| tree.join("rootfs")).filter(|root| root.exists()),
        readable,
        ending: Some(store::state::lock(state)),
        ..Rights::default()
    }
}

/// Returns the layers as the process that fetches them reaches them.
fn given(layers: &Layers, line: &Line) -> Result<Layers> {
    Ok(layers.given(line.open(layers.whole())?, line.open(layers.partial())?))
}

/// What is decided and recorded while another process fetches.
struct Books<'a> {
    deployment: &'a mut Deployment,
    state: &'a Path,
    image: &'a Reference,
    by: By,
    pinned: Option<Digest>,
    current: Option<Generation>,
    fetches: &'a mut dyn FnMut(),
    report: &'a Report,
    /// The image that is being fetched.
    settled: Option<Settled>,
    next: Option<Next>,
}

/// What there is to do where nothing has to be fetched.
#[derive(Debug, Clone, Copy)]
enum Next {
    Nothing,
    /// This generation was staged before.
    Activate(u32),
}

impl Books<'_> {
    fn answer(&mut self, question: Question) -> Result<bool> {
        match question {
            Question::Root(root) => self.root(&root),
            Question::Image(settled) => self.image(settled),
            Question::Pending(pending) => {
                (self.fetches)();
                pending.save(self.deployment)?;
                // What was fetched of another image, which the tag no longer names, may be in the way.
                forget_layers(self.state).map(|()| true)
            }
            #[cfg(feature = "publish")]
            Question::Checked(_) => Err(crate::sandbox::nonsense()),
        }
    }

    /// The image's name stands for this, as the registry says: only good to see that nothing is new.
    fn root(&mut self, root: &Digest) -> Result<bool> {
        if self.current.as_ref().is_some_and(|one| one.content.root_digest == *root) {
            return self.nothing("nothing is new");
        }
        match self.deployment.record().bad(root).map(not_again) {
            Some(why) => self.nothing(&why),
            None => Ok(true),
        }
    }

    /// The image is this, verified.
    fn image(&mut self, settled: Settled) -> Result<bool> {
        let (root, digest) = (settled.root, settled.digest);
        if let Some(pinned) = self.pinned.filter(|pinned| *pinned != root) {
            let (name, image) = (self.deployment.name(), self.image);
            let message = format!("{name} is pinned to {pinned}, and {image} is {root}");
            return Err(Error::new(Kind::Verification, message).hint("edgepull deploy pins another one"));
        }
        self.check_age(&settled)?;
        let is_it = |one: &&Generation| one.content.digest == digest;
        let there = self.current.as_ref().filter(is_it);
        if self.by == By::Update {
            if let Some(there) = there {
                self.deployment.resolved(there.number, root)?;
                return self.nothing("nothing is new");
            }
            if let Some(why) = self.deployment.record().bad(&digest).map(not_again) {
                return self.nothing(&why);
            }
        }
        let verifier = self.deployment.record().tracking.verifier.as_deref();
        verifier::ask(verifier, self.image, &settled)?;
        if let By::Hand { pin } = self.by {
            self.deployment.forgive(&digest)?;
            let pin_digest = pin.then_some(root);
            let tracking = self.deployment.record().tracking.clone();
            self.deployment.track(Tracking { pin_digest, ..tracking })?;
            if let Some(there) = there {
                self.deployment.resolved(there.number, root)?;
                // It has failed with other options, perhaps.
                if there.state != State::Failed {
                    return self.nothing("nothing is new");
                }
            }
        }
        let staged = there.or(self.deployment.record().staged().filter(is_it));
        self.next = staged.map(|staged| Next::Activate(staged.number));
        self.settled = Some(settled);
        Ok(self.next.is_none())
    }

    /// Refuses an image that is older than what is current, where the deployment was told to.
    fn check_age(&self, settled: &Settled) -> Result<()> {
        let Some(rule) = self.deployment.record().tracking.monotonic else { return Ok(()) };
        let current = self.current.as_ref().map(|one| &one.content);
        if current.is_some_and(|current| current.digest == settled.digest) {
            return Ok(());
        }
        rule.allows(&settled.age, current.map(|current| &current.age)).map_err(|why| {
            let (name, digest) = (self.deployment.name(), settled.digest);
            let message = format!("{digest} is refused by --monotonic {}: {why}", rule.name());
            Error::new(Kind::Verification, message).hint(format!(
                "edgepull rollback {name} goes back by hand; deploy --monotonic= takes any image"
            ))
        })
    }

    fn nothing(&mut self, why: &str) -> Result<bool> {
        self.next = Some(Next::Nothing);
        nothing_new(self.deployment, why, self.report).map(|()| false)
    }
}

/// An image that is broken, hostile or no program for this board will be so the next time, too.
fn refuse(deployment: &mut Deployment, settled: &Settled, error: &Error) -> Result<()> {
    if error.kind() != Kind::BadImage {
        return Ok(());
    }
    let (digest, when) = (settled.digest, sys::unix_time());
    let reason = error.to_string().into();
    deployment.refuse(Bad { digest, root_digest: Some(settled.root), generation: None, reason, when })?;
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

fn nothing_new(deployment: &Deployment, why: &str, report: &Report) -> Result<()> {
    // What was begun to be fetched is no longer what is tracked.
    Pending::forget(deployment)?;
    let (name, current) = (deployment.name(), deployment.current()?);
    let line = match current {
        Some(number) => format!("{name}: {why}, generation {number} stays"),
        None => format!("{name}: {why}"),
    };
    report.event(line, || json!({ "event": "unchanged", "name": name, "generation": current, "reason": why }))
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
    let clock = clock(&image, options);
    let mut source = open(&image, options, &clock)?;
    let host = host(options)?;
    let layers = Layers::open(&options.state_dir)?;
    let tree = deployment.tree(number);
    let rights = rights(source.files(), &layers, deployment, Some(&tree), &options.state_dir);
    let linked = rights.linked.clone();
    let mut accepted = None;
    let assemble = |line: &mut Line| {
        let layers = &given(&layers, line)?;
        let (work, base) = (line.open(&deployment.work())?, linked.and_then(|base| line.open(&base).ok()));
        let assembly = Assembly { deployment, layers, work, base, host: &host, options, report };
        assembly.repair(damaged, &mut *source, line)
    };
    let (layers, Verbatim(process)) =
        confined(rights, options, &clock, assemble, |question| match question {
            Question::Image(settled) if settled.digest != wanted => {
                let message =
                    format!("{image} is {} now, and generation {number} is {wanted}", settled.digest);
                Err(Error::new(Kind::NotFound, message).hint("edgepull update gets what is there now"))
            }
            Question::Image(settled) => {
                verifier::ask(options.verifier.as_deref(), &image, &settled)?;
                accepted = Some(settled);
                Ok(true)
            }
            _ => Ok(true),
        })?;
    settled(accepted)?;
    let LayerList::Unwritten(_) = layers else { return Err(sandbox::nonsense()) };
    let config_digest = Some(write_config(&process, true, &deployment.staging())?);
    let content = Content { config_digest, layers, ..generation.content };
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

#[cfg(test)]
mod tests;
