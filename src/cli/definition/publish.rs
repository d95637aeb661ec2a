//! The commands and options of who publishes images for boards.

use super::board::PLATFORMS;
use super::{
    ArgumentSpec, CommandSpec, Complete, Flag, OptionSpec, PublishFlag, Verb, command, option, optional,
    required, valued,
};

const fn repeated(name: &'static str, complete: Complete) -> ArgumentSpec {
    ArgumentSpec { repeated: true, ..required(name, complete) }
}

/// Where `manifest create` keeps its lists.
const LISTS: &str = "Lists are kept in --state-dir if that is given, else in $XDG_STATE_HOME/edgepull or\n\
     ~/.local/state/edgepull; each is one file, and complete or not there.";

/// The commands that push a list.
const PUSHING: &[Verb] = &[Verb::ManifestPush, Verb::PushFromSpec, Verb::PushFromArgs];

/// The commands that can refuse what they else warn of.
const STRICT: &[Verb] = &[Verb::ManifestPush, Verb::PushFromSpec, Verb::PushFromArgs, Verb::Copy];

/// The commands that push a list of manifest-tool's.
const PUSHING_FROM: &[Verb] = &[Verb::PushFromSpec, Verb::PushFromArgs];

/// The commands that talk to registries for somebody who publishes.
const PUBLISHING: &[Verb] = &[
    Verb::Inspect,
    Verb::Copy,
    Verb::ManifestCheck,
    Verb::ManifestCreate,
    Verb::ManifestInspect,
    Verb::ManifestPush,
    Verb::PushFromSpec,
    Verb::PushFromArgs,
];

/// `--type`'s values.
const TYPES: &[&str] = &["docker", "oci"];

const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd"];

const ARCHITECTURES: &[&str] = &["arm", "arm64", "amd64", "386", "riscv64", "ppc64le", "s390x"];

/// An option of commands that publish, without a value.
const fn publishing(flag: PublishFlag, long: &'static str, help: &'static str) -> OptionSpec {
    option(Flag::Publish(flag), None, long, help)
}

/// An option of commands that publish, with a value.
const fn publishing_valued(
    flag: PublishFlag,
    long: &'static str,
    value: &'static str,
    complete: Complete,
    help: &'static str,
) -> OptionSpec {
    valued(Flag::Publish(flag), long, value, complete, help)
}

/// The commands, in the order of the help.
pub(super) const COMMANDS: &[CommandSpec] = &[
    command(
        Verb::Copy,
        "copy",
        &[required("SRC", Complete::Image), required("DST", Complete::Image)],
        "an image with all its entries, as it is, to another place",
    )
    .more(
        "With --platform, once or several times, only these entries: the list gets another digest then.\n\
         Between registries, layouts and archives; of the same registry, layers are mounted and not sent.\n\
         A docker-archive cannot be DST, as it has no manifest lists. What a run that was cut short has\n\
         brought there, the next one does not bring again.",
    ),
    command(
        Verb::ManifestCheck,
        "manifest check",
        &[required("IMAGE", Complete::Image)],
        "read the programs of every entry: is each what its label says? (exit code 8: no)",
    )
    .more("The entries are fetched and unpacked one after the other, in a directory of $TMPDIR."),
    command(
        Verb::ManifestCreate,
        "manifest create",
        &[required("LIST", Complete::Image), repeated("IMAGE", Complete::Image)],
        "begin a list of these images, here on this machine; docker manifest create",
    )
    .more(LISTS),
    command(
        Verb::ManifestAnnotate,
        "manifest annotate",
        &[required("LIST", Complete::Image), optional("IMAGE", Complete::Image)],
        "say what an image of the list runs on; docker manifest annotate",
    )
    .more(
        "What is not given stays as the image's config has it. --variant is the image's here. Without IMAGE,\n\
         --annotation is of the list, which is an OCI image index then.",
    ),
    command(
        Verb::ManifestInspect,
        "manifest inspect",
        &[required("LIST", Complete::Image), optional("IMAGE", Complete::Image)],
        "the list as it would be pushed, or an image's manifest; docker manifest inspect",
    ),
    command(
        Verb::ManifestPush,
        "manifest push",
        &[required("LIST", Complete::Image)],
        "push the list, and what its repository lacks of its images; docker manifest push",
    ),
    command(
        Verb::PushFromSpec,
        "manifest push from-spec",
        &[required("FILE", Complete::File)],
        "push the list that a YAML or JSON file describes; manifest-tool push from-spec",
    ),
    command(
        Verb::PushFromSpec,
        "manifest pushml",
        &[required("FILE", Complete::File)],
        "push from-spec, as manifest-tool called it at first",
    ),
    command(
        Verb::PushFromArgs,
        "manifest push from-args",
        &[],
        "push a list of images whose names follow a pattern; manifest-tool push from-args",
    )
    .more(
        "In the template OS, ARCH and VARIANT stand for the parts of each platform, once each; without a\n\
         variant, nothing stands for VARIANT.",
    ),
    command(
        Verb::ManifestRm,
        "manifest rm",
        &[repeated("LIST", Complete::Image)],
        "forget lists that were created here; docker manifest rm",
    ),
];

/// The options of some of them.
pub(super) const OPTIONS: &[OptionSpec] = &[
    publishing(PublishFlag::Referrers, "referrers", "with what is attached to it: signatures, attestations…")
        .of(&[Verb::Copy]),
    OptionSpec {
        short: Some('a'),
        ..publishing(PublishFlag::Amend, "amend", "add to a list that there is already")
    }
    .of(&[Verb::ManifestCreate]),
    publishing_valued(PublishFlag::Os, "os", "OS", Complete::Words(SYSTEMS), "its operating system")
        .of(&[Verb::ManifestAnnotate]),
    publishing_valued(
        PublishFlag::Arch,
        "arch",
        "ARCH",
        Complete::Words(ARCHITECTURES),
        "its architecture, as Go calls it",
    )
    .of(&[Verb::ManifestAnnotate]),
    publishing_valued(
        PublishFlag::OsVersion,
        "os-version",
        "VERSION",
        Complete::Line,
        "the version of its operating system",
    )
    .of(&[Verb::ManifestAnnotate]),
    publishing_valued(
        PublishFlag::OsFeatures,
        "os-features",
        "NAME[,NAME…]",
        Complete::Line,
        "what its operating system has to have",
    )
    .of(&[Verb::ManifestAnnotate]),
    OptionSpec {
        short: Some('p'),
        ..publishing(PublishFlag::Purge, "purge", "forget the list here once it is pushed")
    }
    .of(&[Verb::ManifestPush]),
    publishing_valued(
        PublishFlag::Platforms,
        "platforms",
        "OS/ARCH[/VARIANT][,…]",
        Complete::Words(PLATFORMS),
        "the entries of the list",
    )
    .of(&[Verb::PushFromArgs]),
    publishing_valued(
        PublishFlag::Template,
        "template",
        "IMAGE",
        Complete::Image,
        "each entry's image, with OS, ARCH and VARIANT in it",
    )
    .of(&[Verb::PushFromArgs]),
    publishing_valued(PublishFlag::Target, "target", "IMAGE", Complete::Image, "what the list is called")
        .of(&[Verb::PushFromArgs]),
    publishing_valued(PublishFlag::Tags, "tags", "TAG[,TAG…]", Complete::Line, "more tags for it")
        .of(&[Verb::PushFromArgs]),
    publishing_valued(
        PublishFlag::Annotation,
        "annotation",
        "KEY=VALUE",
        Complete::Line,
        "an annotation of the list or its entry; more than once for several",
    )
    .of(&[Verb::ManifestCreate, Verb::ManifestAnnotate]),
    publishing_valued(
        PublishFlag::Annotations,
        "annotations",
        "KEY=VALUE[,…]",
        Complete::Line,
        "annotations of the list (--type oci)",
    )
    .of(&[Verb::PushFromArgs]),
    publishing_valued(
        PublishFlag::Type,
        "type",
        "docker|oci",
        Complete::Words(TYPES),
        "a Docker manifest list (default) or an OCI image index",
    )
    .of(PUSHING_FROM),
    publishing(PublishFlag::IgnoreMissing, "ignore-missing", "leave out images that are not there")
        .of(PUSHING_FROM),
    publishing(PublishFlag::Strict, "strict", "push no list with a false label, copy no incomplete image")
        .of(STRICT),
    publishing(PublishFlag::NoCheck, "no-check", "do not read the entries' programs").of(PUSHING),
    publishing(PublishFlag::Insecure, "insecure", "the registry may have no TLS; certificates are checked")
        .of(PUBLISHING),
    publishing_valued(PublishFlag::Username, "username", "NAME", Complete::Line, "log in as NAME")
        .of(PUBLISHING),
    publishing_valued(
        PublishFlag::Password,
        "password",
        "PASSWORD",
        Complete::Line,
        "with this password, which other users can see: better docker login",
    )
    .of(PUBLISHING),
    publishing_valued(
        PublishFlag::DockerCfg,
        "docker-cfg",
        "PATH",
        Complete::File,
        "--auth-file for manifest-tool; a directory means its config.json",
    )
    .of(PUBLISHING),
    publishing(PublishFlag::Debug, "debug", "manifest-tool's name for -vv").of(PUBLISHING),
];
