//! edgepull is killed at random places of deploy, update, rollback and gc, a hundred times over: afterwards the
//! deployment is old or new and whole, the next run goes on, and at most 4 MiB are fetched again for each kill. The
//! same for pull, whose folder is not there or whole.
//!
//! A place is a number of bytes that the registry has sent, or the n-th of edgepull's own calls that change the
//! disk (`cut.c`): no clock decides what a kill hits. Real power cuts, of a booted board, are in
//! `machines/powercut.rs`; `board-tests/powercut N` runs both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::life::*;

/// How many kills there are when nobody asks for more.
const EVERYDAY: usize = 20;
/// One of so many rounds has its state directory on a disk, the others in memory.
const ON_DISK: usize = 4;
/// Most kills of one of a round's five operations: then it may end.
const KILLS_MAX: usize = 10;
/// How far it may at most get between two kills, in bytes of blobs.
const STRIDE_MAX: u64 = 20 << 20;
/// The large layers' size on the wire, in bytes.
const LARGE: usize = 105_000_000;
const HEALTH: &str = "[ -e \"$EDGEPULL_ROOTFS/etc/hostname\" ]";
/// When a run has hung.
const HUNG: Duration = Duration::from_secs(300);
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
    life: &'a Life,
    registry: &'a Registry,
    scratch: Scratch,
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
    let (begin, registry) = (Instant::now(), Registry::start());
    let life = Life::new("linux/arm/v7", LARGE);
    let mut bench = Bench::new(&life, &registry);
    // The rehearsal, in which nothing happens.
    bench.round();
    bench.wanted = cuts_wanted("EDGEPULL_CUTS", EVERYDAY);
    for round in 1.. {
        let state = if round % ON_DISK == 0 { Scratch::new() } else { Scratch::in_memory() };
        bench.board = Board::armv7().with_state_in(state);
        bench.refetched.forget(&bench.proxy);
        bench.round();
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

impl<'a> Bench<'a> {
    fn new(life: &'a Life, registry: &'a Registry) -> Bench<'a> {
        let scratch = Scratch::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/cut.c");
        run("gcc", ["-shared", "-fPIC", "-Os", "-Wall", "-Werror", "-o", &scratch.at("cut.so"), source]);
        Bench {
            life,
            registry,
            scratch,
            proxy: Proxy::before(registry),
            board: Board::armv7(),
            chance: Chance::new(),
            extents: BTreeMap::new(),
            refetched: Refetched::default(),
            found: Distribution::default(),
            wanted: 0,
            rest_max: 0,
        }
    }

    fn state(&self) -> PathBuf {
        self.board.beside_state("state")
    }

    /// The first image, the second, back, the third; the fourth is begun, and given up.
    fn round(&mut self) {
        let Life { first, second, third, .. } = self.life;
        let image = self.proxy.image(TAG);
        let (deploy, update) = (["-v", "deploy", "app", &image, "--health", HEALTH], ["-v", "update", "app"]);
        self.life.publish(self.registry, 0);
        self.pull(&image, first);
        self.carry_out(&Operation::new("deploy", &deploy, None, first));
        self.life.publish(self.registry, 1);
        self.carry_out(&Operation::new("update", &update, Some(first), second));
        let rollback = Operation::new("rollback", &["-v", "rollback", "app"], Some(second), first);
        // Called again when all is done, it would look for what was before that.
        self.carry_out(&Operation { to_end: update.to_vec(), ..rollback });
        self.life.publish(self.registry, 2);
        self.carry_out(&Operation::new("small update", &update, Some(first), third));
        self.life.publish(self.registry, 3);
        self.give_up(&Operation::new("given up", &update, Some(third), third));
        self.carry_out(&Operation::new("gc", &["gc"], Some(third), third));
        let left = fs::read_dir(self.state().join("partial/sha256")).expect("a folder").count();
        assert_eq!(left, 0, "gc has left parts of layers");
    }

    /// Runs an operation again and again, until it is not killed any more.
    fn carry_out(&mut self, operation: &Operation) {
        let (mut kills, mut is_new, sent) = (0, false, self.proxy.sent().blobs);
        let mut during = None;
        loop {
            let enough = self.found.len() + usize::from(during.is_some()) >= self.wanted;
            let disturbed =
                !enough && kills < (self.wanted / 5).min(KILLS_MAX) && !is_tried_often(&self.state());
            let place = disturbed.then(|| self.place(operation, self.proxy.sent().blobs - sent));
            let args = if is_new { &operation.to_end } else { &operation.args };
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
            (during, kills) = (Some(phase(&self.state(), operation)), kills + 1);
        }
        assert!(is_new, "{}: it has ended, and nothing is new", operation.name);
        self.is_fetched(operation.name, self.proxy.sent().blobs - sent);
        verify(&self.state());
        is_cleared(&self.state());
    }

    /// Pulls into a folder, again and again until that is there; whenever it is, it is whole.
    fn pull(&mut self, image: &str, version: &Version) {
        let folder = self.board.beside_state("pulled");
        let to = folder.display().to_string();
        let operation = Operation::new("pull", &["-v", "pull", image, &to], None, version);
        let (mut kills, sent) = (0, self.proxy.sent().blobs);
        while !folder.exists() {
            let disturbed = self.found.len() < self.wanted && kills < (self.wanted / 5).min(KILLS_MAX);
            let place = disturbed.then(|| self.place(&operation, self.proxy.sent().blobs - sent));
            let end = self.run(operation.name, &operation.args, place.as_ref());
            let again = self.refetched.since(&self.proxy);
            if kills > 0 {
                self.found.add(operation.name.to_owned(), again);
            }
            assert!(end == End::Killed || folder.exists(), "it has ended, and nothing is there");
            kills += 1;
        }
        version.is(&folder);
        self.is_fetched(operation.name, self.proxy.sent().blobs - sent);
        fs::remove_dir_all(&folder).expect("a folder of ours");
        // What comes next knows nothing of it.
        self.refetched.forget(&self.proxy);
    }

    /// The first time, nothing has happened meanwhile.
    fn is_fetched(&mut self, name: &str, bytes: u64) {
        if let Some(extent) = self.extents.get_mut(name).filter(|extent| extent.blobs == 0) {
            extent.blobs = bytes;
        }
    }

    /// An update that gets some way into a large layer, and that nobody wants any more.
    fn give_up(&mut self, begun: &Operation) {
        let place = Place::Bytes(self.proxy.sent().blobs + (6 << 20) + self.chance.below(STRIDE_MAX));
        assert!(self.run(begun.name, &begun.args, Some(&place)) == End::Killed, "it had ended before");
        self.check(begun, true);
        self.refetched.forget(&self.proxy);
    }

    /// In a copy, so that the next run finds all as the kill has left it.
    fn check(&self, operation: &Operation, was_new: bool) -> bool {
        let (state, copy) = (self.state(), self.board.beside_state("copy"));
        run("cp", ["-al".as_ref(), state.as_os_str(), copy.as_os_str()]);
        let is_new = whole(&copy, operation, was_new);
        fs::remove_dir_all(&copy).expect("a copy of links");
        is_new
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
}
