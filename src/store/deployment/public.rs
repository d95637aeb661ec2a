//! `STATE/status/NAME`: what every user of the board may know of a deployment, as JSON. It is a copy for `edgepull status`
//! and for whoever watches the board; nothing that edgepull does is decided by it.
//!
//! It leaves out what the record remembers besides: commands, credentials' files, policies and keys, and why something failed,
//! as commands are quoted in that. It follows each
//! change of the record, but is not made durable by itself: a cut may leave it behind the record, or without it, until the
//! next run.

use super::record::{Record, Tracking};
use super::{Deployment, check_name};
use crate::error::{Error, Kind, Result};
use crate::store::{disk, state};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The largest file that is read, in bytes: a record is smaller ([`Record`]), and this is part of one.
const PUBLIC_MAX: u64 = super::record::RECORD_MAX;

/// Stands for the reason of a failure.
const WITHHELD: &str = "root can see why";

/// A deployment as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// The record: of what is tracked only the image, the number of generations that are kept, and the pinned digest.
    pub record: Record,
    /// The generation that `current` names.
    pub current: Option<u32>,
    /// The generation that `previous` names.
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

    /// Reads what everybody may know of the deployment `name` of `state`; `None` where there is nothing.
    ///
    /// # Errors
    /// [`Kind::Usage`] for no name; [`Kind::Disk`].
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

    /// The names that [`Public::load`] knows, sorted.
    ///
    /// # Errors
    /// [`Kind::Disk`].
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
    /// Writes what everybody may know of this deployment, unless that is there already. That it cannot be written is no
    /// reason to fail: going back works on a full disk.
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
