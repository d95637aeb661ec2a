//! Whom a deployment's files are for: what UPPER= keeps is root's alone, and a user of the image's runs where nobody else may
//! enter, by hand and below units.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use serde_json::json;

use crate::guests::text;
use crate::harness::*;
use crate::units::{Booted, ByHand, SERVES, TOOLS, base, running};

/// What nobody, a user whom each board has, gets from a command.
fn as_nobody(command: &[&str]) -> bool {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(command);
    setpriv.output().expect("setpriv, of util-linux").status.success()
}

/// A folder that other users can reach, as `/srv` is.
fn reachable(board: &ByHand) {
    run("chmod", ["a+rx", &board.scratch.at("")]);
}

/// Writes what an image has for everybody: a set-user-ID program, and a file that all may change.
const LEAVES: &str =
    "cp /bin/busybox /root-s; chmod 4755 /root-s; echo mine >/mine; chmod 666 /mine; cat /mine /before";

#[test]
fn what_is_kept_is_for_root_alone() {
    let board = ByHand::new("");
    let upper = board.scratch.at("upper");
    board.set(&format!("UPPER={upper}"));
    board.deploys("1\n", LEAVES);
    // Where a board's folders are open to others, and this one was made by hand.
    reachable(&board);
    fs::create_dir(&upper).expect("a folder");
    let (said, _) = board.runs();
    assert!(said.contains("mine\n"), "{said}");
    let program = run("find", [&upper[..], "-name", "root-s", "-perm", "-4000"]);
    assert_eq!(program.lines().count(), 1, "{program}");
    assert!(!as_nobody(&[program.trim(), "id"]), "nobody runs it");
    assert!(!as_nobody(&[
        "sh",
        "-c",
        &format!("echo changed >{}", program.trim().replace("root-s", "mine"))
    ]));
    assert!(as_nobody(&["ls", &upper]), "the folder itself could be reached");
    board.verifies();
}

#[test]
fn what_the_released_version_has_kept_is_taken_over_wherever_that_is_cut() {
    for cut in ["nowhere", "before files", "between files and work"] {
        let board = ByHand::new("");
        let upper = board.scratch.at("upper");
        board.set(&format!("UPPER={upper}"));
        board.deploys("1\n", "cat /mine /before; rm /before");
        for folder in ["files", "work/work"] {
            fs::create_dir_all(format!("{upper}/{folder}")).expect("a folder");
        }
        fs::write(format!("{upper}/files/before"), "kept before\n").expect("a file");
        if cut != "nowhere" {
            fs::create_dir(format!("{upper}/private")).expect("a folder");
        }
        if cut == "between files and work" {
            fs::rename(format!("{upper}/files"), format!("{upper}/private/files")).expect("a move");
        }
        let (said, _) = board.runs();
        assert!(said.contains("kept before\n"), "{cut}: {said}");
        let left: Vec<_> =
            fs::read_dir(&upper).expect("it").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["private"], "{cut}");
        let mode = fs::metadata(format!("{upper}/private")).expect("it").mode();
        assert_eq!(mode & 0o7777, 0o700, "{cut}");
        // What was removed stays removed, so it is what it writes to.
        assert!(board.runs().0.contains("can't open '/before'"), "{cut}");

        // An older version has run in between: what it kept is neither mixed in nor removed.
        fs::create_dir_all(format!("{upper}/files")).expect("a folder");
        fs::write(format!("{upper}/files/before"), "kept elsewhere\n").expect("a file");
        let (said, _) = board.runs();
        assert!(!said.contains("kept elsewhere"), "{said}");
        assert!(said.contains(&format!("{upper}/files, which an older edgepull has made, is not")), "{said}");
    }
}

#[test]
fn what_others_could_change_is_not_kept_in() {
    let board = ByHand::new("");
    board.deploys("1\n", "echo it runs");
    let refused = |upper: &str, at: &str| {
        board.set(&format!("UPPER={upper}"));
        let (said, code) = board.runs();
        assert_ne!(code, 0, "{said}");
        assert!(!said.contains("it runs"), "{said}");
        let why = format!("{at} belongs to others than root, or others can write to it");
        assert!(said.contains(&format!("UPPER={upper}: {why}")), "{said}");
    };
    let upper = board.scratch.at("upper");
    fs::create_dir_all(format!("{upper}/below")).expect("folders");
    for mode in ["777", "775", "757", "1777"] {
        run("chmod", [mode, &upper]);
        refused(&upper, &upper);
    }
    run("chmod", ["777", &upper]);
    refused(&format!("{upper}/below"), &upper);
    refused(&format!("{upper}/new"), &upper);
    run("chmod", ["755", &upper]);
    run("chown", ["65534", &upper]);
    refused(&upper, &upper);
    refused(&format!("{upper}/below"), &upper);
    run("chown", ["0", &upper]);
    symlink(&upper, board.scratch.path("link")).expect("a link");
    run("chmod", ["1777", &upper]);
    refused(&board.scratch.at("link"), &upper);
    // Another user's link leads root nowhere, and nothing is made behind it.
    let theirs = board.scratch.at("theirs");
    fs::create_dir_all(board.scratch.path("root-s")).expect("folders");
    symlink(board.scratch.path("root-s"), &theirs).expect("a link");
    run("chown", ["-h", "65534", &theirs]);
    refused(&theirs, &theirs);
    refused(&format!("{theirs}/new"), &theirs);
    assert_eq!(fs::read_dir(board.scratch.path("root-s")).expect("a folder").count(), 0);
    // In a directory such as /tmp nobody else can move it.
    board.set(&format!("UPPER={upper}/below"));
    let (said, code) = board.runs();
    assert!(code == 0 && said.contains("it runs"), "{said}");
}

/// The state directory as it is when nobody but root may enter what is deployed.
fn closed(state: &str) {
    run("chmod", ["700", &format!("{state}/deployments")]);
    run("chmod", ["700", &format!("{state}/deployments/web")]);
}

#[test]
fn a_user_of_the_image_s_runs_in_a_deployment_that_is_closed_to_others() {
    for mode in ["overlay", "read-only"] {
        let board = ByHand::new(&format!("ROOT={mode}"));
        let image = || Image::of("linux/amd64").layer(base("1\n")).configured("User", json!("1000:1000"));
        board.deploys_image("one", running(image(), "id; cat /etc/version; echo x >/tmp/x && cat /tmp/x"));
        closed(&board.scratch.at("state"));
        run("chmod", ["700", &board.scratch.at("state")]);
        let (said, code) = board.runs();
        assert_eq!(code, if mode == "overlay" { 1 } else { 0 }, "{said}");
        assert!(said.contains("uid=1000 gid=1000") && said.contains("\n1\n"), "{mode}: {said}");
        let root = board.scratch.at("root");
        fs::create_dir(&root).expect("a folder");
        reachable(&board);
        // crun has made it, too.
        fs::remove_dir_all(board.scratch.path("run")).expect("its place");
        let user = "--reuid=1000 --regid=1000 --clear-groups";
        let inside =
            format!("exec setpriv {user} unshare --map-root-user chroot {root} /bin/cat /etc/version");
        let out = board.output(&["root", "web", &root, "sh", "-c", &inside]);
        assert_eq!(text(out), "1\n", "{mode}");
        let mode = fs::metadata(board.scratch.path("run/web")).expect("its place").mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert!(!as_nobody(&["ls", &board.scratch.at("run/web")]));
    }
}

#[test]
fn a_user_of_the_image_s_is_updated_and_healthy_below_units() {
    let board = Booted::new();
    let health = "systemctl is-active --quiet edgepull-app@web && \
        [ \"$(cat /var/lib/edgepull/deployments/web/current/rootfs/etc/version)\" != bad ]";
    let options = format!(
        "IMAGE=oci:/test/layout\nOPTIONS=\"--on-switch 'systemctl restart edgepull-app@web' --health '{}'\"\n",
        health.replace('"', "\\\"").replace('$', "\\$")
    );
    board.scratch.write("etc/deploy/web.conf", options);
    let image = |version: &str| {
        running(Image::of("linux/amd64").layer(base(version)).configured("User", json!("1000:1000")), SERVES)
    };
    board.publishes_image(image("one"));
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-provision || log edgepull-provision; now provisioned
        chmod 700 /var/lib/edgepull/deployments /var/lib/edgepull/deployments/web
        systemctl restart edgepull-app@web; now closed; inside grep Uid /proc/1/status"
    ));
    assert!(said.contains("provisioned: active one\nclosed: active one\nUid:\t1000\t1000"), "{said}");
    for (version, then) in [("two", "two"), ("bad", "two")] {
        board.publishes_image(image(version));
        let said = board.boots(&format!(
            "{TOOLS}
            chmod 700 /var/lib/edgepull/deployments /var/lib/edgepull/deployments/web
            systemctl start edgepull-app@web
            systemctl start edgepull-update || log edgepull-update; now updated"
        ));
        assert!(said.contains(&format!("updated: active {then}\n")), "{said}");
    }
}
