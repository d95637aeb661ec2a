//! Gzip members around any data: RFC 1952, with the optional fields.

use arbitrary::Arbitrary;
use miniz_oxide::deflate::compress_to_vec;

/// One member.
#[derive(Debug, Arbitrary)]
pub struct Member {
    data: Vec<u8>,
    /// So that there is more than one block.
    times: u8,
    level: u8,
    name: Option<Vec<u8>>,
    extra: Option<Vec<u8>>,
    crc: bool,
}

impl Member {
    /// What comes out.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for round in 0..=self.times % 32 {
            tar.extend_from_slice(&self.data);
            tar.push(round);
        }
        tar
    }

    /// What goes in.
    pub fn wire(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.crc, 2) | flag(self.extra.is_some(), 4) | flag(self.name.is_some(), 8);
        out.extend_from_slice(&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255]);
        if let Some(extra) = &self.extra {
            let extra = &extra[..extra.len().min(usize::from(u16::MAX))];
            out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            out.extend_from_slice(extra);
        }
        if let Some(name) = &self.name {
            out.extend(name.iter().filter(|byte| **byte != 0));
            out.push(0);
        }
        if self.crc {
            out.extend_from_slice(&[0, 0]);
        }
        body(&self.tar(), self.level % 11, out);
    }
}

/// `tar` in one member that has nothing optional.
pub fn pack(tar: &[u8], level: u8) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    body(tar, level % 11, &mut out);
    out
}

fn body(tar: &[u8], level: u8, out: &mut Vec<u8>) {
    out.extend(compress_to_vec(tar, level));
    out.extend_from_slice(&crc32fast::hash(tar).to_le_bytes());
    out.extend_from_slice(&(tar.len() as u32).to_le_bytes());
}
