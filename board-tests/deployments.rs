//! Deployments: what `deploy`, `update`, `rollback`, `verify` and `gc` promise, with a real registry behind a
//! proxy that counts.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::failures::noise;
use crate::harness::*;

pub const V7: &str = "linux/arm/v7";
pub const NAME: &str = "board/app:1";

/// A board, and the registry that it follows.
pub struct Fleet {
    pub registry: Registry,
    proxy: Proxy,
    board: Board,
    pub scratch: Scratch,
}

impl Fleet {
    pub fn new() -> Fleet {
        let registry = Registry::start();
        let proxy = Proxy::before(&registry);
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("state")).expect("a folder");
        Fleet { registry, proxy, board: Board::armv7(), scratch }
    }

    /// The tag names this image from now on.
    pub fn push(&self, artifact: &Artifact) {
        let folder = format!("push-{}", &artifact.digest()[7..19]);
        self.registry.push(&artifact.layout(&self.scratch, &folder), NAME);
    }

    pub fn image(&self) -> String {
        self.proxy.image(NAME)
    }

    fn state(&self) -> String {
        self.scratch.at("state")
    }

    pub fn run<'a>(&'a self, words: &[&'a str]) -> Outcome {
        let state = self.state();
        let mut line = vec!["--state-dir", &state];
        line.extend(words);
        self.board.edgepull(line)
    }

    pub fn deploy(&self, artifact: &Artifact, options: &[&str]) -> Outcome {
        self.push(artifact);
        let image = self.image();
        self.run(&[&["deploy", "app", &image], options].concat())
    }

    pub fn update(&self) -> Outcome {
        self.run(&["update", "app"])
    }

    pub fn status(&self) -> Value {
        let stdout = self.run(&["--json", "status", "app"]).succeeds().stdout();
        serde_json::from_str(&stdout).expect("JSON")
    }

    fn current(&self) -> PathBuf {
        self.scratch.path("state/deployments/app/current/rootfs")
    }

    /// What is current is whole, and is this image: as umoci unpacks it, and as verify sees it.
    #[track_caller]
    pub fn has(&self, artifact: &Artifact) {
        let scratch = Scratch::new();
        let layout = artifact.layout(&scratch, "image");
        let oracle = umoci_unpack(&layout, "latest", &scratch);
        Tree::of(self.current()).equals(&Tree::of(oracle));
        self.run(&["verify", "app"]).succeeds();
    }

    pub fn begin<'a>(&'a self, words: &[&'a str]) -> Child {
        let state = self.state();
        let mut line = vec!["--state-dir", &state];
        line.extend(words);
        let mut command = self.board.command(line);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("edgepull runs")
    }
}

/// An image with a base that stays and a top that changes.
pub fn release(number: u8) -> Artifact {
    let base = Layer::new()
        .dir("etc", 0o755)
        .dir("lib", 0o755)
        .file("lib/base", noise(400_000))
        .file("etc/old", "old");
    let top = Layer::new()
        .dir("app", 0o755)
        .file("app/version", [number])
        .file("app/same", noise(100_000))
        .whiteout("etc/old")
        .symlink("app/lib", "/lib/base");
    Image::of(V7).layer(base).layer(top).build()
}

/// Everything that a write would change, of every file and directory below.
pub fn footprint(path: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    let note = |metadata: Metadata| {
        (metadata.size(), metadata.ino() as i64, metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("a file");
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("a list").map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, note(metadata));
    }
    found
}

#[test]
fn an_update_brings_what_changed_and_a_rollback_what_was() {
    let fleet = Fleet::new();
    let (one, two, three) = (release(1), release(2), release(3));
    fleet.deploy(&one, &[]).succeeds();
    fleet.has(&one);
    fleet.push(&two);
    let before = fleet.proxy.sent();
    fleet.update().succeeds();
    fleet.has(&two);
    let fetched = fleet.proxy.sent().blobs - before.blobs;
    let top = two.blobs[&two.layer(1)].len() as u64;
    assert!(fetched < top + (64 << 10), "{fetched} bytes for a layer of {top}");
    assert_eq!(fleet.proxy.asked_for(&two.layer(0)).len(), 1, "the base came again");

    fleet.run(&["rollback", "app"]).succeeds();
    fleet.has(&one);
    // What was left by hand is not tried again, until the tag moves.
    fleet.update().succeeds().printing("not tried again");
    fleet.has(&one);
    fleet.push(&three);
    fleet.update().succeeds();
    fleet.has(&three);
    let status = fleet.status();
    assert_eq!(status["current"]["platform"], V7);
    assert_eq!(status["current"]["digest"], three.digest());
    assert_eq!(status["previous"]["digest"], one.digest());
}

#[test]
fn nothing_new_costs_one_small_answer_and_no_write() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let (before, sent) = (footprint(&fleet.scratch.path("state")), fleet.proxy.sent());
    fleet.update().succeeds().printing("nothing is new");
    fleet.run(&["update", "--all"]).succeeds();
    let after = fleet.proxy.sent();
    let cost = (after.blobs + after.rest) - (sent.blobs + sent.rest);
    assert!(cost < 8 << 10, "{cost} bytes for two updates with nothing new");
    assert!(footprint(&fleet.scratch.path("state")) == before, "something was written");
}

/// On the wire, both ways, with all of a TLS handshake.
#[test]
fn nothing_new_costs_less_than_8_kib_with_tls_too() {
    let (authority, scratch) = (Authority::new(), Scratch::new());
    let registry = Registry::with().tls(&authority).start();
    let relay = Relay::before(&registry);
    registry.push(&release(1).layout(&scratch, "image"), NAME);
    let (board, state, ca) = (Board::armv7(), scratch.at("state"), authority.ca_file());
    let edgepull = |words: &[&str]| board.edgepull([&["--state-dir", &state], words].concat());
    edgepull(&["--ca-file", &ca, "deploy", "app", &relay.image(NAME)]).succeeds();
    let (before, carried) = (footprint(&scratch.path("state")), relay.carried());
    edgepull(&["update", "app"]).succeeds().printing("nothing is new");
    let cost = relay.carried() - carried;
    assert!(cost < 8 << 10, "{cost} bytes");
    assert!(footprint(&scratch.path("state")) == before, "something was written");
    eprintln!("{cost} bytes");
}

/// 50 files of 200 kB, of which number `changed` has other bytes.
fn fifty(changed: Option<usize>) -> Artifact {
    let data = noise(50 * 200_000 + 1);
    let file = |number: usize| &data[number * 200_000..(number + 1) * 200_000];
    let layer = (0..50).fold(Layer::new().dir("data", 0o755), |layer, number| {
        let mut content = file(number).to_vec();
        if changed == Some(number) {
            content[100_000] ^= 1;
        }
        layer.file(&format!("data/{number}"), content)
    });
    Image::of(V7).layer(layer).build()
}

#[test]
fn a_changed_layer_writes_only_the_files_that_changed() {
    let fleet = Fleet::new();
    fleet.deploy(&fifty(None), &[]).succeeds();
    let inode = |file: &str| fs::metadata(fleet.current().join(file)).expect("a file").ino();
    let before = [inode("data/0"), inode("data/7"), inode("data/49")];
    fleet.push(&fifty(Some(7)));
    fleet.update().succeeds();
    fleet.has(&fifty(Some(7)));
    assert!((inode("data/0"), inode("data/49")) == (before[0], before[2]) && inode("data/7") != before[1]);
    let written = fleet.status()["current"]["writtenBytes"].as_u64().expect("a number");
    assert!((200_000..250_000).contains(&written), "{written} bytes written for a file of 200,000");
    // The old generation is what it was.
    fleet.run(&["rollback", "app"]).succeeds();
    fleet.has(&fifty(None));
}

#[test]
fn two_deployments_share_what_they_have_in_common() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let image = fleet.image();
    fleet.push(&release(2));
    fleet.run(&["deploy", "other", &image]).succeeds();
    assert_eq!(fleet.proxy.asked_for(&release(1).layer(0)).len(), 1, "the base came again");
    let inode = |name: &str| {
        let path = format!("state/deployments/{name}/current/rootfs/lib/base");
        fs::metadata(fleet.scratch.path(&path)).expect("a file").ino()
    };
    assert_eq!(inode("app"), inode("other"), "it is there twice");
}

/// One layer of 12 MiB that no compressor makes smaller.
fn large(seed: u8) -> Layer {
    let mut data = noise(12 << 20);
    data[0] = seed;
    data.rotate_left(usize::from(seed) * 1000);
    Layer::new().dir("data", 0o755).file("data/large", data).file("data/seed", [seed])
}

#[test]
fn an_interrupted_update_goes_on_where_it_was_and_status_says_so() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let small = Layer::new().file("small", noise(300_000));
    let next = Image::of(V7).layer(small).layer(large(1)).build();
    let blob = next.layer(1);
    let size = next.blobs[&blob].len() as u64;
    fleet.push(&next);
    let slow =
        Proxy::before(&fleet.registry).always(Place::Blob(blob.clone()), Fault::InBody(8 << 20, End::Silent));
    let tracked = slow.image(NAME);
    // The same registry by another port: what is kept belongs to no registry.
    let mut child = fleet.begin(&["deploy", "app", &tracked]);
    wait_for_checkpoint(&fleet, &mut child, &slow);
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
    fleet.has(&release(1));
    let status = fleet.status();
    let lacking = status["pending"]["lacking"].as_u64().expect("a number");
    assert!((size - (8 << 20)..size - (4 << 20)).contains(&lacking), "{lacking} of {size} lacking");
    assert!(status["pending"]["bytes"].as_u64() > Some(size + 300_000), "{status}");
    assert_eq!(status["pending"]["digest"], next.digest());

    slow.heal();
    let before = slow.sent().blobs;
    fleet.update().succeeds();
    fleet.has(&next);
    let again = slow.sent().blobs - before + (8 << 20) - size;
    assert!(again <= 4 << 20, "{again} bytes came twice");
    let status = fleet.status();
    assert!(status["pending"].is_null());
    // Both runs together have written all of it, once.
    let written = status["current"]["writtenBytes"].as_u64().expect("a number");
    assert!((300_000 + (12 << 20)..320_000 + (12 << 20)).contains(&written), "{written} bytes written");
}

/// Waits until all of the 8 MiB are sent, and no more than is lost anyway has yet to be frozen.
#[track_caller]
fn wait_for_checkpoint(fleet: &Fleet, child: &mut Child, slow: &Proxy) {
    let patience = Instant::now() + Duration::from_secs(120);
    let frozen = || {
        let pending = &fleet.status()["pending"];
        Some(pending["bytes"].as_u64()? - pending["lacking"].as_u64()?)
    };
    while slow.sent().blobs < 8 << 20 || frozen() < Some(4 << 20) {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        assert!(Instant::now() < patience, "it does not come that far");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn gc_gives_back_what_was_interrupted_and_what_nobody_needs() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &["--keep", "1"]).succeeds();
    fleet.push(&Image::of(V7).layer(large(2)).build());
    let slow = Proxy::before(&fleet.registry).always(Place::Blobs, Fault::InBody(8 << 20, End::Silent));
    let tracked = slow.image(NAME);
    let mut child = fleet.begin(&["deploy", "app", &tracked]);
    wait_for_checkpoint(&fleet, &mut child, &slow);
    // Somebody else is told who is at it.
    fleet.update().fails_with(exit::BUSY).saying(&format!("pid {}", child.id())).saying("--wait");
    child.kill().expect("SIGKILL");
    child.wait().expect("an end");
    let partial = fleet.scratch.path("state/partial/sha256");
    assert_eq!(fs::read_dir(&partial).expect("a list").count(), 1);
    fleet.run(&["gc", "--dry-run"]).succeeds().printing("1 layers would be removed");
    assert_eq!(fs::read_dir(&partial).expect("a list").count(), 1, "--dry-run removed something");
    fleet.run(&["gc"]).succeeds();
    assert_eq!(fs::read_dir(&partial).expect("a list").count(), 0);
    fleet.has(&release(1));
}

#[test]
fn an_unhealthy_generation_goes_back_and_is_not_tried_again() {
    let fleet = Fleet::new();
    let health = "test \"$(cat \"$EDGEPULL_ROOTFS/app/version\" | od -An -tu1 | tr -d ' ')\" != 2";
    let log = fleet.scratch.at("switches");
    let on_switch = format!("echo $EDGEPULL_GENERATION >> {log}");
    let options = ["--health", health, "--health-timeout", "1", "--on-switch", &on_switch];
    fleet.deploy(&release(1), &options).succeeds();
    fleet.push(&release(2));
    fleet.update().fails_with(exit::UNHEALTHY).saying("generation 1 is current again");
    fleet.has(&release(1));
    let before = fleet.proxy.sent().blobs;
    fleet.update().succeeds().printing("not tried again");
    assert_eq!(fs::read_to_string(&log).expect("a log"), "1\n2\n1\n");
    assert!(fleet.proxy.sent().blobs - before < 10_000, "the bad one was fetched again");
    fleet.push(&release(3));
    fleet.update().succeeds();
    fleet.has(&release(3));
}

/// What ends a binary for boards where it has a bug: it says so, nothing is lost, and the next run goes on.
#[test]
fn a_trap_is_explained_and_survived() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let once = format!("test -e {0} || {{ touch {0}; kill -ILL $PPID; }}", fleet.scratch.at("trapped"));
    let trapped = fleet.deploy(&release(2), &["--on-switch", &once]);
    assert_eq!(trapped.signal(), Some(4), "{}", trapped.stderr());
    trapped.saying("signal 4 at 0x").saying("What was live is as it was");
    fleet.update().succeeds();
    fleet.has(&release(2));
}

#[test]
fn what_is_pinned_stays() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &["--pin-digest"]).succeeds();
    fleet.push(&release(2));
    fleet.update().succeeds().printing("pinned");
    fleet.has(&release(1));
    let image = fleet.image();
    fleet.run(&["deploy", "app", &image]).succeeds();
    fleet.has(&release(2));
}

/// The pinned image is not current any more, and what is there in its place is another one.
#[test]
fn a_pinned_deployment_refuses_any_other_image() {
    let [one, two, three] = [1, 2, 3].map(release);
    let scratch = Scratch::new();
    let local = format!("oci:{}", one.layout(&scratch, "layout"));
    let served =
        one.blobs.iter().fold(two.clone(), |all, (digest, blob)| all.with_blob(digest, blob.clone()));
    let media_type = three.descriptor["mediaType"].as_str().expect("a media type").to_owned();
    let other = three.blobs[three.digest()].clone();
    let other = Answer::Exactly(200, vec![("Content-Type", media_type)], other);
    let registry = FakeRegistry::serving(&served).at(&format!("manifests/{}", two.digest()), vec![other; 10]);
    let by_digest = format!("{}/board/app@{}", registry.address(), one.digest());
    for (first, image) in [(&local, &local), (&by_digest, &registry.image())] {
        let board = Board::armv7();
        let version = || fs::read(board.beside_state("state/deployments/app/current/rootfs/app/version"));
        one.layout(&scratch, "layout");
        board.edgepull(["deploy", "app", first]).succeeds();
        two.layout(&scratch, "layout");
        board.edgepull(["deploy", "app", image, "--pin-digest"]).succeeds();
        assert_eq!(version().expect("a file"), [2]);
        board.edgepull(["rollback", "app"]).succeeds();
        three.layout(&scratch, "layout");
        let updated = board.edgepull(["update", "app"]);
        match first == &local {
            // The name stands for another one.
            true => {
                let refused = updated.fails_with(exit::VERIFICATION).saying("app is pinned to");
                refused.saying(two.digest()).saying(three.digest());
            }
            // A registry is asked for the digest, and nobody who answers with another one is even heard.
            false => assert!(updated.succeeds().stdout().contains("is not tried again")),
        }
        assert_eq!(version().expect("a file"), [1], "{image}");
    }
}

#[test]
fn verify_names_what_is_not_as_it_was_and_repair_fetches_only_that() {
    let fleet = Fleet::new();
    let image = release(1);
    fleet.deploy(&image, &[]).succeeds();
    let (version, base) = (fleet.current().join("app/version"), fleet.current().join("lib/base"));
    // Written to in place, as a container with a writable root would: size and time may stay the same.
    let time = fs::metadata(&version).expect("a file").modified().expect("a time");
    fs::write(&version, [9]).expect("written");
    fs::File::options().write(true).open(&version).and_then(|file| file.set_modified(time)).expect("a time");
    let outcome = fleet.run(&["verify", "app"]).fails_with(exit::VERIFICATION);
    assert!(outcome.stdout().contains("app/version its content differs"), "{}", outcome.stdout());
    let kept = fs::metadata(&base).expect("a file").ino();
    let before = fleet.proxy.asked_for(&image.layer(0)).len();
    fleet.run(&["verify", "--repair"]).succeeds();
    assert_eq!(fleet.proxy.asked_for(&image.layer(0)).len(), before, "an intact layer came again");
    assert_eq!(fs::metadata(&base).expect("a file").ino(), kept, "an intact file was written again");
    fleet.has(&image);

    // The tree alone.
    fs::remove_file(fleet.current().join("lib/base")).expect("removed");
    fs::write(fleet.current().join("app/new"), "not of the image").expect("written");
    let outcome = fleet.run(&["verify"]).fails_with(exit::VERIFICATION).stdout();
    assert!(
        outcome.contains("/lib/base is gone") && outcome.contains("/app/new is not of the image"),
        "{outcome}"
    );
    let before = fleet.proxy.sent().blobs;
    fleet.run(&["verify", "app", "--repair"]).succeeds();
    assert!(fleet.proxy.sent().blobs - before < 10_000, "a layer was fetched for a tree");
    fleet.has(&image);
}

#[test]
fn a_layer_of_two_generations_is_repaired_once_for_both() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &["--confirm-within", "600"]).succeeds();
    fleet.run(&["confirm", "app"]).succeeds();
    fleet.push(&release(2));
    fleet.update().succeeds();
    fleet.run(&["confirm", "app"]).succeeds();
    fs::write(fleet.current().join("lib/base"), "damaged").expect("written");
    fs::write(fleet.scratch.path("state/deployments/app/current/config.json"), "{").expect("written");
    let base = release(1).layer(0);
    let before = fleet.proxy.asked_for(&base).len();
    fleet.run(&["verify", "--repair"]).succeeds();
    assert_eq!(fleet.proxy.asked_for(&base).len(), before + 1, "it came twice");
    // Nobody has to confirm it again, and there is still something to go back to.
    assert_eq!(fleet.status()["current"]["state"], "confirmed");
    fleet.has(&release(2));
    fleet.run(&["rollback", "app"]).succeeds();
    fleet.has(&release(1));

    fs::write(fleet.scratch.path("state/deployments/app/current/config.json"), "{").expect("written");
    let outcome = fleet.run(&["verify"]).fails_with(exit::VERIFICATION).stdout();
    assert!(outcome.contains("its config.json differs"), "{outcome}");
    fleet.run(&["verify", "--repair"]).succeeds();
    fleet.has(&release(1));
}

#[test]
fn gc_finds_what_a_cut_has_left_between_a_tree_and_its_record() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    let left = [
        "state/deployments/app/generations/9/rootfs",
        "state/trash/app.8/rootfs",
        "state/deployments/app/work/staging",
    ];
    for path in left {
        fs::create_dir_all(fleet.scratch.path(path)).expect("a folder");
    }
    fleet.run(&["gc"]).succeeds();
    for path in left {
        assert!(!fleet.scratch.path(path).exists(), "{path} is left");
    }
    fleet.has(&release(1));
}

#[test]
fn an_image_that_is_refused_is_not_fetched_again_until_the_tag_moves() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &[]).succeeds();
    // Code for v7 that says it is for v6: no board of that name can run it.
    let lies = Image::running("linux/arm/v6", "v7").build();
    fleet.push(&lies);
    fleet.update().fails_with(exit::BAD_IMAGE);
    let before = fleet.proxy.sent();
    fleet.update().succeeds().printing("is not tried again").printing("generation 1 stays");
    let after = fleet.proxy.sent();
    assert!(after.blobs == before.blobs && after.rest - before.rest < 4000, "it was fetched again");
    assert!(fleet.status()["pending"].is_null());
    fleet.run(&["gc", "--dry-run"]).succeeds().printing("0 generations and 0 layers");
    fleet.push(&release(2));
    fleet.update().succeeds();
    fleet.has(&release(2));
}

#[test]
fn a_first_deploy_with_a_wrong_health_command_can_be_mended() {
    let fleet = Fleet::new();
    fleet.deploy(&release(1), &["--health", "false", "--health-timeout", "1"]).fails_with(exit::UNHEALTHY);
    assert_eq!(fleet.status()["current"]["state"], "failed");
    fleet.deploy(&release(1), &["--health", "true"]).succeeds();
    assert_eq!(fleet.status()["current"]["state"], "confirmed");
}

#[test]
fn another_index_with_the_same_image_for_this_board_is_asked_for_once() {
    let fleet = Fleet::new();
    let index = |other: u8| {
        Index::new()
            .with(release(1))
            .with(Image::of("linux/amd64").layer(Layer::new().file("x", [other])).build())
    };
    fleet.deploy(&index(1).build(), &[]).succeeds();
    fleet.push(&index(2).build());
    fleet.update().succeeds().printing("generation 1 stays");
    let before = fleet.proxy.sent();
    fleet.update().succeeds().printing("generation 1 stays");
    let after = fleet.proxy.sent();
    assert!(after.blobs == before.blobs && after.rest - before.rest < 1000, "more than a HEAD");
}

#[test]
fn a_stick_with_images_is_as_good_as_a_registry() {
    let fleet = Fleet::new();
    let stick = |number: u8| {
        let layout = release(number).layout(&fleet.scratch, &format!("made-{number}"));
        let _ = fs::remove_dir_all(fleet.scratch.path("stick"));
        fs::rename(layout, fleet.scratch.path("stick")).expect("renamed");
    };
    stick(1);
    let image = format!("oci:{}", fleet.scratch.at("stick"));
    let board = Board::armv7().without_network();
    let state = fleet.state();
    let edgepull = |words: &[&str]| board.edgepull([&["--state-dir", &state], words].concat());
    edgepull(&["deploy", "app", &image]).succeeds();
    fleet.has(&release(1));
    edgepull(&["update", "--all"]).succeeds().printing("nothing is new");
    stick(2);
    edgepull(&["update", "--all"]).succeeds();
    fleet.has(&release(2));
    let archive = fleet.scratch.at("image.tar");
    run("tar", ["-C", &fleet.scratch.at("stick"), "-cf", &archive, "."]);
    edgepull(&["deploy", "other", &format!("oci-archive:{archive}")]).succeeds();
    let inode = |name: &str| {
        let path = format!("state/deployments/{name}/current/rootfs/app/same");
        fs::metadata(fleet.scratch.path(&path)).expect("a file").ino()
    };
    assert_eq!(inode("app"), inode("other"));
}

#[test]
fn what_cannot_fit_is_not_begun() {
    let fleet = Fleet::new();
    fleet.push(&Image::of(V7).layer(large(1)).build());
    let at = fleet.scratch.at("small");
    let _disk = SmallDisk::mount(&at, 8192);
    let state = format!("{at}/state");
    let image = fleet.image();
    let outcome = fleet.board.edgepull(["--state-dir", &state, "deploy", "app", &image]);
    // 12.6 MB and a twentieth of the disk.
    outcome.fails_with(exit::DISK).saying("the image needs at least 12.6 MB and ").saying(" are free");
    assert!(fleet.proxy.sent().blobs < 1000, "a layer was begun");
}

#[test]
fn a_disk_that_is_full_anywhere_leaves_what_is_live() {
    let registry = Registry::start();
    let scratch = Scratch::new();
    // Small on the wire, so that it is not refused beforehand: only the disk can say that it is too large.
    let sparse: Vec<u8> =
        noise(12 << 20).iter().enumerate().map(|(at, byte)| byte * u8::from(at % 64 == 0)).collect();
    let spread = |layer: Layer, number: usize| {
        layer.file(&format!("data/{number}"), &sparse[number * 300_000..(number + 1) * 300_000])
    };
    let new = Image::of(V7).layer((0..40).fold(Layer::new().dir("data", 0o755), spread)).build();
    let old = release(1);
    registry.push(&old.layout(&scratch, "old"), "board/app:old");
    registry.push(&new.layout(&scratch, "new"), "board/app:new");
    let oracle = |folder: &str| Tree::of(umoci_unpack(&scratch.at(folder), "latest", &Scratch::new()));
    let (old, new) = (oracle("old"), oracle("new"));
    let board = Board::armv7();
    let (mut refused, mut full, mut done) = (0, 0, 0);
    // The old one takes 0.7 MiB, the new one 12.
    for size in (0..20).map(|step| 1200 + step * 700) {
        let at = scratch.at("disk");
        let _disk = SmallDisk::mount(&at, size);
        let state = format!("{at}/state");
        let edgepull = |words: &[&str]| board.edgepull([&["--state-dir", &state], words].concat());
        edgepull(&["deploy", "app", &registry.image("board/app:old")]).succeeds();
        let outcome = edgepull(&["deploy", "app", &registry.image("board/app:new")]);
        let current = || Tree::of(format!("{state}/deployments/app/current/rootfs"));
        if outcome.code() == 0 {
            current().equals(&new);
            done += 1;
        } else {
            let stderr = outcome.fails_with(exit::DISK).stderr();
            let told = stderr.contains("in reserve, and");
            (refused, full) = (refused + u32::from(told), full + u32::from(!told));
            current().equals(&old);
            edgepull(&["gc"]).succeeds();
            assert!(
                !stderr.is_empty() && free(&at) > u64::from(size) * 1024 - 1_000_000,
                "{size} KiB: not given back"
            );
        }
        edgepull(&["verify"]).succeeds();
    }
    assert!(full > 5 && done > 1, "{refused} refused beforehand, {full} full in the middle, {done} done");
    eprintln!("20 sizes: {refused} refused beforehand, {full} full in the middle, {done} done");
}

fn free(path: &str) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path).expect("a file system");
    stat.blocks_available() * stat.fragment_size()
}
