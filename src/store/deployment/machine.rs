//! The transitions of [`super`]'s table, each one function. They are driven from wherever the record says that a
//! generation is: by the run that has begun it, or by the next one.

use super::record::{Content, Generation, KEEP_MAX, Progress, State};
use super::{CURRENT, Deployment, Environment, PREVIOUS, Task, World};
use crate::error::{Error, Kind, Result};
use crate::store::{disk, state};
use std::path::Path;
use std::time::Duration;

/// How many runs may begin with the same step of a generation before it has failed: what brings the board down
/// each time must not do so for ever.
pub const ATTEMPTS_MAX: u32 = 3;

const BY_HAND: &str = "rolled back by hand";

/// Where a deployment stands when a transition has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is current, and confirmed.
    Confirmed {
        /// Which.
        generation: u32,
    },
    /// It is current, and healthy so far: `edgepull confirm` is awaited.
    Waiting {
        /// Which.
        generation: u32,
        /// How long yet, in seconds.
        seconds: u64,
    },
    /// It failed; what was current before is current again.
    Back {
        /// Which failed.
        failed: u32,
        /// Which is current.
        to: u32,
        /// Why.
        reason: String,
    },
    /// It failed, and is current still, as there is nothing to go back to.
    Stuck {
        /// Which.
        generation: u32,
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// [`Kind::Unhealthy`] where a generation has failed.
    ///
    /// # Errors
    /// That.
    pub fn check(&self, name: &str) -> Result<()> {
        match self {
            Outcome::Confirmed { .. } | Outcome::Waiting { .. } => Ok(()),
            Outcome::Back { failed, to, reason } => {
                let message = format!("{name}: generation {failed} is not good: {reason}");
                Err(Error::new(Kind::Unhealthy, message).hint(format!("generation {to} is current again")))
            }
            Outcome::Stuck { generation, reason } => {
                let message = format!("{name}: generation {generation} is not good: {reason}");
                Err(Error::new(Kind::Unhealthy, message)
                    .hint("it stays current, as there is nothing to go back to"))
            }
        }
    }
}

impl Deployment {
    /// Ends what a run before has begun: sweeps what its cut has left, and takes a generation that is on its
    /// way further. `None`: there was none. Writes nothing where there is nothing to do.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn recover(&mut self, world: &dyn World) -> Result<Option<Outcome>> {
        self.sweep()?;
        // That of a run before may have been cut off, or be of a version that wrote none.
        self.publish();
        match self.record.active() {
            Some(generation) => self.drive(generation.number, false, world).map(Some),
            None => Ok(None),
        }
    }

    /// Makes a composed and durable tree the newest generation, which is not current yet; returns its number.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn stage(&mut self, tree: &Path, mut content: Content, world: &dyn World) -> Result<u32> {
        // Runs that were cut short after this, one after another, must not fill the record.
        if self.record.generations.len() > KEEP_MAX as usize {
            self.prune()?;
        }
        let number = self.record.next;
        let place = self.tree(number);
        state::make(&self.generations(), state::PRIVATE)?;
        self.sweep()?;
        disk::check_directory(tree).map_err(|error| Error::disk(tree.display(), error))?;
        content.layers.write(tree)?;
        disk::place(tree, &place)?;
        let created = world.unix_time();
        self.change(|record| {
            record.next += 1;
            record.generations.push(Generation {
                number,
                content,
                created,
                switched: None,
                state: State::Staged,
                reason: None,
                progress: None,
            });
        })?;
        Ok(number)
    }

    /// Makes a generation current, and sees whether it is good.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no such generation; [`Kind::Disk`]. That it is not good is no
    /// error here, but an outcome.
    pub fn activate(&mut self, number: u32, world: &dyn World) -> Result<Outcome> {
        self.begin_switch(number, false, world)?;
        self.drive(number, true, world)
    }

    /// Puts `new`, which was composed anew of the same image, in the place of the current generation, whose tree is
    /// damaged: that is never gone back to. Nobody has to confirm again what was confirmed.
    ///
    /// # Errors
    /// As [`Deployment::activate`].
    pub fn replace(&mut self, damaged: u32, new: u32, world: &dyn World) -> Result<Outcome> {
        let confirmed = self.record.generation(damaged).is_some_and(|one| one.state == State::Confirmed);
        let progress = Progress {
            attempts: 1,
            confirm_within: self.record.tracking.confirm_within.filter(|_| !confirmed),
            moment: world.moment(),
            ..Progress::default()
        };
        let now = world.unix_time();
        self.change(|record| {
            record.edit(damaged, |old| old.fails(format!("it is damaged; generation {new} is the same")));
            record.edit(new, |generation| generation.switches(now, progress));
        })?;
        self.drive(new, true, world)
    }

    /// Leaves the current generation for `to`, or for the one before. What is left is not taken again by an
    /// update; what is gone to has to be healthy, where there is a health command and it was not gone back to
    /// from a trial, but needs no confirmation: the hand that would give it is there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is nothing to go to; [`Kind::Usage`] where `to` is current; [`Kind::Disk`].
    pub fn rollback(&mut self, to: Option<u32>, world: &dyn World) -> Result<Outcome> {
        self.sweep()?;
        if let Some(number) = self.rolling_back_to().filter(|number| to.is_none_or(|to| to == *number)) {
            // It was cut short and is called again: that is no second one.
            return self.drive(number, false, world);
        }
        let current = self.current()?;
        if let Some(active) = self.record.active() {
            let (number, from) = (active.number, active.state);
            let target = self.back_from(number);
            if to.is_none() || to == target {
                let target = target.ok_or_else(|| self.nothing_before())?;
                if from != State::Leaving {
                    self.begin_return(number, BY_HAND, world)?;
                }
                self.drive(number, from != State::Leaving, world)?;
                return Ok(Outcome::Confirmed { generation: target });
            }
        }
        let to = match to {
            Some(to) if Some(to) == current => {
                return Err(Error::new(Kind::Usage, format!("{}: generation {to} is current", self.name)));
            }
            Some(to) => to,
            None => self.previous()?.ok_or_else(|| self.nothing_before())?,
        };
        self.begin_switch(to, true, world)?;
        self.drive(to, true, world)
    }

    /// The user says that the current generation is good.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where nothing is current; [`Kind::Disk`].
    pub fn confirm(&mut self, world: &dyn World) -> Result<Outcome> {
        match self.recover(world)? {
            None | Some(Outcome::Waiting { .. } | Outcome::Stuck { .. }) => {}
            Some(ended) => return Ok(ended),
        }
        let Some(generation) = self.current()? else {
            return Err(Error::new(Kind::NotFound, format!("{}: nothing is current yet", self.name)));
        };
        let confirmed = |generation: &Generation| generation.state == State::Confirmed;
        if !self.record.generation(generation).is_some_and(confirmed) {
            self.end_trial(generation)?;
        }
        Ok(Outcome::Confirmed { generation })
    }

    /// The generation that a rollback is on its way to.
    fn rolling_back_to(&self) -> Option<u32> {
        let active = self.record.active().filter(|active| active.state != State::Leaving)?;
        let left = self.record.generation(active.progress.as_ref()?.from?)?;
        let refused = self.record.bad(&left.content.digest)?;
        (refused.reason.as_str() == BY_HAND && refused.generation == Some(left.number))
            .then_some(active.number)
    }

    fn nothing_before(&self) -> Error {
        Error::new(Kind::NotFound, format!("{}: there is no generation to go back to", self.name))
            .hint("edgepull status lists those that are kept")
    }

    /// Takes a generation to where it rests. `fresh`: its state was begun by this run.
    fn drive(&mut self, number: u32, mut fresh: bool, world: &dyn World) -> Result<Outcome> {
        loop {
            let Some(generation) = self.record.generation(number).cloned() else {
                return Err(self.no_such(number));
            };
            let reason = generation.reason.clone().unwrap_or_default().to_string();
            match generation.state {
                State::Switching => self.switch(&generation, fresh, world)?,
                State::Trial => {
                    if let Some(waiting) = self.try_out(&generation, fresh, world)? {
                        return Ok(waiting);
                    }
                }
                State::Leaving => self.go_back(&generation, fresh, world)?,
                State::Confirmed => return Ok(Outcome::Confirmed { generation: number }),
                // Nobody has begun anything with it.
                State::Staged => return Err(self.no_such(number)),
                State::Failed => {
                    return Ok(match self.current()? {
                        Some(to) if to != number => Outcome::Back { failed: number, to, reason },
                        _ => Outcome::Stuck { generation: number, reason },
                    });
                }
            }
            fresh = true;
        }
    }

    // --- the transitions ---

    /// any → switching. Whatever else was on its way has failed, and what is left by hand is not taken again.
    fn begin_switch(&mut self, number: u32, by_hand: bool, world: &dyn World) -> Result<()> {
        if self.record.generation(number).is_none() || !self.tree(number).is_dir() {
            return Err(self.no_such(number));
        }
        let (from, now) = (self.current()?, world.unix_time());
        let progress = Progress {
            from: from.filter(|from| *from != number),
            attempts: 1,
            confirm_within: self.record.tracking.confirm_within.filter(|_| !by_hand),
            moment: world.moment(),
            ..Progress::default()
        };
        self.change(|record| {
            let other = record.active().map(|active| active.number).filter(|other| *other != number);
            if let Some(other) = other {
                record.edit(other, |other| other.fails("replaced before it was confirmed"));
            }
            if let Some(left) = progress.from.filter(|_| by_hand) {
                record.refuse_generation(left, BY_HAND, now);
            }
            record.edit(number, |generation| generation.switches(now, progress));
        })
    }

    /// switching → trial, confirmed, leaving or failed.
    fn switch(&mut self, generation: &Generation, fresh: bool, world: &dyn World) -> Result<()> {
        let number = generation.number;
        let served = !fresh && self.has_restarted_into(number, generation, world)?;
        if !fresh && !self.attempt(generation, true, world)? {
            return self.begin_return(number, "switching to it was cut short each time", world);
        }
        self.set_links(number, [PREVIOUS, CURRENT])?;
        if !served && let Err(reason) = self.run(Task::OnSwitch, number, world) {
            return self.begin_return(number, &reason, world);
        }
        let healthy = self.record.tracking.health.is_none();
        let progress = generation.progress.clone().unwrap_or_default();
        if healthy && progress.confirm_within.is_none() {
            return self.end_trial(number);
        }
        let progress = Progress { attempts: 1, healthy, moment: world.moment(), ..progress };
        self.change(|record| {
            record.edit(number, |generation| {
                generation.state = State::Trial;
                generation.progress = Some(progress);
            });
        })
    }

    /// trial → confirmed, leaving or failed; or it waits to be confirmed by hand.
    fn try_out(
        &mut self,
        generation: &Generation,
        fresh: bool,
        world: &dyn World,
    ) -> Result<Option<Outcome>> {
        let number = generation.number;
        let progress = generation.progress.clone().unwrap_or_default();
        if let Err(reason) = progress.time_left(&world.moment()) {
            return self.begin_return(number, &reason, world).map(|()| None);
        }
        if !progress.healthy {
            if !fresh && !self.attempt(generation, false, world)? {
                let reason = "its health command was cut short each time";
                return self.begin_return(number, reason, world).map(|()| None);
            }
            if let Err(reason) = self.run(Task::Health, number, world) {
                return self.begin_return(number, &reason, world).map(|()| None);
            }
        }
        if progress.confirm_within.is_none() {
            return self.end_trial(number).map(|()| None);
        }
        if !progress.healthy {
            self.change(|record| {
                record.edit(number, |generation| {
                    generation.progress = Some(Progress { healthy: true, ..progress.clone() });
                });
            })?;
        }
        let seconds = progress.time_left(&world.moment()).unwrap_or(0);
        Ok(Some(Outcome::Waiting { generation: number, seconds }))
    }

    /// switching, trial, or failed and current → confirmed.
    fn end_trial(&mut self, number: u32) -> Result<()> {
        let digest = self.record.generation(number).map(|generation| generation.content.digest);
        self.change(|record| {
            if let Some(digest) = digest {
                record.forgive(&digest);
            }
            record.edit(number, |generation| {
                generation.state = State::Confirmed;
                generation.reason = None;
                generation.progress = None;
            });
        })
    }

    /// switching, trial → leaving; → failed where there is nothing to go back to.
    fn begin_return(&mut self, number: u32, reason: &str, world: &dyn World) -> Result<()> {
        let (to, moment, now) = (self.back_from(number), world.moment(), world.unix_time());
        self.change(|record| {
            record.refuse_generation(number, reason, now);
            record.edit(number, |generation| {
                generation.reason = Some(reason.into());
                generation.state = if to.is_some() { State::Leaving } else { State::Failed };
                generation.progress =
                    to.map(|to| Progress { to: Some(to), attempts: 1, moment, ..Progress::default() });
            });
        })
    }

    /// leaving → failed: `current` first, for it leads to what failed.
    fn go_back(&mut self, generation: &Generation, fresh: bool, world: &dyn World) -> Result<()> {
        let number = generation.number;
        if let Some(to) = self.back_from(number) {
            let served = !fresh && self.has_restarted_into(to, generation, world)?;
            let may = fresh || self.attempt(generation, true, world)?;
            self.set_links(to, [CURRENT, PREVIOUS])?;
            if !may {
                log::warn!("{}: the on-switch command was cut short each time; it is left out", self.name);
            } else if !served && let Err(reason) = self.run(Task::OnSwitch, to, world) {
                log::warn!("{}: generation {to} is current again, but {reason}", self.name);
            }
        }
        let now = world.unix_time();
        self.change(|record| {
            record.edit(number, |generation| {
                generation.state = State::Failed;
                generation.progress = None;
            });
            if let Some(to) = generation.progress.as_ref().and_then(|progress| progress.to) {
                record.edit(to, |generation| generation.switched = Some(now));
            }
        })
    }

    // --- what they are made of ---

    /// Where is gone back to from a generation: what it came from, or else the newest that was not left by
    /// hand, or else the newest; confirmed in each case. One that is leaving has chosen already.
    pub(super) fn back_from(&self, number: u32) -> Option<u32> {
        let progress = self.record.generation(number)?.progress.as_ref();
        if let Some(to) = progress.and_then(|progress| progress.to) {
            return Some(to);
        }
        let from = progress.and_then(|progress| progress.from);
        let good =
            |generation: &&Generation| generation.state == State::Confirmed && generation.number != number;
        let came = from.filter(|from| self.record.generation(*from).as_ref().is_some_and(good));
        let newest = self.record.generations.iter().rfind(|generation| good(generation));
        came.or_else(|| self.newest_besides(&[number])).or(newest.map(|generation| generation.number))
    }

    /// The newest confirmed generation that was not left by hand, besides `those`.
    fn newest_besides(&self, those: &[u32]) -> Option<u32> {
        let found = self.record.generations.iter().rfind(|generation| {
            generation.state == State::Confirmed
                && !those.contains(&generation.number)
                && self.record.bad(&generation.content.digest).is_none()
        });
        found.map(|generation| generation.number)
    }

    /// Makes `number` current, and the newest good one besides it the previous one, in the order of `names`.
    fn set_links(&self, number: u32, names: [&str; 2]) -> Result<()> {
        let came = self.record.generation(number).and_then(|generation| generation.progress.as_ref()?.from);
        let good = |number: &u32| {
            self.record.generation(*number).is_some_and(|generation| {
                generation.state == State::Confirmed && self.record.bad(&generation.content.digest).is_none()
            })
        };
        let previous = came.filter(good).or_else(|| self.newest_besides(&[number]));
        for name in names {
            match if name == CURRENT { Some(number) } else { previous } {
                Some(number) => {
                    disk::link(&self.directory, name, &format!("{}/{number}", super::GENERATIONS))?
                }
                None => disk::unlink(&self.directory, name)?,
            }
        }
        Ok(())
    }

    /// Whether the board has been started since `generation` came into its state, with `number` current by then: so
    /// everything that runs was started from it.
    fn has_restarted_into(&self, number: u32, generation: &Generation, world: &dyn World) -> Result<bool> {
        let begun = generation.progress.as_ref().map(|progress| &progress.moment);
        let restarted = begun.is_some_and(|begun| world.moment().is_another_boot_than(begun));
        Ok(restarted && self.current()? == Some(number))
    }

    /// Counts one more run that begins with this state, durably; false where there were enough of them. `again`: what
    /// happens in this state counts from now.
    fn attempt(&mut self, generation: &Generation, again: bool, world: &dyn World) -> Result<bool> {
        let mut progress = generation.progress.clone().unwrap_or_default();
        if progress.attempts >= ATTEMPTS_MAX {
            return Ok(false);
        }
        progress.attempts += 1;
        if again {
            progress.moment = world.moment();
        }
        self.change(|record| {
            record.edit(generation.number, |generation| generation.progress = Some(progress));
        })?;
        Ok(true)
    }

    /// Runs one of the user's commands for the generation that is current; without one all is well.
    fn run(&self, task: Task, number: u32, world: &dyn World) -> Result<(), String> {
        let tracking = &self.record.tracking;
        let (what, command) = match task {
            Task::OnSwitch => ("the on-switch command", &tracking.on_switch),
            Task::Health => ("the health command", &tracking.health),
        };
        let (Some(command), Some(generation)) = (command, self.record.generation(number)) else {
            return Ok(());
        };
        let environment = Environment {
            name: self.name.clone(),
            generation: number,
            digest: generation.content.digest.to_string(),
            rootfs: self.directory.join(CURRENT).join("rootfs"),
            previous: self.previous().unwrap_or(None),
        };
        log::info!("{}: {what} for generation {number}: {command}", self.name);
        let limit = Duration::from_secs(tracking.health_timeout);
        world.run(task, command, &environment, limit).map_err(|why| format!("{what} {why}"))
    }

    fn no_such(&self, number: u32) -> Error {
        Error::new(Kind::NotFound, format!("{}: there is no generation {number}", self.name))
            .hint("edgepull status lists those that are kept")
    }
}
