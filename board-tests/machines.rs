//! The finished program for each board, on that board: booted in QEMU with a real kernel, pulling from a
//! real registry over TLS. One boot proves it all, since a boot is what takes the time.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::*;

/// What edgepull may have resident at most, in KiB, whatever it pulls.
const PEAK_KIB: u64 = 3072;

/// What has to come true on one machine. Entries are called as the programs of examples/hello are.
struct Promise {
    /// What `edgepull platform` says first.
    platform: &'static str,
    /// Lines of its evidence.
    evidence: &'static [&'static str],
    /// The entry taken where there are all.
    takes: &'static str,
    /// The entry taken where that one is missing; `None`: the image is refused.
    else_takes: Option<&'static str>,
    /// Entries that are never taken, also where there are no others.
    never: &'static [&'static str],
}

const ENTRIES: [&str; 5] = ["v5", "v6", "v7", "arm64", "amd64"];

fn label(entry: &str) -> String {
    match entry {
        "arm64" => "linux/arm64/v8".to_owned(),
        "amd64" => "linux/amd64".to_owned(),
        variant => format!("linux/arm/{variant}"),
    }
}

/// An image with these entries, each honest.
fn image_of<'a>(entries: impl IntoIterator<Item = &'a str>) -> Artifact {
    let add = |index: Index, entry: &str| index.with(Image::running(&label(entry), entry).build());
    entries.into_iter().fold(Index::new(), add).build()
}

/// A booted machine, a registry with a private CA on its host, and what the machine has shown so far.
struct Bench {
    machine: Machine,
    registry: Registry,
    /// Its files have to stay as long as the registry runs.
    _authority: Authority,
    scratch: Scratch,
    peak: u64,
}

impl Bench {
    fn new(model: &Model) -> Bench {
        let authority = Authority::new();
        let registry = Registry::with().tls(&authority).start();
        let certificate = std::fs::read(authority.ca_file()).expect("the CA");
        let mut machine = model.boot(&[("ca.pem", certificate)]);
        // Some of these boards have no clock of their own: theirs begins in 1970.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
        machine.run(&format!("date -s @{}", now.as_secs())).succeeds();
        Bench { machine, registry, _authority: authority, scratch: Scratch::new(), peak: 0 }
    }

    /// Pushes the image and pulls it on the machine, to /pulled/root.
    fn pull(&mut self, name: &str, artifact: &Artifact, option: &str) -> Ran {
        self.registry.push(&artifact.layout(&self.scratch, name), name);
        let port = self.registry.address().rsplit_once(':').expect("a port").1;
        let image = format!("10.0.2.2:{port}/{name}");
        self.machine.run("rm -rf /pulled && mkdir /pulled").succeeds();
        self.machine.run(&format!("edgepull -v --ca-file /ca.pem pull {option} {image} /pulled/root"))
    }

    /// The machine takes this entry, and its program runs.
    #[track_caller]
    fn takes(&mut self, name: &str, artifact: &Artifact, entry: &str) {
        let pulled = self.pull(name, artifact, "").succeeds();
        self.peak = self.peak.max(pulled.peak_kib());
        let said = self.machine.run("/pulled/root/hello").succeeds();
        let right = format!("hello from {}", label(entry));
        assert!(said.stdout().starts_with(&right), "another than {entry}: {}", said.stdout());
    }

    /// The machine refuses the image and leaves nothing behind.
    #[track_caller]
    fn refuses(&mut self, name: &str, artifact: &Artifact, code: i32) -> Ran {
        let refusal = self.pull(name, artifact, "").fails_with(code);
        let left = self.machine.run("ls -A /pulled").succeeds();
        assert_eq!(left.stdout(), "", "a refused image leaves something");
        refusal
    }
}

/// Boots the machine and holds it to the promise; `more` is what only this one has to show.
fn prove(model: &Model, promise: &Promise, more: impl FnOnce(&mut Bench)) {
    let begin = Instant::now();
    let mut bench = Bench::new(model);
    let mut platform = bench.machine.run("edgepull platform").succeeds();
    for line in promise.evidence {
        platform = platform.says(line);
    }
    let first = platform.stdout().lines().next().unwrap_or_default().to_owned();
    let found = first.strip_prefix("this board is ").and_then(|rest| rest.split_once(':'));
    let found = found.unwrap_or_else(|| panic!("says no platform: {first}")).0;
    assert_eq!(found, promise.platform);

    bench.takes("all", &image_of(ENTRIES), promise.takes);
    let others = image_of(ENTRIES.into_iter().filter(|entry| *entry != promise.takes));
    match promise.else_takes {
        Some(entry) => bench.takes("others", &others, entry),
        None => drop(bench.refuses("others", &others, exit::NO_PLATFORM)),
    }
    let refusal = bench.refuses("never", &image_of(promise.never.iter().copied()), exit::NO_PLATFORM);
    promise.never.iter().fold(refusal, |refusal, entry| refusal.says(&label(entry)));
    more(&mut bench);
    assert!(bench.peak <= PEAK_KIB, "{} KiB were resident, {PEAK_KIB} may be", bench.peak);

    let kernel = bench.machine.run("uname -r").succeeds();
    let row = [
        model.name,
        kernel.stdout().trim(),
        found,
        &label(promise.takes),
        &bench.peak.to_string(),
        &begin.elapsed().as_secs().to_string(),
    ]
    .join("\t");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/boards");
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(format!("{folder}/{}", model.name), row + "\n").expect("the row of the table");
}

/// A board of QEMU's own making, with a kernel of Debian's.
const VIRT: Model = Model {
    name: "",
    qemu: "qemu-system-aarch64",
    options: &["-M", "virt", "-cpu", "cortex-a53", "-m", "128M"],
    card: "virtio-net-device,netdev=host",
    parameters: "",
    kernel: "cloud-arm64",
    busybox: "busybox-arm64",
    edgepull: "aarch64",
    patience: Duration::from_secs(300),
};

/// ARM926EJ-S: ARMv5TEJ without VFP, with a kernel that board-tests/kernels/build-versatile makes.
#[test]
fn armv5() {
    let model = Model {
        name: "armv5",
        qemu: "qemu-system-arm",
        options: &["-M", "versatilepb", "-cpu", "arm926", "-m", "128M"],
        card: "virtio-net-pci,netdev=host,romfile=",
        kernel: "versatile",
        busybox: "busybox-armel",
        edgepull: "armv5",
        ..VIRT
    };
    let promise = Promise {
        platform: "linux/arm/v5",
        evidence: &["AT_PLATFORM v5l", "uname -m armv5tejl"],
        takes: "v5",
        else_takes: None,
        never: &["v6", "v7", "arm64", "amd64"],
    };
    prove(&model, &promise, |_| {});
}

/// ARM1176JZF-S on a Raspberry Pi 1 A+, with Debian's kernel for it.
#[test]
fn armv6() {
    let model = Model {
        name: "armv6",
        qemu: "qemu-system-arm",
        // A busy host makes this machine lose the one tick that its kernel waits for, but not when its
        // clock counts instructions.
        options: &["-M", "raspi1ap", "-icount", "shift=auto"],
        card: "usb-net,netdev=host",
        // The driver waits for a power controller that QEMU lacks.
        parameters: "initcall_blacklist=bcm2835_power_driver_init",
        kernel: "rpi",
        busybox: "busybox-armel",
        edgepull: "armv6",
        ..VIRT
    };
    let promise = Promise {
        platform: "linux/arm/v6",
        // The architecture is what this kernel says, and the CPU is not.
        evidence: &["ARM1176", "AT_PLATFORM v6l", "uname -m armv6l", "CPU architecture 7"],
        takes: "v6",
        else_takes: Some("v5"),
        never: &["v7", "arm64", "amd64"],
    };
    prove(&model, &promise, |bench| {
        let mislabelled = Index::new().with(Image::running("linux/arm/v6", "v7").build()).build();
        bench.refuses("mislabelled", &mislabelled, exit::BAD_IMAGE).says("/hello").says("v7");
        // It is right to: this is what becomes of the program.
        bench.pull("mislabelled", &mislabelled, "--force").succeeds();
        bench.machine.run("/pulled/root/hello").fails_with(128 + SIGILL).says("Illegal instruction");
    });
}

/// signal(7)
const SIGILL: i32 = 4;

/// Cortex-A7, Debian's kernel.
#[test]
fn armv7() {
    let model = Model {
        name: "armv7",
        qemu: "qemu-system-arm",
        options: &["-M", "virt", "-cpu", "cortex-a7", "-m", "128M"],
        kernel: "armmp",
        busybox: "busybox-armel",
        edgepull: "armv7",
        ..VIRT
    };
    let promise = Promise {
        platform: "linux/arm/v7",
        evidence: &["Cortex-A7", "AT_PLATFORM v7l", "uname -m armv7l"],
        takes: "v7",
        else_takes: Some("v6"),
        never: &["arm64", "amd64"],
    };
    prove(&model, &promise, |_| {});
}

/// Cortex-A53, all in 64 bits.
#[test]
fn aarch64() {
    let promise = Promise {
        platform: "linux/arm64/v8",
        evidence: &["Cortex-A53", "uname -m aarch64", "userland 64-bit"],
        takes: "arm64",
        else_takes: Some("v7"),
        never: &["amd64"],
    };
    prove(&Model { name: "aarch64", ..VIRT }, &promise, |_| {});
}

/// The same CPU and the same kernel below a 32-bit userland, which goes on with 32-bit programs.
#[test]
fn aarch64_32() {
    let model = Model { name: "aarch64-32", busybox: "busybox-armel", edgepull: "armv7", ..VIRT };
    let promise = Promise {
        platform: "linux/arm/v7",
        evidence: &["Cortex-A53", "uname -m aarch64", "userland 32-bit"],
        takes: "v7",
        else_takes: Some("v6"),
        never: &["amd64"],
    };
    prove(&model, &promise, |_| {});
}

/// A64FX: there is no 32-bit state in this CPU, so no 32-bit program ever runs.
#[test]
fn aarch64_64only() {
    let options = &["-M", "virt,gic-version=3", "-cpu", "a64fx", "-m", "128M"];
    let promise = Promise {
        platform: "linux/arm64/v8",
        evidence: &["A64FX", "uname -m aarch64"],
        takes: "arm64",
        else_takes: None,
        never: &["v5", "v6", "v7", "amd64"],
    };
    prove(&Model { name: "aarch64-64only", options, ..VIRT }, &promise, |_| {});
}
