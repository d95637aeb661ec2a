//! The power of a board fails at random moments of deploy, update, rollback and gc: QEMU is killed, with all that
//! the guest has not handed to its disk. Afterwards the disk is looked at from outside, as the next boot would find
//! it, and the board is switched on again and goes on.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::results::record;
use super::table::Machine as Board;
use crate::harness::*;
use crate::life::*;

/// How many cuts there are when nobody asks for more.
const EVERYDAY: usize = 3;
/// How large a large layer is on the wire, in bytes: every day, and when somebody asks for more cuts than then.
const LARGE: (usize, usize) = (20_000_000, 105_000_000);
/// Most cuts of one operation, in the same two cases: then it may end.
const CUTS_MAX: (usize, usize) = (1, 6);
/// How far it may get between two cuts at most, in bytes of blobs.
const STRIDE_MAX: u64 = 40 << 20;
/// What an operation may take after its last byte; it shows how long it really takes.
const LATE: Duration = Duration::from_secs(8);
pub(super) const HEALTH: &str = "[ -e \"$EDGEPULL_ROOTFS/etc/hostname\" ]";

/// When the power is to fail.
enum Moment {
    /// When so many bytes of blobs were sent in all.
    Bytes(u64),
    /// So long after the last byte was sent.
    Late(Duration),
}

/// A board that boots again and again with the same disk.
struct Rig<'a> {
    board: &'static Board,
    life: &'a Life,
    registry: &'a Registry,
    proxy: Proxy,
    scratch: Scratch,
    chance: Chance,
    refetched: Refetched,
    found: Distribution,
    wanted: usize,
    /// Most cuts of one operation.
    cuts_max: usize,
    /// How long what is after the last byte has taken at most, as far as is known.
    late: HashMap<&'static str, Duration>,
}

pub fn prove(board: &'static Board) {
    let begin = Instant::now();
    let wanted = cuts_wanted("EDGEPULL_POWER_CUTS", EVERYDAY);
    let (size, cuts_max) = if wanted > EVERYDAY { (LARGE.1, CUTS_MAX.1) } else { (LARGE.0, CUTS_MAX.0) };
    let registry = Registry::start();
    let life = Life::new(board.candidates[0], size);
    let mut rig = Rig {
        board,
        life: &life,
        registry: &registry,
        proxy: Proxy::before(&registry),
        scratch: Scratch::new(),
        chance: Chance::new(),
        refetched: Refetched::default(),
        found: Distribution::default(),
        wanted,
        cuts_max,
        late: HashMap::new(),
    };
    while rig.found.len() < wanted {
        rig.round();
    }
    tell(format_args!("{}{} s", rig.found, begin.elapsed().as_secs()));
    record(board.model.name, "seconds", begin.elapsed().as_secs());
}

impl Rig<'_> {
    /// As `crate::powercut` has it, on an empty disk.
    fn round(&mut self) {
        run("mke2fs", ["-q", "-F", "-t", "ext4", &self.scratch.at("disk"), "1G"]);
        self.refetched.forget(&self.proxy);
        let Life { first, second, third, .. } = self.life;
        let image = for_guest(&self.proxy.image(TAG));
        let deploy = ["deploy", "app", &image, "--plain-http", "--health", HEALTH];
        let update = ["update", "app"];
        self.life.publish(self.registry, 0);
        self.carry_out(&Operation::new("deploy", &deploy, None, first));
        self.life.publish(self.registry, 1);
        self.carry_out(&Operation::new("update", &update, Some(first), second));
        let rollback = Operation::new("rollback", &["rollback", "app"], Some(second), first);
        self.carry_out(&Operation { to_end: update.to_vec(), ..rollback });
        if self.found.len() >= self.wanted {
            return;
        }
        self.life.publish(self.registry, 2);
        self.carry_out(&Operation::new("small update", &update, Some(first), third));
        self.life.publish(self.registry, 3);
        self.give_up(&Operation::new("given up", &update, Some(third), third));
        self.carry_out(&Operation::new("gc", &["gc"], Some(third), third));
    }

    fn boot(&self) -> Machine {
        let mut machine = Setup::of(&self.board.model).disk(&self.scratch.at("disk")).with_cache().boot();
        machine.run(&format!("mount -t ext4 {} /mnt", machine.disk())).succeeds();
        machine
    }

    /// Begins an operation, cuts the power, and boots again, until it may end.
    fn carry_out(&mut self, operation: &Operation) {
        let layers = operation.layers();
        let (mut cuts, mut is_new, mut may_end, mut during) = (0, false, false, None);
        loop {
            let mut machine = self.boot();
            let reached = self.refetched.reached(&layers);
            let left = layers.iter().map(|(_, size)| size).sum::<u64>() - reached;
            let enough = self.found.len() + usize::from(during.is_some()) >= self.wanted;
            let moment =
                (!enough && cuts < self.cuts_max && !may_end).then(|| self.moment(operation.name, left));
            let line = command(if is_new { &operation.to_end } else { &operation.args });
            match &moment {
                None => {
                    machine.proves(&format!("{}: it ends", operation.name));
                    machine.run(&line).succeeds();
                    machine.run("edgepull --state-dir /mnt/state verify app").succeeds();
                    machine.run("umount /mnt").succeeds();
                }
                Some(moment) => {
                    machine.proves(&format!("{}: the power may fail", operation.name));
                    machine.start(&line);
                    self.wait(moment, left);
                }
            }
            machine.lose_power();
            let again = self.refetched.since(&self.proxy);
            if let Some(during) = during.take() {
                self.found.add(during, again);
            }
            let disk = self.mount_copy();
            let state = disk.path("state");
            let at = phase(&state, operation);
            // Another cut would show nothing, or be taken for the generation's own doing.
            may_end = at.ends_with("ended") || is_tried_often(&state);
            is_new = whole(&state, operation, is_new);
            if moment.is_none() {
                is_cleared(&state);
            }
            drop(disk);
            match moment {
                None => break,
                // It had ended long before.
                Some(Moment::Late(after)) if is_new => {
                    self.late.insert(operation.name, after);
                }
                Some(_) => {}
            }
            eprintln!("{:>14} cut while {at}", "");
            (during, cuts) = (Some(at), cuts + 1);
        }
        assert!(is_new, "{}: it has ended, and nothing is new", operation.name);
    }

    /// An update that gets some way into a large layer, and that nobody wants any more.
    fn give_up(&mut self, begun: &Operation) {
        let mut machine = self.boot();
        machine.proves("an update is begun");
        let bytes = self.proxy.sent().blobs + (6 << 20) + self.chance.below(STRIDE_MAX / 4);
        machine.start(&command(&begun.args));
        self.wait(&Moment::Bytes(bytes), 0);
        machine.lose_power();
        whole(&self.mount_copy().path("state"), begun, true);
        self.refetched.forget(&self.proxy);
    }

    /// `left`: how many bytes have yet to be sent.
    fn moment(&mut self, name: &'static str, left: u64) -> Moment {
        if left > 0 && self.chance.below(4) > 0 {
            return Moment::Bytes(self.proxy.sent().blobs + 1 + self.chance.below(left.min(STRIDE_MAX)));
        }
        let most = self.late.get(name).copied().unwrap_or(LATE);
        Moment::Late(most * self.chance.below(1000) as u32 / 1000)
    }

    fn wait(&self, moment: &Moment, left: u64) {
        let (begin, sent) = (Instant::now(), self.proxy.sent().blobs);
        let (bytes, then) = match moment {
            Moment::Bytes(bytes) => (*bytes, Duration::ZERO),
            Moment::Late(after) => (sent + left, *after),
        };
        while self.proxy.sent().blobs < bytes {
            assert!(begin.elapsed() < self.board.model.limit, "it hangs");
            sleep(Duration::from_millis(2));
        }
        sleep(then);
    }

    /// What the next boot finds.
    fn mount_copy(&self) -> Mounted {
        let copy = self.scratch.at("copy");
        copy_disk(&self.scratch.at("disk"), &copy);
        Mounted::new(&copy, &self.scratch.at("mounted"))
    }
}

/// A line of shell for the guest.
pub(super) fn command(args: &[&str]) -> String {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    format!("edgepull --state-dir /mnt/state {}", quoted.join(" "))
}
