//! The static binaries of `cross/build`, each under qemu-user on the CPUs that it is for: TLS with real
//! servers (Go's by docker-registry, OpenSSL's by socat), hashes and both decompressors there, and the
//! right entry for the CPU. qemu-user really lacks the instructions that a CPU lacks, so code for newer
//! cores that is chosen wrongly dies here; but it lets unaligned access pass, which the booted boards see.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::*;

const ARM: &str = "qemu-arm-static";
const SIGILL: i32 = 4;

/// Binary, emulator, CPU, and the entry of the example that it has to take there.
const RUNS: [(&str, &str, &str, &str); 8] = [
    ("armv5", ARM, "arm926", "v5"),
    ("armv5", ARM, "arm1176", "v6"),
    ("armv5", ARM, "cortex-a7", "v7"),
    ("armv6", ARM, "arm1176", "v6"),
    ("armv6", ARM, "cortex-a7", "v7"),
    ("armv7", ARM, "cortex-a7", "v7"),
    ("aarch64", "qemu-aarch64-static", "cortex-a53", "arm64"),
    ("x86_64", "qemu-x86_64-static", "qemu64", "amd64"),
];

/// OpenSSL in front of a registry that has no TLS of its own, speaking no newer TLS than 1.2.
struct Tls12 {
    process: Child,
    address: String,
}

impl Tls12 {
    fn before(registry: &Registry, authority: &Authority) -> Tls12 {
        let listen = format!(
            "OPENSSL-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,verify=0,openssl-max-proto-version=TLS1.2,cert={},key={}",
            authority.certificate(),
            authority.key()
        );
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "socat", "-d", "-d", &listen])
            .arg(format!("TCP:{}", registry.address()))
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv, of util-linux");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let address = log.by_ref().find_map(|line| {
            let line = line.expect("readable words");
            line.split_once("listening on AF=2 ").map(|(_, address)| address.to_owned())
        });
        // Read on, or the relay would stand still when the pipe is full.
        std::thread::spawn(move || log.for_each(drop));
        Tls12 { process, address: address.expect("socat, which says where it listens") }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Tls12 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One that does not compress, 1 MB.
fn noise() -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..1 << 20).map(next).collect()
}

/// Pulls the example and takes the right entry of it.
#[track_caller]
fn takes(board: &Board, ca: &str, image: &str, entry: &str) {
    let scratch = Scratch::new();
    board.edgepull(["--ca-file", ca, "pull", image, &scratch.at("root")]).succeeds();
    let hello = std::fs::read(scratch.path("root/hello")).expect("the program");
    assert!(hello == program(entry), "{image}: another entry than {entry}");
}

#[test]
fn each_speaks_tls_and_takes_the_right_entry_on_its_cpus() {
    for authority in [Authority::new(), Authority::with_rsa()] {
        let tls13 = Registry::with().tls(&authority).start();
        let plain = Registry::start();
        let tls12 = Tls12::before(&plain, &authority);
        let newer = tls13.push(HELLO_LAYOUT, "hello:1");
        plain.push(HELLO_LAYOUT, "hello:1");
        for (binary, qemu, cpu, entry) in RUNS {
            let board = Board::emulated(binary, qemu, cpu);
            takes(&board, &authority.ca_file(), &newer, entry);
            takes(&board, &authority.ca_file(), &tls12.image("hello:1"), entry);
        }
    }
}

/// Every binary refuses this registry's certificate, and says why.
#[track_caller]
fn refused_by_each(registry: &Registry, ca: &str, why: &str) {
    for (binary, qemu, cpu, _) in RUNS {
        let scratch = Scratch::new();
        let image = registry.image("hello:1");
        let board = Board::emulated(binary, qemu, cpu);
        let outcome = board.edgepull(["--ca-file", ca, "pull", &image, &scratch.at("root")]);
        outcome.fails_with(exit::NETWORK).saying("certificate").saying(why);
    }
}

#[test]
fn each_refuses_an_authority_that_it_was_not_told_to_trust() {
    let registry = Registry::with().tls(&Authority::new()).start();
    refused_by_each(&registry, &Authority::new().ca_file(), "not trusted");
}

#[test]
fn each_refuses_an_expired_certificate() {
    let authority = Authority::expired();
    let registry = Registry::with().tls(&authority).start();
    refused_by_each(&registry, &authority.ca_file(), "expired");
}

#[test]
fn each_unpacks_and_hashes_gzip_and_zstd() {
    let content = noise();
    let layer = || Layer::new().file("noise", &content).file("zeros", vec![0; 1 << 20]);
    let scratch = Scratch::new();
    let gzip = Image::of("linux/arm/v5").layer(layer()).build().oci(&scratch, "gzip");
    let zstd = Image::of("linux/arm/v5").in_zstd().layer(layer()).build().oci(&scratch, "zstd");
    for (binary, qemu, cpu, _) in RUNS {
        for image in [&gzip, &zstd] {
            let scratch = Scratch::new();
            let board = Board::emulated(binary, qemu, cpu);
            board.edgepull(["--platform", "linux/arm/v5", "pull", image, &scratch.at("root")]).succeeds();
            let written = std::fs::read(scratch.path("root/noise")).expect("the file");
            assert!(written == content, "{binary} on {cpu}: {image} came out wrong");
        }
    }
}

/// Limits what edgepull may take, in KiB. That is 3 MiB on boards (board-tests/machines); this machine's binary has what publishes,
/// too, whose code lies between a pull's, and is mapped with it.
const MOST_KIB: u64 = 3 * 1024 + 512;

/// Runs edgepull with `-v` and these words, and holds the peak that it says against [`MOST_KIB`].
#[track_caller]
fn within_bounds(board: &Board, words: &[&str]) {
    let said = board.edgepull([&["-v"], words].concat()).succeeds().stderr();
    let peak = said.lines().find_map(|line| line.split_once("peak memory (VmHWM): ")?.1.strip_suffix(" KiB"));
    let peak: u64 = peak.expect("its peak").parse().expect("a number");
    eprintln!("{peak} KiB");
    assert!(peak <= MOST_KIB, "{words:?}: {peak} KiB\n{said}");
}

/// The widest window that zstd's own decoder takes unasked, by its author's program: of a file, whose size the frame then
/// says, and of a pipe. What is repeated is 100 MiB back.
#[test]
fn memory_is_bounded_with_a_zstd_window_of_128_mib() {
    const BETWEEN: usize = 100 << 20;
    let noise = crate::failures::noise(8 << 20);
    let layer = Layer::new().file("one", &noise).file("between", vec![0; BETWEEN]).file("two", &noise);
    let (scratch, board) = (Scratch::in_memory(), Board::armv7().with_static_build());
    let tar = scratch.write("tar", layer.tar());
    let plain = Image::of("linux/arm/v7").raw_layer(std::fs::read(&tar).expect("it")).uncompressed().build();
    for (name, script, window) in [
        ("file", "zstd -q --ultra -22 --long=27 $1 -o $2", "Window Size: 116 MiB"),
        ("pipe", "zstd -q --ultra -22 --long=27 <$1 >$2", "Window Size: 128 MiB"),
    ] {
        let packed = scratch.at(&format!("{name}.zst"));
        run("sh", ["-c", script, "sh", &tar, &packed]);
        let listed = run("zstd", ["-lv", &packed]);
        assert!(listed.contains(window), "{name}: {listed}");
        let packed = std::fs::read(packed).expect("what zstd wrote");
        assert!(packed.len() < noise.len() * 3 / 2, "{name}: {} bytes, nothing is repeated", packed.len());
        let image = plain.clone().with_blob(&digest_of(&packed), packed.clone()).with_manifest(|manifest| {
            manifest["layers"][0] = serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
                "digest": digest_of(&packed), "size": packed.len(),
            });
        });
        let root = scratch.at(&format!("{name}-root"));
        within_bounds(&board, &["pull", &image.oci(&scratch, name), &root]);
        for file in ["one", "two"] {
            let written = std::fs::read(format!("{root}/{file}")).expect("the file");
            assert!(written == noise, "{name}: {file} came out wrong");
        }
        let between = std::fs::read(format!("{root}/between")).expect("the file");
        assert!(between.len() == BETWEEN && between.iter().all(|byte| *byte == 0), "{name}: between");
    }
}

/// Through checkpoints, comparisons with older files, repairs: as much as a bare pull may take.
#[test]
fn memory_is_bounded_whatever_a_deployment_does() {
    let (authority, scratch) = (Authority::new(), Scratch::new());
    let registry = Registry::with().tls(&authority).start();
    let files = || (0..3000).fold(Layer::new(), |layer, number| layer.file(&format!("{number}"), [7; 900]));
    let release = |number: usize| {
        let mut large = crate::failures::noise(20 << 20);
        large[10 << 20] = number as u8;
        let changing = Layer::new().file("large", large).file("same", crate::failures::noise(5 << 20));
        let image = Image::of("linux/arm/v7").layer(files()).layer(changing).build();
        registry.push(&image.layout(&scratch, &number.to_string()), "board/app:now")
    };
    let (board, ca) = (Board::armv7().with_static_build(), authority.ca_file());
    let within = |words: &[&str]| within_bounds(&board, words);
    let fetching = |words: &[&str]| within(&[&["--ca-file", &ca], words].concat());
    // What is repeated is 7 MiB back.
    let far = crate::failures::noise(7 << 20);
    let far = Layer::new().file("one", &far).file("two", &far).file("three", &far);
    let far = Image::of("linux/arm/v7").layer(far).in_zstd().build().layout(&scratch, "zstd");
    fetching(&["deploy", "far", &registry.push(&far, "board/far:now")]);
    fetching(&["deploy", "app", &release(1)]);
    release(2);
    fetching(&["update", "--all"]);
    within(&["rollback", "app"]);
    let damaged = board.beside_state("state/deployments/app/current/rootfs/large");
    std::fs::write(damaged, "damaged").expect("written");
    fetching(&["verify", "--repair"]);
    within(&["gc"]);
    within(&["status"]);
}

/// The labels on the binaries mean something: on a lesser CPU they die.
#[test]
fn on_a_lesser_cpu_they_die() {
    for (binary, cpu) in [("armv6", "arm926"), ("armv7", "arm926"), ("armv7", "arm1176")] {
        let outcome = Board::emulated(binary, ARM, cpu).edgepull(["platform"]);
        assert_eq!(outcome.signal(), Some(SIGILL), "{binary} on {cpu}");
    }
}

/// What decides then is the auxiliary vector: a core without VFP must get no hard-float image, though the
/// kernel says v7.
#[test]
fn without_proc_a_core_without_vfp_gets_no_hard_float_image() {
    for (cpu, platform) in [
        ("cortex-a9", "linux/arm/v7"),
        ("cortex-a9,vfp=off,neon=off", "linux/arm/v5"),
        ("arm1176", "linux/arm/v6"),
        ("arm926", "linux/arm/v5"),
    ] {
        let root = Scratch::new();
        let outcome = Board::emulated("armv5", ARM, cpu).run_in(&root).edgepull(["platform"]).succeeds();
        let text = outcome.stdout();
        assert!(text.starts_with(&format!("this board is {platform}: ")), "{cpu}: {text}");
    }
}
