//! `edgepull confirm`: the user says that the current generation is good.

use super::locked;
use super::report::Report;
use crate::cli::Options;
use crate::error::Result;
use crate::store::deployment::Board;
use serde_json::json;

pub fn run(name: &str, options: &Options, report: &Report) -> Result<()> {
    let (_lock, mut deployment) = locked(name, "confirm", options)?;
    deployment.confirm(&Board { json: options.json })?.check(name)?;
    let current = deployment.current()?;
    let line = format!("{name}: generation {} is confirmed", current.unwrap_or_default());
    report.event(line, || json!({ "event": "confirm", "name": name, "generation": current }))
}
