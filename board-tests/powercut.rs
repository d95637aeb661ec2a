//! edgepull is killed at random places of deploy, update, rollback and gc, a hundred times over: afterwards the
//! deployment is old or new and whole, the next run goes on, and at most 4 MiB are fetched again for each kill.
//!
//! A place is a number of bytes that the registry has sent, or the n-th of edgepull's own calls that change the
//! disk (`cut.c`): no clock decides what a kill hits. Real power cuts, of a booted board, are in
//! `machines/powercut.rs`; `board-tests/powercut N` runs both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::*;

/// How many kills there are when nobody asks for more.
const EVERYDAY: usize = 20;
/// One of so many rounds has its state directory on a disk, the others in memory.
const ON_DISK: usize = 4;
/// Most kills of one operation: then it may end.
const KILLS_MAX: usize = 10;
/// How far it may at most get between two kills, in bytes of blobs.
const STRIDE_MAX: u64 = 20 << 20;
/// When a run has hung.
const HUNG: Duration = Duration::from_secs(300);
/// What is tracked.
const TAG: &str = "board/app:now";

/// Four images that a deployment gets one after the other. Two have a large layer of their own, half of whose
/// files are the same; each has a layer of many small files below, and one above that changes what is there.
pub struct Images {
    pub first: Artifact,
    /// Another large layer.
    pub second: Artifact,
    /// The first, and one more layer.
    pub third: Artifact,
    /// The second, and one more layer.
    pub fourth: Artifact,
}

impl Images {
    /// `size`: of a large layer on the wire, in bytes; unpacked it is twice that.
    pub fn new(platform: &'static str, size: usize) -> Images {
        let image = |version: u64| {
            Image::of(platform)
                .layer(small_files())
                .layer(large(version, size))
                .layer(changes(version))
                .build()
        };
        let [first, second] = thread::scope(|scope| {
            [1, 2]
                .map(|version| scope.spawn(move || image(version)))
                .map(|built| built.join().expect("an image"))
        });
        let on_top = |name: &str| {
            let top = Layer::new()
                .dir(name, 0o750)
                .whiteout("data/3")
                .whiteout("usr/share/5/1")
                .file("etc/hostname", name);
            (0..200).fold(top, |top, number| top.file(&format!("{name}/{number}"), name.repeat(number % 60)))
        };
        let (third, fourth) =
            (first.clone().topped_with(on_top("third")), second.clone().topped_with(on_top("fourth")));
        Images { first, second, third, fourth }
    }
}

/// The same in all images.
fn small_files() -> Layer {
    let base = Layer::new()
        .dir("etc", 0o755)
        .file("etc/hostname", "board\n")
        .dir("usr", 0o755)
        .dir("usr/share", 0o755);
    (0..40).fold(base, |base, folder| {
        let path = format!("usr/share/{folder}");
        let base = base.owned_by(folder % 3, folder % 5).dir(&path, 0o711 + folder as u32 % 8);
        let base = (0..40u64).fold(base, |base, number| {
            base.file(
                &format!("{path}/{number}"),
                format!("{folder} {number}\n").repeat((number * 17) as usize),
            )
        });
        base.symlink(&format!("{path}/link"), "../0/1")
            .hardlink(&format!("{path}/same"), &format!("{path}/7"))
    })
}

/// One file of half the size, and 40 others, of which every other one is the same in all versions.
fn large(version: u64, size: usize) -> Layer {
    let layer = Layer::new().dir("data", 0o755).file("data/huge", content(version, size));
    (0..40).fold(layer, |layer, number| {
        let seed = if number % 2 == 0 { version } else { 0 };
        layer.file(&format!("data/{number}"), content(seed << 8 | number, size / 40))
    })
}

/// Half of it is noise, the other half repeats that.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut data = Vec::with_capacity(size + 4096);
    while data.len() < size {
        let begin = data.len();
        for _ in 0..2048 / 8 {
            // Xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data.extend(state.to_le_bytes());
        }
        data.extend_from_within(begin..);
    }
    data.truncate(size);
    data
}

/// Takes away, replaces and links what lies below.
fn changes(version: u64) -> Layer {
    let layer = Layer::new()
        .whiteout("data/1")
        .whiteout(&format!("usr/share/{version}"))
        .opaque("usr/share/9")
        .file("etc/hostname", format!("version {version}\n"))
        .hardlink("data/same", "data/huge")
        .symlink("usr/share/10", "11")
        .fifo("fifo")
        .char_device("null", 1, 3);
    (0..300u64).fold(layer.dir("new", 0o755), |layer, number| {
        layer.file(&format!("new/{number}"), content(version << 16 | number, (number * 37) as usize))
    })
}

/// What umoci makes of it.
pub fn oracle(artifact: &Artifact) -> Tree {
    let scratch = Scratch::new();
    Tree::of(umoci_unpack(&artifact.layout(&scratch, "image"), "latest", &scratch))
}

/// An image and its tree.
struct Version {
    artifact: Artifact,
    tree: Tree,
}

/// What a user does, and how the deployment looks before and after.
struct Operation<'a> {
    name: &'static str,
    args: &'a [&'a str],
    before: Option<&'a Version>,
    after: &'a Version,
    /// What the next run is when this one got so far that the deployment is new.
    to_end: &'a [&'a str],
}

/// The end of one run.
#[derive(PartialEq)]
enum End {
    Done,
    Killed,
}

/// Where a run is to be killed.
#[derive(Debug)]
enum Place {
    /// When so many bytes of blobs were sent in all.
    Bytes(u64),
    /// At the n-th call of a kind, as cut.c calls it.
    Call(String, u64),
}

/// How often edgepull calls what, and how many bytes it fetches, when nothing happens.
#[derive(Clone, Default)]
struct Extent {
    calls: Vec<(String, u64)>,
    blobs: u64,
}

/// A registry, the proxy before it, and what was found out so far.
struct Bench<'a> {
    scratch: &'a Scratch,
    proxy: Proxy,
    board: Board,
    chance: Chance,
    extents: BTreeMap<&'static str, Extent>,
    refetched: Refetched,
    found: Distribution,
    wanted: usize,
    /// The most that one run was sent of what is no blob, in bytes.
    rest_max: u64,
}

#[test]
fn killed_at_random() {
    let begin = Instant::now();
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let images = Images::new("linux/arm/v7", 105_000_000);
    let all = [images.first, images.second, images.third, images.fourth];
    let versions = &thread::scope(|scope| {
        let oracles = all.map(|artifact| {
            scope.spawn(move || {
                let tree = oracle(&artifact);
                Version { artifact, tree }
            })
        });
        oracles.map(|oracle| oracle.join().expect("an oracle"))
    });
    let layouts: Vec<String> =
        versions.iter().enumerate().map(|(n, one)| one.artifact.layout(&scratch, &n.to_string())).collect();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/cut.c");
    run("gcc", ["-shared", "-fPIC", "-Os", "-Wall", "-Werror", "-o", &scratch.at("cut.so"), source]);
    let mut bench = Bench {
        scratch: &scratch,
        proxy: Proxy::before(&registry),
        board: Board::armv7(),
        chance: Chance::new(),
        extents: BTreeMap::new(),
        refetched: Refetched::default(),
        found: Distribution::default(),
        wanted: 0,
        rest_max: 0,
    };
    let publish = |version: usize| drop(registry.push(&layouts[version], TAG));
    bench.round(versions, &publish);
    bench.wanted = cuts_wanted("EDGEPULL_CUTS", EVERYDAY);
    for round in 1.. {
        let state = if round % ON_DISK == 0 { Scratch::new() } else { Scratch::in_memory() };
        bench.board = Board::armv7().with_state_in(state);
        bench.refetched.forget(&bench.proxy);
        bench.round(versions, &publish);
        if bench.found.len() >= bench.wanted {
            tell(format_args!(
                "{}{round} rounds in {} s; at most {} bytes in a run that are no blobs'",
                bench.found,
                begin.elapsed().as_secs(),
                bench.rest_max
            ));
            return;
        }
    }
}

impl Bench<'_> {
    /// The life of a deployment: the first image, the second, back, the third; the fourth is begun, and given up.
    fn round(&mut self, versions: &[Version; 4], publish: &impl Fn(usize)) {
        let [first, second, third, _] = versions;
        let image = self.proxy.image(TAG);
        let health = "[ -e \"$EDGEPULL_ROOTFS/etc/hostname\" ]";
        let (deploy, update) = (["-v", "deploy", "app", &image, "--health", health], ["-v", "update", "app"]);
        let operation = |name, args, before, after| Operation { name, args, before, after, to_end: args };
        publish(0);
        self.carry_out(&operation("deploy", &deploy, None, first));
        publish(1);
        self.carry_out(&operation("update", &update, Some(first), second));
        let rollback = operation("rollback", &["-v", "rollback", "app"], Some(second), first);
        // Called again when all is done, it would look for what was before that.
        self.carry_out(&Operation { to_end: &update, ..rollback });
        publish(2);
        self.carry_out(&operation("small update", &update, Some(first), third));
        publish(3);
        self.give_up(third, &update);
        self.carry_out(&operation("gc", &["gc"], Some(third), third));
        let left = fs::read_dir(self.board.beside_state("state/partial/sha256")).expect("a folder").count();
        assert_eq!(left, 0, "gc has left parts of layers");
    }

    /// Runs an operation again and again until it is not killed any more. The rehearsal only measures it.
    fn carry_out(&mut self, operation: &Operation) {
        let (mut kills, mut is_new, sent) = (0, false, self.proxy.sent().blobs);
        let mut during = None;
        loop {
            let disturbed = kills < KILLS_MAX
                && self.found.len() + usize::from(during.is_some()) < self.wanted
                && !self.is_tried_often();
            let place = disturbed.then(|| self.place(operation, self.proxy.sent().blobs - sent));
            let args = if is_new { operation.to_end } else { operation.args };
            let end = self.run(operation.name, args, place.as_ref());
            let again = self.refetched.since(&self.proxy);
            println!("{again} bytes were fetched again");
            if let Some(during) = during.take() {
                self.found.add(during, again);
            }
            is_new = self.check(operation, is_new);
            if end == End::Done {
                break;
            }
            (during, kills) = (Some(self.phase(operation, is_new)), kills + 1);
        }
        assert!(is_new, "{}: it has ended, and nothing is new", operation.name);
        let fetched = self.proxy.sent().blobs - sent;
        if let Some(extent) = self.extents.get_mut(operation.name).filter(|extent| extent.blobs == 0) {
            extent.blobs = fetched;
        }
        self.verify("state");
    }

    /// An update that gets some way into a large layer, and that nobody wants any more.
    fn give_up(&mut self, third: &Version, update: &[&str]) {
        let begun =
            Operation { name: "given up", args: update, before: Some(third), after: third, to_end: update };
        let place = Place::Bytes(self.proxy.sent().blobs + (6 << 20) + self.chance.below(STRIDE_MAX));
        assert!(self.run(begun.name, begun.args, Some(&place)) == End::Killed, "it had ended before");
        self.check(&begun, true);
        self.refetched.forget(&self.proxy);
    }

    /// Whether another kill would look as if the generation itself brings the board down.
    fn is_tried_often(&self) -> bool {
        let status = self.status();
        let generations = status["generations"].as_array().into_iter().flatten();
        generations.into_iter().any(|one| one["attempts"].as_u64().is_some_and(|attempts| attempts > 1))
    }

    fn place(&mut self, operation: &Operation, fetched: u64) -> Place {
        let extent = self.extents[operation.name].clone();
        if fetched + 4096 < extent.blobs && self.chance.below(3) > 0 {
            return Place::Bytes(
                self.proxy.sent().blobs + self.chance.below(STRIDE_MAX.min(extent.blobs - fetched)),
            );
        }
        let (kind, calls) = &extent.calls[self.chance.below(extent.calls.len() as u64) as usize];
        Place::Call(kind.clone(), 1 + self.chance.below(*calls))
    }

    /// Runs edgepull to its end, or until it is killed.
    fn run(&mut self, name: &'static str, args: &[&str], place: Option<&Place>) -> End {
        let (sent, said) = (self.proxy.sent(), self.scratch.at("said"));
        let mut command = self.board.command(args.iter().copied());
        command
            .stderr(File::create(&said).expect("a file"))
            .stdout(File::create(self.scratch.at("out")).expect("a file"));
        command.env("LD_PRELOAD", self.scratch.at("cut.so")).env("COUNTS", self.scratch.at("counts"));
        command.env(
            "CUT",
            match place {
                Some(Place::Call(kind, number)) => format!("{kind} {number}"),
                _ => String::new(),
            },
        );
        let status = self.watch(command.spawn().expect("edgepull runs"), place);
        self.rest_max = self.rest_max.max(self.proxy.sent().rest - sent.rest);
        let said = fs::read_to_string(&said).expect("what it said");
        // The print macros' words are shown when the test fails.
        println!("-- {name}: {args:?}, to be killed at {place:?}: {status}\n{said}");
        match (status.signal(), status.success()) {
            (Some(9), _) => return End::Killed,
            (_, true) => {}
            _ => panic!("{name}: {args:?}: {status}\n{said}"),
        }
        if !self.extents.contains_key(name) {
            let counts = fs::read_to_string(self.scratch.path("counts")).expect("what cut.c has counted");
            let calls = counts.lines().filter_map(|line| line.split_once(' '));
            let calls = calls.map(|(kind, number)| (kind.to_owned(), number.parse().expect("a number")));
            let calls = calls.filter(|(_, number)| *number > 0).collect();
            self.extents.insert(name, Extent { calls, blobs: 0 });
        }
        End::Done
    }

    fn watch(&self, mut child: Child, place: Option<&Place>) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                return status;
            }
            if matches!(place, Some(Place::Bytes(bytes)) if self.proxy.sent().blobs >= *bytes) {
                child.kill().expect("a child of ours");
            }
            assert!(begin.elapsed() < HUNG, "it hangs");
            sleep(Duration::from_micros(500));
        }
    }

    /// What `status --json` says; null where there is no deployment yet.
    fn status(&self) -> Value {
        if !self.board.beside_state("state/deployments/app/record").exists() {
            return Value::Null;
        }
        let told = self.board.edgepull(["status", "app", "--json"]).succeeds().stdout();
        serde_json::from_str(&told).expect("JSON")
    }

    /// The deployment is old or new, and whole; once new, it stays so. Whether it is new.
    #[track_caller]
    fn check(&self, operation: &Operation, was_new: bool) -> bool {
        let state = self.board.beside_state("state");
        let current = state.join("deployments/app/current");
        let Ok(config) = fs::read_to_string(current.join("config.json")) else {
            assert!(fs::symlink_metadata(&current).is_err(), "current leads nowhere");
            assert!(operation.before.is_none() && !was_new, "nothing is current any more");
            return false;
        };
        let _: Value = serde_json::from_str(&config).expect("JSON");
        let tree = Tree::of(current.join("rootfs"));
        let version = match operation.before {
            Some(before) if !was_new && tree == before.tree => before,
            _ => operation.after,
        };
        version.tree.equals(&tree);
        assert_eq!(self.status()["digest"], version.artifact.digest());
        // In a copy, so that the next run finds all as the kill has left it.
        let copy = self.board.beside_state("copy");
        run("cp", ["-al".as_ref(), state.as_os_str(), copy.as_os_str()]);
        self.verify("copy");
        fs::remove_dir_all(&copy).expect("a copy of links");
        std::ptr::eq(version, operation.after)
    }

    #[track_caller]
    fn verify(&self, state: &str) {
        let state = self.board.beside_state(state);
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgepull"));
        command.arg("--state-dir").arg(state).args(["verify", "app"]);
        let verified = command.output().expect("edgepull runs");
        assert!(verified.status.success(), "{command:?}: {verified:?}");
    }

    /// What a killed run was at, as what it has left shows.
    fn phase(&self, operation: &Operation, is_new: bool) -> String {
        let (status, app) = (self.status(), self.board.beside_state("state/deployments/app"));
        let has_state = |states: &[&str]| {
            let generations = status["generations"].as_array().into_iter().flatten();
            generations.into_iter().any(|one| states.iter().any(|state| one["state"] == *state))
        };
        let phase = match operation.name {
            "rollback" | "gc" => return operation.name.to_owned(),
            _ if app.join("staging").exists() || app.join("scratch").exists() => "composing",
            _ if has_state(&["staged", "switching", "trial"]) => "switching",
            _ if app.join("pending").exists() => "fetching",
            _ if is_new && operation.before.is_some() => "clearing",
            _ => "beginning or ending",
        };
        format!("{}: {phase}", operation.name)
    }
}
