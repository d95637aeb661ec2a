//! What an image runs, with the scripts before it: it ends, and whoever is refused hears of it in one line.
#![no_main]

use edgepull::image::manifest::RunConfig;
use edgepull::image::program::check;
use edgepull::platform::{Host, Inputs, Platform};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    args: Vec<&'a str>,
    env: Option<&'a str>,
    working_dir: &'a str,
    label: u8,
    files: [Option<&'a [u8]>; 4],
}

const NAMES: [&str; 4] = ["/bin/sh", "/app", "/usr/bin/env", "/lib/ld.so"];
const LABELS: [&str; 4] = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64"];
/// How often a file is opened at most: along a PATH of the longest, for each script.
const OPENED_MAX: usize = 20_000;

fuzz_target!(|input: Input<'_>| {
    let config = RunConfig {
        cmd: input.args.iter().take(8).map(|word| word.to_string()).collect(),
        env: input.env.iter().map(|path| format!("PATH={path}")).collect(),
        working_dir: input.working_dir.to_owned(),
        ..RunConfig::default()
    };
    let host = Host::detect(&Inputs { machine: Some("armv6l"), ..Inputs::default() }).expect("a board");
    let label = Platform::parse(LABELS[usize::from(input.label) % 4]).expect("a platform");
    let opened = Cell::new(0);
    let open = |path: &Path| {
        opened.set(opened.get() + 1);
        let at = NAMES.iter().position(|name| path == Path::new(name));
        let bytes = at.and_then(|at| input.files[at]).ok_or(io::ErrorKind::NotFound)?;
        let mut file: File = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    };
    let found = memory::within(256 * 1024, || check(&config, &label, &host, &open));
    assert!(opened.get() <= OPENED_MAX, "{} files were opened", opened.get());
    if let Err(error) = found {
        assert_message(&error.to_string());
    }
});
