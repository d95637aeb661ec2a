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
    match elf.lacks_feature(&|name| host.has_arm_feature(name)) {
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

#[cfg(test)]
mod tests {
    use super::super::elf::tests::arm_program;
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
        let error = judge(files, command).unwrap_err();
        assert_eq!(error.kind(), Kind::BadImage);
        error.to_string()
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
        // One program header, PT_INTERP, behind the section that arm_program writes.
        let mut program = v6();
        let (header, path) = (program.len() as u32, b"/lib/ld.so\0");
        program[28..32].copy_from_slice(&header.to_le_bytes());
        program[42..46].copy_from_slice(&[32, 0, 1, 0]);
        program.extend([3, header + 32, 0, 0, path.len() as u32, 0, 0, 0].map(u32::to_le_bytes).concat());
        program.extend(path);
        assert!(refusal(&[("app", &program)], &["/app"]).contains("needs /lib/ld.so"));
        assert!(refusal(&[("app", &program), ("lib/ld.so", &v7())], &["/app"]).contains("/lib/ld.so says"));
        assert!(judge(&[("app", &program), ("lib/ld.so", &v6())], &["/app"]).is_ok());
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
