//! What a power cut leaves on a disk that has a cache of its own and writes in the order that it likes. All that a
//! guest writes in one update is written down; then the disk is put together as a cut at some point could have left it:
//! with everything from before the last flush, and of what came since any half. Each such disk has to hold the old
//! deployment or the new one, whole, and the next run has to end the update.

use super::powercut::{HEALTH, command};
use super::results::record;
use super::table::Machine as Board;
use crate::harness::{self, *};
use crate::life::*;

use std::fs::{File, read};
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// So many disks for every power cut of `powercut`; and how many of those there are when nobody asks for more.
const DISKS: usize = 4;
const EVERYDAY: usize = 3;
/// The large layers' size on the wire, in bytes.
const LARGE: usize = 12_000_000;

/// One thing that the guest had its disk do.
struct Write {
    /// In bytes.
    offset: u64,
    data: Vec<u8>,
    /// All before it is safe.
    flush: bool,
    /// It is safe itself.
    safe: bool,
}

pub fn prove(board: &'static Board) {
    let begin = Instant::now();
    let (scratch, registry) = (Scratch::new(), Registry::start());
    let life = Life::new(board.candidates[0], LARGE);
    let proxy = Proxy::before(&registry);
    let (image, board_here) =
        (proxy.image(TAG), harness::Board::aarch64().with_state_in(Scratch::in_memory()));
    life.publish(&registry, 0);
    board_here.edgepull(["deploy", "app", &image, "--health", HEALTH]).succeeds();
    let folder = board_here.beside_state("").into_os_string().into_string().expect("a readable path");
    let disk = scratch.at("before");
    run("mke2fs", ["-q", "-F", "-t", "ext4", "-d", &folder, &disk, "192M"]);
    life.publish(&registry, 1);
    let writes = update(board, &scratch, &disk, &for_guest(&image));

    let (mut chance, wanted) = (Chance::new(), DISKS * cuts_wanted("EDGEPULL_POWER_CUTS", EVERYDAY));
    let operation = Operation::new("update", &[], Some(&life.first), &life.second);
    let (mut old, mut new) = (0, 0);
    for number in 0..wanted {
        // One in each part of the log.
        let part = |number: usize| number * writes.len() / wanted;
        let end = part(number) + chance.below((part(number + 1) - part(number)).max(1) as u64) as usize;
        let cut = scratch.at("cut");
        copy_disk(&disk, &cut);
        write(&cut, &writes[..end], &mut chance);
        let mounted = Mounted::new(&cut, &scratch.at("mounted"));
        let is_new = whole(&mounted.path("state"), &operation, false);
        *(if is_new { &mut new } else { &mut old }) += 1;
        goes_on(&mounted, &image);
        assert!(whole(&mounted.path("state"), &operation, false), "cut {end}: it is not new");
    }
    let flushes = writes.iter().filter(|write| write.flush).count();
    tell(format_args!(
        "{} writes with {flushes} flushes: of {wanted} disks {old} had the old, {new} the new",
        writes.len()
    ));
    assert!(old > 0, "no cut was early enough");
    record(board.model.name, "seconds", begin.elapsed().as_secs());
}

/// Updates on the board; what it wrote.
fn update(board: &'static Board, scratch: &Scratch, disk: &str, image: &str) -> Vec<Write> {
    let (copy, log) = (scratch.at("written"), scratch.write("log", ""));
    copy_disk(disk, &copy);
    let mut machine = Setup::of(&board.model).disk(&copy).logged_to(&log).boot();
    machine.proves("what an update writes, and in which order");
    machine.run(&format!("mount -t ext4 {} /mnt", machine.disk())).succeeds();
    machine.run(&command(&["deploy", "app", image, "--plain-http", "--health", HEALTH])).succeeds();
    // The log's own head is written with a flush.
    machine.run("sync").succeeds();
    machine.lose_power();
    parse(&read(log).expect("a log"))
}

/// The log: a head, then entries of one sector each, all numbers of 64 bits, little endian; the data follows. What is no
/// such log ends the test: a write that it has lost would look like one that edgepull has not waited for.
fn parse(log: &[u8]) -> Vec<Write> {
    const SECTOR: usize = 512;
    const FLUSH: u64 = 1;
    const FUA: u64 = 2;
    const DISCARD: u64 = 4;
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(number(0), 0x006a_7366_7773_6872, "no such log");
    let (count, mut at) = (number(16), SECTOR);
    let entry = |_| {
        let [sector, sectors, flags] = [0, 8, 16].map(|field| number(at + field));
        assert!(flags <= FLUSH | FUA | DISCARD && (sectors > 0 || flags & FLUSH != 0), "a torn log, at {at}");
        at += SECTOR;
        let length = if flags & DISCARD != 0 { 0 } else { sectors as usize * SECTOR };
        let data = log[at..at + length].to_vec();
        at += length;
        let offset = sector * SECTOR as u64;
        Write { offset, data, flush: flags & FLUSH != 0, safe: flags & FUA != 0 }
    };
    (0..count).map(entry).collect()
}

/// Does what is safe, and any half of the rest.
fn write(disk: &str, writes: &[Write], chance: &mut Chance) {
    let file = File::options().write(true).open(disk).expect("a disk");
    let safe = writes.iter().rposition(|write| write.flush).unwrap_or(0);
    for (number, write) in writes.iter().enumerate() {
        if number < safe || write.safe || chance.below(2) == 0 {
            file.write_all_at(&write.data, write.offset).expect("a disk that takes it");
        }
    }
}

/// The next run, on this machine: the state directory is the same everywhere.
fn goes_on(mounted: &Mounted, image: &str) {
    let board = harness::Board::aarch64();
    let state = mounted.path("state");
    let mut command = board.command(["deploy", "app", image, "--health", HEALTH]);
    // The last of these counts.
    command.arg("--state-dir").arg(&state);
    let output = command.output().expect("edgepull runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
