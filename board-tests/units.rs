//! What systemd/ brings, at work: deployments run by crun, alone and below a systemd that a container has booted,
//! on real trees of `edgepull deploy`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::harness::*;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
pub(super) const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/app");

/// Version `version` of an image whose first process is a shell with this script.
fn image(version: &str, script: &str) -> Index {
    running(Image::of("linux/amd64").layer(base(version)), script)
}

/// The image whose first process is a shell with this script.
pub(super) fn running(image: Image, script: &str) -> Index {
    Index::new().with(image.configured("Entrypoint", json!(["/bin/sh", "-c", script])).build())
}

/// The files of version `version` of an image with a shell.
pub(super) fn base(version: &str) -> Layer {
    let busybox = run("sh", ["-c", "command -v busybox"]);
    let busybox = fs::read(busybox.trim()).expect("busybox-static");
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "var", "var/lib"] {
        layer = layer.dir(folder, 0o755);
    }
    layer = layer.file_mode("bin/busybox", busybox, 0o755);
    for tool in [
        "sh", "cat", "ls", "rm", "sleep", "touch", "chmod", "cp", "dd", "grep", "id", "mknod", "mount",
        "umount", "unshare",
    ] {
        layer = layer.symlink(&format!("bin/{tool}"), "busybox");
    }
    layer.file("etc/version", version).file("var/lib/kept", "from the image\n")
}

/// Deployments in a scratch folder, and what runs them there by hand.
pub(super) struct ByHand {
    pub(super) scratch: Scratch,
}

impl ByHand {
    /// Settings for the deployment `web`, besides STATE.
    pub(super) fn new(settings: &str) -> ByHand {
        let board = ByHand { scratch: Scratch::new() };
        board.set(settings);
        board
    }

    /// Other settings, besides STATE.
    pub(super) fn set(&self, settings: &str) {
        self.scratch.write("etc/app/web.conf", format!("STATE={}\n{settings}\n", self.scratch.at("state")));
    }

    pub(super) fn deploys(&self, version: &str, script: &str) {
        self.deploys_image(version.trim(), image(version, script));
    }

    /// Deploys an image that is made in a folder of this name.
    pub(super) fn deploys_image(&self, name: &str, image: Index) {
        let layout = image.build().oci(&self.scratch, &format!("layout-{name}"));
        run(&agent(), ["--state-dir", &self.scratch.at("state"), "deploy", "web", &layout]);
    }

    pub(super) fn rootfs(&self, generation: u32) -> PathBuf {
        self.scratch.path(&format!("state/deployments/web/generations/{generation}/rootfs"))
    }

    pub(super) fn verifies(&self) {
        run(&agent(), ["--state-dir", &self.scratch.at("state"), "verify", "web"]);
    }

    /// crun 1.8 wants a plain hierarchy of control groups, which a mixed one is not.
    pub(super) fn app(&self, arguments: &[&str]) -> Command {
        let script = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", APP]).args(arguments);
        command.env("EDGEPULL_ETC", self.scratch.at("etc")).env("EDGEPULL_RUN", self.scratch.at("run"));
        command
    }

    pub(super) fn output(&self, arguments: &[&str]) -> Output {
        self.app(arguments).output().expect("unshare")
    }

    /// What `app run web` says, and how it ends.
    pub(super) fn runs(&self) -> (String, i32) {
        let out = self.output(&["run", "web"]);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (said, out.status.code().expect("an exit code"))
    }
}

const WRITES: &str = "
    echo changed >/etc/version; rm /var/lib/kept; touch /new /var/lib/new /tmp/new
    cat /etc/version; ls /var/lib; exit 7";

#[test]
fn what_a_container_writes_does_not_reach_its_deployment() {
    let board = ByHand::new("ROOT=overlay");
    board.deploys("1\n", WRITES);
    let before = Tree::of(board.rootfs(1));
    for _ in 0..2 {
        let (said, code) = board.runs();
        assert_eq!(code, 7, "{said}");
        assert!(said.contains("changed\nnew\n"), "{said}");
        assert!(said.contains("generations/1, overlay"), "{said}");
        Tree::of(board.rootfs(1)).equals(&before);
        board.verifies();
    }
    assert!(!run("mount", [""; 0]).contains(&board.scratch.at("")), "a mount is left");
}

#[test]
fn without_overlayfs_only_some_directories_are_writable() {
    let board = ByHand::new("ROOT=read-only");
    board.deploys("1\n", WRITES);
    let before = Tree::of(board.rootfs(1));
    let (said, code) = board.runs();
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("Read-only file system") && said.contains("1\nnew\n"), "{said}");
    Tree::of(board.rootfs(1)).equals(&before);
    board.verifies();
}

#[test]
fn what_is_kept_is_kept_across_generations() {
    let board = ByHand::new("");
    let (upper, data) = (board.scratch.at("upper"), board.scratch.at("data"));
    fs::create_dir(&data).expect("a folder");
    board.set(&format!("UPPER={upper}\nBIND=\"{data}:/srv/data\""));
    board.deploys("1\n", "echo first >/srv/data/log; echo mine >/etc/mine");
    assert_eq!(board.runs().1, 0);
    board.deploys("2\n", "cat /etc/version /srv/data/log /etc/mine");
    let (said, code) = board.runs();
    assert!(code == 0 && said.starts_with("2\nfirst\nmine\n"), "{said}");
    assert_eq!(fs::read_to_string(format!("{data}/log")).expect("a log"), "first\n");
    board.verifies();
}

#[test]
fn a_switch_leaves_what_runs_in_its_generation() {
    let board = ByHand::new("");
    let data = board.scratch.at("data");
    fs::create_dir(&data).expect("a folder");
    board.set(&format!("BIND={data}:/data"));
    run("mkfifo", [format!("{data}/begun"), format!("{data}/go")]);
    board.deploys("1\n", "echo yes >/data/begun; cat /data/go >/tmp/x; cat /etc/version; : >/etc/new");
    let running = board.app(&["run", "web"]).stdout(std::process::Stdio::piped()).spawn().expect("unshare");
    assert_eq!(run("timeout", ["60", "cat", &format!("{data}/begun")]), "yes\n");
    assert!(board.output(&["running", "web"]).status.success());
    let second = board.output(&["run", "web"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("runs already"));
    board.deploys("2\n", "cat /etc/version");
    run("timeout", ["60", "sh", "-c", &format!("echo >{data}/go")]);
    let out = running.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "1\n");
    assert!(!board.output(&["running", "web"]).status.success());
    assert!(board.runs().0.starts_with("2\n"));
    board.verifies();
}

#[test]
fn a_stop_ends_the_container_and_a_chroot_does_without_crun() {
    let board = ByHand::new("");
    board.deploys("1\n", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done");
    let mut running =
        board.app(&["run", "web"]).stdout(std::process::Stdio::piped()).spawn().expect("unshare");
    let mut said = std::io::BufReader::new(running.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
    assert_eq!(line, "up\n");
    assert!(board.output(&["stop", "web"]).status.success());
    std::io::Read::read_to_string(&mut said, &mut line).expect("the rest");
    assert_eq!(line, "up\nasked\n");
    assert_eq!(running.wait().expect("its end").code(), Some(0));

    let root = board.scratch.at("root");
    fs::create_dir(&root).expect("a folder");
    let script = "echo 9 >/etc/version; cat /etc/version";
    let out = board.output(&["root", "web", &root, "chroot", &root, "/bin/sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "9\n", "{}", String::from_utf8_lossy(&out.stderr));
    board.verifies();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let board = ByHand::new("BIND='/a\",\"x:/b'");
    let said = |out: Output| String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!board.output(&["deployed", "web"]).status.success());
    assert!(said(board.output(&["run", "web"])).contains("nothing is deployed"));
    board.deploys("1\n", "exit 0");
    assert!(board.output(&["deployed", "web"]).status.success());
    assert!(said(board.output(&["run", "web"])).contains("not allowed"));
    assert!(said(board.output(&["run", "../web"])).contains("no deployment's name"));
    board.set("ROOT=x");
    assert!(said(board.output(&["run", "web"])).contains("ROOT is"));
}

/// A systemd that a container boots, on this machine's own files with edgepull's over them. State and images are in a
/// scratch folder, and outlive a boot.
pub(super) struct Booted {
    pub(super) scratch: Scratch,
}

const BOOT: &str = r#"
    set -e
    mount -t tmpfs tmpfs "$1/boot"
    mkdir "$1/boot/upper" "$1/boot/work" "$1/boot/root"
    root=$1/boot/root
    mount -t overlay root -o "lowerdir=/,upperdir=$1/boot/upper,workdir=$1/boot/work" "$root"
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    rm -rf "$root/etc/systemd/system" "$root/etc/edgepull" "$root/etc/machine-id" "$root/var/lib/edgepull"
    mkdir -p "$root/etc/systemd/system" "$root/usr/libexec/edgepull" "$root/var/lib/edgepull" "$root/test"
    : >"$root/etc/machine-id"
    cp "$2"/*.service "$2"/*.timer "$root/etc/systemd/system/"
    cp "$2/app" "$2/provision" "$root/usr/libexec/edgepull/"
    cp "$2/../examples/init.d/edgepull" "$root/etc/init.d/edgepull"
    cp "$3" "$root/usr/bin/edgepull"
    cat >"$root/etc/systemd/system/test.service" <<'END'
[Service]
Type=oneshot
ExecStart=/bin/sh /test/script
StandardOutput=file:/test/output
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff --force
END
    printf '[Unit]\nRequires=basic.target test.service\nAfter=basic.target\n' >"$root/etc/systemd/system/test.target"
    case $4 in
    systemd) set -- "$1" --boot systemd.unit=test.target ;;
    *) set -- "$1" --as-pid2 /bin/sh -c '/bin/sh /test/script >/test/output 2>&1' ;;
    esac
    state=$1 how=$2
    shift 2
    timeout 300 systemd-nspawn --quiet "$how" --register=no --keep-unit --private-network --resolv-conf=off \
        --system-call-filter=@keyring --bind="$state/state:/var/lib/edgepull" --bind="$state/test:/test" \
        --bind="$state/etc:/etc/edgepull" -D "$root" "$@" </dev/null >"$state/console" 2>&1
"#;

impl Booted {
    pub(super) fn new() -> Booted {
        let scratch = Scratch::new();
        for folder in ["boot", "state", "test", "etc/app", "etc/deploy"] {
            fs::create_dir_all(scratch.path(folder)).expect("a folder");
        }
        Booted { scratch }
    }

    /// Makes this the image that the board sees at `oci:/test/layout`.
    fn publishes(&self, version: &str, script: &str) {
        self.publishes_image(image(version, script));
    }

    pub(super) fn publishes_image(&self, image: Index) {
        let place = self.scratch.path("test/layout");
        let _ = fs::remove_dir_all(&place);
        image.build().layout(&self.scratch, "test/layout");
        assert!(place.join("index.json").exists());
    }

    /// Boots, runs a script as a unit, and powers off; gives what the script printed.
    pub(super) fn boots(&self, script: &str) -> String {
        self.runs(script, "systemd")
    }

    /// The same without a systemd: the script is all that runs.
    fn boots_bare(&self, script: &str) -> String {
        self.runs(script, "bare")
    }

    fn runs(&self, script: &str, init: &str) -> String {
        self.scratch.write("test/script", format!("set -u\n{script}"));
        let _ = fs::remove_file(self.scratch.path("test/output"));
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "-C", "sh", "-c", BOOT, "sh", &self.scratch.at("")[..], UNITS, &agent(), init]);
        let out = unshare.output().expect("unshare");
        let read = |path: &str| fs::read_to_string(self.scratch.path(path)).unwrap_or_default();
        let (said, console) = (read("test/output"), read("console"));
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("the script has ended"), "{said}\n{errors}\n{console}");
        said
    }
}

/// What the script of a boot may call.
pub(super) const TOOLS: &str = r#"
    trap 'echo the script has ended' EXIT
    inside() { crun --root /run/edgepull-app/web/crun exec web "$@" 2>&1; }
    now() { echo "$1: $(systemctl is-active edgepull-app@web) $(inside cat /etc/version)"; }
    log() { journalctl --sync; journalctl --no-pager -o cat -u "$1"; }
"#;

pub(super) const SERVES: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
const ON_SWITCH: &str = "systemctl restart edgepull-app@web";
const HEALTH: &str = "systemctl is-active --quiet edgepull-app@web";

#[test]
fn systemd_provisions_runs_updates_and_goes_back() {
    let board = Booted::new();
    let options =
        format!("IMAGE=oci:/test/layout\nOPTIONS=\"--on-switch '{ON_SWITCH}' --health '{HEALTH}'\"\n");
    board.scratch.write("etc/deploy/web.conf", options);
    board.publishes("one", SERVES);
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-app@web; now 'before it is there'
        systemctl start edgepull-provision || log edgepull-provision; now provisioned
        mv /test/layout /test/gone; systemctl restart edgepull-provision; now again
        systemctl stop edgepull-app@web; ls -A /run/edgepull-app"
    ));
    assert!(said.contains("before it is there: inactive"), "{said}");
    assert!(said.contains("provisioned: active one\nagain: active one\nthe script"), "{said}");

    board.publishes("two", SERVES);
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-app@web; now booted
        systemctl start edgepull-update || log edgepull-update; now updated"
    ));
    assert!(said.contains("booted: active one\nupdated: active two\n"), "{said}");

    // A program that ends at once is found out by the on-switch command itself.
    board.publishes("three", "exit 4");
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-app@web; now booted
        systemctl start edgepull-update 2>/dev/null; now updated
        systemctl show -p ExecMainStatus,NRestarts,ActiveState edgepull-update
        systemctl start edgepull-update && now 'not tried again'"
    ));
    assert!(said.contains("booted: active two\nupdated: active two\n"), "{said}");
    assert!(said.contains("ExecMainStatus=10\n") && said.contains("ActiveState=failed"), "{said}");
    assert!(said.contains("not tried again: active two\n"), "{said}");

    // One that nobody confirmed before the board went down runs when it comes up, until the timer goes off.
    board.publishes("four", SERVES);
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-app@web
        edgepull deploy web oci:/test/layout --confirm-within 3600; now deployed"
    ));
    assert!(said.contains("deployed: active four\n"), "{said}");
    let said = board.boots(&format!(
        "{TOOLS}
        systemctl start edgepull-app@web; now booted
        rm -rf /test/layout
        mkdir -p /run/systemd/system/edgepull-update-boot.timer.d
        printf '[Timer]\\nOnBootSec=0\\nRandomizedDelaySec=0\\nAccuracySec=1us\\n' \
            >/run/systemd/system/edgepull-update-boot.timer.d/test.conf
        systemctl daemon-reload
        systemctl start edgepull-update.timer
        for _ in $(seq 60); do systemctl is-failed -q edgepull-update && break; sleep 1; done
        now 'gone back'; systemctl is-active edgepull-update-boot.timer"
    ));
    assert!(
        said.contains("booted: active four\n") && said.contains("gone back: active two\nactive\n"),
        "{said}"
    );
    let state = board.scratch.at("state");
    run(&agent(), ["--state-dir", &state, "verify"]);
}

/// The units allow what the process that fetches needs to give up its rights: else it could change the modes of records.
#[test]
fn what_fetches_below_a_unit_is_confined_as_elsewhere() {
    let board = Booted::new();
    board.scratch.write("etc/update.conf", "OPTIONS=-v\n");
    board.scratch.write("etc/deploy/web.conf", "IMAGE=oci:/test/layout\nOPTIONS=-v\n");
    board.scratch.write("etc/pull/web.conf", "IMAGE=oci:/test/layout\nDESTINATION=/srv/web\nOPTIONS=-v\n");
    board.publishes("one", SERVES);
    let confined = |unit: &str| format!("log {unit} | sed -n 's/.*what fetches is confined by/{unit}:/p'");
    let said = board.boots(&format!(
        "{TOOLS}
        for unit in edgepull-provision edgepull-update edgepull-pull@web; do systemctl start $unit; done
        {}\n{}\n{}",
        confined("edgepull-provision"),
        confined("edgepull-update"),
        confined("edgepull-pull@web")
    ));
    for unit in ["edgepull-provision", "edgepull-update", "edgepull-pull@web"] {
        let line = said.lines().find(|line| line.starts_with(&format!("{unit}: ")));
        let line = line.unwrap_or_else(|| panic!("{unit} says nothing: {said}"));
        for feature in ["mounts", "a /proc of its own", "no_new_privs", "capabilities", "seccomp"] {
            assert!(line.contains(feature), "{line}");
        }
    }
}

#[test]
fn an_init_script_does_it_without_systemd() {
    let board = Booted::new();
    let options =
        "--on-switch '/usr/libexec/edgepull/app stop web' --health '/usr/libexec/edgepull/app running web'";
    board.scratch.write("etc/deploy/web.conf", format!("IMAGE=oci:/test/layout\nOPTIONS=\"{options}\"\n"));
    board.publishes("one", SERVES);
    let reaches = r#"reaches() { for _ in $(seq 60); do [ "$(inside cat /etc/version)" = "$1" ] && break; sleep 1; done; }"#;
    let tools = r#"inside() { crun --root /run/edgepull-app/web/crun exec web "$@" 2>&1; }
        trap 'echo the script has ended' EXIT"#;
    let said = board.boots_bare(&format!(
        "{tools}
        {reaches}
        /etc/init.d/edgepull start
        reaches one; echo started: $(inside cat /etc/version)
        /etc/init.d/edgepull stop; sleep 6
        /usr/libexec/edgepull/app running web || echo stopped"
    ));
    assert!(said.contains("started: one\n") && said.contains("\nstopped\nthe script"), "{said}");
    board.publishes("two", SERVES);
    let said = board.boots_bare(&format!(
        "{tools}
        {reaches}
        /etc/init.d/edgepull start
        reaches two; echo updated: $(inside cat /etc/version)"
    ));
    assert!(said.contains("updated: two\n"), "{said}");
}

#[test]
fn the_scripts_are_posix_shell() {
    for script in ["app", "provision", "../examples/init.d/edgepull"] {
        let script = Path::new(UNITS).join(script);
        run("shellcheck", [script.as_os_str()]);
        run("checkbashisms", [script]);
    }
}

#[test]
fn a_program_may_say_itself_when_it_is_ready() {
    let board = Booted::new();
    // systemd-notify is this machine's own.
    board.scratch.write("etc/app/web.conf", "BIND='/usr:/usr:ro /lib:/lib:ro /lib64:/lib64:ro'\n");
    board.publishes("one", &format!("[ -e /ready ] || /usr/bin/systemd-notify --ready; {SERVES}"));
    let said = board.boots(&format!(
        "{TOOLS}
        edgepull deploy web oci:/test/layout
        mkdir -p /run/systemd/system/edgepull-app@.service.d
        printf '[Service]\\nType=notify\\nNotifyAccess=all\\nExecStartPost=\\n' \
            >/run/systemd/system/edgepull-app@.service.d/notify.conf
        systemctl daemon-reload
        systemctl start edgepull-app@web || log edgepull-app@web; now started
        echo \"BIND='/test:/ready'\" >/etc/edgepull/app/web.conf; systemctl restart edgepull-app@web &
        for _ in $(seq 120); do inside cat /ready/script >/dev/null && break; sleep 1; done; now 'not ready'"
    ));
    assert!(said.contains("started: active one\nnot ready: activating one\n"), "{said}");
}
