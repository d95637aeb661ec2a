//! Layers that are kept, by diff-id: each once, however many images have it.
//!
//! ```text
//! HOME/layers/sha256/HEX    a whole layer
//! HOME/partial/sha256/HEX   one that is on its way, with its checkpoints
//! ```
//!
//! A layer is in the first directory only when all of it is verified and durable: data → `syncfs` → rename
//! → `fsync` of both parents. Files of the image are in there with the image's modes, so nobody but the
//! owner can enter. Whoever calls holds the lock of what these directories belong to.

use super::disk::open_directory;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::layer::rootfs::{self, Rootfs};
use crate::layer::{self, Kept, Layer, Observer, Opener, Stats};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat, umask};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directories' names in their home.
pub const LAYERS: &str = "layers";
/// See [`LAYERS`].
pub const PARTIAL: &str = "partial";
/// The only digest algorithm there is.
const ALGORITHM: &str = "sha256";
/// How deep a tree is that is counted: each level costs an open directory, and up to 32 KiB for its entries.
const USAGE_DEPTH_MAX: u32 = 64;
/// Limits how many layers are compared with the needed ones at once, which takes 128 KiB of diff-ids.
const BATCH: usize = 4096;

/// The kept layers of one home.
#[derive(Debug)]
pub struct Layers {
    whole: Place,
    partial: Place,
}

/// Locates one of the two directories.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Holds the directory itself, open, in a process that cannot write to it by its path
    /// ([`crate::sandbox::Line::open`]).
    given: Option<OwnedFd>,
}

impl Place {
    fn open(&self) -> io::Result<OwnedFd> {
        match &self.given {
            Some(given) => given.try_clone(),
            None => open_directory(&self.path).map(OwnedFd::from),
        }
    }

    /// Opens the directory `name` in it.
    fn inside(&self, name: &str) -> io::Result<OwnedFd> {
        match &self.given {
            Some(given) => {
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                Ok(openat(given, name, flags, Mode::empty())?)
            }
            None => open_directory(&self.path.join(name)).map(OwnedFd::from),
        }
    }
}

impl Layers {
    /// Those in `home`; the directories are made where they are missing.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn open(home: &Path) -> Result<Layers> {
        let directory = |name: &str| {
            let path = home.join(name).join(ALGORITHM);
            match fs::DirBuilder::new().mode(0o700).recursive(true).create(&path) {
                Ok(()) => Ok(Place { path, given: None }),
                Err(error) => Err(Error::disk(path.display(), error)),
            }
        };
        Ok(Layers { whole: directory(LAYERS)?, partial: directory(PARTIAL)? })
    }

    /// Returns the same layers for a process that cannot write to them by their paths: it uses `whole` and `partial`,
    /// the same directories, open.
    pub fn given(&self, whole: OwnedFd, partial: OwnedFd) -> Layers {
        let given = |place: &Place, given| Place { path: place.path.clone(), given: Some(given) };
        Layers { whole: given(&self.whole, whole), partial: given(&self.partial, partial) }
    }

    /// Those in `home`, if there are any: nothing is made.
    pub fn existing(home: &Path) -> Option<Layers> {
        let place = |name: &str| Place { path: home.join(name).join(ALGORITHM), given: None };
        let (whole, partial) = (place(LAYERS), place(PARTIAL));
        fs::read_dir(&whole.path).is_ok().then_some(Layers { whole, partial })
    }

    /// Where whole layers are.
    pub fn whole(&self) -> &Path {
        &self.whole.path
    }

    /// Where layers are that are on their way.
    pub fn partial(&self) -> &Path {
        &self.partial.path
    }

    /// What a whole layer takes on the disk, in bytes, whoever else has links to its files.
    pub fn size(&self, diff_id: &Digest) -> u64 {
        usage(&self.whole.path.join(name(diff_id)), &|_| true, USAGE_DEPTH_MAX)
    }

    /// The layer with this diff-id, if it is here and whole.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn get(&self, diff_id: &Digest) -> Result<Option<Kept>> {
        match self.whole.inside(&name(diff_id)) {
            Ok(directory) => Kept::open(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Fills an empty `root` with layers that are here and whole, the lowest first. `scratch` is an empty directory
    /// beside it.
    ///
    /// # Errors
    /// As [`Kept::apply`], with the layer's place; [`Kind::Disk`] where one is not here.
    pub fn compose(&self, diff_ids: &[Digest], root: OwnedFd, scratch: OwnedFd) -> Result<rootfs::Summary> {
        // Unpacking keeps every mode as it is in the image; what is done afterwards did not ask for that.
        let before = umask(Mode::empty());
        let composed = self.fill(diff_ids, root, scratch);
        umask(before);
        composed
    }

    fn fill(&self, diff_ids: &[Digest], root: OwnedFd, scratch: OwnedFd) -> Result<rootfs::Summary> {
        let mut rootfs = Rootfs::open(root, scratch, rootfs::Options::default())?;
        for (at, diff_id) in diff_ids.iter().enumerate() {
            let gone = || Error::new(Kind::Disk, "it is not here, or its record is damaged");
            let applied = self.get(diff_id)?.ok_or_else(gone).and_then(|kept| kept.apply(&mut rootfs));
            applied.map_err(|error| error.context(format_args!("layer {}/{}", at + 1, diff_ids.len())))?;
        }
        rootfs.finish()
    }

    /// How many bytes of the wire of a layer that is not here need not be fetched again.
    pub fn spared(&self, layer: &Layer<'_>) -> u64 {
        let directory = self.partial.inside(&name(&Digest(layer.diff_id)));
        directory.map_or(0, |directory| layer::spared(directory.as_fd(), layer))
    }

    /// Fetches a layer, or the rest of it. Afterwards it is here, whole and durable.
    ///
    /// # Errors
    /// As [`layer::fetch`].
    pub fn fetch(
        &self,
        layer: &Layer<'_>,
        options: &layer::Options,
        open: &mut Opener<'_>,
        observer: &dyn Observer,
    ) -> Result<Stats> {
        let name = name(&Digest(layer.diff_id));
        let home = self.partial.open().map_err(|error| self.failed(error))?;
        match mkdirat(&home, name.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(self.failed(error.into())),
        }
        let directory = self.partial.inside(&name).map_err(|error| self.failed(error))?;
        let again = directory.try_clone().map_err(|error| self.failed(error))?;
        let stats = layer::fetch(layer, again, options, open, observer).inspect_err(|_| {
            // Without a checkpoint the next fetch starts over: what is there only takes room.
            if layer::spared(directory.as_fd(), layer) == 0 {
                let _ = rootfs::remove(home.as_fd(), name.as_bytes());
            }
        })?;
        self.publish(&name, directory).map_err(|error| self.failed(error))?;
        Ok(stats)
    }

    /// Makes a layer that came whole one of the kept ones.
    fn publish(&self, name: &str, directory: OwnedFd) -> io::Result<()> {
        sys::sync_file_system(directory.as_fd())?;
        let (whole, partial) = (self.whole.open()?, self.partial.open()?);
        // One that was there and is damaged, or it would not have been fetched.
        rootfs::remove(whole.as_fd(), name.as_bytes())?;
        renameat(&partial, name, &whole, name)?;
        File::from(whole).sync_all()?;
        File::from(partial).sync_all()?;
        // Not before: until here the layer would have to start over without them.
        layer::forget_checkpoints(directory.as_fd())
    }

    /// The room where they are kept, in bytes: free, and all of it.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn room(&self) -> Result<(u64, u64)> {
        sys::room(&self.whole.path).map_err(|error| self.failed(error))
    }

    /// Hands each layer, whole or on its way, that nobody needs to `each`, by its directory and its name there; and
    /// every entry that is no layer. `strike` takes the needed ones out of a sorted list, which has at most `BATCH`
    /// layers, however many there are.
    ///
    /// # Errors
    /// Returns [`crate::error::Kind::Disk`] if a directory cannot be read, and the errors of `strike` and `each`.
    pub fn each_unneeded(
        &self,
        strike: &mut dyn FnMut(&mut Vec<Digest>) -> Result<()>,
        each: &mut dyn FnMut(&Path, &str) -> Result<()>,
    ) -> Result<()> {
        for home in [&self.whole.path, &self.partial.path] {
            let failed = |error| Error::disk(home.display(), error);
            let mut entries = fs::read_dir(home).map_err(failed)?.peekable();
            while entries.peek().is_some() {
                let mut batch = Vec::new();
                for entry in entries.by_ref().take(BATCH) {
                    let entry = entry.map_err(failed)?.file_name();
                    let entry = entry.to_string_lossy();
                    match format!("{ALGORITHM}:{entry}").parse() {
                        Ok(diff_id) => batch.push(diff_id),
                        // Not one of ours.
                        Err(_) => each(home, &entry)?,
                    }
                }
                batch.sort_unstable();
                strike(&mut batch)?;
                batch.iter().try_for_each(|diff_id| each(home, &name(diff_id)))?;
            }
        }
        Ok(())
    }

    /// Removes a layer, whole or on its way: `home` is the directory that it is in.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn remove(&self, home: &Path, name: &str) -> Result<()> {
        log::info!("layer {name} is no longer needed");
        let removed = open_directory(home).and_then(|home| rootfs::remove(home.as_fd(), name.as_bytes()));
        removed.map_err(|error| self.failed(error))
    }

    /// Calls `each` with the directory and the name (a diff-id in hexadecimal) of every layer, whole or on its way.
    fn each(&self, mut each: impl FnMut(&Path, &str) -> Result<()>) -> Result<()> {
        for home in [&self.whole.path, &self.partial.path] {
            for entry in fs::read_dir(home).map_err(|error| Error::disk(home.display(), error))? {
                let entry = entry.map_err(|error| Error::disk(home.display(), error))?;
                each(home, &entry.file_name().to_string_lossy())?;
            }
        }
        Ok(())
    }

    /// Removes every layer that `wanted` does not name, by its diff-id in hexadecimal.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn retain(&self, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        self.each(|home, name| if wanted(name) { Ok(()) } else { self.remove(home, name) })
    }

    /// Whether there is none, not even a part of one.
    pub fn is_empty(&self) -> bool {
        let empty = |path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        empty(&self.whole.path) && empty(&self.partial.path)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::disk(self.whole.path.display(), error)
    }
}

/// A layer's directory: its diff-id in hexadecimal.
pub fn name(diff_id: &Digest) -> String {
    diff_id.hex().to_string()
}

/// What the files below `path` take on the disk and nobody else has a name for, in bytes. What cannot be read
/// counts nothing, nor does what is deeper than 64 levels (`USAGE_DEPTH_MAX`).
pub fn disk_usage(path: &Path) -> u64 {
    usage(path, &|metadata| metadata.nlink() == 1, USAGE_DEPTH_MAX)
}

fn usage(path: &Path, counts: &dyn Fn(&fs::Metadata) -> bool, depth: u32) -> u64 {
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => usage(&entry.path(), counts, depth) + metadata.blocks() * 512,
        Ok(metadata) if counts(&metadata) => metadata.blocks() * 512,
        _ => 0,
    });
    each.sum()
}
