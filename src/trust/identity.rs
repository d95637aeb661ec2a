//! Which image a signature says that it is for, held against the one that was asked for: `signedIdentity` of
//! containers-policy.json(5).
//!
//! A name in a signature is compared in its full form (`alpine` is `docker.io/library/alpine`). One without a tag
//! and digest, as cosign writes it, names a repository, and meets no rule that is about more.

use super::json::Json;
use crate::image::reference::{Reference, RegistryReference};

/// The rule; the names are those of the policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// The very name that was asked for.
    MatchExact,
    /// That, or where a digest was asked for, the same repository.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This name.
    ExactReference(Name),
    /// This repository.
    ExactRepository(Name),
    /// As `MatchRepoDigestOrExact`, after a prefix of what was asked for was replaced.
    RemapIdentity {
        /// The prefix, and
        prefix: String,
        /// what stands for it in signatures.
        signed_prefix: String,
    },
    /// Any name, or none: the digest alone counts. edgepull's own; it is what `cosign verify --key` asks for.
    DigestOnly,
}

/// An image's name, in its full form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `host[:port]/repository`.
    pub(super) repository: String,
    /// `:tag`, `@digest`, both or nothing.
    rest: String,
}

impl Name {
    /// The name of what was asked for. A digest wins over a tag, which then says nothing.
    pub(super) fn of(image: &RegistryReference) -> Name {
        let rest = match (&image.digest, &image.tag) {
            (Some(digest), _) => format!("@{digest}"),
            (None, Some(tag)) => format!(":{tag}"),
            (None, None) => String::new(),
        };
        Name { repository: format!("{}/{}", image.host, image.repository), rest }
    }

    /// Reads a name as Docker does (distribution/reference); no tag is added where there is none.
    pub(super) fn parse(text: &str) -> Option<Name> {
        if text.contains("://") {
            return None;
        }
        let Ok(Reference::Registry(image)) = text.parse() else { return None };
        let last = text.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let mut rest = last.rfind(':').map_or_else(String::new, |colon| last[colon..].to_owned());
        if let Some(digest) = image.digest {
            rest += &format!("@{digest}");
        }
        Some(Name { repository: format!("{}/{}", image.host, image.repository), rest })
    }

    /// Neither a tag nor a digest.
    pub(super) fn is_repository(&self) -> bool {
        self.rest.is_empty()
    }

    /// As written in a policy's scopes.
    pub(super) fn full(&self) -> String {
        format!("{}{}", self.repository, self.rest)
    }

    /// Returns whether it has both a tag and a digest, as only a name that was written so does.
    pub(super) fn has_tag_and_digest(&self) -> bool {
        self.rest.starts_with(':') && self.rest.contains('@')
    }

    /// Returns [`Name::full`], without a tag if there is a digest.
    pub(super) fn full_by_digest(&self) -> String {
        match self.rest.split_once('@') {
            Some((_, digest)) => format!("{}@{digest}", self.repository),
            None => self.full(),
        }
    }
}

impl Rule {
    /// Reads a `signedIdentity`. The error says what is wrong with it.
    pub(super) fn parse(json: &Json) -> Result<Rule, String> {
        let kind = json.text_at("type").ok_or("it has no \"type\"")?;
        let text = |key: &str| json.text_at(key).ok_or_else(|| format!("{key:?} is no text"));
        let name = |key: &str| {
            let written = text(key)?;
            Name::parse(written).ok_or_else(|| format!("{key:?}: {written:?} is no image's name"))
        };
        let prefix = |key: &str| {
            let written = text(key)?;
            is_prefix(written).then(|| written.to_owned()).ok_or_else(|| {
                format!("{key:?}: {written:?} is neither a host nor a name with a host and no tag")
            })
        };
        let (keys, rule): (&[&str], _) = match kind {
            "matchExact" => (&["type"], Rule::MatchExact),
            "matchRepoDigestOrExact" => (&["type"], Rule::MatchRepoDigestOrExact),
            "matchRepository" => (&["type"], Rule::MatchRepository),
            "digestOnly" => (&["type"], Rule::DigestOnly),
            "exactReference" => match name("dockerReference")? {
                name if name.is_repository() => return Err("\"dockerReference\" has no tag or digest".into()),
                name => (&["type", "dockerReference"], Rule::ExactReference(name)),
            },
            "exactRepository" => {
                (&["type", "dockerRepository"], Rule::ExactRepository(name("dockerRepository")?))
            }
            "remapIdentity" => (
                &["type", "prefix", "signedPrefix"],
                Rule::RemapIdentity { prefix: prefix("prefix")?, signed_prefix: prefix("signedPrefix")? },
            ),
            other => return Err(format!("{other:?} is no type of identity")),
        };
        match json.has_exactly(keys) {
            true => Ok(rule),
            false => Err(format!("besides {} it has keys that are not known", keys.join(", "))),
        }
    }

    /// Whether `signed`, the name in a signature, will do for `asked`, which is `None` where images have no names
    /// (local ones).
    pub(super) fn is_met(&self, asked: Option<&Name>, signed: Option<&str>) -> bool {
        if *self == Rule::DigestOnly {
            return true;
        }
        let Some(signed) = signed.and_then(Name::parse) else { return false };
        let repo_digest_or_exact = |asked: &Name| match asked.rest.starts_with('@') {
            true => !signed.is_repository() && signed.repository == asked.repository,
            false => !signed.is_repository() && signed == *asked,
        };
        match (self, asked) {
            (Rule::ExactReference(name), _) => signed == *name,
            (Rule::ExactRepository(name), _) => signed.repository == name.repository,
            (Rule::MatchExact, Some(asked)) => !signed.is_repository() && signed == *asked,
            (Rule::MatchRepoDigestOrExact, Some(asked)) => repo_digest_or_exact(asked),
            (Rule::MatchRepository, Some(asked)) => signed.repository == asked.repository,
            (Rule::RemapIdentity { prefix, signed_prefix }, Some(asked)) => {
                let rest = asked.repository.strip_prefix(prefix.as_str());
                match rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                    None => repo_digest_or_exact(asked),
                    Some(rest) => {
                        let repository = format!("{signed_prefix}{rest}");
                        repo_digest_or_exact(&Name { repository, rest: asked.rest.clone() })
                    }
                }
            }
            (_, _) => false,
        }
    }

    /// What a signature would have to name, for messages.
    pub(super) fn wanted(&self, asked: Option<&Name>) -> String {
        let name = match (self, asked) {
            (Rule::ExactReference(name), _) => return name.full(),
            (Rule::ExactRepository(name), _) => return name.repository.clone(),
            (_, Some(name)) => name,
            (_, None) => return "a name, which local images do not have".to_owned(),
        };
        match self {
            Rule::MatchRepository => format!("the repository {}", name.repository),
            Rule::RemapIdentity { prefix, signed_prefix } => {
                format!("{}, with {signed_prefix} for {prefix}", name.full())
            }
            _ => name.full(),
        }
    }
}

/// `host[:port]`, or a name that starts with one and ends before any tag: what stands in front of a repository.
fn is_prefix(text: &str) -> bool {
    Name::parse(&format!("{text}/x/y")).is_some_and(|name| name.full() == format!("{text}/x/y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn asked(text: &str) -> Name {
        match text.parse().unwrap() {
            Reference::Registry(image) => Name::of(&image),
            _ => panic!("{text}"),
        }
    }

    fn rule(text: &str) -> Result<Rule, String> {
        Rule::parse(&Json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn names_are_compared_in_full() {
        for (text, full) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:latest", "docker.io/library/alpine:latest"),
            ("r.example:5000/app", "r.example:5000/app"),
            ("localhost:5000/latest", "localhost:5000/latest"),
            ("latest", "docker.io/library/latest"),
            ("r.example:5000/app:1", "r.example:5000/app:1"),
        ] {
            assert_eq!(Name::parse(text).unwrap().full(), full, "{text}");
            assert_eq!(Name::parse(text).unwrap().is_repository(), !full[10..].contains(':'), "{text}");
        }
        assert_eq!(Name::parse(&format!("a.b/c@{D}")).unwrap().full(), format!("a.b/c@{D}"));
        assert_eq!(Name::parse(&format!("a.b/c:1@{D}")).unwrap().full(), format!("a.b/c:1@{D}"));
        for bad in ["", "oci:/x", "docker://alpine", "Alpine", "a b"] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_rule_as_the_manual_says() {
        let digest = format!("r.example/app@{D}");
        let (tagged, by_digest) = ("r.example/app:1", digest.as_str());
        let both = format!("r.example/app:1@{D}");
        // The rule, what was asked for, the names in signatures that will do.
        let names =
            ["r.example/app:1", "r.example/app:2", "r.example/app", by_digest, "r.example/other:1", "x:1"];
        for (text, image, good) in [
            (r#"{"type":"matchExact"}"#, tagged, &names[..1]),
            (r#"{"type":"matchExact"}"#, by_digest, &names[3..4]),
            (r#"{"type":"matchRepoDigestOrExact"}"#, tagged, &names[..1]),
            (r#"{"type":"matchRepoDigestOrExact"}"#, by_digest, &[names[0], names[1], names[3]]),
            (r#"{"type":"matchRepoDigestOrExact"}"#, &both, &[names[0], names[1], names[3]]),
            (r#"{"type":"matchRepository"}"#, tagged, &names[..4]),
            (r#"{"type":"matchRepository"}"#, by_digest, &names[..4]),
            (r#"{"type":"exactReference","dockerReference":"r.example/app:2"}"#, tagged, &names[1..2]),
            (r#"{"type":"exactRepository","dockerRepository":"r.example/other"}"#, tagged, &names[4..5]),
            (
                r#"{"type":"remapIdentity","prefix":"m:5/r","signedPrefix":"r.example"}"#,
                "m:5/r/app:1",
                &names[..1],
            ),
            (r#"{"type":"remapIdentity","prefix":"m:5/r","signedPrefix":"r.example"}"#, "m:5/rr/app:1", &[]),
            (r#"{"type":"remapIdentity","prefix":"m:5","signedPrefix":"r.example"}"#, tagged, &names[..1]),
            (r#"{"type":"digestOnly"}"#, tagged, &names[..]),
        ] {
            let rule = rule(text).unwrap();
            for name in names {
                assert_eq!(
                    rule.is_met(Some(&asked(image)), Some(name)),
                    good.contains(&name),
                    "{text}: {image} signed as {name}"
                );
            }
            assert_eq!(
                rule.is_met(Some(&asked(image)), None),
                rule == Rule::DigestOnly,
                "{text} without a name"
            );
            let is_fixed =
                matches!(rule, Rule::ExactReference(_) | Rule::ExactRepository(_) | Rule::DigestOnly);
            assert_eq!(names.iter().any(|name| rule.is_met(None, Some(name))), is_fixed, "{text}, local");
        }
    }

    #[test]
    fn a_rule_is_exactly_what_it_says() {
        for (text, reason) in [
            (r#"{}"#, "no \"type\""),
            (r#"[]"#, "no \"type\""),
            (r#"{"type":"matchexact"}"#, "no type of identity"),
            (r#"{"type":"matchExact","x":1}"#, "not known"),
            (r#"{"type":"exactReference"}"#, "no text"),
            (r#"{"type":"exactReference","dockerReference":"a.b/c"}"#, "no tag or digest"),
            (r#"{"type":"exactRepository","dockerRepository":"A"}"#, "no image's name"),
            (r#"{"type":"remapIdentity","prefix":"a.b","signedPrefix":"c.d:1/e:2"}"#, "signedPrefix"),
            (r#"{"type":"remapIdentity","prefix":"busybox","signedPrefix":"c.d"}"#, "prefix"),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
