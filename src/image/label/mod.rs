//! What whoever publishes an image has to be told about its label.
//!
//! A board asks one thing: can this code run here ([`contradicts`](super::elf::Elf::contradicts))? A label promises
//! more, and what it does not keep shows on boards that nobody has at hand while the image is made:
//!
//! | label | promises |
//! |---|---|
//! | `linux/arm/v5` | the soft-float ABI: Debian's armel |
//! | `linux/arm/v6` and up | the hard-float ABI: Docker's, Debian's and Alpine's armhf |
//! | `linux/arm` | nothing: Docker and containerd read it as v7, Podman takes it on every Arm board |
//! | any | what the image's own config says: all that is left of it once it was pulled by its digest |

mod code;

use super::digest::Digest;
use super::elf::expected_machine;
use super::manifest::{ImageConfig, PlatformField};
use super::program::{Gap, Programs};
use crate::error::{Kind, Result};
use crate::platform::{Name, Platform, shown_name};
use code::Code;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest line that is said of an image, in characters: paths are the image's.
const LINE_MAX: usize = 512;

/// Where an image's label stands.
#[derive(Debug, Clone, Copy)]
pub enum Label<'a> {
    /// In an index: its entry's `platform`, if it has one.
    Entry(Option<&'a PlatformField>),
    /// In its config alone: no index leads to it.
    Config,
}

/// What became of an image's label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// These files were read, and are what the label promises.
    Fits(Vec<String>),
    /// What is wrong, where, and what to label it instead; at least one line.
    Lies(Vec<String>),
    /// There was nothing to check, and why.
    Unchecked(String),
}

/// What became of an entry.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// As the label is written; `None` where there is none.
    pub platform: Option<String>,
    /// Of its manifest.
    pub digest: Digest,
    /// What became of its label.
    pub outcome: Outcome,
}

/// Holds an image against its label: first its config, then what it runs. `read` reads that; it is not called where
/// it could tell nothing.
///
/// # Errors
/// Those of `read`; [`crate::error::Kind::Disk`] where a program cannot be read.
pub fn check(
    label: Label<'_>,
    config: &ImageConfig,
    read: &mut dyn FnMut() -> Result<Programs>,
) -> Result<Outcome> {
    let promise = Promise::of(label, config);
    let platform = promise.promised.platform();
    if platform.is_unknown() {
        return Ok(Outcome::Unchecked("an attestation, which is no image".into()));
    }
    let programs = match promise.out_of_reach() {
        None => read()?,
        Some(why) => Programs { gap: Some(Gap::Unknown(why)), ..Programs::default() },
    };
    let code = Code::of(&programs);
    let mut lies = promise.flaws(&code);
    lies.extend(code.lies(&platform).map(|lie| format!("{lie}; {}", code.advice(&platform))));
    let unknown = match programs.gap {
        None => None,
        Some(Gap::Unknown(why)) => Some(why),
        Some(Gap::Missing(what)) => {
            lies.push(what);
            None
        }
        Some(Gap::Broken(error)) if error.kind() == Kind::BadImage => {
            lies.push(error.to_string());
            None
        }
        Some(Gap::Broken(error)) => return Err(error),
    };
    Ok(match (lies.is_empty(), unknown) {
        (false, _) => Outcome::Lies(lies.iter().map(|lie| cut(lie)).collect()),
        (true, Some(why)) => Outcome::Unchecked(cut(&why)),
        (true, None) => Outcome::Fits(programs.files.iter().map(|file| cut(&file.path)).collect()),
    })
}

fn cut(line: &str) -> String {
    line.chars().take(LINE_MAX).collect()
}

/// A platform as somebody has written it.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    os: &'a str,
    architecture: &'a str,
    variant: &'a str,
}

impl<'a> Written<'a> {
    /// What is written where the label is; `None` for an entry without a platform.
    pub fn of(label: Label<'a>, config: &'a ImageConfig) -> Option<Written<'a>> {
        match label {
            Label::Entry(field) => field.map(Written::of_field),
            Label::Config => Some(Written::of_config(config)),
        }
    }

    /// What an entry says.
    pub fn of_field(field: &'a PlatformField) -> Written<'a> {
        let variant = field.variant.as_deref().unwrap_or_default();
        Written { os: &field.os, architecture: &field.architecture, variant }
    }

    fn of_config(config: &'a ImageConfig) -> Written<'a> {
        let variant = config.variant.as_deref().unwrap_or_default();
        Written { os: &config.os, architecture: &config.architecture, variant }
    }

    /// Too little to find it by.
    fn is_mute(self) -> bool {
        self.os.is_empty() || self.architecture.is_empty()
    }

    /// `armhf` and `armv6l` say their variant in the same word.
    fn is_bare_arm(self) -> bool {
        self.architecture.trim().eq_ignore_ascii_case("arm") && self.variant.is_empty()
    }

    /// Normalized, but for an Arm variant that is not there.
    fn platform(self) -> Platform {
        let platform = Platform::new(self.os, self.architecture, self.variant);
        match self.is_bare_arm() {
            true => Platform { variant: Name::new(), ..platform },
            false => platform,
        }
    }

    /// Whether both can be true, as far as both say something.
    fn agrees(self, other: Written<'_>) -> bool {
        let (one, two) = (self.platform(), other.platform());
        (self.os.is_empty() || other.os.is_empty() || one.os == two.os)
            && (self.architecture.is_empty()
                || other.architecture.is_empty()
                || one.architecture == two.architecture)
            && (self.variant.is_empty() || other.variant.is_empty() || one.variant == two.variant)
    }
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [os, architecture, variant] = [self.os, self.architecture, self.variant].map(shown_name);
        write!(f, "{os}/{architecture}{}{variant}", if variant.is_empty() { "" } else { "/" })
    }
}

/// What label and config say, before any code is read.
struct Promise<'a> {
    label: Label<'a>,
    /// The label, if there is one.
    said: Option<Written<'a>>,
    config: Written<'a>,
    /// What the code is held against: the label, or the config where that says too little.
    promised: Written<'a>,
}

impl<'a> Promise<'a> {
    fn of(label: Label<'a>, config: &'a ImageConfig) -> Promise<'a> {
        let (said, config) = (Written::of(label, config), Written::of_config(config));
        let promised = said.filter(|said| !said.is_mute()).unwrap_or(config);
        Promise { label, said, config, promised }
    }

    /// Why reading its code would tell nothing.
    fn out_of_reach(&self) -> Option<String> {
        let platform = self.promised.platform();
        if let Some(other) =
            [platform.os.as_str(), self.config.os].into_iter().find(|os| !matches!(*os, "" | "linux"))
        {
            return Some(format!("programs for {} are not checked", shown_name(other)));
        }
        if self.promised.is_mute() {
            return Some("neither label nor config says what it is for".into());
        }
        let is_unknown = expected_machine(&platform.architecture).is_none();
        (is_unknown && exists(&platform)).then(|| format!("programs for {platform} are not checked"))
    }

    /// What is wrong with the label itself, and what to do about it.
    fn flaws(&self, code: &Code<'_>) -> Vec<String> {
        let mut flaws = Vec::new();
        let advice = || self.advice(code);
        match (self.label, self.said) {
            (_, None) => {
                let flaw = "the entry has no platform, of which engines make different things";
                flaws.push(format!("{flaw}; {}", advice()));
            }
            (_, Some(said)) if said.is_mute() => {
                flaws.push(format!("the platform {said} lacks a part; {}", advice()));
            }
            (Label::Entry(_), Some(said)) if !said.agrees(self.config) => flaws.push(format!(
                "the label says {said}, but the image's own config {}; {}",
                self.config,
                self.verdict(said, code)
            )),
            _ => {}
        }
        let platform = self.promised.platform();
        if self.promised.is_bare_arm() {
            let flaw = "has no variant, which Docker and containerd read as v7 and Podman as any";
            flaws.push(format!("{platform} {flaw}; {}", advice()));
        } else if !self.promised.is_mute() && !exists(&platform) {
            flaws.push(format!("{platform} is no platform that a board looks for; {}", advice()));
        }
        flaws
    }

    /// Which of label and config is right.
    fn verdict(&self, said: Written<'_>, code: &Code<'_>) -> String {
        let is_true = |written: Written<'_>| code.lies(&written.platform()).next().is_none();
        match (is_true(said), is_true(self.config)) {
            (true, true) => "make them say the same".into(),
            (true, false) => "correct the config: the code is as labelled".into(),
            (false, true) => format!("label it {}", self.config),
            (false, false) => code.advice(&said.platform()),
        }
    }

    /// What to write where a label says too little: the builder's word where the code does not belie it, for the code that
    /// is looked at is not all that there is in the image; else what the code needs.
    fn advice(&self, code: &Code<'_>) -> String {
        let config = Some(self.config).filter(|config| !config.is_mute() && !config.is_bare_arm());
        let is_true = |config: &Platform| exists(config) && code.lies(config).next().is_none();
        let config = config.map(Written::platform).filter(is_true);
        match (config, code.need()) {
            (Some(config), Some((need, path))) if config != *need => {
                format!("label it {config}, as its config says ({path} alone needs {need})")
            }
            (Some(config), _) => format!("label it {config}, as its config says"),
            (None, Some((need, path))) => format!("label it {need}, which {path} needs"),
            (None, None) => "label it with what it was built for".into(),
        }
    }
}

/// Whether there is anything of that name.
fn exists(platform: &Platform) -> bool {
    Platform::parse(&platform.to_string()).is_ok()
}

#[cfg(test)]
mod tests;
