//! Which boards an image serves: what each family of boards would take of it, by the rules that a pull goes by.

use crate::image::digest::Digest;
use crate::image::select::{self, Entry};
use crate::platform::Host;
use crate::platform::families::{FAMILIES, Family};
use crate::platform::shown_name;
use serde::Serialize;

/// What becomes of one family.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    family: &'static str,
    boards: &'static str,
    /// What it takes.
    platform: Option<String>,
    digest: Option<Digest>,
    how: How,
    /// Why it runs there, why it is not the best, or what there would have to be.
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// The first platform of the board's list.
    Best,
    /// A later one.
    Fallback,
    Refused,
}

/// All families, the oldest first. `entries` were expanded already: whatever the host, nothing is fetched again.
pub(super) fn of(entries: &[Entry]) -> Vec<Served> {
    FAMILIES.iter().map(|family| served(family, entries)).collect()
}

fn served(family: &Family, entries: &[Entry]) -> Served {
    let host = family.host();
    let taken = select::choose(entries, &host);
    let (how, why) = match taken {
        Some((_, 0)) => (How::Best, host.candidates[0].reason.as_str().to_owned()),
        Some((_, candidate)) => (How::Fallback, lacking(entries, &host, candidate)),
        None => (How::Refused, lacking(entries, &host, host.candidates.len())),
    };
    Served {
        family: family.name,
        boards: family.boards,
        platform: taken.map(|(_, candidate)| host.candidates[candidate].platform.to_string()),
        digest: taken.map(|(entry, _)| entries[entry].descriptor.digest),
        how,
        why,
    }
}

/// Why nothing of the host's first `better` candidates is taken: there is one, but it asks for more; else there is none.
fn lacking(entries: &[Entry], host: &Host, better: usize) -> String {
    let asks = host.candidates[..better].iter().find_map(|candidate| {
        let there = entries.iter().filter(|entry| entry.platform.as_ref() == Some(&candidate.platform));
        let feature = there.into_iter().find_map(|entry| select::missing(entry, host))?;
        Some(format!("{} needs {}", candidate.platform, shown_name(feature)))
    });
    asks.unwrap_or_else(|| {
        let refused = better == host.candidates.len() && better > 1;
        let best = host.candidates.first().map(|best| best.platform.to_string()).unwrap_or_default();
        format!("no {best}{}", if refused { ", no fallback" } else { "" })
    })
}

/// For people: in columns, of which the widest have 100 characters together.
pub(super) fn lines(coverage: &[Served]) -> Vec<String> {
    let width = |cell: &dyn Fn(&Served) -> usize| coverage.iter().map(cell).max().unwrap_or_default();
    let family = width(&|served| served.family.len());
    let boards = width(&|served| served.boards.len());
    let platform = width(&|served| served.platform().len());
    let line = |served: &Served| {
        let outcome = match served.how {
            How::Best => "best".to_owned(),
            How::Fallback => format!("fallback: {}", served.why),
            How::Refused => served.why.clone(),
        };
        format!(
            "  {:family$}  {:boards$}  {:platform$}  {outcome}",
            served.family,
            served.boards,
            served.platform()
        )
    };
    coverage.iter().map(line).collect()
}

impl Served {
    fn platform(&self) -> &str {
        self.platform.as_deref().unwrap_or("refused")
    }
}
