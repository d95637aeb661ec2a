//! `edgepull platform`: who this board is.

use super::report::Report;
use crate::cli::Options;
use crate::error::Result;
use crate::platform::Host;

pub fn run(host: &Host, options: &Options, report: &Report) -> Result<()> {
    match options.json {
        true => report.json(host),
        false => report.text(host),
    }
}
