//! `STATE/deployments/NAME/record`: what is tracked, how, and what became of each generation. JSON, for people
//! and scripts read it, too; fields that this version does not know are ignored.
//!
//! A record can always be written. Everything that a publisher has a say in is limited in its length ([`Text`]) and
//! its number: generations ([`KEEP_MAX`]), refused digests (`BAD_MAX`), and layers, which are in files of their own
//! ([`LayerList`]). With all of that at its most, and the user's own words at their most (`TRACKING_MAX`), it is
//! smaller than `RECORD_MAX`. Version 1 had the layers in it, and reasons of any length, so that it could be full; it
//! is read, and written as version 2.

use super::layer_list::LayerList;
use super::text::Text;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::store::disk;
use crate::sys;
use crate::trust::rollback::{Age, Monotonic};
use serde::{Deserialize, Deserializer, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The file's name.
pub(super) const NAME: &str = "record";
/// Says what a user can do about a record that cannot be used.
pub(super) const UNUSABLE: &str =
    "what is current stays usable; move the deployment's directory away and deploy it again";
/// Numbers the version of the record that this edgepull writes.
const VERSION: u32 = 2;
/// Numbers the older version that it reads, too, in which layers are part of the record, and reasons of any length.
const VERSION_WITH_LAYERS: u32 = 1;
/// Limits the record, in bytes. All of it but the tracking takes less than half of that, whatever happens.
pub(super) const RECORD_MAX: u64 = 512 * 1024;
/// Limits what the user's own words take in the record, in bytes of JSON; no record of version 1 has more.
pub(super) const TRACKING_MAX: usize = 256 * 1024;
/// How many refused digests are remembered.
pub(super) const BAD_MAX: usize = 8;
/// Limits how many generations are kept.
pub const KEEP_MAX: u32 = 16;
/// Limits a reason, in bytes.
const REASON_MAX: usize = 1024;
/// Limits a platform's name, in bytes.
const PLATFORM_MAX: usize = 256;
/// Limits a boot's id, in bytes; the kernel's has 36.
const BOOT_MAX: usize = 64;

/// Tells people why something is not good.
pub type Reason = Text<REASON_MAX>;
/// Tells people which platform an image is for.
pub type PlatformName = Text<PLATFORM_MAX>;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// What is tracked, and the options that are remembered.
    pub tracking: Tracking,
    /// The next generation's number; none is ever used twice.
    pub next: u32,
    /// Oldest first. Each has its tree below `generations`.
    pub generations: Vec<Generation>,
    /// What is not to be tried again by itself; the newest last.
    #[serde(default)]
    pub bad: Vec<Bad>,
}

/// What a deployment follows, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracking {
    /// As the user wrote it, but for a relative path, which was made absolute.
    pub image: String,
    /// Counts the generations that are kept, the current one included: from 1 to [`KEEP_MAX`].
    pub keep: u32,
    /// The health command.
    #[serde(deserialize_with = "by_type")]
    pub health: Option<String>,
    /// How long health and on-switch commands may take, in seconds.
    pub health_timeout: u64,
    /// The on-switch command.
    #[serde(deserialize_with = "by_type")]
    pub on_switch: Option<String>,
    /// A new generation has to be confirmed by hand within so many seconds.
    #[serde(deserialize_with = "by_type")]
    pub confirm_within: Option<u64>,
    /// What the image's name stood for when it was pinned: it is not asked again.
    pub pin_digest: Option<Digest>,
    /// `--variant`.
    #[serde(deserialize_with = "by_type")]
    pub variant: Option<String>,
    /// `--platform`.
    #[serde(deserialize_with = "by_type")]
    pub platform: Option<String>,
    /// `--ca-file`, absolute.
    #[serde(deserialize_with = "by_type")]
    pub ca_file: Option<PathBuf>,
    /// `--auth-file`, absolute.
    #[serde(deserialize_with = "by_type")]
    pub auth_file: Option<PathBuf>,
    /// `--hosts-dir`, absolute.
    #[serde(deserialize_with = "by_type")]
    pub hosts_dir: Option<PathBuf>,
    /// `--plain-http`.
    pub plain_http: bool,
    /// `--verifier`, absolute.
    #[serde(deserialize_with = "by_type")]
    pub verifier: Option<PathBuf>,
    /// `--policy`, absolute.
    #[serde(deserialize_with = "by_type")]
    pub policy: Option<PathBuf>,
    /// `--verify-key`, absolute.
    pub verify_keys: Vec<PathBuf>,
    /// `--monotonic`.
    pub monotonic: Option<Monotonic>,
}

/// Reads a field by its type, in one function for all fields of a type: they were 10 KB of code one by one.
#[inline(never)]
fn by_type<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    T::deserialize(from)
}

impl Default for Tracking {
    fn default() -> Tracking {
        Tracking {
            image: String::new(),
            keep: 2,
            health: None,
            health_timeout: 60,
            on_switch: None,
            confirm_within: None,
            pin_digest: None,
            variant: None,
            platform: None,
            ca_file: None,
            auth_file: None,
            hosts_dir: None,
            plain_http: false,
            verifier: None,
            policy: None,
            verify_keys: Vec::new(),
            monotonic: None,
        }
    }
}

impl Tracking {
    /// Refuses tracking that takes more than `TRACKING_MAX` bytes in the record.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if it takes more.
    pub(super) fn check(&self) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::new(Kind::Other, error.to_string()))?;
        if bytes.len() <= TRACKING_MAX {
            return Ok(());
        }
        let message = format!(
            "the image's name and the options to remember take {} bytes, of at most {TRACKING_MAX} (TRACKING_MAX)",
            bytes.len()
        );
        Err(Error::new(Kind::Usage, message).hint("put a long command into a script, and name that"))
    }
}

/// What has become of a generation; the table in [`super`] has the ways from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its tree is whole and durable; nobody has switched to it.
    Staged,
    /// The links may be old or new, and the on-switch command is owed.
    Switching,
    /// It is current, and has still to be found healthy, or to be confirmed by hand.
    Trial,
    /// It was found good; it can be gone back to.
    Confirmed,
    /// It is being gone back from: the links may be old or new, and the on-switch command is owed.
    Leaving,
    /// It was not found good. It is current only where there was nothing to go back to.
    Failed,
}

impl State {
    /// As in the record.
    pub fn name(self) -> &'static str {
        match self {
            State::Staged => "staged",
            State::Switching => "switching",
            State::Trial => "trial",
            State::Confirmed => "confirmed",
            State::Leaving => "leaving",
            State::Failed => "failed",
        }
    }

    /// On its way: at most one generation of a deployment is.
    pub fn is_active(self) -> bool {
        matches!(self, State::Switching | State::Trial | State::Leaving)
    }
}

/// What a new generation is made of: what [`super::Deployment::stage`] is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What the image's name stood for: an index or a manifest.
    #[serde(deserialize_with = "by_type")]
    pub root_digest: Digest,
    /// The manifest that was taken.
    #[serde(deserialize_with = "by_type")]
    pub digest: Digest,
    /// Its platform.
    pub platform: PlatformName,
    /// Lists its layers.
    pub layers: LayerList,
    /// The layers' tar files, in bytes.
    #[serde(default, deserialize_with = "by_type")]
    pub image_bytes: u64,
    /// What of that was written to the disk for this generation, in bytes.
    #[serde(default, deserialize_with = "by_type")]
    pub written_bytes: u64,
    /// What of it was fetched by the run that has staged it, compressed, in bytes.
    #[serde(default, deserialize_with = "by_type")]
    pub fetched_bytes: u64,
    /// Members of all layers.
    #[serde(default, deserialize_with = "by_type")]
    pub entries: u64,
    /// That of the bundle's `config.json`.
    #[serde(default, deserialize_with = "by_type")]
    pub config_digest: Option<Digest>,
    /// What the image says of its age, whether or not that counts for anything.
    #[serde(default)]
    pub age: Age,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, and its directory's name.
    #[serde(deserialize_with = "by_type")]
    pub number: u32,
    /// What it is made of.
    pub content: Content,
    /// When it was staged, by the board's clock, in seconds since 1970.
    #[serde(deserialize_with = "by_type")]
    pub created: u64,
    /// When it last became current, by the board's clock, in seconds since 1970.
    #[serde(default, deserialize_with = "by_type")]
    pub switched: Option<u64>,
    /// What has become of it.
    pub state: State,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// While it is on its way.
    #[serde(default)]
    pub progress: Option<Progress>,
}

impl Generation {
    /// It is switched to from `now` on.
    pub(super) fn switches(&mut self, now: u64, progress: Progress) {
        self.state = State::Switching;
        self.reason = None;
        self.switched = Some(now);
        self.progress = Some(progress);
    }

    /// Another one takes its place, for this reason.
    pub(super) fn fails(&mut self, reason: impl Into<Reason>) {
        self.state = State::Failed;
        self.reason = Some(reason.into());
        self.progress = None;
    }
}

/// How far a generation on its way is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Which one was current before.
    #[serde(deserialize_with = "by_type")]
    pub from: Option<u32>,
    /// Which one is gone back to.
    #[serde(deserialize_with = "by_type")]
    pub to: Option<u32>,
    /// How many times a run has begun what this state asks for.
    #[serde(deserialize_with = "by_type")]
    pub attempts: u32,
    /// Nothing but a confirmation by hand is missing.
    pub healthy: bool,
    /// It has to be confirmed by hand within so many seconds from `moment`.
    #[serde(deserialize_with = "by_type")]
    pub confirm_within: Option<u64>,
    /// When this state began.
    pub moment: Moment,
}

impl Progress {
    /// The seconds that are left to confirm by hand, 0 where that is not needed; or why there are none.
    ///
    /// # Errors
    /// That, in words.
    pub fn time_left(&self, now: &Moment) -> Result<u64, String> {
        let Some(within) = self.confirm_within else { return Ok(0) };
        if now.is_another_boot_than(&self.moment) {
            return Err("the board has restarted before it was confirmed".into());
        }
        let passed = now.second.saturating_sub(self.moment.second);
        match within.checked_sub(passed) {
            Some(left @ 1..) => Ok(left),
            _ => Err(format!("nobody confirmed it within {within} s")),
        }
    }
}

/// A time that no clock that is set can falsify.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moment {
    /// Which boot, by the kernel's boot_id; `None` without `/proc`.
    pub boot: Option<Text<BOOT_MAX>>,
    /// Seconds since that boot, time asleep included.
    #[serde(deserialize_with = "by_type")]
    pub second: u64,
}

impl Moment {
    /// This one.
    pub fn now() -> Moment {
        Moment { boot: sys::boot_id().map(Text::from), second: sys::seconds_since_boot() }
    }

    /// Whether the board was started anew since `earlier`. Without boot ids, only less time than then tells.
    pub fn is_another_boot_than(&self, earlier: &Moment) -> bool {
        match (&self.boot, &earlier.boot) {
            (Some(now), Some(then)) => now != then,
            _ => self.second < earlier.second,
        }
    }
}

/// A manifest that is not to be tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// The manifest's digest.
    #[serde(deserialize_with = "by_type")]
    pub digest: Digest,
    /// What the image's name stood for.
    #[serde(default, deserialize_with = "by_type")]
    pub root_digest: Option<Digest>,
    /// The generation that had it; `None` where the image was refused before it was one.
    #[serde(default, deserialize_with = "by_type")]
    pub generation: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// When, by the board's clock, in seconds since 1970.
    #[serde(deserialize_with = "by_type")]
    pub when: u64,
}

impl Record {
    /// That of a deployment which has no generation yet.
    pub(super) fn new(tracking: Tracking) -> Record {
        Record { version: VERSION, tracking, next: 1, generations: Vec::new(), bad: Vec::new() }
    }

    /// The generation of this number.
    pub fn generation(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }

    /// The generation that is on its way, if one is.
    pub fn active(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.state.is_active())
    }

    /// The newest generation that nobody has switched to: an update that was cut short may go on with it.
    pub fn staged(&self) -> Option<&Generation> {
        self.generations.iter().rfind(|generation| generation.state == State::Staged)
    }

    /// Why a manifest is not to be tried again; `digest` is its own, or that of what the image's name stands for.
    pub fn bad(&self, digest: &Digest) -> Option<&Bad> {
        self.bad.iter().find(|bad| bad.digest == *digest || bad.root_digest == Some(*digest))
    }

    /// Does nothing where there is no such generation: callers have looked.
    pub(super) fn edit(&mut self, number: u32, edit: impl FnOnce(&mut Generation)) {
        if let Some(generation) = self.generations.iter_mut().find(|generation| generation.number == number) {
            edit(generation);
        }
    }

    /// Not to be tried again.
    pub(super) fn refuse(&mut self, bad: Bad) {
        self.forgive(&bad.digest);
        // The oldest goes first.
        self.bad.push(bad);
        let excess = self.bad.len().saturating_sub(BAD_MAX);
        self.bad.drain(..excess);
    }

    /// The generation's manifest is not to be tried again.
    pub(super) fn refuse_generation(&mut self, number: u32, reason: &str, when: u64) {
        if let Some(Content { digest, root_digest, .. }) = self.generation(number).map(|one| &one.content) {
            let (digest, root_digest) = (*digest, Some(*root_digest));
            let reason = reason.into();
            self.refuse(Bad { digest, root_digest, generation: Some(number), reason, when });
        }
    }

    /// The manifest may be tried again.
    pub(super) fn forgive(&mut self, digest: &Digest) {
        self.bad.retain(|bad| bad.digest != *digest);
    }

    /// Reads the record of a deployment's directory; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Disk`], also for a damaged one.
    pub(super) fn load(directory: &Path) -> Result<Option<Record>> {
        let path = directory.join(NAME);
        let unusable =
            |why: &str| Error::new(Kind::Disk, format!("{}: {why}", path.display())).hint(UNUSABLE);
        match disk::read(&path, RECORD_MAX) {
            Ok(bytes) => parse(&bytes).map(Some).map_err(|why| unusable(&why)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(unusable("the record is no file, or larger than RECORD_MAX"))
            }
            Err(error) => Err(Error::disk(path.display(), error)),
        }
    }

    pub(super) fn save(&self, directory: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::new(Kind::Other, error.to_string()))?;
        if bytes.len() as u64 >= RECORD_MAX {
            // No way leads here: a record that cannot be read is the one thing that must not be written.
            let message = format!("{}: the record would exceed RECORD_MAX", directory.display());
            return Err(Error::new(Kind::Disk, message));
        }
        disk::replace(directory, NAME, &[&bytes[..], b"\n"].concat(), disk::PRIVATE)
    }
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |error: serde_json::Error| format!("the record is damaged ({error})");
    match serde_json::from_slice(bytes).map_err(damaged)? {
        Version { version: VERSION | VERSION_WITH_LAYERS } => {}
        Version { version } => return Err(format!("the record is version {version}, of another edgepull")),
    }
    let read: Record = serde_json::from_slice(bytes).map_err(damaged)?;
    let mut record = Record { version: VERSION, ..read };
    record.bad.drain(..record.bad.len().saturating_sub(BAD_MAX));
    let rising = record.generations.windows(2).all(|pair| pair[0].number < pair[1].number);
    let below = record.generations.last().is_none_or(|last| last.number < record.next);
    let one = record.generations.iter().filter(|generation| generation.state.is_active()).count() <= 1;
    match rising && below && one {
        true => Ok(record),
        false => Err("the record is damaged (its generations contradict each other)".into()),
    }
}
