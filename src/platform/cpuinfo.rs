//! Reads `/proc/cpuinfo` as every Arm kernel has ever written it, in fixed memory.
//!
//! The file is for people, and its form has changed: `Processor` became `model name` in Linux 3.8,
//! 2.4 wrote `CPU implementor`, the fields came once for all cores before they came per core, vendors
//! reorder them. So nothing here depends on order: lines are fed in chunks of any size, keys are
//! compared by their letters and digits alone, and an implementer is paired with the part number that
//! stands nearest. What is missing stays missing, for stronger or weaker evidence to decide.

use std::fmt::Write;

use super::machine::{self, Word};

/// Most bytes of a cpuinfo that are looked at; a 1024-core server writes less than half of it.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Longest line kept, in bytes; the longest known one (x86 `flags`) has about 1900.
pub const MAX_LINE: usize = 2560;
/// Most different cores kept apart; real systems on chip mix at most four.
pub const MAX_CORES: usize = 8;

/// The features line, names separated by one space.
pub type Features = heapless::String<MAX_LINE>;

/// One kind of core and how often it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// MIDR implementer, where the file says it.
    pub implementer: Option<u16>,
    /// MIDR part number, where the file says it.
    pub part: Option<u16>,
    /// How many cores of this kind.
    pub count: u16,
}

/// Whose cpuinfo it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// It has the fields of an Arm kernel.
    Arm,
    /// It has the fields of an x86 kernel.
    X86,
    /// It has the `isa` of a RISC-V kernel.
    RiscV,
    /// It has neither.
    Unknown,
}

/// What a cpuinfo says.
#[derive(Clone, Debug, Default)]
pub struct Cpuinfo {
    /// The different cores, in the order of the file.
    pub cores: heapless::Vec<Listed, MAX_CORES>,
    /// True when there were more kinds of cores than [`MAX_CORES`].
    pub cores_dropped: bool,
    /// The first model name.
    pub model_name: heapless::String<96>,
    /// The least capable suffix such as `(v6l)` of all model names.
    pub suffix: Option<Word>,
    /// `CPU architecture` of the least capable core.
    pub architecture: Option<Word>,
    /// The features that every core has; `None` where no such line was seen.
    pub features: Option<Features>,
    /// True when a features line was longer than [`MAX_LINE`], so that absence proves nothing.
    pub features_cut: bool,
    /// True when there was more than [`MAX_BYTES`].
    pub cut: bool,
    has_flags: bool,
    has_vendor: bool,
    has_isa: bool,
}

impl Cpuinfo {
    /// Parses a whole recorded file.
    pub fn parse(bytes: &[u8]) -> Cpuinfo {
        let mut parser = Parser::new();
        parser.feed(bytes);
        parser.finish()
    }

    /// Whose file this is; decides whether it can be about the machine at hand.
    pub fn family(&self) -> Family {
        let arm = !self.cores.is_empty() || self.architecture.is_some() || self.suffix.is_some();
        match (arm, self.has_flags, self.has_vendor) {
            (true, ..) => Family::Arm,
            _ if self.has_isa => Family::RiscV,
            (false, true, true) => Family::X86,
            (false, false, false) if self.features.is_some() => Family::Arm,
            _ => Family::Unknown,
        }
    }

    /// Whether all cores have the feature; `None` where the file does not tell.
    pub fn has(&self, feature: &str) -> Option<bool> {
        let listed = self.features.as_ref()?.split(' ').any(|f| f == feature);
        if !listed && self.features_cut { None } else { Some(listed) }
    }

    /// Whether all cores have a floating-point unit; `None` where the file does not tell. 64-bit kernels
    /// call it `fp`, 32-bit ones `vfp` with an edition behind it; they only say `neon` where there is a VFP.
    pub fn has_vfp(&self) -> Option<bool> {
        let is_vfp = |f: &str| f.starts_with("vfp") || matches!(f, "fp" | "asimd" | "neon");
        let listed = self.features.as_ref()?.split(' ').any(is_vfp);
        if !listed && self.features_cut { None } else { Some(listed) }
    }
}

/// Several numbers on one line: `0xc07 & 0xc0f`.
type Numbers = heapless::Vec<u16, 4>;

/// The incremental reader: [`feed`](Parser::feed) chunks, then [`finish`](Parser::finish).
pub struct Parser {
    line: heapless::Vec<u8, MAX_LINE>,
    line_cut: bool,
    fed: usize,
    implementers: Numbers,
    parts: Numbers,
    info: Cpuinfo,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// A reader that has seen nothing.
    pub fn new() -> Parser {
        Parser {
            line: heapless::Vec::new(),
            line_cut: false,
            fed: 0,
            implementers: Numbers::new(),
            parts: Numbers::new(),
            info: Cpuinfo::default(),
        }
    }

    /// Takes the next bytes; true while more are of use.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let room = MAX_BYTES - self.fed;
        let taken = &bytes[..bytes.len().min(room)];
        self.info.cut |= taken.len() < bytes.len();
        self.fed += taken.len();
        for &byte in taken {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                // Binary junk and UTF-16 pad with zeros; no field has them.
                0 => {}
                _ => self.line_cut |= self.line.push(byte).is_err(),
            }
        }
        !self.info.cut
    }

    /// What was read.
    pub fn finish(mut self) -> Cpuinfo {
        // The last line of a file that was cut by us may be half a number.
        if !self.info.cut {
            self.end_line();
        }
        self.end_core();
        self.info
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.line_cut);
        match line.iter().position(|&b| b == b':') {
            Some(colon) => self.field(&line[..colon], line[colon + 1..].trim_ascii(), cut),
            None if line.trim_ascii().is_empty() && self.core_is_complete() => self.end_core(),
            None => {}
        }
    }

    fn field(&mut self, key: &[u8], value: &[u8], cut: bool) {
        if value.is_empty() {
            return;
        }
        let key = letters(key);
        match key.as_str() {
            "cpuimplementer" | "cpuimplementor" => self.implementer(value),
            "cpupart" => self.part(value),
            "cpuarchitecture" => {
                let word = machine::architecture_field(&printable::<16>(value));
                self.info.architecture = least(self.info.architecture.take(), word);
            }
            "modelname" | "processorname" => self.model(value),
            "processor" if value.iter().all(u8::is_ascii_digit) => self.next_processor(),
            // Before 3.8 the model, where the case of the P may have been lost.
            "processor" => self.model(value),
            "features" => self.features(words(value, cut), cut, false),
            "flags" => self.features(words(value, cut), cut, true),
            "isa" => {
                self.info.has_isa = true;
                self.features(extensions(value, cut), cut, true);
            }
            "vendorid" => self.info.has_vendor = true,
            _ => {}
        }
    }

    /// A core's number: a boundary, unless it stands amid the core's own fields.
    fn next_processor(&mut self) {
        if self.core_is_complete() {
            self.end_core();
        }
    }

    fn model(&mut self, value: &[u8]) {
        let model: heapless::String<96> = printable(value);
        self.info.suffix = least(self.info.suffix.take(), machine::model_suffix(&model));
        if self.info.model_name.is_empty() {
            self.info.model_name = model;
        }
    }

    fn implementer(&mut self, value: &[u8]) {
        if !self.implementers.is_empty() {
            self.end_core();
        }
        self.implementers = numbers(value);
    }

    fn part(&mut self, value: &[u8]) {
        if !self.parts.is_empty() {
            self.end_core();
        }
        self.parts = numbers(value);
    }

    fn core_is_complete(&self) -> bool {
        !self.implementers.is_empty() && !self.parts.is_empty()
    }

    /// Pairs what was seen since the last core. One implementer stands for all parts beside it.
    fn end_core(&mut self) {
        let implementers = std::mem::take(&mut self.implementers);
        let parts = std::mem::take(&mut self.parts);
        for at in 0..implementers.len().max(parts.len()) {
            let implementer = implementers.get(at).or(implementers.first()).copied();
            let part = parts.get(at).or(parts.first()).copied();
            self.count(implementer, part);
        }
    }

    fn count(&mut self, implementer: Option<u16>, part: Option<u16>) {
        let info = &mut self.info;
        let same = |core: &&mut Listed| core.implementer == implementer && core.part == part;
        match info.cores.iter_mut().find(same) {
            Some(core) => core.count = core.count.saturating_add(1),
            None => info.cores_dropped |= info.cores.push(Listed { implementer, part, count: 1 }).is_err(),
        }
    }

    /// Keeps what all cores have. An Arm file's own line replaces the `flags` of another machine.
    fn features(&mut self, seen: Features, cut: bool, flags: bool) {
        if flags && self.info.features.is_some() && !self.info.has_flags {
            return;
        }
        let replaces = self.info.has_flags && !flags;
        self.info.has_flags = flags;
        self.info.features_cut |= cut;
        self.info.features = match self.info.features.take() {
            Some(before) if !replaces && before != seen => Some(common(&before, &seen)),
            _ => Some(seen),
        };
    }
}

/// The key's letters and digits in lower case: kernels and terminals differ in all else.
fn letters(key: &[u8]) -> heapless::String<24> {
    let mut letters = heapless::String::new();
    for byte in key.iter().filter(|b| b.is_ascii_alphanumeric()) {
        if letters.push(byte.to_ascii_lowercase() as char).is_err() {
            letters.clear();
            break;
        }
    }
    letters
}

/// The printable part of a value, cut to the room there is.
fn printable<const N: usize>(value: &[u8]) -> heapless::String<N> {
    let mut text = heapless::String::new();
    for &byte in value {
        let c = if byte.is_ascii_graphic() { byte as char } else { ' ' };
        if text.push(c).is_err() {
            break;
        }
    }
    text
}

/// All hexadecimal numbers of a value; other words are passed over.
fn numbers(value: &[u8]) -> Numbers {
    let mut numbers = Numbers::new();
    for word in value.split(|b| !b.is_ascii_alphanumeric()) {
        let Ok(word) = std::str::from_utf8(word) else { continue };
        let Some(digits) = word.strip_prefix("0x").or(word.strip_prefix("0X")) else { continue };
        if let Ok(number) = u16::from_str_radix(digits, 16) {
            // More than four on a line is not a known form; the first four are enough to be careful.
            let _ = numbers.push(number);
        }
    }
    numbers
}

/// The words of a value in lower case with one space between; of a cut line, without the last, half one.
fn words(value: &[u8], cut: bool) -> Features {
    let mut features = Features::new();
    for word in value.split(|b| !b.is_ascii_graphic()).filter(|w| !w.is_empty()) {
        let Ok(word) = std::str::from_utf8(word) else { continue };
        let space = if features.is_empty() { "" } else { " " };
        // Cannot overflow: the line that it comes from had no more room.
        let _ = write!(features, "{space}{word}");
    }
    features.make_ascii_lowercase();
    if cut {
        let end = features.rfind(' ').unwrap_or(0);
        features.truncate(end);
    }
    features
}

/// The extensions in RISC-V's `isa` (arch/riscv/kernel/cpu.c, `print_isa`): `rv64imafdc_zicbom_zba` has one-letter ones
/// without anything between, of which `g` stands for `imafd`, and then long ones.
fn extensions(value: &[u8], cut: bool) -> Features {
    let value = value.trim_ascii().to_ascii_lowercase();
    let text = std::str::from_utf8(&value).unwrap_or_default();
    let mut names = text.split('_');
    let first = names.next().unwrap_or_default();
    let letters = first.strip_prefix("rv64").or(first.strip_prefix("rv32")).unwrap_or_default();
    let mut features = Features::new();
    for letter in
        letters.chars().flat_map(|letter| if letter == 'g' { "imafd" } else { "" }.chars().chain([letter]))
    {
        let space = if features.is_empty() { "" } else { " " };
        // What does not fit proves nothing by its absence: the line was cut then.
        let _ = write!(features, "{space}{letter}");
    }
    for name in names {
        let _ = write!(features, " {name}");
    }
    if cut {
        let end = features.rfind(' ').unwrap_or(0);
        features.truncate(end);
    }
    features
}

/// The words of `a` that `b` has too.
fn common(a: &Features, b: &Features) -> Features {
    let mut both = Features::new();
    for word in a.split(' ').filter(|word| b.split(' ').any(|other| other == *word)) {
        let space = if both.is_empty() { "" } else { " " };
        let _ = write!(both, "{space}{word}");
    }
    both
}

/// The less capable of two.
fn least(a: Option<Word>, b: Option<Word>) -> Option<Word> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.rank() < a.rank() { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI_2: &str = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 5 (v7l)\n\
        Features\t: half thumb vfp neon \nCPU implementer\t: 0x41\nCPU architecture: 7\n\
        CPU part\t: 0xc07\nCPU revision\t: 5\n\nprocessor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xc07\n";

    fn cores(text: &str) -> Vec<(Option<u16>, Option<u16>, u16)> {
        Cpuinfo::parse(text.as_bytes()).cores.iter().map(|c| (c.implementer, c.part, c.count)).collect()
    }

    #[test]
    fn chunks_of_any_size_give_the_same() {
        let whole = format!("{:?}", Cpuinfo::parse(PI_2.as_bytes()));
        assert!(whole.contains("half thumb vfp neon") && whole.contains("count: 2"), "{whole}");
        for size in 1..PI_2.len() {
            let mut parser = Parser::new();
            assert!(PI_2.as_bytes().chunks(size).all(|chunk| parser.feed(chunk)));
            assert_eq!(format!("{:?}", parser.finish()), whole, "chunks of {size}");
        }
    }

    #[test]
    fn fields_are_paired_in_any_order() {
        let want = vec![(Some(0x41), Some(0xd05), 1), (Some(0x51), Some(0x805), 1)];
        for text in [
            "CPU part: 0xd05\nCPU implementer: 0x41\n\nCPU part: 0x805\nCPU implementer: 0x51\n",
            "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd05\nprocessor: 1\nCPU implementer: 0x51\nCPU part: 0x805",
            "CPU implementor\t:0x41\nCPU part\t:0xd05\nCPU implementor\t:0x51\nCPU part\t:0x805",
            "CPU implementer: 0x41 & 0x51\nCPU part: 0xd05 & 0x805",
        ] {
            assert_eq!(cores(text), want, "{text}");
        }
        assert_eq!(
            cores("CPU implementer: 0x41\nCPU part: 0xc07 & 0xc0f\n"),
            [(Some(0x41), Some(0xc07), 1), (Some(0x41), Some(0xc0f), 1)]
        );
    }

    #[test]
    fn what_is_missing_stays_missing() {
        assert_eq!(cores("CPU implementer: 0x41\nCPU architecture: 7\n"), [(Some(0x41), None, 1)]);
        assert_eq!(cores("CPU part: 0xb76\n"), [(None, Some(0xb76), 1)]);
        assert_eq!(cores("CPU implementer: 0x12345\nCPU part: none\n"), []);
        assert_eq!(Cpuinfo::parse(b"Features\t: \n").has_vfp(), None, "an empty line tells nothing");
    }

    #[test]
    fn the_least_model_and_architecture_count() {
        let info = Cpuinfo::parse(
            b"Processor: A (v7l)\nCPU architecture: 7\nmodel name: B (v6l)\nCPU architecture: 6TEJ\n",
        );
        assert_eq!(info.suffix.map(|word| word.level), Some(6));
        assert_eq!(info.architecture.map(|word| word.level), Some(6));
        assert_eq!(info.model_name, "A (v7l)");
    }

    #[test]
    fn an_arm_file_is_known_from_an_x86_one() {
        assert_eq!(Cpuinfo::parse(PI_2.as_bytes()).family(), Family::Arm);
        assert_eq!(Cpuinfo::parse(b"vendor_id: X\nmodel name: Y (v2)\nflags: lm\n").family(), Family::X86);
        let riscv =
            Cpuinfo::parse(b"processor\t: 0\nhart\t: 0\nisa\t\t: rv64imafdcv_zicbom_zba\nmmu\t\t: sv39\n");
        assert_eq!(riscv.family(), Family::RiscV);
        assert!(["i", "v", "zicbom", "zba"].iter().all(|name| riscv.has(name) == Some(true)));
        assert_eq!((riscv.has("zbb"), riscv.has("zicbo")), (Some(false), Some(false)));
        let two = Cpuinfo::parse(b"isa: rv64gc_zba_zbb\n\nisa: rv64imafdc_zba\n");
        assert_eq!(two.features.as_deref(), Some("i m a f d c zba"), "what all cores have");
    }
}
