//! `.ARM.attributes`: what an Arm program's compiler and linker have written down about it ("Addenda to, and Errata in,
//! the ABI for the Arm Architecture", build attributes).

use super::{Table, Words, broken, exactly, seek};
use crate::error::Result;
use std::io::{Read, Seek};

/// The largest `.ARM.attributes` section; real ones have 40 to 80 bytes.
const ATTRIBUTES_MAX: u64 = 4096;
pub(super) const SHT_ARM_ATTRIBUTES: u32 = 0x7000_0003;

/// The build attributes that decide where Arm code runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArmAttributes {
    /// Tag_CPU_arch (6).
    pub cpu_arch: u8,
    /// Tag_FP_arch (10): 0 none, 1–2 VFPv2, 3 VFPv3, 4 VFPv3-D16, 5 VFPv4, 6 VFPv4-D16, 7–8 v8.
    pub fp_arch: u8,
    /// Tag_Advanced_SIMD_arch (12): 0 none, 1 NEON, 2 NEON with FMA, 3–4 v8.
    pub simd_arch: u8,
    /// Tag_ABI_FP_number_model (23): 0 where the program is not meant to use floating-point numbers.
    pub fp_number_model: u8,
    /// Tag_ABI_VFP_args (28): 0 is the soft-float calling convention, 1 the hard-float one, 3 fits both.
    pub vfp_args: u8,
}

impl ArmAttributes {
    /// The Arm architecture version that the code needs, 4 to 9; 0 for the M and R profiles' own.
    /// v6T2 counts as 7: of the v6 cores only the ARM1156, which runs no Linux, has Thumb-2.
    pub(in crate::image) fn arm_level(&self) -> u8 {
        match self.cpu_arch {
            0..=2 => 4,
            3..=5 => 5,
            6 | 7 | 9 => 6,
            8 | 10 => 7,
            14 | 18..=20 => 8,
            22 => 9,
            _ => 0,
        }
    }
}

pub(super) fn find_attributes<R: Read + Seek>(
    file: &mut R,
    word: Words,
    sections: Table,
) -> Result<Option<ArmAttributes>> {
    // Elf32_Shdr: name, type 4, flags, addr, offset 16, size 20.
    let place = sections.find(file, |header: &[u8; 40]| {
        (word.word(header, 4) == SHT_ARM_ATTRIBUTES)
            .then(|| (word.address(header, 16), word.address(header, 20)))
    })?;
    let Some((offset, length)) = place else { return Ok(None) };
    if length > ATTRIBUTES_MAX {
        return Err(broken("its .ARM.attributes section is larger than 4096 bytes"));
    }
    let mut section = vec![0u8; length as usize];
    seek(file, offset)?;
    exactly(file, &mut section)?;
    Ok(parse_attributes(&section, word))
}

/// `'A'`, then for each vendor: length, name, and sub-subsections of (tag, length, attributes).
/// `None` if the section is not of this form: it then proves nothing.
fn parse_attributes(section: &[u8], word: Words) -> Option<ArmAttributes> {
    let mut rest = section.strip_prefix(b"A")?;
    while rest.len() > 4 {
        // A length counts itself: one of 0 would never get on.
        let length = word.word(rest, 0) as usize;
        let (vendor, next) = rest.split_at_checked(length.max(4))?;
        rest = next;
        let Some(mut scopes) = vendor.get(4..).and_then(|vendor| vendor.strip_prefix(b"aeabi\0")) else {
            continue;
        };
        while scopes.len() > 5 {
            let length = word.word(scopes, 1) as usize;
            let (scope, next) = scopes.split_at_checked(length.max(5))?;
            scopes = next;
            const TAG_FILE: u8 = 1;
            if *scope.first()? == TAG_FILE {
                return parse_file_scope(scope.get(5..)?);
            }
        }
    }
    None
}

/// Tag-value pairs: even tags and those below 32 have a ULEB128 value, odd ones from 32 on and the two CPU
/// names a string, Tag_compatibility (32) both.
fn parse_file_scope(mut rest: &[u8]) -> Option<ArmAttributes> {
    let mut attributes = ArmAttributes::default();
    while !rest.is_empty() {
        let tag = uleb128(&mut rest)?;
        if matches!(tag, 4 | 5) || tag > 32 && tag % 2 == 1 {
            skip_string(&mut rest)?;
            continue;
        }
        let value = u8::try_from(uleb128(&mut rest)?).unwrap_or(u8::MAX);
        match tag {
            6 => attributes.cpu_arch = value,
            10 => attributes.fp_arch = value,
            12 => attributes.simd_arch = value,
            23 => attributes.fp_number_model = value,
            28 => attributes.vfp_args = value,
            32 => skip_string(&mut rest)?,
            _ => {}
        }
    }
    Some(attributes)
}

fn skip_string(rest: &mut &[u8]) -> Option<()> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    *rest = &rest[end + 1..];
    Some(())
}

fn uleb128(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21] {
        let (byte, next) = rest.split_first()?;
        *rest = next;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
