//! From a reference to an image, in the steps that `pull` and `deploy` have in common: the board is named, an
//! entry chosen; and, when its layers are here ([`super::plan`]) and a tree is composed of them, what the layers
//! could not keep is told, the program read and the bundle's config.json written.

use super::Documents;
use super::report::Report;
use crate::error::{Error, Kind, Printable, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Document, ImageConfig, Manifest};
use crate::image::program::{self, Finding};
use crate::image::reference::Reference;
use crate::image::runtime::{self, Process};
use crate::image::select::{self, Ask, Selection, Verdict};
use crate::layer::rootfs::{self, Summary, Warning, open_in_root};
use crate::platform::{Host, Platform};
use crate::source::{Fetched, Source};
use crate::store::disk::check_directory;
use crate::sys;
use crate::trust::rollback::Age;
use crate::trust::{Subject, Trust};
use serde_json::json;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An image that is settled on: everything but the layers' bytes.
pub(super) struct Chosen {
    /// Of what the reference names: an index or a manifest.
    pub(super) root: Digest,
    /// Its media type; empty if the source says nothing.
    pub(super) media_type: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Of the manifest.
    pub(super) digest: Digest,
    pub(super) platform: Platform,
    pub(super) manifest: Box<Manifest>,
    pub(super) config: ImageConfig,
    pub(super) age: Age,
}

/// Says who the machine is.
pub(super) fn announce(host: &Host, image: &Reference, report: &Report) -> Result<()> {
    let best = host.candidates.first();
    let line = match best {
        Some(best) => format!("this board: {} ({})", best.platform, best.reason),
        None => format!("this board: no platform ({})", host.refusal.as_deref().unwrap_or("no evidence")),
    };
    report.event(line, || {
        json!({
            "event": "board",
            "image": image.to_string(),
            "platform": best.map(|best| best.platform.to_string()),
            "reason": best.map(|best| best.reason.as_str()).or(host.refusal.as_deref()),
        })
    })
}

/// Picks the entry, or holds a single image against the board. What `trust` (`None`: nothing) demands of it is checked
/// before anything of it but index and manifest is read, except where an entry has to be told by its config.
pub(super) fn choose(
    source: &mut dyn Source,
    host: &Host,
    trust: Option<&Trust>,
    force: bool,
    report: &Report,
) -> Result<Chosen> {
    let root = source.root()?;
    let (root_digest, size) = (root.digest, root.bytes.len() as u64);
    let mut documents = Documents(source);
    let mut notes = None;
    let (fetched, platform, manifest, why) = match Document::parse(&root.media_type, &root.bytes)? {
        Document::Index(index) => {
            notes = Some(index.annotations.clone());
            let mut selection = select::select(index, host, Ask::IfNoLabelFits, &mut documents)?;
            let (fetched, manifest) = match confirm(&mut selection, host, &mut documents)? {
                Some(confirmed) => confirmed,
                // Whoever names the platform knows what the only entry that says nothing is.
                None => match selection.only_mute().filter(|_| force || host.is_ordered()) {
                    Some(mute) => documents.image(&selection.entries[mute].descriptor)?,
                    None => return Err(selection.refusal(host)),
                },
            };
            for warning in selection.passed_over(host) {
                log::warn!("{}", Printable(&warning));
            }
            let count = selection.entries.len();
            let best = selection.taken.map(|(_, candidate)| (candidate, &host.candidates[candidate]));
            let why = match best {
                Some((candidate, best)) => {
                    format!("{} of {count} entries: {}", ordinal(candidate), best.reason)
                }
                None => format!("the only one of {count} entries that does not say what it is for"),
            };
            (Some(fetched), best.map(|(_, best)| best.platform.clone()), manifest, why)
        }
        Document::Manifest(manifest) => (None, None, manifest, "the only image there is".to_owned()),
    };
    let chosen = fetched.as_ref().unwrap_or(&root);
    let digest = chosen.digest;
    if let Some(trust) = trust
        && !trust.check(documents.0, subject(&root), subject(chosen))?
    {
        notes = None;
    }
    let media_type = root.media_type.clone();
    drop((root, fetched));
    let config = documents.config(&manifest.config)?;
    let platform = match platform {
        Some(platform) => platform,
        None => single_platform(&config, host, force)?,
    };
    report.event(format!("image: {platform} {digest} ({why})"), || {
        json!({
            "event": "image",
            "platform": platform.to_string(),
            "digest": digest,
            "reason": why,
            "layers": manifest.layers.len(),
            "size": manifest.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size)),
        })
    })?;
    let age = Age::of(&manifest.annotations, notes.as_deref(), &config);
    Ok(Chosen { root: root_digest, media_type, size, digest, platform, manifest, config, age })
}

/// Fetches the manifest of the entry that was taken. One that is no image, or broken, is passed over, and another taken.
///
/// # Errors
/// Returns those of the source that say nothing about an entry, and [`Kind::NotFound`]: what a registry lacks now, it may have soon.
pub(super) fn confirm(
    selection: &mut Selection,
    host: &Host,
    documents: &mut Documents,
) -> Result<Option<(Fetched, Box<Manifest>)>> {
    while let Some((taken, _)) = selection.taken {
        let verdict = match documents.image(&selection.entries[taken].descriptor) {
            Ok((_, manifest)) if !manifest.config.is_image_config() => Verdict::NotAnImage,
            Ok(confirmed) => return Ok(Some(confirmed)),
            Err(error) if error.kind() == Kind::BadImage => Verdict::Unusable(error.message().to_owned()),
            Err(error) => return Err(error),
        };
        log::info!("{}: {}", selection.entries[taken].descriptor.digest, Printable(&verdict.text()));
        selection.pass_over(taken, verdict, host, documents)?;
    }
    Ok(None)
}

fn subject(fetched: &Fetched) -> Subject<'_> {
    Subject { digest: fetched.digest, bytes: &fetched.bytes }
}

/// What the candidate's place in the board's list means.
fn ordinal(candidate: usize) -> String {
    match candidate {
        0 => "the best match".to_owned(),
        _ => format!("fallback {candidate}, as nothing better can be used,"),
    }
}

/// Finds out what a single image is for, by its config.
///
/// # Errors
/// Returns [`Kind::NoPlatform`] where the board cannot run that, or the config does not say it, unless `force`.
pub(super) fn single_platform(config: &ImageConfig, host: &Host, force: bool) -> Result<Platform> {
    let Some(platform) = config.platform() else {
        let error = Error::new(
            Kind::NoPlatform,
            "the image does not say what it runs on: no architecture in its config",
        );
        refuse(error.hint("name the platform that it is for, by --platform"), force || host.is_ordered())?;
        let best = host.candidates.first().map(|best| best.platform.clone());
        return Ok(best.unwrap_or_else(|| Platform::new("linux", "unknown", "")));
    };
    select::check_single(&platform, host).or_else(|error| refuse(error, force))?;
    Ok(platform)
}

/// A refusal, which `--force` turns into a warning.
fn refuse(error: Error, force: bool) -> Result<()> {
    if !force {
        return Err(error);
    }
    log::warn!("taken all the same: {}", Printable(error.message()));
    Ok(())
}

/// Says what could not be kept, of each kind once: what fetching the layers has found, and what composing the tree.
pub(super) fn warn(mut warnings: Vec<Warning>, summary: Summary) {
    rootfs::merge(&mut warnings, summary.warnings);
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// Reads the program that the image runs; refuses the image if it lies.
pub(super) fn check_program(chosen: &Chosen, host: &Host, root: BorrowedFd<'_>, force: bool) -> Result<()> {
    let open = |path: &Path| open_in_root(root, path);
    match program::check(&chosen.config.config, &chosen.platform, host, &open) {
        Ok(Finding::Fits(files)) => {
            log::info!("checked against {}: {}", chosen.platform, Printable(&files.join(", ")));
        }
        Ok(Finding::Unknown(why)) => log::info!("no program checked: {}", Printable(&why)),
        Ok(Finding::Lies(why)) => {
            refuse(Error::new(Kind::BadImage, why).hint("--force unpacks it all the same"), force)?;
        }
        Err(error) => refuse(error, force)?,
    }
    Ok(())
}

/// The process that the image runs, by its config and the accounts in its `root`.
pub(super) fn process(chosen: &Chosen, root: BorrowedFd<'_>) -> Result<Process> {
    Process::of(&chosen.config, &|path: &Path| open_in_root(root, path))
}

/// Makes a runtime bundle of `directory`, in which another process has composed `rootfs`: writes its `config.json`,
/// whose digest it returns. It is durable then.
///
/// # Errors
/// [`crate::error::Kind::Disk`], also where these are no directories, or there is a `config.json`: whoever has composed may have
/// become somebody else.
pub(super) fn write_config(process: &Process, readonly: bool, directory: &Path) -> Result<Digest> {
    let rootless = match sys::effective_ids() {
        (0, _) => None,
        ids => Some(ids),
    };
    let text = runtime::config_json(process, rootless, readonly, sys::has_seccomp());
    let path = directory.join("config.json");
    let written = || {
        check_directory(directory)?;
        check_directory(&directory.join("rootfs"))?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(text.as_bytes())?;
        // Whatever the umask.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|error| Error::disk(path.display(), error))?;
    Ok(Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::elf::tests::arm_program;
    use crate::platform::Inputs;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_that_lies_is_refused_unless_forced() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("app"), arm_program(0x0500_0400, &[6, 10])).unwrap();
        let digest = Digest([0; 32]);
        let text = format!(r#"{{"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#);
        let Document::Manifest(manifest) = Document::parse("", text.as_bytes()).unwrap() else { panic!() };
        let config = ImageConfig::parse(br#"{"config":{"Cmd":["/app"]}}"#).unwrap();
        let (media_type, age) = (String::new(), Age::of(&manifest.annotations, None, &config));
        let platform = Platform::parse("linux/arm/v6").unwrap();
        let chosen = Chosen { root: digest, media_type, size: 1, digest, platform, manifest, config, age };
        let host = Host::detect(&Inputs { machine: Some("armv6l"), ..Inputs::default() }).unwrap();
        let root = File::open(home.path()).unwrap();
        let error = check_program(&chosen, &host, root.as_fd(), false).unwrap_err();
        assert_eq!(error.kind(), Kind::BadImage);
        assert_eq!(
            error.to_string(),
            "the image is labelled linux/arm/v6, but /app says otherwise: it is ARMv7 code; --force unpacks it all the same"
        );
        check_program(&chosen, &host, root.as_fd(), true).unwrap();
        fs::remove_file(home.path().join("app")).unwrap();
        check_program(&chosen, &host, root.as_fd(), false).unwrap();
    }

    #[test]
    fn a_bundle_is_made_of_directories_only_and_where_nobody_has_made_one() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let image = ImageConfig::parse(br#"{"os":"linux","architecture":"arm"}"#).unwrap();
        let process = Process::of(&image, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        fs::create_dir_all(at("whole/rootfs")).unwrap();
        symlink(at("whole"), at("link")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::create_dir(at("half")).unwrap();
        symlink("/", at("half/rootfs")).unwrap();
        for name in ["link", "empty", "half"] {
            let error = write_config(&process, true, &at(name)).unwrap_err().to_string();
            assert!(error.contains(name) && !at("whole/config.json").exists(), "{error}");
        }
        let digest = write_config(&process, true, &at("whole")).unwrap();
        let written = fs::read(at("whole/config.json")).unwrap();
        assert_eq!(digest, Digest::of(&written));
        assert_eq!(fs::metadata(at("whole/config.json")).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(write_config(&process, true, &at("whole")).is_err(), "it is not written over");
    }
}
