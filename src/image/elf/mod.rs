//! What a program needs of the machine, read from its ELF header and `.ARM.attributes`.
//!
//! An entry's label says which board it is for; the ELF file says the truth. The label `linux/arm/v6` on
//! ARMv7 code is the most common lie in the field, and dies with "Illegal instruction" on a Pi Zero.
//!
//! Sources: System V gABI (ELF header, program and section headers), "ELF for the Arm Architecture"
//! (e_flags), "Addenda to, and Errata in, the ABI for the Arm Architecture" (build attributes).

mod attributes;

pub use attributes::ArmAttributes;

use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use attributes::find_attributes;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};

/// The most program or section headers that are looked at; real programs have 10 to 50.
const HEADERS_MAX: u16 = 256;
/// The longest interpreter path (Linux: PATH_MAX; real ones have 30 bytes).
const INTERPRETER_MAX: u64 = 4096;

const EM_386: u16 = 3;
pub(super) const EM_ARM: u16 = 40;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const PT_INTERP: u32 = 3;
const EF_ARM_EABIMASK: u32 = 0xff00_0000;
const EF_ARM_EABI_VER5: u32 = 0x0500_0000;
const EF_ARM_ABI_FLOAT_HARD: u32 = 0x400;

/// What an ELF file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// ELFCLASS64?
    pub is_64bit: bool,
    /// ELFDATA2LSB?
    pub is_little_endian: bool,
    /// `e_machine`.
    pub machine: u16,
    /// `e_flags`.
    pub flags: u32,
    /// PT_INTERP: the dynamic linker, which the image has to have too.
    pub interpreter: Option<String>,
    /// `.ARM.attributes`; `None` where the linker wrote none (Go) or the section was stripped.
    pub attributes: Option<ArmAttributes>,
}

impl Elf {
    /// Reads an ELF file's headers. `Ok(None)` if it is no ELF file at all (a script, data);
    /// [`Kind::BadImage`] if it begins as one and is broken.
    pub fn read<R: Read + Seek>(file: &mut R) -> Result<Option<Elf>> {
        let mut ident = [0u8; 16];
        let got = read_up_to(file, &mut ident)?;
        if got < 4 || ident[..4] != *b"\x7fELF" {
            return Ok(None);
        }
        let (is_64bit, is_little_endian) = match (ident[4], ident[5]) {
            (1 | 2, 1 | 2) => (ident[4] == 2, ident[5] == 1),
            _ => return Err(broken("its class or byte order is neither of the two that there are")),
        };
        let mut header = [0u8; 48];
        let header = &mut header[..if is_64bit { 48 } else { 36 }];
        exactly(file, header)?;
        let word = Words { is_64bit, is_little_endian };
        // After e_type, e_machine, e_version: entry, phoff and shoff are address-sized.
        let (address, after) = if is_64bit { (8, 32) } else { (4, 20) };
        let mut elf = Elf {
            is_64bit,
            is_little_endian,
            machine: word.half(header, 2),
            flags: word.word(header, after),
            interpreter: None,
            attributes: None,
        };
        let programs = Table {
            offset: word.address(header, 8 + address),
            size: word.half(header, after + 6),
            count: word.half(header, after + 8),
        };
        let sections = Table {
            offset: word.address(header, 8 + 2 * address),
            size: word.half(header, after + 10),
            count: word.half(header, after + 12),
        };
        elf.interpreter = find_interpreter(file, word, programs)?;
        if elf.machine == EM_ARM {
            elf.attributes = find_attributes(file, word, sections)?;
        }
        Ok(Some(elf))
    }

    /// Why this program is not what `label` promises, or `None` if it is. Attributes that are missing
    /// prove nothing, so they refuse nothing.
    pub fn contradicts(&self, label: &Platform) -> Option<String> {
        let (machine, is_64bit, is_little_endian) = expected_machine(&label.architecture)?;
        if (self.machine, self.is_64bit, self.is_little_endian) != (machine, is_64bit, is_little_endian) {
            return Some(format!("it is a program for {}", self));
        }
        if self.machine != EM_ARM {
            return None;
        }
        if !self.is_eabi5() {
            return Some("it is not built for the EABI, version 5, that Linux has used since 2007".into());
        }
        let level = arm_level(&label.variant)?;
        let hard = self.is_hard_float();
        if hard && level < 6 {
            return Some("it is hard-float, and ARMv5 boards have no floating-point unit".into());
        }
        let attributes = self.attributes?;
        let needs = attributes.arm_level();
        if needs > level {
            return Some(format!("it is ARMv{needs} code"));
        }
        if needs == 0 {
            return Some("it is code for a microcontroller (M profile)".into());
        }
        None
    }

    /// Why a CPU with these `Features` (from `/proc/cpuinfo`; `None`: not known) cannot run it though its
    /// label fits: VFPv4 or NEON where the core has none (Tegra 2, Armada 370, …).
    pub fn lacks_feature(&self, has: &dyn Fn(&str) -> Option<bool>) -> Option<&'static str> {
        let attributes = self.attributes?;
        let misses = |names: &[&str]| names.iter().all(|name| has(name) == Some(false));
        if attributes.simd_arch > 0 && misses(&["neon", "asimd"]) {
            return Some("NEON");
        }
        if matches!(attributes.fp_arch, 5 | 6) && misses(&["vfpv4", "fp", "asimd"]) {
            return Some("VFPv4");
        }
        if attributes.fp_arch > 0 && misses(&["vfp", "vfpv3", "vfpv3d16", "vfpv4", "fp", "asimd"]) {
            return Some("a floating-point unit (VFP)");
        }
        None
    }

    /// The GOARCH that it is for; `None` for one that edgepull does not know.
    #[cfg(feature = "publish")]
    pub fn architecture(&self) -> Option<&'static str> {
        let machine = (self.machine, self.is_64bit, self.is_little_endian);
        MACHINES.iter().find(|(_, expected)| *expected == machine).map(|(name, _)| *name)
    }

    /// Is it built for the EABI, version 5?
    pub(super) fn is_eabi5(&self) -> bool {
        self.flags & EF_ARM_EABIMASK == EF_ARM_EABI_VER5
    }

    /// Does it pass floating-point arguments in VFP registers?
    pub fn is_hard_float(&self) -> bool {
        self.flags & EF_ARM_ABI_FLOAT_HARD != 0
            || self.attributes.is_some_and(|attributes| attributes.vfp_args == 1)
    }
}

impl fmt::Display for Elf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.machine {
            EM_386 => "x86 (386)",
            EM_ARM => "arm (32-bit)",
            EM_X86_64 => "x86-64 (amd64)",
            EM_AARCH64 => "arm64",
            8 => "MIPS",
            21 => "POWER (ppc64)",
            22 => "s390x",
            243 => "RISC-V",
            258 => "LoongArch",
            other => return write!(f, "ELF machine {other}"),
        };
        f.write_str(name)?;
        match self.is_little_endian || self.machine == 22 {
            true => Ok(()),
            false => f.write_str(", big-endian"),
        }
    }
}

/// What the ELF header says for each GOARCH that edgepull knows: `e_machine`, 64-bit, little-endian.
const MACHINES: [(&str, (u16, bool, bool)); 9] = [
    ("386", (EM_386, false, true)),
    ("amd64", (EM_X86_64, true, true)),
    ("arm", (EM_ARM, false, true)),
    ("arm64", (EM_AARCH64, true, true)),
    ("loong64", (258, true, true)),
    ("mips64le", (8, true, true)),
    ("ppc64le", (21, true, true)),
    ("riscv64", (243, true, true)),
    ("s390x", (22, true, false)),
];

/// [`MACHINES`] of a GOARCH; `None` for one that edgepull does not know.
pub(super) fn expected_machine(architecture: &str) -> Option<(u16, bool, bool)> {
    MACHINES.iter().find(|(name, _)| *name == architecture).map(|(_, machine)| *machine)
}

/// `v6` -> 6. A variant that is no number says nothing.
pub(super) fn arm_level(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Reads fields in the file's own byte order and class. All offsets are within the slices handed in.
#[derive(Clone, Copy)]
struct Words {
    is_64bit: bool,
    is_little_endian: bool,
}

impl Words {
    fn bytes<const N: usize>(self, from: &[u8], at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&from[at..at + N]);
        if !self.is_little_endian {
            bytes.reverse();
        }
        bytes
    }
    fn half(self, from: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(from, at))
    }
    fn word(self, from: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(from, at))
    }
    fn address(self, from: &[u8], at: usize) -> u64 {
        match self.is_64bit {
            true => u64::from_le_bytes(self.bytes(from, at)),
            false => self.word(from, at).into(),
        }
    }
}

/// Where a table of headers lies.
#[derive(Clone, Copy)]
struct Table {
    offset: u64,
    size: u16,
    count: u16,
}

impl Table {
    /// Calls `visit` with each header's first `LENGTH` bytes until it returns something.
    fn find<R: Read + Seek, const LENGTH: usize, T>(
        self,
        file: &mut R,
        mut visit: impl FnMut(&[u8; LENGTH]) -> Option<T>,
    ) -> Result<Option<T>> {
        if self.offset == 0 || usize::from(self.size) < LENGTH {
            return Ok(None);
        }
        for index in 0..self.count.min(HEADERS_MAX) {
            let mut header = [0u8; LENGTH];
            seek(file, self.offset.saturating_add(u64::from(index) * u64::from(self.size)))?;
            exactly(file, &mut header)?;
            if let Some(found) = visit(&header) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn find_interpreter<R: Read + Seek>(file: &mut R, word: Words, programs: Table) -> Result<Option<String>> {
    // Elf64_Phdr: type, flags, offset 8, vaddr, paddr, filesz 32. Elf32_Phdr: type, offset 4, …, filesz 16.
    let place = match word.is_64bit {
        true => programs.find(file, |header: &[u8; 56]| {
            (word.word(header, 0) == PT_INTERP).then(|| (word.address(header, 8), word.address(header, 32)))
        }),
        false => programs.find(file, |header: &[u8; 32]| {
            (word.word(header, 0) == PT_INTERP).then(|| (word.address(header, 4), word.address(header, 16)))
        }),
    }?;
    let Some((offset, length)) = place else { return Ok(None) };
    if length > INTERPRETER_MAX {
        return Err(broken("its interpreter's path is longer than 4096 bytes"));
    }
    let mut path = vec![0u8; length as usize];
    seek(file, offset)?;
    exactly(file, &mut path)?;
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    Ok(Some(String::from_utf8_lossy(&path[..end]).into_owned()))
}

fn broken(why: &str) -> Error {
    Error::new(Kind::BadImage, format!("a broken ELF file: {why}"))
}

fn seek<R: Seek>(file: &mut R, to: u64) -> Result<()> {
    file.seek(SeekFrom::Start(to)).map(drop).map_err(|_| broken("it points beyond its end"))
}

fn exactly<R: Read>(file: &mut R, buffer: &mut [u8]) -> Result<()> {
    match read_up_to(file, buffer)? == buffer.len() {
        true => Ok(()),
        false => Err(broken("it ends in the middle of its headers")),
    }
}

fn read_up_to<R: Read>(file: &mut R, buffer: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_io(Kind::Disk, error)),
        }
    }
    Ok(got)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::attributes::SHT_ARM_ATTRIBUTES;
    use super::*;
    use std::io::Cursor;

    /// An ELF32 Arm program's headers with one `.ARM.attributes` section of these tag-value pairs.
    pub(crate) fn arm_program(flags: u32, pairs: &[u8]) -> Vec<u8> {
        let mut scope = vec![1];
        scope.extend((5 + pairs.len() as u32).to_le_bytes());
        scope.extend(pairs);
        let mut section = b"A".to_vec();
        section.extend((4 + 6 + scope.len() as u32).to_le_bytes());
        section.extend(b"aeabi\0");
        section.extend(&scope);

        let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([2, 0, 40, 0, 1, 0, 0, 0]);
        elf.extend([0u32, 0, 52, flags].map(u32::to_le_bytes).concat()); // entry, phoff, shoff, flags
        elf.extend([52u16, 0, 0, 40, 1, 0].map(u16::to_le_bytes).concat());
        let size = section.len() as u32;
        elf.extend([0, SHT_ARM_ATTRIBUTES, 0, 0, 92, size, 0, 0, 1, 0].map(u32::to_le_bytes).concat());
        elf.extend(&section);
        elf
    }

    /// The same with one program header, PT_INTERP, behind it.
    pub(crate) fn with_interpreter(mut program: Vec<u8>, path: &str) -> Vec<u8> {
        let (header, length) = (program.len() as u32, path.len() as u32 + 1);
        program[28..32].copy_from_slice(&header.to_le_bytes());
        program[42..46].copy_from_slice(&[32, 0, 1, 0]);
        program.extend([PT_INTERP, header + 32, 0, 0, length, 0, 0, 0].map(u32::to_le_bytes).concat());
        program.extend(path.as_bytes());
        program.push(0);
        program
    }

    fn read(bytes: &[u8]) -> Elf {
        Elf::read(&mut Cursor::new(bytes)).unwrap().unwrap()
    }

    fn verdict(bytes: &[u8], label: &str) -> Option<String> {
        read(bytes).contradicts(&Platform::parse(label).unwrap())
    }

    const HARD: u32 = EF_ARM_EABI_VER5 | EF_ARM_ABI_FLOAT_HARD;

    #[test]
    fn v7_code_labelled_v6_is_a_lie() {
        let v7 = arm_program(HARD, &[5, b'7', b'-', b'A', 0, 6, 10, 7, b'A', 10, 4, 28, 1]);
        assert_eq!(verdict(&v7, "linux/arm/v7"), None);
        assert_eq!(verdict(&v7, "linux/arm/v6").unwrap(), "it is ARMv7 code");
        let v6 = arm_program(HARD, &[6, 7, 10, 2, 28, 1]);
        assert_eq!(verdict(&v6, "linux/arm/v7"), None, "older code runs on newer cores");
        assert_eq!(verdict(&v6, "linux/arm/v6"), None);
        assert!(verdict(&v6, "linux/arm/v5").unwrap().contains("hard-float"));
    }

    #[test]
    fn thumb_2_and_microcontroller_code() {
        assert_eq!(verdict(&arm_program(HARD, &[6, 8]), "linux/arm/v6").unwrap(), "it is ARMv7 code");
        assert!(
            verdict(&arm_program(EF_ARM_EABI_VER5, &[6, 11]), "linux/arm/v7").unwrap().contains("M profile")
        );
    }

    #[test]
    fn another_machine_is_named() {
        let v7 = arm_program(HARD, &[6, 10]);
        assert!(verdict(&v7, "linux/arm64").unwrap().contains("arm (32-bit)"));
        assert!(verdict(&v7, "linux/amd64").unwrap().contains("arm (32-bit)"));
        assert!(verdict(&arm_program(0, &[6, 4]), "linux/arm/v5").unwrap().contains("EABI"));
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(Elf::read(&mut Cursor::new(own)).unwrap().is_some(), "a real program");
    }

    #[test]
    fn go_programs_without_attributes_are_let_through() {
        let mut stripped = arm_program(EF_ARM_EABI_VER5, &[]);
        stripped[48..50].copy_from_slice(&[0, 0]); // e_shnum
        assert_eq!(read(&stripped).attributes, None);
        assert_eq!(verdict(&stripped, "linux/arm/v5"), None);
    }

    #[test]
    fn features_that_the_board_lacks() {
        let neon = read(&arm_program(HARD, &[6, 10, 10, 5, 12, 2, 28, 1]));
        let tegra2 = |name: &str| Some(matches!(name, "vfp" | "vfpv3" | "vfpv3d16"));
        assert_eq!(neon.lacks_feature(&tegra2), Some("NEON"));
        assert_eq!(neon.lacks_feature(&|_| None), None, "an unknown CPU refuses nothing");
        assert_eq!(neon.lacks_feature(&|name| Some(matches!(name, "neon" | "vfpv4"))), None);
        let vfp = read(&arm_program(HARD, &[6, 6, 10, 2]));
        assert_eq!(vfp.lacks_feature(&|_| Some(false)), Some("a floating-point unit (VFP)"));
    }

    #[test]
    fn nothing_that_is_broken_panics() {
        let program = arm_program(HARD, &[5, b'x', 0, 6, 10, 32, 1, b'y', 0, 65, 0, 28, 1]);
        assert_eq!(read(&program).attributes.unwrap().vfp_args, 1, "strings are skipped");
        for length in 0..program.len() {
            let _ = Elf::read(&mut Cursor::new(&program[..length]));
        }
        for at in 0..program.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bent = program.clone();
                bent[at] = value;
                let _ = Elf::read(&mut Cursor::new(bent))
                    .map(|elf| elf.map(|elf| elf.contradicts(&Platform::parse("linux/arm/v6").unwrap())));
            }
        }
        assert_eq!(Elf::read(&mut Cursor::new(b"#!/bin/sh\n")).unwrap(), None);
        assert_eq!(Elf::read(&mut Cursor::new(b"")).unwrap(), None);
    }
}
