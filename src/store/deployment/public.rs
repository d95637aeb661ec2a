//! Keeps `STATE/status/NAME`, which tells every user of the board about a deployment, as JSON. It is a copy for
//! `edgepull status` and for whoever watches the board; it decides nothing that edgepull does.
//!
//! It leaves out what else the record remembers: commands, credentials' files, policies and keys; and the reasons of
//! failures, because they quote commands. It is written after each change of the record, but not made durable by
//! itself: after a power cut it may be older than the record, or missing, until the next run.

use super::record::{Record, Tracking};
use super::{Deployment, check_name};
use crate::error::{Error, Kind, Result};
use crate::store::{disk, state};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Limits the file that is read, in bytes, like the record itself, most of which it repeats.
const PUBLIC_MAX: u64 = super::record::RECORD_MAX;

/// Stands in the place of a failure's reason.
const WITHHELD: &str = "root can see why";

/// Describes a deployment to every user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// Holds the record with `WITHHELD` as each reason; of the tracking it keeps only the image, the number of kept
    /// generations, and the pinned digest.
    pub record: Record,
    /// Holds the number of the generation that `current` names.
    pub current: Option<u32>,
    /// Holds the number of the generation that `previous` names.
    pub previous: Option<u32>,
}

impl Public {
    fn of(deployment: &Deployment) -> Public {
        let all = &deployment.record;
        let tracking = Tracking {
            image: all.tracking.image.clone(),
            keep: all.tracking.keep,
            pin_digest: all.tracking.pin_digest,
            ..Tracking::default()
        };
        let mut record = all.clone();
        record.tracking = tracking;
        // Commands are quoted in them.
        for reason in record.generations.iter_mut().filter_map(|generation| generation.reason.as_mut()) {
            *reason = WITHHELD.into();
        }
        for bad in &mut record.bad {
            bad.reason = WITHHELD.into();
        }
        Public {
            record,
            current: deployment.current().unwrap_or(None),
            previous: deployment.previous().unwrap_or(None),
        }
    }

    /// Reads the file of the deployment `name` of `state`. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if `name` is no deployment's name, and [`Kind::Disk`] if the file cannot be read or is
    /// damaged.
    pub fn load(state: &Path, name: &str) -> Result<Option<Public>> {
        check_name(name)?;
        let path = state::status(state).join(name);
        let failed = |error| Error::disk(path.display(), error);
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is no file")));
        }
        let mut bytes = Vec::new();
        file.take(PUBLIC_MAX).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let message = format!("{}: it is damaged ({error})", path.display());
            Error::new(Kind::Disk, message)
                .hint("edgepull update writes it anew; root sees the record itself")
        })
    }

    /// Returns the names of all deployments that have such a file, sorted.
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] if the directory cannot be read.
    pub fn names(state: &Path) -> Result<Vec<String>> {
        let directory = state::status(state);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| Error::disk(directory.display(), error))?,
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| check_name(name).is_ok());
        names.sort();
        Ok(names)
    }
}

impl Deployment {
    /// Writes the deployment's file, unless the same is there already. A failure is no error, because going back has
    /// to work on a full disk, too.
    pub(super) fn publish(&self) {
        let published = || {
            let bytes = serde_json::to_vec(&Public::of(self)).map_err(io::Error::other)?;
            let directory = &self.public;
            let path = directory.join(&self.name);
            if disk::read(&path, PUBLIC_MAX).is_ok_and(|there| there == bytes) {
                return Ok(());
            }
            state::make(directory, state::PUBLIC)?;
            // No deployment's name begins with a dot.
            let new = directory.join(format!(".{}", self.name));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&new)?;
            file.write_all(&bytes)
                // Whatever the umask.
                .and_then(|()| file.set_permissions(fs::Permissions::from_mode(0o644)))
                .and_then(|()| fs::rename(&new, &path))
                .inspect_err(|_| drop(fs::remove_file(&new)))
        };
        if let Err(error) = published() {
            log::info!("{}: {error}", self.public.join(&self.name).display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::deployment::Deployments;
    use std::path::PathBuf;

    #[test]
    fn everybody_may_know_the_image_and_nobody_the_commands() {
        let home = tempfile::tempdir().unwrap();
        let deployments = Deployments::open(home.path()).unwrap();
        let tracking = Tracking {
            image: "r.example/app".into(),
            keep: 3,
            health: Some("curl -u admin:secret localhost".into()),
            on_switch: Some("secret".into()),
            auth_file: Some(PathBuf::from("/secret")),
            ..Tracking::default()
        };
        let mut deployment = deployments.create("app", tracking).unwrap();
        let path = home.path().join("status/app");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("r.example/app") && !text.contains("secret"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(Public::names(home.path()).unwrap(), ["app"]);

        deployment.track(Tracking { image: "r.example/other".into(), ..Tracking::default() }).unwrap();
        let public = Public::load(home.path(), "app").unwrap().unwrap();
        assert_eq!(public.record.tracking.image, "r.example/other");
        assert_eq!(fs::read_dir(home.path().join("status")).unwrap().count(), 1);
        fs::write(&path, "{").unwrap();
        let error = Public::load(home.path(), "app").unwrap_err().to_string();
        assert!(error.contains("status/app") && error.contains("edgepull update"), "{error}");
    }

    #[test]
    fn a_change_of_the_record_does_not_fail_with_it() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("status"), "in the way").unwrap();
        let deployments = Deployments::open(home.path()).unwrap();
        let mut deployment = deployments.create("app", Tracking::default()).unwrap();
        deployment.track(Tracking { keep: 7, ..Tracking::default() }).unwrap();
        assert_eq!(deployments.existing("app").unwrap().record().tracking.keep, 7);
    }
}
