//! Scratch folders and the command-line tools that the tests compare edgepull with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A folder of the test's own, removed at its end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::Builder::new().prefix("edgepull-").tempdir().expect("a scratch folder"))
    }

    /// One that is in memory, where there is room for 2 GiB: nothing that is written there waits for a disk.
    pub fn in_memory() -> Scratch {
        let df = Command::new("df")
            .args(["--output=avail", "-B1", "/dev/shm"])
            .output()
            .expect("df, of coreutils");
        let room =
            String::from_utf8_lossy(&df.stdout).lines().nth(1).and_then(|room| room.trim().parse().ok());
        if room.is_none_or(|room: u64| room < 2 << 30) {
            return Scratch::new();
        }
        Scratch(
            tempfile::Builder::new().prefix("edgepull-").tempdir_in("/dev/shm").expect("a folder in memory"),
        )
    }

    /// A path below the folder; nothing is created.
    pub fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// The same as text, for command lines.
    pub fn at(&self, below: &str) -> String {
        self.path(below).into_os_string().into_string().expect("a readable path")
    }

    /// Writes a file there and gives its path.
    pub fn write(&self, below: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, content).expect("a file in the scratch folder");
        self.at(below)
    }

    /// What stands directly below the folder, sorted: to see that nothing is left behind.
    pub fn names(&self) -> Vec<String> {
        names_in(self.0.path())
    }
}

/// The names in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder to list");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("a readable name")).collect();
    names.sort();
    names
}

/// Copies a disk's image to a new file: whoever has the old one open, a kernel that has it mounted for example, keeps that.
pub fn copy_disk(from: &str, to: &str) {
    run("cp", ["--remove-destination", "--sparse=always", from, to]);
}

/// An image of an ext4 file system that this machine has mounted.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts it as it is after a cut: its journal is replayed and removals that had begun are ended, which the
    /// kernel would do, too; and then it has to be sound.
    pub fn new(image: &str, at: &str) -> Mounted {
        let preened =
            Command::new("e2fsck").args(["-f", "-p", image]).output().expect("e2fsck, of e2fsprogs");
        assert!(matches!(preened.status.code(), Some(0 | 1)), "{preened:?}");
        run("e2fsck", ["-f", "-n", image]);
        std::fs::create_dir_all(at).expect("a folder");
        run("mount", ["-o", "loop", image, at]);
        Mounted(at.into())
    }

    /// A path on it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).output();
        // When a test fails, that is not to hide why.
        if !std::thread::panicking() {
            let unmounted = unmounted.expect("umount, of mount");
            assert!(unmounted.status.success(), "{unmounted:?}");
        }
    }
}

/// Runs a tool that has to succeed; gives its standard output.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new(program);
    let out = match command.args(args).output() {
        Ok(out) => out,
        Err(e) => panic!("{program}: {e}; board-tests/run installs what the tests need"),
    };
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{errors}", out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// `skopeo --insecure-policy ARGS`.
pub fn skopeo<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    run("skopeo", std::iter::once("--insecure-policy").chain(args))
}

/// Unpacks `layout:tag` with umoci and gives the root file system's folder.
pub fn umoci_unpack(layout: &str, tag: &str, scratch: &Scratch) -> PathBuf {
    let bundle = scratch.at(&format!("umoci-{tag}"));
    run("umoci", ["unpack", "--image", &format!("{layout}:{tag}"), &bundle]);
    Path::new(&bundle).join("rootfs")
}

/// A Docker `config.json` that holds one entry of `auths`.
pub fn docker_config(registry: &str, entry: Value) -> String {
    json!({ "auths": { registry: entry } }).to_string()
}

/// Base64 with padding (RFC 4648, section 4).
pub fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in data.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            text.push(if place <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    text
}

/// A file system of so many KiB in memory, unmounted at the end of the test.
pub struct SmallDisk<'a>(&'a str);

impl SmallDisk<'_> {
    pub fn mount(at: &str, kib: u32) -> SmallDisk<'_> {
        std::fs::create_dir_all(at).expect("a folder");
        run("mount", ["-t", "tmpfs", "-o", &format!("size={kib}k"), "small-disk", at]);
        SmallDisk(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", self.0]).status();
    }
}
