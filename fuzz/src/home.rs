//! A directory to unpack in, with one beside it that nobody may touch.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Directories on a file system in memory (`fuzz/run` names one by `TMPDIR`), new with every use, and a victim beside them.
pub struct Home {
    dir: tempfile::TempDir,
    victim: String,
}

impl Default for Home {
    fn default() -> Home {
        Home::new()
    }
}

impl Home {
    /// Nothing but the victim.
    pub fn new() -> Home {
        let dir = tempfile::tempdir().expect("TMPDIR can be written to");
        let victim = dir.path().join("victim");
        fs::create_dir_all(victim.join("sub")).expect("a directory");
        fs::write(victim.join("a"), "root:x:0:0").expect("a file");
        fs::write(victim.join("sub/b"), "untouched").expect("a file");
        symlink("a", victim.join("link")).expect("a link");
        let mut home = Home { dir, victim: String::new() };
        home.victim = show(&home.path("victim"));
        home
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only its owner may change, whatever the umask is by now: edgepull itself sets it to 0, and
    /// does not believe what others may have written.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::write(&path, bytes).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner may");
    }

    /// An empty directory, whatever was there before.
    pub fn fresh(&self, name: &str) -> OwnedFd {
        let path = self.path(name);
        if path.exists() {
            remove(&path);
        }
        fs::create_dir(&path).expect("a directory");
        // Whatever the umask is by now.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its owner may");
        File::open(&path).expect("a directory").into()
    }

    /// A directory that is there.
    pub fn open(&self, name: &str) -> OwnedFd {
        File::open(self.path(name)).expect("a directory").into()
    }

    /// What there is must be what there was, and in the home itself nothing but these.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn assert_untouched(&self, names: &[&str]) {
        assert_eq!(show(&self.path("victim")), self.victim, "something outside of the root changed");
        for entry in fs::read_dir(self.dir.path()).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            assert!(name == "victim" || names.iter().any(|known| name == **known), "{name:?} is new");
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // TempDir's own way gives up at a directory that nobody may enter.
        remove(self.dir.path());
    }
}

/// Removes a tree, whatever its modes are.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir_all(path);
}

/// What a tree is: for each entry type, mode, owner, size, time, number of names and content.
pub fn show(root: &Path) -> String {
    let mut out = String::new();
    describe(root, OsStr::new("."), &mut out, 0);
    out
}

/// The same, but all that was made lately has one time: no member says which.
pub fn show_without_new_times(root: &Path) -> String {
    let tree = show(root);
    let lines = tree.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let time = word.split_once('.').and_then(|(seconds, _)| seconds.parse::<i64>().ok());
            if time.is_some_and(|time| time > 1_700_000_000) { "new" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Deeper than any tree that is built here.
const DEPTH_MAX: usize = 64;

fn describe(path: &Path, name: &OsStr, out: &mut String, depth: usize) {
    let stat = fs::symlink_metadata(path).expect("it was just listed");
    let kind = stat.file_type();
    let content = match kind {
        kind if kind.is_symlink() => format!("-> {:?}", fs::read_link(path).expect("a link")),
        kind if kind.is_file() && stat.size() > 1 << 20 => "large".into(),
        kind if kind.is_file() => {
            let bytes = fs::read(path).map(|bytes| bytes.escape_ascii().to_string());
            bytes.unwrap_or_else(|error| error.to_string())
        }
        kind if kind.is_dir() => "directory".into(),
        kind if kind.is_fifo() => "fifo".into(),
        _ => format!("device {:#x}", stat.rdev()),
    };
    let names = if kind.is_dir() { 0 } else { stat.nlink() };
    let _ = writeln!(
        out,
        "{depth} {} {:o} {}:{} {} {}.{} {names} {content}",
        name.as_bytes().escape_ascii(),
        stat.mode(),
        stat.uid(),
        stat.gid(),
        if kind.is_dir() { 0 } else { stat.size() },
        stat.mtime(),
        stat.mtime_nsec(),
    );
    if kind.is_dir() && depth < DEPTH_MAX {
        let Ok(entries) = fs::read_dir(path) else { return };
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names.iter().for_each(|name| describe(&path.join(name), name, out, depth + 1));
    }
}
