//! The command line: arguments become one typed [`Invocation`].
//!
//! The words themselves are rows of [`definition`]; here is what each of them does.

pub mod definition;
pub mod help;

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::platform::Platform;
use definition::{COMMANDS, CommandSpec, Flag, OPTIONS, OptionSpec, STATE_DIR, Verb, command_named};
use help::Help;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The whole command line.
#[derive(Debug)]
pub struct Invocation {
    /// What holds for every command.
    pub options: Options,
    /// The command.
    pub command: Command,
}

/// Options that hold for every command.
#[derive(Debug)]
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
    /// `--state-dir`: what edgepull remembers between runs.
    pub state_dir: PathBuf,
    /// `--json`.
    pub json: bool,
    /// `-q`.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            variant: None,
            platform: None,
            cpuinfo: None,
            machine: None,
            plain_http: false,
            ca_file: None,
            state_dir: STATE_DIR.into(),
            json: false,
            quiet: false,
            verbose: 0,
        }
    }
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// `help [COMMAND]`, or `--help` beside a command or none.
    Help(Help),
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
    let mut options = Options::default();
    let mut words: Vec<OsString> = Vec::new();
    let mut given: Vec<&OptionSpec> = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        let row = match &argument {
            Value(word) => {
                words.push(word.clone());
                continue;
            }
            Long(name) => OPTIONS.iter().find(|option| option.long == *name),
            Short(letter) => OPTIONS.iter().find(|option| option.short == Some(*letter)),
        };
        let row = row.ok_or_else(|| usage(argument.unexpected()))?;
        apply(row.flag, &mut parser, &mut options)?;
        given.push(row);
    }
    let has = |flag| given.iter().any(|option| option.flag == flag);
    let command = match (has(Flag::Help), has(Flag::Version)) {
        (true, _) => {
            let name = words.first().and_then(|word| word.to_str());
            Command::Help(Help(name.and_then(command_named)))
        }
        (_, true) => Command::Version,
        _ => command(words, &given)?,
    };
    Ok(Invocation { options, command })
}

/// Takes the option's value, if it has one. The commands' own options only need to be known as given.
fn apply(flag: Flag, parser: &mut lexopt::Parser, options: &mut Options) -> Result<()> {
    match flag {
        Flag::Variant => options.variant = Some(text(parser)?).filter(|variant| variant != "auto"),
        Flag::Platform => options.platform = Some(Platform::parse(&text(parser)?)?),
        Flag::Cpuinfo => options.cpuinfo = Some(parser.value().map_err(usage)?.into()),
        Flag::Machine => options.machine = Some(text(parser)?),
        Flag::CaFile => options.ca_file = Some(parser.value().map_err(usage)?.into()),
        Flag::StateDir => options.state_dir = parser.value().map_err(usage)?.into(),
        Flag::PlainHttp => options.plain_http = true,
        Flag::Json => options.json = true,
        Flag::Verbose => options.verbose = options.verbose.saturating_add(1),
        Flag::Quiet => options.quiet = true,
        Flag::Raw | Flag::Replace | Flag::Bundle | Flag::Force | Flag::Help | Flag::Version => {}
    }
    Ok(())
}

fn command(words: Vec<OsString>, given: &[&OptionSpec]) -> Result<Command> {
    let mut words = words.into_iter();
    let Some(name) = words.next() else {
        return Err(wrong(format!("a command is missing: {}", names("or"))));
    };
    let row = topic(&name)?;
    if let Some(option) = given.iter().find(|option| option.command.is_some_and(|verb| verb != row.verb)) {
        return Err(wrong(format!("--{} does not go with {}", option.long, row.name)));
    }
    let has = |flag| given.iter().any(|option| option.flag == flag);
    let mut arguments = Arguments { row, place: 0, words };
    let command = match row.verb {
        Verb::Platform => Command::Platform,
        Verb::Inspect => Command::Inspect { image: image(arguments.next()?)?, raw: has(Flag::Raw) },
        Verb::Pull => Command::Pull(Pull {
            image: image(arguments.next()?)?,
            directory: arguments.next()?.into(),
            replace: has(Flag::Replace),
            bundle: has(Flag::Bundle),
            force: has(Flag::Force),
        }),
        Verb::Help => Command::Help(Help(match arguments.words.next() {
            Some(name) => Some(topic(&name)?),
            None => None,
        })),
    };
    match arguments.words.next() {
        Some(word) => Err(wrong(format!("{word:?} is one argument too many"))),
        None => Ok(command),
    }
}

/// What follows a command, in the order of its row.
struct Arguments {
    row: &'static CommandSpec,
    place: usize,
    words: std::vec::IntoIter<OsString>,
}

impl Arguments {
    /// The next required one; an empty word is none.
    fn next(&mut self) -> Result<OsString> {
        let name = self.row.arguments[self.place].name;
        self.place += 1;
        let word = self.words.next().filter(|word| !word.is_empty());
        word.ok_or_else(|| wrong(format!("{}: {name} is missing", self.row)))
    }
}

fn topic(name: &OsStr) -> Result<&'static CommandSpec> {
    let found = name.to_str().and_then(command_named);
    found.ok_or_else(|| wrong(format!("there is no command {name:?}, only {}", names("and"))))
}

/// The commands' names: `platform, inspect, pull and help`.
fn names(last: &str) -> String {
    let names = COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>();
    let (end, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{} {last} {end}", others.join(", "))
}

fn image(word: OsString) -> Result<Reference> {
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
    use super::definition::Complete;
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
    }

    #[test]
    fn every_row_of_the_tables_is_parsed() {
        for option in OPTIONS {
            let verb = option.command.unwrap_or(Verb::Pull);
            let command = COMMANDS.iter().find(|command| command.verb == verb).unwrap();
            let value = match option.value {
                Some((_, Complete::Words(words))) => format!("={}", words[1]),
                Some(_) => "=/some".into(),
                None => String::new(),
            };
            let line = format!("--{}{value} {command}", option.long).replace("IMAGE", "alpine");
            assert!(run(&line).is_ok(), "{line}: {}", refusal(&line));
            // The value that the table names is taken, and no other one is.
            let wrong = if option.value.is_some() { "" } else { "=x" };
            let line = format!("{command} --{}{wrong}", option.long).replace("IMAGE", "alpine");
            assert!(run(&line).is_err(), "{line}");
        }
        for command in COMMANDS {
            let words = command.arguments.iter().map(|argument| argument.name.to_lowercase());
            let line = words.fold(command.name.to_owned(), |line, word| format!("{line} {word}"));
            let line = line.replace(" command", " pull");
            assert!(run(&line).is_ok(), "{line}");
            assert!(refusal(&format!("{line} more")).contains("too many"), "{line}");
            let (shorter, _) = line.rsplit_once(' ').unwrap_or(("", ""));
            let needed = command.arguments.iter().any(|argument| !argument.optional);
            assert!(!needed || refusal(shorter).contains("is missing"), "{line}");
        }
    }

    #[test]
    fn help_is_that_of_the_command_beside_it() {
        let topic = |line| match run(line).unwrap().command {
            Command::Help(Help(topic)) => topic.map(|command| command.name),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(topic("--help"), None);
        assert_eq!(topic("help"), None);
        assert_eq!(topic("help inspect"), Some("inspect"));
        assert_eq!(topic("-h pull alpine"), Some("pull"));
        assert_eq!(topic("pull --help --raw"), Some("pull"));
        assert_eq!(topic("nonsense --help"), None);
        assert!(refusal("help nonsense").contains("only platform, inspect, pull and help"));
    }

    #[test]
    fn state_is_kept_in_var_lib_unless_the_command_line_names_a_place() {
        assert_eq!(run("platform").unwrap().options.state_dir, PathBuf::from("/var/lib/edgepull"));
        assert_eq!(run("platform --state-dir /run/x").unwrap().options.state_dir, PathBuf::from("/run/x"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "a command is missing: platform, inspect, pull or help"),
            ("pul alpine x", "pul"),
            ("pull", "pull IMAGE DIR: IMAGE is missing"),
            ("pull alpine", "DIR is missing"),
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
