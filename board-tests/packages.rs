//! The Debian packages, as a user meets them: dpkg of an armhf Debian installs and removes them, lintian and
//! systemd accept them, and the shells complete by what they bring.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::distribution::bootstrapped;
use crate::harness::*;

/// The services, and the worst exposure that `systemd-analyze security` may give each, times ten.
///
/// CAP_SYS_ADMIN and mount(2), which count 0.4 to 0.5, are for edgepull to take all of it from the process that fetches:
/// units::what_fetches_below_a_unit_is_confined_as_elsewhere.
const SERVICES: [(&str, u32); 4] = [
    ("edgepull-pull@app.service", 37),
    // Users' commands run in these: they want to see processes and interfaces.
    ("edgepull-update.service", 39),
    ("edgepull-provision.service", 39),
    // A container is made in this one.
    ("edgepull-app@app.service", 46),
];

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/dist");

/// Every board with the suffix of its package's name.
const PACKAGES: [(&str, &str); 5] = [
    ("armv5", "_armel"),
    ("armv6", "+rpi1_armhf"),
    ("armv7", "_armhf"),
    ("aarch64", "_arm64"),
    ("x86_64", "_amd64"),
];

/// Runs `cross/package`, as a shell would: cargo's build scripts look at some variables that cargo sets for
/// this process, and would start over.
fn make(board: &str, environment: &[(&str, &str)]) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cross/package"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "OUT_DIR"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    let out = command.arg(board).envs(environment.iter().copied()).output().expect("cross/package");
    assert!(out.status.success(), "cross/package: {}", String::from_utf8_lossy(&out.stderr));
}

/// What a board's package is called. They are all made once, and that for [`BOARD_MADE_TWICE`] twice.
fn package(board: &str) -> String {
    let _ = digests();
    name(board)
}

fn name(board: &str) -> String {
    let (_, suffix) = PACKAGES.iter().find(|(name, _)| *name == board).expect("a board");
    format!("{DIST}/edgepull_{}-1{suffix}.deb", env!("CARGO_PKG_VERSION"))
}

const BOARD_MADE_TWICE: &str = "armv6";

/// Makes the packages; the digests of the one that is made twice, the second time with other habits.
fn digests() -> &'static [String; 2] {
    static MADE: OnceLock<[String; 2]> = OnceLock::new();
    let digest = || digest_of(&fs::read(name(BOARD_MADE_TWICE)).expect("a package"));
    MADE.get_or_init(|| {
        make("all", &[]);
        let first = digest();
        fs::remove_file(name(BOARD_MADE_TWICE)).expect("a package to remove");
        make(BOARD_MADE_TWICE, &[("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")]);
        [first, digest()]
    })
}

/// The files of the package for this machine, below a scratch folder.
fn unpacked(scratch: &Scratch) -> PathBuf {
    let root = scratch.at("package");
    run("dpkg-deb", ["-x", &package("x86_64"), &root]);
    root.into()
}

/// A Debian armhf in a folder, where programs run under qemu-user, in a mount namespace of their own.
struct Chroot {
    scratch: Scratch,
}

impl Chroot {
    fn armhf() -> Chroot {
        let chroot = Chroot { scratch: Scratch::new() };
        let root = chroot.root();
        fs::create_dir(&root).expect("a folder");
        run("tar", ["-xpf", &bootstrapped("armhf"), "-C", &root]);
        let wrapper = chroot.scratch.at("foreign");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/foreign.c");
        run("gcc", ["-static", "-Os", "-Wall", "-Werror", "-o", &wrapper, source]);
        for folder in ["usr/bin", "usr/sbin"] {
            wrap(&Path::new(&root).join(folder), &wrapper);
        }
        let emulator = run("sh", ["-c", "command -v qemu-arm-static"]);
        fs::copy(emulator.trim(), format!("{root}/qemu-user")).expect("the emulator");
        // In a container, debootstrap makes this a link to the host's.
        run("sh", ["-c", "[ ! -h \"$1\" ] || rm \"$1\"; mkdir -p \"$1\"", "sh", &format!("{root}/proc")]);
        // It unpacked everything, and registered nothing.
        fs::create_dir_all(format!("{root}/var/lib/dpkg/info")).expect("a folder");
        fs::write(format!("{root}/var/lib/dpkg/status"), "").expect("dpkg's list");
        chroot
    }

    fn root(&self) -> String {
        self.scratch.at("root")
    }

    /// Runs a line of the chroot's own shell, with the kernel files of four Cortex-A7.
    fn runs(&self, line: &str) -> Output {
        let script = r#"
            mount -t proc proc "$1/proc" && mount --bind "$2" "$1/proc/cpuinfo" && exec chroot "$1" /bin/sh -c "$3"
        "#;
        let cpuinfo = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/boards/armv7.cpuinfo");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script, "sh", &self.root(), cpuinfo, line]);
        unshare.env("QEMU_CPU", "cortex-a7").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        unshare.env("LC_ALL", "C").output().expect("unshare")
    }

    /// The same, which has to succeed; gives its standard output.
    fn does(&self, line: &str) -> String {
        let out = self.runs(line);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{line}: {}\n{errors}", out.status);
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Everything of edgepull's in the chroot.
    fn traces(&self) -> String {
        run("sh", ["-c", "cd \"$1\" && find . -path '*edgepull*'", "sh", &self.root()])
    }

    fn lays(&self, package: &str) -> &Chroot {
        fs::copy(package, format!("{}/package.deb", self.root())).expect("a package");
        self
    }
}

/// Puts the wrapper in the place of every foreign program of a folder.
fn wrap(folder: &Path, wrapper: &str) {
    let entries: Vec<_> = fs::read_dir(folder).expect("a folder to list").collect();
    for entry in entries {
        let path = entry.expect("an entry").path();
        let is_program = fs::symlink_metadata(&path).is_ok_and(|data| data.is_file())
            && fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        if is_program {
            let mut moved = path.clone().into_os_string();
            moved.push(".foreign");
            fs::rename(&path, moved).expect("a program to move");
            fs::hard_link(wrapper, &path).expect("a wrapper");
        }
    }
}

#[test]
fn debian_armhf_installs_runs_upgrades_and_removes_it() {
    let chroot = Chroot::armhf();
    assert_eq!(chroot.does("dpkg --print-architecture").trim(), "armhf");
    assert_eq!(chroot.traces(), "");

    chroot.lays(&package("armv7")).does("dpkg -i /package.deb");
    let version = format!("edgepull {} ", env!("CARGO_PKG_VERSION"));
    assert!(chroot.does("/qemu-user /usr/bin/edgepull --version").starts_with(&version));
    let platform = chroot.does("/qemu-user /usr/bin/edgepull platform");
    assert!(platform.contains("linux/arm/v7"), "{platform}");
    assert_eq!(chroot.does("dpkg --verify edgepull"), "");
    let files = chroot.does("dpkg -L edgepull");
    for file in [
        "/usr/bin/edgepull",
        "/usr/lib/systemd/system/edgepull-app@.service",
        "/usr/lib/systemd/system/edgepull-provision.service",
        "/usr/lib/systemd/system/edgepull-pull@.service",
        "/usr/lib/systemd/system/edgepull-update-boot.timer",
        "/usr/lib/systemd/system/edgepull-update.service",
        "/usr/lib/systemd/system/edgepull-update.timer",
        "/usr/libexec/edgepull/app",
        "/usr/libexec/edgepull/provision",
        "/usr/share/doc/edgepull/examples/init.d/edgepull",
        "/usr/share/man/man1/edgepull.1.gz",
        "/usr/share/bash-completion/completions/edgepull",
        "/usr/share/zsh/vendor-completions/_edgepull",
        "/usr/share/fish/vendor_completions.d/edgepull.fish",
        "/usr/share/doc/edgepull/copyright",
        "/usr/share/doc/edgepull/NOTICES.gz",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} in {files}");
    }
    // Of whatever is linked: C, Rust, and what is no code.
    let notices = chroot.does("zcat /usr/share/doc/edgepull/NOTICES.gz");
    for linked in ["musl (MIT)", "\nring 0.", "\nrustls 0.", "\nwebpki-roots 1.", "\nsha2 0."] {
        assert!(notices.contains(linked), "{linked:?} in {notices}");
    }
    assert!(!notices.contains("syn 3"), "what runs in the compiler is not linked");

    // Raspberry Pi OS's counts as the newer one, and Debian's not as an upgrade of that.
    chroot.lays(&package("armv6")).does("dpkg -i --refuse-downgrade /package.deb");
    let oldest = "QEMU_CPU=arm1176 /qemu-user /usr/bin/edgepull --version";
    assert!(chroot.does(oldest).starts_with(&version));
    let refused = chroot.lays(&package("armv7")).runs("dpkg -i --refuse-downgrade /package.deb");
    let said = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
    assert!(said.contains("downgrade"), "{said}");
    assert!(chroot.does(oldest).starts_with(&version));

    // What it remembered stays until it is purged.
    chroot.does("mkdir -p /var/lib/edgepull; : >/var/lib/edgepull/kept; dpkg -r edgepull");
    assert!(chroot.traces().contains("var/lib/edgepull/kept"));
    assert!(!chroot.traces().contains("/usr/"), "{}", chroot.traces());
    chroot.does("dpkg -P edgepull");
    assert_eq!(chroot.traces(), "");
}

#[test]
fn the_armv7_package_refuses_an_armv6_board() {
    let scratch = Scratch::new();
    run("dpkg-deb", ["-e", &package("armv7"), &scratch.at("control")]);
    for (machine, status) in [("armv6l", 1), ("armv5tejl", 1), ("armv7l", 0), ("armv8l", 0), ("aarch64", 0)] {
        let uname = scratch.write("bin/uname", format!("#!/bin/sh\necho {machine}\n"));
        fs::set_permissions(uname, fs::Permissions::from_mode(0o755)).expect("a script");
        let mut preinst = Command::new(scratch.at("control/preinst"));
        preinst.arg("install").env("PATH", format!("{}:/usr/bin:/bin", scratch.at("bin")));
        let out = preinst.output().expect("preinst");
        assert_eq!(out.status.code(), Some(status), "{machine}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(said.contains("+rpi1"), status == 1, "{said}");
    }
}

#[test]
fn lintian_has_nothing_against_them() {
    for (board, _) in PACKAGES {
        let mut lintian = Command::new("lintian");
        lintian.args(["--fail-on", "error,warning", "--allow-root", &package(board)]);
        let out = lintian.output().expect("lintian; board-tests/run installs it");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success() && said.is_empty(), "{board}: {said}");
    }
}

#[test]
fn the_same_commit_gives_the_same_bytes() {
    let [first, second] = digests();
    assert_eq!(first, second);
}

#[test]
fn systemd_accepts_the_units() {
    let scratch = Scratch::new();
    let root = unpacked(&scratch);
    // The machine's own units, which ours refer to, and the program of ExecCondition=.
    let system = root.join("usr/lib/systemd/system");
    run("cp", ["-a", "/lib/systemd/system/.", system.to_str().expect("a readable path")]);
    fs::copy("/usr/bin/test", root.join("usr/bin/test")).expect("test");
    let root = format!("--root={}", root.display());
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", &root, "edgepull-update.timer", "edgepull-update-boot.timer"]);
    let out = verify.args(SERVICES.map(|(unit, _)| unit)).output().expect("systemd-analyze");
    // Its exit code is 0 for many a mistake.
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.is_empty(), "{said}");
    for (unit, worst) in SERVICES {
        let threshold = format!("--threshold={worst}");
        run("systemd-analyze", ["security", "--offline=true", &threshold, &root, unit]);
    }
}

#[test]
fn the_units_privileges_are_enough_to_unpack_as_root() {
    let scratch = Scratch::new();
    let bounds = |unit: &str| {
        let path = format!("{}/systemd/{unit}.service", env!("CARGO_MANIFEST_DIR"));
        let unit = fs::read_to_string(path).expect("the unit");
        unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a set").to_owned()
    };
    let bounds = ["edgepull-pull@", "edgepull-update", "edgepull-provision"].map(bounds);
    assert!(bounds[1..].iter().all(|other| *other == bounds[0]), "{bounds:?}");
    let bounds = &bounds[0];
    let bounds: Vec<String> = bounds
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let sets = format!("--bounding-set=-all,{}", bounds.join(","));
    let layer = bootstrapped("armhf");
    let layer = fs::read(layer).expect("the archive");
    let image = Image::of("linux/arm/v7").raw_layer(layer).entrypoint("/usr/bin/env").build();
    let layout = Index::new().with(image).build().layout(&scratch, "layout");
    let image = format!("oci:{layout}");
    let program = agent();
    let pull = ["--platform", "linux/arm/v7", "pull"];
    run(&program, pull.iter().copied().chain([image.as_str(), &scratch.at("free")]));
    let confined = ["--no-new-privs", &sets, &program].into_iter().chain(pull);
    run("setpriv", confined.chain([image.as_str(), &scratch.at("confined")]));
    Tree::of(scratch.at("free")).equals(&Tree::of(scratch.at("confined")));
}

#[test]
fn the_man_page_is_good_mdoc() {
    let scratch = Scratch::new();
    let page = unpacked(&scratch).join("usr/share/man/man1/edgepull.1.gz");
    let page = scratch.write("edgepull.1", run("gzip", ["-dc", page.to_str().expect("a readable path")]));
    // Pages that other packages bring are referred to; whether they are installed is no matter here.
    assert_eq!(run("mandoc", ["-Tlint", "-Wstyle,stop", &page]), "");
}

#[test]
fn what_does_not_publish_does_not_say_so() {
    let scratch = Scratch::new();
    let root = scratch.at("armv7");
    run("dpkg-deb", ["-x", &package("armv7"), &root]);
    let root = Path::new(&root);
    let page = run("gzip", ["-dc", root.join("usr/share/man/man1/edgepull.1.gz").to_str().expect("a path")]);
    assert!(page.contains("It Cm pull") && !page.contains("manifest push"), "{page}");
    let notices =
        run("gzip", ["-dc", root.join("usr/share/doc/edgepull/NOTICES.gz").to_str().expect("a path")]);
    assert!(notices.contains("rustls") && !notices.contains("yaml"), "notices of what is not in it");
}

#[test]
fn fish_and_zsh_complete() {
    let scratch = Scratch::new();
    let root = unpacked(&scratch);
    scratch.write("here/root-ca.pem", "");
    fs::create_dir(scratch.path("here/rootfs")).expect("a folder");
    let fish = root.join("usr/share/fish/vendor_completions.d/edgepull.fish");
    let zsh = root.join("usr/share/zsh/vendor-completions");
    for (line, offered) in [
        (
            "edgepull ",
            "confirm copy deploy gc help inspect manifest platform pull rollback status update verify",
        ),
        ("edgepull pull --re", "--replace"),
        ("edgepull --ca-file root", "root-ca.pem rootfs"),
        ("edgepull --variant v6 inspect --r", "--raw"),
        ("edgepull pull alpine root", "rootfs"),
        ("edgepull pull oci:root", "oci:rootfs"),
        ("edgepull --machine ", "aarch64 armv5tejl armv6l armv7l armv8l x86_64"),
        ("edgepull manifest ", "annotate check create inspect push rm"),
        ("edgepull manifest annotate --os-", "--os-features --os-version"),
        ("edgepull manifest push from-spec root", "root-ca.pem rootfs"),
        ("edgepull manifest push from-args --ty", "--type"),
    ] {
        let script = "cd $argv[1]; source $argv[2]; complete -C $argv[3]";
        let here = scratch.at("here");
        let home = format!("HOME={here}");
        let said = run("env", [&home, "fish", "-N", "-c", script, &here, fish.to_str().unwrap(), line]);
        let mut words: Vec<&str> = said
            .lines()
            .map(|line| line.split('\t').next().unwrap_or_default().trim_end_matches('/'))
            .collect();
        words.sort();
        assert_eq!(words.join(" "), offered, "fish: {line}");
        assert_eq!(zsh_offers(line, &here, &zsh), offered, "zsh: {line}");
    }
}

/// What an interactive zsh offers for a line, sorted: each match is shown instead of being taken.
fn zsh_offers(line: &str, folder: &str, functions: &Path) -> String {
    let script = r#"
        zmodload zsh/zpty; zpty shell zsh -f -i
        ask() { zpty -w shell "$1"; zpty -r shell reply "*$2*" }
        ask "PS1=; cd $1; fpath=($2 \$fpath); autoload -Uz compinit; compinit -u -D; print rea''dy" ready
        # Every match goes through compadd: this one notes them, too.
        zpty -w shell 'compadd() { local -a notes; builtin compadd -O notes "$@"; offers+=("${(@)notes/#/$IPREFIX}"); builtin compadd "$@" }'
        zpty -w shell 'note() { offers=(); _main_complete; print -r -- "${(j: :)${(@ou)offers}}" >notes }'
        zpty -w shell 'zle -C note list-choices note; bindkey "^T" note; print se''t'
        zpty -r shell reply '*set*'
        zpty -w -n shell "$3"$'\x14'
        repeat 100; do sleep 0.1; [ -s $1/notes ] && break; done
        cat $1/notes; rm $1/notes
    "#;
    let said = run("zsh", ["-f", "-c", script, "zsh", folder, functions.to_str().unwrap(), line]);
    said.trim_end().to_owned()
}
