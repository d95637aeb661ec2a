//! What fetches does so in a process that can do little, and asks before it unpacks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::failures::noise;
use crate::harness::*;

const V7: &str = "linux/arm/v7";
const NAME: &str = "board/app:1";
/// Numbers of capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP.
const UNPACKING: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

fn image(content: &[u8]) -> Artifact {
    Image::of(V7).layer(Layer::new().file("file", content)).build()
}

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Waits for the process that this one has forked.
fn child_of(pid: u32) -> u32 {
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().expect("a number");
        }
        std::thread::yield_now();
    }
}

/// Waits until it has given up its rights: seccomp is the last.
fn confined(pid: u32) {
    while status(pid, "Seccomp").expect("it runs") != "2" {
        std::thread::yield_now();
    }
}

/// What this process, and so edgepull when it is started, may do.
fn mine(field: &str) -> u64 {
    u64::from_str_radix(&status(std::process::id(), field).expect("/proc"), 16).expect("a number")
}

#[test]
fn what_fetches_has_only_the_rights_that_it_needs() {
    let registry = Registry::start();
    let proxy = Proxy::before(&registry).always(Place::Blobs, Fault::InBody(1, End::Silent));
    let scratch = Scratch::new();
    registry.push(&image(&noise(100_000)).layout(&scratch, "layout"), NAME);
    let board = Board::armv7();
    let pull = ["--background", "pull", &proxy.image(NAME), &scratch.at("root")];
    let mut edgepull = board.command(pull).stdout(Stdio::null()).spawn().expect("edgepull");
    let child = child_of(edgepull.id());
    confined(child);
    assert_eq!(status(child, "NoNewPrivs").as_deref(), Some("1"));
    for field in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        let rights = u64::from_str_radix(&status(child, field).expect("it runs"), 16).expect("a number");
        let kept = if matches!(field, "CapEff" | "CapPrm") { mine(field) & UNPACKING } else { 0 };
        assert_eq!(rights, kept, "{field} is {rights:x}");
    }
    // Field 19 of proc_pid_stat(5), counted behind the name.
    let nice = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(16).map(str::to_owned)
    };
    assert_eq!(nice(child).as_deref(), Some("19"), "--background");
    assert_ne!(nice(edgepull.id()), nice(child), "the user's commands are not meant");
    for pid in [edgepull.id(), child] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().next(), Some("0"), "there are secrets in its memory");
    }
    for opened in fs::read_dir(format!("/proc/{child}/fd")).expect("it runs") {
        let number = opened.expect("a descriptor").file_name().into_string().expect("a number");
        let file = fs::read_link(format!("/proc/{child}/fd/{number}")).unwrap_or_default();
        let info = fs::read_to_string(format!("/proc/{child}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        let writable = i32::from_str_radix(flags, 8).expect("flags") & 0o3 != 0;
        let shown = file.display().to_string();
        let own = ["pipe:", "socket:"].iter().any(|kind| shown.starts_with(kind))
            || shown.contains("edgepull/work/");
        assert!(!writable || own, "{number} is {shown}, open with {flags}");
    }
    edgepull.kill().expect("killed");
    edgepull.wait().expect("it has ended");
    // It goes with the one that it works for, and the next run has the lock.
    proxy.heal();
    board.edgepull(pull).succeeds();
}

#[test]
fn an_end_of_what_fetches_is_told_and_the_next_run_goes_on() {
    let registry = Registry::start();
    let proxy = Proxy::before(&registry).always(Place::Blobs, Fault::InBody(1, End::Silent));
    let scratch = Scratch::new();
    registry.push(&image(&noise(100_000)).layout(&scratch, "layout"), NAME);
    let board = Board::armv7();
    let pull = ["pull", &proxy.image(NAME), &scratch.at("root")];
    let edgepull =
        board.command(pull).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("edgepull");
    let child = child_of(edgepull.id());
    confined(child);
    // As the kernel does when it has no more memory.
    run("kill", ["-KILL", &child.to_string()]);
    let outcome = edgepull.wait_with_output().expect("it has ended");
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(exit::OTHER), "{said}");
    assert!(said.contains("ended by signal 9") && said.contains("too little memory"), "{said}");
    assert!(!scratch.path("root").exists());
    proxy.heal();
    board.edgepull(pull).succeeds();
}

/// A program that writes down what it is told, and allows what the file `allowed` names.
fn verifier(scratch: &Scratch) -> String {
    let path = scratch.write(
        "verifier",
        format!(
            "#!/bin/sh\n{{ echo \"$#|$1|$2|$EDGEPULL_DIGEST\"; cat; }} > {0}/told\n\
             grep -q \"$2\" {0}/allowed || {{ echo 'not on the list' >&2; exit 3; }}\n",
            scratch.at("")
        ),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}

#[test]
fn a_verifier_decides_before_anything_is_unpacked() {
    let registry = Registry::start();
    let scratch = Scratch::new();
    let index = Index::new().with(image(b"one")).build();
    registry.push(&index.layout(&scratch, "layout"), NAME);
    let (name, program, root) = (registry.image(NAME), verifier(&scratch), scratch.at("root"));
    scratch.write("allowed", "");
    let board = Board::armv7();
    board
        .edgepull(["--verifier", &program, "pull", &name, &root])
        .fails_with(exit::VERIFICATION)
        .saying("is not allowed: the verifier")
        .saying("exit status: 3")
        .saying("not on the list");
    assert!(!scratch.path("root").exists());
    let told = fs::read_to_string(scratch.path("told")).expect("it was run");
    let (line, descriptor) = told.split_once('\n').expect("a line");
    let words: Vec<&str> = line.split('|').collect();
    assert_eq!(words[..3], ["2", name.as_str(), index.digest()]);
    assert!(words[3].starts_with("sha256:") && words[3] != index.digest(), "{line}");
    let descriptor: serde_json::Value = serde_json::from_str(descriptor).expect("a descriptor");
    assert_eq!(descriptor["digest"], index.digest());
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert!(descriptor["size"].as_u64().is_some_and(|size| size > 100), "{descriptor}");

    scratch.write("allowed", index.digest());
    board.edgepull(["--verifier", &program, "pull", &name, &root]).succeeds();
    let gone = scratch.at("no-such-program");
    board
        .edgepull(["--verifier", &gone, "pull", &name, &scratch.at("other")])
        .fails_with(exit::VERIFICATION)
        .saying("could not be run");
}

#[test]
fn a_deployment_remembers_its_verifier_and_repairs_by_it() {
    let registry = Registry::start();
    let scratch = Scratch::new();
    let first = image(b"one");
    registry.push(&first.layout(&scratch, "first"), NAME);
    let (name, program) = (registry.image(NAME), verifier(&scratch));
    scratch.write("allowed", first.digest());
    let board = Board::armv7();
    board.edgepull(["deploy", "app", &name, "--verifier", &program]).succeeds();
    // Nothing new: nobody is asked.
    fs::remove_file(scratch.path("told")).expect("it was asked");
    board.edgepull(["update", "app"]).succeeds();
    assert!(!scratch.path("told").exists());

    let second = image(b"two");
    registry.push(&second.layout(&scratch, "second"), NAME);
    board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION).saying("not allowed");
    // What is refused is not pinned, either.
    board
        .edgepull(["deploy", "app", &name, "--pin-digest"])
        .fails_with(exit::VERIFICATION)
        .saying("not allowed");
    assert!(!board.edgepull(["status", "app"]).succeeds().stdout().contains("pinned"));
    let file = board.beside_state("state/deployments/app/current/rootfs/file");
    assert_eq!(fs::read(&file).expect("a file"), b"one");
    // Tomorrow it may be allowed.
    scratch.write("allowed", second.digest());
    board.edgepull(["update", "app"]).succeeds();
    assert_eq!(fs::read(&file).expect("a file"), b"two");

    fs::write(&file, b"2wo").expect("damaged");
    scratch.write("allowed", "");
    board.edgepull(["verify", "--repair"]).fails_with(exit::VERIFICATION).saying("not allowed");
    scratch.write("allowed", second.digest());
    board.edgepull(["verify", "--repair"]).succeeds();
    assert_eq!(fs::read(&file).expect("a file"), b"two");
    // Taken back.
    scratch.write("allowed", "");
    registry.push(&image(b"three").layout(&scratch, "third"), NAME);
    board.edgepull(["deploy", "app", &name, "--verifier="]).succeeds();
}

#[test]
fn a_layer_that_came_for_another_image_is_used_and_not_swept_away() {
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let scratch = Scratch::new();
    let shared = || Layer::new().file("shared", noise(200_000));
    let with = |top: Layer| Image::of(V7).layer(shared()).layer(top).build();
    let first = with(Layer::new().file("top", noise(100_000)));
    registry.push(&first.layout(&scratch, "first"), NAME);
    let name = proxy.image(NAME);
    // The first layer comes, the second does not, and then the tag names something else.
    let proxy = proxy.always(Place::Blob(first.layer(1)), Fault::Status(404, None));
    let board = Board::armv7();
    board.edgepull(["deploy", "app", &name]).fails_with(exit::NOT_FOUND);
    let before = proxy.asked_for(&first.layer(0)).len();
    assert_eq!(before, 1, "it came");
    registry.push(&with(Layer::new().file("other", "two")).layout(&scratch, "second"), NAME);
    board.edgepull(["deploy", "app", &name]).succeeds();
    assert_eq!(proxy.asked_for(&first.layer(0)).len(), before, "it came twice");
    let current = board.beside_state("state/deployments/app/current/rootfs");
    assert_eq!(fs::read(current.join("shared")).expect("a file"), noise(200_000));
    assert_eq!(fs::read(current.join("other")).expect("a file"), b"two");
}

/// What fetches reads the layout, and what that is made of, wherever it is.
#[test]
fn layouts_of_links_are_read() {
    let scratch = Scratch::new();
    let layout = image(b"linked").layout(&scratch, "layout");
    let (blobs, elsewhere) = (scratch.path("layout/blobs/sha256"), scratch.path("elsewhere"));
    let pulls = |name: &str| {
        let root = scratch.at(name);
        Board::armv7().edgepull(["pull", &format!("oci:{layout}"), &root]).succeeds();
        assert_eq!(fs::read(scratch.path(name).join("file")).expect("a file"), b"linked");
    };
    fs::rename(&blobs, &elsewhere).expect("renamed");
    symlink(&elsewhere, &blobs).expect("a link");
    pulls("directory");
    fs::remove_file(&blobs).expect("no link");
    fs::create_dir(&blobs).expect("a folder");
    for blob in fs::read_dir(&elsewhere).expect("blobs") {
        let blob = blob.expect("a blob");
        symlink(blob.path(), blobs.join(blob.file_name())).expect("a link");
    }
    pulls("files");
}
