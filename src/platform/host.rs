//! Who the board is: gathers the evidence, lets the rules decide, and keeps both for the user to see.

use super::candidates::{Candidate, Candidates};
use super::cpuinfo::Cpuinfo;
use super::decide::{self, Refusal, Verdict};
use super::evidence::{Evidence, Origin};
use super::live;
use super::order::Order;
use super::variant::{Name, Platform};
use crate::error::Result;

/// What the command line says about the board.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// `--variant`; `auto` is the same as `None`.
    pub variant: Option<&'a str>,
    /// `--platform`.
    pub platform: Option<&'a Platform>,
    /// `--cpuinfo`: the bytes of a recorded file; at most
    /// [`cpuinfo::MAX_BYTES`](super::cpuinfo::MAX_BYTES) of them are looked at.
    pub cpuinfo: Option<&'a [u8]>,
    /// `--machine`: a recorded `uname -m`.
    pub machine: Option<&'a str>,
}

/// The board, as far as it matters for choosing an image.
#[derive(Clone, Debug)]
pub struct Host {
    /// GOOS of the best candidate; `linux` where there is none.
    pub os: Name,
    /// GOARCH of the best candidate; `None` where no image can run.
    pub architecture: Option<Name>,
    /// Variant of the best candidate; empty where it has none.
    pub variant: Name,
    /// What the board can run, best first; empty where nothing can.
    pub candidates: Candidates,
    /// What was observed, and which of it decided.
    pub evidence: Evidence,
    /// Why no image can run.
    pub refusal: Option<Refusal>,
}

impl Host {
    /// Detects the board. With a recorded cpuinfo or machine the result depends on these alone; nothing
    /// of the machine edgepull runs on is looked at. Allocates nothing, except for an error's text.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for options that make no sense. A board that can run
    /// nothing is no error here but a [`refusal`](Host::refusal).
    pub fn detect(inputs: &Inputs<'_>) -> Result<Host> {
        let order = Order::read(inputs.variant, inputs.platform)?;
        let mut evidence = match (inputs.cpuinfo, inputs.machine) {
            (None, None) => live::observe(),
            (cpuinfo, machine) => recorded(cpuinfo, machine),
        };
        Ok(Host::from_evidence(&mut evidence, order))
    }

    fn from_evidence(evidence: &mut Evidence, order: Option<Order<'_>>) -> Host {
        let verdict = decide::decide(evidence);
        let Verdict { candidates, refusal, .. } = match order {
            Some(order) => order.apply(evidence, verdict),
            None => verdict,
        };
        let best = candidates.first().map(|candidate: &Candidate| candidate.platform.clone());
        let (os, architecture, variant) = match best {
            Some(platform) => (platform.os, Some(platform.architecture), platform.variant),
            None => (Platform::new("linux", "", "").os, None, Name::new()),
        };
        Host { os, architecture, variant, candidates, evidence: evidence.clone(), refusal }
    }

    /// The features that every core has, as the kernel names them, separated by spaces; `None` where no
    /// evidence lists them.
    pub fn features(&self) -> Option<&str> {
        self.own_cpuinfo()?.features.as_deref()
    }

    /// Whether every core has the feature; `None` where that is unknown.
    pub fn has_feature(&self, name: &str) -> Option<bool> {
        self.own_cpuinfo()?.has(name)
    }

    fn own_cpuinfo(&self) -> Option<&Cpuinfo> {
        self.evidence.own_cpuinfo()
    }
}

/// Evidence about another machine.
fn recorded(cpuinfo: Option<&[u8]>, machine: Option<&str>) -> Evidence {
    let origin = if cpuinfo.is_some() { Origin::Recorded } else { Origin::NotAsked };
    let mut evidence = Evidence::new(origin);
    if let Some(bytes) = cpuinfo {
        evidence.cpuinfo = Cpuinfo::parse(bytes);
    }
    evidence.machine = machine.map(|machine| {
        let mut kept = heapless::String::new();
        // What is longer than the room is no machine that exists; the rest of it is not missed.
        for c in machine.trim().chars().take(64) {
            let _ = kept.push(if c.is_ascii_graphic() { c } else { '?' });
        }
        kept
    });
    evidence
}
