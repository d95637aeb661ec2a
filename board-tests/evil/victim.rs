//! The judge. A hostile image is pulled beside a victim, and whatever becomes of the pull: the victim is as it was, to
//! the last byte and change time; the exit code is the documented one; the memory is bounded; nothing from the image
//! reaches the terminal; nothing is left behind; and an honest image can be pulled to the same place afterwards.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Output;

use super::builder::{EvilImage, tar};
use crate::harness::*;

/// The most memory that any of these may take, in KiB.
pub const MEMORY_MAX: u64 = 8 << 10;
/// When a run is taken for hung: no judgement on speed.
const SECONDS_MAX: u32 = 300;
/// `nobody`.
const USER: u32 = 65534;

/// Who pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Root,
    /// An ordinary user, to whom the victim belongs.
    User,
}

/// What has to become of an image.
#[derive(Debug, Clone)]
pub enum Expect {
    /// Confined it is harmless: exit code 0, and these paths in the tree are so. `None`: not there.
    Kept(Vec<(&'static str, Option<&'static str>)>),
    /// Refused with this exit code, saying this.
    Refused(i32, &'static str),
}

/// A place with a victim, a root beside it, and the board that pulls there.
pub struct Ground {
    pub scratch: Scratch,
    /// Away from the root, reached by absolute paths only.
    away: Scratch,
    board: Board,
    by: By,
    before: BTreeMap<PathBuf, String>,
}

impl Ground {
    pub fn new(by: By) -> Ground {
        let (scratch, away) = (Scratch::in_memory(), Scratch::new());
        let board = match by {
            By::Root => Board::armv7(),
            By::User => Board::armv7().run_by_nobody(&scratch),
        };
        let home = scratch.path("home");
        fs::create_dir_all(&home).expect("a folder");
        for folder in [home.join("victim"), away.path("victim")] {
            make_victim(&folder, by);
        }
        if by == By::User {
            fs::set_permissions(away.path(""), PermissionsExt::from_mode(0o755)).expect("a mode");
        }
        let state = Scratch::in_memory();
        fs::set_permissions(state.path(""), PermissionsExt::from_mode(0o777)).expect("a mode");
        let board = board.with_state_in(state).killed_after(SECONDS_MAX);
        let mut ground = Ground { scratch, away, board, by, before: BTreeMap::new() };
        ground.before = ground.outside();
        ground
    }

    /// Where names are looked up in this text alone, which has the form of /etc/hosts.
    pub fn knowing(self, hosts: &str) -> Ground {
        let hosts = self.scratch.write("hosts", hosts);
        Ground { board: self.board.with_hosts_file(&hosts), ..self }
    }

    /// With this environment variable.
    pub fn with_env(self, name: &str, value: &str) -> Ground {
        Ground { board: self.board.with_env(name, value), ..self }
    }

    /// Where images are pulled to.
    pub fn root(&self) -> PathBuf {
        self.scratch.path("home/root")
    }

    /// The victim beside the root, as an absolute path.
    pub fn victim(&self) -> String {
        self.scratch.at("home/victim")
    }

    /// The other one.
    pub fn away(&self) -> String {
        self.away.at("victim")
    }

    /// Everything that must not change, however small.
    fn outside(&self) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        describe(&self.scratch.path("home/victim"), &mut seen);
        describe(&self.away.path(""), &mut seen);
        seen
    }

    /// Runs edgepull with these words, and holds everything but its exit code against what it should be.
    #[track_caller]
    pub fn edgepull(&self, what: &str, words: &[&str]) -> Output {
        let verbosely = ["-v"].into_iter().chain(words.iter().copied());
        let output = self.board.command(verbosely).output().expect("edgepull runs");
        let (said, told) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        let story = || format!("{what}, {:?}, {words:?}: {}\n{said}", self.by, output.status);
        let after = self.outside();
        let changed: Vec<_> =
            after.iter().filter(|(path, seen)| self.before.get(*path) != Some(seen)).collect();
        assert!(after == self.before, "THE VICTIM CHANGED: {changed:#?}\n{}", story());
        let resident =
            said.rsplit_once("peak memory (VmHWM): ").and_then(|(_, rest)| rest.split_once(" KiB"));
        let resident =
            resident.and_then(|(kib, _)| kib.parse::<u64>().ok()).unwrap_or_else(|| panic!("{}", story()));
        assert!(resident <= MEMORY_MAX, "{resident} KiB of memory: {}", story());
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!said.contains(control) && !told.contains(control), "control characters: {}", story());
        assert!(!said.contains("panicked"), "{}", story());
        output
    }

    /// The names directly beside the root, hidden ones too.
    pub fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.path("home")).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Pulls `image` (a name), judges, and pulls an honest one to the same place.
    #[track_caller]
    pub fn pull(&self, what: &str, image: &str, expect: &Expect) {
        let root = self.scratch.at("home/root");
        let output = self.edgepull(what, &["pull", image, &root]);
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        match expect {
            Expect::Kept(paths) => {
                assert_eq!(code, Some(0), "{what}, {:?}: {said}", self.by);
                for (path, content) in paths {
                    let seen = content_of(&self.root(), path);
                    assert_eq!(seen.as_deref(), *content, "{what}, {:?}: {path}", self.by);
                }
                assert_eq!(self.beside(), ["root", "victim"], "{what}: left behind");
            }
            Expect::Refused(wanted, words) => {
                assert_eq!(code, Some(*wanted), "{what}, {:?}: {said}", self.by);
                assert!(said.contains(words), "{what}, {:?}: does not say {words:?}: {said}", self.by);
                // What came right of an image whose bytes were damaged, or missing, is kept for the next pull.
                let keeps = matches!(*wanted, exit::VERIFICATION | exit::NOT_FOUND);
                let mut beside = self.beside();
                beside.retain(|name| !keeps || name != ".root.edgepull");
                assert_eq!(beside, ["victim"], "{what}: left behind: {said}");
            }
        }
        self.honest(what);
    }

    /// An honest image goes to where the hostile one went.
    #[track_caller]
    pub fn honest(&self, what: &str) {
        let image = self.honest_image();
        let root = self.scratch.at("home/root");
        let output = self.edgepull(what, &["pull", "--replace", &image, &root]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "an honest pull after {what}: {said}");
        assert_eq!(content_of(&self.root(), "etc/hostname").as_deref(), Some("board"), "after {what}");
        assert_eq!(self.beside(), ["root", "victim"], "after {what}");
        self.clear();
    }

    /// The root goes, whatever is in it: deeper than `remove_dir_all` has descriptors for.
    pub fn clear(&self) {
        let hidden = self.scratch.path("home/.root.edgepull");
        run("rm", [OsStr::new("-rf"), self.root().as_os_str(), hidden.as_os_str()]);
    }

    fn honest_image(&self) -> String {
        let folder = "honest";
        if !self.scratch.path(folder).exists() {
            EvilImage::new([tar().dir("etc").file("etc/hostname", "board")]).layout(&self.scratch, folder);
        }
        format!("oci:{}", self.scratch.at(folder))
    }

    /// Deploys `image` and an honest one after it, and has the store verified after each.
    #[track_caller]
    pub fn deploy(&self, what: &str, image: &str, expect: &Expect) {
        // A state directory of its own: a layer that is kept already would not be read at all.
        let state = self.scratch.at("state");
        let output = self.edgepull(what, &["--state-dir", &state, "deploy", "app", image]);
        let said = String::from_utf8_lossy(&output.stderr);
        let wanted = match expect {
            Expect::Kept(_) => 0,
            Expect::Refused(code, _) => *code,
        };
        assert_eq!(output.status.code(), Some(wanted), "deploy {what}: {said}");
        for words in [&["deploy", "app", &self.honest_image()][..], &["verify"], &["gc"]] {
            let output = self.edgepull(what, &[&["--state-dir", &state], words].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{words:?} after {what}: {said}");
        }
        run("rm", ["-rf", &state]);
    }

    /// Runs the commands that read a deployment.
    #[track_caller]
    pub fn look_at_deployments(&self, what: &str) {
        for words in [&["status"][..], &["verify"]] {
            let output = self.edgepull(what, words);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{words:?} after {what}: {said}");
        }
    }
}

/// Every sort of file, each a prize of its own.
fn make_victim(folder: &Path, by: By) {
    fs::create_dir_all(folder.join("sub/deep")).expect("a folder");
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(folder.join(name), text).expect("a file");
        fs::set_permissions(folder.join(name), PermissionsExt::from_mode(mode)).expect("a mode");
    };
    write("passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    write("shadow", "root:*:", 0o600);
    write("sub/file", "untouched", 0o640);
    write("sub/deep/file", "untouched", 0o444);
    write("program", "#!/bin/sh\n", 0o4755);
    fs::hard_link(folder.join("passwd"), folder.join("sub/second-name")).expect("a link");
    symlink("passwd", folder.join("link")).expect("a link");
    symlink(folder, folder.join("sub/absolute")).expect("a link");
    let path = c_string(&folder.join("sub/fifo"));
    // SAFETY: the path ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o622) }, 0);
    fs::create_dir(folder.join("sticky")).expect("a folder");
    fs::set_permissions(folder.join("sticky"), PermissionsExt::from_mode(0o1777)).expect("a mode");
    run("setfattr", ["-n", "user.note", "-v", "mine", &folder.join("passwd").to_string_lossy()]);
    run("touch", ["-d", "@1234567890.5", &folder.join("sub").to_string_lossy()]);
    if by == By::User {
        run("chown", ["-hR", &format!("{USER}:{USER}"), &folder.to_string_lossy()]);
        // That takes the bit away.
        fs::set_permissions(folder.join("program"), PermissionsExt::from_mode(0o4755)).expect("a mode");
    }
}

/// Everything that is known of a tree, but for access times.
fn describe(path: &Path, into: &mut BTreeMap<PathBuf, String>) {
    let stat = fs::symlink_metadata(path).expect("what was there");
    let kind = stat.file_type();
    let content = match kind {
        kind if kind.is_file() => digest_of(&fs::read(path).expect("a file")),
        kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).expect("a link")),
        kind if kind.is_fifo() => "fifo".into(),
        _ => "other".into(),
    };
    let text = format!(
        "mode {:o} owner {}:{} size {} links {} inode {} device {} mtime {}.{:09} ctime {}.{:09} {:?} {content}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.size(),
        stat.nlink(),
        stat.ino(),
        stat.rdev(),
        stat.mtime(),
        stat.mtime_nsec(),
        stat.ctime(),
        stat.ctime_nsec(),
        xattrs(path),
    );
    into.insert(path.to_owned(), text);
    if kind.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            describe(&entry.expect("an entry").path(), into);
        }
    }
}

/// Extended attributes of `path` itself: names and values as one text.
fn xattrs(path: &Path) -> String {
    let path = c_string(path);
    let mut names = vec![0u8; 4096];
    // SAFETY: the buffer is as long as it says, the path ends with NUL.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(length.max(0) as usize);
    let mut text = String::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let (name, mut value) = (CString::new(name).expect("a name"), vec![0u8; 4096]);
        // SAFETY: as above.
        let length =
            unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(length.max(0) as usize);
        text += &format!("{name:?}={} ", value.escape_ascii());
    }
    text
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path")
}

/// What is at `path` of the root, seen without following a link out of it: a file's text, `-> TARGET`, or its kind.
fn content_of(root: &Path, path: &str) -> Option<String> {
    let full = root.join(path);
    let stat = fs::symlink_metadata(&full).ok()?;
    let kind = stat.file_type();
    Some(match kind {
        kind if kind.is_symlink() => format!("-> {}", fs::read_link(&full).expect("a link").display()),
        kind if kind.is_dir() => "directory".into(),
        kind if kind.is_fifo() => "fifo".into(),
        kind if kind.is_char_device() => "character device".into(),
        kind if kind.is_block_device() => "block device".into(),
        _ if stat.size() > 512 => format!("{} bytes", stat.size()),
        _ => match fs::read(&full) {
            Ok(bytes) => bytes.escape_ascii().to_string(),
            Err(error) => error.to_string(),
        },
    })
}

/// A family of hostile images, and what has become of them.
pub struct Family {
    name: &'static str,
    grounds: Vec<Ground>,
    images: usize,
    verdicts: usize,
    failed: Vec<String>,
    deployed: bool,
}

impl Family {
    /// Pulled by each of these.
    pub fn pulled_by(name: &'static str, who: &[By]) -> Family {
        let grounds = who.iter().map(|by| Ground::new(*by)).collect();
        Family { name, grounds, images: 0, verdicts: 0, failed: Vec::new(), deployed: false }
    }

    /// And deployed by root.
    pub fn and_deployed(mut self) -> Family {
        self.deployed = true;
        self
    }

    /// Judges one image everywhere. What fails is told, and the others are judged all the same.
    fn case(&mut self, what: &str, image: &dyn Fn(&Ground) -> String, expect: &Expect) {
        self.images += 1;
        for ground in &self.grounds {
            let judged = catch_unwind(AssertUnwindSafe(|| {
                let name = image(ground);
                ground.pull(what, &name, expect);
                if self.deployed && ground.by == By::Root {
                    ground.deploy(what, &name, expect);
                }
            }));
            self.verdicts += 1 + usize::from(self.deployed && ground.by == By::Root);
            if judged.is_err() {
                self.failed.push(format!("{what}, {:?}", ground.by));
                ground.clear();
            }
            run("rm", ["-rf", &ground.scratch.at("image"), &ground.scratch.at("state")]);
        }
    }

    /// These layers are harmless when confined; `paths` are then so.
    pub fn keeps(
        &mut self,
        what: &str,
        layers: impl IntoIterator<Item = impl Into<super::builder::Wire>>,
        paths: &[(&'static str, &'static str)],
    ) {
        let paths =
            paths.iter().map(|(path, text)| (*path, Some(*text).filter(|text| *text != ABSENT))).collect();
        let image = EvilImage::new(layers);
        self.case(what, &|ground| image.layout(&ground.scratch, "image"), &Expect::Kept(paths));
    }

    /// These layers are refused as a bad image.
    pub fn refuses(
        &mut self,
        what: &str,
        layers: impl IntoIterator<Item = impl Into<super::builder::Wire>>,
        words: &'static str,
    ) {
        let image = EvilImage::new(layers);
        let expect = Expect::Refused(exit::BAD_IMAGE, words);
        self.case(what, &|ground| image.layout(&ground.scratch, "image"), &expect);
    }

    /// An image that `write` puts into the folder `image` of the scratch; `write` gives its name.
    pub fn image(&mut self, what: &str, expect: Expect, write: impl Fn(&Scratch) -> String) {
        self.case(what, &|ground| write(&ground.scratch), &expect);
    }

    /// Layers that name the victims of the ground that they are for.
    pub fn aimed(
        &mut self,
        what: &str,
        expect: Expect,
        layers: impl Fn(&str, &str) -> Vec<super::builder::Tar>,
    ) {
        let image = |ground: &Ground| {
            EvilImage::new(layers(&ground.victim(), &ground.away())).layout(&ground.scratch, "image")
        };
        self.case(what, &image, &expect);
    }

    /// Says how many there were.
    pub fn end(self) {
        assert!(self.images > 0 && self.failed.is_empty(), "{}: wrong: {:#?}", self.name, self.failed);
        eprintln!("evil: {}: {} hostile images, {} verdicts", self.name, self.images, self.verdicts);
    }
}

/// In [`Family::keeps`]: there is nothing at that path.
pub const ABSENT: &str = "\0absent";
