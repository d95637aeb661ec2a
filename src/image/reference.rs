//! What a user types for an image, and what it names.
//!
//! Registry references follow Docker's grammar (distribution/reference): `alpine` means
//! `docker.io/library/alpine:latest`, the first component is a host only if it has a `.` or a `:`, is
//! `localhost`, or has an upper-case letter. The other transports are those of containers-transports(5).

use super::digest::Digest;
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a reference without a host is looked for.
pub const DEFAULT_HOST: &str = "docker.io";
/// The longest repository name that the distribution-spec's grammar lets through, host included.
const NAME_MAX: usize = 255;
/// How local references begin.
const TRANSPORTS: [&str; 3] = ["oci:", "oci-archive:", "docker-archive:"];
/// The longest tag (distribution-spec, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
const TAG_MAX: usize = 128;

/// An image, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `host/repository[:tag][@digest]`.
    Registry(RegistryReference),
    /// `oci:DIR[:NAME]`: an OCI image layout.
    Layout(LocalReference),
    /// `oci-archive:FILE[:NAME]`: an OCI image layout in a tar file.
    OciArchive(LocalReference),
    /// `docker-archive:FILE[:NAME[:TAG]]`: what `docker save` writes.
    DockerArchive(LocalReference),
}

/// A file or directory, and the name of an image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReference {
    /// The layout's directory or the archive's file.
    pub path: PathBuf,
    /// A tag, a full name, or `@N` for the Nth image; `None`: the only image in it.
    pub tag: Option<String>,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReference {
    /// `host` or `host:port`, as the user wrote it ([`DEFAULT_HOST`] if he wrote none).
    pub host: String,
    /// The repository, `library/` included for Docker's short names.
    pub repository: String,
    /// The tag; `None` only where there is a digest.
    pub tag: Option<String>,
    /// The digest, which wins over the tag.
    pub digest: Option<Digest>,
}

impl RegistryReference {
    /// What stands in `/v2/<repository>/manifests/<here>`.
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Parses every form of IMAGE. [`Kind::Usage`] says what is wrong with it.
    fn from_str(text: &str) -> Result<Reference> {
        let wrong = |why: &str| Error::new(Kind::Usage, format!("image {text:?}: {why}"));
        if let Some(rest) = text.strip_prefix("oci:") {
            return Ok(Reference::Layout(local(rest).map_err(wrong)?));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return Ok(Reference::OciArchive(local(rest).map_err(wrong)?));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return Ok(Reference::DockerArchive(local(rest).map_err(wrong)?));
        }
        if let Some(what) = foreign(text) {
            return Err(wrong(&what).hint(PLACES));
        }
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(wrong(&format!("{scheme}:// is not part of an image name"))
                .hint("write host/repository:tag, and --plain-http for a registry without TLS"));
        }
        registry(rest).map(Reference::Registry).map_err(wrong)
    }
}

/// Names where an image is.
const PLACES: &str = "an image is host/repository:tag, oci:DIR, oci-archive:FILE (podman save, docker save) or \
    docker-archive:FILE";
/// Transports of containers-transports(5) that edgepull does not have. No image of Docker Hub's is called so.
const FOREIGN_TRANSPORTS: [&str; 6] =
    ["docker-daemon", "containers-storage", "dir", "ostree", "sif", "tarball"];

/// Says what is meant where it cannot be an image's name: a place that other tools know, or a file.
fn foreign(text: &str) -> Option<String> {
    if text.starts_with(['/', '.', '~']) {
        return Some("this is a path, and does not say what is there".to_owned());
    }
    let (transport, rest) = text.split_once(':')?;
    // A host may be called so, and have a port.
    let is_port = rest.split('/').next().is_some_and(|port| port.parse::<u16>().is_ok());
    (FOREIGN_TRANSPORTS.contains(&transport) && !is_port)
        .then(|| format!("{transport}: is a place that edgepull does not reach"))
}

/// `PATH[:NAME]`. The first colon ends the path, as in containers-transports(5), because a name may have slashes and
/// colons of its own; where there is no such path, the first colon that ends one which is there, or none.
fn local(text: &str) -> Result<LocalReference, &'static str> {
    let colons = text.match_indices(':').map(|(at, _)| at);
    let ends = || colons.clone().chain([text.len()]);
    let end = ends().find(|end| Path::new(&text[..*end]).exists()).or_else(|| ends().next());
    let (path, name) = text.split_at(end.unwrap_or(text.len()));
    let name = name.strip_prefix(':');
    match (path, name) {
        ("", _) => Err("the path is missing"),
        (_, Some("")) => Err("the name after the colon is missing"),
        (path, name) => Ok(LocalReference { path: path.into(), tag: name.map(str::to_owned) }),
    }
}

fn registry(text: &str) -> Result<RegistryReference, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            let digest =
                digest.parse().map_err(|_| "what follows @ is not sha256: and 64 hexadecimal digits")?;
            (name, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(
            "the tag may have letters, digits, '_', '.' and '-', 128 at most, and starts with neither . nor -",
        );
    }
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DEFAULT_HOST, name),
    };
    let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
    if !is_authority(host) {
        return Err("the host is not a host name or address with an optional port");
    }
    if path.is_empty() {
        return Err("the repository is missing");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository has no upper-case letters");
    }
    if !path.split('/').all(is_component) {
        return Err("a repository consists of a-z and 0-9, joined by '/', '.', '_', '__' or '-'");
    }
    let official = host == DEFAULT_HOST && !path.contains('/');
    let repository = if official { format!("library/{path}") } else { path.to_owned() };
    // In full: that is how it is recorded, and read again.
    if host.len() + 1 + repository.len() > NAME_MAX {
        return Err("the name is longer than 255 bytes, its host included");
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(RegistryReference { host: host.to_owned(), repository, tag, digest })
}

/// Docker's rule for telling a host from the first part of a repository.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn is_authority(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                if port.is_empty() {
                    return true;
                }
                match port.strip_prefix(':') {
                    Some(port) => ("v6", Some(port)),
                    None => return false,
                }
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_ok && name.split('.').all(label)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_MAX
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && tag.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
}

impl fmt::Display for RegistryReference {
    /// In full, and so that it is read as this again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A host may have a transport's name, and a port.
        let is_transport = TRANSPORTS.iter().any(|name| self.host.starts_with(name));
        let before = if is_transport { "docker://" } else { "" };
        write!(f, "{before}{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, local) = match self {
            Reference::Registry(registry) => return registry.fmt(f),
            Reference::Layout(local) => ("oci", local),
            Reference::OciArchive(local) => ("oci-archive", local),
            Reference::DockerArchive(local) => ("docker-archive", local),
        };
        write!(f, "{transport}:{}", local.path.display())?;
        match &local.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_short_form_that_docker_knows() {
        for (typed, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("library/alpine", "docker.io/library/alpine:latest"),
            ("user/app", "docker.io/user/app:latest"),
            ("a/b/c", "docker.io/a/b/c:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker://docker.io/library/alpine:3.20", "docker.io/library/alpine:3.20"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("quay.io/x/y:z", "quay.io/x/y:z"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("Host/app", "Host/app:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
            ("docker://oci:5000/app", "docker://oci:5000/app:latest"),
            ("dir:5000/app", "dir:5000/app:latest"),
        ] {
            assert_eq!(typed.parse::<Reference>().unwrap().to_string(), full, "{typed}");
        }
        let digested = format!("host:443/a@{D}");
        assert_eq!(digested.parse::<Reference>().unwrap().to_string(), digested);
        // The longest, in full.
        for (length, fits) in [(237, true), (238, false)] {
            let shown = "a".repeat(length).parse::<Reference>().map(|longest| longest.to_string());
            assert_eq!(shown.is_ok(), fits, "{length}");
            assert!(shown.is_err() || shown.unwrap().parse::<Reference>().is_ok());
        }
        let both = format!("alpine:3.20@{D}").parse::<Reference>().unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/alpine:3.20@{D}"));
        let Reference::Registry(both) = both else { panic!() };
        assert_eq!(both.tag_or_digest(), D, "the digest wins over the tag");
    }

    #[test]
    fn local_transports() {
        for (typed, path, tag) in [
            ("oci:examples/hello", "examples/hello", None),
            ("oci:dir:v1", "dir", Some("v1")),
            ("oci:dir:docker.io/library/b:latest", "dir", Some("docker.io/library/b:latest")),
            ("oci:dir:localhost:5000/b", "dir", Some("localhost:5000/b")),
            ("oci:dir:@3", "dir", Some("@3")),
        ] {
            let Reference::Layout(local) = typed.parse().unwrap() else { panic!("{typed}") };
            assert_eq!((local.path.to_str().unwrap(), local.tag.as_deref()), (path, tag), "{typed}");
        }
        assert!(matches!("oci-archive:x.tar:t".parse(), Ok(Reference::OciArchive(_))));
    }

    #[test]
    fn a_path_that_is_there_may_have_colons() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a:b/c:d");
        std::fs::create_dir_all(&path).unwrap();
        for (tail, tag) in [("", None), (":t", Some("t")), (":r.io/x:t", Some("r.io/x:t"))] {
            let Reference::Layout(local) = format!("oci:{}{tail}", path.display()).parse().unwrap() else {
                panic!()
            };
            assert_eq!((local.path, local.tag.as_deref()), (path.clone(), tag));
        }
    }

    #[test]
    fn docker_archives_name_images_in_full() {
        for (typed, path, name) in [
            ("docker-archive:x.tar", "x.tar", None),
            ("docker-archive:/a/x.tar:v1", "/a/x.tar", Some("v1")),
            ("docker-archive:x.tar:alpine:3.20", "x.tar", Some("alpine:3.20")),
            ("docker-archive:x.tar:r.io:5000/a/b:1", "x.tar", Some("r.io:5000/a/b:1")),
        ] {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), typed);
            let Reference::DockerArchive(local) = reference else { panic!("{typed}") };
            assert_eq!((local.path.to_str().unwrap(), local.tag.as_deref()), (path, name), "{typed}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (typed, reason) in [
            ("", "repository"),
            ("Alpine", "upper-case"),
            ("host.example/", "repository is missing"),
            ("alpine:", "tag"),
            ("alpine:-x", "tag"),
            ("alpine@sha256:12", "hexadecimal"),
            ("a//b", "consists"),
            ("a/../b", "consists"),
            ("-a", "consists"),
            ("a___b", "consists"),
            ("https://host/a", "not part of an image name"),
            ("host:99999/a", "host"),
            ("ho st.x/a", "host"),
            ("a.b@c/d", "hexadecimal"),
            ("[::1/a", "host"),
            ("oci:", "path is missing"),
            ("oci:x:", "name after the colon"),
            ("docker-archive:x.tar:", "name"),
            ("docker-archive::x", "path is missing"),
            ("./x.tar", "this is a path"),
            ("/x/y.tar", "oci-archive:FILE"),
            ("~/x.tar", "this is a path"),
            ("docker-daemon:alpine", "docker-daemon: is a place that edgepull does not reach"),
            ("docker-daemon:alpine:3.20", "docker-archive:FILE"),
            ("dir:/x/y", "dir: is a place"),
            ("containers-storage:alpine", "oci:DIR"),
        ] {
            let error = typed.parse::<Reference>().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{typed}");
            assert!(error.to_string().contains(reason), "{typed}: {error}");
        }
        let long = format!("host.x/{}", "a/".repeat(130) + "a");
        assert!(long.parse::<Reference>().unwrap_err().to_string().contains("255"));
    }
}
