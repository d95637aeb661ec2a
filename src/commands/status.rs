//! `edgepull status`: what is current, what was before, and what it has cost. It takes no lock, so it says how
//! things are while an update runs, too.

use super::report::{Report, bytes};
use crate::cli::Options;
use crate::clock::date::Utc;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::store::deployment::{Deployment, Deployments, Generation, Missing, Moment, Pending, Tracking};
use crate::store::layers::{Layers, disk_usage};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

pub fn run(name: Option<&str>, options: &Options, report: &Report) -> Result<()> {
    let deployments = Deployments::open(&options.state_dir)?;
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => deployments.names()?,
    };
    if names.is_empty() && !options.json {
        return report.text(format_args!("no deployments in {}", options.state_dir.display()));
    }
    for name in names {
        let deployment = deployments.existing(&name)?;
        match options.json {
            true => report.json(&object(&deployment, &options.state_dir, &Moment::now())?)?,
            false => report.text(table(&deployment, &options.state_dir, &Moment::now())?)?,
        }
    }
    Ok(())
}

/// For people: what is tracked, then a line for each generation, the newest first.
fn table(deployment: &Deployment, state: &Path, now: &Moment) -> Result<String> {
    let record = deployment.record();
    let mut text = format!("{}: {}{}", deployment.name(), record.tracking.image, options(&record.tracking));
    let (current, previous) = (deployment.current()?, deployment.previous()?);
    if record.generations.is_empty() {
        text.push_str("\n  nothing is current yet");
    }
    for generation in record.generations.iter().rev() {
        let number = Some(generation.number);
        let place = match () {
            () if number == current => "current",
            () if number == previous => "previous",
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
    if let Some(pending) = Pending::load(deployment) {
        let lacks = bytes(lacking(&pending, state));
        let _ = write!(
            text,
            "\n  begun         {}  {}  {lacks} to fetch yet",
            pending.platform,
            pending.digest.short()
        );
    }
    if let Some(disk) = disk(deployment, state) {
        let _ = write!(text, "\n  on the disk   {}", bytes(disk));
    }
    for bad in &record.bad {
        let _ = write!(text, "\n  not again: {} ({})", bad.digest.short(), bad.reason);
    }
    Ok(text)
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

/// For machines: one object.
fn object(deployment: &Deployment, state: &Path, now: &Moment) -> Result<Value> {
    let record = deployment.record();
    let find = |number: Option<u32>| {
        let generation = number.and_then(|number| record.generation(number));
        generation.map(|generation| one(deployment, generation, now))
    };
    let current = find(deployment.current()?);
    let of_current = |field: &str| current.as_ref().map(|current| current[field].clone());
    let tracking = &record.tracking;
    Ok(json!({
        "name": deployment.name(),
        "image": tracking.image,
        "digest": of_current("digest"),
        "platform": of_current("platform"),
        "tracking": {
            "keep": tracking.keep,
            "health": tracking.health,
            "healthTimeout": tracking.health_timeout,
            "onSwitch": tracking.on_switch,
            "confirmWithin": tracking.confirm_within,
            "pinDigest": tracking.pin_digest,
            "variant": tracking.variant,
            "platform": tracking.platform,
            "caFile": tracking.ca_file,
            "policy": tracking.policy,
            "verifyKeys": tracking.verify_keys,
            "monotonic": tracking.monotonic,
            "authFile": tracking.auth_file,
            "hostsDir": tracking.hosts_dir,
            "plainHttp": tracking.plain_http,
        },
        "current": current,
        "previous": find(deployment.previous()?),
        "generations":
            record.generations.iter().map(|generation| one(deployment, generation, now)).collect::<Vec<_>>(),
        "notAgain": record.bad.iter().map(|bad| json!({
            "digest": bad.digest,
            "generation": bad.generation,
            "reason": bad.reason,
            "when": bad.when,
        })).collect::<Vec<_>>(),
        "disk": disk(deployment, state),
        "pending": Pending::load(deployment).map(|pending| json!({
            "digest": pending.digest,
            "platform": pending.platform,
            "bytes": pending.missing.iter().map(|missing| missing.size).fold(0, u64::saturating_add),
            "lacking": lacking(&pending, state),
        })),
    }))
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
    let mut needed: Vec<&Digest> = deployment.record().layers().collect();
    needed.sort_by_key(|digest| digest.0);
    needed.dedup();
    let kept: u64 = needed.into_iter().map(|diff_id| layers.size(diff_id)).sum();
    Some(kept + disk_usage(deployment.directory()))
}

fn one(deployment: &Deployment, generation: &Generation, now: &Moment) -> Value {
    let content = &generation.content;
    let progress = generation.progress.as_ref();
    json!({
        "generation": generation.number,
        "state": generation.state.name(),
        "reason": generation.reason,
        "digest": content.digest,
        "rootDigest": content.root_digest,
        "platform": content.platform,
        "path": deployment.tree(generation.number),
        "created": generation.created,
        "since": generation.switched,
        "attempts": progress.map(|progress| progress.attempts),
        "healthy": progress.map(|progress| progress.healthy),
        "secondsToConfirm": progress
            .filter(|progress| progress.confirm_within.is_some())
            .map(|progress| progress.time_left(now).unwrap_or(0)),
        "layers": content.layers.len(),
        "entries": content.entries,
        "fetchedBytes": content.fetched_bytes,
        "writtenBytes": content.written_bytes,
        "imageBytes": content.image_bytes,
        // How much of the image was really written: what wears out the flash.
        "wear": (content.image_bytes > 0)
            .then(|| (content.written_bytes as f64 / content.image_bytes as f64 * 1e4).round() / 1e4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::deployment::{Board, Content};
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
                layers: vec![digest],
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

    #[test]
    fn people_see_what_is_current_and_what_was_before() {
        let home = tempfile::tempdir().unwrap();
        let image = || "r.example/app:1".to_owned();
        let tracking = Tracking { image: image(), keep: 3, ..Tracking::default() };
        let mut deployment = deployed(home.path(), tracking, 3);
        let text = table(&deployment, home.path(), &Moment::now()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "app: r.example/app:1"));
        assert!(lines[1].starts_with("  current    3  linux/arm/v6  ") && lines[1].ends_with(", confirmed"));
        assert!(lines[1].contains("250 B of 1.0 kB written"), "{text}");
        assert!(
            lines[2].starts_with("  previous   2  ") && lines[3].starts_with("             1  "),
            "{text}"
        );
        deployment.rollback(None, &Board::default()).unwrap();
        let text = table(&deployment, home.path(), &Moment::now()).unwrap();
        assert!(text.contains("not again: ") && text.contains("(rolled back by hand)"), "{text}");
        // Without a store of layers there is nothing to be said.
        assert!(!text.contains("on the disk"), "{text}");
        Layers::open(home.path()).unwrap();
        let text = table(&deployment, home.path(), &Moment::now()).unwrap();
        assert!(text.contains("\n  on the disk   ") && text.contains("kB\n"), "{text}");
    }

    #[test]
    fn machines_get_the_same_and_how_long_there_is_to_confirm() {
        let home = tempfile::tempdir().unwrap();
        let tracking = Tracking { image: "app".into(), confirm_within: Some(100_000), ..Tracking::default() };
        let deployment = deployed(home.path(), tracking, 1);
        let object = object(&deployment, home.path(), &Moment::now()).unwrap();
        assert_eq!(object["current"]["generation"], 1);
        assert_eq!(object["current"]["state"], "trial");
        assert_eq!(object["current"]["wear"], 0.25);
        assert!(object["current"]["secondsToConfirm"].as_u64().unwrap() > 90_000);
        assert_eq!(object["platform"], "linux/arm/v6");
        assert!(object["previous"].is_null() && object["pending"].is_null());
        let text = table(&deployment, home.path(), &Moment::now()).unwrap();
        assert!(text.contains("trial: edgepull confirm is awaited for "), "{text}");
    }

    #[test]
    fn a_deployment_without_a_generation_has_nothing_current() {
        let home = tempfile::tempdir().unwrap();
        let deployment = deployed(home.path(), Tracking::default(), 0);
        assert!(table(&deployment, home.path(), &Moment::now()).unwrap().ends_with("nothing is current yet"));
        assert!(object(&deployment, home.path(), &Moment::now()).unwrap()["current"].is_null());
    }
}
