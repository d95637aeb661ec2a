//! A list is pushed: its images are looked up, its entries put together and held against the programs that they run,
//! what the list's repository lacks is brought there, and then the list itself. All of it in a process that can do little.

use super::check;
use super::confined::confined;
use super::lookup::{self, Incomplete};
use super::report::Report;
use super::traffic;
use super::{clock_of, open, open_destination};
use crate::cli::{Check, Options};
use crate::error::{Error, Kind, Printable, Result};
use crate::image::compose::{Entry, Family, List, Style};
use crate::image::digest::Digest;
use crate::image::label::{Label, Outcome};
use crate::image::manifest::PlatformField;
use crate::image::reference::Reference;
use crate::sandbox::Rights;
use crate::source::{Destination, Fetched, Source, Totals, Transfer};
use crate::store::temporary::Temporary;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What is to be pushed.
pub(super) struct Order {
    /// What the list is called.
    pub(super) target: Reference,
    /// More tags of it.
    pub(super) tags: Vec<String>,
    /// Its annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Its images.
    pub(super) images: Vec<Wanted>,
    /// Its family; `None`: that of its first entry.
    pub(super) family: Option<Family>,
    /// Whose way of writing it has.
    pub(super) style: Style,
    /// Images that are not there are left out.
    pub(super) ignore_missing: bool,
    /// What becomes of lies.
    pub(super) check: Check,
}

/// An image of the list.
pub(super) struct Wanted {
    /// Where it is.
    pub(super) image: Reference,
    /// What is known of it.
    pub(super) known: Known,
}

/// What is known of an image.
pub(super) enum Known {
    /// Its entries were looked up before.
    Entries(Vec<Entry>),
    /// What somebody says that it is for.
    Platform(PlatformField),
}

/// What was pushed.
#[derive(Serialize, Deserialize)]
pub(super) struct Pushed {
    /// Of the list.
    pub(super) digest: Digest,
    /// Of the list, in bytes.
    pub(super) size: u64,
    totals: Totals,
}

/// An image whose place is open.
struct Opened<'a> {
    wanted: &'a Wanted,
    source: Box<dyn Source>,
    entries: Vec<Entry>,
}

/// Pushes the list, and says what was sent.
pub(super) fn run(order: &Order, options: &Options, report: &Report) -> Result<Pushed> {
    let names = order.images.iter().map(|wanted| &wanted.image);
    let clock = clock_of(names.chain([&order.target]), options);
    // Before anything is asked: a list that nobody can write should not cost a download.
    let mut destination = open_destination(&order.target, options, &clock)?;
    let mut opened = Vec::new();
    for wanted in &order.images {
        let source = open(&wanted.image, options, &clock);
        match source {
            Ok(source) => opened.push(Opened { wanted, source, entries: Vec::new() }),
            Err(error) => leave_out(order, wanted, error)?,
        }
    }
    let mut readable = destination.files();
    opened.iter().for_each(|opened| readable.extend(opened.source.files()));
    let unpacked = (order.check != Check::No).then(Temporary::new).transpose()?;
    let writable = destination.places().into_iter();
    let writable = writable.chain(unpacked.as_ref().map(Temporary::directory)).collect();
    let rights = Rights { writable, written: destination.open_files(), readable, ..Rights::default() };
    let work = |_: &mut _| confinedly(order, opened, &mut *destination, unpacked.as_ref(), report);
    let pushed = confined(rights, options, &clock, work, |_| Ok(true))?;
    destination.show()?;
    log::info!("{}", traffic::summary(&pushed.totals));
    Ok(pushed)
}

/// An image that is not there, where such images are left out; else the error.
fn leave_out(order: &Order, wanted: &Wanted, error: Error) -> Result<()> {
    if !order.ignore_missing || error.kind() != Kind::NotFound {
        return Err(error.context(&wanted.image));
    }
    log::warn!("{} is left out: {error}", wanted.image);
    Ok(())
}

fn confinedly(
    order: &Order,
    opened: Vec<Opened>,
    destination: &mut dyn Destination,
    unpacked: Option<&Temporary>,
    report: &Report,
) -> Result<Pushed> {
    let mut there = Vec::new();
    for mut opened in opened {
        let entries = match &opened.wanted.known {
            Known::Entries(entries) => Ok(entries.clone()),
            Known::Platform(given) => {
                let incomplete = match order.ignore_missing {
                    true => Incomplete::LeftOut,
                    false => Incomplete::Refused,
                };
                lookup::entries(&mut *opened.source, given, incomplete)
            }
        };
        match entries {
            Ok(entries) => there.push(Opened { entries, ..opened }),
            Err(error) => leave_out(order, opened.wanted, error)?,
        }
    }
    let entries: Vec<Entry> = there.iter().flat_map(|opened| opened.entries.iter().cloned()).collect();
    let family = order.family.unwrap_or_else(|| Family::of(&entries, &order.annotations));
    let list = List::new(family, entries, order.annotations.clone())?;
    let bytes = list.bytes(order.style)?;
    if let Some(unpacked) = unpacked {
        hold(order.check, &mut there, unpacked)?;
    }
    let totals = bring(order, &mut there, destination, report)?;
    let document =
        Fetched { digest: Digest::of(&bytes), bytes, media_type: list.family.media_type().to_owned() };
    destination.manifest(&document)?;
    destination.publish(&document, &order.tags)?;
    Ok(Pushed { digest: document.digest, size: document.bytes.len() as u64, totals })
}

/// Reads what every entry runs. What is a lie is warned of, or refused; so is what cannot be read.
fn hold(check: Check, there: &mut [Opened], unpacked: &Temporary) -> Result<()> {
    let (mut lies, mut all) = (0, 0);
    for Opened { wanted, source, entries } in there {
        for entry in entries.iter().filter(|entry| !entry.is_attestation()) {
            let label = Label::Entry(entry.platform.as_ref());
            let platform = entry.labelled_platform().map(|platform| platform.to_string()).unwrap_or_default();
            let name = format!("{} ({platform})", wanted.image);
            let outcome = check::entry(unpacked, &mut **source, &entry.descriptor(), label);
            all += 1;
            match outcome {
                Ok(Outcome::Lies(found)) => {
                    lies += 1;
                    found.iter().for_each(|lie| log::warn!("{name}: {}", Printable(lie)));
                }
                Ok(Outcome::Fits(files)) => log::info!("{name}: fits: {}", Printable(&files.join(", "))),
                Ok(Outcome::Unchecked(why)) => log::info!("{name}: not checked: {}", Printable(&why)),
                Err(error) if check == Check::Strict => return Err(error.context(name)),
                Err(error) => log::warn!("{name}: not checked: {error}"),
            }
        }
    }
    if lies == 0 || check != Check::Strict {
        return Ok(());
    }
    let message = format!("{lies} of {all} entries are not what their labels say; nothing was pushed");
    Err(Error::new(Kind::BadImage, message).hint("relabel them as is said above, or push without --strict"))
}

/// What the list's repository lacks of its entries.
fn bring(
    order: &Order,
    there: &mut [Opened],
    destination: &mut dyn Destination,
    report: &Report,
) -> Result<Totals> {
    let mut totals = Totals::default();
    for opened in there {
        if is_same_place(&opened.wanted.image, &order.target) {
            continue;
        }
        let mut progress = traffic::progress(report, false);
        let mut transfer =
            Transfer::new(&mut *opened.source, &opened.wanted.image, &mut *destination, &mut progress);
        transfer.totals = totals;
        for entry in &opened.entries {
            transfer.entry(&entry.descriptor()).map_err(|error| error.context(&opened.wanted.image))?;
        }
        totals = transfer.totals;
    }
    Ok(totals)
}

/// Are both in one repository, so that whatever one has, the other has?
fn is_same_place(image: &Reference, target: &Reference) -> bool {
    match (image, target) {
        (Reference::Registry(image), Reference::Registry(target)) => {
            (&image.host, &image.repository) == (&target.host, &target.repository)
        }
        _ => false,
    }
}

/// For machines: what was pushed.
pub(super) fn event(order: &Order, pushed: &Pushed) -> serde_json::Value {
    let event = json!({
        "event": "pushed",
        "image": order.target.to_string(),
        "tags": order.tags,
        "digest": pushed.digest,
        "size": pushed.size,
    });
    traffic::machine(&pushed.totals, event)
}
