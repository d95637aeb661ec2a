//! A root file system for a look: unpacked as a pull does it, and gone afterwards.
//!
//! It is in a directory of its own (mkdtemp(3)) in `$TMPDIR` or /tmp, which nobody else can enter, and is removed with
//! all that is in it when it is dropped, whatever came of the work. Only what ends a process at once leaves it there.

use super::layers::{Layers, name};
use super::staging::Staging;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::layer::rootfs;
use crate::links;
use crate::sys;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directory's name; mkdtemp(3) makes something else of the last six letters each time.
const TEMPLATE: &str = "edgepull-XXXXXX";
/// The name in it of what a pull would make.
const IMAGE: &str = "image";
/// The root's name in that.
const ROOT: &str = "rootfs";

/// One image's root file system at a time, and its layers.
pub struct Temporary {
    // Before its home, which has to be empty to go.
    staging: Staging,
    _home: Home,
}

impl Temporary {
    /// Makes the directory.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if others could put another directory in its place, and [`Kind::Disk`] if it cannot be
    /// made.
    pub fn new() -> Result<Temporary> {
        let named = std::env::temp_dir();
        let directory = if named.as_os_str().is_empty() { Path::new("/tmp") } else { &named };
        Temporary::within(&links::resolve(directory)?)
    }

    fn within(directory: &Path) -> Result<Temporary> {
        let failed = |error| Error::disk(directory.display(), error);
        if let Some(who) = sys::entries_moved_by_others(&fs::metadata(directory).map_err(failed)?) {
            let message = format!("others could replace what is checked in {}: {who}", directory.display());
            return Err(Error::new(Kind::Usage, message).hint(
                "TMPDIR has to name a directory of your own, or one with the sticky bit, as /tmp has",
            ));
        }
        let made = nix::unistd::mkdtemp(&directory.join(TEMPLATE));
        let home = Home(made.map_err(|error| Error::disk(directory.display(), error.into()))?);
        let mut staging = Staging::begin(&home.0.join(IMAGE), false)?;
        // Nobody goes on from there.
        staging.discard();
        Ok(Temporary { staging, _home: home })
    }

    /// Returns the directory that all of this is in, which exists. Whoever fills it writes nowhere else.
    pub fn directory(&self) -> PathBuf {
        self.staging.work()
    }

    /// The layers that are here. Those that the `next` image does not have go first, with the root before, which has links
    /// to their files: the disk has to hold one image.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn layers(&self, next: &[Digest]) -> Result<Layers> {
        self.clear()?;
        let layers = self.staging.layers()?;
        let wanted: Vec<String> = next.iter().map(name).collect();
        layers.retain(&|there| wanted.iter().any(|wanted| wanted == there))?;
        Ok(layers)
    }

    /// An empty root and a scratch directory beside it; the root before is gone.
    ///
    /// # Errors
    /// [`crate::error::Kind::Disk`].
    pub fn root(&self) -> Result<(OwnedFd, OwnedFd)> {
        self.clear()?;
        Ok((self.staging.open(ROOT)?, self.staging.open_scratch()?))
    }

    /// By its name, and not from within: an image may have made a root that its owner cannot read.
    fn clear(&self) -> Result<()> {
        let tree = self.staging.open("")?;
        rootfs::remove(tree.as_fd(), ROOT.as_bytes())
            .map_err(|error| Error::disk(self.directory().display(), error))
    }
}

/// A directory that goes when it is dropped.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            log::warn!("{} stays: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_can_enter_it_and_nothing_of_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let two = [Temporary::within(place.path()).unwrap(), Temporary::within(place.path()).unwrap()];
        let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        for name in &names {
            assert_eq!(fs::metadata(name).unwrap().permissions().mode() & 0o777, 0o700);
        }
        two[0].root().unwrap();
        let tree = two[0].directory().join("tree");
        fs::create_dir(tree.join("rootfs/a")).unwrap();
        two[0].root().unwrap();
        assert_eq!(fs::read_dir(tree.join("rootfs")).unwrap().count(), 0, "the image before is gone");
        fs::create_dir(tree.join("rootfs/a")).unwrap();
        two[0].layers(&[Digest([1; 32])]).unwrap();
        assert!(!tree.join("rootfs").exists(), "and so are the links to its layers' files");
        two[0].root().unwrap();
        fs::create_dir(tree.join("rootfs/a")).unwrap();
        drop(two);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        // Whoever may rename it there decides what is checked; the sticky bit keeps others from it.
        for (mode, refused) in [(0o777, true), (0o720, true), (0o1777, false), (0o755, false)] {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            let error = Temporary::within(place.path()).err().map(|error| error.kind());
            assert_eq!(error, refused.then_some(Kind::Usage), "{mode:o}");
        }
        let absent = place.path().join("absent");
        let error = Temporary::within(&absent).err().unwrap();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn only_the_layers_of_the_next_image_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let temporary = Temporary::within(place.path()).unwrap();
        let digests = [Digest([1; 32]), Digest([2; 32])];
        let layers = temporary.layers(&digests).unwrap();
        for digest in &digests {
            fs::create_dir(layers.whole().join(name(digest))).unwrap();
        }
        let layers = temporary.layers(&digests[1..]).unwrap();
        let left: Vec<_> =
            fs::read_dir(layers.whole()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [name(&digests[1]).as_str()]);
        drop(temporary);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nor does a layer stay");
    }
}
