//! The commands and options of the agent on a board.

use super::{
    ArgumentSpec, CommandSpec, Complete, Flag, OptionSpec, Verb, command, option, optional, required, valued,
};

/// What boards, which are built without the feature, do not have.
const MORE_OF_INSPECT: &str = match cfg!(feature = "publish") {
    true => {
        "Below the table: which families of boards the image serves, which fall back, which are refused.\n\
         -v and --json also give each entry's label, annotations, layers, config and attestations."
    }
    false => "",
};

/// The commands, in the order of the help.
pub(super) const COMMANDS: &[CommandSpec] = &[
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
    )
    .more(MORE_OF_INSPECT),
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
];

const VARIANTS: &[&str] = &["auto", "v5", "v6", "v7", "v8"];
pub(super) const PLATFORMS: &[&str] = &[
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

/// Lists rates that a bad link may have.
const LOWEST_RATES: &[&str] = &["100", "512", "4k"];

/// Lists the commands that may ask a registry for something.
const ASKING: &[Verb] = &[
    Verb::Inspect,
    Verb::Pull,
    Verb::Deploy,
    Verb::Update,
    Verb::Verify,
    #[cfg(feature = "publish")]
    Verb::Copy,
    #[cfg(feature = "publish")]
    Verb::ManifestCheck,
    #[cfg(feature = "publish")]
    Verb::ManifestCreate,
    #[cfg(feature = "publish")]
    Verb::ManifestInspect,
    #[cfg(feature = "publish")]
    Verb::ManifestPush,
    #[cfg(feature = "publish")]
    Verb::PushFromSpec,
    #[cfg(feature = "publish")]
    Verb::PushFromArgs,
];

/// Names the command that says what an entry of a list runs on.
const ANNOTATE: &[Verb] = &[
    #[cfg(feature = "publish")]
    Verb::ManifestAnnotate,
];

/// Lists the commands that find out which board this is.
const CHOOSING: &[Verb] =
    &[Verb::Platform, Verb::Inspect, Verb::Pull, Verb::Deploy, Verb::Update, Verb::Verify];

/// Lists the commands that can be told which Arm variant is meant.
const VARIANT: &[Verb] = &joined::<{ CHOOSING.len() + ANNOTATE.len() }>(CHOOSING, ANNOTATE);

/// Names the command that copies some entries of a list.
const COPY: &[Verb] = &[
    #[cfg(feature = "publish")]
    Verb::Copy,
];

/// Lists the commands that can be told which platform is meant.
const PLATFORM: &[Verb] = &joined::<{ CHOOSING.len() + COPY.len() }>(CHOOSING, COPY);

/// Joins two lists of commands, which have `N` together.
const fn joined<const N: usize>(one: &[Verb], other: &[Verb]) -> [Verb; N] {
    let (mut all, mut at) = ([Verb::Help; N], 0);
    while at < N {
        all[at] = if at < one.len() { one[at] } else { other[at - one.len()] };
        at += 1;
    }
    all
}

/// The commands that take the state directory's lock.
const CHANGING: &[Verb] =
    &[Verb::Deploy, Verb::Update, Verb::Rollback, Verb::Confirm, Verb::Verify, Verb::Gc];

/// The commands that hold images against signatures; updates do as their deployment was told.
const SIGNED: &[Verb] = &[Verb::Pull, Verb::Deploy];

/// Lists what matters only to whoever fetches something.
const FETCHING: &[Flag] = &[
    Flag::Background,
    Flag::Variant,
    Flag::Platform,
    Flag::Cpuinfo,
    Flag::Machine,
    Flag::PlainHttp,
    Flag::CaFile,
    Flag::AuthFile,
    Flag::HostsDir,
    Flag::LimitRate,
    Flag::LowestRate,
    Flag::WaitOnline,
];

/// Lists what matters only to whoever chooses among the entries of a list.
const FOR_A_CHOICE: &[Flag] = &[Flag::Variant, Flag::Platform, Flag::Cpuinfo, Flag::Machine];

/// Says in which words an option does nothing for a command, beside or without another one that is `given`; `None` where
/// it does something.
pub(in crate::cli) fn idle(flag: Flag, command: Verb, given: impl Fn(Flag) -> bool) -> Option<&'static str> {
    match command {
        Verb::Verify if !given(Flag::Repair) && FETCHING.contains(&flag) => {
            Some("does nothing without --repair")
        }
        Verb::Inspect if given(Flag::Raw) && FOR_A_CHOICE.contains(&flag) => {
            Some("does nothing beside --raw, which shows what is there for all platforms")
        }
        _ => None,
    }
}

/// The options: the commands' own first, then those that stand before or after any command.
pub(super) const OPTIONS: &[OptionSpec] = &[
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
    )
    .of(VARIANT),
    valued(
        Flag::Platform,
        "platform",
        "OS/ARCH[/VARIANT]",
        Complete::Words(PLATFORMS),
        "this platform, whatever the board is",
    )
    .of(PLATFORM),
    valued(
        Flag::Cpuinfo,
        "cpuinfo",
        "FILE",
        Complete::File,
        "decide by this recorded /proc/cpuinfo, not by this machine",
    )
    .of(CHOOSING),
    valued(
        Flag::Machine,
        "machine",
        "NAME",
        Complete::Words(MACHINES),
        "decide by this recorded `uname -m`, not by this machine",
    )
    .of(CHOOSING),
    option(Flag::PlainHttp, None, "plain-http", "the registry has no TLS").of(ASKING),
    valued(
        Flag::CaFile,
        "ca-file",
        "FILE",
        Complete::File,
        "trust these certificates (PEM) instead of the system's",
    )
    .of(ASKING),
    valued(
        Flag::AuthFile,
        "auth-file",
        "FILE",
        Complete::File,
        "take credentials from this file only (docker's config.json)",
    )
    .of(ASKING),
    valued(
        Flag::HostsDir,
        "hosts-dir",
        "DIR",
        Complete::Directory,
        "mirrors and certificates by host (default /etc/edgepull/certs.d)",
    )
    .of(ASKING),
    valued(
        Flag::LimitRate,
        "limit-rate",
        "RATE",
        Complete::Words(RATES),
        "carry no more than so many bytes a second; k, M and G as in curl",
    )
    .of(ASKING),
    valued(
        Flag::LowestRate,
        "lowest-rate",
        "RATE",
        Complete::Words(LOWEST_RATES),
        "give up who sends less a second, for a minute (default 512)",
    )
    .of(ASKING),
    valued(
        Flag::WaitOnline,
        "wait-online",
        "SECONDS",
        Complete::Number,
        "how long to wait for a network that is not up yet (default 0)",
    )
    .of(ASKING),
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
