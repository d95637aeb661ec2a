//! `edgepull update`: what deployments track is asked for anew.

use super::follow::{By, follow, recover};
use super::report::{self, Report};
use crate::cli::Options;
use crate::error::{Error, Kind, Result};
use crate::store::deployment::Deployments;
use crate::store::lock::StateLock;

/// `names` empty: all.
pub fn run(names: &[String], options: &Options, report: &Report) -> Result<()> {
    let deployments = Deployments::open(&options.state_dir)?;
    let all = deployments.names()?;
    let names = if names.is_empty() { &all[..] } else { names };
    for name in names {
        deployments.existing(name)?;
    }
    if names.is_empty() {
        return report.text(format_args!("no deployments in {}", options.state_dir.display()));
    }
    let _lock = StateLock::take(&options.state_dir, options.wait, "update")?;
    let mut failed = Vec::new();
    let mut note = |name: &String, error: Error| {
        // A generation's failure has the name in it.
        let error = if error.kind() == Kind::Unhealthy { error } else { error.context(name) };
        if names.len() > 1 {
            log::error!("{error}");
            if options.json {
                report::error(&error);
            }
        }
        failed.push(error);
    };
    // What has to go back goes back now, and not after somebody else's download.
    for name in names {
        let recovered =
            deployments.existing(name).and_then(|mut deployment| recover(&mut deployment, options));
        recovered.unwrap_or_else(|error| note(name, error));
    }
    for name in names {
        // One that fails is no reason to leave the others as they are.
        let updated = deployments
            .existing(name)
            .and_then(|mut deployment| follow(&mut deployment, By::Update, options, report));
        updated.unwrap_or_else(|error| note(name, error));
    }
    match (failed.len(), failed.pop()) {
        (1, Some(only)) => Err(only),
        (count, Some(last)) => {
            let kind = match failed.iter().all(|error| error.kind() == last.kind()) {
                true => last.kind(),
                false => Kind::Other,
            };
            Err(Error::new(kind, format!("{count} failures in {} deployments", names.len())))
        }
        _ => Ok(()),
    }
}
