//! Guests that want more than they were given: containers of real crun, run by systemd/app, that try to get at the board's
//! devices and mounts, where no unit confines them, and below one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::*;
use crate::units::{Booted, ByHand, SERVES, TOOLS, base, running};

/// What edgepull wrote at commit 79086f1 for an image whose shell runs `SCRIPT`.
const RELEASED_CONFIG: &str = include_str!("guests/config-79086f1.json");

/// podman's default capabilities, by their bits: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;

/// A disk of the board's, on which something is written.
struct Disk {
    scratch: Scratch,
    minor: u32,
}

const ON_THE_DISK: &str = "what the board needs to boot";

impl Disk {
    fn new() -> Disk {
        let scratch = Scratch::new();
        let mut content = ON_THE_DISK.as_bytes().to_vec();
        content.resize(64 << 10, b'.');
        scratch.write("disk", content);
        let device = run("losetup", ["--find", "--show", &scratch.at("disk")]);
        let minor = device.trim().strip_prefix("/dev/loop").and_then(|minor| minor.parse().ok());
        Disk { scratch, minor: minor.expect("a loop device") }
    }

    fn is_untouched(&self) {
        run("sync", [""; 0]);
        let content = fs::read(self.scratch.path("disk")).expect("the disk");
        assert!(content.starts_with(ON_THE_DISK.as_bytes()), "a guest has written to it");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &format!("/dev/loop{}", self.minor)]).status();
    }
}

/// An image that brings device files: of a disk (loop device `minor`), memory, the kernel's log, and zeros.
fn with_devices(minor: u32) -> Image {
    let mut layer = base("1\n").dir("srv", 0o755).dir("mnt", 0o755);
    for folder in ["srv", "dev"] {
        layer = layer
            .block_device(&format!("{folder}/disk"), 7, minor)
            .char_device(&format!("{folder}/mem"), 1, 1)
            .char_device(&format!("{folder}/kmsg"), 1, 11)
            .char_device(&format!("{folder}/zeros"), 1, 5);
    }
    Image::of("linux/amd64").layer(layer)
}

/// A script that tries all of it, and says what succeeded. `/data` is a directory of the board's, in which somebody has
/// left `zeros`.
fn attempts(minor: u32) -> String {
    format!(
        r#"
        tries() {{ if "$@" >/dev/null 2>&1; then echo "succeeded: $*"; fi; }}
        reads() {{ dd "if=$1" of=/dev/null bs=512 count=1; }}
        writes() {{ echo overwritten >"$1"; }}
        alone() {{ unshare -U -r -m sh -c "$1"; }}
        for place in /srv /dev /data; do
            for node in disk mem kmsg zeros "a stick/zeros"; do
                [ ! -e "$place/$node" ] || tries reads "$place/$node"
            done
            [ ! -e $place/disk ] || tries writes $place/disk
        done
        for place in / /tmp /dev /dev/shm /var /data; do
            for node in "b 7 {minor}" "c 1 1" "c 1 11" "c 1 5"; do
                tries mknod $place/new $node
                [ ! -e $place/new ] || tries reads $place/new
                rm -f $place/new
            done
        done
        tries mount -t tmpfs none /mnt
        tries mount --bind /srv /mnt
        tries mount -o remount,bind,dev /
        tries umount /proc/keys
        tries unshare -m true
        tries alone true
        tries alone "mount -o remount,bind,dev / && dd if=/srv/zeros of=/dev/null bs=512 count=1"
        tries alone "mount --bind /srv /mnt && mount -o remount,bind,dev /mnt; dd if=/mnt/zeros of=/dev/null bs=512 count=1"
        tries alone "mount -t tmpfs none /mnt && mknod /mnt/zeros c 1 5"
        tries chmod 600 /dev/null
        tries writes /dev/null
        tries reads /dev/zero
        tries reads /dev/urandom
        tries writes /tmp/file
        grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status
        echo mounts; cat /proc/self/mountinfo
        "#
    )
}

/// What succeeds on a board that gives nothing away.
const ORDINARY: [&str; 4] = ["writes /dev/null", "reads /dev/zero", "reads /dev/urandom", "writes /tmp/file"];

fn succeeded(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.strip_prefix("succeeded: ")).collect()
}

/// Every mount that a guest has seen is nodev, but for its terminals and for device files that are mounts themselves.
fn all_are_nodev(said: &str) {
    let (_, mounts) = said.split_once("mounts\n").expect("its mounts");
    let mounts: Vec<Vec<&str>> = mounts
        .lines()
        .map(|line| line.split(' ').collect())
        .take_while(|fields: &Vec<&str>| fields[0].parse::<u32>().is_ok())
        .collect();
    assert!(mounts.iter().any(|fields| fields[4] == "/"), "{said}");
    for fields in mounts {
        let (root, point, options) = (fields[3], fields[4], fields[5]);
        let is_device = ["/null", "/zero", "/full", "/random", "/urandom", "/tty"].contains(&root);
        let open = point == "/dev/pts" || is_device;
        assert!(options.split(',').any(|option| option == "nodev") || open, "{fields:?} in {said}");
    }
}

/// Makes a crun that does `script` before it is crun, with `$bundle` where a container is to be run.
fn before_crun(board: &ByHand, script: &str) -> String {
    let crun = run("sh", ["-c", "command -v crun"]);
    let script = format!(
        "#!/bin/sh\nbundle=\nlast=\nfor word in \"$@\"; do [ \"$last\" != --bundle ] || bundle=$word; last=$word; done\n\
         {script}\nexec {} \"$@\"\n",
        crun.trim()
    );
    board.scratch.write("bin/crun", script);
    fs::set_permissions(board.scratch.path("bin/crun"), fs::Permissions::from_mode(0o755)).expect("a script");
    format!("{}:{}", board.scratch.at("bin"), std::env::var("PATH").expect("a PATH"))
}

pub(super) fn text(out: std::process::Output) -> String {
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

fn has_only_podmans_rights(said: &str) {
    for set in ["CapBnd", "CapEff"] {
        assert!(said.contains(&format!("{set}:\t{CAPABILITIES:016x}\n")), "{said}");
    }
    assert!(said.contains("NoNewPrivs:\t1\n"), "{said}");
}

/// Makes the current generation one that an edgepull of the time had deployed.
fn as_released(board: &ByHand, script: &str) {
    let script = json!(script).to_string();
    let config = RELEASED_CONFIG.replace("\"SCRIPT\"", &script);
    fs::write(board.rootfs(1).with_file_name("config.json"), config).expect("the generation");
}

/// Leaves device files in the folder `data`, and in a stick that is mounted beneath it.
fn leave_devices(data: &str, stick: &str) {
    for folder in [data, stick] {
        run("mknod", ["-m", "666", &format!("{folder}/zeros"), "c", "1", "5"]);
    }
}

/// A PATH on which busybox comes first, with all that systemd/app calls besides crun.
fn busybox_first(board: &ByHand) -> String {
    let busybox = run("sh", ["-c", "command -v busybox"]);
    let applets =
        "awk cat chmod chown dirname grep ln mkdir mount mv readlink sed sleep stat tr uname unshare";
    fs::create_dir(board.scratch.path("busybox")).expect("a folder");
    for applet in applets.split(' ') {
        let link = board.scratch.path(&format!("busybox/{applet}"));
        symlink(busybox.trim(), link).expect("a link");
    }
    format!("{}:{}", board.scratch.at("busybox"), std::env::var("PATH").expect("a PATH"))
}

#[test]
fn nothing_is_a_device_to_a_guest_without_a_unit() {
    let disk = Disk::new();
    let script = attempts(disk.minor);
    for (root, released, busybox) in [
        ("overlay", false, false),
        ("overlay", true, true),
        ("read-only", false, true),
        ("read-only", true, false),
    ] {
        let board = ByHand::new("");
        let (data, stick) = (board.scratch.at("data"), board.scratch.at("data/a stick"));
        let _stick = SmallDisk::mount(&stick, 64);
        leave_devices(&data, &stick);
        board.set(&format!("ROOT={root}\nBIND='{data}:/data {data}:/kept:ro'"));
        board.deploys_image("one", running(with_devices(disk.minor), &script));
        if released {
            as_released(&board, &script);
        }
        let mut app = board.app(&["run", "web"]);
        if busybox {
            app.env("PATH", busybox_first(&board));
        }
        let said = text(app.output().expect("unshare"));
        assert_eq!(succeeded(&said), ORDINARY, "{root}: {said}");
        assert!(said.contains("Seccomp:\t2\n"), "{said}");
        has_only_podmans_rights(&said);
        all_are_nodev(&said);
        assert_eq!(said.contains(" / ro,nodev,"), root == "read-only", "{said}");
        assert!(said.contains(" /kept/a\\040stick ro,nosuid,nodev,"), "{said}");
    }
    disk.is_untouched();
}

#[test]
fn a_guest_that_is_root_in_a_namespace_of_its_own_finds_no_device_either() {
    let disk = Disk::new();
    let board = ByHand::new("ROOT=overlay");
    board.deploys_image("one", running(with_devices(disk.minor), &attempts(disk.minor)));
    // What is left of a filter of system calls where crun was built without libseccomp.
    let path = before_crun(
        &board,
        r#"
        if [ "$1" = --version ]; then echo 'crun version 1.8.1 +CAP'; exit; fi
        [ -z "$bundle" ] || sed -i '/^,"seccomp"/,/\]}\]}$/d' "$bundle/config.json""#,
    );
    let said = text(board.app(&["run", "web"]).env("PATH", path).output().expect("unshare"));
    assert!(said.contains("Seccomp:\t0\n") && said.contains("this crun was built without seccomp"), "{said}");
    let (namespaces, rest): (Vec<_>, Vec<_>) =
        succeeded(&said).into_iter().partition(|it| *it == "alone true");
    assert_eq!((namespaces.len(), rest), (1, ORDINARY.to_vec()), "{said}");
    has_only_podmans_rights(&said);
    all_are_nodev(&said);
    disk.is_untouched();
}

#[test]
fn a_container_whose_root_could_not_be_sealed_does_not_run() {
    let board = ByHand::new("");
    board.deploys_image("one", running(with_devices(0), "echo it runs"));
    assert!(board.runs().0.contains("it runs"));
    // The mount(8) that crun's hook finds cannot.
    let path = before_crun(&board, "");
    board.scratch.write("bin/mount", "#!/bin/sh\ncase $* in *bundle/rootfs*overlay* | *overlay*bundle/rootfs) ;; *bundle/rootfs*) exit 1 ;; esac\nexec /bin/mount \"$@\"\n");
    fs::set_permissions(board.scratch.path("bin/mount"), fs::Permissions::from_mode(0o755))
        .expect("a script");
    let out = board.app(&["run", "web"]).env("PATH", path).output().expect("unshare");
    assert!(!out.status.success());
    let said = text(out);
    assert!(!said.contains("it runs"), "{said}");
    assert!(said.contains("generations/1, overlay"), "the root had been mounted: {said}");
}

#[test]
fn what_is_bound_is_no_device_unless_it_is_named() {
    let board = ByHand::new("");
    let (data, stick) = (board.scratch.at("data"), board.scratch.at("data/a stick"));
    let _stick = SmallDisk::mount(&stick, 64);
    leave_devices(&data, &stick);
    let script = "
        tries() { if \"$@\" >/dev/null 2>&1; then echo \"succeeded: $*\"; fi; }
        reads() { dd if=\"$1\" of=/dev/null bs=16 count=1; }
        for place in /data /kept; do
            for file in zeros 'a stick/zeros'; do tries reads \"$place/$file\"; done
            for file in new 'a stick/new'; do tries touch \"$place/$file\"; done
        done
        tries reads /dev/gpiochip0; tries chmod 600 /dev/gpiochip0; tries reads /dev/board/zero
        echo hello >/dev/gpiochip0 && echo written
        echo mounts; cat /proc/self/mountinfo";
    board.deploys_image("one", running(with_devices(0), script));
    // A link, as there are in /dev/serial/by-id.
    symlink("zero", "/dev/edgepull-test-link").expect("a link in /dev");
    board.set(&format!(
        "BIND=\"{data}:/data {data}:/kept:ro /dev/edgepull-test-link:/dev/gpiochip0 /dev:/dev/board\""
    ));
    let before = fs::metadata("/dev/zero").expect("a device").mode();
    let (said, code) = board.runs();
    let _ = fs::remove_file("/dev/edgepull-test-link");
    assert_eq!(code, 0, "{said}");
    let expected =
        ["touch /data/new", "touch /data/a stick/new", "reads /dev/gpiochip0", "reads /dev/board/zero"];
    assert_eq!(succeeded(&said), expected, "{said}");
    assert!(said.contains("\nwritten\n"), "{said}");
    assert_eq!(fs::metadata("/dev/zero").expect("a device").mode(), before);
    // Set-user-ID programs that it leaves there give nobody anything in the container.
    let option = |point: &str, option: &str| {
        let line = said.lines().find(|line| line.split(' ').nth(4) == Some(point)).expect("a mount");
        line.split(' ').nth(5).expect("options").split(',').any(|it| it == option)
    };
    for point in ["/data", "/data/a\\040stick", "/kept", "/kept/a\\040stick"] {
        assert!(option(point, "nodev") && option(point, "nosuid"), "{point}: {said}");
        assert_eq!(option(point, "ro"), point.starts_with("/kept"), "{point}: {said}");
    }
}

#[test]
fn a_chroot_without_crun_has_the_board_s_own_null_and_no_device_of_the_image_s() {
    let disk = Disk::new();
    let script = "
        for node in /srv/disk /srv/zeros /dev/disk /dev/kmsg; do dd if=$node of=/dev/null bs=16 count=1 && echo opened $node; done
        echo x >/dev/null && dd if=/dev/zero of=/dev/null bs=16 count=1 && dd if=/dev/urandom of=/dev/null bs=16 count=1 && echo ordinary
        touch /dev/shm/x && echo x >/dev/stdout && ls /dev";
    for mode in ["overlay", "read-only"] {
        let board = ByHand::new(&format!("ROOT={mode}"));
        board.deploys_image("one", running(with_devices(disk.minor), "true"));
        let root = board.scratch.at("root");
        fs::create_dir(&root).expect("a folder");
        let inside = format!("mount -t proc proc {root}/proc; exec chroot {root} /bin/sh -c '{script}'");
        let said = text(board.output(&["root", "web", &root, "sh", "-c", &inside]));
        assert!(!said.contains("opened") && said.contains("ordinary\nx\n"), "{mode}: {said}");
        assert!(!run("mount", [""; 0]).contains(&board.scratch.at("")), "a mount is left");
    }
    disk.is_untouched();
}

/// The config.json by which `app run` has crun run the current generation.
fn config_of(board: &ByHand, path: &str) -> Value {
    let out = board.app(&["run", "web"]).env("PATH", path).output().expect("unshare");
    assert!(out.status.success(), "{}", text(out));
    serde_json::from_slice(&fs::read(board.scratch.path("config")).expect("a copy")).expect("JSON")
}

#[test]
fn a_generation_of_any_age_gets_what_a_bundle_gets() {
    // Quotes, and lines that look as the parts of a config.json do.
    let script = "echo '  \"process\": {\n    \"user\": {' \"[\" '{' \\\\ >/dev/null; exit 0";
    let board = ByHand::new("ROOT=read-only");
    let image = || {
        let image = Image::of("linux/amd64").layer(base("1\n").dir("w", 0o755));
        running(
            image
                .configured("Env", json!(["A=\"[", "  \"mounts\": ["]))
                .configured("WorkingDir", json!("/w")),
            script,
        )
    };
    board.deploys_image("one", image());
    let copy = format!("[ -z \"$bundle\" ] || cp \"$bundle/config.json\" {}", board.scratch.at("config"));
    let path = before_crun(&board, &copy);
    let by_app = config_of(&board, &path);

    let layout = image().build().oci(&board.scratch, "bundled");
    run(&agent(), ["pull", "--bundle", &layout, &board.scratch.at("bundle")]);
    let bundle = fs::read(board.scratch.path("bundle/config.json")).expect("a bundle");
    let bundle: Value = serde_json::from_slice(&bundle).expect("JSON");
    assert_eq!(by_app["process"], bundle["process"]);
    assert_eq!(by_app["linux"], bundle["linux"]);
    assert_eq!(by_app["ociVersion"], bundle["ociVersion"]);
    assert_eq!(bundle["process"]["capabilities"]["bounding"].as_array().map(Vec::len), Some(11));

    as_released(&board, script);
    let of_old = config_of(&board, &path);
    assert_eq!(of_old["process"]["args"][2], script);
    for part in ["capabilities", "noNewPrivileges", "rlimits", "terminal"] {
        assert_eq!(of_old["process"][part], by_app["process"][part], "{part}");
    }
    for part in ["linux", "mounts", "root"] {
        assert_eq!(of_old[part], by_app[part], "{part}");
    }

    // Whatever else is written there does not count, and what is not as edgepull writes it is no container.
    let place = board.rootfs(1).with_file_name("config.json");
    let config = fs::read_to_string(&place).expect("a config");
    fs::write(
        &place,
        config.replace("\"noNewPrivileges\": true", "\"noNewPrivileges\": false").replace("\"rwm\"", "\"r\""),
    )
    .expect("a config");
    assert_eq!(config_of(&board, &path), of_old);
    let one_line: Value = serde_json::from_str(&config).expect("JSON");
    fs::write(&place, one_line.to_string()).expect("a config");
    let (said, code) = board.runs();
    assert!(code != 0 && said.contains("is not as edgepull writes it"), "{said}");
}

#[test]
fn more_rights_are_given_by_name() {
    let board = ByHand::new("CAPABILITIES='CAP_NET_RAW CAP_MKNOD'");
    let script = "grep CapBnd /proc/self/status; mknod /tmp/zeros c 1 5 && dd if=/tmp/zeros of=/dev/null bs=16 count=1 && echo opened";
    board.deploys_image("one", running(with_devices(0), script));
    let (said, _) = board.runs();
    assert!(said.contains(&format!("CapBnd:\t{:016x}\n", CAPABILITIES | 1 << 13 | 1 << 27)), "{said}");
    assert!(said.contains("Permission denied") && !said.contains("opened"), "{said}");
    for wrong in ["NET_RAW", "CAP_", "CAP_X\"", "cap_net_raw"] {
        board.set(&format!("CAPABILITIES='{wrong}'"));
        let (said, code) = board.runs();
        assert!(code != 0 && said.contains("CAPABILITIES are such as CAP_NET_RAW"), "{said}");
    }
}

#[test]
fn nothing_is_a_device_to_a_guest_below_a_unit() {
    let board = Booted::new();
    board.scratch.write("etc/app/web.conf", "BIND=/test/data:/data\n");
    fs::create_dir_all(board.scratch.path("test/data/a stick")).expect("a folder");
    leave_devices(&board.scratch.at("test/data"), &board.scratch.at("test/data/a stick"));
    let script = format!("({}) >/data/said 2>&1; {SERVES}", attempts(0));
    board.publishes_image(running(with_devices(0), &script));
    let config = RELEASED_CONFIG.replace("\"SCRIPT\"", &json!(script).to_string());
    board.scratch.write("test/config", config);
    let said = board.boots(&format!(
        "{TOOLS}
        guest() {{ systemctl start edgepull-app@web || log edgepull-app@web; now \"$1\"; cat /test/data/said; rm /test/data/said; }}
        edgepull deploy web oci:/test/layout; chmod 700 /var/lib/edgepull/deployments; guest new
        cp /test/config /var/lib/edgepull/deployments/web/current/config.json
        systemctl stop edgepull-app@web; guest released
        grep CapBnd /proc/$(systemctl show -P MainPID edgepull-app@web)/status"
    ));
    let (new, released) = said.split_once("released: ").expect("both");
    for (said, rights) in [(new, "new: active 1"), (released, "active 1")] {
        assert!(said.contains(rights), "{said}");
        assert_eq!(succeeded(said), ORDINARY, "{said}");
        assert!(said.contains("Seccomp:\t2\n"), "{said}");
        has_only_podmans_rights(said);
        all_are_nodev(said);
    }
    // crun itself has one more, to mount.
    let crun = format!("CapBnd:\t{:016x}\n", CAPABILITIES | 1 << 21);
    assert!(released.ends_with(&format!("{crun}the script has ended\n")), "{released}");
}

#[test]
fn some_system_calls_are_not_answered() {
    let board = ByHand::new("");
    let program = board.scratch.at("calls");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/guests/calls.c");
    run("gcc", ["-static", "-o", &program, source]);
    let program = fs::read(&program).expect("a program");
    let layer = base("1\n").file_mode("bin/calls", &program, 0o755);
    board.deploys_image("one", running(Image::of("linux/amd64").layer(layer), "/bin/calls"));
    let (said, code) = board.runs();
    assert_eq!(code, 0, "{said}");
    let (eperm, einval, enotty, enosys) = (1, 22, 25, 38);
    for (call, answer) in [
        ("read", 0),
        ("keyctl", enosys),
        ("add_key", enosys),
        ("request_key", enosys),
        ("clone3", enosys),
        ("io_uring_setup", enosys),
        ("userfaultfd", eperm),
        ("perf_event_open", eperm),
        ("bpf", eperm),
        ("kcmp", eperm),
        ("audit", einval),
        ("route", 0),
        ("TIOCSTI", eperm),
        ("TIOCLINUX", eperm),
        ("TIOCGWINSZ", enotty),
        ("unshare", eperm),
    ] {
        assert!(said.lines().any(|line| line == format!("{call} {answer}")), "{call}: {said}");
    }
}
