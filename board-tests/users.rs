//! Other users of the board: they run, change, read and add to nothing that is deployed, and status goes on to answer them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::*;

/// A state directory of version 0.1.0 (`board-tests/fixtures/state`).
const RELEASED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/fixtures/state-0.1.0.tar.gz");

/// A board with a state directory whose parents everybody may go through, as /var/lib.
struct Shared {
    scratch: Scratch,
    board: Board,
}

impl Shared {
    fn new() -> Shared {
        let scratch = Scratch::new();
        open(&scratch.path(""), 0o755);
        Shared { scratch, board: Board::armv7() }
    }

    /// The state directory is one that version 0.1.0 has written.
    fn released() -> Shared {
        let shared = Shared::new();
        fs::create_dir(shared.state("")).expect("a folder");
        run("tar", ["--numeric-owner", "-C", &shared.scratch.at("state"), "-xpzf", RELEASED]);
        shared
    }

    fn state(&self, below: &str) -> PathBuf {
        self.scratch.path("state").join(below)
    }

    fn edgepull(&self, words: &[&str]) -> Outcome {
        let state = self.scratch.at("state");
        self.board.edgepull(["--state-dir", &state].into_iter().chain(words.iter().copied()))
    }

    fn deploys(&self, version: &str, options: &[&str]) -> Outcome {
        let image =
            format!("{}:latest", release(version).layout(&self.scratch, &format!("layout-{version}")));
        let image = format!("oci:{image}");
        self.edgepull(&[&["deploy", "web", &image], options].concat())
    }

    fn current(&self, below: &str) -> PathBuf {
        self.state("deployments/web/current/rootfs").join(below)
    }
}

/// What is dangerous in other users' hands: a program that runs as its owner, a file that everybody may write to, and one
/// of a user that the board has, too.
fn release(version: &str) -> Artifact {
    let id = fs::read(run("sh", ["-c", "command -v id"]).trim()).expect("id, of coreutils");
    let layer = Layer::new()
        .file_mode("bin/suid", id, 0o4755)
        .file_mode("srv.conf", "admin=no\n", 0o666)
        .owned_by(65534, 65534)
        .file_mode("app/run.sh", "#!/bin/sh\necho good\n", 0o755)
        .owned_by(0, 0)
        .dir("tmp", 0o1777)
        .file("etc/version", version);
    Image::of("linux/arm/v7").layer(layer).build()
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Runs a command as the user nobody, without any of root's rights.
fn by_nobody(words: &[&str]) -> Output {
    let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"];
    // A program that is set-user-ID shall work if it can be reached: so not --no-new-privs.
    Command::new("setpriv").args(&drop[..4]).args(words).output().expect("setpriv, of util-linux")
}

/// Each attempt of the user nobody upon what is deployed.
fn attempts(shared: &Shared) -> Vec<(&'static str, bool)> {
    let root = shared.scratch.at("state/deployments/web/current/rootfs");
    let record = shared.scratch.at("state/deployments/web/record");
    let link = shared.scratch.at("taken");
    let shell = |script: String| by_nobody(&["sh", "-c", &script]).status.success();
    open(&shared.scratch.path(""), 0o1777);
    let done = vec![
        ("run a program as its owner", shell(format!("{root}/bin/suid"))),
        ("write to a file", shell(format!("echo admin=yes >{root}/srv.conf"))),
        ("write to a file of a user with the same number", shell(format!("echo evil >{root}/app/run.sh"))),
        ("add a file", shell(format!("touch {root}/tmp/new"))),
        ("link to a file", shell(format!("ln {root}/app/run.sh {link}"))),
        ("list the deployments", shell(format!("ls {}", shared.scratch.at("state/deployments")))),
        ("read the record", shell(format!("cat {record}"))),
        ("read a config.json", shell(format!("cat {root}/../config.json"))),
    ];
    open(&shared.scratch.path(""), 0o755);
    done
}

/// Every directory below the state directory that others may enter, but for `status`; and files that they may read there.
fn open_to_others(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state).expect("a list") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a mode").permissions().mode();
        if !matches!(entry.file_name().to_str(), Some("status" | "clock")) && mode & 0o077 != 0 {
            found.push(entry.path());
        }
    }
    let deployment = state.join("deployments/web");
    let generations = fs::read_dir(deployment.join("generations")).expect("a list");
    let below = generations.map(|entry| entry.expect("an entry").path());
    for path in below.chain(["", "generations", "work", "record"].map(|name| deployment.join(name))) {
        if fs::metadata(&path).expect("a mode").permissions().mode() & 0o077 != 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn nobody_runs_changes_reads_or_adds_to_what_is_deployed() {
    let shared = Shared::new();
    shared.deploys("1", &["--health", "true"]).succeeds();
    let done = attempts(&shared);
    assert!(done.iter().all(|(_, done)| !done), "{done:?}");
    assert_eq!(open_to_others(&shared.state("")), Vec::<PathBuf>::new());
    // Otherwise they would have succeeded: the image's own modes allow it.
    open(&shared.state("deployments"), 0o711);
    open(&shared.state("deployments/web"), 0o711);
    open(&shared.state("deployments/web/generations"), 0o711);
    open(&shared.state("deployments/web/generations/1"), 0o711);
    let done = attempts(&shared);
    assert!(done[..4].iter().all(|(_, done)| *done), "{done:?}");
    // The next run ends that.
    shared.edgepull(&["gc"]).succeeds().saying("other users of this board could enter");
    let done = attempts(&shared);
    assert!(done.iter().all(|(_, done)| !done), "{done:?}");
    shared.edgepull(&["gc"]).succeeds().without_saying("other users");
}

#[test]
fn status_answers_everybody_and_tells_no_command() {
    let shared = Shared::new();
    shared.deploys("1", &["--health", "true secret"]).succeeds();
    shared.deploys("2", &[]).succeeds();
    let (state, program) = (shared.scratch.at("state"), shared.scratch.at("edgepull"));
    run("install", ["-m", "755", &agent(), &program]);
    let theirs = |words: &[&str]| {
        let out = by_nobody(&[&[program.as_str(), "--state-dir", &state], words].concat());
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).expect("text")
    };
    let root = shared.edgepull(&["status"]).succeeds().stdout();
    assert!(root.contains("secret") && root.contains("current    2"), "{root}");
    let table = theirs(&["status"]);
    assert!(!table.contains("secret") && table.contains("current    2") && table.contains("previous   1"));
    assert_eq!(theirs(&["status", "web"]), table);
    let object: Value = serde_json::from_str(&theirs(&["--json", "status", "web"])).expect("JSON");
    assert_eq!(object["current"]["generation"], 2);
    assert_eq!(object["tracking"], serde_json::json!({ "keep": 2, "pinDigest": null }));
    let out = by_nobody(&[&program, "--state-dir", &state, "status", "other"]);
    assert_eq!(out.status.code(), Some(exit::NOT_FOUND), "{out:?}");
}

#[test]
fn a_state_directory_of_version_0_1_0_is_taken_over_and_closed() {
    let shared = Shared::released();
    let done = attempts(&shared);
    assert!(done[..4].iter().all(|(_, done)| *done), "version 0.1.0 was open: {done:?}");
    // The attempts have changed what others could change; the file that has now another name is found by that.
    fs::write(shared.current("srv.conf"), "admin=no\n").expect("a file");
    fs::write(shared.current("app/run.sh"), "#!/bin/sh\necho good\n").expect("a file");
    for file in ["srv.conf", "app/run.sh"] {
        run("touch", ["-d", "@1704067200", &shared.current(file).display().to_string()]);
    }
    fs::remove_file(shared.current("tmp/new")).expect("a file");
    run("touch", ["-d", "@1704067200", &shared.current("tmp").display().to_string()]);
    let _ = fs::remove_file(shared.scratch.path("taken"));
    fs::hard_link(shared.current("bin/suid"), shared.scratch.path("taken")).expect("a link");

    let said = shared.edgepull(&["verify"]).succeeds();
    let said = said.saying("has 1 names outside of the state directory").stderr();
    assert_eq!(said.matches("outside of the state directory").count(), 1, "{said}");
    assert_eq!(open_to_others(&shared.state("")), Vec::<PathBuf>::new());
    let root = fs::metadata(shared.current("")).expect("a root").permissions().mode() & 0o7777;
    assert_eq!(root, 0o755, "the image's own modes stay");
    let done = attempts(&shared);
    assert!(done.iter().all(|(_, done)| !done), "{done:?}");

    // It goes on where it was: the third generation was left by hand, and the one before is still there.
    let status = shared.edgepull(&["--json", "status", "web"]).succeeds().stdout();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((&status["current"]["generation"], &status["previous"]["generation"]), (&2.into(), &1.into()));
    shared.edgepull(&["rollback", "web"]).succeeds();
    shared.deploys("4", &[]).succeeds();
    shared.edgepull(&["rollback", "web"]).succeeds();
    assert_eq!(fs::read_to_string(shared.current("etc/version")).expect("a file"), "1\n");
    shared.edgepull(&["verify"]).succeeds().without_saying("other users");
}

#[test]
fn a_record_that_others_may_have_written_runs_no_command() {
    let shared = Shared::new();
    let witness = shared.scratch.at("witness");
    shared.deploys("1", &["--on-switch", &format!("touch {witness}")]).succeeds();
    fs::remove_file(&witness).expect("it ran");
    let record = shared.state("deployments/web/record");
    let distrusted: [(&str, &dyn Fn()); 3] = [
        ("its mode 666", &|| open(&record, 0o666)),
        ("its mode 620", &|| open(&record, 0o620)),
        ("it belongs to user 1000", &|| {
            open(&record, 0o600);
            chown(&record, Some(1000), None).expect("an owner");
        }),
    ];
    for (how, distrust) in distrusted {
        distrust();
        for words in [&["update"][..], &["rollback", "web"], &["confirm", "web"]] {
            shared.edgepull(words).fails_with(exit::DISK).saying("record").saying(how).saying("chmod go-w");
        }
        shared.deploys("2", &[]).fails_with(exit::DISK).saying(how);
    }
    assert!(!Path::new(&witness).exists(), "no command of it was run");
    assert_eq!(fs::read_to_string(shared.current("etc/version")).expect("what is live stays"), "1");
    chown(&record, Some(0), None).expect("an owner");
    shared.deploys("2", &[]).succeeds();
    assert!(Path::new(&witness).exists());
}

#[test]
fn a_state_directory_of_somebody_else_is_refused() {
    let shared = Shared::new();
    shared.deploys("1", &[]).succeeds();
    chown(shared.state(""), Some(1000), None).expect("an owner");
    shared.edgepull(&["update"]).fails_with(exit::DISK).saying("belongs to user 1000");
    chown(shared.state(""), Some(0), None).expect("an owner");
    // One that others may write to is theirs no longer.
    open(&shared.state(""), 0o777);
    shared.edgepull(&["update"]).succeeds();
    let mode = fs::metadata(shared.state("")).expect("a mode").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
}

#[test]
fn why_something_failed_is_told_to_root_alone() {
    let shared = Shared::new();
    shared.deploys("1", &[]).succeeds();
    shared.deploys("2", &["--health", "exit 7 # --password hunter2"]).fails_with(exit::UNHEALTHY);
    let root = shared.edgepull(&["status"]).succeeds().stdout();
    assert!(root.contains("hunter2"), "{root}");
    let public = fs::read_to_string(shared.state("status/web")).expect("a file");
    assert!(public.contains("root can see why") && !public.contains("hunter2"), "{public}");
}

#[test]
fn what_others_have_put_into_the_state_directory_is_not_used() {
    let victim = Scratch::new();
    type Make<'a> = &'a dyn Fn(&Path);
    let made: [(&str, Make<'_>); 5] = [
        ("status", &|at| std::os::unix::fs::symlink(victim.path(""), at).expect("a link")),
        ("trash", &|at| drop(run("mkfifo", [at]))),
        ("layers", &|at| fs::create_dir(at).expect("a folder")),
        ("deployments", &|at| fs::create_dir(at).expect("a folder")),
        ("deployments/web", &|at| fs::create_dir_all(at.join("generations")).expect("a folder")),
    ];
    for (name, make) in made {
        let shared = Shared::new();
        fs::create_dir(shared.state("")).expect("a folder");
        open(&shared.state(""), 0o1777);
        if name.contains('/') {
            fs::create_dir(shared.state("deployments")).expect("a folder");
        }
        make(&shared.state(name));
        run("chown", ["-hR", "1000", &shared.state(name).display().to_string()]);
        shared.deploys("1", &[]).fails_with(exit::DISK).saying(name).saying("it is not used");
        assert!(victim.names().is_empty(), "{:?}", victim.names());
    }
}

#[test]
fn a_record_that_is_no_file_loses_nothing_and_stops_no_other_deployment() {
    let shared = Shared::new();
    shared.deploys("1", &[]).succeeds();
    let record = shared.state("deployments/web/record");
    let kept = shared.scratch.path("record");
    fs::rename(&record, &kept).expect("a record");
    let image = format!("oci:{}:latest", release("2").layout(&shared.scratch, "other"));
    let replaced: [&dyn Fn(); 4] = [
        &|| drop(run("mkfifo", [&record])),
        &|| fs::create_dir(&record).expect("a folder"),
        &|| std::os::unix::fs::symlink("nowhere", &record).expect("a link"),
        &|| {},
    ];
    for replace in replaced {
        replace();
        shared.edgepull(&["status"]).fails_with(exit::DISK).saying("record");
        shared.edgepull(&["update"]).fails_with(exit::DISK).saying("record");
        shared.edgepull(&["deploy", "other", &image]).succeeds();
        shared.edgepull(&["gc"]).fails_with(exit::DISK);
        run("rm", ["-rf", &record.display().to_string()]);
    }
    fs::rename(&kept, &record).expect("a record");
    shared.edgepull(&["verify"]).succeeds();
    assert_eq!(fs::read_to_string(shared.current("etc/version")).expect("a file"), "1");
}
