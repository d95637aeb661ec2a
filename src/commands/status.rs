//! `edgepull status`: what is current, what was before, and what it has cost. It takes no lock, so it says how
//! things are while an update runs, too. Users who may not read the records see what everybody may know ([`Public`]).

use super::report::{Report, bytes};
use crate::cli::Options;
use crate::clock::date::Utc;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::store::deployment::{
    Deployment, Deployments, Generation, Missing, Moment, Pending, Public, Record, Tracking, generations,
};
use crate::store::layers::{Layers, disk_usage};
use crate::store::state;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub fn run(name: Option<&str>, options: &Options, report: &Report) -> Result<()> {
    let state = &options.state_dir;
    let deployments = Deployments::open(state)?;
    // Other users than the owner see what is for everybody.
    let everybody = fs::read_dir(state::deployments(state))
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let names = match (name, everybody) {
        (Some(name), _) => vec![name.to_owned()],
        (None, false) => deployments.names()?,
        (None, true) => Public::names(state)?,
    };
    if names.is_empty() && everybody {
        let message = format!("{} says nothing to other users yet", state.display());
        return Err(Error::new(Kind::NotFound, message).hint("run as root, or after the next update"));
    }
    if names.is_empty() && !options.json {
        return report.text(format_args!("no deployments in {}", state.display()));
    }
    for name in names {
        let seen = match everybody {
            false => Seen::of(&deployments.existing(&name)?, state)?,
            true => Seen::by_everybody(&name, state)?,
        };
        match options.json {
            true => report.json(&seen.object(&Moment::now()))?,
            false => report.text(seen.table(&Moment::now()))?,
        }
    }
    Ok(())
}

/// Holds of a deployment what the user who asks may see.
struct Seen {
    name: String,
    record: Record,
    /// Is set if `record` is the deployment's own, and not the part of it that everybody may know.
    whole: bool,
    current: Option<u32>,
    previous: Option<u32>,
    /// Names the directory of the deployment's generations.
    generations: PathBuf,
    /// Holds what is begun to be fetched, and how many bytes of it are still to be fetched, as compressed.
    pending: Option<(Pending, u64)>,
    /// Counts the bytes that it takes on the disk.
    disk: Option<u64>,
}

impl Seen {
    fn of(deployment: &Deployment, state: &Path) -> Result<Seen> {
        let pending = Pending::load(deployment).map(|pending| {
            let lacks = lacking(&pending, state);
            (pending, lacks)
        });
        Ok(Seen {
            name: deployment.name().to_owned(),
            record: deployment.record().clone(),
            whole: true,
            current: deployment.current()?,
            previous: deployment.previous()?,
            generations: deployment.generations(),
            pending,
            disk: disk(deployment, state),
        })
    }

    fn by_everybody(name: &str, state: &Path) -> Result<Seen> {
        let public = Public::load(state, name)?.ok_or_else(|| {
            let message = format!("there is nothing about {name} in {}", state::status(state).display());
            Error::new(Kind::NotFound, message).hint("root sees all deployments")
        })?;
        let Public { record, current, previous } = public;
        let generations = generations(&state::deployment(state, name));
        Ok(Seen {
            name: name.to_owned(),
            record,
            whole: false,
            current,
            previous,
            generations,
            pending: None,
            disk: None,
        })
    }

    /// Makes text for people: what is tracked, then a line for each generation, the newest first.
    fn table(&self, now: &Moment) -> String {
        let record = &self.record;
        let mut text = format!("{}: {}{}", self.name, record.tracking.image, options(&record.tracking));
        if record.generations.is_empty() {
            text.push_str("\n  nothing is current yet");
        }
        for generation in record.generations.iter().rev() {
            let number = Some(generation.number);
            let place = match () {
                () if number == self.current => "current",
                () if number == self.previous => "previous",
                () => "",
            };
            let content = &generation.content;
            let _ = write!(
                text,
                "\n  {place:8} {:>3}  {}  {}  {}  {} of {} written{}",
                generation.number,
                content.platform,
                content.digest.short(),
                Utc(generation.switched.unwrap_or(generation.created)),
                bytes(content.written_bytes),
                bytes(content.image_bytes),
                standing(generation, now)
            );
        }
        if let Some((pending, lacks)) = &self.pending {
            let _ = write!(
                text,
                "\n  begun         {}  {}  {} to fetch yet",
                pending.platform,
                pending.digest.short(),
                bytes(*lacks)
            );
        }
        if let Some(disk) = self.disk {
            let _ = write!(text, "\n  on the disk   {}", bytes(disk));
        }
        for bad in &record.bad {
            let _ = write!(text, "\n  not again: {} ({})", bad.digest.short(), bad.reason);
        }
        text
    }

    /// Makes one JSON object for programs.
    fn object(&self, now: &Moment) -> Value {
        let record = &self.record;
        let find = |number: Option<u32>| {
            let generation = number.and_then(|number| record.generation(number));
            generation.map(|generation| self.generation(generation, now))
        };
        let current = find(self.current);
        let of_current = |field: &str| current.as_ref().map(|current| current[field].clone());
        json!({
            "name": self.name,
            "image": record.tracking.image,
            "digest": of_current("digest"),
            "platform": of_current("platform"),
            "tracking": self.tracking(),
            "current": current,
            "previous": find(self.previous),
            "generations": record
                .generations
                .iter()
                .map(|generation| self.generation(generation, now))
                .collect::<Vec<_>>(),
            "notAgain": record.bad.iter().map(|bad| json!({
                "digest": bad.digest,
                "generation": bad.generation,
                "reason": bad.reason,
                "when": bad.when,
            })).collect::<Vec<_>>(),
            "disk": self.disk,
            "pending": self.pending.as_ref().map(|(pending, lacks)| json!({
                "digest": pending.digest,
                "platform": pending.platform,
                "bytes": pending.missing.iter().map(|missing| missing.size).fold(0, u64::saturating_add),
                "lacking": lacks,
            })),
        })
    }

    /// Makes an object of the options that are remembered; users who may not read the record see only two of them.
    fn tracking(&self) -> Value {
        let tracking = &self.record.tracking;
        let mut object = json!({ "keep": tracking.keep, "pinDigest": tracking.pin_digest });
        if self.whole
            && let Some(fields) = object.as_object_mut()
        {
            fields.extend([
                ("health".to_owned(), json!(tracking.health)),
                ("healthTimeout".to_owned(), json!(tracking.health_timeout)),
                ("onSwitch".to_owned(), json!(tracking.on_switch)),
                ("confirmWithin".to_owned(), json!(tracking.confirm_within)),
                ("variant".to_owned(), json!(tracking.variant)),
                ("platform".to_owned(), json!(tracking.platform)),
                ("caFile".to_owned(), json!(tracking.ca_file)),
                ("policy".to_owned(), json!(tracking.policy)),
                ("verifyKeys".to_owned(), json!(tracking.verify_keys)),
                ("monotonic".to_owned(), json!(tracking.monotonic)),
                ("authFile".to_owned(), json!(tracking.auth_file)),
                ("hostsDir".to_owned(), json!(tracking.hosts_dir)),
                ("plainHttp".to_owned(), json!(tracking.plain_http)),
            ]);
        }
        object
    }

    fn generation(&self, generation: &Generation, now: &Moment) -> Value {
        let content = &generation.content;
        let progress = generation.progress.as_ref();
        json!({
            "generation": generation.number,
            "state": generation.state.name(),
            "reason": generation.reason,
            "digest": content.digest,
            "rootDigest": content.root_digest,
            "platform": content.platform,
            "path": self.generations.join(generation.number.to_string()),
            "created": generation.created,
            "since": generation.switched,
            "attempts": progress.map(|progress| progress.attempts),
            "healthy": progress.map(|progress| progress.healthy),
            "secondsToConfirm": progress
                .filter(|progress| progress.confirm_within.is_some())
                .map(|progress| progress.time_left(now).unwrap_or(0)),
            "layers": content.layers.count(),
            "entries": content.entries,
            "fetchedBytes": content.fetched_bytes,
            "writtenBytes": content.written_bytes,
            "imageBytes": content.image_bytes,
            // How much of the image was really written: what wears out the flash.
            "wear": (content.image_bytes > 0)
                .then(|| (content.written_bytes as f64 / content.image_bytes as f64 * 1e4).round() / 1e4),
        })
    }
}

/// The remembered options that are not the default.
fn options(tracking: &Tracking) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    };
    add("pinned to", tracking.pin_digest.map(|digest| digest.to_string()));
    add("variant", tracking.variant.clone());
    add("platform", tracking.platform.clone());
    add("health:", tracking.health.clone());
    add("on switch:", tracking.on_switch.clone());
    add("to be confirmed within", tracking.confirm_within.map(|seconds| format!("{seconds} s")));
    text
}

/// The state of a generation, with what a user may want to do about it.
fn standing(generation: &Generation, now: &Moment) -> String {
    let state = generation.state.name();
    if let Some(reason) = &generation.reason {
        return format!(", {state}: {reason}");
    }
    let waits = generation.progress.as_ref().filter(|progress| progress.healthy);
    match waits.map(|progress| progress.time_left(now)) {
        Some(Ok(seconds)) => format!(", {state}: edgepull confirm is awaited for {seconds} s yet"),
        Some(Err(why)) => format!(", {state}: {why}, the next run goes back"),
        None => format!(", {state}"),
    }
}

/// How many bytes of the wire an interrupted fetch has yet to get.
fn lacking(pending: &Pending, state: &Path) -> u64 {
    let Some(layers) = Layers::existing(state) else { return 0 };
    let lacks = |missing: &Missing| match layers.get(&missing.diff_id) {
        Ok(Some(_)) => 0,
        _ => missing.size.saturating_sub(layers.spared(&missing.promise(""))),
    };
    pending.missing.iter().map(lacks).fold(0, u64::saturating_add)
}

/// What a deployment takes on the disk, in bytes: its layers, some of which others may have, too, and its trees'
/// directories. `null` for who may not look.
fn disk(deployment: &Deployment, state: &Path) -> Option<u64> {
    let layers = Layers::existing(state)?;
    let mut needed: Vec<Digest> = Vec::new();
    for generation in &deployment.record().generations {
        // What is damaged is for verify to say.
        needed.extend(deployment.layers(generation).unwrap_or_default());
        needed.sort_unstable();
        needed.dedup();
    }
    let kept: u64 = needed.iter().map(|diff_id| layers.size(diff_id)).sum();
    Some(kept + disk_usage(deployment.directory()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::deployment::{Board, Content, LayerList};
    use crate::trust::rollback::Age;

    fn deployed(state: &Path, tracking: Tracking, count: u32) -> Deployment {
        let mut deployment = Deployments::open(state).unwrap().create("app", tracking).unwrap();
        for number in 1..=count {
            std::fs::create_dir(deployment.staging()).unwrap();
            let digest = Digest::of(&[number as u8]);
            let content = Content {
                root_digest: digest,
                digest,
                platform: "linux/arm/v6".into(),
                layers: LayerList::Unwritten(vec![digest]),
                image_bytes: 1000,
                written_bytes: 250,
                fetched_bytes: 100,
                entries: 7,
                config_digest: None,
                age: Age::default(),
            };
            let tree = deployment.staging();
            let number = deployment.stage(&tree, content, &Board::default()).unwrap();
            deployment.activate(number, &Board::default()).unwrap();
        }
        deployment
    }

    fn table(deployment: &Deployment, state: &Path) -> String {
        Seen::of(deployment, state).unwrap().table(&Moment::now())
    }

    fn object(deployment: &Deployment, state: &Path) -> Value {
        Seen::of(deployment, state).unwrap().object(&Moment::now())
    }

    #[test]
    fn everybody_sees_what_is_current_and_no_command() {
        let home = tempfile::tempdir().unwrap();
        let tracking = Tracking {
            image: "r.example/app".into(),
            health: Some("true secret".into()),
            ..Tracking::default()
        };
        let mut deployment = deployed(home.path(), tracking, 2);
        deployment.rollback(None, &Board::default()).unwrap();
        let everybody = Seen::by_everybody("app", home.path()).unwrap();
        assert_eq!((everybody.current, everybody.previous), (Some(1), None));
        let (theirs, roots) = (everybody.table(&Moment::now()), table(&deployment, home.path()));
        let roots =
            roots.replace(", health: true secret", "").replace("rolled back by hand", "root can see why");
        assert_eq!(theirs, roots);
        let theirs = everybody.object(&Moment::now());
        assert_eq!(theirs["tracking"], json!({ "keep": 2, "pinDigest": null }));
        assert_eq!(theirs["current"], object(&deployment, home.path())["current"]);
        assert_eq!(Seen::by_everybody("other", home.path()).err().unwrap().kind(), Kind::NotFound);
    }

    #[test]
    fn people_see_what_is_current_and_what_was_before() {
        let home = tempfile::tempdir().unwrap();
        let image = || "r.example/app:1".to_owned();
        let tracking = Tracking { image: image(), keep: 3, ..Tracking::default() };
        let mut deployment = deployed(home.path(), tracking, 3);
        let text = table(&deployment, home.path());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "app: r.example/app:1"));
        assert!(lines[1].starts_with("  current    3  linux/arm/v6  ") && lines[1].ends_with(", confirmed"));
        assert!(lines[1].contains("250 B of 1.0 kB written"), "{text}");
        assert!(
            lines[2].starts_with("  previous   2  ") && lines[3].starts_with("             1  "),
            "{text}"
        );
        deployment.rollback(None, &Board::default()).unwrap();
        let text = table(&deployment, home.path());
        assert!(text.contains("not again: ") && text.contains("(rolled back by hand)"), "{text}");
        // Without a store of layers there is nothing to be said.
        assert!(!text.contains("on the disk"), "{text}");
        Layers::open(home.path()).unwrap();
        let text = table(&deployment, home.path());
        assert!(text.contains("\n  on the disk   ") && text.contains("kB\n"), "{text}");
    }

    #[test]
    fn machines_get_the_same_and_how_long_there_is_to_confirm() {
        let home = tempfile::tempdir().unwrap();
        let tracking = Tracking { image: "app".into(), confirm_within: Some(100_000), ..Tracking::default() };
        let deployment = deployed(home.path(), tracking, 1);
        let object = object(&deployment, home.path());
        assert_eq!(object["current"]["generation"], 1);
        assert_eq!(object["current"]["state"], "trial");
        assert_eq!(object["current"]["wear"], 0.25);
        assert!(object["current"]["secondsToConfirm"].as_u64().unwrap() > 90_000);
        assert_eq!(object["platform"], "linux/arm/v6");
        assert!(object["previous"].is_null() && object["pending"].is_null());
        let text = table(&deployment, home.path());
        assert!(text.contains("trial: edgepull confirm is awaited for "), "{text}");
    }

    #[test]
    fn a_deployment_without_a_generation_has_nothing_current() {
        let home = tempfile::tempdir().unwrap();
        let deployment = deployed(home.path(), Tracking::default(), 0);
        assert!(table(&deployment, home.path()).ends_with("nothing is current yet"));
        assert!(object(&deployment, home.path())["current"].is_null());
    }
}
