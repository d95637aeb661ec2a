//! Labels held against config and code: whatever all three are, there is a verdict of few lines of bounded length, which
//! fits into a message of the confined process; and what is told to relabel is told a label that exists.
#![no_main]

use edgepull::error::Printable;
use edgepull::image::label::{Label, Outcome, check};
use edgepull::image::manifest::{ImageConfig, PlatformField};
use edgepull::image::program;
use edgepull_fuzz::{assert_message, assert_printable, fuzz_target, head, memory};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

/// What there is in the image; all of them are the same file.
const NAMES: [&str; 4] = ["/bin/sh", "/app", "/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3"];
const SYSTEMS: [&str; 4] = ["linux", "", "unknown", "windows"];
const ARCHITECTURES: [&str; 8] = ["arm", "arm64", "amd64", "armhf", "", "unknown", "ARM", "riscv64"];
const VARIANTS: [&str; 8] = ["", "v5", "v6", "v7", "v8", "7", "v9", "V6"];
/// How much of the file stands for what no label should say.
const ODD_MAX: usize = 700;
/// Flaws of the label, and one lie for each file that can be read: scripts, program, linker.
const LINES_MAX: usize = 16;
/// The longest line, in characters.
const LINE_MAX: usize = 512;

/// One of those, or what the input says.
fn pick<'a>(from: &[&'a str], at: u8, odd: &'a str) -> String {
    from.get(usize::from(at) % (from.len() + 1)).copied().unwrap_or(odd).to_owned()
}

fn parts(at: [u8; 3], odd: &str) -> [String; 3] {
    [pick(&SYSTEMS, at[0], odd), pick(&ARCHITECTURES, at[1], odd), pick(&VARIANTS, at[2], odd)]
}

fuzz_target!(|data: &[u8]| {
    let Some(([kind, label, config], file)) = head::<[[u8; 3]; 3]>(data, 9) else { return };
    let odd = String::from_utf8_lossy(&file[..file.len().min(ODD_MAX)]);
    let [os, architecture, variant] = parts(label, &odd);
    let field = PlatformField { os, architecture, variant: Some(variant), ..PlatformField::default() };
    let [os, architecture, variant] = parts(config, &odd);
    let config = serde_json::json!({
        "os": os, "architecture": architecture, "variant": variant, "config": { "Cmd": [pick(&NAMES, kind[1], &odd), "/app"] },
    });
    let Ok(config) = ImageConfig::parse(config.to_string().as_bytes()) else { return };
    let label = match kind[0] % 3 {
        0 => Label::Config,
        1 => Label::Entry(None),
        _ => Label::Entry(Some(&field)),
    };
    let open = |path: &Path| {
        if !NAMES.iter().any(|name| path == Path::new(name)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut opened: File = tempfile::tempfile()?;
        opened.write_all(file)?;
        opened.rewind()?;
        Ok(opened)
    };
    let outcome = memory::within(256 * 1024, || {
        check(label, &config, &mut || Ok(program::read(&config.config, &open)))
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return assert_message(&error.to_string()),
    };
    let lines = match &outcome {
        Outcome::Fits(files) => files.clone(),
        Outcome::Lies(lies) => {
            assert!(!lies.is_empty());
            lies.clone()
        }
        Outcome::Unchecked(why) => vec![why.clone()],
    };
    assert!(lines.len() <= LINES_MAX, "{lines:?}");
    for line in &lines {
        assert!(line.chars().count() <= LINE_MAX, "{line:?}");
        assert_printable(&Printable(line).to_string());
    }
    let message = serde_json::to_vec(&outcome).expect("texts");
    assert_eq!(serde_json::from_slice::<Outcome>(&message).expect("a verdict"), outcome);
    // An entry without a platform is always told of.
    assert!(kind[0] % 3 != 1 || !matches!(outcome, Outcome::Fits(_)), "{outcome:?}");
});
