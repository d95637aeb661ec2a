//! Tar as its readers read it: the same archives by edgepull and by GNU tar, bsdtar, Python's tarfile and Go's archive/tar
//! (in umoci), one row for each way to write a header. Where the four agree, edgepull's tree is theirs. Where they don't,
//! the row names those that edgepull reads like, and says why: Go first, through which every image of a registry has been.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::evil::builder::{Head, Tar, record, tar};
use crate::harness::*;

/// A program that reads tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Gnu,
    Bsd,
    Python,
    Go,
}
use Reader::*;

const ALL: &[Reader] = &[Gnu, Bsd, Python, Go];
/// None of the four reads it like edgepull.
const ALONE: &[Reader] = &[];

/// Unpacks the archive of `$1` into the folder `$2`. Python is told to call everything that goes wrong an error.
const TARFILE: &str = "
import sys, tarfile
with tarfile.open(sys.argv[1], 'r:', errorlevel=2) as archive:
    new = hasattr(tarfile, 'fully_trusted_filter')
    archive.extractall(sys.argv[2], numeric_owner=True, **({'filter': 'fully_trusted'} if new else {}))
";

/// A tree, or `None` where the archive was refused.
type Seen = Option<Tree>;

/// A table's rows as they are tried.
struct Table {
    scratch: Scratch,
    rows: usize,
    wrong: Vec<String>,
}

impl Table {
    fn new() -> Table {
        Table { scratch: Scratch::new(), rows: 0, wrong: Vec::new() }
    }

    /// edgepull reads `archive` like `readers`. If these are not all, there is another one who does not.
    fn row(&mut self, what: &str, archive: Tar, readers: &[Reader]) {
        self.bytes(what, &[archive.end()], readers);
    }

    /// Adds a row in which one archive is unpacked over the other.
    fn layers(&mut self, what: &str, archives: [Tar; 2], readers: &[Reader]) {
        self.bytes(what, &archives.map(Tar::end), readers);
    }

    fn bytes(&mut self, what: &str, archives: &[Vec<u8>], readers: &[Reader]) {
        self.rows += 1;
        let image = archives.iter().cloned().fold(Image::of("linux/arm/v7"), Image::raw_layer).uncompressed();
        let folder = format!("row-{}", self.rows);
        let layout = image.build().layout(&self.scratch, &format!("{folder}/image"));
        let root = self.scratch.at(&format!("{folder}/edgepull"));
        let outcome = Board::armv7().edgepull(["pull", &format!("oci:{layout}"), &root]);
        let ours = match outcome.code() {
            0 => Some(comparable(&root)),
            _ => {
                drop(outcome.fails_with(exit::BAD_IMAGE));
                None
            }
        };
        let theirs: Vec<(Reader, Seen)> =
            ALL.iter().map(|by| (*by, self.unpacked(*by, archives, &layout, &folder))).collect();
        let same: Vec<Reader> = theirs.iter().filter(|(_, seen)| *seen == ours).map(|(by, _)| *by).collect();
        let is_as_listed = readers.iter().all(|reader| same.contains(reader));
        let is_rightly_short = readers.len() == ALL.len() || same.len() < ALL.len();
        let is_rightly_alone = !readers.is_empty() || same.is_empty();
        if !(is_as_listed && is_rightly_short && is_rightly_alone) {
            let told = |by: String, seen: &Seen| format!("    {by}: {}", shown(seen));
            let mut story = vec![format!("{what}: as {same:?} read it, instead of {readers:?}")];
            story.push(told("edgepull".into(), &ours));
            story.extend(theirs.iter().map(|(by, seen)| told(format!("{by:?}"), seen)));
            self.wrong.push(story.join("\n"));
        }
    }

    /// Tells what `reader` makes of the archives.
    fn unpacked(&self, reader: Reader, archives: &[Vec<u8>], layout: &str, folder: &str) -> Seen {
        let folder = self.scratch.at(&format!("{folder}/{reader:?}"));
        let go = |program: &str, words: &[&str]| {
            // Folders that no member is about get the mode that edgepull gives them.
            let words = [&["-c", "umask 022 && exec \"$@\"", "sh", program], words].concat();
            let ended = Command::new("sh").args(words).output().expect("sh, of dash");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(!said.contains("not found"), "{said}; board-tests/run installs what the tests need");
            ended.status.success()
        };
        if reader == Go {
            let image = format!("{layout}:latest");
            return go("umoci", &["unpack", "--image", &image, &folder])
                .then(|| comparable(&format!("{folder}/rootfs")));
        }
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("a mode");
        let archive = format!("{folder}.tar");
        let unpacks = |bytes: &Vec<u8>| {
            fs::write(&archive, bytes).expect("a file");
            let options = ["-p", "--same-owner", "--numeric-owner", "-xf", &archive, "-C", &folder];
            match reader {
                Gnu => go("tar", &options),
                Bsd => go("bsdtar", &options),
                _ => go("python3", &["-c", TARFILE, &archive, &folder]),
            }
        };
        archives.iter().all(unpacks).then(|| comparable(&folder))
    }

    fn end(self) {
        assert!(
            self.wrong.is_empty(),
            "{} of {} rows:\n{}",
            self.wrong.len(),
            self.rows,
            self.wrong.join("\n")
        );
    }
}

/// The tree but for times that the readers don't set: of folders that no member is about, and of links, in Python.
fn comparable(root: &str) -> Tree {
    Tree::of(root).without_times_of_folders_and_links()
}

fn shown(seen: &Seen) -> String {
    seen.as_ref().map_or("refused".into(), |tree| tree.to_string())
}

/// A file's header, with the data that [`with`] gives it.
fn file(name: impl AsRef<[u8]>) -> Head {
    Head::new(b'0', name).size(4)
}

/// A file of that header, and one behind it that shows whether the reader found the next header.
fn with(head: Head) -> Tar {
    tar().add(head, "data").file("after", "after")
}

/// Magic and version as they stand in a header.
const V7: &[u8; 8] = b"\0\0\0\0\0\0\0\0";
const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

#[test]
fn magic_and_version() {
    let mut table = Table::new();
    let plain = |magic: &[u8; 8]| with(file("name").put(257, magic));
    let prefixed = |magic: &[u8; 8]| with(file("name").put(257, magic).put(345, b"prefix"));
    for version in [b"00", b" \0", b"\0\0", b"99", b"  ", b"0\0"] {
        let magic = [&b"ustar\0"[..], version].concat().try_into().expect("eight bytes");
        let what = format!("ustar, version \"{}\"", version.escape_ascii());
        table.row(&what, plain(&magic), ALL);
        table.row(&format!("{what}, a prefix"), prefixed(&magic), ALL);
    }
    table.row("GNU", plain(GNU), ALL);
    // The file is Go's; in GNU's format these bytes are times, so that GNU tar and bsdtar lose its folder.
    table.row("GNU, a prefix as Go before 1.8 wrote it", prefixed(GNU), &[Python, Go]);
    table.row("v7", plain(V7), ALL);
    // There is none; Python never asks for the magic.
    table.row("v7, a prefix", prefixed(V7), &[Gnu, Bsd, Go]);
    table.row("GNU, version 00", plain(b"ustar 00"), ALL);
    // Nobody's format: as v7.
    table.row("GNU, version 00, a prefix", prefixed(b"ustar 00"), &[Gnu, Go]);
    table.row("other letters", plain(b"USTAR\x0000"), ALL);
    table.row("other letters, a prefix", prefixed(b"USTAR\x0000"), &[Gnu, Bsd, Go]);
    table.end();
}

#[test]
fn prefixes() {
    let mut table = Table::new();
    let at = |magic: &[u8; 8], prefix: &[u8]| file("name").put(257, magic).put(345, prefix);
    let long = ["p".repeat(100), "q".repeat(54)].join("/");
    table.row("155 bytes, to the field's end", with(at(USTAR, long.as_bytes())), ALL);
    table.row("155 bytes, and a name of 100", with(file("n".repeat(100)).put(345, long.as_bytes())), ALL);
    table.row("one that ends with a slash", with(at(USTAR, b"p/")), ALL);
    table.row("bytes behind its NUL", with(at(USTAR, b"p\0qrst")), ALL);
    // GNU tar refuses it, and bsdtar makes a folder of type '0'.
    table.row("an empty name behind it", with(at(USTAR, b"p").put(0, b"\0\0\0\0")), &[Python, Go]);
    // Times of access and change, as `tar --incremental` writes them. Python takes them for a folder's name.
    let (early, late) = (b"14000000000\0", b"14000000001\0");
    let times = |head: Head, at: usize| head.put(at, early).put(at + 12, late);
    table.row("GNU with times", with(times(at(GNU, b""), 345)), &[Gnu, Bsd, Go]);
    let base256 = b"\x80\0\0\0\0\0\0\0\x60\0\0\0";
    table.row("GNU with a time in base-256", with(at(GNU, base256)), &[Gnu, Bsd, Go]);
    table.row("GNU with the later time alone", with(at(GNU, b"").put(357, late)), ALL);
    // Go before 1.8 wrote such names as PAX records: these bytes are something else.
    table.row("GNU, letters beyond ASCII", with(at(GNU, b"gr\xc3\xb6\xc3\x9fe")), &[Gnu, Bsd, Go]);
    let star = |head: Head| head.put(508, b"tar\0");
    table.row("star with times", with(star(times(at(USTAR, b"p"), 476))), ALL);
    // 131 bytes are star's own format; whoever does not know it adds the times to them.
    let (full, digits) = (["p".repeat(100), "q".repeat(30)].join("/"), b"14000000000 14000000001 ");
    let starred = star(at(USTAR, full.as_bytes()).put(476, digits));
    table.row("star with a prefix of 131 bytes", with(starred), &[Go]);
    table.end();
}

#[test]
fn names() {
    let mut table = Table::new();
    let then = |archive: Tar, name: &str| archive.raw(with(file(name)).unended());
    table.row("100 bytes", with(file("n".repeat(100))), ALL);
    table.row("bytes behind its NUL", with(file("name\0more")), ALL);
    table.row("a link's target of 100 bytes", tar().symlink("l", "t".repeat(100)).file("after", ""), ALL);
    table.row("a leading ./", with(file("./name")), ALL);
    table.row("slashes and dots within", with(file("a//./b")), ALL);
    table.row("not UTF-8", with(file(b"\xff\xfe\x80")), ALL);
    let signed = tar().verbatim(file(b"gr\xc3\xb6\xc3\x9fe").summed_signed(), "data");
    table.row("a checksum of signed bytes", signed, ALL);
    table.row("GNU's long name", with(file("l/".repeat(100) + "name")), ALL);
    let unended = tar().add(Head::new(b'L', "././@LongLink").size(120), "n".repeat(120));
    table.row("GNU's long name without a NUL", then(unended, "short"), ALL);
    let link = tar().gnu(b'K', "t/".repeat(100) + "t").symlink("l", "short");
    table.row("GNU's long link", link.file("after", ""), ALL);
    let both = tar().gnu(b'K', "t".repeat(150)).gnu(b'L', "n".repeat(150));
    table.row("both, the link first", both.symlink("short", "short").file("after", ""), ALL);
    // The nearer one counts; Python takes the first.
    let twice = tar().gnu(b'L', "first").gnu(b'L', "second");
    table.row("GNU's long name twice", then(twice, "short"), &[Gnu, Bsd, Go]);
    // No order is right: as Go reads images.
    let (gnu, path): (_, &[(&str, &[u8])]) = (tar().gnu(b'L', "gnu"), &[("path", b"pax")]);
    table.row("GNU's, then PAX'", then(gnu.pax(path), "short"), &[Bsd, Python, Go]);
    table.row("PAX', then GNU's", then(tar().pax(path).gnu(b'L', "gnu"), "short"), &[Go]);
    table.end();
}

#[test]
fn numbers() {
    let mut table = Table::new();
    // Of eight bytes: mode at 100, owner at 108, group at 116; of twelve: size at 124, time at 136.
    for (what, mode, size) in [
        ("leading zeros, a NUL", b"0000640\0", b"00000000004\0"),
        ("leading zeros, a blank", b"0000640 ", b"00000000004 "),
        ("leading blanks, blank and NUL", b"   640 \0", b"         4 \0"),
        ("digits, then NULs", b"640\0\0\0\0\0", b"4\0\0\0\0\0\0\0\0\0\0\0"),
        ("digits, then blanks", b"640     ", b"4           "),
        ("as wide as the field", b"00000640", b"000000000004"),
        ("base-256", b"\x80\0\0\0\0\0\x01\xa0", b"\x80\0\0\0\0\0\0\0\0\0\0\x04"),
    ] {
        table.row(what, with(file("name").put(100, mode).put(124, size).put(108, mode).put(136, size)), ALL);
    }
    let field = |at: usize, bytes: &[u8]| with(file("name").put(at, bytes));
    // The others give the file to root: their field is empty.
    table.row("leading NULs", field(108, b"\0\0\0\x30750\0"), &[Go]);
    table.row("an empty owner", field(108, &[0; 8]), ALL);
    // GNU tar unpacks it, too, but complains.
    table.row("an owner of blanks", field(108, &[b' '; 8]), &[Bsd, Python, Go]);
    table.row("an empty time", field(136, &[0; 12]), ALL);
    table.row("an empty mode", field(100, &[0; 8]), ALL);
    let empty = Head::new(b'0', "name").put(124, &[0; 12]);
    table.row("an empty size", tar().add(empty, "").file("after", ""), ALL);
    table.row("a mode with type bits", field(100, b"0100644\0"), ALL);
    // GNU tar reads as far as it goes.
    table.row("digits, a blank, letters", field(108, b"750 abc\0"), &[Bsd, Python, Go]);
    // A field ends at its NUL; bsdtar is stricter.
    table.row("digits, a NUL, letters", field(108, b"750\0abc\0"), &[Gnu, Python, Go]);
    table.row("letters", field(108, b"root\0\0\0\0"), ALL);
    table.row("a digit 8", field(108, b"0000780\0"), ALL);
    // Python takes the number, and so root.
    table.row("a negative octal owner", field(108, b"-000001\0"), &[Gnu, Bsd, Go]);
    table.row("an owner beyond octal", with(file("name").owner256(3_000_000_000, 3_000_000_001)), ALL);
    // chown's "leave it", by which the file is root's. GNU tar complains of the number, and leaves it, too.
    table.row("an owner of -1", with(file("name").owner256(-1, -1)), &[Bsd, Python, Go]);
    table.row("an owner of -2", with(file("name").owner256(-2, -2)), &[Bsd, Go]);
    table.row("an owner of 2^32-1", with(file("name").owner256(u32::MAX.into(), 7)), ALL);
    // bsdtar and Go cut it off: whoever wrote it did not mean root.
    table.row("an owner of 2^32", with(file("name").owner256(1 << 32, 7)), &[Gnu, Python]);
    table.row("a time beyond 2^33", with(file("name").mtime256(1 << 33)), ALL);
    table.row("a time before 1970", with(file("name").mtime256(-1000)), ALL);
    table.row("a negative size", tar().add(Head::new(b'0', "name").size256(-1), ""), ALL);
    table.end();
}

#[test]
fn types() {
    let mut table = Table::new();
    let kind = |kind: u8, name: &str| Head::new(kind, name).mode(0o755);
    let then = |head: Head| tar().add(head, "").file("after", "after");
    table.row("an old file", with(file("name").put(156, b"\0")), ALL);
    // POSIX has a reader that knows no such files take it for a file; umoci refuses what Go's reader gives it.
    table.row("a contiguous file", with(file("name").put(156, b"7")), &[Gnu, Bsd, Python]);
    table.row("an old folder", then(kind(0, "folder/")), ALL);
    table.row("an old folder, no magic", then(kind(0, "folder/").put(257, V7)), ALL);
    // Only the old type is a folder by its slash; GNU tar and bsdtar say so of each.
    table.row("a file with a slash", then(kind(b'0', "name/")), &[Python, Go]);
    table.row("a folder with a slash", then(kind(b'5', "folder/")), ALL);
    table.row("a folder with a size", then(kind(b'5', "folder").size(5000)), ALL);
    // What has no data has none, whatever its size.
    table.row("a link with a size", then(kind(b'2', "l").link("t").size(5000)), ALL);
    table.row("a hard link", tar().file("f", "f").hardlink("h", "f").file("after", ""), ALL);
    let sized = Head::new(b'1', "h").link("f").size(1);
    table.row("a hard link with a size", tar().file("f", "f").add(sized, "").file("after", ""), ALL);
    table.row("a hard link to ./", tar().file("f", "f").hardlink("h", "./f").file("after", ""), ALL);
    table.row("a pipe", then(kind(b'6', "pipe")), ALL);
    table.row("a device", then(kind(b'3', "device").device(1, 3)), ALL);
    table.row("a device, GNU", then(kind(b'4', "device").device256(259, 70_000).put(257, GNU)), ALL);
    // There is no number; Python never asks for the magic.
    table.row("a device, no magic", then(kind(b'3', "device").device(1, 3).put(257, V7)), &[Gnu, Bsd, Go]);
    // The name of a tape; Python makes a file of it, and umoci refuses what Go's reader gives it.
    table.row("GNU's label", then(kind(b'V', "label")), &[Gnu, Bsd]);
    // The others make a file of what is none: nothing of an image is lost or changed without anybody knowing.
    table.row("an unknown type", then(kind(b'Z', "name")), &[Go]);
    // bsdtar follows no links.
    table.row("a path through a link", tar().dir("d").symlink("l", "d").file("l/f", "f"), &[Gnu, Python, Go]);
    table.end();
}

#[test]
fn pax() {
    let mut table = Table::new();
    let then = |archive: Tar| archive.raw(with(file("short")).unended());
    let with_pax = |records: &[(&str, &[u8])]| then(tar().pax(records));
    let long = "p/".repeat(150) + "p";
    table.row("a path", with_pax(&[("path", b"from/pax")]), ALL);
    table.row("a path of 301 bytes", with_pax(&[("path", long.as_bytes())]), ALL);
    let prefixed = with(file("short").put(345, b"prefix")).unended();
    table.row("a path over a prefix", tar().pax(&[("path", b"p")]).raw(prefixed), ALL);
    // POSIX: an empty value takes back what was said; GNU tar and Python have no name for the file then.
    table.row("an empty path", with_pax(&[("path", b"")]), &[Bsd, Go]);
    let link = tar().pax(&[("linkpath", b"target")]).symlink("l", "short").file("after", "");
    table.row("a link's target", link, ALL);
    let sized = |size: u64| tar().pax(&[("size", b"4")]).add(Head::new(b'0', "n").size(size), "data");
    table.row("a size", sized(0).file("after", "after"), ALL);
    table.row("a size over a wrong one", sized(999).file("after", "after"), ALL);
    let link = tar().pax(&[("size", b"4")]).symlink("l", "target").file("after", "after");
    table.row("a link with a size", link, &[Go]);
    table.row("owner and group", with_pax(&[("uid", b"4000000"), ("gid", b"4000001")]), ALL);
    // As in the header's fields: chown's "leave it".
    table.row("an owner of -1", with_pax(&[("uid", b"-1")]), &[Bsd, Python, Go]);
    table.row("a group of -1", with_pax(&[("gid", b"-1")]), &[Bsd, Python, Go]);
    table.row("an owner of 2^32", with_pax(&[("uid", b"4294967296")]), &[Gnu, Python]);
    // GNU tar complains, as no number is empty for it.
    table.row("an empty owner", with_pax(&[("uid", b"7"), ("uid", b"")]), &[Bsd, Python, Go]);
    table.row("a time", with_pax(&[("mtime", b"1500000000.5")]), ALL);
    // bsdtar adds the fraction to the wrong side of the second.
    table.row("a time before 1970", with_pax(&[("mtime", b"-1.5")]), &[Gnu, Python, Go]);
    let unknown: &[(&str, &[u8])] =
        &[("SCHILY.none", b"x"), ("comment", b"a=b\nc"), ("uname", b"nobody-here")];
    table.row("keys of no importance", with_pax(unknown), ALL);
    // The second replaces the first; Python adds them up, and bsdtar complains.
    table.row("two headers", then(tar().pax(&[("uid", b"7")]).pax(&[("path", b"p")])), &[Gnu, Go]);
    // Go's reader does not know it, so no image that others pull has one; but it is clear, and no loss.
    let suns = Head::new(b'X', "pax").size(record("path", "sun").len() as u64);
    table.row("Sun's type X", then(tar().add(suns, record("path", "sun"))), &[Gnu, Bsd, Python]);
    let comment: &[(&str, &[u8])] = &[("comment", b"0123456789012345678901234567890123456789")];
    // `git archive` of nothing. Python misses the member, and umoci knows no global headers.
    table.row("nothing but a global header", tar().global(comment), &[Gnu, Bsd]);
    table.row("a global comment first", then(tar().global(comment)), &[Gnu, Bsd, Python]);
    // containerd and Docker skip global headers: an image of theirs has no owner from there.
    table.row("a global owner", then(tar().global(&[("uid", b"7")])), &[Bsd]);
    // Python reads on as if it were not there.
    table.row("no length", then(tar().pax_bytes(" path=p\n")), &[Gnu, Bsd, Go]);
    table.row("a length too far", then(tar().pax_bytes("99 path=p\n")), ALL);
    // Something was to come: GNU tar and Go read it as complete.
    table.row("a header, and no member", tar().file("f", "f").pax(&[("path", b"p")]), &[Bsd, Python]);
    table.end();
}

#[test]
fn ends() {
    let mut table = Table::new();
    let (archive, other) = (with(file("name")), tar().file("other", "x").end());
    let mut bytes = |what: &str, end: &[u8], readers| {
        table.bytes(what, &[archive.clone().raw(end).unended()], readers);
    };
    bytes("no end", &[], ALL);
    bytes("one block of zeros", &[0; 512], ALL);
    bytes("twenty", &[0; 20 * 512], ALL);
    // A part of a header is no member; GNU tar and Python pass over it.
    bytes("half a header", &other[..256], &[Bsd, Go]);
    // Another tree for whoever reads on, as `tar --ignore-zeros` does: nothing of an image is left out silently.
    bytes("two archives", &[&[0; 1024][..], &other].concat(), ALONE);
    bytes("garbage behind the end", &[[0; 1024], [7; 1024]].concat(), ALONE);
    bytes("one block of zeros, and a second archive", &[&[0; 512][..], &other].concat(), &[Go]);
    table.end();
}

#[test]
fn layers() {
    let mut table = Table::new();
    let old = || tar().file("p", "was a file");
    table.layers("a file over another", [old(), tar().file("p", "new")], ALL);
    // As in an overlay of both, which containerd and Podman mount: they unpack the upper one where no file is in its way.
    table.layers("a path through what was a file", [old(), tar().file("p/f", "f")], ALONE);
    // The others don't make what is behind a link.
    let link = tar().symlink("p", "nowhere");
    table.layers("a path through a link that leads nowhere", [link, tar().file("p/f", "f")], &[Go]);
    // Python misses the member, and umoci knows no global headers.
    table.layers("a global header alone", [old(), tar().global(&[("comment", b"x")])], &[Gnu, Bsd]);
    table.end();
}
