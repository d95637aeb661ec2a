//! Members of any tar, its checksums made right: the same whatever the pieces that it comes in, within every limit
//! that is promised, and their data as long as they say.
#![no_main]

use edgepull::layer::archive::{Member, MemberKind, PATH_MAX, SEGMENTS_MAX, XATTRS_MAX};
use edgepull::layer::fuzzing::members;
use edgepull_fuzz::{fuzz_target, head, layers, memory};
use std::fmt::Write;
use std::io::Read;

/// A member at all its limits: 1 MiB of segments, what they are read from, paths and attributes.
const MEMORY_MAX: usize = 3 << 20;
/// What is looked at of a member's data.
const DATA_MAX: usize = 4096;

fn check(member: &Member, data: &mut dyn Read) -> (u64, u32) {
    assert!(member.path.len() <= PATH_MAX && member.link.len() <= PATH_MAX, "a path is too long");
    let mut xattrs = 0;
    for (name, value) in member.xattrs.iter() {
        xattrs += name.count_bytes() + value.len();
    }
    assert!(xattrs <= XATTRS_MAX && member.mtime.nanos < 1_000_000_000 && member.mode <= 0o7777);
    assert!(member.segments.len() <= SEGMENTS_MAX);
    let (mut end, mut held) = (0, 0);
    for segment in &member.segments {
        assert!(segment.offset >= end, "segments overlap");
        end = segment.offset + segment.length;
        held += segment.length;
    }
    assert!(end <= member.size, "a segment ends behind the file");
    let should = if member.sparse { held } else { member.size };
    assert!(member.kind == MemberKind::File || should == 0, "data of what is no file");
    let mut bytes = [0; DATA_MAX];
    let (mut length, mut crc) = (0, crc32fast::Hasher::new());
    while length < DATA_MAX {
        match data.read(&mut bytes[length..]) {
            Ok(0) => {
                assert_eq!(length as u64, should, "data of another length");
                crc.update(&bytes[..length]);
                break;
            }
            Ok(n) => length += n,
            // How much came before depends on the pieces.
            Err(_) => return (0, 0),
        }
    }
    (length as u64, crc.finalize())
}

fn all(tar: &[u8], piece: usize) -> String {
    let mut seen = String::with_capacity(64 * 1024 + 4 * tar.len());
    let mut hash = crc32fast::Hasher::new();
    let ended = memory::within(MEMORY_MAX + 8 * tar.len() + piece, || {
        members(tar, piece, &mut |member, data| {
            let found = check(member, data);
            hash.update(format!("{member:?} {found:?}").as_bytes());
        })
    });
    let _ = write!(seen, "{} {ended:?}", hash.finalize());
    seen
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, tar)) = head::<u16>(data, 2) else { return };
    let mut tar = tar.to_vec();
    layers::repair(&mut tar);
    assert_eq!(all(&tar, usize::from(piece) % 1500 + 1), all(&tar, tar.len().max(1)), "in pieces of {piece}");
});
