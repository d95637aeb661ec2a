//! The command line: arguments become one typed [`Invocation`].
//!
//! The words themselves are rows of [`definition`]; here is what each of them does.

pub mod definition;
mod deploy;
pub mod help;
#[cfg(feature = "publish")]
mod publish;

pub use deploy::{Changes, Deploy};
#[cfg(feature = "publish")]
pub use publish::{Check, Described, Manifest};

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::platform::Platform;
#[cfg(feature = "publish")]
use crate::source::Login;
use crate::source::{Lowest, Network, RATE_MIN};
use crate::store::deployment::{KEEP_MAX, check_name};
use crate::trust::rollback::Monotonic;
use definition::{
    CommandSpec, Flag, OptionSpec, STATE_DIR, Verb, command_of, commands, commands_below, listed,
};
use help::Help;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole command line.
#[derive(Debug)]
pub struct Invocation {
    /// What holds for every command.
    pub options: Options,
    /// The command.
    pub command: Command,
}

/// Options that hold for every command.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--variant`; `None` for `auto`.
    pub variant: Option<String>,
    /// `--platform`.
    pub platform: Option<Platform>,
    /// The features in `--platform`.
    pub os_features: Vec<String>,
    /// `--cpuinfo`.
    pub cpuinfo: Option<PathBuf>,
    /// `--machine`.
    pub machine: Option<String>,
    /// `--plain-http`.
    pub plain_http: bool,
    /// `--ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `--policy`; `None`: [`crate::trust::POLICY`], if there is one.
    pub policy: Option<PathBuf>,
    /// Every `--verify-key`.
    pub verify_keys: Vec<PathBuf>,
    /// `--auth-file`.
    pub auth_file: Option<PathBuf>,
    /// `--hosts-dir`.
    pub hosts_dir: Option<PathBuf>,
    /// `--limit-rate` and `--wait-online`, for all connections of this run together.
    pub network: Arc<Network>,
    /// Holds `--lowest-rate`, for each connection by itself.
    pub lowest: Lowest,
    /// `--insecure`: a registry that has no TLS is asked without.
    #[cfg(feature = "publish")]
    pub insecure: bool,
    /// `--username` and `--password`.
    #[cfg(feature = "publish")]
    pub login: Option<Login>,
    /// `--state-dir`: what edgepull remembers between runs.
    pub state_dir: PathBuf,
    /// `--wait`: for another edgepull at the same state directory.
    pub wait: bool,
    /// `--verifier`: a program that says whether an image may run.
    pub verifier: Option<PathBuf>,
    /// `--background`.
    pub background: bool,
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
            os_features: Vec::new(),
            cpuinfo: None,
            machine: None,
            plain_http: false,
            ca_file: None,
            policy: None,
            verify_keys: Vec::new(),
            auth_file: None,
            hosts_dir: None,
            network: Arc::default(),
            lowest: Lowest::default(),
            #[cfg(feature = "publish")]
            insecure: false,
            #[cfg(feature = "publish")]
            login: None,
            state_dir: STATE_DIR.into(),
            wait: false,
            verifier: None,
            background: false,
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
    /// `deploy`.
    Deploy(Box<Deploy>),
    /// `update`.
    Update {
        /// Which deployments; none for all.
        names: Vec<String>,
    },
    /// `status`.
    Status {
        /// Which deployment; `None` for all.
        name: Option<String>,
    },
    /// `rollback`.
    Rollback {
        /// Which deployment.
        name: String,
        /// `--to`.
        to: Option<u32>,
    },
    /// `confirm`.
    Confirm {
        /// Which deployment.
        name: String,
    },
    /// `verify`.
    Verify {
        /// Which deployment; `None` for all.
        name: Option<String>,
        /// `--repair`.
        repair: bool,
    },
    /// `gc`.
    Gc {
        /// `--dry-run`.
        dry_run: bool,
    },
    /// `copy`.
    #[cfg(feature = "publish")]
    Copy {
        /// SRC.
        from: Reference,
        /// DST.
        to: Reference,
        /// `--strict`.
        strict: bool,
        /// Every `--platform`; none: all entries.
        platforms: Vec<Platform>,
        /// `--referrers`.
        referrers: bool,
    },
    /// `manifest …`.
    #[cfg(feature = "publish")]
    Manifest(Box<Manifest>),
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
    let (mut options, mut own) = (Options::default(), Own::default());
    let mut words: Vec<OsString> = Vec::new();
    let mut given: Vec<&OptionSpec> = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        let row = match &argument {
            Value(word) => {
                words.push(word.clone());
                continue;
            }
            Long(name) => definition::options().find(|option| option.long == *name),
            Short(letter) => definition::options().find(|option| option.short == Some(*letter)),
        };
        let row = row.ok_or_else(|| usage(argument.unexpected()))?;
        apply(row.flag, &mut parser, &mut options, &mut own)?;
        given.push(row);
    }
    options.network = Arc::new(Network::new(own.limit_rate, Duration::from_secs(own.wait_online)));
    #[cfg(feature = "publish")]
    {
        options.login = own.publish.login()?;
    }
    let has = |flag| given.iter().any(|option| option.flag == flag);
    let command = match (has(Flag::Help), has(Flag::Version)) {
        (true, _) => Command::Help(topic(&words).unwrap_or(Help::All)),
        (_, true) => Command::Version,
        _ => command(words, &given, &options, own)?,
    };
    Ok(Invocation { options, command })
}

/// The values of the commands' own options.
#[derive(Default)]
struct Own {
    keep: Option<u32>,
    health: Option<String>,
    health_timeout: Option<u64>,
    on_switch: Option<String>,
    confirm_within: Option<u64>,
    /// An empty one is none.
    monotonic: Option<Option<Monotonic>>,
    to: Option<u32>,
    platforms: Vec<Platform>,
    limit_rate: Option<u64>,
    wait_online: u64,
    #[cfg(feature = "publish")]
    publish: publish::Given,
}

/// The longest times, in seconds: a day for a command, 30 days for a hand.
const COMMAND_MAX: u64 = 24 * 60 * 60;
const CONFIRM_MAX: u64 = 30 * 24 * 60 * 60;

/// Takes the option's value, if it has one. The commands' own options without one only need to be known as
/// given.
fn apply(flag: Flag, parser: &mut lexopt::Parser, options: &mut Options, own: &mut Own) -> Result<()> {
    match flag {
        Flag::Variant => options.variant = Some(text(parser)?).filter(|variant| variant != "auto"),
        Flag::Platform => {
            let (platform, features) = Platform::parse_with_features(&text(parser)?)?;
            own.platforms.push(platform.clone());
            (options.platform, options.os_features) = (Some(platform), features);
        }
        Flag::Cpuinfo => options.cpuinfo = Some(parser.value().map_err(usage)?.into()),
        Flag::Machine => options.machine = Some(text(parser)?),
        Flag::CaFile => options.ca_file = file(parser)?,
        Flag::Verifier => options.verifier = file(parser)?,
        Flag::Policy => options.policy = file(parser)?,
        Flag::VerifyKey => options.verify_keys.extend(file(parser)?),
        Flag::Monotonic => {
            own.monotonic = Some(match text(parser)?.as_str() {
                "" => None,
                "created" => Some(Monotonic::Created),
                "version" => Some(Monotonic::Version),
                other => return Err(wrong(format!("--monotonic {other:?} is neither created nor version"))),
            });
        }
        Flag::AuthFile => options.auth_file = file(parser)?,
        Flag::HostsDir => options.hosts_dir = file(parser)?,
        Flag::LimitRate => own.limit_rate = Some(rate("limit-rate", &text(parser)?, RATE_MIN)?),
        Flag::LowestRate => options.lowest.rate = rate("lowest-rate", &text(parser)?, 1)?,
        Flag::WaitOnline => own.wait_online = number(parser, "wait-online", 0, COMMAND_MAX)?,
        Flag::Keep => own.keep = Some(number(parser, "keep", 1, KEEP_MAX.into())? as u32),
        Flag::Health => own.health = Some(text(parser)?),
        Flag::HealthTimeout => own.health_timeout = Some(number(parser, "health-timeout", 1, COMMAND_MAX)?),
        Flag::OnSwitch => own.on_switch = Some(text(parser)?),
        Flag::ConfirmWithin => own.confirm_within = Some(number(parser, "confirm-within", 0, CONFIRM_MAX)?),
        Flag::To => own.to = Some(number(parser, "to", 1, u32::MAX.into())? as u32),
        #[cfg(feature = "publish")]
        Flag::Publish(flag) => own.publish.apply(flag, parser, options)?,
        Flag::Wait => options.wait = true,
        Flag::Background => options.background = true,
        Flag::StateDir => options.state_dir = parser.value().map_err(usage)?.into(),
        Flag::PlainHttp => options.plain_http = true,
        Flag::Json => options.json = true,
        Flag::Verbose => options.verbose = options.verbose.saturating_add(1),
        Flag::Quiet => options.quiet = true,
        Flag::Raw | Flag::Replace | Flag::Bundle | Flag::Force | Flag::PinDigest | Flag::All => {}
        Flag::Repair | Flag::DryRun | Flag::Help | Flag::Version => {}
    }
    Ok(())
}

fn command(words: Vec<OsString>, given: &[&OptionSpec], options: &Options, own: Own) -> Result<Command> {
    let (row, taken) = named(&words)?;
    if let Some(option) = given.iter().find(|option| !option.goes_with(row.verb)) {
        return Err(wrong(format!("--{} does not go with {}", option.long, row.name)));
    }
    let has = |flag| given.iter().any(|option| option.flag == flag);
    let idle = |option: &&&OptionSpec| Some((option.long, definition::idle(option.flag, row.verb, has)?));
    if let Some((option, why)) = given.iter().find_map(|option| idle(&option)) {
        return Err(wrong(format!("{}: --{option} {why}", row.name)));
    }
    match (takes_several_platforms(row.verb), own.platforms.len(), options.os_features.is_empty()) {
        (false, 2.., _) => return Err(wrong(format!("{} takes one --platform", row.name))),
        (true, _, false) => return Err(wrong(format!("{} --platform takes no features", row.name))),
        _ => {}
    }
    let mut words = words.into_iter();
    words.by_ref().take(taken).for_each(drop);
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
        Verb::Deploy => Command::Deploy(Box::new(Deploy::new(
            arguments.name()?,
            image_text(arguments.next()?)?,
            Changes::new(own, options, &has)?,
            has(Flag::PinDigest),
        )?)),
        Verb::Update => Command::Update { names: arguments.names(has(Flag::All))? },
        Verb::Status => Command::Status { name: arguments.optional_name()? },
        Verb::Rollback => Command::Rollback { name: arguments.name()?, to: own.to },
        Verb::Confirm => Command::Confirm { name: arguments.name()? },
        Verb::Verify => Command::Verify { name: arguments.optional_name()?, repair: has(Flag::Repair) },
        Verb::Gc => Command::Gc { dry_run: has(Flag::DryRun) },
        #[cfg(feature = "publish")]
        Verb::Copy => Command::Copy {
            from: image(arguments.next()?)?,
            to: image(arguments.next()?)?,
            strict: has(Flag::Publish(definition::PublishFlag::Strict)),
            platforms: own.platforms,
            referrers: has(Flag::Publish(definition::PublishFlag::Referrers)),
        },
        Verb::Help => Command::Help(match arguments.words.as_slice() {
            [] => Help::All,
            words => topic(words)?,
        }),
        #[cfg(feature = "publish")]
        _ => {
            let has = |flag| has(Flag::Publish(flag));
            Command::Manifest(Box::new(own.publish.command(&mut arguments, options, &has)?))
        }
    };
    if row.verb == Verb::Help {
        return Ok(command);
    }
    match arguments.words.next() {
        Some(word) => Err(wrong(format!("{word:?} is one argument too many"))),
        None => Ok(command),
    }
}

#[cfg(feature = "publish")]
fn takes_several_platforms(verb: Verb) -> bool {
    verb == Verb::Copy
}

#[cfg(not(feature = "publish"))]
fn takes_several_platforms(_: Verb) -> bool {
    false
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

    /// All that follow, and one at least.
    #[cfg(feature = "publish")]
    fn rest<T>(&mut self, parse: impl Fn(OsString) -> Result<T>) -> Result<Vec<T>> {
        let mut parsed = vec![parse(self.next()?)?];
        for word in self.words.by_ref() {
            parsed.push(parse(word)?);
        }
        Ok(parsed)
    }

    /// The next one, which is a deployment's name.
    fn name(&mut self) -> Result<String> {
        self.next().and_then(deployment)
    }

    /// The next one, if there is one, which is a deployment's name.
    fn optional_name(&mut self) -> Result<Option<String>> {
        self.words.next().map(deployment).transpose()
    }

    /// All that follow, each once; none means all, with or without `--all`.
    fn names(&mut self, all: bool) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for word in self.words.by_ref() {
            let name = deployment(word)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match all && !names.is_empty() {
            true => Err(wrong(format!("{}: either NAMEs or --all", self.row))),
            false => Ok(names),
        }
    }
}

/// A deployment's name.
fn deployment(word: OsString) -> Result<String> {
    let name = word.into_string().map_err(|word| wrong(format!("{word:?} is not UTF-8")))?;
    check_name(&name).map(|()| name)
}

/// A decimal number, digits only.
fn number(parser: &mut lexopt::Parser, option: &str, least: u64, most: u64) -> Result<u64> {
    let text = text(parser)?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (least..=most).contains(number));
    number.ok_or_else(|| wrong(format!("--{option} {text:?} is not a number from {least} to {most}")))
}

/// Reads a rate in bytes a second, at least `least`, as curl writes it: a number, perhaps with a decimal point, and
/// k, M or G for powers of 1024.
fn rate(option: &str, text: &str, least: u64) -> Result<u64> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    // Three places behind the point are enough; floating point would be 15 KB of code.
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let plain = [whole, part].iter().all(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let thousandths = part
        .bytes()
        .chain(*b"000")
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')));
    let rate = whole.parse::<u64>().ok().filter(|_| plain);
    let rate =
        rate.and_then(|whole| whole.checked_mul(1000)?.checked_add(thousandths)?.checked_mul(1 << shift));
    let rate = rate.map(|thousandths| thousandths / 1000);
    rate.filter(|rate| *rate >= least).ok_or_else(|| {
        wrong(format!(
            "--{option} {text:?} is no rate of {least} bytes a second or more (a number; k, M and G are powers of 1024)"
        ))
    })
}

/// The command that these words begin with, and how many of them are its name.
fn named(words: &[OsString]) -> Result<(&'static CommandSpec, usize)> {
    let texts = words.iter().map(|word| word.to_str().unwrap_or_default());
    if let Some(found) = command_of(texts) {
        return Ok(found);
    }
    let Some(first) = words.first() else {
        return Err(wrong(format!("a command is missing: {}", names("or"))));
    };
    let below = commands_below(first.to_str().unwrap_or_default());
    let below: Vec<&str> = below.map(|command| command.name).collect();
    Err(wrong(match (below.is_empty(), words.get(1)) {
        (true, _) => format!("there is no command {first:?}, only {}", names("and")),
        (false, None) => format!("more is missing: {}", listed(&below, "or")),
        (false, Some(second)) => {
            format!("there is no command {} {second:?}, only {}", first.display(), listed(&below, "and"))
        }
    }))
}

/// What help is asked for by these words.
fn topic(words: &[OsString]) -> Result<Help> {
    let found = named(words);
    match (words, found) {
        (_, Ok((command, _))) => Ok(Help::One(command)),
        ([group], Err(error)) => {
            let group = group.to_str().unwrap_or_default();
            commands_below(group).next().map(|_| Help::Group(group.to_owned())).ok_or(error)
        }
        (_, Err(error)) => Err(error),
    }
}

/// The commands' first words: `platform, inspect, pull and help`.
fn names(last: &str) -> String {
    listed(&definition::first_words(commands()), last)
}

fn image(word: OsString) -> Result<Reference> {
    image_text(word)?.parse()
}

fn image_text(word: OsString) -> Result<String> {
    word.into_string().map_err(|word| wrong(format!("image {word:?} is not UTF-8")))
}

fn text(parser: &mut lexopt::Parser) -> Result<String> {
    let value = parser.value().map_err(usage)?;
    value.into_string().map_err(|value| wrong(format!("{value:?} is not UTF-8")))
}

/// A file's path; an empty one is none.
fn file(parser: &mut lexopt::Parser) -> Result<Option<PathBuf>> {
    let file = parser.value().map_err(usage)?;
    Ok(Some(file).filter(|file| !file.is_empty()).map(PathBuf::from))
}

fn usage(error: lexopt::Error) -> Error {
    wrong(error.to_string())
}

fn wrong(message: String) -> Error {
    Error::new(Kind::Usage, message).hint("edgepull --help lists commands and options")
}

#[cfg(test)]
mod tests;
