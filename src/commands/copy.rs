//! `edgepull copy`: an image with all its entries, as it is, to another place.

use super::confined::confined;
use super::report::Report;
use super::traffic;
use super::{clock_of, open, open_destination};
use crate::cli::Options;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::sandbox::Rights;
use crate::source::{Destination, Source, Totals, Transfer};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Copied {
    digest: Digest,
    totals: Totals,
}

pub fn run(from: &Reference, to: &Reference, options: &Options, report: &Report) -> Result<()> {
    if from == to {
        return Err(Error::new(Kind::Usage, format!("copy: {from} is both SRC and DST")));
    }
    let clock = clock_of([from, to], options);
    let mut source = open(from, options, &clock)?;
    let mut destination = open_destination(to, options, &clock)?;
    let readable = source.files().into_iter().chain(destination.files()).collect();
    let (writable, written) = (destination.places(), destination.open_files());
    let rights = Rights { writable, written, readable, ..Rights::default() };
    let copy = |_: &mut _| between(&mut *source, from, &mut *destination, report);
    let Copied { digest, totals } = confined(rights, options, &clock, copy, |_| Ok(true))?;
    destination.show()?;
    report.event(format_args!("{to} {digest}: {}", traffic::summary(&totals)), || {
        let event =
            json!({ "event": "copied", "from": from.to_string(), "to": to.to_string(), "digest": digest });
        traffic::machine(&totals, event)
    })
}

/// Everything beneath first, then the name.
fn between(
    source: &mut dyn Source,
    from: &Reference,
    to: &mut dyn Destination,
    report: &Report,
) -> Result<Copied> {
    let root = source.root()?;
    let mut progress = traffic::progress(report, true);
    let mut transfer =
        Transfer { source, from, to: &mut *to, progress: &mut progress, totals: Totals::default() };
    transfer.document(&root)?;
    let totals = transfer.totals;
    to.publish(&root, &[])?;
    Ok(Copied { digest: root.digest, totals })
}
