//! One file a command: what happens, in order. The mechanisms are in the rooms below.

mod assemble;
#[cfg(feature = "publish")]
mod check;
mod confined;
mod confirm;
#[cfg(feature = "publish")]
mod copy;
mod deploy;
mod follow;
mod gc;
mod image;
mod inspect;
#[cfg(feature = "publish")]
mod lookup;
#[cfg(feature = "publish")]
mod manifest;
mod needed;
mod plan;
mod platform;
mod pull;
#[cfg(feature = "publish")]
mod push;
pub mod report;
mod rollback;
mod status;
#[cfg(feature = "publish")]
mod traffic;
mod update;
mod verifier;
mod verify;

use crate::cli::{Command, Invocation, Options};
use crate::clock::{self, Clock, date::Utc};
use crate::error::{Error, Kind, Result};
use crate::image::manifest::{Descriptor, Document, ImageConfig, Manifest};
use crate::image::reference::Reference;
use crate::image::select::Lookup;
use crate::platform::{Host, Inputs, Platform, cpuinfo};
use crate::sandbox::Rights;
use crate::source::{self, Fetched, Source};
use crate::store;
use crate::store::deployment::{Deployment, Deployments};
use crate::store::lock::StateLock;
use crate::sys;
#[cfg(fuzzing)]
pub use inspect::fuzzing;
use report::Report;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

/// Does what the command line says; with `-v` also says what memory it took, whatever came of it.
pub fn run(invocation: &Invocation) -> Result<()> {
    let outcome = dispatch(invocation);
    if log::log_enabled!(log::Level::Info) {
        let kib = sys::peak_resident_kib().unwrap_or_else(|| {
            log::info!(
                "/proc is not mounted: the next line is by getrusage, which counts what started edgepull, too"
            );
            sys::peak_resident_kib_by_getrusage()
        });
        let kib = kib.max(confined::peak_kib());
        log::info!("peak memory (VmHWM): {kib} KiB");
    }
    outcome
}

fn dispatch(invocation: &Invocation) -> Result<()> {
    let report = Report::new(&invocation.options);
    let options = &invocation.options;
    // Whoever names one means one: without it, a private image would seem not to be there.
    if let Some(path) = options.auth_file.as_deref().filter(|path| !path.exists()) {
        let message = format!("--auth-file {}: no such file", path.display());
        return Err(Error::new(Kind::Usage, message));
    }
    match &invocation.command {
        Command::Help(help) => report.text(help),
        Command::Version => {
            report.text(format_args!("edgepull {} ({:#})", env!("CARGO_PKG_VERSION"), Utc(clock::BUILT)))
        }
        Command::Platform => platform::run(&host(options)?, options, &report),
        Command::Inspect { image, raw } => {
            let (clock, host) = (clock(image, options), (!raw).then(|| host(options)).transpose()?);
            let mut source = open(image, options, &clock)?;
            let rights = Rights { readable: source.files(), raw: *raw, ..Rights::default() };
            let verbose = options.verbose > 0;
            let inspect = |_: &mut _| inspect::run(image, host.as_ref(), verbose, &mut *source, &report);
            confined::confined::<()>(rights, options, &clock, inspect, |_| Ok(true))
        }
        Command::Pull(pull) => {
            let clock = clock(&pull.image, options);
            let outcome = pull::run(pull, &host(options)?, options, &clock, &report);
            // What a server said about the time is as true when something else went wrong afterwards.
            if let Some(time) = clock.to_record() {
                store::clock::save(&options.state_dir, time);
            }
            outcome
        }
        Command::Status { name } => status::run(name.as_deref(), options, &report),
        Command::Rollback { name, to } => rollback::run(name, *to, options, &report),
        Command::Confirm { name } => confirm::run(name, options, &report),
        Command::Deploy(deploy) => deploy::run(deploy, options, &report),
        Command::Update { names } => update::run(names, options, &report),
        Command::Verify { name, repair } => verify::run(name.as_deref(), *repair, options, &report),
        Command::Gc { dry_run } => gc::run(*dry_run, options, &report),
        #[cfg(feature = "publish")]
        Command::Copy { from, to, strict, platforms, referrers } => {
            let which = copy::Which { strict: *strict, platforms, referrers: *referrers };
            copy::run(from, to, &which, options, &report)
        }
        #[cfg(feature = "publish")]
        Command::Manifest(manifest) => manifest::run(manifest, options, &report),
    }
}

/// The deployment `name`, and the lock that whoever changes it holds.
fn locked(name: &str, what: &str, options: &Options) -> Result<(StateLock, Deployment)> {
    let deployments = Deployments::open(&options.state_dir)?;
    // Before the lock, which would make the state directory.
    deployments.existing(name)?;
    let lock = StateLock::take(&options.state_dir, options.wait, what)?;
    Ok((lock, deployments.existing(name)?))
}

/// The clock that a registry's certificate is judged by. Local images need none, and read no record.
fn clock(image: &Reference, options: &Options) -> Arc<Clock> {
    clock_of([image], options)
}

/// The same for several images.
fn clock_of<'a>(images: impl IntoIterator<Item = &'a Reference>, options: &Options) -> Arc<Clock> {
    let is_remote = images.into_iter().any(|image| matches!(image, Reference::Registry(_)));
    Arc::new(Clock::new(is_remote.then(|| store::clock::load(&options.state_dir)).flatten()))
}

/// Who this board is, or who the options say that it is.
fn host(options: &Options) -> Result<Host> {
    let recorded = match &options.cpuinfo {
        None => None,
        Some(path) => {
            let mut bytes = Vec::new();
            // One byte more than is looked at shows that the file is cut.
            let most = cpuinfo::MAX_BYTES as u64 + 1;
            let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
            read.map_err(|error| {
                Error::from_io(Kind::Usage, error).context(format!("--cpuinfo {}", path.display()))
            })?;
            Some(bytes)
        }
    };
    Host::detect(&Inputs {
        variant: options.variant.as_deref(),
        platform: options.platform.as_ref(),
        features: &options.os_features,
        cpuinfo: recorded.as_deref(),
        machine: options.machine.as_deref(),
    })
}

fn open(image: &Reference, options: &Options, clock: &Arc<Clock>) -> Result<Box<dyn Source>> {
    source::open(image, &reaching(options, clock))
}

#[cfg(feature = "publish")]
fn open_destination(
    image: &Reference,
    options: &Options,
    clock: &Arc<Clock>,
) -> Result<Box<dyn source::Destination>> {
    source::open_destination(image, &reaching(options, clock))
}

/// How sources are reached.
fn reaching(options: &Options, clock: &Arc<Clock>) -> source::Options {
    source::Options {
        plain_http: options.plain_http,
        #[cfg(feature = "publish")]
        insecure: options.insecure,
        #[cfg(feature = "publish")]
        login: options.login.clone(),
        ca_file: options.ca_file.clone(),
        auth_file: options.auth_file.clone(),
        hosts_dir: options.hosts_dir.clone(),
        network: options.network.clone(),
        lowest: options.lowest,
        clock: clock.clone(),
        ..Default::default()
    }
}

/// Fetches and parses documents for [`crate::image::select`].
struct Documents<'a>(&'a mut dyn Source);

impl Documents<'_> {
    /// The manifest of an entry that says it is an image, and its bytes.
    fn image(&mut self, descriptor: &Descriptor) -> Result<(Fetched, Box<Manifest>)> {
        let fetched = self.0.manifest(descriptor)?;
        match Document::parse(&descriptor.media_type, &fetched.bytes)? {
            Document::Manifest(manifest) => Ok((fetched, manifest)),
            Document::Index(_) => {
                let message = format!("{} is announced as an image, but is an index", descriptor.digest);
                Err(Error::new(Kind::BadImage, message))
            }
        }
    }

    /// An image's config, by its descriptor in the manifest.
    fn config(&mut self, descriptor: &Descriptor) -> Result<ImageConfig> {
        ImageConfig::parse(&self.config_bytes(descriptor)?)
    }

    /// As [`Documents::config`], not parsed yet.
    fn config_bytes(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if !descriptor.is_image_config() {
            let message = format!("this is no container image: its config is {:?}", descriptor.media_type);
            return Err(Error::new(Kind::BadImage, message));
        }
        Ok(self.0.config(descriptor)?.bytes)
    }
}

impl Lookup for Documents<'_> {
    fn document(&mut self, descriptor: &Descriptor) -> Result<Document> {
        let fetched = self.0.manifest(descriptor)?;
        Document::parse(&descriptor.media_type, &fetched.bytes)
    }

    fn config_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
        let (_, manifest) = self.image(descriptor)?;
        Ok(self.config(&manifest.config)?.platform())
    }

    fn is_there(&mut self, descriptor: &Descriptor) -> bool {
        self.0.has(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn a_named_auth_file_that_is_not_there_ends_every_command_before_anybody_is_asked() {
        for command in [["inspect", "r.invalid/app:1"], ["pull", "r.invalid/app:1"], ["update", "--all"]] {
            let mut words = vec!["--auth-file=/nonexistent/auth.json"];
            words.extend(command);
            words.extend((command[0] == "pull").then_some("/nonexistent/tree"));
            let invocation = crate::cli::parse(words.into_iter().map(OsString::from)).unwrap();
            let error = dispatch(&invocation).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert_eq!(error.to_string(), "--auth-file /nonexistent/auth.json: no such file");
        }
    }
}
