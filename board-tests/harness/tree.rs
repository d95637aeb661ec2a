//! What a file system tree consists of, entry by entry, in a form in which two can be compared.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::tools::run;

/// Every entry of a tree by its path: type, content, mode, owner, times, links, xattrs, device numbers.
#[derive(PartialEq, Eq)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads the tree below `root`; the root itself is no part of it, as layers seldom describe it.
    pub fn of(root: impl AsRef<Path>) -> Tree {
        let root = root.as_ref();
        let mut entries = BTreeMap::new();
        let mut first_names = HashMap::new();
        walk(root, "", &mut entries, &mut first_names);
        for (path, xattrs) in xattrs_below(root) {
            if let Some(entry) = entries.get_mut(&path) {
                entry.push_str(&xattrs);
            }
        }
        Tree(entries)
    }

    /// The tree without some entries.
    pub fn without(mut self, paths: &[&str]) -> Tree {
        self.0.retain(|path, _| !paths.contains(&path.as_str()));
        self
    }

    /// The tree without owners and notes about them, for users who may not give files away.
    pub fn without_owners(mut self) -> Tree {
        let about_owners =
            |part: &&str| part.starts_with("owner=") || part.starts_with("user.rootlesscontainers=");
        for entry in self.0.values_mut() {
            *entry = entry.split(' ').filter(|part| !about_owners(part)).collect::<Vec<_>>().join(" ");
        }
        self
    }

    /// The tree without the times of folders, which tools that write into them change, and of links, which not all set.
    pub fn without_times_of_folders_and_links(mut self) -> Tree {
        let timeless = |entry: &&mut String| entry.starts_with("dir ") || entry.starts_with("link ");
        for entry in self.0.values_mut().filter(timeless) {
            *entry =
                entry.split(' ').filter(|part| !part.starts_with("mtime=")).collect::<Vec<_>>().join(" ");
        }
        self
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What is known of one entry.
    #[track_caller]
    pub fn entry(&self, path: &str) -> &str {
        self.0.get(path).unwrap_or_else(|| panic!("no {path} among {:?}", self.0.keys()))
    }

    /// Whether there is an entry of this path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Fails, listing the first differences, unless `other` is the same.
    #[track_caller]
    pub fn equals(&self, other: &Tree) {
        let mut differences = Vec::new();
        for path in self.0.keys().chain(other.0.keys().filter(|p| !self.0.contains_key(*p))) {
            let (here, there) = (self.0.get(path), other.0.get(path));
            if here != there {
                differences.push(format!("{path}\n  here:  {here:?}\n  there: {there:?}"));
            }
        }
        let shown = &differences[..differences.len().min(20)];
        assert!(differences.is_empty(), "{} entries differ:\n{}", differences.len(), shown.join("\n"));
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(path, entry)| write!(f, "\n        {path:?}: {entry}"))
    }
}

fn walk(
    folder: &Path,
    prefix: &str,
    entries: &mut BTreeMap<String, String>,
    first: &mut HashMap<u64, String>,
) {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder of the tree")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let shown = format!("{prefix}{}", name.to_string_lossy());
        let meta = fs::symlink_metadata(&path).expect("an entry's metadata");
        let mut text = format!(
            "{} mode={:04o} owner={}:{} mtime={}.{:09}",
            kind_of(&path, &meta),
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if !meta.is_dir() && meta.nlink() > 1 {
            // Names outside the tree, such as those in the store of layers, are none of its business.
            match first.entry(meta.ino()) {
                Entry::Vacant(place) => drop(place.insert(shown.clone())),
                Entry::Occupied(other) => text.push_str(&format!(" same-as={}", other.get())),
            }
        }
        entries.insert(shown.clone(), text);
        if meta.is_dir() {
            walk(&path, &format!("{shown}/"), entries, first);
        }
    }
}

fn kind_of(path: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_symlink() {
        return format!("link to={:?}", fs::read_link(path).expect("a link's target"));
    }
    if kind.is_file() {
        return format!("file size={} sha256={}", meta.size(), hash_of(path));
    }
    if kind.is_char_device() {
        return format!("char rdev={:x}", meta.rdev());
    }
    if kind.is_block_device() {
        return format!("block rdev={:x}", meta.rdev());
    }
    (if kind.is_dir() {
        "dir"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        "socket"
    })
    .to_owned()
}

fn hash_of(path: &Path) -> String {
    let mut file = fs::File::open(path).expect("a readable file");
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        let n = file.read(&mut buffer).expect("a file's bytes");
        if n == 0 {
            return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        hash.update(&buffer[..n]);
    }
}

/// The extended attributes by path, from one run of getfattr over the whole tree.
fn xattrs_below(root: &Path) -> Vec<(String, String)> {
    let root = root.to_str().expect("a readable path");
    let listed = run("getfattr", ["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", root]);
    let mut found = Vec::new();
    for block in listed.split("\n\n") {
        let mut lines = block.lines();
        let Some(path) = lines.next().and_then(|line| line.strip_prefix("# file: ")) else { continue };
        let Some(path) = path.strip_prefix(root).and_then(|below| below.strip_prefix('/')) else { continue };
        let mut xattrs: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        xattrs.sort_unstable();
        found.push((path.to_owned(), xattrs.iter().map(|xattr| format!(" {xattr}")).collect()));
    }
    found
}
