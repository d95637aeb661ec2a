//! The one definition of the command line: tables, from which the parser, `--help`, the man page and
//! the shells' completions are all made. An option that is not here cannot be parsed, and one that is here
//! cannot be forgotten: the parser matches on [`Flag`] and [`Verb`], so the compiler asks for each.
//!
//! The man page and the completions are rendered by `cross/pages`, which the agent does not contain.

use crate::error::Kind;

/// Where edgepull remembers things between runs, unless `--state-dir` names another place.
pub const STATE_DIR: &str = "/var/lib/edgepull";

/// A command; [`COMMANDS`] has one row for each.
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
    /// `help`
    Help,
}

/// An option; [`OPTIONS`] has one row for each.
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
    WaitOnline,
    StateDir,
    Json,
    Verbose,
    Quiet,
    Help,
    Version,
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
    /// What the user types.
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

/// Every command, in the order of the help.
pub const COMMANDS: &[CommandSpec] = &[
    command(
        Verb::Platform,
        "platform",
        &[],
        "who this board is: evidence by evidence, and the platforms it can run, best first",
    ),
    command(
        Verb::Inspect,
        "inspect",
        &[required("IMAGE", Complete::Image)],
        "the manifest list as a table, which entry this board takes and why not the others",
    ),
    command(
        Verb::Pull,
        "pull",
        &[required("IMAGE", Complete::Image), required("DIR", Complete::Directory)],
        "unpack the image's root file system into DIR, which must be empty or absent",
    ),
    command(
        Verb::Deploy,
        "deploy",
        &[required("NAME", Complete::Deployment), required("IMAGE", Complete::Image)],
        "track IMAGE under NAME: fetch it, unpack it, make it current, check it",
    )
    .more(
        "--platform, --variant, --ca-file, --auth-file, --hosts-dir, --plain-http, --policy, --verify-key\n\
         and what is below are remembered for update. A later deploy of NAME changes what it tracks;\n\
         options that are not given then keep their value, an empty one (--health=) takes it back, and\n\
         --ca-file, --auth-file and --plain-http end with the registry they were for.\n\
         CMDs are run by /bin/sh, maybe more than once, with EDGEPULL_NAME, EDGEPULL_GENERATION,\n\
         EDGEPULL_DIGEST, EDGEPULL_ROOTFS and EDGEPULL_PREVIOUS in their environment.",
    ),
    command(
        Verb::Update,
        "update",
        &[ArgumentSpec { repeated: true, ..optional("NAME", Complete::Deployment) }],
        "look whether what they track has changed; if so, make that current",
    ),
    command(
        Verb::Status,
        "status",
        &[optional("NAME", Complete::Deployment)],
        "what is current and what was before, of one deployment or all",
    ),
    command(
        Verb::Rollback,
        "rollback",
        &[required("NAME", Complete::Deployment)],
        "make the previous generation current; updates leave alone what was left",
    )
    .more(
        "It is checked like a new one, but needs no confirm; if it is not good, the board stays where it is.\n\
         A trial ends at once: what was current before is so again. --to what was left makes updates take\n\
         it again.",
    ),
    command(
        Verb::Confirm,
        "confirm",
        &[required("NAME", Complete::Deployment)],
        "the current generation is good, and is not gone back from",
    )
    .more(
        "The time of --confirm-within counts from the switch. When it is over, or the board has restarted,\n\
         the next edgepull that works on NAME goes back; if that is this one, its exit code is 10.",
    ),
    command(
        Verb::Verify,
        "verify",
        &[optional("NAME", Complete::Deployment)],
        "every file of the kept generations against what was recorded",
    ),
    command(Verb::Gc, "gc", &[], "remove what no generation needs, interrupted fetches included"),
    command(
        Verb::Help,
        "help",
        &[optional("COMMAND", Complete::Command)],
        "this text, or what belongs to one command; so does COMMAND --help",
    ),
];

const VARIANTS: &[&str] = &["auto", "v5", "v6", "v7", "v8"];
const PLATFORMS: &[&str] = &[
    "linux/arm/v5",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64",
    "linux/amd64",
    "linux/386",
    "linux/riscv64",
];
/// `uname -m` of the board families.
const MACHINES: &[&str] = &["armv5tejl", "armv6l", "armv7l", "armv8l", "aarch64", "x86_64"];

/// Some rates.
const RATES: &[&str] = &["100k", "500k", "1M", "10M"];

/// The commands that take the state directory's lock.
const CHANGING: &[Verb] =
    &[Verb::Deploy, Verb::Update, Verb::Rollback, Verb::Confirm, Verb::Verify, Verb::Gc];

/// The commands that hold images against signatures; updates do as their deployment was told.
const SIGNED: &[Verb] = &[Verb::Pull, Verb::Deploy];

/// Every option: the commands' own first, then those that stand before or after any command.
pub const OPTIONS: &[OptionSpec] = &[
    option(Flag::Raw, None, "raw", "the exact bytes of the manifest list or manifest instead")
        .of(&[Verb::Inspect]),
    option(Flag::Replace, None, "replace", "put it in the place of what DIR has, in one atomic step")
        .of(&[Verb::Pull]),
    option(
        Flag::Bundle,
        None,
        "bundle",
        "DIR/rootfs and DIR/config.json, an OCI runtime bundle for crun or runc",
    )
    .of(&[Verb::Pull]),
    option(Flag::Force, None, "force", "unpack even what this board cannot run").of(&[Verb::Pull]),
    valued(
        Flag::Keep,
        "keep",
        "N",
        Complete::Number,
        "how many generations are kept, the current one included (default 2)",
    )
    .of(&[Verb::Deploy]),
    valued(
        Flag::Health,
        "health",
        "CMD",
        Complete::Line,
        "a new generation is good if CMD succeeds in time; else it goes back",
    )
    .of(&[Verb::Deploy]),
    valued(
        Flag::HealthTimeout,
        "health-timeout",
        "SECONDS",
        Complete::Number,
        "how long CMDs have (default 60); health is tried again within it",
    )
    .of(&[Verb::Deploy]),
    valued(
        Flag::OnSwitch,
        "on-switch",
        "CMD",
        Complete::Line,
        "run this whenever another generation has become current",
    )
    .of(&[Verb::Deploy]),
    valued(
        Flag::ConfirmWithin,
        "confirm-within",
        "SECONDS",
        Complete::Number,
        "it goes back, too, unless confirmed in time, before any restart (0: off)",
    )
    .of(&[Verb::Deploy]),
    option(Flag::PinDigest, None, "pin-digest", "stay at what the tag means now, until the next deploy")
        .of(&[Verb::Deploy]),
    valued(
        Flag::Monotonic,
        "monotonic",
        "created|version",
        Complete::Words(&["created", "version"]),
        "refuse an image that is older than the current one",
    )
    .of(&[Verb::Deploy]),
    valued(
        Flag::Policy,
        "policy",
        "FILE",
        Complete::File,
        "who has to have signed what (default /etc/edgepull/policy.json)",
    )
    .of(SIGNED),
    valued(
        Flag::VerifyKey,
        "verify-key",
        "FILE",
        Complete::File,
        "this public key has to have signed it; of several, any",
    )
    .of(SIGNED),
    option(Flag::All, None, "all", "all deployments").of(&[Verb::Update]),
    valued(Flag::To, "to", "GEN", Complete::Number, "this generation instead; status lists them")
        .of(&[Verb::Rollback]),
    option(Flag::Repair, None, "repair", "fetch again the layers of files that differ").of(&[Verb::Verify]),
    option(Flag::DryRun, None, "dry-run", "only say what would be removed").of(&[Verb::Gc]),
    option(Flag::Wait, None, "wait", "wait for another edgepull, instead of giving up").of(CHANGING),
    valued(
        Flag::Verifier,
        "verifier",
        "PROGRAM",
        Complete::File,
        "run PROGRAM NAME DIGEST: only what it allows is unpacked",
    )
    .of(SIGNED),
    option(
        Flag::Background,
        None,
        "background",
        "let others have the processor and the disk first while it fetches",
    )
    .of(&[Verb::Pull, Verb::Deploy, Verb::Update, Verb::Verify]),
    valued(
        Flag::Variant,
        "variant",
        "auto|v5|v6|v7|v8…",
        Complete::Words(VARIANTS),
        "take this Arm variant instead of finding it out (default auto)",
    ),
    valued(
        Flag::Platform,
        "platform",
        "OS/ARCH[/VARIANT]",
        Complete::Words(PLATFORMS),
        "take this platform, whatever the board is",
    ),
    valued(
        Flag::Cpuinfo,
        "cpuinfo",
        "FILE",
        Complete::File,
        "decide by this recorded /proc/cpuinfo, not by this machine",
    ),
    valued(
        Flag::Machine,
        "machine",
        "NAME",
        Complete::Words(MACHINES),
        "decide by this recorded `uname -m`, not by this machine",
    ),
    option(Flag::PlainHttp, None, "plain-http", "the registry has no TLS"),
    valued(
        Flag::CaFile,
        "ca-file",
        "FILE",
        Complete::File,
        "trust these certificates (PEM) instead of the system's",
    ),
    valued(
        Flag::AuthFile,
        "auth-file",
        "FILE",
        Complete::File,
        "take credentials from this file only (docker's config.json)",
    ),
    valued(
        Flag::HostsDir,
        "hosts-dir",
        "DIR",
        Complete::Directory,
        "mirrors and certificates by host (default /etc/edgepull/certs.d)",
    ),
    valued(
        Flag::LimitRate,
        "limit-rate",
        "RATE",
        Complete::Words(RATES),
        "fetch no more than so many bytes a second; k, M and G as in curl",
    ),
    valued(
        Flag::WaitOnline,
        "wait-online",
        "SECONDS",
        Complete::Number,
        "how long to wait for a network that is not up yet (default 0)",
    ),
    valued(
        Flag::StateDir,
        "state-dir",
        "DIR",
        Complete::Directory,
        "what edgepull remembers between runs (default /var/lib/edgepull)",
    ),
    option(Flag::Json, None, "json", "one JSON object a line on standard output"),
    option(Flag::Verbose, Some('v'), "verbose", "say more: choices, requests, timings (-vv: still more)"),
    option(Flag::Quiet, Some('q'), "quiet", "say nothing but errors"),
    option(Flag::Help, Some('h'), "help", "this text; behind a command, what belongs to it"),
    option(Flag::Version, Some('V'), "version", "the version"),
];

/// The forms of IMAGE.
pub const IMAGES: &[ImageForm] = &[
    ImageForm {
        form: "[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]",
        help: "in a registry; alpine is docker.io/library/alpine:latest",
        prefix: None,
    },
    ImageForm {
        form: "oci:DIR[:TAG]",
        help: "an OCI image layout",
        prefix: Some(("oci:", Complete::Directory)),
    },
    ImageForm {
        form: "oci-archive:FILE[:TAG]",
        help: "the same in a tar file",
        prefix: Some(("oci-archive:", Complete::File)),
    },
    ImageForm {
        form: "docker-archive:FILE[:TAG]",
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
    OPTIONS.iter().filter(move |option| match command {
        Some(verb) => option.commands.contains(&verb),
        None => option.commands.is_empty(),
    })
}

/// Options of several commands, but not of all.
pub fn common_options() -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(|option| option.commands.len() > 1)
}

/// The options that only this command has.
pub fn own_options(command: Verb) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |option| option.commands == [command])
}

impl OptionSpec {
    /// Whether it goes with a command.
    pub fn goes_with(&self, command: Verb) -> bool {
        self.commands.is_empty() || self.commands.contains(&command)
    }

    /// `deploy, update and gc`: the commands that it goes with, where those are some.
    pub fn companions(&self) -> String {
        let names = COMMANDS.iter().filter(|command| self.commands.contains(&command.verb));
        listed(&names.map(|command| command.name).collect::<Vec<_>>(), "and")
    }
}

/// `a, b and c`, with `and` for `last`.
pub fn listed(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [others @ .., end] => format!("{} {last} {end}", others.join(", ")),
    }
}

/// The command of this name.
pub fn command_named(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|command| command.name == name)
}
