//! `edgepull rollback`: the previous generation becomes current, or another one that is kept.

use super::locked;
use super::report::Report;
use crate::cli::Options;
use crate::error::Result;
use crate::store::deployment::Board;
use serde_json::json;

pub fn run(name: &str, to: Option<u32>, options: &Options, report: &Report) -> Result<()> {
    let (_lock, mut deployment) = locked(name, "rollback", options)?;
    let left = deployment.current()?;
    deployment.rollback(to, &Board { json: options.json })?.check(name)?;
    let current = deployment.current()?;
    let line = match (current, left) {
        (Some(current), Some(left)) => {
            format!("{name}: generation {current} is current; updates leave generation {left} alone")
        }
        _ => format!("{name}: nothing is current"),
    };
    report.event(line, || json!({ "event": "rollback", "name": name, "generation": current, "left": left }))
}
