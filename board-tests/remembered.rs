//! What deployments remember from run to run, and what strangers have a say in: a record that no image can fill, a list of
//! layers that is told from a damaged one, and whose turn it is when a registry never gets to an end.

use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::deployments::{Fleet, NAME, V7, release};
use crate::harness::*;

impl Fleet {
    fn record(&self) -> PathBuf {
        self.scratch.path("state/deployments/app/record")
    }

    /// As [`Fleet::push`], by edgepull: skopeo takes minutes for a thousand layers that are one and the same.
    fn publish(&self, artifact: &Artifact) {
        let layout = artifact.layout(&self.scratch, &format!("publish-{}", &artifact.digest()[7..19]));
        let (from, to) = (format!("oci:{layout}:latest"), self.registry.image(NAME));
        self.run(&["copy", "--plain-http", &from, &to]).succeeds();
    }

    fn version(&self, name: &str) -> u8 {
        let path = format!("state/deployments/{name}/current/rootfs/app/version");
        fs::read(self.scratch.path(&path)).expect("a version")[0]
    }
}

/// As many layers as a manifest may have, most of them the same.
fn many(number: u8) -> Artifact {
    let filler = Layer::new().file("filler", "").tar();
    let top = Layer::new().dir("app", 0o755).file("app/version", [number]);
    (1..1024)
        .fold(Image::of(V7).uncompressed(), |image, _| image.raw_layer(filler.clone()))
        .layer(top)
        .build()
}

#[test]
fn an_image_cannot_fill_the_record() {
    let fleet = Fleet::new();
    let image = fleet.image();
    for number in 1..=3 {
        fleet.publish(&many(number));
        fleet.run(&["deploy", "app", &image, "--keep", "3"]).succeeds();
    }
    // The reason says who it is that the image has not.
    for number in 0..10 {
        let user = format!("{number}{}", "\"".repeat(60_000));
        let nobody = Image::of(V7).layer(Layer::new().file("x", [number])).configured("User", json!(user));
        fleet.push(&nobody.build());
        fleet.update().fails_with(exit::BAD_IMAGE);
    }
    let size = fs::metadata(fleet.record()).expect("a record").len();
    assert!(size < 64 << 10, "{size} bytes");
    let status = fleet.status();
    let bad = status["notAgain"].as_array().expect("a list");
    assert_eq!((bad.len(), status["generations"].as_array().expect("a list").len()), (8, 3));
    for bad in bad {
        let reason = bad["reason"].as_str().expect("a reason");
        assert!(reason.len() <= 1024 && reason.contains("runs as user") && reason.contains('…'), "{reason}");
    }

    fleet.publish(&many(4));
    fleet.update().succeeds();
    fleet.run(&["rollback", "app"]).succeeds();
    assert_eq!(fleet.version("app"), 3);
    fleet.run(&["rollback", "app", "--to", "4"]).succeeds();
    assert_eq!(fleet.version("app"), 4);
    // The way out that needs no new image.
    fleet.run(&["deploy", "app", &image, "--keep", "1"]).succeeds();
    let status = fleet.status();
    assert_eq!(status["generations"].as_array().expect("a list").len(), 1);
    assert_eq!(status["current"]["layers"], 1024);
    fleet.run(&["verify"]).succeeds();
}

/// Its words are the user's own, so it is the user who is told, before anything of it is done.
#[test]
fn a_command_that_is_too_long_is_refused_when_it_is_given() {
    let fleet = Fleet::new();
    let (long, other) = (format!("true {}", "x".repeat(120_000)), format!("true '{}'", "\"".repeat(120_000)));
    fleet.deploy(&release(1), &["--health", &long, "--on-switch", &other]).fails_with(exit::USAGE);
    fleet.run(&["status", "app"]).fails_with(exit::NOT_FOUND);
    fleet.deploy(&release(1), &["--health", &long]).succeeds();
    let before = fs::read(fleet.record()).expect("a record");
    fleet.deploy(&release(2), &["--on-switch", &other]).fails_with(exit::USAGE).saying("into a script");
    assert!(fs::read(fleet.record()).expect("a record") == before && fleet.version("app") == 1);
}

#[test]
fn a_list_of_layers_that_is_damaged_is_found_and_repaired() {
    let fleet = Fleet::new();
    for number in [1, 2] {
        fleet.deploy(&release(number), &[]).succeeds();
    }
    for generation in ["1", "2"] {
        let list = fleet.scratch.path(&format!("state/deployments/app/generations/{generation}/layers"));
        let text = fs::read_to_string(&list).expect("a list");
        assert_eq!(text.lines().count(), 2);
        fs::write(&list, text.replacen(&text[7..9], "00", 1)).expect("written");
        let found = fleet.run(&["verify"]).fails_with(exit::VERIFICATION).stdout();
        assert!(found.contains(&format!("app generation {generation}:  its list of layers is")), "{found}");
        // Nobody knows what that one needs, so nothing goes, and the others are none the worse for it.
        fleet.update().succeeds().printing("nothing is new").saying("layers that nothing needs");
        fleet.run(&["verify", "--repair"]).succeeds();
        fleet.run(&["verify"]).succeeds();
        fleet.update().succeeds().without_saying("layers that nothing needs");
    }
    fleet.has(&release(2));
    fleet.run(&["rollback", "app"]).succeeds();
    fleet.has(&release(1));
}

#[test]
fn a_record_that_cannot_be_read_is_no_other_deployment_s_trouble() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let image = fleet.image();
    for name in ["b", "c"] {
        fleet.run(&["deploy", name, &image]).succeeds();
    }
    fs::write(fleet.record(), "{").expect("written");
    fleet.push(&release(2));
    fleet.run(&["update", "b"]).succeeds();
    fleet.run(&["update", "--all"]).fails_with(exit::DISK).saying("app: ").saying("the record is damaged");
    assert_eq!(["b", "c"].map(|name| fleet.version(name)), [2, 2]);
}

/// A run of all deployments, which comes to a registry that never ends its answer.
fn stuck(fleet: &Fleet, slow: &Proxy) -> Child {
    let (asked, patience) = (slow.asked().len(), Instant::now() + Duration::from_secs(120));
    let mut child = fleet.begin(&["update", "--all"]);
    while slow.asked().len() == asked {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        assert!(Instant::now() < patience, "it does not come that far");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn kill(mut child: Child) {
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
}

#[test]
fn a_registry_that_never_ends_keeps_the_others_waiting_once() {
    // Before there is anything to fetch, and in the middle of a layer.
    for place in [Place::Manifests, Place::Blobs] {
        let fleet = Fleet::new();
        let image = fleet.image();
        for name in ["b", "c"] {
            fleet.push(&release(1));
            fleet.run(&["deploy", name, &image]).succeeds();
        }
        let slow = Proxy::before(&fleet.registry).always(place, Fault::NoAnswer(End::Silent));
        let tracked = slow.image(NAME);
        let begun = fleet.begin(&["deploy", "app", &tracked]);
        while slow.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(begun);
        // Whoever the first run has begun with: it was killed when it was the slow one's turn.
        kill(stuck(&fleet, &slow));
        for number in 2..5 {
            fleet.push(&release(number));
            // The others had theirs before it came to that one again.
            kill(stuck(&fleet, &slow));
            assert_eq!(["b", "c"].map(|name| fleet.version(name)), [number; 2]);
        }
        fleet.run(&["gc"]).succeeds();
    }
}

#[test]
fn nothing_new_for_several_deployments_costs_no_write() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let image = fleet.image();
    fleet.run(&["deploy", "other", &image]).succeeds();
    // The first run since the board's start notes whose turn it was.
    fleet.run(&["update", "--all"]).succeeds();
    let before = crate::deployments::footprint(&fleet.scratch.path("state"));
    let outcome: Vec<Value> = fleet
        .run(&["--json", "update", "--all"])
        .succeeds()
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(outcome.iter().filter(|line| line["event"] == "unchanged").count(), 2, "{outcome:?}");
    assert!(crate::deployments::footprint(&fleet.scratch.path("state")) == before, "something was written");
}
