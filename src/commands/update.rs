//! `edgepull update`: what deployments track is asked for anew.

use super::follow::{By, follow, recover};
use super::report::{self, Report};
use crate::cli::Options;
use crate::error::{Error, Kind, Result};
use crate::store::deployment::Deployments;
use crate::store::lock::StateLock;
use crate::store::turns::Turns;

/// Updates the deployments `names`, or all, in the order of their turns, if there are none.
pub fn run(names: &[String], options: &Options, report: &Report) -> Result<()> {
    let deployments = Deployments::open(&options.state_dir)?;
    for name in names {
        deployments.existing(name)?;
    }
    if names.is_empty() && deployments.names()?.is_empty() {
        return report.text(format_args!("no deployments in {}", options.state_dir.display()));
    }
    let _lock = StateLock::take(&options.state_dir, options.wait, "update")?;
    let all = deployments.names()?;
    let mut turns = names.is_empty().then(|| Turns::of(&options.state_dir));
    let mut waiting = if names.is_empty() { all.clone() } else { names.to_vec() };
    if let Some(turns) = &turns {
        turns.order(&mut waiting);
    }
    let count = waiting.len();
    let mut failed = Vec::new();
    let mut note = |name: &String, error: Error| {
        // A generation's failure has the name in it.
        let error = if error.kind() == Kind::Unhealthy { error } else { error.context(name) };
        if count > 1 {
            log::error!("{error}");
            if options.json {
                report::error(&error);
            }
        }
        failed.push(error);
    };
    // What has to go back goes back now, and not after somebody else's download.
    waiting.retain(|name| match deployments.existing(name) {
        Ok(mut deployment) => {
            recover(&mut deployment, options).unwrap_or_else(|error| note(name, error));
            true
        }
        // Its record cannot be read. That is no reason to leave the others as they are, nor is what fails below.
        Err(error) => {
            note(name, error);
            false
        }
    });
    for name in &waiting {
        if let Some(turns) = &mut turns {
            turns.begins(name, &all);
        }
        let mut fetches = || turns.iter_mut().for_each(Turns::persist);
        let updated = deployments
            .existing(name)
            .and_then(|mut deployment| follow(&mut deployment, By::Update, &mut fetches, options, report));
        updated.unwrap_or_else(|error| note(name, error));
    }
    match (failed.len(), failed.pop()) {
        (1, Some(only)) => Err(only),
        (failures, Some(last)) => {
            let kind = match failed.iter().all(|error| error.kind() == last.kind()) {
                true => last.kind(),
                false => Kind::Other,
            };
            Err(Error::new(kind, format!("{failures} failures in {count} deployments")))
        }
        _ => Ok(()),
    }
}
