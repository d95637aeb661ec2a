//! An image of more than 100 MB on the least memory that the board boots with, then in control groups
//! (cgroup v2, memory.max) that allow it less and less. Page cache counts there as the process's own does.

use std::path::Path;

use super::results::{peak_memory, record};
use super::table::Machine as Board;
use crate::harness::*;

/// The limit that has to be enough, in MiB.
const ENOUGH: u32 = 8;
/// Then as low as it goes. With 1 MiB, less than the program itself has, every board only read it from the disk
/// over and over, and had not ended after 400 s.
const LESS: &[u32] = &[4, 3, 2];
const TOO_SLOW: &str = "timeout 600";

const FILES: u64 = 20;
const FILE_SIZE: usize = 5_300_000;

pub fn prove(board: &'static Board) {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let registry = Registry::with().tls(&authority).start();
    let layer = (0..FILES).fold(Layer::new().dir("data", 0o755), |layer, number| {
        layer.file(&format!("data/{number}"), compressible(number, FILE_SIZE))
    });
    let artifact = Image::of(board.candidates[0]).layer(layer).build();
    registry.push(&artifact.layout(&scratch, "image"), "large");
    // From the disk, so that its own pages in the cache count, too: those of the initramfs do not.
    let image = registry.image_for_guest("large");
    let pull = format!("/mnt/edgepull -v --ca-file /ca.pem pull {image} /mnt/work/image");

    let disk = scratch.at("disk");
    run("mke2fs", ["-q", "-t", "ext4", &disk, "512M"]); // an SD card has a power of two
    let mut machine =
        Setup::of(&board.model).with_least_memory().disk(&disk).file("/ca.pem", authority.ca()).boot();
    machine
        .run(&format!("mount -t ext4 {} /mnt && mkdir /mnt/work && cp /bin/edgepull /mnt", machine.disk()))
        .succeeds();
    machine.run("echo +memory > /sys/fs/cgroup/cgroup.subtree_control").succeeds();

    machine.proves(&format!("{} MiB of memory are enough for it", board.model.least_memory));
    peak_memory(board.model.name, &machine.run(&pull).succeeds());
    machine.proves(&format!("a control group of {ENOUGH} MiB is enough"));
    peak_memory(board.model.name, &limited(&mut machine, ENOUGH, &pull).succeeds());
    machine.run("mv /mnt/work/image /mnt/whole").succeeds();
    let mut least = ENOUGH;
    for &limit in LESS {
        machine.proves(&format!("(how low it goes: {limit} MiB)"));
        let outcome = limited(&mut machine, limit, &pull);
        if outcome.code() != 0 {
            // The kernel's, or ours when it takes too long: not for another reason, as that there is no more room.
            assert!(matches!(outcome.code(), 1 | 124 | 137), "{limit} MiB: {}", outcome.stderr());
            break;
        }
        least = limit;
    }
    record(board.model.name, "cgroup", least);
    record(board.model.name, "seconds", machine.seconds());

    machine.proves("what stands on the disk is what was in the image");
    machine.run("umount /mnt").succeeds();
    drop(machine);
    run("debugfs", ["-R", &format!("rdump /whole {}", scratch.at("")), &disk]);
    for number in 0..FILES {
        let file = scratch.at(&format!("whole/data/{number}"));
        let same =
            std::fs::read(Path::new(&file)).expect("a file of the image") == compressible(number, FILE_SIZE);
        assert!(same, "{file} is not what was in the image");
    }
}

/// Runs it in a control group of its own: a used one still has its page cache to pay for.
fn limited(machine: &mut Machine, mib: u32, pull: &str) -> Outcome {
    let group = format!("/sys/fs/cgroup/of-{mib}");
    machine.run(&format!("rm -rf /mnt/work; mkdir /mnt/work {group} && sync")).succeeds();
    machine.run("echo 3 > /proc/sys/vm/drop_caches").succeeds();
    machine.run(&format!("echo {mib}M > {group}/memory.max")).succeeds();
    machine.run(&format!("{TOO_SLOW} sh -c 'echo $$ > {group}/cgroup.procs && exec {pull}'"))
}

/// Bytes of which no page is like another, and which are yet worth some fiftieth on the wire: the network of
/// the slowest board brings 0.2 MB/s.
fn compressible(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let mut data = Vec::with_capacity(size + 4096);
    while data.len() < size {
        let line: String = (0..3)
            .map(|_| {
                // Numerical Recipes' 64-bit linear congruential generator.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:012x} ", state >> 16)
            })
            .collect();
        data.extend(line.repeat(4096 / line.len()).bytes());
    }
    data.truncate(size);
    data
}
