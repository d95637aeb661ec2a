//! Shows a [`Host`]: as text for people, as JSON for programs.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::candidates::Candidate;
use super::cpuinfo::Listed;
use super::evidence::{Evidence, Origin, Source, known};
use super::host::Host;
use super::machine::{Machine, Width};
use super::midr::Aarch32;

/// Column of the values in the text.
const COLUMN: usize = 18;

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.candidates.first(), &self.refusal) {
            (Some(best), _) => writeln!(f, "this board is {}: {}", best.platform, best.reason)?,
            (None, Some(reason)) => writeln!(f, "no image can run here: {reason}")?,
            (None, None) => writeln!(f, "no image can run here")?,
        }
        writeln!(f, "\nevidence, strongest first (* decided):")?;
        write_evidence(&self.evidence, f)?;
        if self.candidates.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nit can run, best first:")?;
        for (at, candidate) in self.candidates.iter().enumerate() {
            let platform = heapless_name(candidate);
            writeln!(f, "{:3}. {platform:<18} {}", at + 1, candidate.reason)?;
        }
        Ok(())
    }
}

/// The platform's name as one string, so that it can be padded.
fn heapless_name(candidate: &Candidate) -> heapless::String<104> {
    super::candidates::text(format_args!("{}", candidate.platform))
}

fn write_evidence(evidence: &Evidence, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = |source: Source, value: fmt::Arguments<'_>| {
        let mark = if evidence.decided_by.contains(&source) { '*' } else { ' ' };
        writeln!(f, "{mark} {:<COLUMN$}{value}", label(source))
    };
    let info = &evidence.cpuinfo;
    if evidence.decided_by.contains(&Source::Order) {
        line(Source::Order, format_args!("given"))?;
    }
    for core in &info.cores {
        line(Source::Cores, format_args!("{}", Shown(core)))?;
    }
    if info.cores.is_empty() {
        line(Source::Cores, format_args!("{}", absent(evidence.origin)))?;
    }
    line(
        Source::AtPlatform,
        format_args!("{}", evidence.at_platform.as_deref().unwrap_or(not_looked(evidence))),
    )?;
    line(Source::Machine, format_args!("{}", evidence.machine.as_deref().unwrap_or(not_looked(evidence))))?;
    if !info.model_name.is_empty() {
        line(Source::ModelName, format_args!("{}", info.model_name))?;
    }
    if let Some(architecture) = &info.architecture {
        line(Source::Architecture, format_args!("{architecture}"))?;
    }
    if let Some(features) = &info.features {
        line(Source::Features, format_args!("{features}"))?;
    }
    if let Some(runs) = evidence.aarch32_probe {
        let answer = if runs { "the kernel runs them" } else { "the kernel refuses them" };
        line(Source::Probe, format_args!("{answer}"))?;
    }
    if let Some(userland) = &evidence.userland {
        let order = byte_order(userland.big_endian);
        line(Source::Userland, format_args!("{}-bit, {order}-endian ({})", userland.bits, userland.file))?;
    }
    if evidence.own_cpuinfo().is_none() {
        writeln!(f, "  the cpuinfo is another architecture's (emulation?) and was left out")?;
    }
    Ok(())
}

fn label(source: Source) -> &'static str {
    match source {
        Source::Order => "options",
        Source::Cores => "cores (MIDR)",
        Source::AtPlatform => "AT_PLATFORM",
        Source::Machine => "uname -m",
        Source::ModelName => "model name",
        Source::Architecture => "CPU architecture",
        Source::Features => "features",
        Source::Probe => "32-bit programs",
        Source::Userland => "userland",
    }
}

fn absent(origin: Origin) -> &'static str {
    match origin {
        Origin::NotAsked => "no recorded cpuinfo was given",
        Origin::Unreadable => "/proc/cpuinfo cannot be read (not mounted? mount -t proc proc /proc)",
        Origin::Recorded | Origin::Live => "the cpuinfo lists no implementer and part",
    }
}

fn not_looked(evidence: &Evidence) -> &'static str {
    if evidence.is_recorded() { "not recorded" } else { "unknown" }
}

fn byte_order(big_endian: bool) -> &'static str {
    if big_endian { "big" } else { "little" }
}

/// One kind of core in words: `4 x Cortex-A53 (0x41/0xd03), ARMv8.0-A, 32-bit programs: yes`.
struct Shown<'a>(&'a Listed);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = known(self.0);
        write!(f, "{} x {} (", self.0.count, core.map_or("unknown core", |core| core.name))?;
        match self.0.implementer {
            Some(implementer) => write!(f, "{implementer:#04x}/")?,
            None => f.write_str("-/")?,
        }
        match self.0.part {
            Some(part) => write!(f, "{part:#05x})")?,
            None => f.write_str("-)")?,
        }
        let Some(core) = core else { return Ok(()) };
        let runs = match core.aarch32 {
            Aarch32::Yes => "yes",
            Aarch32::No => "no",
            Aarch32::Unknown => "unknown",
        };
        write!(f, ", {}, 32-bit programs: {runs}", core.isa)
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("os", self.os.as_str())?;
        map.serialize_entry("architecture", &self.architecture.as_deref())?;
        map.serialize_entry("variant", self.variant.as_str())?;
        if let Some(reason) = &self.refusal {
            map.serialize_entry("reason", reason.as_str())?;
        }
        map.serialize_entry("candidates", &Seq(|| self.candidates.iter()))?;
        map.serialize_entry("evidence", &self.evidence)?;
        map.end()
    }
}

/// A sequence from an iterator, without collecting it.
struct Seq<F>(F);

impl<F, I> Serialize for Seq<F>
where
    F: Fn() -> I,
    I: Iterator,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

impl Serialize for Candidate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("platform", heapless_name(self).as_str())?;
        map.serialize_entry("reason", self.reason.as_str())?;
        map.end()
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As wide as the kernel prints them.
        let implementer = self.implementer.map(|n| super::candidates::text::<8>(format_args!("{n:#04x}")));
        let part = self.part.map(|n| super::candidates::text::<8>(format_args!("{n:#05x}")));
        let core = known(self);
        let isa = core.map(|core| super::candidates::text::<24>(format_args!("{}", core.isa)));
        let aarch32 = core.and_then(|core| match core.aarch32 {
            Aarch32::Yes => Some(true),
            Aarch32::No => Some(false),
            Aarch32::Unknown => None,
        });
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("implementer", &implementer.as_deref())?;
        map.serialize_entry("part", &part.as_deref())?;
        map.serialize_entry("name", &core.map(|core| core.name))?;
        map.serialize_entry("isa", &isa.as_deref())?;
        map.serialize_entry("aarch32", &aarch32)?;
        map.serialize_entry("count", &self.count)?;
        map.end()
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info = &self.cpuinfo;
        let big_endian = match (self.uname(), &info.suffix, &self.userland) {
            (Some(Machine::Arm(word)), ..) => Some(word.big_endian),
            (_, Some(suffix), _) => Some(suffix.big_endian),
            (_, _, Some(userland)) => Some(userland.big_endian),
            _ => None,
        };
        let kernel_bits = match self.uname() {
            Some(Machine::Arm(word)) => match word.width {
                Width::Bits32 => Some(32),
                Width::Bits64 | Width::Compat => Some(64),
                Width::Unknown => None,
            },
            _ => None,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("recorded", &self.is_recorded())?;
        map.serialize_entry("decided_by", &Seq(|| self.decided_by.iter().map(|source| source.name())))?;
        map.serialize_entry("cpuinfo_is_this_machines", &self.own_cpuinfo().is_some())?;
        map.serialize_entry("cores", &Seq(|| info.cores.iter()))?;
        map.serialize_entry("at_platform", &self.at_platform.as_deref())?;
        map.serialize_entry("machine", &self.machine.as_deref())?;
        map.serialize_entry("model_name", &Some(info.model_name.as_str()).filter(|name| !name.is_empty()))?;
        map.serialize_entry("model_suffix", &info.suffix.as_ref().map(|word| word.text.as_str()))?;
        map.serialize_entry("cpu_architecture", &info.architecture.as_ref().map(|word| word.text.as_str()))?;
        map.serialize_entry("features", &info.features.as_deref())?;
        map.serialize_entry("aarch32_probe", &self.aarch32_probe)?;
        map.serialize_entry("byte_order", &big_endian.map(byte_order))?;
        map.serialize_entry("kernel_bits", &kernel_bits)?;
        match &self.userland {
            None => map.serialize_entry("userland", &None::<()>)?,
            Some(userland) => map.serialize_entry("userland", userland)?,
        }
        map.end()
    }
}

impl Serialize for super::evidence::Userland {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("bits", &self.bits)?;
        map.serialize_entry("byte_order", byte_order(self.big_endian))?;
        map.serialize_entry("file", self.file)?;
        map.end()
    }
}
