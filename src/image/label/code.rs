//! What the code of an image needs, by the marks of all its files together. A mark that is missing proves nothing: Go's
//! linker writes none.

use crate::image::elf::{ArmAttributes, EM_ARM, Elf, arm_level};
use crate::image::program::{ProgramFile, Programs};
use crate::platform::Platform;

/// EF_ARM_ABI_FLOAT_SOFT of `e_flags` ("ELF for the Arm Architecture"): "built to conform to the software floating-point
/// procedure-call standard". GNU ld and lld also write it for assembly that says nothing of floats.
const EF_ARM_ABI_FLOAT_SOFT: u32 = 0x200;
/// The dynamic linkers of the soft-float ABI, glibc's and musl's.
const SOFT_LINKERS: [&str; 2] = ["ld-linux.so.3", "ld-musl-arm.so.1"];
/// Those of the hard-float ABI.
const HARD_LINKERS: [&str; 2] = ["ld-linux-armhf.so.3", "ld-musl-armhf.so.1"];

/// How floating-point arguments are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abi {
    Soft,
    Hard,
}

/// How it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// In the file itself.
    Own,
    /// By the dynamic linker that it names.
    Linker,
}

/// The programs of an image.
pub(super) struct Code<'a> {
    files: Vec<(&'a str, &'a Elf)>,
    /// The one label that stands for all of them together.
    need: Option<Platform>,
}

impl<'a> Code<'a> {
    pub(super) fn of(programs: &'a Programs) -> Code<'a> {
        let elf = |file: &'a ProgramFile| Some((file.path.as_str(), file.elf.as_ref()?));
        let mut code = Code { files: programs.files.iter().filter_map(elf).collect(), need: None };
        code.need = code.common_need();
        code
    }

    /// The label that the code needs, if there is one and the code says enough, and the program that needs it.
    pub(super) fn need(&self) -> Option<(&Platform, &'a str)> {
        Some((self.need.as_ref()?, self.files.first()?.0))
    }

    /// Which files are not what `label` promises, and why.
    pub(super) fn lies(&self, label: &Platform) -> impl Iterator<Item = String> {
        self.files.iter().filter_map(|(path, elf)| {
            let why = elf.contradicts(label).or_else(|| self.breaks_abi(elf, label))?;
            Some(format!("{path}: {why}"))
        })
    }

    /// What to do about code that is not what `label` promises.
    pub(super) fn advice(&self, label: &Platform) -> String {
        let is_arm = self.files.iter().all(|(_, elf)| elf.architecture() == Some("arm") && elf.is_eabi5());
        match (&self.need, is_arm, self.level(), self.has(Abi::Hard), self.has(Abi::Soft)) {
            (Some(need), ..) => format!("label it {need}"),
            (None, true, None, true, false) => {
                "label it linux/arm/v6 or linux/arm/v7, whichever it was built for".into()
            }
            (None, true, Some(level @ 6..), false, true) => {
                format!(
                    "no label stands for soft-float ARMv{level} code: build it for hard-float or for ARMv5"
                )
            }
            _ => format!("no label stands for that: build it for {label}"),
        }
    }

    /// Why it belongs to the other of the two floating-point ABIs than the one that `label` stands for.
    fn breaks_abi(&self, elf: &Elf, label: &Platform) -> Option<String> {
        let level = arm_level(&label.variant).filter(|_| label.architecture == "arm")?;
        let promised = if level < 6 { Abi::Soft } else { Abi::Hard };
        let (abi, mark) = self.abi(elf).filter(|(abi, _)| *abi != promised)?;
        let name = |abi| if abi == Abi::Soft { "soft-float" } else { "hard-float" };
        let (abi, promised) = (name(abi), name(promised));
        Some(match (mark, &elf.interpreter) {
            (Mark::Linker, Some(linker)) => {
                format!("its dynamic linker {linker} is the {abi} one, and {label} stands for {promised}")
            }
            _ => format!("it is {abi} code, and {label} stands for {promised}"),
        })
    }

    /// Which ABI this file is of, if anything proves it.
    fn abi(&self, elf: &Elf) -> Option<(Abi, Mark)> {
        own_abi(elf).map(|abi| (abi, Mark::Own)).or_else(|| {
            let path = elf.interpreter.as_deref()?;
            let name = path.rsplit('/').next()?;
            let named = match name {
                name if SOFT_LINKERS.contains(&name) => Abi::Soft,
                name if HARD_LINKERS.contains(&name) => Abi::Hard,
                _ => return None,
            };
            // Debian's armhf has the soft-float name, too, as a link to the hard-float linker: Go programs ask for it.
            let linker = self.files.iter().find(|(file, _)| *file == path).and_then(|(_, elf)| own_abi(elf));
            (elf.machine == EM_ARM && linker.is_none_or(|abi| abi == named)).then_some((named, Mark::Linker))
        })
    }

    fn common_need(&self) -> Option<Platform> {
        let architecture = self.files.first()?.1.architecture()?;
        if self.files.iter().any(|(_, elf)| elf.architecture() != Some(architecture)) {
            return None;
        }
        if architecture != "arm" {
            return Some(Platform::new("linux", architecture, ""));
        }
        if self.files.iter().any(|(_, elf)| !elf.is_eabi5()) {
            return None;
        }
        let (level, hard, soft) = (self.level(), self.has(Abi::Hard), self.has(Abi::Soft));
        let level = match (level, hard, soft) {
            (Some(0), ..) | (_, true, true) => return None,
            (Some(level), true, false) => level.max(6),
            // No label stands for soft-float code that needs more than ARMv5.
            (Some(6..), false, true) | (None, _, false) => return None,
            (Some(level), false, _) => level.max(5),
            (None, false, true) => 5,
        };
        Some(Platform::new("linux", architecture, &format!("v{}", level.min(8))))
    }

    /// The architecture version that all of it together needs; 0 where one file is for a microcontroller.
    fn level(&self) -> Option<u8> {
        let levels = || self.files.iter().filter_map(|(_, elf)| elf.attributes.as_ref());
        let levels = || levels().map(ArmAttributes::arm_level);
        levels().find(|level| *level == 0).or_else(|| levels().max())
    }

    fn has(&self, abi: Abi) -> bool {
        self.files.iter().any(|(_, elf)| self.abi(elf).is_some_and(|(found, _)| found == abi))
    }
}

/// Which ABI a file says that it is of: by its flags, or, where its linker was older than these (binutils 2.24), by its
/// build attributes, if it may use floating-point numbers at all (Tag_ABI_FP_number_model: every compiler's code).
fn own_abi(elf: &Elf) -> Option<Abi> {
    if elf.machine != EM_ARM {
        return None;
    }
    if elf.is_hard_float() {
        return Some(Abi::Hard);
    }
    match elf.attributes {
        // The toolchain's own convention, or no floating-point arguments at all: the flags of such a file say soft-float.
        Some(ArmAttributes { vfp_args: 1.., .. }) => None,
        _ if elf.flags & EF_ARM_ABI_FLOAT_SOFT != 0 => Some(Abi::Soft),
        Some(ArmAttributes { vfp_args: 0, fp_number_model: 1.., .. }) => Some(Abi::Soft),
        _ => None,
    }
}
