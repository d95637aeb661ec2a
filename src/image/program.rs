//! What an image runs, looked up in its unpacked root: is it there, and is it what the label promises?

use super::elf::Elf;
use super::manifest::RunConfig;
use crate::error::{Error, Result};
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
    /// What has to run does not run there, or is not in the image: which file, and why.
    Lies(String),
    /// There was nothing to check, and why.
    Unknown(String),
}

/// What an image's command leads through.
#[derive(Debug, Default)]
pub struct Programs {
    /// Scripts, then the program, then its dynamic linker, as far as they could be read.
    pub files: Vec<ProgramFile>,
    /// Why these are not all; `None` if they are.
    pub gap: Option<Gap>,
}

/// One of the files of [`Programs`].
#[derive(Debug)]
pub struct ProgramFile {
    /// Its path in the image.
    pub path: String,
    /// What it says about itself; `None` for a script.
    pub elf: Option<Elf>,
}

/// Why not everything that has to run could be read.
#[derive(Debug)]
pub enum Gap {
    /// Where the rest is, or whether there is any, does not show, and why.
    Unknown(String),
    /// A file that has to be there is not: which, and what needs it.
    Missing(String),
    /// A file is broken ([`crate::error::Kind::BadImage`]) or the disk is ([`crate::error::Kind::Disk`]).
    Broken(Error),
}

/// Reads the program that the image runs, the scripts before it and its interpreter, and holds each against
/// `label` and `host`.
///
/// # Errors
/// [`crate::error::Kind::BadImage`] for a file that is broken.
pub fn check(config: &RunConfig, label: &Platform, host: &Host, open: &OpenInRoot) -> Result<Finding> {
    if label.os != "linux" {
        return Ok(Finding::Unknown(format!("programs for {} are not checked", label.os)));
    }
    let programs = read(config, open);
    for ProgramFile { path, elf } in &programs.files {
        if let Some(why) = elf.as_ref().and_then(|elf| refusal(elf, label, host)) {
            let lie = format!("the image is labelled {label}, but {path} says otherwise: {why}");
            return Ok(Finding::Lies(lie));
        }
    }
    match programs.gap {
        None => Ok(Finding::Fits(programs.files.into_iter().map(|file| file.path).collect())),
        Some(Gap::Unknown(why)) => Ok(Finding::Unknown(why)),
        Some(Gap::Missing(what)) => Ok(Finding::Lies(what)),
        Some(Gap::Broken(error)) => Err(error),
    }
}

/// Reads the program that the image runs, the scripts before it and its interpreter.
pub fn read(config: &RunConfig, open: &OpenInRoot) -> Programs {
    let first = match config.args().next() {
        None => FALLBACKS
            .iter()
            .find(|path| open(Path::new(path)).is_ok())
            .map(|path| (*path).to_owned())
            .ok_or_else(|| "the image names no command and has no shell".to_owned()),
        Some(first) => {
            find(first, config, open).ok_or_else(|| format!("its command {first:?} is not in the image"))
        }
    };
    let mut files = Vec::new();
    let followed = first.map_err(Gap::Unknown).and_then(|path| follow(path, config, open, &mut files));
    Programs { files, gap: followed.err() }
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

/// From script to interpreter to program to dynamic linker.
fn follow(
    mut path: String,
    config: &RunConfig,
    open: &OpenInRoot,
    files: &mut Vec<ProgramFile>,
) -> Result<(), Gap> {
    for _ in 0..=SCRIPTS_MAX {
        let (mut file, elf) = open_program(&path, open, files)?;
        if let Some(elf) = elf {
            let interpreter = elf.interpreter.clone();
            files.push(ProgramFile { path, elf: Some(elf) });
            if let Some(path) = interpreter
                && let (_, Some(elf)) = open_program(&path, open, files)?
            {
                files.push(ProgramFile { path, elf: Some(elf) });
            }
            return Ok(());
        }
        let Some(interpreter) = shebang(&mut file) else {
            return Err(Gap::Unknown(format!("{path} is neither a program nor a script")));
        };
        files.push(ProgramFile { path, elf: None });
        // `#!/usr/bin/env python3` is honest about env only; python3 is what has to run.
        path = match interpreter {
            (env, Some(command)) if env.ends_with("/env") => {
                find(&command, config, open).ok_or_else(|| missing(&command, files))?
            }
            (interpreter, _) => interpreter,
        };
    }
    Err(Gap::Unknown(format!("{path} stands behind more than {SCRIPTS_MAX} scripts")))
}

/// A file that has to be there, and what its headers say if it is a program.
fn open_program(path: &str, open: &OpenInRoot, before: &[ProgramFile]) -> Result<(File, Option<Elf>), Gap> {
    let mut file = open(Path::new(path)).map_err(|_| missing(path, before))?;
    let elf = Elf::read(&mut file).map_err(|error| Gap::Broken(error.context(path)))?;
    Ok((file, elf))
}

/// Why the board does not run this file: the label's promise first, then what its CPU lacks.
fn refusal(elf: &Elf, label: &Platform, host: &Host) -> Option<String> {
    elf.contradicts(label).or_else(|| {
        let lacks = elf.lacks_feature(&|name| host.has_arm_feature(name))?;
        Some(format!("it needs {lacks}, which this board does not have"))
    })
}

fn missing(path: &str, before: &[ProgramFile]) -> Gap {
    let wanted_by = before.last().map_or("the image", |file| file.path.as_str());
    Gap::Missing(format!("{wanted_by} needs {path}, which is not in the image"))
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

#[cfg(test)]
mod tests {
    use super::super::elf::tests::{arm_program, with_interpreter};
    use super::*;
    use crate::platform::Inputs;
    use std::fs;

    const HARD: u32 = 0x0500_0400;

    fn v6() -> Vec<u8> {
        arm_program(HARD, &[6, 7, 10, 2, 28, 1])
    }

    fn v7() -> Vec<u8> {
        arm_program(HARD, &[6, 10, 10, 4, 28, 1])
    }

    /// Checks an image with these files and this command as one labelled linux/arm/v6.
    fn judge(files: &[(&str, &[u8])], command: &[&str]) -> Result<Finding> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let config =
            RunConfig { cmd: command.iter().map(|word| word.to_string()).collect(), ..Default::default() };
        let host = Host::detect(&Inputs { machine: Some("armv6l"), ..Default::default() }).unwrap();
        let label = Platform::parse("linux/arm/v6").unwrap();
        let open = |path: &Path| File::open(root.path().join(path.strip_prefix("/").unwrap_or(path)));
        check(&config, &label, &host, &open)
    }

    fn refusal(files: &[(&str, &[u8])], command: &[&str]) -> String {
        match judge(files, command).unwrap() {
            Finding::Lies(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_is_found_along_the_path_and_read() {
        let fits = judge(&[("usr/bin/app", &v6())], &["app"]).unwrap();
        assert_eq!(fits, Finding::Fits(vec!["/usr/bin/app".into()]));
        assert!(
            refusal(&[("usr/bin/app", &v7())], &["app"]).contains("/usr/bin/app says otherwise: it is ARMv7")
        );
        assert!(refusal(&[("app", &v7())], &["/app", "-x"]).contains("linux/arm/v6"));
    }

    #[test]
    fn scripts_lead_to_what_has_to_run() {
        let script: &[u8] = b"#!/bin/sh -e\nexit\n";
        assert!(refusal(&[("run", script), ("bin/sh", &v7())], &["/run"]).contains("/bin/sh says otherwise"));
        let env: &[u8] = b"#!/usr/bin/env python3\n";
        let files = [("run", env), ("usr/bin/env", &v6()[..]), ("usr/bin/python3", &v7()[..])];
        assert!(refusal(&files, &["/run"]).contains("python3 says otherwise"));
        assert!(
            refusal(&[("run", script)], &["/run"]).contains("/run needs /bin/sh, which is not in the image")
        );
    }

    #[test]
    fn the_dynamic_linker_has_to_be_there_and_to_fit() {
        let program = with_interpreter(v6(), "/lib/ld.so");
        assert!(refusal(&[("app", &program)], &["/app"]).contains("needs /lib/ld.so"));
        assert!(refusal(&[("app", &program), ("lib/ld.so", &v7())], &["/app"]).contains("/lib/ld.so says"));
        let fits = judge(&[("app", &program), ("lib/ld.so", &v6())], &["/app"]).unwrap();
        assert_eq!(fits, Finding::Fits(vec!["/app".into(), "/lib/ld.so".into()]));
    }

    #[test]
    fn a_broken_program_is_the_image_s_fault() {
        let error = judge(&[("app", &v6()[..60])], &["/app"]).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::BadImage);
        assert!(error.to_string().starts_with("/app: a broken ELF file"), "{error}");
    }

    #[test]
    fn an_image_ordered_on_another_machine_is_not_held_against_its_features() {
        let cpuinfo = Some(&b"processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 lm\n"[..]);
        let order = Platform::parse("linux/arm/v7").unwrap();
        let inputs =
            Inputs { cpuinfo, machine: Some("x86_64"), platform: Some(&order), ..Default::default() };
        let host = Host::detect(&inputs).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), v7()).unwrap();
        let config = RunConfig { cmd: vec!["/app".into()], ..Default::default() };
        let found = check(&config, &order, &host, &|_| File::open(file.path()));
        assert_eq!(found.unwrap(), Finding::Fits(vec!["/app".into()]));
    }

    #[test]
    fn a_base_image_is_checked_by_its_shell() {
        assert!(refusal(&[("bin/sh", &v7())], &[]).contains("/bin/sh"));
        assert!(matches!(judge(&[("etc/x", b"")], &[]).unwrap(), Finding::Unknown(_)));
        assert!(matches!(judge(&[], &["/mounted/later"]).unwrap(), Finding::Unknown(_)));
    }
}
