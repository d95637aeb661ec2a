//! The command line: arguments become one typed [`Invocation`]. All help text is here.

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::platform::Platform;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where edgepull remembers things between runs, unless `--state-dir` names another place.
pub const STATE_DIR: &str = "/var/lib/edgepull";

/// What `edgepull --help` prints.
pub const HELP: &str = "\
edgepull puts the right container image onto this board.

Usage: edgepull [OPTIONS] COMMAND

Commands:
  platform          who this board is: evidence by evidence, and the platforms it can run, best first
  inspect IMAGE     the manifest list as a table, which entry this board takes and why not the others
      --raw           the exact bytes of the manifest list or manifest instead
  pull IMAGE DIR    unpack the image's root file system into DIR, which must be empty or absent
      --replace       put it in the place of what DIR has, in one atomic step
      --bundle        DIR/rootfs and DIR/config.json, an OCI runtime bundle for crun or runc
      --force         unpack even what this board cannot run

IMAGE is one of
  [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]   in a registry; alpine means docker.io/library/alpine:latest
  oci:DIR[:TAG]                             an OCI image layout
  oci-archive:FILE[:TAG]                    the same in a tar file
  docker-archive:FILE[:TAG]                 what `docker save` writes

Options, before or after the command:
  --variant auto|v5|v6|v7|v8|v8.1…|v9…   take this Arm variant instead of finding it out (default auto)
  --platform OS/ARCH[/VARIANT]           take this platform, whatever the board is
  --cpuinfo FILE                         decide by this recorded /proc/cpuinfo, not by this machine
  --machine NAME                         decide by this recorded `uname -m`, not by this machine
  --plain-http                           the registry has no TLS
  --ca-file FILE                         trust these certificates (PEM) instead of the system's
  --state-dir DIR                        what edgepull remembers between runs (default /var/lib/edgepull)
  --json                                 one JSON object a line on standard output
  -v, --verbose                          say more: choices, requests, timings (-vv: still more)
  -q, --quiet                            say nothing but errors
  -h, --help    -V, --version

Exit codes: 0 done, 1 other, 2 usage, 3 no entry for this board, 4 not found, 5 credentials,
6 network, 7 verification failed, 8 broken or hostile image, 9 disk.
";

/// The whole command line.
#[derive(Debug)]
pub struct Invocation {
    /// What holds for every command.
    pub options: Options,
    /// The command.
    pub command: Command,
}

/// Options that hold for every command.
#[derive(Debug, Default)]
pub struct Options {
    /// `--variant`; `None` for `auto`.
    pub variant: Option<String>,
    /// `--platform`.
    pub platform: Option<Platform>,
    /// `--cpuinfo`.
    pub cpuinfo: Option<PathBuf>,
    /// `--machine`.
    pub machine: Option<String>,
    /// `--plain-http`.
    pub plain_http: bool,
    /// `--ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `--state-dir`, or [`STATE_DIR`].
    pub state_dir: PathBuf,
    /// `--json`.
    pub json: bool,
    /// `-q`.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `platform`.
    Platform,
    /// `inspect`.
    Inspect {
        /// What to look at.
        image: Reference,
        /// `--raw`.
        raw: bool,
    },
    /// `pull`.
    Pull(Pull),
}

/// The arguments of `pull`.
#[derive(Debug)]
pub struct Pull {
    /// What to pull.
    pub image: Reference,
    /// Where to.
    pub directory: PathBuf,
    /// `--replace`.
    pub replace: bool,
    /// `--bundle`.
    pub bundle: bool,
    /// `--force`.
    pub force: bool,
}

/// Parses the arguments without the program's name. [`Kind::Usage`] says which one is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut options = Options { state_dir: STATE_DIR.into(), ..Options::default() };
    let mut words: Vec<OsString> = Vec::new();
    let (mut raw, mut replace, mut bundle, mut force) = (false, false, false, false);
    let (mut help, mut version) = (false, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("variant") => {
                options.variant = Some(text(&mut parser)?).filter(|variant| variant != "auto");
            }
            Long("platform") => options.platform = Some(Platform::parse(&text(&mut parser)?)?),
            Long("cpuinfo") => options.cpuinfo = Some(parser.value().map_err(usage)?.into()),
            Long("machine") => options.machine = Some(text(&mut parser)?),
            Long("ca-file") => options.ca_file = Some(parser.value().map_err(usage)?.into()),
            Long("state-dir") => options.state_dir = parser.value().map_err(usage)?.into(),
            Long("plain-http") => options.plain_http = true,
            Long("json") => options.json = true,
            Short('v') | Long("verbose") => options.verbose = options.verbose.saturating_add(1),
            Short('q') | Long("quiet") => options.quiet = true,
            Short('h') | Long("help") => help = true,
            Short('V') | Long("version") => version = true,
            Long("raw") => raw = true,
            Long("replace") => replace = true,
            Long("bundle") => bundle = true,
            Long("force") => force = true,
            Value(word) => words.push(word),
            other => return Err(usage(other.unexpected())),
        }
    }
    let command = match (help, version) {
        (true, _) => Command::Help,
        (_, true) => Command::Version,
        _ => command(words, raw, replace, bundle, force)?,
    };
    Ok(Invocation { options, command })
}

fn command(words: Vec<OsString>, raw: bool, replace: bool, bundle: bool, force: bool) -> Result<Command> {
    let mut words = words.into_iter();
    let Some(name) = words.next() else {
        return Err(wrong("a command is missing: platform, inspect or pull".into()));
    };
    let flags = [(replace, "--replace"), (bundle, "--bundle"), (force, "--force"), (raw, "--raw")];
    let (command, belongs): (Command, &[&str]) = match name.to_str() {
        Some("platform") => (Command::Platform, &[]),
        Some("inspect") => {
            (Command::Inspect { image: image(words.next(), "inspect IMAGE")?, raw }, &["--raw"])
        }
        Some("pull") => {
            let image = image(words.next(), "pull IMAGE DIR")?;
            let Some(directory) = words.next().filter(|word| !word.is_empty()) else {
                return Err(wrong("pull IMAGE DIR: the directory is missing".into()));
            };
            let pull = Pull { image, directory: directory.into(), replace, bundle, force };
            (Command::Pull(pull), &["--replace", "--bundle", "--force"])
        }
        _ => {
            return Err(wrong(format!("there is no command {name:?}, only platform, inspect and pull")));
        }
    };
    if let Some((_, option)) = flags.iter().find(|(given, name)| *given && !belongs.contains(name)) {
        return Err(wrong(format!("{option} does not go with {}", name.to_string_lossy())));
    }
    match words.next() {
        Some(word) => Err(wrong(format!("{word:?} is one argument too many"))),
        None => Ok(command),
    }
}

fn image(word: Option<OsString>, form: &str) -> Result<Reference> {
    let Some(word) = word else { return Err(wrong(format!("{form}: the image is missing"))) };
    match word.to_str() {
        Some(word) => word.parse(),
        None => Err(wrong(format!("image {word:?} is not UTF-8"))),
    }
}

fn text(parser: &mut lexopt::Parser) -> Result<String> {
    let value = parser.value().map_err(usage)?;
    value.into_string().map_err(|value| wrong(format!("{value:?} is not UTF-8")))
}

fn usage(error: lexopt::Error) -> Error {
    wrong(error.to_string())
}

fn wrong(message: String) -> Error {
    Error::new(Kind::Usage, message).hint("edgepull --help lists commands and options")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Invocation> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn refusal(line: &str) -> String {
        let error = run(line).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{line}");
        error.to_string()
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for line in [
            "--variant v6 -v --json pull alpine /x --replace",
            "pull alpine --replace /x --json -v --variant=v6",
        ] {
            let Invocation { options, command: Command::Pull(pull) } = run(line).unwrap() else { panic!() };
            assert_eq!(options.variant.as_deref(), Some("v6"));
            assert!(options.json && options.verbose == 1 && pull.replace && !pull.bundle);
            assert_eq!(pull.directory, PathBuf::from("/x"));
        }
        assert_eq!(run("--variant auto platform").unwrap().options.variant, None);
        assert_eq!(run("platform").unwrap().options.state_dir, PathBuf::from("/var/lib/edgepull"));
        assert_eq!(run("platform --state-dir /s").unwrap().options.state_dir, PathBuf::from("/s"));
    }

    #[test]
    fn every_option_in_the_help_is_known_and_the_other_way_round() {
        for word in HELP.split([' ', ',', '\n']).filter(|word| word.starts_with("--")) {
            let line = format!("{word} v6 pull alpine /x");
            assert!(!refusal_or_empty(&line).contains("invalid option"), "{word}");
        }
    }

    fn refusal_or_empty(line: &str) -> String {
        run(line).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "a command is missing"),
            ("pul alpine x", "pul"),
            ("pull", "image is missing"),
            ("pull alpine", "directory is missing"),
            ("pull alpine a b", "too many"),
            ("pull Alpine a", "upper-case"),
            ("inspect alpine --replace", "--replace does not go with inspect"),
            ("platform --raw", "--raw"),
            ("--nonsense platform", "--nonsense"),
            ("--variant", "variant"),
            ("--json=yes platform", "yes"),
        ] {
            assert!(refusal(line).contains(named), "{line}: {}", refusal(line));
        }
    }
}
