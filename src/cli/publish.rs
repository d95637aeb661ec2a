//! The command lines of who publishes: manifest-tool's and docker manifest's, word for word where they are documented.

use super::definition::{PublishFlag, Verb};
use super::{Arguments, Options, file, image, image_text, text, wrong};
use crate::error::Result;
use crate::image::compose::Family;
use crate::image::manifest::PlatformField;
use crate::image::reference::{Reference, RegistryReference};
use crate::image::spec::{Item, Spec};
use crate::source::Login;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;

/// `manifest …`.
#[derive(Debug)]
pub enum Manifest {
    /// `check`.
    Check {
        /// Whose entries.
        image: Reference,
    },
    /// `create`.
    Create {
        /// What the list is called.
        list: RegistryReference,
        /// Its entries.
        images: Vec<Reference>,
        /// `--amend`.
        amend: bool,
        /// Every `--annotation`, of the list.
        annotations: BTreeMap<String, String>,
    },
    /// `annotate`.
    Annotate {
        /// The list.
        list: RegistryReference,
        /// Which of its entries; `None`: the list itself.
        image: Option<Reference>,
        /// Holds what is said of the entry; what is empty stays as it is.
        platform: PlatformField,
        /// Every `--annotation`, of the entry or the list.
        annotations: BTreeMap<String, String>,
    },
    /// `inspect`.
    Inspect {
        /// The list.
        list: RegistryReference,
        /// Which of its entries; `None`: the list itself.
        image: Option<Reference>,
    },
    /// `push`.
    Push {
        /// The list.
        list: RegistryReference,
        /// `--purge`.
        purge: bool,
        /// What becomes of lies.
        check: Check,
    },
    /// `push from-spec` and `push from-args`.
    PushSpec {
        /// The list: in a file, or in the arguments.
        spec: Described,
        /// `--type`.
        family: Family,
        /// `--ignore-missing`.
        ignore_missing: bool,
        /// What becomes of lies.
        check: Check,
    },
    /// `rm`.
    Rm {
        /// The lists.
        lists: Vec<RegistryReference>,
    },
}

/// Where a list is described.
#[derive(Debug)]
pub enum Described {
    /// In this file.
    File(PathBuf),
    /// In the arguments.
    Arguments(Spec),
}

/// What becomes of entries that are not what their labels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `--no-check`: nobody looks.
    No,
    /// A warning.
    Warn,
    /// `--strict`: nothing is pushed.
    Strict,
}

/// The values of the options.
#[derive(Default)]
pub(super) struct Given {
    platforms: Vec<String>,
    template: Option<String>,
    target: Option<String>,
    tags: Vec<String>,
    annotations: BTreeMap<String, String>,
    family: Family,
    os: String,
    architecture: String,
    os_version: Option<String>,
    os_features: Vec<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Given {
    /// Takes the option's value, if it has one.
    pub(super) fn apply(
        &mut self,
        flag: PublishFlag,
        parser: &mut lexopt::Parser,
        options: &mut Options,
    ) -> Result<()> {
        match flag {
            PublishFlag::Platforms => self.platforms.extend(list(&text(parser)?)),
            PublishFlag::Template => self.template = Some(text(parser)?),
            PublishFlag::Target => self.target = Some(text(parser)?),
            PublishFlag::Tags => self.tags.extend(list(&text(parser)?)),
            PublishFlag::Annotation => {
                let text = text(parser)?;
                match text.split_once('=') {
                    Some((key, value)) if !key.is_empty() => {
                        self.annotations.insert(key.to_owned(), value.to_owned());
                    }
                    _ => return Err(wrong(format!("--annotation {text:?} is not KEY=VALUE"))),
                }
            }
            PublishFlag::Annotations => annotations(&text(parser)?, &mut self.annotations)?,
            PublishFlag::Type => {
                self.family = match text(parser)?.as_str() {
                    "docker" => Family::Docker,
                    "oci" => Family::Oci,
                    other => return Err(wrong(format!("--type {other:?} is neither docker nor oci"))),
                }
            }
            PublishFlag::Os => self.os = text(parser)?,
            PublishFlag::Arch => self.architecture = text(parser)?,
            PublishFlag::OsVersion => self.os_version = Some(text(parser)?),
            PublishFlag::OsFeatures => self.os_features.extend(list(&text(parser)?)),
            PublishFlag::Username => self.username = Some(text(parser)?),
            PublishFlag::Password => self.password = Some(text(parser)?),
            PublishFlag::DockerCfg => {
                options.auth_file = file(parser)?.map(|path| match path.is_dir() {
                    true => path.join("config.json"),
                    false => path,
                });
            }
            PublishFlag::Insecure => options.insecure = true,
            PublishFlag::Debug => options.verbose = options.verbose.max(2),
            PublishFlag::Strict | PublishFlag::NoCheck | PublishFlag::IgnoreMissing => {}
            PublishFlag::Amend | PublishFlag::Purge | PublishFlag::Referrers => {}
        }
        Ok(())
    }

    /// `--username` and `--password`.
    pub(super) fn login(&mut self) -> Result<Option<Login>> {
        match (self.username.take(), self.password.take()) {
            (None, None) => Ok(None),
            (Some(username), Some(password)) => Ok(Some(Login::new(&username, &password))),
            (Some(_), None) => Err(wrong("--username without --password".into())),
            (None, Some(_)) => Err(wrong("--password without --username".into())),
        }
    }

    /// `manifest …`.
    pub(super) fn command(
        mut self,
        arguments: &mut Arguments,
        options: &Options,
        has: &dyn Fn(PublishFlag) -> bool,
    ) -> Result<Manifest> {
        let check = match (has(PublishFlag::Strict), has(PublishFlag::NoCheck)) {
            (true, true) => return Err(wrong("either --strict or --no-check".into())),
            (true, false) => Check::Strict,
            (false, true) => Check::No,
            (false, false) => Check::Warn,
        };
        let (family, ignore_missing) = (self.family, has(PublishFlag::IgnoreMissing));
        Ok(match arguments.row.verb {
            Verb::ManifestCreate => {
                let list = registry(arguments.next()?)?;
                let images = arguments.rest(image)?;
                Manifest::Create {
                    list,
                    images,
                    amend: has(PublishFlag::Amend),
                    annotations: self.annotations,
                }
            }
            Verb::ManifestAnnotate => {
                let list = registry(arguments.next()?)?;
                let image = arguments.words.next().map(image).transpose()?;
                let annotations = mem::take(&mut self.annotations);
                let platform = self.platform(options);
                // Only annotations are of the list itself.
                let is_of_list = platform == PlatformField::default() && !annotations.is_empty();
                if image.is_none() && !is_of_list {
                    return Err(wrong("manifest annotate: IMAGE is missing".into()));
                }
                Manifest::Annotate { list, image, platform, annotations }
            }
            Verb::ManifestInspect => Manifest::Inspect {
                list: registry(arguments.next()?)?,
                image: arguments.words.next().map(image).transpose()?,
            },
            Verb::ManifestPush => {
                Manifest::Push { list: registry(arguments.next()?)?, purge: has(PublishFlag::Purge), check }
            }
            Verb::PushFromSpec => {
                let spec = Described::File(arguments.next()?.into());
                Manifest::PushSpec { spec, family, ignore_missing, check }
            }
            Verb::PushFromArgs => {
                let spec = Described::Arguments(self.spec()?);
                Manifest::PushSpec { spec, family, ignore_missing, check }
            }
            Verb::ManifestRm => Manifest::Rm { lists: arguments.rest(registry)? },
            _ => Manifest::Check { image: image(arguments.next()?)? },
        })
    }

    /// What `annotate` says of an image.
    fn platform(self, options: &Options) -> PlatformField {
        PlatformField {
            os: self.os,
            architecture: self.architecture,
            variant: options.variant.clone(),
            os_version: self.os_version,
            os_features: self.os_features,
            features: Vec::new(),
        }
    }

    /// `from-args` as the file that `from-spec` would read.
    fn spec(self) -> Result<Spec> {
        let missing = |name: &str| wrong(format!("manifest push from-args: --{name} is missing"));
        let template = self.template.ok_or_else(|| missing("template"))?;
        let image = self.target.ok_or_else(|| missing("target"))?;
        if self.platforms.is_empty() {
            return Err(missing("platforms"));
        }
        let items = self.platforms.iter().map(|platform| item(&template, platform)).collect::<Result<_>>()?;
        Ok(Spec { image, tags: self.tags, annotations: self.annotations, manifests: items })
    }
}

/// An entry: `linux/arm/v6` put into the template. Each placeholder is replaced once, in the order of manifest-tool.
fn item(template: &str, platform: &str) -> Result<Item> {
    let mut parts = platform.split('/');
    let (Some(os), Some(architecture), variant, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong(format!("--platforms: {platform:?} is not OS/ARCH or OS/ARCH/VARIANT")));
    };
    let image = [("ARCH", architecture), ("OS", os), ("VARIANT", variant.unwrap_or_default())]
        .iter()
        .fold(template.to_owned(), |image, (name, value)| image.replacen(name, value, 1));
    let platform = PlatformField {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
        ..PlatformField::default()
    };
    Ok(Item { image, platform })
}

/// `a,b,c`; what is empty is not there.
fn list(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned)
}

/// `KEY=VALUE,KEY=VALUE`. A part without `=` belongs to the value before it, which has a comma then.
fn annotations(text: &str, into: &mut BTreeMap<String, String>) -> Result<()> {
    let mut last: Option<String> = None;
    for part in text.split(',') {
        match (part.split_once('='), last.as_ref().and_then(|key| into.get_mut(key))) {
            (Some((key, value)), _) if !key.is_empty() => {
                into.insert(key.to_owned(), value.to_owned());
                last = Some(key.to_owned());
            }
            (None, Some(value)) => {
                value.push(',');
                value.push_str(part);
            }
            _ => return Err(wrong(format!("--annotations {part:?} is not KEY=VALUE"))),
        }
    }
    Ok(())
}

/// A list's name, which is a registry's.
fn registry(word: OsString) -> Result<RegistryReference> {
    let text = image_text(word)?;
    match text.parse()? {
        Reference::Registry(list) if list.digest.is_none() => Ok(list),
        Reference::Registry(_) => Err(wrong(format!("list {text:?}: a list has a tag, not a digest"))),
        _ => Err(wrong(format!("list {text:?}: a list is for a registry: host/repository:tag"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;

    fn run(line: &str) -> Result<Manifest> {
        match parse(line.split_whitespace().map(OsString::from))?.command {
            Command::Manifest(manifest) => Ok(*manifest),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        run(line).unwrap_err().to_string()
    }

    #[test]
    fn manifest_tool_s_command_lines_mean_what_they_do_there() {
        let line = "manifest push --type oci from-args --platforms linux/amd64,linux/arm/v5 --platforms linux/arm/v7 \
                    --template foo/bar-ARCHVARIANT:v1 --tags v1.0.0,v1.0 --target foo/bar:v1 --ignore-missing";
        let Manifest::PushSpec { spec: Described::Arguments(spec), family, ignore_missing: true, check } =
            run(line).unwrap()
        else {
            panic!()
        };
        assert_eq!((spec.image.as_str(), family, check), ("foo/bar:v1", Family::Oci, Check::Warn));
        assert_eq!(spec.tags, ["v1.0.0", "v1.0"]);
        let images: Vec<&str> = spec.manifests.iter().map(|item| item.image.as_str()).collect();
        assert_eq!(images, ["foo/bar-amd64:v1", "foo/bar-armv5:v1", "foo/bar-armv7:v1"]);
        assert_eq!(spec.manifests[1].platform.variant.as_deref(), Some("v5"));
        assert_eq!(spec.manifests[0].platform.variant, None);
        let Manifest::PushSpec { spec: Described::File(file), family, .. } =
            run("--debug --username u --password p manifest push from-spec --ignore-missing some.yml")
                .unwrap()
        else {
            panic!()
        };
        assert_eq!((file, family), ("some.yml".into(), Family::Docker));
    }

    #[test]
    fn docker_s_command_lines_mean_what_they_do_there() {
        let Manifest::Create { list, images, amend: true, .. } =
            run("manifest create -a --insecure h:1/l h:1/a:x h:1/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap()
        else {
            panic!()
        };
        assert_eq!((list.tag.as_deref(), images.len()), (Some("latest"), 2));
        let line = "manifest annotate --arch arm --os linux --variant v6 --os-features a,b --os-features c \
                    --os-version 1 h:1/l h:1/a";
        let Manifest::Annotate { platform, .. } = run(line).unwrap() else { panic!() };
        assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "arm"));
        assert_eq!((platform.variant.as_deref(), platform.os_version.as_deref()), (Some("v6"), Some("1")));
        assert_eq!(platform.os_features, ["a", "b", "c"]);
        assert!(matches!(run("manifest push -p h:1/l").unwrap(), Manifest::Push { purge: true, .. }));
        let Manifest::Rm { lists } = run("manifest rm h:1/l h:1/m:2").unwrap() else { panic!() };
        assert_eq!(lists.len(), 2);
    }

    #[test]
    fn a_value_may_have_commas_and_equals_signs() {
        let mut map = BTreeMap::new();
        annotations("a=1,b=x,y=z,c=", &mut map).unwrap();
        let pairs: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x"), ("c", ""), ("y", "z")]);
        let mut map = BTreeMap::new();
        annotations("title=Hello, world", &mut map).unwrap();
        assert_eq!(map["title"], "Hello, world");
        for wrong in ["nonsense", "=x", ""] {
            assert!(annotations(wrong, &mut BTreeMap::new()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("manifest push from-args --template a --target b", "--platforms is missing"),
            ("manifest push from-args --platforms linux/arm --target b", "--template is missing"),
            ("manifest push from-args --platforms linux --template a --target b", "\"linux\" is not OS/ARCH"),
            ("manifest push from-args --platforms a/b/c/d --template a --target b", "a/b/c/d"),
            ("manifest push from-spec", "FILE is missing"),
            ("manifest push --strict --no-check a", "either --strict or --no-check"),
            ("manifest push --type=v1 from-spec f", "neither docker nor oci"),
            ("manifest push oci:dir", "a list is for a registry"),
            ("manifest create a", "IMAGE is missing"),
            ("manifest rm", "LIST is missing"),
            ("manifest annotate --os linux a", "IMAGE is missing"),
            ("manifest check --strict a", "--strict does not go with manifest check"),
            ("manifest", "more is missing: manifest check, manifest create, "),
            ("manifest pusj a", "there is no command manifest \"pusj\", only manifest check"),
            ("manifest check --username u a", "--username without --password"),
        ] {
            assert!(refusal(line).contains(named), "{line}: {}", refusal(line));
        }
    }
}
