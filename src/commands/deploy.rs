//! `edgepull deploy`: from now on NAME tracks IMAGE, and has it.

use super::follow::{By, follow, recover};
use super::report::Report;
use crate::cli::{self, Options};
use crate::error::Result;
use crate::store::deployment::{Deployments, check_name};
use crate::store::lock::StateLock;

pub fn run(deploy: &cli::Deploy, options: &Options, report: &Report) -> Result<()> {
    check_name(&deploy.name)?;
    let _lock = StateLock::take(&options.state_dir, options.wait, "deploy")?;
    let deployments = Deployments::open(&options.state_dir)?;
    let before = deployments.load(&deploy.name)?;
    let tracking = deploy.tracking(before.as_ref().map(|deployment| &deployment.record().tracking));
    deploy.check(&tracking)?;
    let mut deployment = match before {
        Some(mut deployment) => {
            // What comes now takes the place of what has failed.
            if let Err(error) = recover(&mut deployment, options) {
                log::warn!("{error}");
            }
            deployment.track(tracking)?;
            deployment
        }
        None => deployments.create(&deploy.name, tracking)?,
    };
    follow(&mut deployment, By::Hand { pin: deploy.pin }, &mut || {}, options, report)
}
