//! The part of a command that asks a registry, and unpacks what it sends: in a process that can do little
//! ([`crate::sandbox`]). What it needs of the rest it asks for ([`Question`]).

use super::image::Chosen;
use crate::cli::Options;
use crate::clock::Clock;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::sandbox::{self, Line, Rights};
use crate::source::Learnt;
use crate::store::deployment::Pending;
use crate::sys;
use crate::trust::rollback::Age;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the process that fetches asks. Yes: go on. No: there is nothing to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// The registry says that this is what the image's name stands for.
    Root(Digest),
    /// This image is settled on: nothing of it was unpacked yet.
    Image(Settled),
    /// This is going to be fetched.
    Pending(Pending),
    /// This is what an image's label is worth.
    #[cfg(feature = "publish")]
    Checked(crate::image::label::Checked),
}

/// An image that is settled on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settled {
    /// Of what the reference names: an index or a manifest.
    pub(super) root: Digest,
    /// Its media type; empty if the source says nothing.
    pub(super) media_type: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Of the manifest.
    pub(super) digest: Digest,
    /// What it says of its age.
    pub(super) age: Age,
}

impl Settled {
    pub(super) fn of(chosen: &Chosen) -> Settled {
        Settled {
            root: chosen.root,
            media_type: chosen.media_type.clone(),
            size: chosen.size,
            digest: chosen.digest,
            age: chosen.age.clone(),
        }
    }
}

/// What the process has to have asked for: who it is that it has come back with.
///
/// # Errors
/// [`crate::error::Kind::Other`] where it has not.
pub(super) fn settled(settled: Option<Settled>) -> Result<Settled> {
    settled.ok_or_else(sandbox::nonsense)
}

/// What comes back, whatever came of it.
#[derive(Serialize, Deserialize)]
struct Told<T> {
    result: Result<T>,
    /// A time that a server and this board's clock agree to have passed.
    witnessed: Option<u64>,
    /// Of mirrors, and of the network.
    learnt: Learnt,
    peak_kib: u64,
}

/// The most memory that such a process has had resident, in KiB.
static PEAK_KIB: AtomicUsize = AtomicUsize::new(0);

/// The most memory that a process of [`confined`] has had resident, in KiB; 0 before the first.
pub(super) fn peak_kib() -> u64 {
    PEAK_KIB.load(Ordering::Relaxed) as u64
}

/// Does `work` where it can do what `rights` say, and little else. `answer` knows what it may go on with.
pub(super) fn confined<T: Serialize + DeserializeOwned>(
    rights: Rights,
    options: &Options,
    clock: &Clock,
    work: impl FnOnce(&mut Line) -> Result<T>,
    mut answer: impl FnMut(Question) -> Result<bool>,
) -> Result<T> {
    let rights = Rights { background: options.background, ..rights };
    let told: Told<T> = sandbox::run(
        &rights,
        |line| {
            let result = work(line);
            let (witnessed, learnt) = (clock.witnessed(), options.network.learnt());
            Ok(Told { result, witnessed, learnt, peak_kib: sys::peak_resident_kib().unwrap_or(0) })
        },
        |question| match serde_json::from_slice(question) {
            Ok(question) => answer(question),
            Err(_) => Err(sandbox::nonsense()),
        },
    )?;
    PEAK_KIB.fetch_max(told.peak_kib as usize, Ordering::Relaxed);
    options.network.learn(told.learnt);
    if let Some(time) = told.witnessed {
        clock.witness(time);
    }
    told.result
}
