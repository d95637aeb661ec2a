//! Layers that unpack to more than there is: they end before the disk is full, with exit code 9, and leave nothing.

use std::fs;
use std::time::{Duration, Instant};

use super::builder::{EvilImage, Head, Tar, Wire, gzipped, record, streamed, tar, zstd_frame};
use super::victim::{By, Ground};
use crate::harness::*;

/// A file system of a few MiB on a loop device.
pub struct Disk(String);

impl Disk {
    /// ext4 of so many MiB, with an inode for every 16 KiB.
    pub fn of_ext4(at: &str, mib: u32) -> Disk {
        Disk::made(at, mib, &["-t", "ext4"])
    }

    fn made(at: &str, mib: u32, how: &[&str]) -> Disk {
        let image = format!("{at}.img");
        fs::create_dir_all(at).expect("a folder");
        fs::File::create(&image).and_then(|file| file.set_len(u64::from(mib) << 20)).expect("an image");
        run("mke2fs", [&["-q", "-F", "-m", "0"], how, &[&image]].concat());
        run("mount", ["-o", "loop", &image, at]);
        Disk(at.to_owned())
    }

    pub fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Bytes and inodes that are free.
    fn free(&self) -> (u64, u64) {
        let stat = nix::sys::statvfs::statvfs(self.0.as_str()).expect("a file system");
        (stat.blocks_available() * stat.fragment_size(), stat.files_available())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
    }
}

/// `blocks` blocks of 128 KiB of zeros in a zstd frame, 4 bytes each (RLE, RFC 8878, 3.1.1.2.2).
fn zstd_zeros(blocks: u32) -> Vec<u8> {
    let mut frame = zstd_frame(super::builder::WINDOW_128K, &[]);
    for at in 0..blocks {
        let last = u32::from(at + 1 == blocks);
        frame.extend_from_slice(&((128u32 << 10) << 3 | 1 << 1 | last).to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A file of `mib` MiB of zeros, as one zstd layer of some KB.
pub fn zstd_bomb(mib: u32) -> Wire {
    let head = tar().add(Head::new(b'0', "zeros").size(u64::from(mib) << 20), "").unended();
    let end = [0; 1024];
    let bytes = [zstd_frame(8 << 3, &[&head]), zstd_zeros(mib * 8), zstd_frame(8 << 3, &[&end])].concat();
    let mut hash = sha2::Sha256::default();
    sha2::Digest::update(&mut hash, &head);
    (0..mib).for_each(|_| sha2::Digest::update(&mut hash, vec![0; 1 << 20]));
    sha2::Digest::update(&mut hash, end);
    let digest: String = sha2::Digest::finalize(hash).iter().map(|byte| format!("{byte:02x}")).collect();
    Wire { diff_id: format!("sha256:{digest}"), ..Wire::of(bytes, b"") }
}

/// What is written without a byte of data: records, attributes, folders.
fn many(count: usize, add: impl Fn(Tar, usize) -> Tar) -> Wire {
    let tar = (0..count).fold(tar(), add).end();
    Wire::of(gzipped(&tar), &tar)
}

/// While edgepull runs: the least that was free at any moment, as somebody beside sees it.
pub fn least_free<T>(disk: &Disk, work: impl FnOnce() -> T) -> (T, (u64, u64)) {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut least = disk.free();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let now = disk.free();
                least = (least.0.min(now.0), least.1.min(now.1));
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            least
        });
        let result = work();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        (result, watcher.join().expect("the watcher"))
    })
}

/// What is free when the kernel has let go of files that were removed while it was still writing them.
fn settled(disk: &Disk, nodes: u64) -> (u64, u64) {
    let until = Instant::now() + Duration::from_secs(20);
    while disk.free().1 != nodes && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    disk.free()
}

#[test]
fn what_unpacks_to_more_than_is_free_ends_before_the_disk_is_full() {
    let ground = Ground::new(By::Root);
    let zeros = vec![0u8; 1 << 20];
    let bombs: Vec<(&str, Wire)> = vec![
        (
            "one file, gzip",
            streamed(&ground.scratch, "bomb", 9, |out| {
                let head = tar().add(Head::new(b'0', "zeros").size(600 << 20), "").unended();
                out.write_all(&head).expect("gzip");
                (0..600).for_each(|_| out.write_all(&zeros).expect("gzip"));
                out.write_all(&[0; 1024]).expect("gzip");
            }),
        ),
        ("one file, zstd", zstd_bomb(600)),
        ("files of 64 KiB", many(600, |tar, at| tar.file(format!("{at}"), &zeros[..64 << 10]))),
        ("files of one byte", many(9000, |tar, at| tar.file(format!("{at}"), "x"))),
        ("empty files", many(9000, |tar, at| tar.file(format!("{at}"), ""))),
        ("folders", many(9000, |tar, at| tar.dir(format!("{at}")))),
        ("links", many(9000, |tar, at| tar.symlink(format!("{at}"), "x".repeat(90)))),
        ("pipes", many(9000, |tar, at| tar.add(Head::new(b'6', format!("{at}")), ""))),
        ("names of 4 KiB", many(3000, |tar, at| tar.file(format!("{}{at}", "deep/".repeat(800)), ""))),
        (
            "folders that nobody names",
            many(400, |tar, at| tar.symlink(format!("{at}/{}", "d/".repeat(40)), "x")),
        ),
        ("a sparse file of 1-byte segments", {
            let map: String = (0..12_000).map(|at| format!("{}\n1\n", at * 4096)).collect();
            let mut data = format!("12000\n{map}").into_bytes();
            data.resize(data.len().next_multiple_of(512) + 12_000, b'x');
            let keys =
                [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "99999999")];
            let records: Vec<u8> = keys.iter().flat_map(|(key, value)| record(key, value)).collect();
            let tar = tar().pax_bytes(records).file("spread", data).end();
            Wire::of(gzipped(&tar), &tar)
        }),
        (
            "attributes of files that are not",
            many(500, |tar, at| {
                let value = vec![b'v'; 60_000];
                tar.pax(&[("SCHILY.xattr.user.a", &value), ("SCHILY.xattr.user.b", &value)])
                    .hardlink(format!("{at}"), "x")
            }),
        ),
    ];
    let mut count = 0;
    for (at, (what, bomb)) in bombs.iter().enumerate() {
        let image = EvilImage::new([tar().file("etc/hostname", "board").into(), bomb.clone()]);
        let name = image.layout(&ground.scratch, "image");
        // A larger disk is not full before there are checkpoints.
        for mib in [12, 40].into_iter().take(if at < 3 { 2 } else { 1 }) {
            let folder = format!("disk-{count}");
            let disk = Disk::of_ext4(&ground.scratch.at(&folder), mib);
            fs::write(disk.at("mine"), "mine").expect("a file");
            let (before, before_nodes) = disk.free();
            let root = disk.at("root");
            let (output, (least, least_nodes)) =
                least_free(&disk, || ground.edgepull(what, &["pull", &name, &root]));
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.code() == Some(0) {
                // On the larger disk some of them fit.
                assert!(mib == 40 && !what.contains("one file"), "{what}, {mib} MiB: kept");
            } else {
                assert_eq!(output.status.code(), Some(exit::DISK), "{what}, {mib} MiB: {said}");
                assert!(said.contains("the file system is nearly full"), "{what}, {mib} MiB: {said}");
                assert_eq!(disk.names(), ["lost+found", "mine"], "{what}, {mib} MiB: left behind");
                let (after, after_nodes) = settled(&disk, before_nodes);
                assert!(
                    before - after < 200_000,
                    "{what}, {mib} MiB: {before} bytes free before, {after} after"
                );
                assert_eq!(before_nodes, after_nodes, "{what}: inodes");
            }
            // A quarter of a twentieth, and what the tree's folders may take meanwhile.
            assert!(least > u64::from(mib) * 1_048_576 / 100, "{what}, {mib} MiB: {least} bytes were free");
            assert!(least_nodes > 5, "{what}, {mib} MiB: {least_nodes} inodes were free");
            let honest = ground.edgepull(what, &["pull", "--replace", HELLO, &disk.at("root")]);
            assert_eq!(honest.status.code(), Some(0), "an honest pull after {what}");
            count += 1;
        }
    }
    eprintln!("evil: bombs: {} hostile images, {count} verdicts", bombs.len());
}

#[test]
fn a_deployment_s_update_that_explodes_leaves_what_is_live() {
    let ground = Ground::new(By::Root);
    let disk = Disk::of_ext4(&ground.scratch.at("disk"), 40);
    let state = disk.at("state");
    let bomb = zstd_bomb(600);
    let image = EvilImage::new([bomb]).layout(&ground.scratch, "image");
    let edgepull =
        |words: &[&str]| ground.edgepull("a deployment", &[&["--state-dir", &state], words].concat());
    assert_eq!(edgepull(&["deploy", "app", HELLO]).status.code(), Some(0));
    let live = Tree::of(format!("{state}/deployments/app/current/rootfs"));
    for _ in 0..2 {
        let (output, (least, _)) = least_free(&disk, || edgepull(&["deploy", "app", &image]));
        assert_eq!(output.status.code(), Some(exit::DISK), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(least > 1_000_000, "{least} bytes were free");
        Tree::of(format!("{state}/deployments/app/current/rootfs")).equals(&live);
        assert_eq!(edgepull(&["verify"]).status.code(), Some(0));
    }
    assert_eq!(edgepull(&["gc"]).status.code(), Some(0));
    assert!(disk.free().0 > 30_000_000, "{:?}", disk.free());
    eprintln!("evil: an update that explodes: 1 hostile images, 2 verdicts");
}

/// A file system that does not say how much room it has.
#[test]
fn on_ramfs_there_is_no_limit_to_ask_for() {
    let ground = Ground::new(By::Root);
    let at = ground.scratch.at("ramfs");
    fs::create_dir_all(&at).expect("a folder");
    run("mount", ["-t", "ramfs", "ramfs", &at]);
    let output = ground.edgepull("ramfs", &["pull", HELLO, &format!("{at}/root")]);
    let whole = fs::exists(format!("{at}/root/hello"));
    run("umount", ["-l", &at]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(whole.expect("a look"));
}
