//! From observations to the ordered list of platforms: the rules, strongest evidence first.
//!
//! Two principles. *The least capable wins*: of all cores, and of all that the stronger evidence says,
//! because an image for too little runs and one for too much is killed by SIGILL. *Nothing is guessed*:
//! 32-bit programs on a 64-bit kernel only where the kernel or the core is known to run them.

use std::fmt;

use super::candidates::{self, Candidates, push, text};
use super::cpuinfo::Family;
use super::evidence::{Evidence, Origin, Source};
use super::extensions;
use super::machine::{Machine, Width, Word};
use super::midr::{Aarch32, Core};
use super::variant::{Name, Platform};

/// ELF `e_machine` values (gABI registry).
const EM_ARM: u16 = 40;
const EM_AARCH64: u16 = 183;
const EM_386: u16 = 3;

/// Why no image can run.
pub type Refusal = heapless::String<200>;

/// What the evidence amounts to.
pub(super) struct Verdict {
    /// Best first; empty where nothing can run.
    pub candidates: Candidates,
    /// Why nothing can run.
    pub refusal: Option<Refusal>,
    /// True where the kernel is a 32-bit Arm one.
    pub arm_32_bit_kernel: bool,
}

impl Verdict {
    fn refuse(reason: fmt::Arguments<'_>) -> Verdict {
        let refusal = Some(text(reason));
        Verdict { candidates: Candidates::new(), refusal, arm_32_bit_kernel: false }
    }

    fn run(candidates: Candidates) -> Verdict {
        Verdict { candidates, refusal: None, arm_32_bit_kernel: false }
    }
}

/// Decides, and notes in the evidence which of it did.
pub(super) fn decide(evidence: &mut Evidence) -> Verdict {
    match evidence.uname() {
        Some(Machine::Other(architecture)) => other(evidence, architecture),
        None | Some(Machine::Unknown) if evidence.cpuinfo.family() == Family::X86 => x86_by_flags(evidence),
        _ => arm(evidence),
    }
}

/// A kernel that is not Arm: `uname -m` says it all, except which levels of x86-64.
fn other(evidence: &mut Evidence, architecture: Name) -> Verdict {
    evidence.decided(Source::Machine);
    let mut list = Candidates::new();
    let machine = evidence.machine.clone().unwrap_or_default();
    let why = format_args!("uname -m is {machine}");
    if architecture != "amd64" {
        let little = evidence.userland.as_ref().is_some_and(|userland| !userland.big_endian);
        let architecture = match architecture.as_str() {
            // uname -m does not tell the byte order of MIPS; an installed program does.
            "mips" if little => "mipsle",
            "mips64" if little => "mips64le",
            architecture => architecture,
        };
        if architecture == "riscv64" {
            candidates::push_riscv64(&mut list, |name| evidence.has(name));
        }
        push(&mut list, Platform::new("linux", architecture, ""), why);
        return Verdict::run(list);
    }
    let i386 = Platform::new("linux", "386", "");
    if let Some(userland) = evidence.userland.clone().filter(|u| u.bits == 32 && u.machine == EM_386) {
        evidence.decided(Source::Userland);
        let file = userland.file;
        push(
            &mut list,
            i386.clone(),
            format_args!("the installed userland is 32-bit ({file}); the kernel is 64-bit"),
        );
    }
    candidates::push_amd64(&mut list, |flag| evidence.has(flag), why);
    push(&mut list, i386, format_args!("a 64-bit x86 kernel usually runs 32-bit programs"));
    Verdict::run(list)
}

/// A recorded x86 cpuinfo without a usable `uname -m`: the flag `lm` is the 64-bit mode.
fn x86_by_flags(evidence: &mut Evidence) -> Verdict {
    evidence.decided(Source::Features);
    let mut list = Candidates::new();
    let has = |flag: &str| evidence.cpuinfo.has(flag) == Some(true);
    if has("lm") {
        candidates::push_amd64(&mut list, has, format_args!("an x86 cpuinfo with the flag lm (64-bit mode)"));
    }
    push(&mut list, Platform::new("linux", "386", ""), format_args!("an x86 cpuinfo"));
    Verdict::run(list)
}

/// An Arm kernel, or at least an Arm cpuinfo.
fn arm(evidence: &mut Evidence) -> Verdict {
    if let Some(verdict) = unsupported(evidence) {
        return verdict;
    }
    let core = evidence.least_core();
    let Some(level) = Level::of(evidence, core) else {
        return nothing_known(evidence);
    };
    evidence.decided(level.source);
    let (width, width_source) = kernel_width(evidence, core, &level);
    if level.number == 8
        && let Some(source) = width_source
    {
        evidence.decided(source);
    }
    match width {
        Width::Bits32 => {
            let candidates = arm_on_32_bits(evidence, core, &level, width_source);
            Verdict { arm_32_bit_kernel: true, ..Verdict::run(candidates) }
        }
        _ => Verdict::run(arm_on_64_bits(evidence, core, &level, width)),
    }
}

/// Boards that no image is made for: by their cores, by the kernel's words, by the userland.
fn unsupported(evidence: &mut Evidence) -> Option<Verdict> {
    if let Some(core) = evidence.least_core() {
        let name = core.name;
        let refusal = match core.isa.level() {
            None => Verdict::refuse(format_args!("{name} is of the {}, {NO_IMAGES}", core.isa)),
            Some(..5) => Verdict::refuse(format_args!("{name} is {}: {TOO_OLD}", core.isa)),
            Some(_) => return unsupported_words(evidence, true),
        };
        evidence.decided(Source::Cores);
        return Some(refusal);
    }
    unsupported_words(evidence, false)
}

const BIG_ENDIAN: &str = "big-endian; images for Arm are little-endian";
const NO_IMAGES: &str = "for which no images are made";
const TOO_OLD: &str = "the oldest Arm platform that images are made for is linux/arm/v5";

fn unsupported_words(evidence: &mut Evidence, core_is_known: bool) -> Option<Verdict> {
    // Words of the kernel count even against the core: they are about the kernel that runs on it.
    let words = kernel_words(evidence);
    let silent = words.iter().all(|(_, word)| word.as_ref().is_none_or(|word| word.level == 0));
    // The field is the weakest evidence, but nothing except an M-profile kernel writes 7M.
    let field = architecture_field(evidence).filter(|field| !core_is_known && (silent || field.m_profile));
    for (source, word) in words.into_iter().chain([(Source::Architecture, field)]) {
        if let Some(refusal) = word.and_then(|word| unsupported_word(describe(source), &word)) {
            evidence.decided(source);
            return Some(refusal);
        }
    }
    let is_arm = |machine: u16| machine == EM_ARM || machine == EM_AARCH64;
    let userland =
        evidence.userland.as_ref().filter(|userland| userland.big_endian && is_arm(userland.machine))?;
    let refusal = Verdict::refuse(format_args!("{} is {BIG_ENDIAN}", userland.file));
    evidence.decided(Source::Userland);
    Some(refusal)
}

fn unsupported_word(what: &str, word: &Word) -> Option<Verdict> {
    if word.big_endian {
        Some(Verdict::refuse(format_args!("{what} is {word}, {BIG_ENDIAN}")))
    } else if word.m_profile {
        Some(Verdict::refuse(format_args!("{what} is {word}: a microcontroller, {NO_IMAGES}")))
    } else if (1..5).contains(&word.level) {
        Some(Verdict::refuse(format_args!("{what} is {word}: {TOO_OLD}")))
    } else {
        None
    }
}

fn nothing_known(evidence: &Evidence) -> Verdict {
    match (&evidence.machine, evidence.uname()) {
        (Some(machine), Some(Machine::Unknown)) => Verdict::refuse(format_args!(
            "uname -m is '{machine}', which no image platform is named after; give --platform"
        )),
        _ if evidence.origin == Origin::Unreadable => Verdict::refuse(format_args!(
            "nothing tells which CPU this is, as /proc is missing: mount -t proc proc /proc"
        )),
        _ => Verdict::refuse(format_args!(
            "nothing tells which CPU this is; give --machine (uname -m) or --platform"
        )),
    }
}

/// The architecture version that all evidence agrees to, and which evidence set it.
struct Level {
    number: u8,
    source: Source,
    word: Option<Word>,
}

impl Level {
    fn of(evidence: &Evidence, core: Option<&'static Core>) -> Option<Level> {
        let by_core = core.and_then(|core| core.isa.level());
        let words = kernel_words(evidence).into_iter();
        let words = words.filter_map(|(source, word)| Some((source, word.filter(|word| word.level > 0)?)));
        let by_word = words.min_by_key(|(_, word)| word.level);
        match (by_core, by_word) {
            (Some(number), Some((source, word))) if word.level < number => {
                Some(Level { number: word.level, source, word: Some(word) })
            }
            (Some(number), _) => Some(Level { number, source: Source::Cores, word: None }),
            (None, Some((source, word))) => Some(Level { number: word.level, source, word: Some(word) }),
            (None, None) => Level::by_architecture_field(evidence),
        }
    }

    /// The weakest evidence: a v6 core prints 7 under newer kernels, but also `java` (Jazelle), which the
    /// kernel never says of a v7 core (HWCAP_JAVA in proc-v6.S, not in proc-v7.S).
    fn by_architecture_field(evidence: &Evidence) -> Option<Level> {
        let word = architecture_field(evidence)?;
        let jazelle = evidence.own_cpuinfo()?.has("java") == Some(true);
        let number = if word.level == 7 && jazelle { 6 } else { word.level };
        Some(Level { number, source: Source::Architecture, word: Some(word) })
    }
}

fn architecture_field(evidence: &Evidence) -> Option<Word> {
    evidence.own_cpuinfo()?.architecture.clone()
}

/// What the kernel calls the CPU, in equal rank.
fn kernel_words(evidence: &Evidence) -> [(Source, Option<Word>); 3] {
    let uname = match evidence.uname() {
        Some(Machine::Arm(word)) => Some(word),
        _ => None,
    };
    let at_platform = evidence.at_platform_word();
    let is_64 = [&uname, &at_platform].into_iter().flatten().any(|word| word.level == 8);
    // Vendors' 64-bit kernels may show 32-bit programs a v7 text; uname and a 64-bit core know better.
    let mere_text = is_64 && evidence.least_core().is_some_and(|core| core.isa.has_aarch64());
    let suffix = evidence.own_cpuinfo().and_then(|info| info.suffix.clone()).filter(|_| !mere_text);
    [(Source::AtPlatform, at_platform), (Source::Machine, uname), (Source::ModelName, suffix)]
}

/// The kernel's width and, where something told, what did. Never from the core alone: v8 cores run
/// 32-bit kernels too.
fn kernel_width(evidence: &Evidence, core: Option<&'static Core>, level: &Level) -> (Width, Option<Source>) {
    if level.number < 8 || core.is_some_and(|core| !core.isa.has_aarch64()) {
        return (Width::Bits32, None);
    }
    let field = architecture_field(evidence);
    let words = kernel_words(evidence);
    let uname = words[1].1.as_ref().map(|word| word.width);
    match (uname, field.as_ref().map(|word| word.width)) {
        // Some vendors' 32-bit kernels say armv8l; what they cannot hide is the 7 of cpu_architecture().
        (Some(Width::Compat), Some(Width::Bits32)) => return (Width::Bits32, Some(Source::Architecture)),
        (Some(width @ (Width::Bits64 | Width::Compat)), _) => return (width, Some(Source::Machine)),
        _ => {}
    }
    for (source, word) in words {
        if word.is_some_and(|word| matches!(word.width, Width::Bits64 | Width::Compat)) {
            return (Width::Bits64, Some(source));
        }
    }
    if let Some(field) = field {
        return (field.width, Some(Source::Architecture));
    }
    let info = evidence.own_cpuinfo();
    let is_32 = info.is_some_and(|info| info.has("asimd") == Some(false) && info.has("half") == Some(true));
    match (is_32, info.is_some_and(|info| info.features.is_some())) {
        (true, _) => (Width::Bits32, Some(Source::Features)),
        (false, true) => (Width::Bits64, Some(Source::Features)),
        (false, false) => (Width::Bits64, None),
    }
}

/// A 32-bit kernel: the version and everything below, unless there are no hard floats.
fn arm_on_32_bits(
    evidence: &mut Evidence,
    core: Option<&'static Core>,
    level: &Level,
    width: Option<Source>,
) -> Candidates {
    let mut list = Candidates::new();
    let number = level.number.min(7);
    // Images for v6 and v7 are built for hard floats (VFPv2, VFPv3-D16); v5 ones are not.
    if number > 5 && evidence.own_cpuinfo().and_then(|info| info.has_vfp()) == Some(false) {
        evidence.decided(Source::Features);
        let why = Why { evidence, core, level, width };
        let reason =
            format_args!("{why}, but Features has no vfp: hard-float images (v6, v7) would be killed");
        candidates::push_arm(&mut list, 5, false, reason);
        return list;
    }
    let all_v8 = evidence.all_cores(|core| core.isa.level() == Some(8));
    let by_word = evidence.cpuinfo.cores.is_empty() && level.number == 8;
    let why = Why { evidence, core, level, width };
    candidates::push_arm(&mut list, number, all_v8 || by_word, format_args!("{why}"));
    list
}

/// A 64-bit kernel: arm64 and, where 32-bit programs run, arm; the installed userland's width first.
fn arm_on_64_bits(
    evidence: &mut Evidence,
    core: Option<&'static Core>,
    level: &Level,
    width: Width,
) -> Candidates {
    let mut list = Candidates::new();
    let proof = runs_aarch32(evidence);
    let userland =
        evidence.userland.clone().filter(|userland| userland.bits == 32 && userland.machine == EM_ARM);
    let first_32 = userland.is_some() || (width == Width::Compat && evidence.userland.is_none());
    let before = first_32 && proof.is_some();
    if let (true, Some(userland)) = (before, &userland) {
        evidence.decided(Source::Userland);
        let file = userland.file;
        let why = format_args!("the installed userland is 32-bit ({file}) on a 64-bit kernel");
        candidates::push_arm(&mut list, 7, true, why);
    } else if before {
        let why = format_args!("uname -m is armv8l, a 64-bit kernel asked for its 32-bit side");
        candidates::push_arm(&mut list, 7, true, why);
    }
    let why =
        Why { evidence, core, level, width: Some(Source::Machine).filter(|_| evidence.machine.is_some()) };
    let later = if before { ", and the kernel is 64-bit" } else { "" };
    push(&mut list, candidates::arm64(8, 0), format_args!("{why}{later}"));
    let has = |feature: &str| evidence.has(feature);
    if let Some(core) = core.filter(|_| evidence.all_cores(|_| true)) {
        // Only the 64-bit view of Features could list it.
        let sve2 = has("sve2") || !has("asimd");
        let why = format_args!("{} is {}: entries that are labelled so run", core.name, core.isa);
        candidates::push_arm64_above(&mut list, core.isa, sve2, why);
    } else {
        // What all cores have; those that are known may be less than the others. Cores beyond a cut may have less.
        let proven = extensions::proven(|feature| has(feature) && !evidence.cpuinfo.cut);
        let isa = core.map(|core| core.isa).filter(|isa| isa.rank() < proven.rank()).unwrap_or(proven);
        let why = format_args!("Features has all of {isa}: entries that are labelled so run");
        candidates::push_arm64_above(&mut list, isa, true, why);
    }
    if let Some(proof) = proof {
        if !before {
            push_aarch32(&mut list, proof);
        }
        evidence.decided(proof);
    }
    list
}

/// The 32-bit platforms behind the 64-bit ones.
pub(super) fn push_aarch32(list: &mut Candidates, proof: Source) {
    let why = match proof {
        Source::Cores => "every core also runs 32-bit programs (AArch32)",
        Source::Userland => "32-bit programs are installed and run",
        _ => "the kernel also runs 32-bit programs (AArch32)",
    };
    candidates::push_arm(list, 7, true, format_args!("{why}"));
}

/// What proves that a 64-bit kernel runs 32-bit programs here; `None` where nothing does.
pub(super) fn runs_aarch32(evidence: &Evidence) -> Option<Source> {
    let compat = |word: Option<Word>| word.is_some_and(|word| word.width == Width::Compat);
    if evidence.userland.as_ref().is_some_and(|userland| userland.machine == EM_ARM) {
        return Some(Source::Userland);
    }
    // Kernels before 4.7 accept the personality whatever the core; and on a mixed system a program
    // would be killed when it is moved to a core without AArch32.
    if evidence.some_core_lacks_aarch32() {
        return None;
    }
    if !evidence.is_recorded() {
        return (evidence.aarch32_probe == Some(true)).then_some(Source::Probe);
    }
    if evidence.all_cores(|core| core.aarch32 == Aarch32::Yes) {
        return Some(Source::Cores);
    }
    let [_, (_, uname), _] = kernel_words(evidence);
    compat(uname).then_some(Source::Machine)
}

fn describe(source: Source) -> &'static str {
    match source {
        Source::AtPlatform => "AT_PLATFORM",
        Source::Machine => "uname -m",
        Source::ModelName => "the model name's suffix",
        Source::Architecture => "CPU architecture",
        other => other.name(),
    }
}

/// The reason for the best candidate, in words.
struct Why<'a> {
    evidence: &'a Evidence,
    core: Option<&'static Core>,
    level: &'a Level,
    width: Option<Source>,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.level.word, self.core) {
            (Some(word), core) => {
                write!(f, "{} is {word}", describe(self.level.source))?;
                match core {
                    Some(core) if core.isa.has_aarch64() && self.level.number < 8 => {
                        write!(f, " ({} under a 32-bit kernel)", core.name)
                    }
                    Some(core) => write!(f, " ({} could do more)", core.name),
                    None => Ok(()),
                }
            }
            (None, Some(core)) => {
                write!(f, "{} is {}", core.name, core.isa)?;
                if self.evidence.own_cpuinfo().is_some_and(|info| info.cores.len() > 1) {
                    f.write_str(", the least of the cores")?;
                }
                match (self.width, self.evidence.machine.as_deref()) {
                    (Some(Source::Machine), Some(machine)) => write!(f, "; uname -m is {machine}"),
                    (Some(Source::Architecture), _) if core.isa.has_aarch64() => {
                        f.write_str("; a 32-bit kernel")
                    }
                    _ => Ok(()),
                }
            }
            (None, None) => Ok(()),
        }
    }
}
