//! What an image runs, looked up in its unpacked root: is it there, and is it what the label promises?

use super::elf::Elf;
use super::manifest::RunConfig;
use crate::error::{Error, Kind, Result};
use crate::platform::{Host, Platform};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// How many `#!` scripts may stand before a program (Linux: BINPRM_MAX_RECURSION is 4).
const SCRIPTS_MAX: usize = 4;
/// The part of a script's first line that Linux reads (BINPRM_BUF_SIZE).
const SHEBANG_MAX: usize = 256;
/// Where a command without a slash is looked for if the image sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is looked at in an image that names no command: a base image is there for its shell.
const FALLBACKS: [&str; 2] = ["/bin/sh", "/sbin/init"];

/// Opens a file by its path inside the root, following links inside the root only.
pub type OpenInRoot<'a> = dyn Fn(&Path) -> io::Result<File> + 'a;

/// What [`check`] found out.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// These programs were read, and run where the label says.
    Fits(Vec<String>),
    /// There was nothing to check, and why.
    Unknown(String),
}

/// Reads the program that the image runs, the scripts before it and its interpreter, and holds each against
/// `label` and `host`. [`Kind::BadImage`] says which file lies.
pub fn check(config: &RunConfig, label: &Platform, host: &Host, open: &OpenInRoot) -> Result<Finding> {
    if label.os != "linux" {
        return Ok(Finding::Unknown(format!("programs for {} are not checked", label.os)));
    }
    let Some(first) = config.args().next() else {
        return match FALLBACKS.iter().find(|path| open(Path::new(path)).is_ok()) {
            Some(path) => follow((*path).to_owned(), config, label, host, open),
            None => Ok(Finding::Unknown("the image names no command and has no shell".into())),
        };
    };
    match find(first, config, open) {
        Some(path) => follow(path, config, label, host, open),
        None => Ok(Finding::Unknown(format!("its command {first:?} is not in the image"))),
    }
}

/// Where `command` is: as it stands if it has a slash, else along the image's PATH.
fn find(command: &str, config: &RunConfig, open: &OpenInRoot) -> Option<String> {
    let is_there = |path: &String| open(Path::new(path)).is_ok();
    if command.contains('/') {
        let path = match command.starts_with('/') {
            true => command.to_owned(),
            false => format!("{}/{command}", config.working_dir.trim_end_matches('/')),
        };
        return Some(path).filter(is_there);
    }
    let path = config.env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|directory| format!("{directory}/{command}")).find(is_there)
}

/// From script to interpreter to program to dynamic linker, checking every ELF file on the way.
fn follow(
    mut path: String,
    config: &RunConfig,
    label: &Platform,
    host: &Host,
    open: &OpenInRoot,
) -> Result<Finding> {
    let mut checked = Vec::new();
    for _ in 0..=SCRIPTS_MAX {
        let Ok(mut file) = open(Path::new(&path)) else {
            return Err(missing(&path, checked.last()));
        };
        if let Some(elf) = Elf::read(&mut file).map_err(|error| error.context(&path))? {
            hold(&elf, &path, label, host)?;
            checked.push(path);
            if let Some(interpreter) = elf.interpreter {
                let Ok(mut file) = open(Path::new(&interpreter)) else {
                    return Err(missing(&interpreter, checked.last()));
                };
                if let Some(elf) = Elf::read(&mut file).map_err(|error| error.context(&interpreter))? {
                    hold(&elf, &interpreter, label, host)?;
                    checked.push(interpreter);
                }
            }
            return Ok(Finding::Fits(checked));
        }
        match shebang(&mut file) {
            Some(interpreter) => {
                checked.push(path);
                // `#!/usr/bin/env python3` is honest about env only; python3 is what has to run.
                path = match interpreter {
                    (env, Some(command)) if env.ends_with("/env") => match find(&command, config, open) {
                        Some(path) => path,
                        None => return Err(missing(&command, checked.last())),
                    },
                    (interpreter, _) => interpreter,
                };
            }
            None => return Ok(Finding::Unknown(format!("{path} is neither a program nor a script"))),
        }
    }
    Ok(Finding::Unknown(format!("{path} stands behind more than {SCRIPTS_MAX} scripts")))
}

/// One ELF file against the label, then against the CPU.
fn hold(elf: &Elf, path: &str, label: &Platform, host: &Host) -> Result<()> {
    let lie = |why: String| {
        Error::new(Kind::BadImage, format!("the image is labelled {label}, but {path} says otherwise: {why}"))
            .hint("--force unpacks it all the same")
    };
    if let Some(why) = elf.contradicts(label) {
        return Err(lie(why));
    }
    match elf.lacks_feature(&|name| host.has_feature(name)) {
        Some(feature) => Err(lie(format!("it needs {feature}, which this board does not have"))),
        None => Ok(()),
    }
}

fn missing(path: &str, wanted_by: Option<&String>) -> Error {
    let wanted_by = wanted_by.map_or("the image", String::as_str);
    Error::new(Kind::BadImage, format!("{wanted_by} needs {path}, which is not in the image"))
        .hint("--force unpacks it all the same")
}

/// The interpreter of a script and its first argument.
fn shebang<R: Read + Seek>(file: &mut R) -> Option<(String, Option<String>)> {
    let mut line = [0u8; SHEBANG_MAX];
    file.rewind().ok()?;
    let mut got = 0;
    while got < line.len() {
        match file.read(&mut line[got..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => got += n,
        }
    }
    let line = line[..got].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()))
}
