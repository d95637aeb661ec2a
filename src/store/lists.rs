//! Lists of images that somebody is putting together: `manifest create`, `annotate`, and in the end `push`.
//!
//! A list is one JSON file, named after the list, which is replaced in one step. What is in it was looked up when an
//! image was added; its manifests are fetched again, by their digests, when the list is pushed.

use super::disk;
use super::lock::StateLock;
use super::state;
use crate::error::{Error, Kind, Result};
use crate::image::compose::Entry;
use crate::image::reference::RegistryReference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest such file, in bytes: 1024 entries with as much as an entry may say.
const LIST_MAX: u64 = 8 << 20;

/// An image of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its whole name.
    pub name: String,
    /// What becomes of it: one entry, or those of a list.
    pub entries: Vec<Entry>,
}

/// A list that is being put together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Its own annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its images.
    pub images: Vec<Image>,
}

/// All lists of a user.
#[derive(Debug)]
pub struct Lists {
    directory: PathBuf,
}

impl Lists {
    /// Those in `state`; `None`: in the directory that the XDG Base Directory Specification gives to a user's state.
    ///
    /// # Errors
    /// [`Kind::Usage`] where nobody says which directory that is.
    pub fn of(state: Option<&Path>) -> Result<Lists> {
        let own = || {
            let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let home = || absolute("HOME").map(|home| home.join(".local/state"));
            absolute("XDG_STATE_HOME").or_else(home).map(|home| home.join("edgepull"))
        };
        let state = state.map(Path::to_owned).or_else(own).ok_or_else(|| {
            let message = "there is no place for lists: neither $XDG_STATE_HOME nor $HOME says where";
            Error::new(Kind::Usage, message).hint("--state-dir DIR")
        })?;
        Ok(Lists { directory: state.join("lists") })
    }

    /// Nobody else changes a list as long as the lock lives; `what` is what waits for it: `manifest create`.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn lock(&self, what: &str) -> Result<StateLock> {
        StateLock::take(&self.directory, true, what)
    }

    /// Reads a list; its images are in the order of docker's files for them. Returns `None` if there is no such list.
    ///
    /// # Errors
    /// [`Kind::Disk`], also for a file that is damaged.
    pub fn get(&self, list: &RegistryReference) -> Result<Option<Draft>> {
        let path = self.directory.join(file(list));
        let bytes = match disk::read(&path, LIST_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::disk(path.display(), error)),
        };
        // Version 0.1.0 wrote the images alone.
        let read = match bytes.first() {
            Some(b'[') => serde_json::from_slice(&bytes).map(|images| Draft { images, ..Draft::default() }),
            _ => serde_json::from_slice(&bytes),
        };
        read.map(Some).map_err(|error| {
            Error::new(Kind::Disk, format!("{}: not a list as edgepull writes it: {error}", path.display()))
                .hint("manifest rm forgets it")
        })
    }

    /// As [`Lists::get`], for a list that has to be there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is not; those of [`Lists::get`].
    pub fn existing(&self, list: &RegistryReference) -> Result<Draft> {
        self.get(list)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no list {list} here"))
                .hint(format!("manifest create {list} IMAGE… makes it"))
        })
    }

    /// Keeps the list durably.
    ///
    /// # Errors
    /// [`Kind::Disk`]; [`Kind::Usage`] for a list that is too large.
    pub fn put(&self, list: &RegistryReference, mut draft: Draft) -> Result<()> {
        draft.images.sort_by_cached_key(|image| file_safe(&image.name));
        let bytes = serde_json::to_vec(&draft).expect("strings and numbers only");
        if bytes.len() as u64 > LIST_MAX {
            let message = format!("{list} would be too large (limit LIST_MAX, 8 MiB)");
            return Err(Error::new(Kind::Usage, message)
                .hint("it is as it was; add fewer images, or such with fewer annotations"));
        }
        state::ensure(&self.directory)?;
        disk::replace(&self.directory, &file(list), &bytes, disk::PRIVATE)
    }

    /// Forgets a list; whether there was one.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn remove(&self, list: &RegistryReference) -> Result<bool> {
        let path = self.directory.join(file(list));
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            _ => disk::unlink(&self.directory, &file(list)).map(|()| true),
        }
    }
}

/// A name as docker calls its file, by which it orders the entries of a list.
fn file_safe(name: &str) -> String {
    name.replace(':', "-").replace('/', "_")
}

/// The file of a list. Two names have two files: what docker maps to one letter is written by its number.
fn file(list: &RegistryReference) -> String {
    let mut file = String::new();
    for letter in list.to_string().chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => file.push(letter),
            other => {
                let _ = write!(file, "%{:02x}", u32::from(other));
            }
        }
    }
    file + ".json"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Reference;

    fn list(name: &str) -> RegistryReference {
        match name.parse().unwrap() {
            Reference::Registry(list) => list,
            other => panic!("{other}"),
        }
    }

    fn draft(names: &[&str]) -> Draft {
        let image = |name: &&str| Image { name: (*name).into(), entries: Vec::new() };
        Draft { images: names.iter().map(image).collect(), ..Draft::default() }
    }

    #[test]
    fn lists_are_kept_one_by_one_and_their_images_in_docker_s_order() {
        let home = tempfile::tempdir().unwrap();
        let lists = Lists::of(Some(&home.path().join("deep/state"))).unwrap();
        let (one, other) = (list("h:1/a/b:c"), list("h:1/a-b:c"));
        assert_eq!(lists.get(&one).unwrap(), None);
        assert!(lists.existing(&one).unwrap_err().to_string().contains("manifest create h:1/a/b:c IMAGE"));
        assert!(!lists.remove(&one).unwrap());
        lists.put(&one, draft(&["h:1/b:x", "h:1/b-a:x", "h:1/a:x"])).unwrap();
        lists.put(&other, draft(&["h:1/z:1"])).unwrap();
        let names: Vec<String> =
            lists.existing(&one).unwrap().images.into_iter().map(|image| image.name).collect();
        // `-` comes before the `_` of a slash and after nothing.
        assert_eq!(names, ["h:1/a:x", "h:1/b-a:x", "h:1/b:x"]);
        assert!(lists.remove(&one).unwrap());
        assert_eq!(lists.get(&one).unwrap(), None);
        assert_eq!(lists.existing(&other).unwrap(), draft(&["h:1/z:1"]));
    }

    #[test]
    fn a_list_of_version_0_1_0_is_gone_on_with() {
        let home = tempfile::tempdir().unwrap();
        let lists = Lists::of(Some(home.path())).unwrap();
        let name = list("h:1/a");
        lists.put(&name, Draft::default()).unwrap();
        let path = home.path().join("lists").join(file(&name));
        std::fs::write(&path, br#"[{"name":"h:1/b:x","entries":[]}]"#).unwrap();
        assert_eq!(lists.existing(&name).unwrap(), draft(&["h:1/b:x"]));
    }

    #[test]
    fn a_damaged_list_says_so_and_can_be_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let lists = Lists::of(Some(home.path())).unwrap();
        let name = list("h:1/a");
        lists.put(&name, draft(&["h:1/b:x"])).unwrap();
        let path = home.path().join("lists").join(file(&name));
        std::fs::write(&path, b"[{\"name\":1}]").unwrap();
        let error = lists.get(&name).unwrap_err();
        assert!(error.kind() == Kind::Disk && error.to_string().contains("manifest rm"), "{error}");
        assert!(lists.remove(&name).unwrap() && !path.exists());
    }
}
