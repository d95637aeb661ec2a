//! What was observed about the board, each observation on its own, before anything is concluded.

use super::cpuinfo::{Cpuinfo, Family, Listed};
use super::machine::{self, Machine, Word};
use super::midr::{self, Aarch32, Core};

/// Most observations that can decide together: cores, a kernel word, Features, userland.
const MAX_DECIDING: usize = 6;

/// One kind of observation; the order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--platform` or `--variant`.
    Order,
    /// MIDR implementer and part of the cores.
    Cores,
    /// The auxiliary vector's AT_PLATFORM.
    AtPlatform,
    /// `uname -m`.
    Machine,
    /// The suffix of the model name.
    ModelName,
    /// The field `CPU architecture`.
    Architecture,
    /// The features line.
    Features,
    /// The kernel's answer to a 32-bit personality.
    Probe,
    /// The ELF class of the installed userland.
    Userland,
}

impl Source {
    /// The name in the JSON report (`decided_by`), also the key of the observation there.
    pub fn name(self) -> &'static str {
        match self {
            Source::Order => "order",
            Source::Cores => "cores",
            Source::AtPlatform => "at_platform",
            Source::Machine => "machine",
            Source::ModelName => "model_name",
            Source::Architecture => "cpu_architecture",
            Source::Features => "features",
            Source::Probe => "aarch32_probe",
            Source::Userland => "userland",
        }
    }
}

/// Where the cpuinfo came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Given with `--cpuinfo`.
    Recorded,
    /// This machine's `/proc/cpuinfo`.
    Live,
    /// Not looked at, because only `--machine` was given.
    NotAsked,
    /// This machine's could not be read.
    Unreadable,
}

/// The program by which the userland's width is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Userland {
    /// 32 or 64.
    pub bits: u8,
    /// True for big-endian programs.
    pub big_endian: bool,
    /// ELF `e_machine`.
    pub machine: u16,
    /// Which file told.
    pub file: &'static str,
}

/// Everything that was observed.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the cpuinfo says; empty where there is none.
    pub cpuinfo: Cpuinfo,
    /// Where it came from.
    pub origin: Origin,
    /// `uname -m`, recorded or of this machine, as given (cut to 64 characters).
    pub machine: Option<heapless::String<64>>,
    /// AT_PLATFORM of this process; never for recorded evidence.
    pub at_platform: Option<heapless::String<24>>,
    /// Whether the kernel accepts 32-bit Arm programs; `None` where it was not asked or did not say.
    pub aarch32_probe: Option<bool>,
    /// What the installed userland is; never for recorded evidence.
    pub userland: Option<Userland>,
    /// The observations that decided, strongest first.
    pub decided_by: heapless::Vec<Source, MAX_DECIDING>,
}

impl Evidence {
    /// Nothing observed yet.
    pub fn new(origin: Origin) -> Evidence {
        Evidence {
            cpuinfo: Cpuinfo::default(),
            origin,
            machine: None,
            at_platform: None,
            aarch32_probe: None,
            userland: None,
            decided_by: heapless::Vec::new(),
        }
    }

    /// True when this is about another machine than the one edgepull runs on.
    pub fn is_recorded(&self) -> bool {
        matches!(self.origin, Origin::Recorded | Origin::NotAsked)
    }

    /// `uname -m`, understood.
    pub fn uname(&self) -> Option<Machine> {
        self.machine.as_deref().map(machine::machine)
    }

    /// AT_PLATFORM, understood; `None` on other machines than Arm.
    pub fn at_platform_word(&self) -> Option<Word> {
        self.at_platform.as_deref().and_then(machine::word)
    }

    /// Whether all cores are known to have a feature, by its name in cpuinfo.
    pub fn has(&self, feature: &str) -> bool {
        self.own_cpuinfo().and_then(|info| info.has(feature)) == Some(true)
    }

    /// The cpuinfo, unless it is another machine's: an emulator shows its host's file to the emulated.
    pub fn own_cpuinfo(&self) -> Option<&Cpuinfo> {
        let foreign = match (self.uname(), self.cpuinfo.family()) {
            (Some(Machine::Arm(_)), Family::X86) => true,
            (Some(Machine::Arm(_)), Family::RiscV) => true,
            (Some(Machine::Other(_)), Family::Arm) => true,
            (Some(Machine::Other(arch)), Family::X86) => arch != "amd64" && arch != "386",
            (Some(Machine::Other(arch)), Family::RiscV) => arch != "riscv64",
            _ => false,
        };
        (!foreign).then_some(&self.cpuinfo)
    }

    /// The least capable core that the table knows.
    pub fn least_core(&self) -> Option<&'static Core> {
        let cores = self.own_cpuinfo()?.cores.iter().filter_map(known);
        cores.min_by_key(|core| core.isa.rank())
    }

    /// True when every core is in the table and has the property.
    pub fn all_cores(&self, has: impl Fn(&Core) -> bool) -> bool {
        let Some(info) = self.own_cpuinfo() else { return false };
        let complete = !info.cores.is_empty() && !info.cores_dropped && !info.cut;
        complete && info.cores.iter().all(|core| known(core).is_some_and(&has))
    }

    /// True when some core is known to run no 32-bit programs.
    pub fn some_core_lacks_aarch32(&self) -> bool {
        let lacks = |core: &Listed| known(core).is_some_and(|core| core.aarch32 == Aarch32::No);
        self.own_cpuinfo().is_some_and(|info| info.cores.iter().any(lacks))
    }

    /// Notes that an observation took part in the decision.
    pub(super) fn decided(&mut self, source: Source) {
        if !self.decided_by.contains(&source) {
            // There are fewer deciding kinds than room.
            let _ = self.decided_by.push(source);
        }
    }
}

/// The table's row for a listed core.
pub fn known(core: &Listed) -> Option<&'static Core> {
    midr::lookup(core.implementer?, core.part?)
}
