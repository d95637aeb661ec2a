//! Finds out which layers of the store are needed. The records are asked one generation at a time, so that few layers
//! are in memory, however many there are.

use crate::error::Result;
use crate::image::digest::Digest;
use crate::store::deployment::{Deployment, Deployments, Generation, Pending};
use crate::store::layers::Layers;
use std::path::Path;

/// Takes those out of `layers`, which are sorted, that a generation of any deployment is made of.
///
/// # Errors
/// Returns [`crate::error::Kind::Disk`] if a record, or a generation's list of layers, cannot be read.
pub(super) fn strike_recorded(state: &Path, layers: &mut Vec<Digest>) -> Result<()> {
    strike(state, layers, &|_, _| true, false)
}

/// Takes those out of `layers`, which are sorted, that a generation for which `stays` returns true is made of, in any
/// deployment.
///
/// # Errors
/// Returns the errors of [`strike_recorded`].
pub(super) fn strike_kept(
    state: &Path,
    layers: &mut Vec<Digest>,
    stays: &dyn Fn(&Deployment, &Generation) -> bool,
) -> Result<()> {
    strike(state, layers, stays, false)
}

/// Removes layers that neither a generation nor an interrupted fetch of any deployment names. If a deployment's
/// record or lists of layers cannot be read, it warns and removes no layer; that is no error, as the other
/// deployments are not to suffer from it.
///
/// # Errors
/// Returns [`crate::error::Kind::Disk`] if the layer store cannot be read, or a layer cannot be removed.
pub(super) fn forget_layers(state: &Path) -> Result<()> {
    let layers = Layers::open(state)?;
    let mut unknown = None;
    let mut strike = |batch: &mut Vec<Digest>| {
        if let Err(error) = strike(state, batch, &|_, _| true, true) {
            batch.clear();
            unknown = Some(error);
        }
        Ok(())
    };
    layers.each_unneeded(&mut strike, &mut |home, name| layers.remove(home, name))?;
    if let Some(error) = unknown {
        log::warn!("layers that nothing needs any more are kept: {error}");
    }
    Ok(())
}

fn strike(
    state: &Path,
    layers: &mut Vec<Digest>,
    stays: &dyn Fn(&Deployment, &Generation) -> bool,
    with_pending: bool,
) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let mut named = vec![false; layers.len()];
    let mut name = |layer: &Digest| {
        if let Ok(at) = layers.binary_search(layer) {
            named[at] = true;
        }
    };
    let deployments = Deployments::open(state)?;
    for deployment in deployments.names()? {
        let Some(deployment) = deployments.load(&deployment)? else { continue };
        for generation in deployment.record().generations.iter().filter(|one| stays(&deployment, one)) {
            deployment.layers(generation)?.iter().for_each(&mut name);
        }
        let pending = Pending::load(&deployment).filter(|_| with_pending);
        pending.iter().flat_map(|pending| &pending.missing).for_each(|one| name(&one.diff_id));
    }
    let mut named = named.into_iter();
    layers.retain(|_| !named.next().unwrap_or(false));
    Ok(())
}
