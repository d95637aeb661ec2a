//! Which core a MIDR names: implementer and part number to core name, instruction set, and whether
//! the core runs AArch32 programs.
//!
//! `/proc/cpuinfo` prints these two fields of the Main ID Register (Arm ARM, `MIDR_EL1`) raw, whatever
//! the kernel's own idea of the CPU is: an ARM1176 is 0x41/0xb76 even where the same file calls it
//! "CPU architecture: 7". That makes the pair the strongest evidence which a board gives about itself.
//!
//! Facts from util-linux `lscpu-arm.c`, Linux `arch/arm/mm/proc-*.S` and `arch/arm64/include/asm/cputype.h`,
//! hrw's arm-socs-table, and Arm's technical reference manuals. Where a source only says "v8-A", the
//! table says v8.0: too little is never fatal, too much is SIGILL.

use std::fmt;

/// The instruction set that a core implements, as far as choosing an image needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// ARMv4 and ARMv4T: too old for every image platform.
    V4,
    /// ARMv5TE and ARMv5TEJ.
    V5,
    /// ARMv6 in all its editions (K, T2, KZ).
    V6,
    /// ARMv7-A.
    V7,
    /// ARMv8-A without the 64-bit state (Cortex-A32).
    V8Only32,
    /// ARMv8.x-A with the 64-bit state.
    V8(u8),
    /// ARMv9.x-A with the 64-bit state.
    V9(u8),
    /// The microcontroller profile: Thumb only, no memory management.
    M,
    /// The real-time profile.
    R,
}

impl Isa {
    /// The Arm platform level, 4 to 8 (v9 is a superset of v8); `None` for profiles without images.
    pub fn level(self) -> Option<u8> {
        match self {
            Isa::V4 => Some(4),
            Isa::V5 => Some(5),
            Isa::V6 => Some(6),
            Isa::V7 => Some(7),
            Isa::V8Only32 | Isa::V8(_) | Isa::V9(_) => Some(8),
            Isa::M | Isa::R => None,
        }
    }

    /// True for a core with the 64-bit state.
    pub fn has_aarch64(self) -> bool {
        matches!(self, Isa::V8(_) | Isa::V9(_))
    }

    /// Orders from the least capable; profiles that no image is made for come first.
    pub fn rank(self) -> (u8, u8, u8) {
        match self {
            Isa::M | Isa::R => (0, 0, 0),
            // v9.x includes everything of v8.(x+5) (Arm ARM, "Armv9 architecture extension").
            Isa::V8(minor) => (8, 1 + minor, 0),
            Isa::V9(minor) => (8, 1 + minor + V9_IS_V8_PLUS, 1),
            other => (other.level().unwrap_or(0), 0, 0),
        }
    }
}

/// ARMv9.x is built on ARMv8.(x + 5).
pub const V9_IS_V8_PLUS: u8 = 5;

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Isa::V4 => f.write_str("ARMv4"),
            Isa::V5 => f.write_str("ARMv5TE"),
            Isa::V6 => f.write_str("ARMv6"),
            Isa::V7 => f.write_str("ARMv7-A"),
            Isa::V8Only32 => f.write_str("ARMv8-A, 32-bit only"),
            Isa::V8(minor) => write!(f, "ARMv8.{minor}-A"),
            Isa::V9(minor) => write!(f, "ARMv9.{minor}-A"),
            Isa::M => f.write_str("Arm M profile"),
            Isa::R => f.write_str("Arm R profile"),
        }
    }
}

/// Whether user programs (EL0) may be 32-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aarch32 {
    /// Every revision of the core runs them.
    Yes,
    /// No revision does.
    No,
    /// It depends on the revision (Cortex-A510), or no public source says.
    Unknown,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// The core's name as its maker writes it.
    pub name: &'static str,
    /// What it implements.
    pub isa: Isa,
    /// Whether it runs 32-bit programs.
    pub aarch32: Aarch32,
}

/// The core with this MIDR implementer and part number, if the table knows it.
pub fn lookup(implementer: u16, part: u16) -> Option<&'static Core> {
    let row = |row: &&Row| row.implementer == implementer && (row.first..=row.last).contains(&part);
    TABLE.iter().find(row).map(|row| &row.core)
}

/// A core, or a family of part numbers.
struct Row {
    implementer: u16,
    first: u16,
    last: u16,
    core: Core,
}

const fn one(implementer: u16, part: u16, name: &'static str, isa: Isa, aarch32: Aarch32) -> Row {
    span(implementer, part, part, name, isa, aarch32)
}

const fn span(
    implementer: u16,
    first: u16,
    last: u16,
    name: &'static str,
    isa: Isa,
    aarch32: Aarch32,
) -> Row {
    Row { implementer, first, last, core: Core { name, isa, aarch32 } }
}

/// Single parts by implementer, then families; the first match counts.
const TABLE: &[Row] = &[
    // 0x00: (QEMU max / reserved)
    one(0x00, 0x051, "QEMU max", Isa::V8(0), Aarch32::Unknown),
    // 0x41: ARM
    one(0x41, 0x710, "ARM710T", Isa::V4, Aarch32::Yes),
    one(0x41, 0x720, "ARM720T", Isa::V4, Aarch32::Yes),
    one(0x41, 0x740, "ARM740T", Isa::V4, Aarch32::Yes),
    one(0x41, 0x810, "ARM810", Isa::V4, Aarch32::Yes),
    one(0x41, 0x920, "ARM920", Isa::V4, Aarch32::Yes),
    one(0x41, 0x922, "ARM922", Isa::V4, Aarch32::Yes),
    one(0x41, 0x926, "ARM926", Isa::V5, Aarch32::Yes),
    one(0x41, 0x940, "ARM940", Isa::V4, Aarch32::Yes),
    one(0x41, 0x946, "ARM946", Isa::V5, Aarch32::Yes),
    one(0x41, 0x966, "ARM966", Isa::V5, Aarch32::Yes),
    one(0x41, 0xa20, "ARM1020", Isa::V5, Aarch32::Yes),
    one(0x41, 0xa22, "ARM1022", Isa::V5, Aarch32::Yes),
    one(0x41, 0xa26, "ARM1026", Isa::V5, Aarch32::Yes),
    one(0x41, 0xb02, "ARM11-MPCore", Isa::V6, Aarch32::Yes),
    one(0x41, 0xb36, "ARM1136", Isa::V6, Aarch32::Yes),
    one(0x41, 0xb56, "ARM1156", Isa::V6, Aarch32::Yes),
    one(0x41, 0xb76, "ARM1176", Isa::V6, Aarch32::Yes),
    one(0x41, 0xc05, "Cortex-A5", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc07, "Cortex-A7", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc08, "Cortex-A8", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc09, "Cortex-A9", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc0d, "Cortex-A17", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc0e, "Cortex-A17", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc0f, "Cortex-A15", Isa::V7, Aarch32::Yes),
    one(0x41, 0xc14, "Cortex-R4", Isa::R, Aarch32::No),
    one(0x41, 0xc15, "Cortex-R5", Isa::R, Aarch32::No),
    one(0x41, 0xc17, "Cortex-R7", Isa::R, Aarch32::No),
    one(0x41, 0xc18, "Cortex-R8", Isa::R, Aarch32::No),
    one(0x41, 0xc20, "Cortex-M0", Isa::M, Aarch32::No),
    one(0x41, 0xc21, "Cortex-M1", Isa::M, Aarch32::No),
    one(0x41, 0xc23, "Cortex-M3", Isa::M, Aarch32::No),
    one(0x41, 0xc24, "Cortex-M4", Isa::M, Aarch32::No),
    one(0x41, 0xc27, "Cortex-M7", Isa::M, Aarch32::No),
    one(0x41, 0xc60, "Cortex-M0+", Isa::M, Aarch32::No),
    one(0x41, 0xd00, "Foundation model", Isa::V8(0), Aarch32::Unknown),
    one(0x41, 0xd01, "Cortex-A32", Isa::V8Only32, Aarch32::Yes),
    one(0x41, 0xd02, "Cortex-A34", Isa::V8(0), Aarch32::No),
    one(0x41, 0xd03, "Cortex-A53", Isa::V8(0), Aarch32::Yes),
    one(0x41, 0xd04, "Cortex-A35", Isa::V8(0), Aarch32::Yes),
    one(0x41, 0xd05, "Cortex-A55", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd06, "Cortex-A65", Isa::V8(2), Aarch32::No),
    one(0x41, 0xd07, "Cortex-A57", Isa::V8(0), Aarch32::Yes),
    one(0x41, 0xd08, "Cortex-A72", Isa::V8(0), Aarch32::Yes),
    one(0x41, 0xd09, "Cortex-A73", Isa::V8(0), Aarch32::Yes),
    one(0x41, 0xd0a, "Cortex-A75", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd0b, "Cortex-A76", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd0c, "Neoverse-N1", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd0d, "Cortex-A77", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd0e, "Cortex-A76AE", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd0f, "AEM v8", Isa::V8(0), Aarch32::Unknown),
    one(0x41, 0xd13, "Cortex-R52", Isa::R, Aarch32::No),
    one(0x41, 0xd14, "Cortex-R82AE", Isa::R, Aarch32::No),
    one(0x41, 0xd15, "Cortex-R82", Isa::R, Aarch32::No),
    one(0x41, 0xd16, "Cortex-R52+", Isa::R, Aarch32::No),
    one(0x41, 0xd20, "Cortex-M23", Isa::M, Aarch32::No),
    one(0x41, 0xd21, "Cortex-M33", Isa::M, Aarch32::No),
    one(0x41, 0xd22, "Cortex-M55", Isa::M, Aarch32::No),
    one(0x41, 0xd23, "Cortex-M85", Isa::M, Aarch32::No),
    one(0x41, 0xd24, "Cortex-M52", Isa::M, Aarch32::No),
    one(0x41, 0xd40, "Neoverse-V1", Isa::V8(4), Aarch32::Yes),
    one(0x41, 0xd41, "Cortex-A78", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd42, "Cortex-A78AE", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd43, "Cortex-A65AE", Isa::V8(2), Aarch32::No),
    one(0x41, 0xd44, "Cortex-X1", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd46, "Cortex-A510", Isa::V9(0), Aarch32::Unknown),
    one(0x41, 0xd47, "Cortex-A710", Isa::V9(0), Aarch32::Yes),
    one(0x41, 0xd48, "Cortex-X2", Isa::V9(0), Aarch32::No),
    one(0x41, 0xd49, "Neoverse-N2", Isa::V9(0), Aarch32::Yes),
    one(0x41, 0xd4a, "Neoverse-E1", Isa::V8(2), Aarch32::No),
    one(0x41, 0xd4b, "Cortex-A78C", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd4c, "Cortex-X1C", Isa::V8(2), Aarch32::Yes),
    one(0x41, 0xd4d, "Cortex-A715", Isa::V9(0), Aarch32::No),
    one(0x41, 0xd4e, "Cortex-X3", Isa::V9(0), Aarch32::No),
    one(0x41, 0xd4f, "Neoverse-V2", Isa::V9(0), Aarch32::No),
    one(0x41, 0xd80, "Cortex-A520", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd81, "Cortex-A720", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd82, "Cortex-X4", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd83, "Neoverse-V3AE", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd84, "Neoverse-V3", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd85, "Cortex-X925", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd87, "Cortex-A725", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd88, "Cortex-A520AE", Isa::V9(2), Aarch32::Unknown),
    one(0x41, 0xd89, "Cortex-A720AE", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd8a, "C1-Nano", Isa::V9(3), Aarch32::No),
    one(0x41, 0xd8b, "C1-Pro", Isa::V9(3), Aarch32::No),
    one(0x41, 0xd8c, "C1-Ultra", Isa::V9(3), Aarch32::No),
    one(0x41, 0xd8e, "Neoverse-N3", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd8f, "Cortex-A320", Isa::V9(2), Aarch32::No),
    one(0x41, 0xd90, "C1-Premium", Isa::V9(3), Aarch32::No),
    // 0x42: Broadcom
    one(0x42, 0x00f, "Brahma-B15", Isa::V7, Aarch32::Yes),
    one(0x42, 0x100, "Brahma-B53", Isa::V8(0), Aarch32::Yes),
    one(0x42, 0x516, "ThunderX2", Isa::V8(1), Aarch32::No),
    // 0x43: Cavium
    one(0x43, 0x0a0, "ThunderX", Isa::V8(0), Aarch32::No),
    one(0x43, 0x0a1, "ThunderX-88XX", Isa::V8(0), Aarch32::No),
    one(0x43, 0x0a2, "ThunderX-81XX", Isa::V8(0), Aarch32::No),
    one(0x43, 0x0a3, "ThunderX-83XX", Isa::V8(0), Aarch32::No),
    one(0x43, 0x0af, "ThunderX2-99xx", Isa::V8(1), Aarch32::No),
    one(0x43, 0x0b0, "OcteonTX2", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b1, "OcteonTX2-98XX", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b2, "OcteonTX2-96XX", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b3, "OcteonTX2-95XX", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b4, "OcteonTX2-95XXN", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b5, "OcteonTX2-95XXMM", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b6, "OcteonTX2-95XXO", Isa::V8(2), Aarch32::Unknown),
    one(0x43, 0x0b8, "ThunderX3-T110", Isa::V8(3), Aarch32::Unknown),
    // 0x44: DEC
    one(0x44, 0xa10, "SA110", Isa::V4, Aarch32::Yes),
    one(0x44, 0xa11, "SA1100", Isa::V4, Aarch32::Yes),
    // 0x46: FUJITSU
    one(0x46, 0x001, "A64FX", Isa::V8(2), Aarch32::No),
    one(0x46, 0x003, "MONAKA", Isa::V9(3), Aarch32::Unknown),
    // 0x48: HiSilicon
    one(0x48, 0xd01, "Kunpeng-920", Isa::V8(2), Aarch32::Unknown),
    one(0x48, 0xd02, "Kunpeng-920", Isa::V8(5), Aarch32::Unknown),
    one(0x48, 0xd03, "Kunpeng-920", Isa::V8(5), Aarch32::Unknown),
    one(0x48, 0xd06, "Kunpeng-950", Isa::V8(5), Aarch32::Unknown),
    one(0x48, 0xd22, "Kunpeng-920", Isa::V8(5), Aarch32::Unknown),
    one(0x48, 0xd40, "Cortex-A76", Isa::V8(2), Aarch32::Yes),
    one(0x48, 0xd41, "Cortex-A77", Isa::V8(2), Aarch32::Unknown),
    one(0x48, 0xd42, "TaiShan V120 (Middle)", Isa::V8(5), Aarch32::Unknown),
    // 0x4e: NVIDIA
    one(0x4e, 0x000, "Denver", Isa::V8(0), Aarch32::Yes),
    one(0x4e, 0x003, "Denver-2", Isa::V8(0), Aarch32::Yes),
    one(0x4e, 0x004, "Carmel", Isa::V8(2), Aarch32::Unknown),
    one(0x4e, 0x010, "Olympus", Isa::V9(2), Aarch32::Unknown),
    // 0x50: APM
    one(0x50, 0x000, "X-Gene", Isa::V8(0), Aarch32::Yes),
    // 0x51: Qualcomm
    one(0x51, 0x001, "Oryon", Isa::V8(7), Aarch32::Unknown),
    one(0x51, 0x002, "Oryon", Isa::V8(7), Aarch32::Unknown),
    one(0x51, 0x00f, "Scorpion", Isa::V7, Aarch32::Yes),
    one(0x51, 0x02d, "Scorpion", Isa::V7, Aarch32::Yes),
    one(0x51, 0x04d, "Krait", Isa::V7, Aarch32::Yes),
    one(0x51, 0x06f, "Krait", Isa::V7, Aarch32::Yes),
    one(0x51, 0x200, "Kryo", Isa::V8(0), Aarch32::Unknown),
    one(0x51, 0x201, "Kryo", Isa::V8(0), Aarch32::Yes),
    one(0x51, 0x205, "Kryo", Isa::V8(0), Aarch32::Yes),
    one(0x51, 0x211, "Kryo", Isa::V8(0), Aarch32::Yes),
    one(0x51, 0x800, "Kryo-2XX-Gold", Isa::V8(0), Aarch32::Yes),
    one(0x51, 0x801, "Kryo-2XX-Silver", Isa::V8(0), Aarch32::Yes),
    one(0x51, 0x802, "Kryo-3XX-Gold", Isa::V8(2), Aarch32::Yes),
    one(0x51, 0x803, "Kryo-3XX-Silver", Isa::V8(2), Aarch32::Yes),
    one(0x51, 0x804, "Kryo-4XX-Gold", Isa::V8(2), Aarch32::Yes),
    one(0x51, 0x805, "Kryo-4XX-Silver", Isa::V8(2), Aarch32::Yes),
    one(0x51, 0xc00, "Falkor", Isa::V8(0), Aarch32::No),
    one(0x51, 0xc01, "Saphira", Isa::V8(3), Aarch32::Unknown),
    // 0x53: Samsung
    one(0x53, 0x001, "exynos-m1", Isa::V8(0), Aarch32::Yes),
    one(0x53, 0x002, "exynos-m3", Isa::V8(0), Aarch32::Yes),
    one(0x53, 0x003, "exynos-m4", Isa::V8(2), Aarch32::Yes),
    one(0x53, 0x004, "exynos-m5", Isa::V8(2), Aarch32::Unknown),
    // 0x54: Texas Instruments
    one(0x54, 0x915, "TI ARM915T", Isa::V4, Aarch32::Yes),
    one(0x54, 0x925, "TI ARM925T", Isa::V4, Aarch32::Yes),
    // 0x56: Marvell
    one(0x56, 0x131, "Feroceon-88FR131", Isa::V5, Aarch32::Yes),
    one(0x56, 0x331, "Feroceon 88FR331", Isa::V5, Aarch32::Yes),
    one(0x56, 0x531, "Feroceon 88FR531-vd", Isa::V5, Aarch32::Yes),
    one(0x56, 0x571, "Feroceon 88FR571-vd", Isa::V5, Aarch32::Yes),
    one(0x56, 0x581, "PJ4/PJ4b", Isa::V7, Aarch32::Yes),
    one(0x56, 0x584, "PJ4B-MP", Isa::V7, Aarch32::Yes),
    // 0x61: Apple. Part 0x000 is what its hypervisor shows to Linux guests; the 32-bit Swift of that
    // number never ran Linux.
    one(0x61, 0x000, "Apple virtual core", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x001, "Cyclone", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x002, "Typhoon", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x003, "Typhoon/Capri", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x004, "Twister", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x005, "Twister/Elba/Malta", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x006, "Hurricane", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x007, "Hurricane/Myst", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x008, "Monsoon", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x009, "Mistral", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x00b, "Vortex", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x00c, "Tempest", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x00f, "Tempest-M9", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x010, "Vortex/Aruba", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x011, "Tempest/Aruba", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x012, "Lightning", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x013, "Thunder", Isa::V8(0), Aarch32::Unknown),
    one(0x61, 0x020, "Icestorm-A14", Isa::V8(5), Aarch32::No),
    one(0x61, 0x021, "Firestorm-A14", Isa::V8(5), Aarch32::No),
    one(0x61, 0x022, "Icestorm-M1", Isa::V8(5), Aarch32::No),
    one(0x61, 0x023, "Firestorm-M1", Isa::V8(5), Aarch32::No),
    one(0x61, 0x024, "Icestorm-M1-Pro", Isa::V8(5), Aarch32::No),
    one(0x61, 0x025, "Firestorm-M1-Pro", Isa::V8(5), Aarch32::No),
    one(0x61, 0x026, "Thunder-M10", Isa::V8(4), Aarch32::Unknown),
    one(0x61, 0x028, "Icestorm-M1-Max", Isa::V8(5), Aarch32::No),
    one(0x61, 0x029, "Firestorm-M1-Max", Isa::V8(5), Aarch32::No),
    one(0x61, 0x030, "Blizzard-A15", Isa::V8(6), Aarch32::No),
    one(0x61, 0x031, "Avalanche-A15", Isa::V8(6), Aarch32::No),
    one(0x61, 0x032, "Blizzard-M2", Isa::V8(6), Aarch32::No),
    one(0x61, 0x033, "Avalanche-M2", Isa::V8(6), Aarch32::No),
    one(0x61, 0x034, "Blizzard-M2-Pro", Isa::V8(6), Aarch32::No),
    one(0x61, 0x035, "Avalanche-M2-Pro", Isa::V8(6), Aarch32::No),
    one(0x61, 0x036, "Sawtooth-A16", Isa::V8(6), Aarch32::Unknown),
    one(0x61, 0x037, "Everest-A16", Isa::V8(6), Aarch32::Unknown),
    one(0x61, 0x038, "Blizzard-M2-Max", Isa::V8(6), Aarch32::No),
    one(0x61, 0x039, "Avalanche-M2-Max", Isa::V8(6), Aarch32::No),
    // 0x66: Faraday
    one(0x66, 0x526, "FA526", Isa::V4, Aarch32::Yes),
    one(0x66, 0x626, "FA626", Isa::V5, Aarch32::Yes),
    // 0x69: Intel
    one(0x69, 0x200, "i80200", Isa::V5, Aarch32::Yes),
    one(0x69, 0x210, "PXA250A", Isa::V5, Aarch32::Yes),
    one(0x69, 0x212, "PXA210A", Isa::V5, Aarch32::Yes),
    one(0x69, 0x242, "i80321-400", Isa::V5, Aarch32::Yes),
    one(0x69, 0x243, "i80321-600", Isa::V5, Aarch32::Yes),
    one(0x69, 0x290, "PXA250B/PXA26x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x292, "PXA210B", Isa::V5, Aarch32::Yes),
    one(0x69, 0x2c2, "i80321-400-B0", Isa::V5, Aarch32::Yes),
    one(0x69, 0x2c3, "i80321-600-B0", Isa::V5, Aarch32::Yes),
    one(0x69, 0x2d0, "PXA250C/PXA255/PXA26x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x2d2, "PXA210C", Isa::V5, Aarch32::Yes),
    one(0x69, 0x401, "IOP8033x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x404, "IXP43x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x411, "PXA27x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x419, "IXP2400", Isa::V5, Aarch32::Yes),
    one(0x69, 0x41a, "IXP2800", Isa::V5, Aarch32::Yes),
    one(0x69, 0x41c, "IPX425-533", Isa::V5, Aarch32::Yes),
    one(0x69, 0x41d, "IPX425-400", Isa::V5, Aarch32::Yes),
    one(0x69, 0x41f, "IPX425-266", Isa::V5, Aarch32::Yes),
    one(0x69, 0x682, "PXA32x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x683, "PXA930/PXA935", Isa::V5, Aarch32::Yes),
    one(0x69, 0x688, "PXA30x", Isa::V5, Aarch32::Yes),
    one(0x69, 0x689, "PXA31x", Isa::V5, Aarch32::Yes),
    one(0x69, 0xb11, "SA1110", Isa::V4, Aarch32::Yes),
    one(0x69, 0xc12, "IPX1200", Isa::V4, Aarch32::Yes),
    // 0x6d: Microsoft
    one(0x6d, 0xd49, "Azure-Cobalt-100", Isa::V9(0), Aarch32::Unknown),
    // 0x70: Phytium
    one(0x70, 0x303, "FTC310", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x660, "FTC660", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x661, "FTC661", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x662, "FTC662", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x663, "FTC663", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x664, "FTC664", Isa::V8(0), Aarch32::Unknown),
    one(0x70, 0x862, "FTC862", Isa::V8(2), Aarch32::Unknown),
    // 0xc0: Ampere
    one(0xc0, 0xac3, "Ampere-1", Isa::V8(6), Aarch32::Unknown),
    one(0xc0, 0xac4, "Ampere-1a", Isa::V8(6), Aarch32::Unknown),
    // Families whose part number carries a stepping or a clock (the masks of proc-*.S); after the single parts.
    span(0x41, 0x700, 0x70f, "ARM7TDMI", Isa::V4, Aarch32::Yes),
    span(0x41, 0x990, 0x99f, "ARM9TDMI", Isa::V4, Aarch32::Yes),
    span(0x51, 0x040, 0x07f, "Krait", Isa::V7, Aarch32::Yes),
    span(0x56, 0x580, 0x58f, "PJ4", Isa::V7, Aarch32::Yes),
    span(0x56, 0x600, 0x7ff, "XScale-V3 PXA3xx", Isa::V5, Aarch32::Yes),
    span(0x56, 0x800, 0x8ff, "Mohawk", Isa::V5, Aarch32::Yes),
    span(0x69, 0x2e2, 0x2e3, "XScale 80219", Isa::V5, Aarch32::Yes),
    span(0x69, 0x41c, 0x41f, "IXP42x", Isa::V5, Aarch32::Yes),
    span(0x69, 0x420, 0x42f, "IXP46x", Isa::V5, Aarch32::Yes),
    span(0x69, 0x600, 0x7ff, "XScale-V3 PXA3xx", Isa::V5, Aarch32::Yes),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_1_is_v6_and_a_pi_3_is_v8_with_aarch32() {
        assert_eq!(lookup(0x41, 0xb76).map(|c| (c.name, c.isa)), Some(("ARM1176", Isa::V6)));
        assert_eq!(lookup(0x41, 0xd03).map(|c| (c.isa, c.aarch32)), Some((Isa::V8(0), Aarch32::Yes)));
        assert_eq!(lookup(0x41, 0xfff), None);
        assert_eq!(lookup(0x99, 0xd03), None);
    }

    #[test]
    fn families_cover_the_parts_between() {
        for (implementer, part, isa) in
            [(0x51, 0x06a, Isa::V7), (0x56, 0x840, Isa::V5), (0x69, 0x42b, Isa::V5), (0x56, 0x58c, Isa::V7)]
        {
            assert_eq!(lookup(implementer, part).map(|c| c.isa), Some(isa), "{implementer:#x}/{part:#x}");
        }
        assert_eq!(lookup(0x69, 0x683).map(|c| c.name), Some("PXA930/PXA935"), "single parts come first");
    }

    #[test]
    fn v9_is_ranked_by_the_v8_that_it_contains() {
        assert!(Isa::V9(0).rank() > Isa::V8(5).rank());
        assert!(Isa::V9(0).rank() < Isa::V8(6).rank());
        assert!(Isa::V8Only32.rank() < Isa::V8(0).rank());
        assert!(Isa::M.rank() < Isa::V4.rank());
    }

    #[test]
    fn the_table_is_consistent() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.first <= row.last && !row.core.name.is_empty());
            let old = matches!(row.core.isa, Isa::V4 | Isa::V5 | Isa::V6 | Isa::V7 | Isa::V8Only32);
            assert!(!old || row.core.aarch32 == Aarch32::Yes, "{}", row.core.name);
            // A single part hidden by an earlier row would never be found.
            let before = &TABLE[..at];
            let hides =
                |b: &&Row| b.implementer == row.implementer && b.first <= row.first && row.last <= b.last;
            assert!(!before.iter().any(|b| hides(&b)), "{} is hidden", row.core.name);
        }
    }
}
