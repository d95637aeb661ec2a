//! Which entry of an index a host takes, and why not the others.
//!
//! The host's platforms come best first; the first of them that any entry offers wins, whatever the order
//! in the list, and among equal entries the first. Labels are taken as [`Platform`] normalizes them. Where a
//! label says too little (no platform at all, or `arm` without a variant), the entry's own config decides; that is asked
//! only where none of the entries that are labelled fits.
//!
//! An entry that nobody can use ends nothing: it gets a verdict that says why, and the others are chosen among. What ends
//! the choice is a place that does not answer, because another answer could have another best entry.

use super::manifest::{Descriptor, Document, Index, PlatformField, Unusable};
use crate::error::{Error, Kind, Result};
use crate::platform::{Host, Platform, shown_name};
use std::fmt::Write as _;
use std::mem;

/// How deep indexes may lie in indexes.
pub const NESTING_MAX: usize = 3;
/// The most documents that choosing may fetch: nested indexes, and configs of entries without a label.
pub const LOOKUPS_MAX: usize = 32;
/// The most entries that an error message lists.
const LISTED_MAX: usize = 16;

/// Answers what selection has to ask of the place where the image is.
pub trait Lookup {
    /// A nested index or a manifest, parsed.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Document>;
    /// The platform in the config of the image that `descriptor` points at; `None` where that does not say one.
    fn config_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>>;
    /// Whether the document is there, as far as that is seen without asking for it.
    fn is_there(&mut self, descriptor: &Descriptor) -> bool;
}

/// Says which configs are asked where labels say too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Asks those of all such entries, up to [`LOOKUPS_MAX`].
    Always,
    /// None, if an entry that is labelled fits the host.
    IfNoLabelFits,
}

/// One entry that is no index itself, in the order of the document, nested ones in their place; or an index that
/// could not be used.
#[derive(Debug)]
pub struct Entry {
    /// The entry's descriptor.
    pub descriptor: Descriptor,
    /// Says what it runs on; `None` for what is no image, or not known to be one.
    pub platform: Option<Platform>,
    /// Whether its label alone says so.
    is_labelled: bool,
    /// What became of it.
    pub verdict: Verdict,
}

impl Entry {
    /// A single image, which is no entry of an index: its config is its label, where that says something.
    pub fn single(descriptor: Descriptor, platform: Option<Platform>, verdict: Verdict) -> Entry {
        Entry { descriptor, platform, is_labelled: true, verdict }
    }

    fn no_image(descriptor: Descriptor, verdict: Verdict) -> Entry {
        Entry { descriptor, platform: None, is_labelled: false, verdict }
    }

    /// Whether its label alone says what it runs on.
    pub fn is_labelled(&self) -> bool {
        self.is_labelled
    }

    /// Whether its config could say what it runs on, and was not asked yet.
    fn is_silent(&self) -> bool {
        self.platform.is_none() && self.verdict == Verdict::Impossible
    }
}

/// Says what became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This one is pulled.
    Taken,
    /// An attestation (`unknown/unknown`), which is no image.
    Attestation,
    /// A media type or an artifact type that is no image's.
    NotAnImage,
    /// The board could run it, but takes a better one, or an equal one that comes first.
    Runnable,
    /// The entry requires a CPU or OS feature that the board does not have, as far as it tells.
    LacksFeature(String),
    /// Not among the platforms that this board can run.
    Impossible,
    /// Neither its label nor its config says what it runs on.
    Mute,
    /// It cannot be used, for this reason.
    Unusable(String),
}

impl Verdict {
    /// For a table: why it is not taken, or that it is.
    pub fn text(&self) -> String {
        match self {
            Verdict::Taken => "taken".into(),
            Verdict::Attestation => "attestation".into(),
            Verdict::NotAnImage => "not an image".into(),
            Verdict::Runnable => "runs, but there is a better one".into(),
            Verdict::LacksFeature(name) => format!("needs {name}"),
            Verdict::Impossible => "cannot run here".into(),
            Verdict::Mute => MUTE.into(),
            Verdict::Unusable(why) => why.clone(),
        }
    }

    /// Returns why nobody can use the entry; `None` where it is an image for some board, or no image at all.
    pub fn unusable(&self) -> Option<&str> {
        match self {
            Verdict::Mute => Some(MUTE),
            Verdict::Unusable(why) => Some(why),
            _ => None,
        }
    }
}

/// The outcome: every entry with its verdict, and which one was taken.
#[derive(Debug)]
pub struct Selection {
    /// All entries that are no indexes.
    pub entries: Vec<Entry>,
    /// All entries that cannot be read.
    pub unusable: Vec<Unusable>,
    /// The taken entry's index in `entries` and its platform's index in the host's candidates.
    pub taken: Option<(usize, usize)>,
    /// How many documents were looked up so far.
    lookups: usize,
    /// Whether the configs of entries without a label were asked.
    is_asked: bool,
}

/// Chooses from `index` for `host`. Not finding anything is no error here: [`Selection::refusal`] words it.
///
/// # Errors
/// Returns those of `lookup` that say nothing about an entry: the place does not answer, or demands a password.
pub fn select(index: Index, host: &Host, ask: Ask, lookup: &mut dyn Lookup) -> Result<Selection> {
    let mut expansion = Expansion::new(lookup);
    expansion.expand(index, 1)?;
    let Expansion { lookups, entries, unusable, .. } = expansion;
    let mut selection = Selection { entries, unusable, taken: None, lookups, is_asked: false };
    selection.settle(host, ask, lookup)?;
    Ok(selection)
}

/// The entries of `index` that are no indexes, nested ones in the place of their index, for whoever asks about all of
/// them: no board chooses, and no config is asked where a label says too little.
///
/// # Errors
/// Returns those of [`select`].
#[cfg(feature = "publish")]
pub fn expand(index: Index, lookup: &mut dyn Lookup) -> Result<(Vec<Entry>, Vec<Unusable>)> {
    let mut expansion = Expansion::new(lookup);
    expansion.expand(index, 1)?;
    Ok((expansion.entries, expansion.unusable))
}

/// Finds what `host` takes of entries that a [`Selection`] has, whichever host that was made for: the entry's index, and its
/// platform's in the host's candidates. It asks nobody: whatever choosing needs was looked up when they were expanded.
/// An entry that is labelled comes before all whose configs had to be asked, as those are not asked if one fits.
pub fn choose(entries: &[Entry], host: &Host) -> Option<(usize, usize)> {
    let among = |is_among: &dyn Fn(&Entry) -> bool| {
        host.candidates.iter().enumerate().find_map(|(candidate, wanted)| {
            let fits = |entry: &Entry| {
                entry.platform.as_ref() == Some(&wanted.platform)
                    && is_among(entry)
                    && missing(entry, host).is_none()
            };
            Some((entries.iter().position(fits)?, candidate))
        })
    };
    among(&|entry| entry.is_labelled).or_else(|| among(&|_| true))
}

/// Says what becomes of an entry that is not taken.
fn verdict(entry: &Entry, host: &Host) -> Verdict {
    let Some(platform) = &entry.platform else { return entry.verdict.clone() };
    if !host.candidates.iter().any(|candidate| candidate.platform == *platform) {
        return Verdict::Impossible;
    }
    match missing(entry, host) {
        // As it will be shown: whoever made the image chose the name.
        Some(feature) => Verdict::LacksFeature(shown_name(feature).as_str().into()),
        None => Verdict::Runnable,
    }
}

/// The first feature that the entry requires and the host does not have, as far as it tells; as written.
pub fn missing<'a>(entry: &'a Entry, host: &Host) -> Option<&'a str> {
    missing_of(entry.descriptor.platform.as_ref()?, host)
}

fn missing_of<'a>(field: &'a PlatformField, host: &Host) -> Option<&'a str> {
    let mut required = field.features.iter().chain(&field.os_features);
    required.find(|feature| host.has_feature(feature) != Some(true)).map(String::as_str)
}

struct Expansion<'a> {
    lookup: &'a mut dyn Lookup,
    lookups: usize,
    entries: Vec<Entry>,
    unusable: Vec<Unusable>,
    /// Is set when an entry was left out for the limit of all.
    is_cut: bool,
}

impl<'a> Expansion<'a> {
    fn new(lookup: &'a mut dyn Lookup) -> Expansion<'a> {
        Expansion { lookup, lookups: 0, entries: Vec::new(), unusable: Vec::new(), is_cut: false }
    }

    /// Puts the entries of `index` into `self.entries`, nested ones in the place of their index.
    fn expand(&mut self, index: Index, depth: usize) -> Result<()> {
        self.unusable.extend(index.unusable);
        for descriptor in index.entries {
            if descriptor.is_index() {
                match self.nested(&descriptor, depth)? {
                    Ok(nested) => self.expand(nested, depth + 1)?,
                    Err(why) => self.push(Entry::no_image(descriptor, Verdict::Unusable(why))),
                }
                continue;
            }
            let platform = descriptor.platform.as_ref().and_then(PlatformField::platform);
            let is_unknown = platform.as_ref().is_some_and(Platform::is_unknown);
            let entry = match &platform {
                _ if descriptor.is_attestation() || is_unknown => {
                    Entry::no_image(descriptor, Verdict::Attestation)
                }
                _ if !descriptor.is_manifest() => Entry::no_image(descriptor, Verdict::NotAnImage),
                None if descriptor.is_artifact() => Entry::no_image(descriptor, Verdict::NotAnImage),
                _ if !self.lookup.is_there(&descriptor) => {
                    Entry::no_image(descriptor, Verdict::Unusable(NOT_HERE.to_owned()))
                }
                Some(_) => Entry::single(descriptor, platform, Verdict::Impossible),
                None => Entry::no_image(descriptor, Verdict::Impossible),
            };
            self.push(entry);
        }
        Ok(())
    }

    /// Looks a nested index up, or says why that cannot be used.
    fn nested(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Result<Index, String>> {
        if depth == NESTING_MAX {
            return Ok(Err(format!("nested deeper than {NESTING_MAX} indexes (limit NESTING_MAX)")));
        }
        if !self.lookup.is_there(descriptor) {
            return Ok(Err(NOT_HERE.to_owned()));
        }
        if !self.may_look_up() {
            return Ok(Err(TOO_MANY.to_owned()));
        }
        Ok(match self.lookup.document(descriptor) {
            Ok(Document::Index(nested)) if nested.entries.is_empty() && nested.unusable.is_empty() => {
                Err("an index without entries".to_owned())
            }
            Ok(Document::Index(nested)) => Ok(nested),
            Ok(Document::Manifest(_)) => Err("announced as an index, but is an image".to_owned()),
            Err(error) => Err(own_trouble(error)?),
        })
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() < super::manifest::ENTRIES_MAX {
            self.entries.push(entry);
        } else if !mem::replace(&mut self.is_cut, true) {
            log::warn!("an index in the image is cut: it has more than 1024 entries (limit ENTRIES_MAX)");
        }
    }

    /// Asks the configs of the entries whose labels say too little.
    fn label(&mut self) -> Result<()> {
        for at in 0..self.entries.len() {
            if self.entries[at].is_silent() {
                match self.config_platform(at)? {
                    Ok(platform) => self.entries[at].platform = Some(platform),
                    Err(verdict) => self.entries[at].verdict = verdict,
                }
            }
        }
        // A missing arm variant means v7 — unless it is the only arm entry: then nobody had to tell it
        // apart from others, and its config may know better.
        let is_arm = |entry: &&Entry| entry.platform.as_ref().is_some_and(|p| p.architecture == "arm");
        if self.entries.iter().filter(is_arm).count() == 1
            && let Some(at) = self.entries.iter().position(|entry| is_arm(&entry))
            && self.entries[at].descriptor.platform.as_ref().is_some_and(is_bare_arm)
            && let Ok(platform) = self.config_platform(at)?
            && platform.architecture == "arm"
        {
            self.entries[at].platform = Some(platform);
        }
        Ok(())
    }

    /// Asks the config of an entry what it runs on; or says what becomes of the entry, as it does not tell.
    fn config_platform(&mut self, at: usize) -> Result<Result<Platform, Verdict>> {
        if !self.may_look_up() {
            return Ok(Err(Verdict::Unusable(TOO_MANY.to_owned())));
        }
        Ok(match self.lookup.config_platform(&self.entries[at].descriptor) {
            Ok(Some(platform)) => Ok(platform),
            Ok(None) => Err(Verdict::Mute),
            Err(error) => Err(Verdict::Unusable(own_trouble(error)?)),
        })
    }

    fn may_look_up(&mut self) -> bool {
        self.lookups += 1;
        self.lookups <= LOOKUPS_MAX
    }
}

/// Is said of an entry without a label whose config has no architecture.
const MUTE: &str = "its config does not say what it runs on";
/// Is said of an entry whose document was left out by `docker save --platform` and its like.
const NOT_HERE: &str = "not in this layout";
/// Is said of an entry that would take one more look-up than there may be.
const TOO_MANY: &str = "not looked at: more than 32 entries without a platform (limit LOOKUPS_MAX)";

/// Says what is wrong with an entry, where a look-up fails by what it found.
///
/// # Errors
/// Returns `error` where it is the place's that was asked: that says nothing about the entry.
pub fn own_trouble(error: Error) -> Result<String> {
    match is_of_document(error.kind()) {
        true => Ok(error.message().to_owned()),
        false => Err(error),
    }
}

/// Returns whether a look-up that failed so has failed by the document that was asked for, and not by whoever was asked.
pub fn is_of_document(kind: Kind) -> bool {
    matches!(kind, Kind::BadImage | Kind::NotFound | Kind::Verification)
}

fn is_bare_arm(field: &PlatformField) -> bool {
    field.architecture.eq_ignore_ascii_case("arm") && field.variant.as_deref().unwrap_or_default().is_empty()
}

impl Selection {
    /// Chooses among the entries as far as they are known, and says of each what becomes of it.
    fn settle(&mut self, host: &Host, ask: Ask, lookup: &mut dyn Lookup) -> Result<()> {
        if !self.is_asked && (ask == Ask::Always || choose(&self.entries, host).is_none()) {
            let (lookups, entries) = (self.lookups, mem::take(&mut self.entries));
            let mut expansion = Expansion { lookups, entries, ..Expansion::new(lookup) };
            let labelled = expansion.label();
            Expansion { lookups: self.lookups, entries: self.entries, .. } = expansion;
            labelled?;
            self.is_asked = true;
        }
        self.taken = choose(&self.entries, host);
        for (at, entry) in self.entries.iter_mut().enumerate() {
            entry.verdict = match self.taken {
                Some((taken, _)) if taken == at => Verdict::Taken,
                _ => verdict(entry, host),
            };
        }
        Ok(())
    }

    /// Chooses anew without the entry at `at`: its manifest has shown that it is no image, or one that cannot be used.
    ///
    /// # Errors
    /// Returns those of [`select`].
    pub fn pass_over(
        &mut self,
        at: usize,
        verdict: Verdict,
        host: &Host,
        lookup: &mut dyn Lookup,
    ) -> Result<()> {
        self.entries[at].platform = None;
        self.entries[at].verdict = verdict;
        self.settle(host, Ask::IfNoLabelFits, lookup)
    }

    /// Finds the one entry that says nowhere what it runs on, for whoever knows better; `None` if there are several.
    pub fn only_mute(&self) -> Option<usize> {
        let mut mute = self.entries.iter().enumerate().filter(|(_, entry)| entry.verdict == Verdict::Mute);
        let (at, _) = mute.next()?;
        mute.next().is_none().then_some(at)
    }

    /// The error for a board that finds nothing: who the board is, and what there is instead.
    pub fn refusal(&self, host: &Host) -> Error {
        let mut there_is = String::new();
        let images = self.entries.iter().filter(|entry| entry.platform.is_some());
        for (number, entry) in images.clone().enumerate() {
            if number == LISTED_MAX {
                let _ = write!(there_is, ", and {} more", images.clone().count() - LISTED_MAX);
                break;
            }
            let platform = entry.platform.as_ref().expect("filtered above");
            let _ = write!(there_is, "{}{platform}", if number > 0 { ", " } else { "" });
            if let Verdict::LacksFeature(feature) = &entry.verdict {
                let _ = write!(there_is, " (needs {feature})");
            }
        }
        let unusable = self.cannot_be_used();
        let there_is = match (there_is.is_empty(), unusable.is_empty()) {
            (true, true) => "the list names no image at all".to_owned(),
            (true, false) => format!("none of the image's entries can be used: {unusable}"),
            (false, true) => format!("the image has {there_is}"),
            (false, false) => format!("the image has {there_is}; entries that cannot be used: {unusable}"),
        };
        refuse(host, &there_is)
    }

    /// Returns what whoever pulls is warned of: for each entry that is labelled as a better match for the board than the
    /// one that was taken, and cannot be used, its platform and the reason; each once, and no more than an error lists.
    pub fn passed_over(&self, host: &Host) -> Vec<String> {
        let Some((_, taken)) = self.taken else { return Vec::new() };
        let instead = &host.candidates[taken].platform;
        let mut warnings = Vec::new();
        for (field, why) in self.all_unusable() {
            let Some(platform) =
                field.filter(|field| missing_of(field, host).is_none()).and_then(PlatformField::platform)
            else {
                continue;
            };
            if host.candidates[..taken].iter().all(|candidate| candidate.platform != platform) {
                continue;
            }
            let warning = format!(
                "{platform} would be better, but its entry cannot be used: {why}; {instead} is taken"
            );
            if warnings.len() < LISTED_MAX && !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// All entries that cannot be used: what they are labelled as, and why.
    fn all_unusable(&self) -> impl Iterator<Item = (Option<&PlatformField>, &str)> {
        let found = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry.descriptor.platform.as_ref(), entry.verdict.unusable()?)));
        found.chain(self.unusable.iter().map(|entry| (entry.platform.as_ref(), entry.why.as_str())))
    }

    /// Says which entries could have been for this board, and cannot be used; each reason once.
    fn cannot_be_used(&self) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let mut add = |platform: Option<Platform>, why: &str| {
            let reason = match platform {
                Some(platform) => format!("one for {platform}: {why}"),
                None => format!("one: {why}"),
            };
            if reasons.len() < LISTED_MAX && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for (field, why) in self.all_unusable() {
            add(field.and_then(PlatformField::platform), why);
        }
        reasons.join("; ")
    }
}

/// Holds a single image's own platform against the host.
pub fn check_single(platform: &Platform, host: &Host) -> Result<()> {
    match host.candidates.iter().any(|candidate| candidate.platform == *platform) {
        true => Ok(()),
        false => Err(refuse(host, &format!("the image is for {platform} and nothing else"))
            .hint("--force unpacks it all the same")),
    }
}

/// [`Kind::NoPlatform`]: who the board is, and what there is instead.
fn refuse(host: &Host, there_is: &str) -> Error {
    let mut board = String::new();
    for (number, candidate) in host.candidates.iter().enumerate() {
        let _ = write!(board, "{}{}", if number > 0 { ", " } else { "" }, candidate.platform);
    }
    let message = match (&host.refusal, board.is_empty()) {
        (Some(why), _) => format!("no image can run on this board ({why}); {there_is}"),
        (None, true) => format!("no image can run on this board; {there_is}"),
        (None, false) => format!("nothing for this board: it runs {board}; {there_is}"),
    };
    Error::new(Kind::NoPlatform, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::platform::Inputs;
    use std::collections::HashMap;

    /// Nested indexes and config platforms, by digest.
    #[derive(Default)]
    struct Shelf {
        indexes: HashMap<[u8; 32], String>,
        configs: HashMap<[u8; 32], &'static str>,
        missing: Vec<Digest>,
        asked: usize,
    }

    impl Lookup for Shelf {
        fn document(&mut self, descriptor: &Descriptor) -> Result<Document> {
            match self.indexes.get(&descriptor.digest.0) {
                Some(text) => Document::parse("", text.as_bytes()),
                None => Err(Error::new(Kind::NotFound, "the registry has no such manifest")),
            }
        }
        fn config_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
            self.asked += 1;
            match self.configs.get(&descriptor.digest.0) {
                Some(&"") => Ok(None),
                Some(&"network") => Err(Error::new(Kind::Network, "no route")),
                Some(platform) => Platform::parse(platform).map(Some),
                None => Err(Error::new(Kind::BadImage, "this is no container image")),
            }
        }
        fn is_there(&mut self, descriptor: &Descriptor) -> bool {
            !self.missing.contains(&descriptor.digest)
        }
    }

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    /// An entry whose digest is made from `name`; `platform` is the inside of the JSON object, or empty.
    fn entry(name: &str, media_type: &str, platform: &str) -> String {
        let digest = Digest::of(name.as_bytes());
        let platform = match platform {
            "" => String::new(),
            inside => format!(r#","platform":{{{inside}}}"#),
        };
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1{platform}}}"#)
    }

    fn arm(name: &str, variant: &str) -> String {
        let variant = if variant.is_empty() { String::new() } else { format!(r#","variant":"{variant}""#) };
        entry(name, IMAGE, &format!(r#""os":"linux","architecture":"arm"{variant}"#))
    }

    fn board(machine: &str) -> Host {
        Host::detect(&Inputs { machine: Some(machine), ..Default::default() }).unwrap()
    }

    fn choose(shelf: &mut Shelf, entries: &[String], host: &Host) -> Result<Selection> {
        let text = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        let Document::Index(index) = Document::parse("", text.as_bytes())? else { unreachable!() };
        select(index, host, Ask::IfNoLabelFits, shelf)
    }

    /// The name of the entry that `machine` takes, of those in `names`.
    fn taken(
        shelf: &mut Shelf,
        entries: &[String],
        machine: &str,
        names: &[&'static str],
    ) -> Option<&'static str> {
        let selection = choose(shelf, entries, &board(machine)).unwrap();
        let digest = selection.entries[selection.taken?.0].descriptor.digest;
        names.iter().copied().find(|name| Digest::of(name.as_bytes()) == digest)
    }

    #[test]
    fn the_best_that_there_is_whatever_the_order() {
        let names = ["five", "six", "seven"];
        let all = [arm("five", "v5"), arm("seven", "v7"), arm("six", "v6")];
        let shelf = &mut Shelf::default();
        for (machine, best) in [("armv7l", "seven"), ("armv6l", "six"), ("armv5tejl", "five")] {
            assert_eq!(taken(shelf, &all, machine, &names), Some(best), "{machine}");
        }
        let fallback = [arm("five", "5"), arm("six", "6L")];
        assert_eq!(taken(shelf, &fallback, "armv7l", &names), Some("six"), "names are normalized");
        assert_eq!(taken(shelf, &all[1..2], "armv6l", &names), None, "a v6 board never takes v7");
        assert_eq!(taken(shelf, &[arm("six", "v6"), arm("five", "v6")], "armv6l", &names), Some("six"));
    }

    #[test]
    fn an_arm_entry_without_a_variant_is_v7_unless_it_is_alone_and_says_otherwise() {
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"bare").0, "linux/arm/v6");
        let alone = [arm("bare", ""), entry("x", IMAGE, r#""os":"linux","architecture":"amd64""#)];
        assert_eq!(taken(&mut shelf, &alone, "armv6l", &["bare"]), Some("bare"));
        let beside = [arm("bare", ""), arm("five", "v5")];
        assert_eq!(taken(&mut shelf, &beside, "armv6l", &["bare", "five"]), Some("five"));
        assert_eq!(taken(&mut shelf, &beside, "armv7l", &["bare", "five"]), Some("bare"));
    }

    #[test]
    fn an_entry_without_a_platform_is_what_its_config_says() {
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"mute").0, "linux/arm/v7");
        let entries = [entry("mute", IMAGE, "")];
        assert_eq!(taken(&mut shelf, &entries, "armv6l", &["mute"]), None);
        assert_eq!(taken(&mut shelf, &entries, "armv7l", &["mute"]), Some("mute"));
        assert_eq!(shelf.asked, 2);
    }

    #[test]
    fn attestations_and_artifacts_are_no_images() {
        let unknown = entry("a", IMAGE, r#""os":"unknown","architecture":"unknown""#);
        let chart =
            entry("c", "application/vnd.example.thing.v1+json", r#""os":"linux","architecture":"arm""#);
        let selection = choose(&mut Shelf::default(), &[unknown, chart], &board("armv7l")).unwrap();
        assert_eq!(selection.entries[0].verdict, Verdict::Attestation);
        assert_eq!(selection.entries[1].verdict, Verdict::NotAnImage);
        assert!(selection.refusal(&board("armv7l")).to_string().contains("no image at all"));
    }

    #[test]
    fn what_shows_that_it_is_no_image_is_chosen_without() {
        let host = board("armv7l");
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"mute").0, "linux/arm/v7");
        let labelled = [arm("chart", "v7"), arm("six", "v6")];
        let mute = [arm("chart", "v7"), entry("mute", IMAGE, "")];
        for (entries, asked) in [(&labelled, 0), (&mute, 1)] {
            let mut selection = choose(&mut shelf, entries, &host).unwrap();
            assert_eq!((selection.taken.unwrap().0, shelf.asked), (0, 0), "no config is asked");
            selection.pass_over(0, Verdict::NotAnImage, &host, &mut shelf).unwrap();
            assert_eq!((selection.taken.unwrap().0, shelf.asked), (1, asked));
            assert_eq!(selection.entries[0].verdict, Verdict::NotAnImage);
            selection.pass_over(1, Verdict::Unusable("broken".into()), &host, &mut shelf).unwrap();
            assert!(selection.taken.is_none());
            let refusal = selection.refusal(&host).to_string();
            assert!(
                refusal.contains("none of the image's entries can be used") && refusal.contains("broken")
            );
        }
    }

    #[test]
    fn one_entry_alone_may_say_nowhere_what_it_runs_on() {
        let mut shelf = Shelf::default();
        for name in [&b"mute"[..], b"too"] {
            shelf.configs.insert(Digest::of(name).0, "");
        }
        let (mute, too) = (entry("mute", IMAGE, ""), entry("too", IMAGE, r#""os":"linux""#));
        let host = board("armv7l");
        let mut only = |entries: &[String]| choose(&mut shelf, entries, &host).unwrap().only_mute();
        assert_eq!(only(&[arm("eight", "v8"), mute.clone()]), Some(1));
        assert_eq!(only(std::slice::from_ref(&too)), Some(0));
        assert_eq!(only(&[mute, too]), None, "which of them is meant is not known");
        assert_eq!(only(&[arm("eight", "v8")]), None);
    }

    #[test]
    fn a_label_without_a_system_is_for_linux() {
        let bare = entry("bare", IMAGE, r#""architecture":"arm","variant":"v6""#);
        assert_eq!(taken(&mut Shelf::default(), &[bare], "armv7l", &["bare"]), Some("bare"));
    }

    #[test]
    fn required_features_are_held_against_the_board_s() {
        let cpuinfo = b"processor\t: 0\nFeatures\t: half thumb fastmult vfp edsp vfpv3 vfpv3d16\n\
            CPU implementer\t: 0x41\nCPU architecture: 7\nCPU part\t: 0xc09\n";
        let tegra2 =
            Host::detect(&Inputs { cpuinfo: Some(cpuinfo), machine: Some("armv7l"), ..Default::default() })
                .unwrap();
        let neon = r#""os":"linux","architecture":"arm","variant":"v7","features":["neon"]"#;
        let entries = [entry("neon", IMAGE, neon), arm("plain", "v7")];
        let selection = choose(&mut Shelf::default(), &entries, &tegra2).unwrap();
        assert_eq!(selection.entries[0].verdict, Verdict::LacksFeature("neon".into()));
        assert_eq!(selection.taken.unwrap().0, 1);
        let vfpv3 = neon.replace("neon", "vfpv3");
        let selection = choose(&mut Shelf::default(), &[entry("vfpv3", IMAGE, &vfpv3)], &tegra2).unwrap();
        assert!(selection.taken.is_some());
        let hostile = neon.replace("neon", &format!("\\u001b[2J{}", "x".repeat(100)));
        let selection = choose(&mut Shelf::default(), &[entry("esc", IMAGE, &hostile)], &tegra2).unwrap();
        assert_eq!(selection.entries[0].verdict.text(), format!("needs ?[2j{}~", "x".repeat(27)));
        let unknown = choose(&mut Shelf::default(), &entries, &board("armv7l")).unwrap();
        assert_eq!(unknown.taken.unwrap().0, 1, "what is not known to be there is not relied on");
    }

    #[test]
    fn entries_that_were_expanded_once_serve_every_host() {
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"mute").0, "linux/arm/v6");
        let neon = r#""os":"linux","architecture":"arm","variant":"v7","features":["neon"]"#;
        let all = [entry("neon", IMAGE, neon), entry("mute", IMAGE, ""), arm("five", "v5")];
        let text = format!(r#"{{"manifests":[{}]}}"#, all.join(","));
        let Document::Index(index) = Document::parse("", text.as_bytes()).unwrap() else { unreachable!() };
        let expanded = select(index, &board("armv5tejl"), Ask::Always, &mut shelf).unwrap();
        for (machine, want) in
            [("armv5tejl", Some((2, 0))), ("armv6l", Some((2, 1))), ("armv7l", Some((2, 2))), ("s390x", None)]
        {
            assert_eq!(super::choose(&expanded.entries, &board(machine)), want, "{machine}");
            assert_eq!(choose(&mut shelf, &all, &board(machine)).unwrap().taken, want, "{machine}");
        }
        assert_eq!(shelf.asked, 2, "by inspect, and by the board that none of the labels fits");
    }

    #[test]
    fn nested_indexes_to_depth_three_and_no_deeper() {
        let mut shelf = Shelf::default();
        let wrap = |inside: String| format!(r#"{{"manifests":[{inside}]}}"#);
        shelf.indexes.insert(Digest::of(b"two").0, wrap(entry("three", INDEX, "")));
        shelf.indexes.insert(Digest::of(b"three").0, wrap(arm("six", "v6")));
        let top = [entry("two", INDEX, ""), arm("five", "v5")];
        assert_eq!(taken(&mut shelf, &top, "armv7l", &["five", "six"]), Some("six"));
        shelf.indexes.insert(Digest::of(b"three").0, wrap(entry("two", INDEX, "")));
        let host = board("armv7l");
        let selection = choose(&mut shelf, &top, &host).unwrap();
        assert_eq!(selection.taken.unwrap().0, 1, "the others are chosen among");
        assert!(selection.entries[0].verdict.text().contains("NESTING_MAX"));
        let error = choose(&mut shelf, &top[..1], &host).unwrap().refusal(&host).to_string();
        assert!(error.contains("none of the image's entries can be used: one: nested deeper"), "{error}");
    }

    #[test]
    fn a_refusal_lists_what_there_is() {
        let entries = [arm("seven", "v7"), entry("x", IMAGE, r#""os":"linux","architecture":"riscv64""#)];
        let host = board("armv6l");
        let error = choose(&mut Shelf::default(), &entries, &host).unwrap().refusal(&host);
        assert_eq!(error.kind(), Kind::NoPlatform);
        let text = error.to_string();
        for part in ["linux/arm/v6", "linux/arm/v5", "linux/arm/v7", "linux/riscv64"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn lookups_are_bounded() {
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"mute").0, "linux/s390x");
        let mut entries = vec![entry("mute", IMAGE, ""); LOOKUPS_MAX + 1];
        let host = board("armv7l");
        let refusal = choose(&mut shelf, &entries, &host).unwrap().refusal(&host).to_string();
        assert!(refusal.contains("LOOKUPS_MAX"), "{refusal}");
        assert_eq!(shelf.asked, LOOKUPS_MAX);
        // Nobody has to look up what is labelled.
        entries.push(arm("six", "v6"));
        assert_eq!(taken(&mut shelf, &entries, "armv7l", &["six"]), Some("six"));
        assert_eq!(shelf.asked, LOOKUPS_MAX);
    }

    #[test]
    fn a_better_entry_that_cannot_be_used_is_told_and_no_other() {
        let mut shelf = Shelf { missing: vec![Digest::of(b"left out")], ..Shelf::default() };
        let of = |digest: &str, platform: &str| {
            format!(
                r#"{{"mediaType":"{IMAGE}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm",{platform}}}}}"#
            )
        };
        let sha512 = &format!("sha512:{}", "a".repeat(128));
        let mut warned = |odd: &[String], machine: &str| {
            let host = board(machine);
            let entries = [odd, &[arm("six", "v6"), arm("five", "v5")]].concat();
            choose(&mut shelf, &entries, &host).unwrap().passed_over(&host)
        };
        let better = of(sha512, r#""variant":"v7""#);
        let told = warned(std::slice::from_ref(&better), "armv7l");
        assert_eq!(told.len(), 1, "{told:?}");
        for part in [
            "linux/arm/v7 would be better",
            "its digest cannot be checked: it is of sha512, not sha256",
            "linux/arm/v6 is taken",
        ] {
            assert!(told[0].contains(part), "{told:?}");
        }
        let told = warned(&[arm("left out", "v7")], "armv7l");
        assert!(told[0].contains("linux/arm/v7 would be better") && told[0].contains("not in this layout"));
        assert_eq!(warned(&vec![better.clone(); 40], "armv7l").len(), 1, "once");
        let odd = (1..=40).map(|size| better.replace("\"size\":1", &format!("\"size\":-{size}")));
        assert!(warned(&odd.collect::<Vec<_>>(), "armv7l").len() <= LISTED_MAX);
        // As good, worse, for no board of this kind, and what this board lacks a feature for.
        for odd in [
            of(sha512, r#""variant":"v6""#),
            of(sha512, r#""variant":"v5""#),
            of(sha512, r#""variant":"v8""#),
            of(sha512, r#""variant":"v7","features":["sve"]"#),
            better.replace("\"linux\"", "\"windows\""),
            better.replace("\"architecture\":\"arm\",", ""),
            "null".to_owned(),
            entry("left out", INDEX, ""),
        ] {
            assert_eq!(warned(std::slice::from_ref(&odd), "armv7l"), [""; 0], "{odd}");
        }
        assert_eq!(warned(&[better], "armv6l"), [""; 0], "that board does not run it");
    }

    #[test]
    fn an_entry_that_nobody_can_use_ends_nothing() {
        let mut shelf = Shelf::default();
        shelf.configs.insert(Digest::of(b"old").0, "");
        shelf.configs.insert(Digest::of(b"mute").0, "linux/arm/v7");
        shelf.indexes.insert(Digest::of(b"empty").0, r#"{"manifests":[]}"#.into());
        shelf.indexes.insert(Digest::of(b"null").0, format!(r#"{{"mediaType":"{INDEX}","manifests":null}}"#));
        shelf.indexes.insert(Digest::of(b"page").0, "<html>".into());
        shelf.missing = vec![Digest::of(b"left out"), Digest::of(b"left out, too")];
        let sha512 = format!(
            r#"{{"mediaType":"{IMAGE}","digest":"sha512:{}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}"#,
            "a".repeat(128)
        );
        let artifact =
            entry("sbom", IMAGE, "").replace("\"size\"", "\"artifactType\":\"application/spdx\",\"size\"");
        let odd = [
            (entry("helm", IMAGE, ""), "this is no container image"),
            (entry("old", IMAGE, ""), "its config does not say what it runs on"),
            (entry("gone", INDEX, ""), "the registry has no such manifest"),
            (entry("empty", INDEX, ""), "an index without entries"),
            (entry("null", INDEX, ""), "an index without entries"),
            (entry("page", INDEX, ""), "manifest is not valid"),
            (arm("left out", "v7"), "not in this layout"),
            (entry("left out, too", INDEX, ""), "not in this layout"),
            (artifact, "not an image"),
            (sha512, "its digest cannot be checked: it is of sha512, not sha256"),
            ("null".to_owned(), "it is null"),
        ];
        let host = board("armv7l");
        for (odd, why) in &odd {
            let alone = choose(&mut shelf, std::slice::from_ref(odd), &host).unwrap();
            assert_eq!(alone.taken, None);
            let words = alone.entries.iter().map(|entry| entry.verdict.text());
            let words: Vec<_> = words.chain(alone.unusable.iter().map(|entry| entry.why.clone())).collect();
            assert!(words.len() == 1 && words[0].contains(why), "{words:?} is not {why}");
            // Before or behind an image, labelled or not.
            for image in [arm("mute", "v7"), entry("mute", IMAGE, "")] {
                for entries in [[odd.clone(), image.clone()], [image, odd.clone()]] {
                    assert_eq!(taken(&mut shelf, &entries, "armv7l", &["mute"]), Some("mute"), "{odd}");
                }
            }
        }
        let entries = odd.map(|(entry, _)| entry);
        let refusal = choose(&mut shelf, &entries, &host).unwrap().refusal(&host).to_string();
        for part in [
            "one for linux/arm/v7: not in this layout",
            "one for linux/arm/v7: its digest cannot be checked: it is of sha512",
        ] {
            assert!(refusal.contains(part), "{refusal}");
        }
        // A place that does not answer says nothing about an entry.
        shelf.configs.insert(Digest::of(b"far").0, "network");
        let error = choose(&mut shelf, &[entry("far", IMAGE, "")], &host).unwrap_err();
        assert_eq!(error.kind(), Kind::Network);
    }
}
