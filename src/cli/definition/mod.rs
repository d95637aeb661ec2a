//! The one definition of the command line: tables, from which the parser, `--help`, the man page and
//! the shells' completions are all made. An option that is not here cannot be parsed, and one that is here
//! cannot be forgotten: the parser matches on [`Flag`] and [`Verb`], so the compiler asks for each.
//! The rows of what publishes are there only with the feature `publish`.
//!
//! The man page and the completions are rendered by `cross/pages`, which the agent does not contain.

mod board;
#[cfg(feature = "publish")]
mod publish;

pub(super) use board::idle;

use crate::error::Kind;

/// Where edgepull remembers things between runs, unless `--state-dir` names another place.
pub const STATE_DIR: &str = "/var/lib/edgepull";

/// A command; [`commands`] has one row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `platform`
    Platform,
    /// `inspect`
    Inspect,
    /// `pull`
    Pull,
    /// `deploy`
    Deploy,
    /// `update`
    Update,
    /// `status`
    Status,
    /// `rollback`
    Rollback,
    /// `confirm`
    Confirm,
    /// `verify`
    Verify,
    /// `gc`
    Gc,
    /// `copy`
    #[cfg(feature = "publish")]
    Copy,
    /// `manifest check`
    #[cfg(feature = "publish")]
    ManifestCheck,
    /// `manifest create`
    #[cfg(feature = "publish")]
    ManifestCreate,
    /// `manifest annotate`
    #[cfg(feature = "publish")]
    ManifestAnnotate,
    /// `manifest inspect`
    #[cfg(feature = "publish")]
    ManifestInspect,
    /// `manifest push`
    #[cfg(feature = "publish")]
    ManifestPush,
    /// `manifest push from-spec`
    #[cfg(feature = "publish")]
    PushFromSpec,
    /// `manifest push from-args`
    #[cfg(feature = "publish")]
    PushFromArgs,
    /// `manifest rm`
    #[cfg(feature = "publish")]
    ManifestRm,
    /// `help`
    Help,
}

/// An option; [`options`] has one row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented by its row's help")]
pub enum Flag {
    Raw,
    Replace,
    Bundle,
    Force,
    Keep,
    Health,
    HealthTimeout,
    OnSwitch,
    ConfirmWithin,
    PinDigest,
    Monotonic,
    Policy,
    VerifyKey,
    All,
    To,
    Repair,
    DryRun,
    #[cfg(feature = "publish")]
    Publish(PublishFlag),
    Wait,
    Background,
    Variant,
    Platform,
    Cpuinfo,
    Machine,
    PlainHttp,
    CaFile,
    Verifier,
    AuthFile,
    HostsDir,
    LimitRate,
    LowestRate,
    WaitOnline,
    StateDir,
    Json,
    Verbose,
    Quiet,
    Help,
    Version,
}

/// An option of the commands that publish.
#[cfg(feature = "publish")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented by its row's help")]
pub enum PublishFlag {
    Platforms,
    Template,
    Target,
    Tags,
    Annotation,
    Referrers,
    Annotations,
    Type,
    IgnoreMissing,
    Strict,
    NoCheck,
    Amend,
    Purge,
    Os,
    Arch,
    OsVersion,
    OsFeatures,
    Insecure,
    Username,
    Password,
    DockerCfg,
    Debug,
}

/// What a shell can offer for a value.
#[derive(Debug, Clone, Copy)]
pub enum Complete {
    /// A file's name.
    File,
    /// A directory's name.
    Directory,
    /// An image: one of [`IMAGES`]' prefixes with a path behind, or a name that only a registry knows.
    Image,
    /// A command's name.
    Command,
    /// A deployment's name.
    Deployment,
    /// A number, which only the user knows.
    Number,
    /// A line for the shell.
    Line,
    /// One of these; the parser may take others, too.
    Words(&'static [&'static str]),
}

/// A command's row.
#[derive(Debug)]
pub struct CommandSpec {
    /// Which one.
    pub verb: Verb,
    /// What the user types: a word, or several.
    pub name: &'static str,
    /// What follows, in this order; optional ones last.
    pub arguments: &'static [ArgumentSpec],
    /// One line, in lower case and without a full stop.
    pub help: &'static str,
    /// What there is to know besides: whole sentences, in lines for a terminal; or nothing.
    pub more: &'static str,
}

/// One positional argument.
#[derive(Debug)]
pub struct ArgumentSpec {
    /// As in `pull IMAGE DIR`.
    pub name: &'static str,
    /// Whether the command works without it.
    pub optional: bool,
    /// Whether there may be several; the last one only.
    pub repeated: bool,
    /// What a shell can offer.
    pub complete: Complete,
}

/// An option's row.
#[derive(Debug)]
pub struct OptionSpec {
    /// Which one.
    pub flag: Flag,
    /// `v` of `-v`.
    pub short: Option<char>,
    /// `verbose` of `--verbose`.
    pub long: &'static str,
    /// What has to follow it, if anything: how help calls it, and what a shell can offer.
    pub value: Option<(&'static str, Complete)>,
    /// The commands it goes with; none: every one.
    pub commands: &'static [Verb],
    /// One line, in lower case and without a full stop.
    pub help: &'static str,
}

/// One way of writing IMAGE.
#[derive(Debug)]
pub struct ImageForm {
    /// How it is written.
    pub form: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Where a path is part of it: what stands before the path, and what the path names.
    pub prefix: Option<(&'static str, Complete)>,
}

const fn required(name: &'static str, complete: Complete) -> ArgumentSpec {
    ArgumentSpec { name, optional: false, repeated: false, complete }
}

const fn optional(name: &'static str, complete: Complete) -> ArgumentSpec {
    ArgumentSpec { optional: true, ..required(name, complete) }
}

const fn command(
    verb: Verb,
    name: &'static str,
    arguments: &'static [ArgumentSpec],
    help: &'static str,
) -> CommandSpec {
    CommandSpec { verb, name, arguments, help, more: "" }
}

/// An option of every command, without a value.
const fn option(flag: Flag, short: Option<char>, long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { flag, short, long, value: None, commands: &[], help }
}

/// An option of every command, with a value.
const fn valued(
    flag: Flag,
    long: &'static str,
    value: &'static str,
    complete: Complete,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { value: Some((value, complete)), ..option(flag, None, long, help) }
}

impl CommandSpec {
    /// The same command, with more to know.
    const fn more(mut self, more: &'static str) -> CommandSpec {
        self.more = more;
        self
    }
}

impl OptionSpec {
    /// The same option, for these commands only.
    const fn of(mut self, commands: &'static [Verb]) -> OptionSpec {
        self.commands = commands;
        self
    }
}

/// `help`, the last command of all.
const HELP: CommandSpec = command(
    Verb::Help,
    "help",
    &[ArgumentSpec { repeated: true, ..optional("COMMAND", Complete::Command) }],
    "this text, or what belongs to one command; so does COMMAND --help",
);

/// Every command, in the order of the help.
pub fn commands() -> impl Iterator<Item = &'static CommandSpec> + Clone {
    let commands = board::COMMANDS.iter();
    #[cfg(feature = "publish")]
    let commands = commands.chain(publish::COMMANDS);
    commands.chain(&[HELP])
}

/// Every option: the commands' own first, then those that stand before or after any command.
pub fn options() -> impl Iterator<Item = &'static OptionSpec> + Clone {
    let options = board::OPTIONS.iter();
    #[cfg(feature = "publish")]
    let options = publish::OPTIONS.iter().chain(options);
    options
}

/// The forms of IMAGE.
pub const IMAGES: &[ImageForm] = &[
    ImageForm {
        form: "[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]",
        help: "in a registry; alpine is docker.io/library/alpine:latest",
        prefix: None,
    },
    ImageForm {
        form: "oci:DIR[:NAME]",
        help: "an OCI image layout",
        prefix: Some(("oci:", Complete::Directory)),
    },
    ImageForm {
        form: "oci-archive:FILE[:NAME]",
        help: "the same in a tar file",
        prefix: Some(("oci-archive:", Complete::File)),
    },
    ImageForm {
        form: "docker-archive:FILE[:NAME]",
        help: "what `docker save` writes",
        prefix: Some(("docker-archive:", Complete::File)),
    },
];

/// Exit codes and what they mean, shortly.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (Kind::Other as u8, "other"),
    (Kind::Usage as u8, "usage"),
    (Kind::NoPlatform as u8, "no entry for this board"),
    (Kind::NotFound as u8, "not found"),
    (Kind::Auth as u8, "credentials"),
    (Kind::Network as u8, "network"),
    (Kind::Verification as u8, "verification failed"),
    (Kind::BadImage as u8, "broken or hostile image"),
    (Kind::Disk as u8, "disk"),
    (Kind::Unhealthy as u8, "unhealthy (went back)"),
    (Kind::Busy as u8, "another edgepull is at work"),
];

/// The options of one command; `None`: those that stand before or after any.
pub fn options_of(command: Option<Verb>) -> impl Iterator<Item = &'static OptionSpec> {
    options().filter(move |option| match command {
        Some(verb) => option.commands.contains(&verb),
        None => option.commands.is_empty(),
    })
}

/// Options of several commands, but not of all.
pub fn common_options() -> impl Iterator<Item = &'static OptionSpec> {
    options().filter(|option| option.commands.len() > 1)
}

/// The options that only this command has.
pub fn own_options(command: Verb) -> impl Iterator<Item = &'static OptionSpec> {
    options().filter(move |option| option.commands == [command])
}

impl OptionSpec {
    /// Whether it goes with a command.
    pub fn goes_with(&self, command: Verb) -> bool {
        self.commands.is_empty() || self.commands.contains(&command)
    }

    /// `deploy, update and gc`: the commands that it goes with, where those are some; of very many only the first words.
    pub fn companions(&self) -> String {
        let companions = commands().filter(|command| self.commands.contains(&command.verb));
        let names: Vec<&str> = companions.clone().map(|command| command.name).collect();
        match names.len() > COMPANIONS_MAX {
            true => listed(&first_words(companions), "and"),
            false => listed(&names, "and"),
        }
    }
}

/// The most commands that an option's companions are named one by one.
const COMPANIONS_MAX: usize = 6;

/// The commands' first words, each once.
pub fn first_words(commands: impl Iterator<Item = &'static CommandSpec>) -> Vec<&'static str> {
    let mut words: Vec<&str> =
        commands.map(|command| command.name.split(' ').next().unwrap_or_default()).collect();
    words.dedup();
    words
}

/// `a, b and c`, with `and` for `last`.
pub fn listed(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [others @ .., end] => format!("{} {last} {end}", others.join(", ")),
    }
}

/// The command whose name these words begin with, the longest such name; and how many of them it takes.
pub fn command_of<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Option<(&'static CommandSpec, usize)> {
    let taken = |command: &'static CommandSpec| {
        let name = command.name.split(' ');
        let count = name.clone().count();
        name.eq(words.clone().take(count)).then_some((command, count))
    };
    commands().filter_map(taken).max_by_key(|(_, count)| *count)
}

/// The commands whose names begin with these words, but have more: `manifest` has several.
pub fn commands_below<'a>(words: &'a str) -> impl Iterator<Item = &'static CommandSpec> + Clone + use<'a> {
    commands()
        .filter(move |command| command.name.strip_prefix(words).is_some_and(|rest| rest.starts_with(' ')))
}
