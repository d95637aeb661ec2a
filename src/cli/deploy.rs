//! What `deploy` asks for, and how that goes together with what a deployment remembers.

use super::definition::Flag;
use super::{Options, Own, wrong};
use crate::error::Result;
use crate::image::reference::Reference;
use crate::store::deployment::Tracking;
use crate::trust::rollback::Monotonic;
use std::path::{Path, PathBuf};

/// The arguments of `deploy`.
#[derive(Debug)]
pub struct Deploy {
    /// Under what name.
    pub name: String,
    /// What to track; a local path is absolute.
    pub image: Reference,
    /// The same as the user wrote it, but for a local path.
    pub tracked: String,
    /// What is to be remembered anew.
    pub changes: Changes,
    /// `--pin-digest`.
    pub pin: bool,
}

/// Options that a deployment remembers. `None`: not given, so what was remembered stays; what can be taken
/// back is `Some(None)` then.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// `--keep`.
    pub keep: Option<u32>,
    /// `--health`; an empty one is none.
    pub health: Option<Option<String>>,
    /// `--health-timeout`, in seconds.
    pub health_timeout: Option<u64>,
    /// `--on-switch`; an empty one is none.
    pub on_switch: Option<Option<String>>,
    /// `--confirm-within`, in seconds; 0 is none.
    pub confirm_within: Option<Option<u64>>,
    /// `--variant`; `auto` is none.
    pub variant: Option<Option<String>>,
    /// `--platform`.
    pub platform: Option<String>,
    /// `--ca-file`, absolute; an empty one is none.
    pub ca_file: Option<Option<PathBuf>>,
    /// `--auth-file`, likewise.
    pub auth_file: Option<Option<PathBuf>>,
    /// `--hosts-dir`, likewise.
    pub hosts_dir: Option<Option<PathBuf>>,
    /// `--plain-http`.
    pub plain_http: bool,
    /// `--verifier`, absolute; an empty one is none.
    pub verifier: Option<Option<PathBuf>>,
    /// `--policy`, absolute; an empty one is none.
    pub policy: Option<Option<PathBuf>>,
    /// All `--verify-key`, absolute; an empty one is none.
    pub verify_keys: Option<Vec<PathBuf>>,
    /// `--monotonic`; an empty one is none.
    pub monotonic: Option<Option<Monotonic>>,
}

impl Changes {
    pub(super) fn new(own: Own, options: &Options, has: &dyn Fn(Flag) -> bool) -> Result<Changes> {
        let some = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
        let path = |flag, path: &Option<PathBuf>| -> Result<_> {
            let path = path.as_deref().map(absolute).transpose()?;
            Ok(has(flag).then_some(path))
        };
        Ok(Changes {
            keep: own.keep,
            health: some(own.health),
            health_timeout: own.health_timeout,
            on_switch: some(own.on_switch),
            confirm_within: own.confirm_within.map(|seconds| Some(seconds).filter(|seconds| *seconds > 0)),
            variant: has(Flag::Variant).then(|| options.variant.clone()),
            platform: options.platform.as_ref().map(|platform| platform.with_features(&options.os_features)),
            ca_file: path(Flag::CaFile, &options.ca_file)?,
            auth_file: path(Flag::AuthFile, &options.auth_file)?,
            hosts_dir: path(Flag::HostsDir, &options.hosts_dir)?,
            plain_http: options.plain_http,
            verifier: path(Flag::Verifier, &options.verifier)?,
            policy: path(Flag::Policy, &options.policy)?,
            verify_keys: match has(Flag::VerifyKey) {
                true => Some(options.verify_keys.iter().map(|key| absolute(key)).collect::<Result<_>>()?),
                false => None,
            },
            monotonic: own.monotonic,
        })
    }
}

impl Deploy {
    pub(super) fn new(name: String, text: String, changes: Changes, pin: bool) -> Result<Deploy> {
        let mut image: Reference = text.parse()?;
        let tracked = match &mut image {
            Reference::Registry(_) => text,
            Reference::Layout(local) | Reference::OciArchive(local) | Reference::DockerArchive(local) => {
                local.path = absolute(&local.path)?;
                image.to_string()
            }
        };
        // A colon in the working directory's path may be read as a tag's.
        match tracked.parse::<Reference>() {
            Ok(again) if again == image => Ok(Deploy { name, image, tracked, changes, pin }),
            _ => Err(wrong(format!("{tracked:?} cannot be tracked: its path is ambiguous"))),
        }
    }

    /// Checks that no option is idle in what the deployment tracks from now on.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`](crate::error::Kind::Usage) for a `--health-timeout` where there is no command.
    pub fn check(&self, next: &Tracking) -> Result<()> {
        match self.changes.health_timeout.is_some() && next.health.is_none() && next.on_switch.is_none() {
            true => {
                Err(wrong("deploy: --health-timeout does nothing without --health or --on-switch".into()))
            }
            false => Ok(()),
        }
    }

    /// What the deployment tracks from now on, given what it has tracked: options that were not given stay.
    /// `--variant` and `--platform` replace one another; `--ca-file`, `--auth-file` and `--plain-http` belong to a
    /// registry, and are forgotten with it. Nothing is pinned: that is for whoever resolves the image.
    pub fn tracking(&self, before: Option<&Tracking>) -> Tracking {
        let changes = &self.changes;
        let mut next = before.cloned().unwrap_or_default();
        if before.is_some_and(|before| registry(&before.image) != registry(&self.tracked)) {
            (next.ca_file, next.auth_file, next.plain_http) = (None, None, false);
        }
        next.image = self.tracked.clone();
        next.pin_digest = None;
        next.keep = changes.keep.unwrap_or(next.keep);
        next.health = changes.health.clone().unwrap_or(next.health);
        next.health_timeout = changes.health_timeout.unwrap_or(next.health_timeout);
        next.on_switch = changes.on_switch.clone().unwrap_or(next.on_switch);
        next.confirm_within = changes.confirm_within.unwrap_or(next.confirm_within);
        next.ca_file = changes.ca_file.clone().unwrap_or(next.ca_file);
        next.auth_file = changes.auth_file.clone().unwrap_or(next.auth_file);
        next.hosts_dir = changes.hosts_dir.clone().unwrap_or(next.hosts_dir);
        next.plain_http |= changes.plain_http;
        next.verifier = changes.verifier.clone().unwrap_or(next.verifier);
        // These stay, whatever the registry: nobody asked for less to be demanded.
        next.policy = changes.policy.clone().unwrap_or(next.policy);
        next.verify_keys = changes.verify_keys.clone().unwrap_or(next.verify_keys);
        next.monotonic = changes.monotonic.unwrap_or(next.monotonic);
        if changes.variant.is_some() || changes.platform.is_some() {
            next.variant = changes.variant.clone().flatten();
            next.platform = changes.platform.clone();
        }
        next
    }
}

/// The registry of an image; `None` for a local one.
fn registry(image: &str) -> Option<String> {
    match image.parse() {
        Ok(Reference::Registry(registry)) => Some(registry.host),
        _ => None,
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use std::ffi::OsString;

    fn deploy(words: &[&str]) -> Deploy {
        let line = ["deploy", "app"].iter().chain(words).map(OsString::from);
        match parse(line).unwrap().command {
            Command::Deploy(deploy) => *deploy,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_given_stays_and_what_is_empty_goes() {
        let first = deploy(&[
            "r.example/app:1",
            "--health=curl -f localhost",
            "--keep=3",
            "--confirm-within=600",
            "--health-timeout=5",
            "--on-switch=systemctl restart app",
            "--ca-file=/ca.pem",
            "--auth-file=/auth.json",
            "--hosts-dir=/certs.d",
            "--variant=v6",
            "--pin-digest",
        ]);
        assert!(first.pin);
        let first = first.tracking(None);
        assert_eq!((first.image.as_str(), first.keep), ("r.example/app:1", 3));
        assert_eq!(first.health.as_deref(), Some("curl -f localhost"));
        assert_eq!((first.health_timeout, first.confirm_within), (5, Some(600)));
        let second = deploy(&["r.example/app:2"]).tracking(Some(&first));
        assert_eq!(second, Tracking { image: "r.example/app:2".into(), ..first.clone() });
        let third =
            deploy(&["r.example/app:2", "--health=", "--confirm-within=0", "--ca-file=", "--auth-file="]);
        let third = third.tracking(Some(&second));
        assert_eq!((&third.health, third.confirm_within, &third.ca_file), (&None, None, &None));
        assert_eq!((&third.auth_file, third.hosts_dir.as_deref()), (&None, Some(Path::new("/certs.d"))));
        assert_eq!((third.keep, third.on_switch), (3, first.on_switch.clone()));
        // Another registry has other certificates.
        let moved = deploy(&["other.example/app:2"]).tracking(Some(&first));
        assert_eq!((moved.ca_file, moved.auth_file, moved.keep), (None, None, 3));
        assert_eq!(moved.hosts_dir.as_deref(), Some(Path::new("/certs.d")), "it is for all hosts");
        let platform = deploy(&["r.example/app:2", "--platform=linux/arm/v7"]).tracking(Some(&first));
        assert_eq!((platform.variant, platform.platform.as_deref()), (None, Some("linux/arm/v7")));
        let gpu = deploy(&["r.example/app:2", "--platform=linux(+gpu)/arm64"]).tracking(None);
        assert_eq!(gpu.platform.as_deref(), Some("linux(+gpu)/arm64/v8"), "updates need its features, too");
        assert_eq!(deploy(&["r.example/app", "--variant=auto"]).tracking(Some(&first)).variant, None);
    }

    #[test]
    fn a_time_for_commands_needs_one() {
        let timed = deploy(&["a", "--health-timeout=5"]);
        let refusal = timed.check(&timed.tracking(None)).unwrap_err();
        assert!(refusal.to_string().contains("--health-timeout does nothing without --health"), "{refusal}");
        for command in ["--health=true", "--on-switch=true"] {
            let before = deploy(&["a", command]).tracking(None);
            assert!(timed.check(&timed.tracking(Some(&before))).is_ok(), "what is remembered counts");
            let at_once = deploy(&["a", command, "--health-timeout=5"]);
            assert!(at_once.check(&at_once.tracking(None)).is_ok());
            let back = deploy(&["a", command.split_inclusive('=').next().unwrap(), "--health-timeout=5"]);
            assert!(back.check(&back.tracking(Some(&before))).is_err());
        }
        assert!(deploy(&["a"]).check(&timed.tracking(None)).is_ok());
    }

    #[test]
    fn what_is_demanded_stays_until_it_is_taken_back() {
        let here = std::env::current_dir().unwrap();
        let demanded = ["r.example/app", "--policy=p.json", "--verify-key=/a.pub", "--verify-key=b.pub"];
        let first = deploy(&[&demanded[..], &["--monotonic=created"]].concat()).tracking(None);
        assert_eq!(first.policy, Some(here.join("p.json")));
        assert_eq!(first.verify_keys, [PathBuf::from("/a.pub"), here.join("b.pub")]);
        assert_eq!(first.monotonic, Some(Monotonic::Created));
        let moved = deploy(&["other.example/app"]).tracking(Some(&first));
        assert_eq!((&moved.policy, &moved.verify_keys), (&first.policy, &first.verify_keys));
        assert_eq!(moved.monotonic, first.monotonic);
        let rotated = deploy(&["r.example/app", "--verify-key=/c.pub"]).tracking(Some(&first));
        assert_eq!(rotated.verify_keys, [PathBuf::from("/c.pub")]);
        let freed = deploy(&["r.example/app", "--policy=", "--verify-key=", "--monotonic="]);
        let freed = freed.tracking(Some(&first));
        assert_eq!((freed.policy, freed.verify_keys.len(), freed.monotonic), (None, 0, None));
    }

    #[test]
    fn paths_are_tracked_wherever_edgepull_is_run_later() {
        let here = std::env::current_dir().unwrap();
        let deploy = deploy(&["oci:stick/layout:1", "--ca-file=ca.pem", "--hosts-dir=d"]);
        assert_eq!(deploy.tracking(None).hosts_dir, Some(here.join("d")));
        assert_eq!(deploy.tracked, format!("oci:{}/stick/layout:1", here.display()));
        assert_eq!(deploy.tracking(None).ca_file, Some(here.join("ca.pem")));
    }
}
