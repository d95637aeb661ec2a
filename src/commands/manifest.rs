//! `edgepull manifest …`: docker manifest's way to a list, and manifest-tool's.

use super::check;
use super::confined::confined;
use super::lookup::{self, Incomplete};
use super::push::{self, Known, Order, Wanted};
use super::report::{Report, escaped};
use super::{clock, open};
use crate::cli::definition::STATE_DIR;
use crate::cli::{Check, Described, Manifest, Options};
use crate::error::{Error, Kind, Result};
use crate::image::compose::{Entry, Family, List, Style, publishable};
use crate::image::manifest::PlatformField;
use crate::image::reference::{Reference, RegistryReference};
use crate::image::spec::{Item, SPEC_MAX, Spec};
use crate::sandbox::{Rights, Verbatim};
use crate::source::Source;
use crate::store::lists::{Draft, Image, Lists};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::mem;
use std::path::Path;

pub fn run(manifest: &Manifest, options: &Options, report: &Report) -> Result<()> {
    match manifest {
        Manifest::Check { image } => check::run(image, options, &clock(image, options), report),
        Manifest::Create { list, images, amend, annotations } => {
            create(list, images, *amend, annotations, options, report)
        }
        Manifest::Annotate { list, image, platform, annotations } => {
            annotate(list, image.as_ref(), platform, annotations, options)
        }
        Manifest::Inspect { list, image } => inspect(list, image.as_ref(), options, report),
        Manifest::Push { list, purge, check } => push_list(list, *purge, *check, options, report),
        Manifest::PushSpec { spec, family, ignore_missing, check } => {
            let spec = match spec {
                Described::File(path) => &read(path)?,
                Described::Arguments(spec) => spec,
            };
            push_spec(spec, *family, *ignore_missing, *check, options, report)
        }
        Manifest::Rm { lists } => remove(lists, options),
    }
}

fn lists(options: &Options) -> Result<Lists> {
    let given = Some(options.state_dir.as_path()).filter(|given| *given != Path::new(STATE_DIR));
    Lists::of(given)
}

fn create(
    list: &RegistryReference,
    images: &[Reference],
    amend: bool,
    annotations: &BTreeMap<String, String>,
    options: &Options,
    report: &Report,
) -> Result<()> {
    let lists = lists(options)?;
    let refused = || {
        Error::new(Kind::Usage, format!("there is a list {list} already"))
            .hint("--amend adds to it; manifest rm forgets it")
    };
    if !amend && lists.get(list)?.is_some() {
        return Err(refused());
    }
    let mut new = Vec::new();
    for image in images {
        let look =
            |source: &mut dyn Source| lookup::entries(source, &PlatformField::default(), Incomplete::LeftOut);
        let entries: Vec<Entry> = at_its_place(image, options, look).map_err(|error| error.context(image))?;
        new.push(Image { name: image.to_string(), entries });
    }
    let _lock = lists.lock("manifest create")?;
    // Somebody may have been faster.
    let mut there = match lists.get(list)? {
        Some(_) if !amend => return Err(refused()),
        there => there.unwrap_or_default(),
    };
    for image in new {
        match there.images.iter_mut().find(|known| known.name == image.name) {
            Some(known) => renew(known, image),
            None => there.images.push(image),
        }
    }
    there.annotations.extend(annotations.clone());
    lists.put(list, there)?;
    report.event(
        format_args!("Created manifest list {list}"),
        || serde_json::json!({ "event": "created", "list": list.to_string() }),
    )
}

/// The image may have been pushed anew since it was put into the list. What was said of it still holds, as in docker's
/// lists; what it is made of does not, which those go on with.
fn renew(known: &mut Image, new: Image) {
    match (known.entries.as_mut_slice(), new.entries.as_slice()) {
        ([known], [new]) => {
            let mut annotations = new.annotations.clone();
            annotations.extend(mem::take(&mut known.annotations));
            *known = Entry { platform: known.platform.take(), annotations, ..new.clone() };
        }
        _ => known.entries = new.entries,
    }
}

fn annotate(
    list: &RegistryReference,
    image: Option<&Reference>,
    said: &PlatformField,
    annotations: &BTreeMap<String, String>,
    options: &Options,
) -> Result<()> {
    let lists = lists(options)?;
    let _lock = lists.lock("manifest annotate")?;
    let mut draft = lists.existing(list)?;
    let Some(image) = image else {
        draft.annotations.extend(annotations.clone());
        return lists.put(list, draft);
    };
    let entry = only_entry(&mut draft.images, list, image)?;
    entry.annotations.extend(annotations.clone());
    let platform = entry.platform.get_or_insert_default();
    for (text, new) in [(&mut platform.os, &said.os), (&mut platform.architecture, &said.architecture)] {
        if !new.is_empty() {
            text.clone_from(new);
        }
    }
    platform.variant = said.variant.clone().or(platform.variant.take());
    platform.os_version = said.os_version.clone().or(platform.os_version.take());
    for feature in &said.os_features {
        if !platform.os_features.contains(feature) {
            platform.os_features.push(feature.clone());
        }
    }
    publishable(platform)?;
    lists.put(list, draft)
}

/// The one image that `image` has become in the list.
fn only_entry<'a>(
    images: &'a mut [Image],
    list: &RegistryReference,
    image: &Reference,
) -> Result<&'a mut Entry> {
    let name = image.to_string();
    let there_is = images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(found) = images.iter_mut().find(|image| image.name == name) else {
        return Err(Error::new(Kind::NotFound, format!("{name} is not in {list}; there is {there_is}")));
    };
    let mut images = found.entries.iter_mut().filter(|entry| !entry.is_attestation());
    match (images.next(), images.next()) {
        (Some(entry), None) => Ok(entry),
        _ => Err(Error::new(
            Kind::Usage,
            format!("{name} is a list itself, whose entries say what they are for"),
        )),
    }
}

/// The list as it would be pushed, or the manifest of an image in it; what is no list here is looked for where it names.
fn inspect(
    list: &RegistryReference,
    image: Option<&Reference>,
    options: &Options,
    report: &Report,
) -> Result<()> {
    let there = lists(options)?.get(list)?;
    match (there, image) {
        (Some(draft), None) => shown(&composed(draft)?.bytes(Style::Docker)?, report),
        (Some(mut draft), Some(image)) => {
            let manifest = only_entry(&mut draft.images, list, image)?.descriptor();
            at_its_place(image, options, |source| shown(&source.manifest(&manifest)?.bytes, report))
        }
        (None, Some(_)) => lists(options)?.existing(list).map(drop),
        (None, None) => {
            let list = Reference::Registry(list.clone());
            at_its_place(&list, options, |source| shown(&source.root()?.bytes, report))
        }
    }
}

/// A document as it is, but for what would be a terminal's order.
fn shown(document: &[u8], report: &Report) -> Result<()> {
    report.text(escaped(&String::from_utf8_lossy(document)))
}

/// Asks where an image is, in a process that can do little.
fn at_its_place<T: Serialize + DeserializeOwned>(
    image: &Reference,
    options: &Options,
    ask: impl FnOnce(&mut dyn Source) -> Result<T>,
) -> Result<T> {
    let clock = clock(image, options);
    let mut source = open(image, options, &clock)?;
    let rights = Rights { readable: source.files(), ..Rights::default() };
    let asked = |_: &mut _| ask(&mut *source).map(Verbatim);
    confined(rights, options, &clock, asked, |_| Ok(true)).map(|Verbatim(answer)| answer)
}

/// A list as `docker manifest push` makes it: of the family of its first entry.
fn composed(draft: Draft) -> Result<List> {
    let entries: Vec<Entry> = draft.images.into_iter().flat_map(|image| image.entries).collect();
    List::new(Family::of(&entries, &draft.annotations), entries, draft.annotations)
}

fn push_list(
    list: &RegistryReference,
    purge: bool,
    check: Check,
    options: &Options,
    report: &Report,
) -> Result<()> {
    let lists = lists(options)?;
    let wanted =
        |image: Image| Ok(Wanted { image: image.name.parse()?, known: Known::Entries(image.entries) });
    let draft = lists.existing(list)?;
    let order = Order {
        target: Reference::Registry(list.clone()),
        tags: Vec::new(),
        annotations: draft.annotations,
        images: draft.images.into_iter().map(wanted).collect::<Result<_>>()?,
        family: None,
        style: Style::Docker,
        ignore_missing: false,
        check,
    };
    let pushed = push::run(&order, options, report)?;
    if purge {
        let _lock = lists.lock("manifest push")?;
        lists.remove(list)?;
    }
    // What docker prints, for scripts that read it.
    report.event(pushed.digest, || push::event(&order, &pushed))
}

fn push_spec(
    spec: &Spec,
    family: Family,
    ignore_missing: bool,
    check: Check,
    options: &Options,
    report: &Report,
) -> Result<()> {
    // Before anybody is asked for anything.
    let images = spec.manifests.iter().map(|Item { image, platform }| {
        let mut platform = platform.clone();
        if platform != PlatformField::default() {
            publishable(&mut platform)?;
        }
        Ok(Wanted { image: image.parse()?, known: Known::Platform(platform) })
    });
    let order = Order {
        target: spec.image.parse()?,
        tags: spec.tags.clone(),
        annotations: spec.annotations.clone(),
        images: images.collect::<Result<_>>()?,
        family: Some(family),
        style: Style::ManifestTool,
        ignore_missing,
        check,
    };
    let pushed = push::run(&order, options, report)?;
    // What manifest-tool prints.
    let line = format!("Digest: {} {}", pushed.digest, pushed.size);
    report.event(line, || push::event(&order, &pushed))
}

/// The file of `from-spec`.
fn read(path: &Path) -> Result<Spec> {
    let failed = |error: Error| error.context(path.display());
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SPEC_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(Error::from_io(Kind::Usage, error)))?;
    if bytes.len() as u64 > SPEC_MAX {
        return Err(failed(Error::new(Kind::Usage, "larger than 1 MiB (limit SPEC_MAX)")));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed(Error::new(Kind::Usage, "it is not UTF-8")))?;
    Spec::parse(&text).map_err(failed)
}

fn remove(names: &[RegistryReference], options: &Options) -> Result<()> {
    let lists = lists(options)?;
    let _lock = lists.lock("manifest rm")?;
    let mut missing = None;
    for list in names {
        if !lists.remove(list)? {
            log::warn!("there is no list {list} here");
            missing = missing.or(Some(list));
        }
    }
    match missing {
        Some(list) => Err(Error::new(Kind::NotFound, format!("there is no list {list} here"))),
        None => Ok(()),
    }
}
