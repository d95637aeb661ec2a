//! What becomes of the folder that is pulled into: whole or as before, on full disks, after kills,
//! as a bundle, and for users who may not give files away.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::*;

/// An image of two layers for every board; `mark` tells one from another.
fn image(mark: &str) -> Artifact {
    Image::of("linux/arm/v5")
        .layer(Layer::new().dir("etc", 0o755).file("etc/mark", mark).file("etc/below", "below"))
        .layer(Layer::new().file("etc/above", mark).whiteout("etc/below"))
        .build()
}

/// The image with some other bytes as its second layer.
fn broken(artifact: Artifact) -> Artifact {
    let second = artifact.layer(1);
    artifact.with_blob(&second, gzip(&Layer::new().file("etc/evil", "evil").tar()))
}

#[test]
fn an_empty_folder_is_filled() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("root")).expect("a folder");
    let name = image("new").oci(&scratch, "image");
    Board::armv7().edgepull(["pull", &name, &scratch.at("root")]).succeeds();
    let tree = Tree::of(scratch.path("root"));
    assert!(tree.has("etc/mark") && tree.has("etc/above") && !tree.has("etc/below"));
    assert_eq!(scratch.names(), ["image", "root"]);
}

#[test]
fn a_relative_path_with_a_slash_at_its_end_will_do() {
    let scratch = Scratch::new();
    let name = image("new").oci(&scratch, "image");
    let mut command = Board::armv7().command(["pull", &name, "./root/"]);
    let output = command.current_dir(scratch.path("")).output().expect("edgepull runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(scratch.path("root/etc/mark").exists());
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let scratch = Scratch::new();
    let mine = scratch.write("root/mine", "mine");
    let name = image("new").oci(&scratch, "image");
    Board::armv7().edgepull(["pull", &name, &scratch.at("root")]).fails_with(exit::USAGE).saying("--replace");
    assert_eq!(std::fs::read_to_string(mine).expect("my file"), "mine");
    assert_eq!(Tree::of(scratch.path("root")).len(), 1);
}

#[test]
fn replace_puts_the_new_tree_in_the_place_of_the_old() {
    let scratch = Scratch::new();
    scratch.write("root/old/file", "old");
    let name = image("new").oci(&scratch, "image");
    Board::armv7().edgepull(["pull", "--replace", &name, &scratch.at("root")]).succeeds();
    let tree = Tree::of(scratch.path("root"));
    assert!(tree.has("etc/mark") && !tree.has("old"), "not replaced");
    assert_eq!(scratch.names(), ["image", "root"], "the old tree is left behind");
}

#[test]
fn another_user_s_link_leads_nowhere() {
    let scratch = Scratch::new();
    let name = image("new").oci(&scratch, "image");
    let mine = scratch.write("victim/root/mine", "mine");
    // As /tmp: everybody may put something there, and nobody take away what is another's.
    std::fs::create_dir(scratch.path("shared")).expect("a folder");
    run("chmod", ["1777", &scratch.at("shared")]);
    for (link, to) in [("root", "victim/root"), ("parent", "victim"), ("archive", "victim/root/mine")] {
        let link = scratch.path("shared").join(link);
        std::os::unix::fs::symlink(scratch.path(to), &link).expect("a link");
        std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).expect("root");
    }
    let at = |below: &str| scratch.at(&format!("shared/{below}"));
    let board = Board::armv7().with_env("TMPDIR", &at("parent"));
    let (layout, archive) = (format!("oci:{}", at("parent/new")), format!("oci-archive:{}", at("archive")));
    let list = "r.example/list:1";
    for args in [
        &["pull", "--replace", &name, &at("root")][..],
        &["pull", &name, &at("root/new")],
        &["pull", "--replace", &name, &at("parent/root")],
        &["pull", &name, &at("parent/new/deep")],
        &["--state-dir", &at("parent"), "deploy", "app", &name],
        &["--state-dir", &at("parent/new"), "manifest", "create", list, &name],
        &["copy", &name, &layout],
        &["copy", &name, &archive],
        &["manifest", "check", &name],
    ] {
        let said = board.edgepull(args.iter().copied()).fails_with(exit::USAGE);
        said.saying("is a link that another user (uid 65534) has put there");
    }
    assert_eq!(std::fs::read_to_string(mine).expect("my file"), "mine");
    assert_eq!(Tree::of(scratch.path("victim")).len(), 2);
    // Root's own link leads on, in the same place.
    run("chown", ["-h", "0:0", &at("root")]);
    Board::armv7().edgepull(["pull", "--replace", &name, &at("root")]).succeeds();
    assert!(scratch.path("victim/root/etc/mark").exists() && !scratch.path("victim/root/mine").exists());
}

#[test]
fn a_wrong_second_layer_leaves_the_old_tree_as_it_was() {
    let scratch = Scratch::new();
    let good = image("good").oci(&scratch, "good");
    let bad = broken(image("bad")).oci(&scratch, "bad");
    Board::armv7().edgepull(["pull", &good, &scratch.at("root")]).succeeds();
    let before = Tree::of(scratch.path("root"));
    Board::armv7().edgepull(["pull", "--replace", &bad, &scratch.at("root")]).fails_with(exit::VERIFICATION);
    Tree::of(scratch.path("root")).equals(&before);
    // Its first layer is right, and kept for the next try; the next pull that ends well clears it.
    assert_eq!(scratch.names(), [".root.edgepull", "bad", "good", "root"]);
    Board::armv7().edgepull(["pull", "--replace", &good, &scratch.at("root")]).succeeds();
    assert_eq!(scratch.names(), ["bad", "good", "root"], "staging is left behind");
}

#[test]
fn a_pull_killed_in_the_middle_can_be_run_again() {
    let artifact = image("whole");
    let layer = artifact.layer(1);
    let registry = FakeRegistry::serving(&artifact).at_blob(&layer, [Answer::StallAfter(40)]);
    let scratch = Scratch::new();
    let (name, root) = (registry.image(), scratch.at("root"));
    let mut command = Board::armv7().command(["pull", &name, &root]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("edgepull runs");
    let patience = Instant::now() + Duration::from_secs(60);
    while registry.ranges_of(&layer).is_empty() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        assert!(Instant::now() < patience, "the second layer is never asked for");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("SIGKILL");
    assert_eq!(child.wait().expect("an end").signal(), Some(9));
    assert!(!scratch.path("root").exists() || Tree::of(&root).len() == 0, "half a tree is visible");

    Board::armv7().edgepull(["pull", &name, &root]).succeeds();
    assert!(Tree::of(&root).entry("etc/mark").contains("size=5"));
    assert_eq!(scratch.names(), ["root"], "what the killed run had begun is left behind");
}

#[test]
fn a_full_disk_is_said_to_be_full_and_is_emptied_again() {
    let scratch = Scratch::new();
    let big = Image::of("linux/arm/v7").layer(Layer::new().file("big", vec![7; 3 << 20])).build();
    let name = big.oci(&scratch, "image");
    let at = scratch.at("disk");
    let _disk = SmallDisk::mount(&at, 1024);
    scratch.write("disk/mine", "mine");
    let outcome = Board::armv7().edgepull(["pull", &name, &scratch.at("disk/root")]);
    outcome.fails_with(exit::DISK).saying("the file system is nearly full");
    assert_eq!(Tree::of(&at).len(), 1, "the full disk is left full");
}

#[test]
fn a_bundle_runs_in_crun() {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("not run: the program in this bundle is for amd64");
        return;
    }
    let scratch = Scratch::new();
    let bundle = scratch.at("bundle");
    Board::this_machine().edgepull(["pull", "--bundle", HELLO, &bundle]).succeeds();
    let config = std::fs::read(scratch.path("bundle/config.json")).expect("the runtime's config");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["process"]["args"], serde_json::json!(["/hello"]));
    assert_eq!(config["root"]["path"], "rootfs");
    // crun refuses the mixed cgroup set-up of some machines: it gets a mount namespace with cgroup2 only.
    let state = scratch.at("state");
    let script = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && \
                  exec crun --cgroup-manager=disabled --root \"$0\" run --bundle \"$1\" board-test </dev/null";
    let said = run("unshare", ["--mount", "sh", "-c", script, &state, &bundle]);
    assert_eq!(said, "hello from linux/amd64\n");
}

#[test]
fn a_bundle_takes_over_what_the_image_says() {
    let scratch = Scratch::new();
    let artifact = Image::running("linux/arm/v7", "v7")
        .configured("Cmd", serde_json::json!(["--verbose"]))
        .configured("Env", serde_json::json!(["PATH=/opt/bin", "BOARD=1"]))
        .configured("WorkingDir", "/srv".into())
        .configured("User", "1000:50".into())
        .build();
    let name = artifact.oci(&scratch, "image");
    Board::armv7().edgepull(["pull", "--bundle", &name, &scratch.at("bundle")]).succeeds();
    let config = std::fs::read(scratch.path("bundle/config.json")).expect("the runtime's config");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let process = &config["process"];
    assert_eq!(process["args"], serde_json::json!(["/hello", "--verbose"]));
    assert_eq!(process["cwd"], "/srv");
    assert_eq!((&process["user"]["uid"], &process["user"]["gid"]), (&1000.into(), &50.into()));
    let env: Vec<&str> =
        process["env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"PATH=/opt/bin") && env.contains(&"BOARD=1"), "{env:?}");
    assert!(config["ociVersion"].is_string());
}

#[test]
fn a_user_who_may_not_give_files_away_is_warned_once() {
    let scratch = Scratch::new();
    let layer = Layer::new()
        .dir("etc", 0o755)
        .file("etc/root", "root's")
        .owned_by(1000, 1000)
        .file("etc/thousand", "1000's")
        .owned_by(33, 33)
        .file_mode("etc/www", "www-data's", 0o640)
        .symlink("etc/link", "www");
    let plain = layer.tar();
    let with_devices = Layer::new().char_device("null", 1, 3).char_device("zero", 1, 5);
    let artifact = Image::of("linux/arm/v7").raw_layer(plain).layer(with_devices).build();
    let name = artifact.oci(&scratch, "image");
    Board::armv7().edgepull(["pull", &name, &scratch.at("as-root")]).succeeds();
    let nobody = Board::armv7().run_by_nobody(&scratch);
    let outcome = nobody.edgepull(["pull", &name, &scratch.at("home/as-nobody")]).succeeds();
    let warnings = outcome.stderr();
    let about = |what: &str| warnings.lines().filter(|line| line.to_lowercase().contains(what)).count();
    assert_eq!(about("owner"), 1, "{warnings}");
    assert_eq!(about("device"), 1, "{warnings}");
    let expected = Tree::of(scratch.path("as-root"));
    let seen = Tree::of(scratch.path("home/as-nobody"));
    assert!(!seen.has("null") && !seen.has("zero"), "devices by a user who may not make any?");
    assert!(seen.entry("etc/thousand").contains("owner=65534:65534"), "{}", seen.entry("etc/thousand"));
    // The note in which rootless tools keep the owner: field 1 the user, field 2 the group, as protobuf varints.
    assert!(seen.entry("etc/thousand").ends_with("user.rootlesscontainers=0x08e80710e807"));
    expected.without(&["null", "zero"]).without_owners().equals(&seen.without_owners());
}
