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
    Variant,
    Platform,
    Cpuinfo,
    Machine,
    PlainHttp,
    CaFile,
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
}

/// One positional argument.
#[derive(Debug)]
pub struct ArgumentSpec {
    /// As in `pull IMAGE DIR`.
    pub name: &'static str,
    /// Whether the command works without it.
    pub optional: bool,
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
    /// The only command it goes with; `None`: every one.
    pub command: Option<Verb>,
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
    ArgumentSpec { name, optional: false, complete }
}

const fn command(
    verb: Verb,
    name: &'static str,
    arguments: &'static [ArgumentSpec],
    help: &'static str,
) -> CommandSpec {
    CommandSpec { verb, name, arguments, help }
}

/// An option of every command, without a value.
const fn option(flag: Flag, short: Option<char>, long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { flag, short, long, value: None, command: None, help }
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

impl OptionSpec {
    /// The same option, for one command only.
    const fn of(mut self, verb: Verb) -> OptionSpec {
        self.command = Some(verb);
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
        Verb::Help,
        "help",
        &[ArgumentSpec { name: "COMMAND", optional: true, complete: Complete::Command }],
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

/// Every option: the commands' own first, then those that stand before or after any command.
pub const OPTIONS: &[OptionSpec] = &[
    option(Flag::Raw, None, "raw", "the exact bytes of the manifest list or manifest instead")
        .of(Verb::Inspect),
    option(Flag::Replace, None, "replace", "put it in the place of what DIR has, in one atomic step")
        .of(Verb::Pull),
    option(
        Flag::Bundle,
        None,
        "bundle",
        "DIR/rootfs and DIR/config.json, an OCI runtime bundle for crun or runc",
    )
    .of(Verb::Pull),
    option(Flag::Force, None, "force", "unpack even what this board cannot run").of(Verb::Pull),
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
    (Kind::Unhealthy as u8, "unhealthy, went back"),
    (Kind::Busy as u8, "another edgepull is at work"),
];

/// The options of one command; `None`: those that stand before or after any.
pub fn options_of(command: Option<Verb>) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |option| option.command == command)
}

/// The command of this name.
pub fn command_named(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|command| command.name == name)
}
