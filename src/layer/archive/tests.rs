//! Archives as real writers and as hostile ones make them. What GNU tar and bsdtar write is tried by
//! the integration tests.

use super::*;
use crate::error::{Error, Kind};

/// A header block with a right checksum.
fn header(kind: u8, path: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkflag = [kind];
    header.set_size(size);
    header.set_mode(0o100644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn member(kind: u8, path: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, path, data.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// `path kind data` of every member.
fn list(bytes: &[u8]) -> Result<Vec<String>> {
    let mut archive = Archive::new(bytes, (0, 0), None);
    let mut all = Vec::new();
    while archive.advance()? {
        let (member, mut data) = archive.current();
        let line = format!("{} {:?}", String::from_utf8_lossy(&member.path), member.kind);
        let mut text = String::new();
        data.read_to_string(&mut text).map_err(|error| Error::from_io(Kind::Other, error))?;
        all.push(if text.is_empty() { line } else { format!("{line} {text}") });
    }
    Ok(all)
}

fn refusal(bytes: &[u8]) -> String {
    let error = list(bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::BadImage);
    error.to_string()
}

#[test]
fn long_names_and_pax_paths_as_go_reads_them() {
    let pax = |path: &str| {
        let record = format!(" path={path}\n");
        member(b'x', "pax", format!("{}{record}", record.len() + 2).as_bytes())
    };
    let name = member(b'L', "././@LongLink", b"from/gnu\0");
    let file = member(b'0', "header", b"");
    assert_eq!(list(&[pax("from/pax"), file.clone()].concat()).unwrap(), ["from/pax File"]);
    assert_eq!(list(&[name.clone(), pax("from/pax"), file.clone()].concat()).unwrap(), ["from/gnu File"]);
    assert_eq!(list(&[pax("a/path"), pax("b/path"), file.clone()].concat()).unwrap(), ["b/path File"]);
    let global = member(b'g', "global", b"13 path=glob\n");
    assert_eq!(list(&[global, file.clone(), file.clone()].concat()).unwrap(), ["header File"; 2]);
    assert_eq!(list(&[name, file.clone(), file].concat()).unwrap(), ["from/gnu File", "header File"]);
}

#[test]
fn data_that_nobody_reads_is_skipped() {
    let bytes = [member(b'0', "a", &[1; 700]), member(b'0', "b", b"bee")].concat();
    let mut archive = Archive::new(&bytes[..], (0, 0), None);
    assert!(archive.advance().unwrap());
    assert_eq!(archive.current().1.read(&mut [0; 10]).unwrap(), 10);
    assert!(archive.advance().unwrap());
    assert_eq!(archive.current().0.path, b"b");
}

#[test]
fn old_directories_and_sizes_of_what_has_no_data() {
    let link = header(b'2', "link", 5000).as_bytes().to_vec();
    let bytes = [member(0, "old/", b""), member(b'0', "new/", b""), link, member(b'7', "c", b"x")].concat();
    assert_eq!(list(&bytes).unwrap(), ["old/ Directory", "new/ File", "link Symlink", "c File x"]);
}

#[test]
fn the_end_may_lack_its_marker_but_nothing_may_follow_it() {
    let file = member(b'0', "a", b"data");
    for end in [0, 512, 1024, 10_240, 10_000] {
        let bytes = [file.clone(), vec![0; end]].concat();
        assert_eq!(list(&bytes).unwrap(), ["a File data"], "{end} zeros");
    }
    assert_eq!(list(&file[..516]).unwrap(), ["a File data"], "no padding");
    assert_eq!(list(b"").unwrap(), Vec::<String>::new());
    for zeros in [512, 1024] {
        let bytes = [file.clone(), vec![0; zeros], file.clone()].concat();
        assert_eq!(refusal(&bytes), "data after the end of the archive");
    }
}

#[test]
fn an_archive_that_ends_inside_a_member_is_refused() {
    let pax = member(b'x', "pax", b"11 path=pp\n");
    let bytes = [pax, member(b'0', "a", &[b'd'; 600])].concat();
    // Only where a member is complete the archive may end: at 0, and when the data is there.
    for end in 1..1024 + 512 + 600 {
        refusal(&bytes[..end]);
    }
    assert!(list(&bytes[..1024 + 512 + 600]).is_ok());
}

#[test]
fn a_huge_long_name_is_refused_before_it_is_read() {
    for kind in *b"LKxg" {
        let bytes = header(kind, "bomb", 300 << 20).as_bytes().to_vec();
        assert!(refusal(&bytes).contains("EXTENSION_MAX"), "type {}", kind as char);
    }
    let many = member(b'g', "again", &[0; 512]).repeat(2000);
    assert!(refusal(&many).contains("EXTENSION_MAX"));
    let name = member(b'L', "long", &[b'n'; PATH_MAX + 1]);
    assert!(refusal(&name).contains("PATH_MAX"));
    let name =
        [member(b'L', "long", &[&[b'n'; PATH_MAX][..], &[0; 9]].concat()), member(b'0', "a", b"")].concat();
    assert_eq!(list(&name).unwrap()[0].len(), PATH_MAX + 5);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let spoil = |change: fn(&mut Header)| {
        let mut header = header(b'0', "a", 0);
        change(&mut header);
        header.set_cksum();
        refusal(header.as_bytes())
    };
    assert!(spoil(|header| header.as_old_mut().size = [0xff; 12]).contains("size"));
    assert!(spoil(|header| header.as_old_mut().size = *b"00000000009\0").contains("size"));
    assert!(spoil(|header| header.as_old_mut().uid = *b"\x80\0\0\x01\0\0\0\0").contains("uid"));
    assert!(spoil(|header| header.as_old_mut().gid = *b"\xff\xff\xff\xff\x7f\xff\xff\xff").contains("gid"));
    assert!(spoil(|header| header.as_old_mut().gid = *b"00000x0\0").contains("gid"));
    assert!(spoil(|header| header.as_old_mut().linkflag = [b'M']).contains("unknown type 'M'"));
    let mut broken = member(b'0', "a", b"");
    broken[0] ^= 1;
    assert!(refusal(&broken).contains("checksum"));
}

#[test]
fn times_before_1970_and_ids_beyond_octal() {
    let mut header = header(b'0', "a", 0);
    header.as_old_mut().mtime = [0xff; 12];
    header.set_uid(3_000_000_000);
    header.set_cksum();
    let mut archive = Archive::new(&header.as_bytes()[..], (0, 0), None);
    assert!(archive.advance().unwrap());
    let member = archive.current().0;
    assert_eq!((member.mtime, member.uid), (Time { seconds: -1, nanos: 0 }, 3_000_000_000));
    assert_eq!(member.mode, 0o644, "the type bits that old writers put there are dropped");
}

#[test]
fn ids_as_chown_takes_them() {
    let of = |pax: Option<&str>, field: &[u8; 8]| {
        let mut header = header(b'0', "a", 0);
        header.as_old_mut().uid = *field;
        header.set_cksum();
        let mut bytes = Vec::new();
        if let Some(id) = pax {
            bytes = member(
                b'x',
                "pax",
                format!("{} uid={id}\n", id.len() + 7 + usize::from(id.len() > 2)).as_bytes(),
            );
        }
        bytes.extend_from_slice(header.as_bytes());
        let mut archive = Archive::new(&bytes[..], (0, 0), None);
        archive.advance().unwrap();
        archive.current().0.uid
    };
    let zero = b"0000000\0";
    for (pax, id) in
        [("-1", 0), ("4294967295", 0), ("-2", u32::MAX - 1), ("4294967294", u32::MAX - 1), ("7", 7)]
    {
        assert_eq!(of(Some(pax), zero), id, "{pax}");
    }
    for (field, id) in [([0xff; 8], 0), (*b"\x80\0\0\0\xff\xff\xff\xff", 0), (*b"0000017\0", 15)] {
        assert_eq!(of(None, &field), id, "{field:?}");
    }
}

#[test]
fn an_archive_may_have_nothing_but_a_global_header() {
    let global = member(b'g', "global", b"11 comment=x\n");
    assert!(list(&global).unwrap().is_empty());
    assert_eq!(list(&[global, member(b'0', "a", b"")].concat()).unwrap(), ["a File"]);
    assert!(refusal(&member(b'x', "pax", b"11 path=pp\n")).contains("ends after an extension header"));
}

/// The path that Go's reader gives for each magic and version; `board-tests` asks GNU tar, bsdtar and Python.
#[test]
fn a_prefix_is_one_by_the_magic() {
    let path = |magic: &[u8; 6], version: &[u8; 2], prefix: &[u8], end: &[u8]| {
        let mut header = header(b'0', "name", 0);
        let block = header.as_mut_bytes();
        block[257..263].copy_from_slice(magic);
        block[263..265].copy_from_slice(version);
        block[345..500].fill(0);
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        block[512 - end.len()..].copy_from_slice(end);
        header.set_cksum();
        list(header.as_bytes()).unwrap()[0].strip_suffix(" File").unwrap().to_owned()
    };
    for version in [b"00", b"  ", b" \0", b"\0\0", b"0 ", b"xx"] {
        assert_eq!(path(b"ustar\0", version, b"dir/sub", b""), "dir/sub/name", "{version:?}");
        assert_eq!(path(b"ustar\0", version, b"", b""), "name");
        // star has the times of access and change at the end of what is ustar's prefix.
        let star = [&b"dir"[..], &[0; 128], b"14000000000 14000000000 "].concat();
        assert_eq!(path(b"ustar\0", version, &star, b"tar\0"), "dir/name");
        assert_eq!(path(b"\0\0\0\0\0\0", version, b"dir/sub", b""), "name", "older than ustar");
        assert_eq!(path(b"ustar2", version, b"dir/sub", b""), "name");
    }
    assert_eq!(path(b"ustar ", b" \0", b"14000000000 14000000000 ", b""), "name", "GNU's times");
    assert_eq!(path(b"ustar ", b" \0", b"", b""), "name");
    assert_eq!(path(b"ustar ", b" \0", b"dir/sub", b""), "dir/sub/name", "as Go before 1.8 wrote it");
    assert_eq!(path(b"ustar ", b" \0", b"d\xc3\xa9r/sub", b""), "name", "which is no text");
    assert_eq!(path(b"ustar ", b"00", b"dir/sub", b""), "name");
}

#[test]
fn a_hostile_member_does_not_keep_its_memory() {
    let map = format!("GNU.sparse.map={}1,0", "1,0,".repeat(60_000));
    let record = format!("{} {map}\n", map.len() + 8);
    assert_eq!(record.len(), map.len() + 8);
    let size = "22 GNU.sparse.size=10\n";
    let bytes = [
        member(b'x', "pax", [record.as_bytes(), size.as_bytes()].concat().as_slice()),
        member(b'0', "a", b""),
        member(b'0', "b", b""),
    ]
    .concat();
    let mut archive = Archive::new(&bytes[..], (0, 0), None);
    assert!(archive.advance().unwrap());
    assert_eq!(archive.current().0.segments.len(), 60_001);
    assert!(archive.advance().unwrap());
    assert!(archive.current().0.segments.capacity() < 10_000);
    assert!(!archive.current().0.sparse);
}
