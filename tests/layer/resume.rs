//! A fetch that is interrupted, wherever, goes on and ends as if nothing had happened; and what an older tree
//! has already is not written again.

use crate::rootless::as_user;
use crate::support::*;
use edgepull::error::{Error, Kind};
use edgepull::layer::rootfs::{Options as RootOptions, Rootfs};
use edgepull::layer::{Kept, Layer, Options, Stats, Threads, fetch};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A checkpoint after so many bytes: as small as the blocks of gzip allow.
const EVERY: u64 = 40_000;

/// The bytes of a blob up to where the cable is cut.
struct Cable {
    bytes: Arc<Vec<u8>>,
    at: usize,
    cut: usize,
}

impl Read for Cable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.cut && self.cut < self.bytes.len() {
            return Err(Error::new(Kind::Network, "cable cut").into());
        }
        let n = buffer.len().min(self.bytes.len().min(self.cut) - self.at).min(5000);
        buffer[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// In memory where that can be: every checkpoint has the whole file system written.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A layer on its way into a directory.
struct Fetch {
    home: tempfile::TempDir,
    wire: Arc<Vec<u8>>,
    diff_id: [u8; 32],
    threads: Threads,
    base: Option<PathBuf>,
    /// From where the source was asked.
    offsets: Mutex<Vec<u64>>,
}

impl Fetch {
    fn new(wire: Vec<u8>, tar: &[u8], threads: Threads) -> Fetch {
        Fetch {
            home: scratch(),
            wire: Arc::new(wire),
            diff_id: Sha256::digest(tar).into(),
            threads,
            base: None,
            offsets: Mutex::default(),
        }
    }

    fn directory(&self) -> OwnedFd {
        File::open(self.home.path()).unwrap().into()
    }

    fn promise(&self) -> Layer<'static> {
        let wire_digest = Sha256::digest(&*self.wire).into();
        Layer { wire_digest, wire_size: self.wire.len() as u64, diff_id: self.diff_id, ..promise(b"", b"") }
    }

    /// One run, which is interrupted after byte `cut`.
    fn run(&self, cut: usize) -> Result<Stats, Error> {
        let options = Options {
            threads: self.threads,
            checkpoint_every: EVERY,
            base: self.base.as_ref().map(|base| File::open(base).unwrap().into()),
            ..Options::default()
        };
        let mut open = |offset: u64| -> Result<Box<dyn Read + Send>, Error> {
            self.offsets.lock().unwrap().push(offset);
            Ok(Box::new(Cable { bytes: self.wire.clone(), at: offset as usize, cut }))
        };
        fetch(&self.promise(), self.directory(), &options, &mut open, &Silent)
    }

    /// Interrupted at each of `cuts`, then to the end.
    fn interrupted(&self, cuts: &[usize]) -> Stats {
        for cut in cuts {
            let error = self.run(*cut).unwrap_err();
            assert_eq!(error.kind(), Kind::Network, "{error}");
        }
        self.run(usize::MAX).unwrap()
    }

    fn kept(&self) -> Kept {
        Kept::open(self.directory()).unwrap().expect("whole")
    }

    /// Applies it to an empty root beside.
    fn tree(&self) -> (tempfile::TempDir, String) {
        let bench = scratch();
        let open = |name: &str| {
            fs::create_dir(bench.path().join(name)).unwrap();
            File::open(bench.path().join(name)).unwrap().into()
        };
        let mut root = Rootfs::open(open("root"), open("scratch"), RootOptions::default()).unwrap();
        self.kept().apply(&mut root).unwrap();
        root.finish().unwrap();
        let shown = show(&bench.path().join("root"));
        (bench, shown)
    }
}

/// What gzip makes of `data`: every Debian has it.
fn gzip(level: &str, data: &[u8]) -> Vec<u8> {
    compress("gzip", &[level], data).unwrap()
}

/// Text that shrinks to a third or so, different for every seed.
fn text(seed: u64, length: usize) -> String {
    let (mut state, mut text) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, String::new());
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{:x} of {seed}\n", state >> 20));
    }
    text.truncate(length);
    text
}

/// Many small files, one large one, one that is sparse, links, names and attributes of all kinds.
fn layer() -> Vec<u8> {
    let long = format!("usr/{}", "long".repeat(20));
    // All directories are members: those that are not get the time of the day.
    let mut tar = tar().dir("./").dir("usr/").dir(&long).dir("etc/").file("etc/empty", "");
    for number in 0..300 {
        tar = tar.file(&format!("etc/file{number}"), &text(number, (number as usize * 37) % 3000));
    }
    tar = tar.file("large", &text(1000, 900_000));
    let mut data = b"3\n0\n512\n1000000\n300000\n2000000\n100\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(text(1001, 512 + 300_000 + 100).as_bytes());
    let keys: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"3000000"),
    ];
    tar = tar.pax(&keys).member(b'0', "GNUSparseFile.0/sparse", "", 0o600, &data, |_| {});
    tar = tar.symlink("link", "large").hardlink("etc/hard", "large");
    for number in 300..500 {
        let path = format!("{long}/{}{number}", "n".repeat(100));
        tar = tar.pax(&[("path", path.as_bytes()), ("mtime", b"7.25")]).file("short", &text(number, 2000));
    }
    tar.end()
}

/// The layer in all its compressions.
fn wires(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let members = tar.chunks(70_000).flat_map(|part| gzip("-1", part)).collect();
    let mut wires = vec![
        ("none", tar.to_vec()),
        ("gzip -1", gzip("-1", tar)),
        ("gzip -9", gzip("-9", tar)),
        ("gzip members", members),
    ];
    let frames = tar.chunks(50_000).map(|part| compress("zstd", &["-q", "-3"], part));
    if let Some(frames) = frames.collect::<Option<Vec<_>>>() {
        wires.push(("zstd frames", frames.concat()));
    }
    wires
}

#[test]
fn it_goes_on_after_an_interruption_anywhere() {
    let tar = layer();
    for (name, wire) in wires(&tar) {
        for threads in [Threads::One, Threads::Beside] {
            let whole = Fetch::new(wire.clone(), &tar, threads);
            whole.run(usize::MAX).unwrap();
            let (_dir, should) = whole.tree();
            for cut in (1..wire.len()).step_by(wire.len() / 11) {
                let fetch = Fetch::new(wire.clone(), &tar, threads);
                let stats = fetch.interrupted(&[cut]);
                assert!(fetch.tree().1 == should, "{name}, cut at {cut}");
                let offset = fetch.offsets.lock().unwrap()[1];
                // At most what comes between two checkpoints, one block of gzip and the buffers.
                let again = cut as u64 - offset;
                assert!(again < EVERY * 3 / 2 + 250_000, "{name}, cut at {cut}: {again} bytes came again");
                assert_eq!(stats.wire_bytes, wire.len() as u64 - offset);
                fetch.kept().check(!is_root(), |member, how| panic!("{member:?} {how}")).unwrap();
            }
        }
    }
}

#[test]
fn it_goes_on_again_and_again() {
    let tar = layer();
    for (name, wire) in wires(&tar) {
        let whole = Fetch::new(wire.clone(), &tar, Threads::One);
        whole.run(usize::MAX).unwrap();
        let fetch = Fetch::new(wire.clone(), &tar, Threads::Beside);
        let cuts: Vec<_> = (1..8).map(|part| wire.len() * part / 8).collect();
        fetch.interrupted(&cuts);
        assert!(fetch.tree().1 == whole.tree().1, "{name}");
        let offsets = fetch.offsets.lock().unwrap();
        assert!(offsets.is_sorted() && offsets[7] > wire.len() as u64 / 2, "{name}: {offsets:?}");
    }
}

/// The first run has ended the file, and given it its mode, after its last checkpoint.
#[test]
fn it_goes_on_in_a_file_that_its_user_may_not_write_any_more() {
    as_user("resume::it_goes_on_in_a_file_that_its_user_may_not_write_any_more", || {
        let large = text(1, 500_000);
        let tar = tar().member(b'0', "large", "", 0o444, large.as_bytes(), |_| {}).file("after", "x").end();
        let mut ended = 0;
        // The last checkpoint is somewhere before the end.
        for cut in (tar.len() - 60_000..tar.len()).step_by(1000) {
            let fetch = Fetch::new(tar.clone(), &tar, Threads::One);
            fetch.run(cut).unwrap_err();
            let mode = fs::metadata(fetch.home.path().join("objects/0/0")).unwrap().mode() & 0o777;
            ended += usize::from(mode == 0o444);
            fetch.run(usize::MAX).unwrap();
            assert!(fetch.offsets.lock().unwrap()[1] > 0, "it started over");
            assert!(fs::read(fetch.tree().0.path().join("root/large")).unwrap() == large.as_bytes());
        }
        assert!(ended > 0, "the file was never ended");
    });
}

#[test]
fn a_checkpoint_that_does_not_fit_starts_the_layer_over() {
    let tar = layer();
    let wire = gzip("-6", &tar);
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 5] = [
        ("a byte of both checkpoints changed", |home| {
            for slot in ["checkpoint.0", "checkpoint.1"] {
                let mut bytes = fs::read(home.join(slot)).unwrap();
                bytes[20_000] ^= 1;
                fs::write(home.join(slot), bytes).unwrap();
            }
        }),
        ("the record is shorter than it was", |home| {
            File::options().write(true).open(home.join("members")).unwrap().set_len(100).unwrap();
        }),
        ("the record is gone", |home| fs::remove_file(home.join("members")).unwrap()),
        ("the file that was being written is shorter", |home| {
            // It is the 302nd: after /etc/empty and 300 others.
            File::options().write(true).open(home.join("objects/3/1")).unwrap().set_len(10).unwrap();
        }),
        ("the file that was being written is gone", |home| {
            fs::remove_file(home.join("objects/3/1")).unwrap();
        }),
    ];
    let whole = Fetch::new(wire.clone(), &tar, Threads::One);
    whole.run(usize::MAX).unwrap();
    for (what, spoil) in spoil {
        let fetch = Fetch::new(wire.clone(), &tar, Threads::One);
        fetch.run(wire.len() / 2).unwrap_err();
        spoil(fetch.home.path());
        fetch.run(usize::MAX).unwrap();
        assert_eq!(*fetch.offsets.lock().unwrap(), [0, 0], "{what}");
        assert!(fetch.tree().1 == whole.tree().1, "{what}");
    }
}

#[test]
fn bytes_that_were_damaged_before_the_checkpoint_are_found_and_fetched_again() {
    let tar = layer();
    let mut fetch = Fetch::new(tar.clone(), &tar, Threads::Beside);
    let good = fetch.wire.clone();
    let mut damaged = tar.clone();
    let at = damaged.windows(9).position(|window| window == b" of 1000\n").unwrap();
    damaged[at] = b'!';
    let promised = fetch.promise();
    fetch.wire = Arc::new(damaged);
    // The source serves other bytes than those that were promised.
    let run = |fetch: &Fetch, cut| {
        let options = Options { checkpoint_every: EVERY, ..Options::default() };
        let mut open = |offset: u64| -> Result<Box<dyn Read + Send>, Error> {
            fetch.offsets.lock().unwrap().push(offset);
            Ok(Box::new(Cable { bytes: fetch.wire.clone(), at: offset as usize, cut }))
        };
        edgepull::layer::fetch(&promised, fetch.directory(), &options, &mut open, &Silent)
    };
    run(&fetch, tar.len() * 3 / 4).unwrap_err();
    fetch.wire = good;
    run(&fetch, usize::MAX).unwrap();
    let offsets = fetch.offsets.lock().unwrap();
    assert!(offsets.len() == 3 && offsets[1] > 0 && offsets[2] == 0, "{offsets:?}");
    let whole = Fetch::new(tar.clone(), &tar, Threads::One);
    whole.run(usize::MAX).unwrap();
    assert!(fetch.tree().1 == whole.tree().1);
}

#[test]
fn a_refused_layer_leaves_nothing() {
    let tar = layer();
    let fetch = Fetch { diff_id: [7; 32], ..Fetch::new(tar.clone(), &tar, Threads::One) };
    assert_eq!(fetch.run(usize::MAX).unwrap_err().kind(), Kind::Verification);
    assert_eq!(fs::read_dir(fetch.home.path()).unwrap().count(), 0);
}

/// The layer with one file of 300 changed in the middle, one longer, and one with another time.
fn changed() -> Vec<u8> {
    let mut tar = layer();
    let mut change = |name: &str, how: &dyn Fn(&mut [u8])| {
        let at = (0..tar.len()).step_by(512).find(|at| tar[*at..].starts_with(name.as_bytes())).unwrap();
        how(&mut tar[at..]);
        let header = &mut tar[at..at + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    };
    change("large\0", &|member| member[512 + 500_000] ^= 1);
    change("etc/file100\0", &|member| member[146] ^= 1);
    tar
}

#[test]
fn what_an_older_tree_has_is_not_written_again() {
    let (old, new) = (layer(), changed());
    let before = Fetch::new(old.clone(), &old, Threads::One);
    let first = before.run(usize::MAX).unwrap();
    let (base, _) = before.tree();
    let root = base.path().join("root");
    let plain = Fetch::new(new.clone(), &new, Threads::One);
    plain.run(usize::MAX).unwrap();
    for cuts in [&[][..], &[new.len() / 4, new.len() / 2, new.len() * 2 / 3]] {
        let mut fetch = Fetch::new(new.clone(), &new, Threads::Beside);
        fetch.base = Some(root.clone());
        let stats = fetch.interrupted(cuts);
        // Of the tree's files that may be linked to, only the changed ones are written, and the sparse one.
        assert!(first.written > 1_800_000 && stats.written < 1_350_000, "{stats:?}");
        assert!(stats.shared > 500_000, "{stats:?}");
        let (made, shown) = fetch.tree();
        let inode = |root: &Path, name: &str| fs::metadata(root.join(name)).unwrap().ino();
        let same = |name| inode(&root, name) == inode(&made.path().join("root"), name);
        assert!(same("etc/file99") && !same("large") && !same("etc/file100"));
        // Links to the older tree aside, it is what it would have been without.
        let names = |shown: &str| {
            let name = |line: &str| line.split(" names, first").next().unwrap()[..].to_owned();
            shown.lines().map(name).collect::<Vec<_>>().len()
        };
        assert_eq!(names(&shown), names(&plain.tree().1));
        fetch.kept().check(!is_root(), |member, how| panic!("{member:?} {how}")).unwrap();
        assert_eq!(fs::read(root.join("large")).unwrap(), text(1000, 900_000).into_bytes(), "the old stays");
    }
}

/// The run that was interrupted may have linked to the old file itself, and so may any other.
#[test]
fn within_an_old_file_it_goes_on_although_that_has_got_more_names() {
    let tar = tar().file("large", &text(1, 900_000)).end();
    let before = Fetch::new(tar.clone(), &tar, Threads::One);
    before.run(usize::MAX).unwrap();
    let (base, _) = before.tree();
    let root = base.path().join("root");
    let goes_on = |meanwhile: &dyn Fn()| {
        let mut fetch = Fetch::new(tar.clone(), &tar, Threads::One);
        fetch.base = Some(root.clone());
        fetch.run(tar.len() / 2).unwrap_err();
        meanwhile();
        fetch.run(usize::MAX).unwrap();
        let (made, _) = fetch.tree();
        assert!(fs::read(made.path().join("root/large")).unwrap() == text(1, 900_000).into_bytes());
        fetch.offsets.lock().unwrap()[1] > 300_000
    };
    assert!(goes_on(&|| fs::hard_link(root.join("large"), root.join("again")).unwrap()));
    // And not, where it is another one.
    assert!(!goes_on(&|| {
        fs::remove_file(root.join("large")).unwrap();
        fs::write(root.join("large"), text(2, 900_000)).unwrap();
    }));
}

#[test]
fn a_check_names_every_file_that_is_not_what_it_was() {
    let tar = tar().file("a", "one").file("b", "two").file("c", "three").file("d", "four").end();
    let fetch = Fetch::new(tar.clone(), &tar, Threads::One);
    fetch.run(usize::MAX).unwrap();
    let object = |number: u32| fetch.home.path().join(format!("objects/0/{number}"));
    let time = fs::metadata(object(0)).unwrap().modified().unwrap();
    fs::write(object(0), "0ne").unwrap();
    File::options().write(true).open(object(0)).unwrap().set_modified(time).unwrap();
    fs::write(object(1), "longer").unwrap();
    fs::remove_file(object(2)).unwrap();
    File::options().write(true).open(object(3)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut found = Vec::new();
    let mut note = |member: &edgepull::layer::archive::Member, how: &str| {
        found.push(format!("{} {how}", String::from_utf8_lossy(&member.path)));
    };
    fetch.kept().check(!is_root(), &mut note).unwrap();
    assert_eq!(
        found,
        [
            "a its content differs",
            "b its size differs",
            "c its data is gone",
            "d its owner, mode or time differs"
        ]
    );
}
