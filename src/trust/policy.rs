//! policy.json, in the shape of containers-policy.json(5), which podman, skopeo and buildah read: what is required of
//! an image, by where it is from.
//!
//! It is read as strictly as they read it: what is not known, occurs twice or is empty makes the whole file
//! unusable. What edgepull cannot check (GPG, certificates, transparency logs) is read, and refuses the images
//! that it is for.

use super::json::Json;
use super::requirement::{Requirement, fields, known, requirement};
use super::scope;
use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The largest policy file, in bytes.
const POLICY_MAX: u64 = 256 << 10;

/// The whole file.
#[derive(Debug)]
pub(super) struct Policy {
    /// Its path, for messages.
    place: String,
    default: Vec<Requirement>,
    /// Transport, scope, requirements: in the order of the file.
    scopes: Vec<(String, String, Vec<Requirement>)>,
}

impl Policy {
    /// Reads the file at `path`; `None` where there is none. A link that leads nowhere is a policy that is lost, not
    /// one that nobody has made.
    ///
    /// # Errors
    /// [`Kind::Usage`], with the place in the file.
    pub(super) fn read(path: &Path) -> Result<Option<Policy>> {
        let place = path.display().to_string();
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(POLICY_MAX + 1).read_to_end(&mut bytes)) {
            Ok(size) if size as u64 > POLICY_MAX => {
                Err(Error::new(Kind::Usage, format!("policy {place}: larger than 256 KiB (POLICY_MAX)")))
            }
            Ok(_) => Policy::parse(&bytes, place).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound && !dangles(path) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let error =
                    Error::new(Kind::Usage, format!("policy {place}: a link leads to where nothing is"));
                Err(error.hint("is the file system mounted that the policy is on?"))
            }
            Err(error) => Err(Error::from_io(Kind::Usage, error).context(format_args!("policy {place}"))),
        }
    }

    /// Reads the file's bytes; `place` is for messages.
    pub(super) fn parse(bytes: &[u8], place: String) -> Result<Policy> {
        let wrong = |why: String| wrong(&place, &why);
        let json = Json::parse(bytes).map_err(wrong)?;
        let (default, scopes) = whole(&json).map_err(wrong)?;
        Ok(Policy { place, default, scopes })
    }

    /// Returns what is required of an image, and where that stands in the file.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] for a local image, if a scope of its transport leads through a link.
    pub(super) fn requirements(&self, image: &Reference) -> Result<(String, &[Requirement])> {
        let (transport, names) = scope::of(image);
        let place = &self.place;
        let scopes = || self.scopes.iter().filter(|(of, ..)| of == transport);
        if !matches!(image, Reference::Registry(_)) {
            for (_, scope, _) in scopes() {
                scope::check_links(scope)
                    .map_err(|why| wrong(place, &format!("{}: {why}", at(transport, scope))))?;
            }
        }
        for name in names {
            if let Some((_, scope, requirements)) =
                scopes().find(|(_, scope, _)| scope::folded(transport, scope) == name)
            {
                let of = if scope.is_empty() { "every image" } else { scope };
                return Ok((format!("{place}, {transport}: {of}"), requirements));
            }
        }
        Ok((format!("{place}, default"), &self.default))
    }
}

fn wrong(place: &str, why: &str) -> Error {
    Error::new(Kind::Usage, format!("policy {place}: {why}"))
        .hint("its form is that of containers-policy.json(5)")
}

/// Returns a scope's place in the file, for messages.
fn at(transport: &str, scope: &str) -> String {
    format!("transports.{transport}.{scope:?}")
}

/// Whether a path is not there because itself, or the nearest directory above it that there is, is a broken link.
fn dangles(path: &Path) -> bool {
    let nearest = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    nearest.is_some_and(|path| path.metadata().is_err())
}

type Scopes = Vec<(String, String, Vec<Requirement>)>;

fn whole(json: &Json) -> Result<(Vec<Requirement>, Scopes), String> {
    known(json, "the policy", &["default", "transports"])?;
    let default =
        json.get("default").ok_or("it has no \"default\", which has to say what holds otherwise")?;
    let default = requirements(default, "default")?;
    let mut scopes: Scopes = Vec::new();
    for (transport, inside) in fields(json.get("transports"), "transports")? {
        scope::check_transport(transport).map_err(|why| format!("transports.{transport:?}: {why}"))?;
        for (scope, list) in fields(Some(inside), &format!("transports.{transport}"))? {
            let place = at(transport, scope);
            scope::check(transport, scope).map_err(|why| format!("{place}: {why}"))?;
            let folded = scope::folded(transport, scope);
            let is_same = |(of, other, _): &&(String, String, _)| {
                of == transport && scope::folded(transport, other) == folded
            };
            if let Some((_, other, _)) = scopes.iter().find(is_same) {
                return Err(format!("{place}: {other:?} is the same, as the case of a host does not count"));
            }
            scopes.push((transport.clone(), scope.clone(), requirements(list, &place)?));
        }
    }
    Ok((default, scopes))
}

fn requirements(json: &Json, place: &str) -> Result<Vec<Requirement>, String> {
    let list = json.list();
    if list.is_empty() {
        return Err(format!("{place}: no list of requirements, or an empty one"));
    }
    let one = |(at, json)| requirement(json).map_err(|why| format!("{place}[{at}]: {why}"));
    list.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::identity::Rule;
    use super::super::requirement::KeySource;
    use super::*;

    fn policy(text: &str) -> Result<Policy> {
        Policy::parse(text.as_bytes(), "p.json".into())
    }

    #[test]
    fn the_most_specific_scope_alone_counts() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let image = format!("r.a.example:5000/x/y/app:1@{digest}");
        let scopes = [
            format!("r.a.example:5000/x/y/app@{digest}"),
            "r.a.example:5000/x/y/app".into(),
            "r.a.example:5000/x/y".into(),
            "r.a.example:5000/x".into(),
            "r.a.example:5000".into(),
            "*.a.example".into(),
            "*.example".into(),
            String::new(),
        ];
        for skipped in 0..=scopes.len() {
            let rest: Vec<_> =
                scopes[skipped..].iter().rev().map(|scope| format!("{scope:?}:{accept}")).collect();
            let others =
                [r#""r.a.example:5000/x/y/ap":[{"type":"reject"}]"#, r#""a.example":[{"type":"reject"}]"#];
            let all = others.iter().map(ToString::to_string).chain(rest).collect::<Vec<_>>().join(",");
            let text = format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{all}}}}}}}"#);
            let policy = policy(&text).unwrap();
            let (place, found) = policy.requirements(&image.parse().unwrap()).unwrap();
            match scopes.get(skipped) {
                Some(scope) => {
                    assert_eq!(found, [Requirement::AcceptAnything]);
                    assert!(scope.is_empty() || place.ends_with(scope), "{place}, not {scope}");
                }
                None => assert_eq!((place.as_str(), found), ("p.json, default", &[Requirement::Reject][..])),
            }
        }
    }

    #[test]
    fn what_podman_and_skopeo_read_is_read() {
        let text = r#"{"default":[{"type":"reject"}],"transports":{
            "docker-daemon":{"":[{"type":"insecureAcceptAnything"}]},
            "atomic":{"h:5000/ns/x":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a.gpg"}]},
            "docker":{
                "a.example":[{"type":"sigstoreSigned","keyPath":"/k.pub"}],
                "b.example":[{"type":"sigstoreSigned","keyPaths":["/k.pub","/l.pub"],
                              "signedIdentity":{"type":"matchRepository"}},{"type":"insecureAcceptAnything"}],
                "c.example":[{"type":"sigstoreSigned","keyDatas":["QUJD","REVG"]}],
                "d.example":[{"type":"signedBy","keyType":"GPGKeys","keyPaths":["/a.gpg"],
                              "signedIdentity":{"type":"matchExact"}}],
                "e.example":[{"type":"sigstoreSigned","fulcio":{"caPath":"/ca","oidcIssuer":"x","subjectEmail":"y"},
                              "rekorPublicKeyPath":"/r.pub"}],
                "h.example":[{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}],
                "f.example":[{"type":"sigstoreSigned","keyData":"QUJD","rekorPublicKeyData":"QUJD"}],
                "g.example":[{"type":"sigstoreSigned","pki":{"caRootsPath":"/ca","subjectEmail":"y"}}]}}}"#;
        let policy = policy(text).unwrap();
        let of = |host: &str| policy.requirements(&format!("{host}.example/app").parse().unwrap()).unwrap().1;
        let path = |path: &str| KeySource::Path(path.into());
        let (by_default, repository) = (Rule::MatchRepoDigestOrExact, Rule::MatchRepository);
        let signed = |keys, identity| Requirement::Signed { keys, identity };
        assert_eq!(of("a"), [signed(vec![path("/k.pub")], by_default.clone())]);
        let both = signed(vec![path("/k.pub"), path("/l.pub")], repository);
        assert_eq!(of("b"), [both, Requirement::AcceptAnything]);
        let data = [("keyDatas[0]", b"ABC"), ("keyDatas[1]", b"DEF")];
        let data = data.map(|(field, pem)| KeySource::Data { field: field.to_owned(), pem: pem.to_vec() });
        assert_eq!(of("c"), [signed(data.into(), by_default)]);
        for (host, what) in
            [("d", "GPG"), ("e", "fulcio"), ("f", "transparency"), ("g", "pki"), ("h", "signedBaseLayer")]
        {
            assert!(matches!(of(host), [Requirement::Unsupported(why)] if why.contains(what)), "{host}");
        }
    }

    #[test]
    fn a_scope_counts_whatever_the_case_of_its_host_and_only_once() {
        let text = r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{
            "R.example/app":[{"type":"reject"}]}}}"#;
        let read = policy(text).unwrap();
        for image in ["r.example/app:1", "R.EXAMPLE/app:1"] {
            let (place, found) = read.requirements(&image.parse().unwrap()).unwrap();
            assert_eq!(
                (place.as_str(), found),
                ("p.json, docker: R.example/app", &[Requirement::Reject][..])
            );
        }
        let twice = text.replace(
            "[{\"type\":\"reject\"}]}",
            "[{\"type\":\"reject\"}],\"r.example/app\":[{\"type\":\"reject\"}]}",
        );
        let error = policy(&twice).unwrap_err().to_string();
        assert!(error.contains("r.example/app") && error.contains("is the same"), "{error}");
    }

    #[test]
    fn a_scope_behind_a_link_is_told_to_whoever_pulls_a_local_image() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("real")).unwrap();
        std::os::unix::fs::symlink("real", here.join("link")).unwrap();
        let here = here.display();
        let text = format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"oci":{{"{here}/link":[{{"type":"reject"}}]}}}}}}"#
        );
        let policy = policy(&text).unwrap();
        let error = policy.requirements(&format!("oci:{here}/real").parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains(&format!("write \"{here}/real\"")), "{error}");
        assert!(policy.requirements(&"r.example/app".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_broken_link_is_not_no_policy() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        std::fs::create_dir(at("etc")).unwrap();
        link("gone/policy.json", "policy.json");
        link("gone", "link-to-nothing");
        link("etc", "link");
        for lost in ["policy.json", "link-to-nothing/policy.json", "link-to-nothing/edgepull/policy.json"] {
            let error = Policy::read(&at(lost)).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains("mounted"), "{error}");
        }
        for none in ["etc/policy.json", "link/policy.json", "none/edgepull/policy.json"] {
            assert!(Policy::read(&at(none)).unwrap().is_none(), "{none}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let docker = |inside: &str| {
            format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"a.b/c":{inside}}}}}}}"#)
        };
        let signed =
            |inside: &str| docker(&format!(r#"[{{"type":"reject"}},{{"type":"sigstoreSigned",{inside}}}]"#));
        for (text, reasons) in [
            ("".into(), &["EOF"][..]),
            ("[]".into(), &["no object"]),
            ("{}".into(), &["no \"default\""]),
            (r#"{"default":[]}"#.into(), &["default:", "empty"]),
            (r#"{"default":{"type":"reject"}}"#.into(), &["no list"]),
            (r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#.into(), &["occurs twice"]),
            (r#"{"default":[{"type":"reject"}],"x":1}"#.into(), &["\"x\"", "not known"]),
            (r#"{"default":[{"type":"reject"}],"transports":[]}"#.into(), &["transports: no object"]),
            (docker("[]"), &["transports.docker.\"a.b/c\"", "empty"]),
            (docker(r#"[{"type":"Reject"}]"#), &["\"a.b/c\"[0]", "Reject"]),
            (docker(r#"["reject"]"#), &["[0]", "no \"type\""]),
            (docker(r#"[{"type":"reject","keyPath":"x"}]"#), &["keyPath", "not known"]),
            (docker(r#"[{"type":"signedBy","keyPat":"x"}]"#), &["keyPat", "not known"]),
            (signed(r#""keyPath":"/a","keyData":"QUJD""#), &["[1]", "only one"]),
            (signed(r#""keypath":"/a""#), &["[1]", "keypath"]),
            (signed(r#""signedIdentity":{"type":"matchExact"}"#), &["[1]", "one of keyPath"]),
            (signed(r#""keyPaths":[]"#), &["[1]", "keyPaths", "empty"]),
            (signed(r#""keyPaths":"/a""#), &["[1]", "not a list"]),
            (signed(r#""keyPath":"""#), &["[1]", "\"keyPath\" is empty"]),
            (signed(r#""keyPath":["/a"]"#), &["[1]", "not a text"]),
            (signed(r#""keyData":"!""#), &["[1]", "not base64"]),
            (signed(r#""keyPath":"/a","signedIdentity":{"type":"x"}"#), &["[1]", "signedIdentity", "\"x\""]),
            (signed(r#""keyPath":"/a","signedIdentity":null"#), &["[1]", "signedIdentity"]),
            (docker("[]").replace("docker", "oci"), &["transports.oci", "absolute"]),
            (docker("[]").replace("docker\":{\"a.b/c", "oci\":{\"/"), &["write \"\""]),
            (docker("[]").replace("docker", "docker-archive"), &["no scopes"]),
            (docker("[]").replace("docker", "Docker"), &["transports.\"Docker\"", "write \"docker\""]),
            (
                docker("[]").replace("a.b/c", "a.b/c/"),
                &["transports.docker.\"a.b/c/\"", "can never match", "write \"a.b/c\""],
            ),
        ] {
            let error = policy(&text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            let error = error.to_string();
            for reason in [&["p.json"], reasons].concat() {
                assert!(error.contains(reason), "{text}: {error}");
            }
        }
    }
}
