//! `--verifier PROGRAM`: somebody else says whether an image may run, before anything of it is unpacked.
//!
//! ```text
//! PROGRAM NAME DIGEST < {"mediaType":…,"digest":…,"size":…}
//! ```
//!
//! NAME is the image as it was asked for, DIGEST and the descriptor (image-spec, descriptor.md) are those of what the
//! name stands for: an index or a manifest. EDGEPULL_DIGEST is the manifest that this board takes, which is covered, as
//! the index names its digest. Exit status 0 allows.

use super::confined::Settled;
use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::store::deployment::succeeded;
use serde_json::json;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the program may take: it may ask servers far away.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks `program`, if there is one.
///
/// # Errors
/// [`Kind::Verification`] unless it allows the image.
pub(super) fn ask(program: Option<&Path>, image: &Reference, settled: &Settled) -> Result<()> {
    let Some(program) = program else { return Ok(()) };
    let until = Instant::now() + LIMIT;
    let shown = program.display().to_string();
    let outcome = match begin(program, image, settled) {
        Ok(child) => succeeded(child, &shown, until, LIMIT),
        Err(error) => Err(format!("{shown:?} could not be run ({error})")),
    };
    outcome.map_err(|why| {
        let message = format!("{image} ({}) is not allowed: the verifier {why}", settled.root);
        Error::new(Kind::Verification, message).hint("nothing of it was unpacked")
    })
}

/// What it prints is for people, and goes where edgepull's own words do.
fn begin(program: &Path, image: &Reference, settled: &Settled) -> io::Result<Child> {
    let descriptor =
        json!({ "mediaType": settled.media_type, "digest": settled.root, "size": settled.size }).to_string();
    let mut child = Command::new(program)
        .args([image.to_string(), settled.root.to_string()])
        .env("EDGEPULL_DIGEST", settled.digest.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
        .process_group(0)
        .spawn()?;
    // A pipe has room for it. Who does not read it has ended: that is his own affair.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(descriptor.as_bytes()));
    Ok(child)
}
