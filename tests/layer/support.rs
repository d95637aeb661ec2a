//! A bench to unpack on, a builder for layers, and a way to say what a tree looks like.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edgepull::error::{Error, Kind};
use edgepull::layer::rootfs::{Options, Rootfs, Summary, merge};
use edgepull::layer::{Compression, Kept, Layer, Observer, Options as Fetching, Stats, Threads, fetch};
use sha2::{Digest, Sha256};
use tar::Header;

/// When the members of [`Tar`] were modified.
pub const MTIME: i64 = 1_600_000_000;

/// One way to unpack; all of them must do the same.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub threads: Threads,
    pub emulate_openat2: bool,
    pub rootless: Option<bool>,
}

pub const PLAIN: Way = Way { threads: Threads::One, emulate_openat2: false, rootless: None };

/// With and without threads and `openat2`.
pub const WAYS: [Way; 4] = [
    PLAIN,
    Way { threads: Threads::Beside, ..PLAIN },
    Way { emulate_openat2: true, ..PLAIN },
    Way { threads: Threads::Beside, emulate_openat2: true, ..PLAIN },
];

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says on standard error what a test leaves out, and why.
pub fn left_out(what: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}");
}

/// Directories `root` (empty), `scratch` and `victim` (which must stay as it is).
pub struct Bench {
    pub dir: tempfile::TempDir,
    victim: String,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "scratch", "victim", "victim/sub"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("victim/passwd"), "root:x:0:0").unwrap();
        fs::write(dir.path().join("victim/sub/file"), "untouched").unwrap();
        std::os::unix::fs::symlink("passwd", dir.path().join("victim/link")).unwrap();
        let mut bench = Bench { dir, victim: String::new() };
        bench.victim = bench.outside();
        bench
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// What there is beside the root: everything that must not change.
    fn outside(&self) -> String {
        let top: Vec<_> = names(self.dir.path());
        format!("{top:?}\n{}", show(&self.dir.path().join("victim")))
    }

    /// Unpacks layers, lowest first, and checks that nothing outside the root changed.
    pub fn unpack(&self, way: Way, layers: &[Vec<u8>]) -> Result<Summary, Error> {
        let outcome = self.unpack_each(way, layers);
        assert_eq!(self.outside(), self.victim, "something outside the root changed");
        if outcome.is_ok() {
            assert_eq!(names(&self.dir.path().join("scratch")), [""; 0], "scratch is empty at the end");
        }
        outcome
    }

    fn unpack_each(&self, way: Way, layers: &[Vec<u8>]) -> Result<Summary, Error> {
        let (mut root, mut warnings) = (self.open(way), Vec::new());
        for layer in layers {
            let stats = unpack_one(&mut root, way, layer.clone(), &promise(layer, layer))?;
            merge(&mut warnings, stats.warnings);
        }
        let summary = root.finish()?;
        merge(&mut warnings, summary.warnings);
        Ok(Summary { warnings, ..summary })
    }

    pub fn open(&self, way: Way) -> Rootfs {
        let open = |name| File::open(self.dir.path().join(name)).unwrap().into();
        let options = Options { rootless: way.rootless, emulate_openat2: way.emulate_openat2 };
        Rootfs::open(open("root"), open("scratch"), options).unwrap()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// Names in a directory of the root.
    pub fn names(&self, path: &str) -> Vec<String> {
        names(&self.root().join(path))
    }

    pub fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub struct Silent;
impl Observer for Silent {}

/// What a descriptor and a config say about `wire` with `tar` in it.
pub fn promise(wire: &[u8], tar: &[u8]) -> Layer<'static> {
    Layer {
        compression: Compression::None,
        wire_digest: Sha256::digest(wire).into(),
        wire_size: wire.len() as u64,
        diff_id: Sha256::digest(tar).into(),
        name: "layer 1/1",
    }
}

/// Fetches a layer, and applies it.
pub fn unpack_one(root: &mut Rootfs, way: Way, wire: Vec<u8>, layer: &Layer<'_>) -> Result<Stats, Error> {
    unpack_from(root, way, Box::new(Cursor::new(wire)), layer)
}

/// The same from any source.
pub fn unpack_from(
    root: &mut Rootfs,
    way: Way,
    source: Box<dyn Read + Send>,
    layer: &Layer<'_>,
) -> Result<Stats, Error> {
    let home = tempfile::tempdir().unwrap();
    let directory = || File::open(home.path()).unwrap().into();
    let options = Fetching { threads: way.threads, rootless: way.rootless, ..Fetching::default() };
    let mut source = Some(source);
    let stats = fetch(layer, directory(), &options, &mut |_| Ok(source.take().unwrap()), &Silent)?;
    let kept = Kept::open(directory()).unwrap().expect("what was fetched is whole");
    let there = kept.stats();
    assert_eq!((there.entries, there.tar_bytes), (stats.entries, stats.tar_bytes));
    kept.apply(root).map_err(|error| error.context(layer.name))?;
    Ok(stats)
}

/// What a compressor of this machine makes of `bytes`.
pub fn compress(program: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        left_out(&format!("{program} is not installed"));
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

/// Asserts that unpacking fails as a bad image with these words in the message.
#[track_caller]
pub fn refused(outcome: Result<Summary, Error>, words: &str) {
    let error = outcome.expect_err("this should be refused");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(error.kind(), Kind::BadImage, "{error}");
}

/// Builds a layer member by member; names go in as they are, however hostile.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

pub fn tar() -> Tar {
    Tar::default()
}

impl Tar {
    pub fn member(
        mut self,
        kind: u8,
        path: &str,
        link: &str,
        mode: u32,
        data: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Tar {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        old.linkflag = [kind];
        header.set_mode(mode);
        header.set_uid(nix::unistd::geteuid().as_raw().into());
        header.set_gid(nix::unistd::getegid().as_raw().into());
        header.set_mtime(MTIME as u64);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Tar {
        self.member(b'0', path, "", 0o644, data.as_bytes(), |_| {})
    }

    pub fn dir(self, path: &str) -> Tar {
        self.dir_mode(path, 0o755)
    }

    pub fn dir_mode(self, path: &str, mode: u32) -> Tar {
        self.member(b'5', path, "", mode, b"", |_| {})
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.member(b'2', path, target, 0o777, b"", |_| {})
    }

    pub fn hardlink(self, path: &str, target: &str) -> Tar {
        self.member(b'1', path, target, 0o644, b"", |_| {})
    }

    /// A PAX header for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
            body.extend_from_slice(format!("{} {key}=", rest + digits).as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.member(b'x', "pax", "", 0o644, &body, |_| {})
    }

    /// The layer, with its end marker.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// What a tree looks like, a line for each entry: type, mode, owner, size, mtime, link count and first
/// name, attributes, content.
pub fn show(root: &Path) -> String {
    let (mut lines, mut inodes) = (BTreeMap::new(), HashMap::new());
    describe(root, Path::new("."), &mut lines, &mut inodes);
    lines.into_values().collect::<Vec<_>>().join("\n")
}

fn describe(
    root: &Path,
    path: &Path,
    lines: &mut BTreeMap<PathBuf, String>,
    inodes: &mut HashMap<u64, PathBuf>,
) {
    let full = root.join(path);
    let stat = fs::symlink_metadata(&full).unwrap();
    let kind = stat.file_type();
    let content = match kind {
        kind if kind.is_file() => {
            let digest = fs::read(&full).map(|bytes| hash(&bytes));
            format!("size {} {digest:?}", stat.size())
        }
        kind if kind.is_symlink() => format!("-> {:?}", fs::read_link(&full).unwrap()),
        kind if kind.is_dir() => "dir".into(),
        kind if kind.is_fifo() => "fifo".into(),
        kind if kind.is_char_device() => format!("char {:#x}", stat.rdev()),
        kind if kind.is_block_device() => format!("block {:#x}", stat.rdev()),
        _ => "socket".into(),
    };
    let names = match stat.nlink() {
        n @ 2.. if !kind.is_dir() => {
            let first = inodes.entry(stat.ino()).or_insert_with(|| path.to_path_buf());
            format!(" {n} names, first {}", first.display())
        }
        _ => String::new(),
    };
    let (mode, uid, gid) = (stat.mode() & 0o7777, stat.uid(), stat.gid());
    let mtime = format!("{}.{:09}", stat.mtime(), stat.mtime_nsec());
    let xattrs = xattrs(&full);
    let line = format!("{} {mode:04o} {uid}:{gid} {mtime} {content}{names} {xattrs:?}", path.display());
    lines.insert(path.to_path_buf(), line);
    if kind.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.iter().for_each(|name| describe(root, &path.join(name), lines, inodes));
    }
}

/// Fast also in a debug build, which sha256 is not.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Extended attributes of `path` itself.
pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = c_path(path);
    let mut list = vec![0u8; 65536];
    // SAFETY: the buffer is as long as it says, the path ends with NUL.
    let length = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    let names = list[..length.max(0) as usize].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let (text, mut value) =
                (OsStr::from_bytes(name).to_string_lossy().into_owned(), vec![0u8; 65536]);
            let name = CString::new(name).unwrap();
            // SAFETY: as above.
            let length = unsafe {
                libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
            };
            value.truncate(length.max(0) as usize);
            (text, value)
        })
        .collect()
}

/// Sets an extended attribute of `path` itself; whether that was possible.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: strings end with NUL, the value is as long as it says.
    0 == unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }
}
