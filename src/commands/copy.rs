//! `edgepull copy`: an image with all its entries, or some, as it is, to another place.

use super::confined::confined;
use super::report::Report;
use super::{Documents, clock_of, open, open_destination, traffic};
use crate::cli::Options;
use crate::error::{Error, Kind, Printable, Result};
use crate::image::compose::Entry;
use crate::image::digest::Digest;
use crate::image::manifest::Document;
use crate::image::reduce::reduced;
use crate::image::reference::Reference;
use crate::image::select::{LOOKUPS_MAX, Lookup};
use crate::platform::Platform;
use crate::sandbox::Rights;
use crate::source::{Destination, Fetched, Source, Totals, Transfer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::mem;

/// Says what of an image is copied.
pub struct Which<'a> {
    /// An image of which entries are missing is refused; else that is told.
    pub strict: bool,
    /// Only the entries for these; none: all.
    pub platforms: &'a [Platform],
    /// Copies what is attached to the image and its entries, too.
    pub referrers: bool,
}

#[derive(Serialize, Deserialize)]
struct Copied {
    digest: Digest,
    totals: Totals,
    /// How many entries were left out, and how many there were; `None` if the document is what it was.
    reduced: Option<(usize, usize)>,
    /// How many attachments were copied.
    attached: usize,
}

/// Copies `from` to `to`.
pub fn run(
    from: &Reference,
    to: &Reference,
    which: &Which<'_>,
    options: &Options,
    report: &Report,
) -> Result<()> {
    if from == to {
        return Err(Error::new(Kind::Usage, format!("copy: {from} is both SRC and DST")));
    }
    let clock = clock_of([from, to], options);
    let mut source = open(from, options, &clock)?;
    let mut destination = open_destination(to, options, &clock)?;
    let readable = source.files().into_iter().chain(destination.files()).collect();
    let (writable, written) = (destination.places(), destination.open_files());
    let rights = Rights { writable, written, readable, ..Rights::default() };
    let copy = |_: &mut _| between(&mut *source, from, &mut *destination, which, report);
    let Copied { digest, totals, reduced, attached } = confined(rights, options, &clock, copy, |_| Ok(true))?;
    destination.show()?;
    let how = reduced.map_or_else(String::new, |(left_out, all)| {
        format!("a list of {} of its {all} entries, with another digest; ", all - left_out)
    });
    let with = match attached {
        0 => String::new(),
        count => format!("{count} attached to it; "),
    };
    report.event(format_args!("{to} {digest}: {how}{with}{}", traffic::summary(&totals)), || {
        let event = json!({
            "event": "copied",
            "from": from.to_string(),
            "to": to.to_string(),
            "digest": digest,
            "attached": attached,
            "left_out": reduced.map_or(0, |(left_out, _)| left_out),
        });
        traffic::machine(&totals, event)
    })
}

/// Everything beneath first, then the name.
fn between(
    source: &mut dyn Source,
    from: &Reference,
    to: &mut dyn Destination,
    which: &Which<'_>,
    report: &Report,
) -> Result<Copied> {
    let mut root = source.root()?;
    let reduced = match which.platforms {
        [] => None,
        platforms => reduce(source, &mut root, platforms).map_err(|error| error.context(from))?,
    };
    let mut progress = traffic::progress(report, true);
    let mut transfer = Transfer::new(source, from, to, &mut progress);
    let done = transfer.document(&root);
    for entry in &transfer.missing {
        log::warn!("{from}: {}; it is not copied", Printable(entry));
    }
    done?;
    if (which.strict || !which.platforms.is_empty()) && !transfer.missing.is_empty() {
        let message =
            format!("{from} is not complete: {} of its entries are missing", transfer.missing.len());
        let hint = match which.strict {
            true => "without --strict, what is there is copied",
            false => "name only entries that are there",
        };
        return Err(Error::new(Kind::NotFound, message).hint(hint));
    }
    let attached = if which.referrers { attach(&mut transfer)? } else { 0 };
    let Transfer { totals, to, .. } = transfer;
    to.publish(&root, &[])?;
    Ok(Copied { digest: root.digest, totals, reduced, attached })
}

/// Copies what is attached to each document that is there. Returns how many that were.
fn attach(transfer: &mut Transfer<'_>) -> Result<usize> {
    let mut count = 0;
    for subject in mem::take(&mut transfer.documents) {
        let attachments = transfer.source.attachments(&subject)?;
        for attachment in &attachments {
            transfer
                .attachment(attachment, &subject)
                .map_err(|error| error.context(format_args!("attached to {subject}")))?;
        }
        count += attachments.len();
    }
    Ok(count)
}

/// Leaves of a list only the entries for `platforms`, and what BuildKit has attached to them. Returns how many are left out,
/// and how many there were; `None` if nothing is.
///
/// # Errors
/// [`Kind::NotFound`] if there is nothing for one of them.
fn reduce(
    source: &mut dyn Source,
    root: &mut Fetched,
    platforms: &[Platform],
) -> Result<Option<(usize, usize)>> {
    let index = match Document::parse(&root.media_type, &root.bytes)? {
        Document::Index(index) => index,
        Document::Manifest(manifest) => {
            let is = Documents(source).config(&manifest.config)?.platform();
            return match platforms.iter().find(|wanted| is.as_ref() != Some(wanted)) {
                None => Ok(None),
                Some(wanted) => Err(lacks(wanted, is.iter())),
            };
        }
    };
    let (entries, _) = Entry::of_list(&root.media_type, &root.bytes)?;
    let all = entries.len() + index.unusable.len();
    let is_image = |entry: &Entry| !entry.is_attestation() && !entry.descriptor().is_artifact();
    let mut labels: Vec<Option<Platform>> =
        entries.iter().map(|entry| entry.labelled_platform().filter(|_| is_image(entry))).collect();
    let fits =
        |labels: &[Option<Platform>], wanted: &Platform| labels.iter().flatten().any(|is| is == wanted);
    // What has no label is looked up only if something else would be missing.
    if !platforms.iter().all(|wanted| fits(&labels, wanted)) {
        let bare = entries
            .iter()
            .zip(&mut labels)
            .filter(|(entry, label)| label.is_none() && is_image(entry) && entry.descriptor().is_manifest());
        for (entry, label) in bare.take(LOOKUPS_MAX) {
            *label = match Documents(source).config_platform(&entry.descriptor()) {
                Err(error) if matches!(error.kind(), Kind::BadImage | Kind::NotFound) => None,
                other => other?,
            };
        }
    }
    if let Some(wanted) = platforms.iter().find(|wanted| !fits(&labels, wanted)) {
        return Err(lacks(wanted, labels.iter().flatten()));
    }
    let is_wanted = |label: &Option<Platform>| label.as_ref().is_some_and(|label| platforms.contains(label));
    let wanted: Vec<String> = entries
        .iter()
        .zip(&labels)
        .filter(|(_, label)| is_wanted(label))
        .map(|(entry, _)| entry.digest.to_string())
        .collect();
    let is_about_wanted = |entry: &Entry| {
        let about = entry.annotations.get("vnd.docker.reference.digest");
        entry.is_attestation() && about.is_some_and(|about| wanted.contains(about))
    };
    let kept: Vec<usize> = entries
        .iter()
        .zip(&labels)
        .zip(index.places())
        .filter_map(|((entry, label), place)| (is_wanted(label) || is_about_wanted(entry)).then_some(place))
        .collect();
    if kept.len() == all {
        return Ok(None);
    }
    root.bytes = reduced(&root.bytes, &kept)?;
    root.digest = Digest::of(&root.bytes);
    Ok(Some((all - kept.len(), all)))
}

fn lacks<'a>(wanted: &Platform, there_is: impl Iterator<Item = &'a Platform>) -> Error {
    let there_is: Vec<String> = there_is.map(Platform::to_string).collect();
    let there_is =
        if there_is.is_empty() { "nothing with a platform".to_owned() } else { there_is.join(", ") };
    Error::new(Kind::NotFound, format!("there is nothing for {wanted}; there is {there_is}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::{Descriptor, media_type::OCI_INDEX};
    use std::io::Read;

    /// Has nothing but the list that is given.
    struct Nothing;

    impl Source for Nothing {
        fn root(&mut self) -> Result<Fetched> {
            unreachable!("the list is given")
        }
        fn manifest(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("all entries are labelled")
        }
        fn config(&mut self, _: &Descriptor) -> Result<Fetched> {
            unreachable!("all entries are labelled")
        }
        fn layer(&mut self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
            unreachable!("no image is read")
        }
    }

    #[test]
    fn a_label_without_a_system_is_for_linux_as_it_is_for_a_pull() {
        let entry = |text: &str, label: &str| {
            format!(r#"{{"digest":"{}","size":3,"platform":{{{label}}}}}"#, Digest::of(text.as_bytes()))
        };
        let six = entry("six", r#""architecture":"arm","variant":"v6""#);
        let eight = entry("eight", r#""os":"linux","architecture":"arm64""#);
        let bytes = format!(r#"{{"manifests":[{six},{eight}]}}"#).into_bytes();
        let mut list = Fetched { digest: Digest::of(&bytes), media_type: OCI_INDEX.into(), bytes };
        let platform = |text| Platform::parse(text).unwrap();
        let windows = reduce(&mut Nothing, &mut list.clone(), &[platform("windows/arm/v6")]).unwrap_err();
        assert!(windows.to_string().ends_with("there is linux/arm/v6, linux/arm64/v8"), "{windows}");
        assert_eq!(reduce(&mut Nothing, &mut list, &[platform("linux/arm/v6")]).unwrap(), Some((1, 2)));
        assert_eq!(list.bytes, format!(r#"{{"manifests":[{six}]}}"#).into_bytes());
    }
}
