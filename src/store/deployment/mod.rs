//! Deployments: what is current, what was before, and how one becomes the other.
//!
//! ```text
//! STATE/deployments/NAME/record              what is tracked, and what became of each generation
//! STATE/deployments/NAME/generations/N/      a whole tree, as it was staged
//! STATE/deployments/NAME/generations/N/layers  what it was composed of
//! STATE/deployments/NAME/current             -> generations/N
//! STATE/deployments/NAME/previous            -> generations/M, which was found good: `rollback` goes there
//! STATE/deployments/NAME/work/               where a tree is composed, by a process that can write only here
//! STATE/deployments/NAME/pending             what is being fetched
//! STATE/status/NAME                          what every user may know of it
//! ```
//!
//! # The generations' states
//!
//! | state | event | next |
//! |---|---|---|
//! | – | a composed tree gets its place and is recorded | staged |
//! | any | activate, rollback to it | switching |
//! | switching | links set, on-switch done; nothing to wait for | confirmed |
//! | switching | links set, on-switch done; a health command, or to be confirmed by hand | trial |
//! | switching, trial | a command fails, or runs out of time or attempts | leaving, or failed |
//! | trial | health command succeeds | confirmed, or on trial until confirmed by hand |
//! | trial | confirmed by hand in time | confirmed |
//! | trial, to be confirmed by hand | the time is over, or the board has restarted | leaving, or failed |
//! | switching, trial | rolled back by hand | leaving |
//! | switching, trial | another one is activated | failed |
//! | leaving | links set back, on-switch done | failed |
//! | failed, and current | confirmed by hand | confirmed |
//! | any, current, and damaged | the same was composed anew | failed; the new one switching |
//!
//! A generation without a confirmed one to go back to is never leaving, but failed at once, and stays current: a
//! board with an image that may be ill is better off than one without any.
//!
//! # What is on disk between
//!
//! At most one generation is switching, on trial or leaving; the record says so before a link changes, and
//! says what comes next only when that is durable. Every run begins with [`Deployment::recover`], which looks for
//! that generation and goes on by the same functions as if nothing had happened:
//!
//! | record | links after a cut | then |
//! |---|---|---|
//! | N not in it, tree there | old | cut in staging or pruning: the tree goes |
//! | N staged | old | nothing; an update may activate it |
//! | N switching | `previous`, then `current`: old or new | both are set, on-switch runs, trial |
//! | N trial | new | the health command runs |
//! | N leaving | `current`, then `previous`: old or new | both are set, on-switch runs, failed |
//!
//! So `current` always names a whole generation: the one before, or the one that is on its way.
//!
//! # What counts
//!
//! - *Commands may run more than once*, for a run may be killed between a command's end and the record of
//!   it. A command that kills its edgepull, or brings the board down, is tried [`ATTEMPTS_MAX`] times: each
//!   attempt is durable before it begins.
//! - *A restart of the board does what an on-switch command is for*, if the links were set before: then it is not
//!   run again, so it may itself be `reboot`.
//! - *Confirmed by hand in time* is measured by the clock that counts from boot, as the time of day jumps on
//!   boards that start in 1970; a new boot id means that the board has restarted since the trial began, and so that
//!   the time is over.
//! - *Who goes back when nobody calls?* The next edgepull that works on this deployment: the update timer's, or the
//!   one at boot. Nothing runs between.
//! - *Going back* leads to the generation that was current before, if that was confirmed; else to the newest
//!   confirmed one. Its health is not asked again. `previous` then names the newest confirmed one besides, or is gone;
//!   it never names one that failed, or was left by hand.
//! - *What failed is not tried again by itself*: its manifest's digest is remembered ([`Record::bad`]) until it
//!   is found good after all (`rollback --to`, `confirm`, a deploy that forgives it), or eight others have failed since.

mod command;
mod layer_list;
mod machine;
mod pending;
mod public;
mod record;
mod text;
#[cfg(test)]
mod tests {
    //! Tests the states one after another, a kill after every step of every way between them, and records that hold
    //! as much as they ever may.
    mod cuts;
    mod full;
    pub(in crate::store) mod home;
    mod states;
}

pub use command::{Board, Environment, Task, World, succeeded};
pub use layer_list::LayerList;
pub use machine::{ATTEMPTS_MAX, Outcome};
pub use pending::{Missing, Pending};
pub use public::Public;
pub use record::{
    Bad, Content, Generation, KEEP_MAX, Moment, PlatformName, Progress, Reason, Record, State, Tracking,
};
pub use text::Text;

#[cfg(test)]
pub(super) use tests::home::step;

use super::{access, disk, state};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::layer::rootfs::{self, Summary};
use crate::store::layers::Layers;
use crate::sys;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const GENERATIONS: &str = "generations";
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
const WORK: &str = "work";
/// In it: the tree, and what composing needs beside it.
const STAGING: &str = "staging";
const SCRATCH: &str = "scratch";
/// In each tree: the root file system.
const ROOT: &str = "rootfs";
/// The longest name: with a prefix and a suffix it is still a unit's name, and a file's.
const NAME_MAX: usize = 64;

/// Returns whether a deployment is there, even with an unusable record. One with neither a record nor a generation
/// was cut off while it was made, and does not count.
fn is_there(deployment: &Path) -> bool {
    let has_generations = || fs::read_dir(generations(deployment)).is_ok_and(|mut all| all.next().is_some());
    fs::symlink_metadata(deployment.join(record::NAME)).is_ok() || has_generations()
}

/// Returns the directory of a deployment's generations, each of which is named by its number.
pub fn generations(deployment: &Path) -> PathBuf {
    deployment.join(GENERATIONS)
}

/// Checks a deployment's name: letters, digits, `_`, `.` and `-`, the first a letter or digit. Such a name is a
/// file's, and a systemd instance's without escapes.
///
/// # Errors
/// [`Kind::Usage`].
pub fn check_name(name: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= NAME_MAX && name.bytes().all(known) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_MAX).collect();
    Err(Error::new(Kind::Usage, format!("{shown:?} is no name for a deployment"))
        .hint("64 letters, digits, '_', '.' and '-' at most, the first a letter or a digit"))
}

/// All deployments of a state directory.
#[derive(Debug, Clone)]
pub struct Deployments {
    state: PathBuf,
}

impl Deployments {
    /// Those of `state`; nothing has to be there.
    ///
    /// # Errors
    /// [`Kind::Disk`] where a relative path leads nowhere.
    pub fn open(state: &Path) -> Result<Deployments> {
        let state = std::path::absolute(state).map_err(|error| Error::disk(state.display(), error))?;
        Ok(Deployments { state })
    }

    /// The deployments' names, sorted.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn names(&self) -> Result<Vec<String>> {
        let directory = state::deployments(&self.state);
        let listed = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&directory)? {
                let Ok(name) = entry?.file_name().into_string() else { continue };
                if check_name(&name).is_ok() && is_there(&directory.join(&name)) {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        match listed() {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::disk(directory.display(), error).hint("name a deployment, or run as root"))
            }
            other => other.map_err(|error| Error::disk(directory.display(), error)),
        }
    }

    /// The deployment `name`; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Usage`] for no name; [`Kind::Disk`], also for a damaged record.
    pub fn load(&self, name: &str) -> Result<Option<Deployment>> {
        check_name(name)?;
        let directory = state::deployment(&self.state, name);
        for below in [&directory, &generations(&directory), &directory.join(WORK)] {
            access::check_writers(below)?;
        }
        match Record::load(&directory)? {
            Some(record) => Ok(Some(self.deployment(name, directory, record))),
            None if is_there(&directory) => {
                let message = format!("{}: the record is gone", directory.display());
                Err(Error::new(Kind::Disk, message).hint(record::UNUSABLE))
            }
            None => Ok(None),
        }
    }

    /// The deployment `name`, which has to be there.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and those of [`Deployments::load`].
    pub fn existing(&self, name: &str) -> Result<Deployment> {
        self.load(name)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no deployment {name} in {}", self.state.display()))
                .hint("edgepull deploy makes one")
        })
    }

    /// A new deployment, without a generation.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if `name` is no deployment's name, `tracking` takes more than the record has room for,
    /// or the state directory is behind another user's link; [`Kind::Other`] if the deployment exists; [`Kind::Disk`]
    /// if it cannot be written.
    pub fn create(&self, name: &str, tracking: Tracking) -> Result<Deployment> {
        tracking.check()?;
        if self.load(name)?.is_some() {
            return Err(Error::new(Kind::Other, format!("there is a deployment {name} already")));
        }
        let directory = state::deployment(&self.state, name);
        state::ensure(&self.state)?;
        let (all, generations, work) =
            (state::deployments(&self.state), generations(&directory), directory.join(WORK));
        for path in [&all, &directory, &generations, &work] {
            state::make(path, state::PRIVATE)?;
        }
        let record = Record::new(tracking);
        record.save(&directory)?;
        let deployment = self.deployment(name, directory, record);
        deployment.publish();
        Ok(deployment)
    }

    fn deployment(&self, name: &str, directory: PathBuf, record: Record) -> Deployment {
        let (public, trash) = (state::status(&self.state), state::trash(&self.state));
        Deployment { name: name.to_owned(), directory, public, trash, record }
    }
}

/// One deployment. Whoever changes it holds the [`super::lock::StateLock`]; after an error it is loaded again.
#[derive(Debug, Clone)]
pub struct Deployment {
    name: String,
    directory: PathBuf,
    /// Holds the path of `STATE/status`, the directory of what every user may know.
    public: PathBuf,
    trash: PathBuf,
    record: Record,
}

impl Deployment {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `STATE/deployments/NAME`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory beneath which everything is done that has to do with what was fetched. It is there.
    pub fn work(&self) -> PathBuf {
        self.directory.join(WORK)
    }

    /// Opens the work directory ([`Deployment::work`]).
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] if it cannot be opened.
    pub fn open_work(&self) -> Result<OwnedFd> {
        let opened = fs::File::open(self.work()).map(OwnedFd::from);
        opened.map_err(|error| Error::disk(self.directory.display(), error))
    }

    /// Where a tree is composed: on the file system of the generations.
    pub fn staging(&self) -> PathBuf {
        self.work().join(STAGING)
    }

    /// What is recorded.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the directory of its generations.
    pub fn generations(&self) -> PathBuf {
        generations(&self.directory)
    }

    /// A generation's tree: `rootfs` and `config.json` are in it.
    pub fn tree(&self, number: u32) -> PathBuf {
        self.generations().join(number.to_string())
    }

    /// Returns the diff-ids of a generation's layers, the lowest first.
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] if their file cannot be read, or is not the one that was recorded.
    pub fn layers(&self, generation: &Generation) -> Result<Vec<Digest>> {
        generation.content.layers.read(&self.tree(generation.number))
    }

    /// The tree that `current` names; `None` before the first.
    ///
    /// # Errors
    /// [`Kind::Disk`], also where the link is not one of ours.
    pub fn current_tree(&self) -> Result<Option<PathBuf>> {
        Ok(self.current()?.map(|number| self.tree(number)))
    }

    /// The number of the generation that `current` names; `None` before the first.
    ///
    /// # Errors
    /// As [`Deployment::current_tree`].
    pub fn current(&self) -> Result<Option<u32>> {
        self.linked(CURRENT)
    }

    /// The number of the generation that `previous` names.
    ///
    /// # Errors
    /// As [`Deployment::current_tree`].
    pub fn previous(&self) -> Result<Option<u32>> {
        self.linked(PREVIOUS)
    }

    fn linked(&self, name: &str) -> Result<Option<u32>> {
        let path = self.directory.join(name);
        let target = match fs::read_link(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::disk(path.display(), error))?,
        };
        let number = target.to_str().and_then(|target| target.strip_prefix("generations/")?.parse().ok());
        match number.filter(|number| self.record.generation(*number).is_some()) {
            Some(number) => Ok(Some(number)),
            None => {
                let message =
                    format!("{} leads to {}, which is no generation", path.display(), target.display());
                Err(Error::new(Kind::Disk, message)
                    .hint("somebody else has changed it: make it lead to one of generations/"))
            }
        }
    }

    /// Remembers what is tracked from now on; writes nothing where it is the same.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if `tracking` takes more than the record has room for, and [`Kind::Disk`] if the
    /// record cannot be written.
    pub fn track(&mut self, tracking: Tracking) -> Result<()> {
        if self.record.tracking == tracking {
            return Ok(());
        }
        tracking.check()?;
        self.change(|record| record.tracking = tracking)
    }

    /// What the image's name stands for has changed, but not what this board takes of it, which a generation has.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn resolved(&mut self, number: u32, root: Digest) -> Result<()> {
        let known = self.record.generation(number).is_none_or(|one| one.content.root_digest == root);
        if known {
            return Ok(());
        }
        self.change(|record| record.edit(number, |generation| generation.content.root_digest = root))
    }

    /// An image that cannot be one is not to be tried again by itself.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn refuse(&mut self, bad: Bad) -> Result<()> {
        self.change(|record| record.refuse(bad))
    }

    /// The manifest may be tried again, as the user says so.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn forgive(&mut self, digest: &Digest) -> Result<()> {
        if self.record.bad(digest).is_none() {
            return Ok(());
        }
        self.change(|record| record.forgive(digest))
    }

    /// Changes the record on disk, then here: what could not be written, is not so.
    fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut next = self.record.clone();
        change(&mut next);
        // Those of version 1 have their layers in the record until now.
        for generation in &mut next.generations {
            generation.content.layers.write(&self.tree(generation.number))?;
        }
        next.save(&self.directory)?;
        self.record = next;
        self.publish();
        Ok(())
    }

    /// Generations that nothing needs: what failed, and what is beyond `keep`. Never the current one, the
    /// previous one (unless `keep` is 1), those that a generation on its way came from or goes to, the newest
    /// one that is staged, and those newer than the current one, which were left by hand.
    ///
    /// # Errors
    /// As [`Deployment::current_tree`].
    pub fn removable(&self) -> Result<Vec<u32>> {
        let (current, previous) = (self.current()?, self.previous()?);
        let active = self.record.active();
        let progress = active.and_then(|generation| generation.progress.as_ref());
        let mut needed: Vec<u32> = current.into_iter().collect();
        needed.extend(active.map(|generation| generation.number));
        needed.extend(progress.and_then(|progress| progress.from));
        needed.extend(active.and_then(|generation| self.back_from(generation.number)));
        needed.extend(previous.filter(|_| self.record.tracking.keep > 1 || active.is_some()));
        let newer = |number| current.is_none_or(|current| number > current);
        needed.extend(self.record.staged().map(|staged| staged.number).filter(|number| newer(*number)));
        // The current one is the first that is kept, whatever its state.
        let mut room = (self.record.tracking.keep.min(KEEP_MAX) as usize).saturating_sub(1);
        let mut removable = Vec::new();
        for generation in self.record.generations.iter().rev() {
            let (number, confirmed) = (generation.number, generation.state == State::Confirmed);
            let good = confirmed && self.record.bad(&generation.content.digest).is_none();
            let counts = good && Some(number) != current && room > 0;
            room -= usize::from(counts);
            let left_by_hand = confirmed && newer(number);
            if !(counts || left_by_hand || needed.contains(&number)) {
                removable.push(number);
            }
        }
        removable.reverse();
        Ok(removable)
    }

    /// Removes what is [removable](Deployment::removable), and says which that was.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn prune(&mut self) -> Result<Vec<u32>> {
        let removable = self.removable()?;
        if removable.is_empty() {
            return Ok(removable);
        }
        if self.previous()?.is_some_and(|previous| removable.contains(&previous)) {
            disk::unlink(&self.directory, PREVIOUS)?;
        }
        self.change(|record| {
            record.generations.retain(|generation| !removable.contains(&generation.number));
        })?;
        self.sweep()?;
        Ok(removable)
    }

    /// Puts the tree in `staging`, which has `content`, in the place of a generation's that is not current. `false`
    /// where this kernel or file system cannot swap the two.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn renew(&mut self, number: u32, mut content: Content) -> Result<bool> {
        let (new, old) = (self.staging(), self.tree(number));
        disk::check_directory(&new).map_err(|error| Error::disk(new.display(), error))?;
        content.layers.write(&new)?;
        match sys::rename_exchange(&new, &old) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                return Ok(false);
            }
            Err(error) => return Err(Error::disk(old.display(), error)),
        }
        for parent in [&self.work(), &self.generations()] {
            state::sync(parent).map_err(|error| Error::disk(parent.display(), error))?;
        }
        self.change(|record| record.edit(number, |generation| generation.content = content))?;
        self.clear_staging()?;
        Ok(true)
    }

    /// A generation that is not current goes.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn drop_generation(&mut self, number: u32) -> Result<()> {
        if self.previous()? == Some(number) {
            disk::unlink(&self.directory, PREVIOUS)?;
        }
        self.change(|record| record.generations.retain(|generation| generation.number != number))?;
        self.sweep()
    }

    /// Composes a root of `layers`, the lowest first, in the staging directory. Returns it, open. `work` is
    /// [`Deployment::work`], open: the process that does this cannot write there by its path.
    ///
    /// # Errors
    /// As [`Layers::compose`].
    pub fn compose(
        &self,
        work: &OwnedFd,
        layers: &Layers,
        diff_ids: &[Digest],
    ) -> Result<(OwnedFd, Summary)> {
        let failed = |error| Error::disk(self.directory.display(), error);
        clear(work.as_fd()).map_err(failed)?;
        let made = || {
            let tree = state::make_at(work, STAGING, state::PRIVATE)?;
            let root = state::make_at(&tree, ROOT, state::PUBLIC)?;
            Ok((root, state::make_at(work, SCRATCH, state::PRIVATE)?))
        };
        let (root, scratch) = made().map_err(failed)?;
        let again = root.try_clone().map_err(failed)?;
        let summary = layers.compose(diff_ids, again, scratch)?;
        unlinkat(work, SCRATCH, UnlinkatFlags::RemoveDir).map_err(|error| failed(error.into()))?;
        Ok((root, summary))
    }

    /// Makes what an interrupted run has begun to compose go away.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn clear_staging(&self) -> Result<()> {
        let cleared = fs::File::open(self.work()).and_then(|directory| clear(directory.as_fd()));
        cleared.map_err(|error| Error::disk(self.directory.display(), error))
    }

    /// Removes trees that the record does not name, and what is in the trash.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn sweep(&self) -> Result<()> {
        let directory = self.generations();
        let failed = |error| Error::disk(directory.display(), error);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            if number.is_none_or(|number| self.record.generation(number).is_none()) {
                let aside = format!("{}.{}", self.name, name.to_string_lossy());
                disk::discard(&directory.join(&name), &self.trash, &aside)?;
            }
        }
        disk::empty(&self.trash)
    }
}

/// Removes from a work directory the tree that is composed there, and its scratch directory.
fn clear(work: BorrowedFd<'_>) -> io::Result<()> {
    rootfs::remove(work, STAGING.as_bytes())?;
    rootfs::remove(work, SCRATCH.as_bytes())
}
