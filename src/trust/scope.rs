//! Finds the scopes of policy.json that an image is in, and refuses scopes that no image can ever be in.
//!
//! A scope that can never match is a rule that its author believes in and that does not hold: podman reads it and
//! says nothing, here it is an error with the right spelling. For `docker`, an image that would be in the scope is
//! made up, and the code that finds the scopes of images has to find the scope for it. Transports that edgepull does
//! not have (`docker-daemon`, `containers-storage`, `atomic`, …), and their scopes, are not checked.

use super::identity::Name;
use crate::image::reference::Reference;
use std::path::{Path, PathBuf};

/// Lists the transports that edgepull has.
const TRANSPORTS: [&str; 4] = ["docker", "oci", "oci-archive", "docker-archive"];

/// Returns an image's transport and the scopes that it is in, most specific first; "" is the last. A registry's image
/// is in those of its full name, with its host in lower case; a digest wins over a tag. A layout or OCI archive is in
/// its own path, with its tag and without, and in all directories above but the root.
pub(super) fn of(image: &Reference) -> (&'static str, Vec<String>) {
    let mut scopes = Vec::new();
    let transport = match image {
        Reference::Registry(image) => {
            let name = Name::of(image);
            scopes.push(folded("docker", &name.full()));
            let repository = folded("docker", &name.repository);
            let mut rest = Some(repository.as_str());
            while let Some(scope) = rest {
                scopes.push(scope.to_owned());
                rest = scope.rsplit_once('/').map(|(above, _)| above);
            }
            // The port is no part of a domain that a wildcard stands for.
            let mut domain = repository.split([':', '/']).next().unwrap_or_default();
            while let Some((_, above)) = domain.split_once('.') {
                scopes.push(format!("*.{above}"));
                domain = above;
            }
            "docker"
        }
        Reference::DockerArchive(_) => "docker-archive",
        Reference::Layout(local) | Reference::OciArchive(local) => {
            let path = std::fs::canonicalize(&local.path).unwrap_or_else(|_| local.path.clone());
            let path = path.display().to_string();
            scopes.extend(local.tag.iter().map(|tag| format!("{path}:{tag}")));
            let mut rest = path.as_str();
            while !rest.is_empty() && rest != "/" {
                scopes.push(rest.to_owned());
                rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
            }
            if matches!(image, Reference::Layout(_)) { "oci" } else { "oci-archive" }
        }
    };
    scopes.push(String::new());
    (transport, scopes)
}

/// Returns a scope as it is compared: the case of a host's letters does not count (RFC 4343).
pub(super) fn folded(transport: &str, scope: &str) -> String {
    if transport != "docker" {
        return scope.to_owned();
    }
    match scope.split_once('/') {
        Some((host, path)) => format!("{}/{path}", host.to_ascii_lowercase()),
        None => scope.to_ascii_lowercase(),
    }
}

/// Refuses a transport's name that is one of edgepull's but for its spelling.
pub(super) fn check_transport(transport: &str) -> Result<(), String> {
    let plain = transport.trim().trim_end_matches([':', '/']).to_ascii_lowercase();
    let meant = match plain.as_str() {
        "http" | "https" => Some("docker"),
        plain => TRANSPORTS.into_iter().find(|transport| *transport == plain),
    };
    match meant {
        Some(meant) if meant != transport => Err(format!("no image has that transport: write {meant:?}")),
        _ => Ok(()),
    }
}

/// Refuses a scope that no image of the transport can be in. The error says why, and how to write it.
pub(super) fn check(transport: &str, scope: &str) -> Result<(), String> {
    let (why, meant) = match transport {
        _ if scope.is_empty() => return Ok(()),
        "docker-archive" => ("archives of Docker have no scopes but \"\"", Some(String::new())),
        "docker" if matches(scope) => return Ok(()),
        "docker" => (fault(scope), meant(scope)),
        "oci" | "oci-archive" => match local_fault(scope) {
            None => return Ok(()),
            Some(why) => (why, plain_path(scope)),
        },
        _ => return Ok(()),
    };
    let meant = meant.map_or(String::new(), |meant| format!(": write {meant:?}"));
    Err(format!("it can never match: {why}{meant}"))
}

/// Refuses a scope of local images whose path leads through a link, because images are looked up by their paths
/// without links.
pub(super) fn check_links(scope: &str) -> Result<(), String> {
    let untagged = scope.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let paths = [(scope, "")].into_iter().chain(untagged);
    for (path, tag) in paths {
        let there = Path::new(path).ancestors().find(|path| path.symlink_metadata().is_ok());
        let Some((there, real)) = there.and_then(|there| Some((there, there.canonicalize().ok()?))) else {
            continue;
        };
        if real != there {
            let rest = Path::new(path).strip_prefix(there).unwrap_or(Path::new(""));
            let real: PathBuf = real.components().chain(rest.components()).collect();
            let tag = if tag.is_empty() { String::new() } else { format!(":{tag}") };
            let written = format!("{}{tag}", real.display());
            return Err(format!("it can never match: its path leads through a link: write {written:?}"));
        }
    }
    Ok(())
}

/// Returns whether an image of a registry can be in the scope: by its own name, by one beneath it, or by a host in
/// its domain.
fn matches(scope: &str) -> bool {
    let scope = folded("docker", scope);
    let host = scope.strip_prefix('*').map(|domain| format!("x{domain}/x"));
    let images = [Some(scope.clone()), Some(format!("{scope}/x")), host];
    images.into_iter().flatten().any(|image| {
        let image = format!("docker://{image}").parse();
        matches!(image, Ok(image @ Reference::Registry(_)) if of(&image).1.contains(&scope))
    })
}

/// Says why no image of a registry is in the scope.
fn fault(scope: &str) -> &'static str {
    let name = short(scope);
    if scope.contains("://") || scope.starts_with("//") {
        "a scope begins with the host, without a scheme"
    } else if scope.trim() != scope {
        "there are blanks around it"
    } else if scope.contains('*') {
        "a wildcard is *.DOMAIN, which stands for hosts, without a port, and with no path behind it"
    } else if scope.ends_with('/') {
        "no name ends in a slash"
    } else if scope.split_once('/').is_some_and(|(_, path)| is_upper(path)) {
        "a repository has no upper-case letters"
    } else if scope.contains('@') && name.as_ref().is_some_and(|name| name.has_tag_and_digest()) {
        "an image that is named by its digest has no tag"
    } else if name.is_some() || is_upper(scope) {
        "images are looked up by their full names, which begin with a host"
    } else {
        "no image has such a name"
    }
}

/// Reads the name as Docker does, unless it looks like a host with nothing behind it.
fn short(scope: &str) -> Option<Name> {
    Name::parse(scope).filter(|_| scope.contains('/') || !scope.contains('.'))
}

/// Returns whether there are upper-case letters before any tag.
fn is_upper(path: &str) -> bool {
    let name = path.split(['@', ':']).next().unwrap_or_default();
    name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Returns the scope that its author may have meant, if it does match.
fn meant(scope: &str) -> Option<String> {
    let plain = scope.trim();
    let plain = plain.rsplit_once("://").map_or(plain, |(_, plain)| plain).trim_matches('/');
    if plain == "*" {
        return Some(String::new());
    }
    if plain.starts_with('*') {
        return Some(plain.split([':', '/']).next()?.to_owned()).filter(|host| matches(host));
    }
    // A tag keeps its letters.
    let (name, rest) = plain.split_at(plain.rfind('/').map_or(0, |at| at + 1));
    let (last, rest) = rest.split_at(rest.find([':', '@']).unwrap_or(rest.len()));
    let lower = format!("{}{}{rest}", name.to_ascii_lowercase(), last.to_ascii_lowercase());
    let full = short(&lower).map(|name| name.full_by_digest());
    let alias = lower.strip_prefix("index.").map(str::to_owned);
    [Some(plain.to_owned()), Some(lower), alias, full].into_iter().flatten().find(|scope| matches(scope))
}

/// Says why no local image is in the scope, or returns `None` if one can be.
fn local_fault(scope: &str) -> Option<&'static str> {
    match scope {
        "/" => Some("write \"\" for all there is"),
        path if !path.starts_with('/') => Some("it is no absolute path"),
        path if path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) => {
            Some("it is no path in its plain form")
        }
        _ => None,
    }
}

/// Returns an absolute path without empty parts and `.`, or `None` if it has `..`, is relative, or is the root.
fn plain_path(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let is_plain = path.starts_with('/') && !parts.is_empty() && !parts.contains(&"..");
    is_plain.then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_in_scopes_by_their_full_ones() {
        let (_, names) = of(&"alpine".parse().unwrap());
        let full =
            ["docker.io/library/alpine:latest", "docker.io/library/alpine", "docker.io/library", "docker.io"];
        assert_eq!(names, [&full[..], &["*.io", ""]].concat());
        let (_, names) = of(&"R.Example:5000/app:V1".parse().unwrap());
        assert_eq!(names, ["r.example:5000/app:V1", "r.example:5000/app", "r.example:5000", "*.example", ""]);
    }

    #[test]
    fn local_images_are_in_the_directories_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("layout")).unwrap();
        std::os::unix::fs::symlink("layout", here.join("link")).unwrap();
        let here = here.display();
        let (transport, names) = of(&format!("oci:{here}/link:v1").parse().unwrap());
        assert_eq!(transport, "oci");
        assert_eq!(names[..3], [format!("{here}/layout:v1"), format!("{here}/layout"), here.to_string()]);
        assert_eq!(
            names[names.len() - 2..],
            [format!("/{}", names[names.len() - 2].trim_matches('/')), "".into()]
        );
        let (transport, names) = of(&"docker-archive:/x/y.tar:a:1".parse().unwrap());
        assert_eq!((transport, names), ("docker-archive", vec![String::new()]));
    }

    #[test]
    fn a_scope_that_can_never_match_is_refused_with_the_right_spelling() {
        let d = format!("sha256:{}", "ab".repeat(32));
        let (both, by_digest) = (format!("r.example/app:1@{d}"), format!("r.example/app@{d}"));
        let (other, upper) = ("r.example/app@sha512:ab", by_digest.replace("ab", "AB"));
        for (scope, why, meant) in [
            ("r.example/app/", "slash", "r.example/app"),
            ("r.example/", "slash", "r.example"),
            ("docker.io/", "slash", "docker.io"),
            ("busybox", "full names", "docker.io/library/busybox"),
            ("busybox:latest", "full names", "docker.io/library/busybox:latest"),
            ("Busybox", "full names", "docker.io/library/busybox"),
            ("library/busybox", "full names", "docker.io/library/busybox"),
            ("fleet/app", "full names", "docker.io/fleet/app"),
            ("registry", "full names", "docker.io/library/registry"),
            ("docker.io/busybox:1", "full names", "docker.io/library/busybox:1"),
            ("index.docker.io/fleet", "full names", "docker.io/fleet"),
            ("index.docker.io", "no image", "docker.io"),
            ("index.docker.io/fleet/app", "full names", "docker.io/fleet/app"),
            ("r.example/Fleet/app", "upper-case", "r.example/fleet/app"),
            ("r.example/App:V1", "upper-case", "r.example/app:V1"),
            ("https://r.example/app", "scheme", "r.example/app"),
            ("docker://r.example/app:1", "scheme", "r.example/app:1"),
            ("//r.example", "scheme", "r.example"),
            (" r.example", "blanks", "r.example"),
            ("*", "wildcard", ""),
            ("*.example/app", "wildcard", "*.example"),
            ("*.example:5000", "wildcard", "*.example"),
            ("r.*.example", "wildcard", "-"),
            ("r*.example", "wildcard", "-"),
            ("r.example/*", "wildcard", "-"),
            ("*.", "wildcard", "-"),
            (&both, "no tag", &by_digest),
            (&upper, "no image", "-"),
            (other, "no image", "-"),
            ("r.example/app:", "no image", "-"),
            ("r.example:", "no image", "-"),
            ("r.example:99999", "no image", "-"),
            ("r.example//app", "no image", "-"),
            ("r.example/../app", "no image", "-"),
            ("r.example./app", "no image", "-"),
            ("/r.example/app", "no image", "r.example/app"),
            ("oci:/media/usb", "no image", "-"),
        ] {
            let error = check("docker", scope).expect_err(scope);
            let written = if meant == "-" { "write".to_owned() } else { format!("write {meant:?}") };
            assert!(error.contains(why), "{scope}: {error}");
            assert_eq!(error.contains(&written), meant != "-", "{scope}: {error}");
            assert!(meant == "-" || check("docker", meant).is_ok(), "{meant}");
        }
        assert!(check("docker", &format!("r.example/{}", "a".repeat(246))).is_err());
        let spellings = [("Docker", "docker"), ("docker://", "docker"), ("https", "docker"), ("OCI:", "oci")];
        for (transport, meant) in spellings {
            let error = check_transport(transport).unwrap_err();
            assert!(error.contains(&format!("write {meant:?}")), "{transport}: {error}");
        }
    }

    #[test]
    fn scopes_of_honest_policies_are_read() {
        let digest = format!("registry.example:5000/app@sha256:{}", "0f".repeat(32));
        for scope in [
            "",
            "docker.io",
            "docker.io/library",
            "docker.io/library/busybox",
            "docker.io/library/busybox:latest",
            // The manual's: a namespace.
            "docker.io/openshift",
            "registry.access.redhat.com",
            "registry.redhat.io/ubi9/ubi:9.3",
            "hostname:5000/myns/sigstore-signed-with-full-references",
            "*.temporary-project.example.com",
            "*.io",
            "localhost",
            "localhost:5000/app",
            "localhost/app",
            "127.0.0.1:5000",
            "[::1]:5000/app",
            "Registry.Example/app:V1",
            "oci:5000/app",
            "r.example/a__b/c--d.e_f",
            &digest,
        ] {
            assert_eq!(check("docker", scope), Ok(()), "{scope}");
        }
        for (transport, scope) in [
            ("docker-daemon", "docker.io/library/busybox/"),
            ("atomic", "hostname:5000/myns/official"),
            ("dir", "relative/"),
            ("containers-storage", "[overlay@/var/lib/containers/storage]docker.io/library/busybox"),
            ("tarball", "x"),
            ("a-transport-of-tomorrow", "*"),
        ] {
            assert_eq!(check_transport(transport), Ok(()), "{transport}");
            assert_eq!(check(transport, scope), Ok(()), "{transport}: {scope}");
        }
    }

    #[test]
    fn a_path_that_is_not_plain_matches_nothing() {
        for transport in ["oci", "oci-archive"] {
            for (scope, meant) in [
                ("/a/", "/a"),
                ("//a", "/a"),
                ("/a//b", "/a/b"),
                ("/./a", "/a"),
                ("/a/./b", "/a/b"),
                ("/a/.", "/a"),
                ("/..", "-"),
                ("/../a", "-"),
                ("/a/../b", "-"),
                ("/a/..", "-"),
            ] {
                let error = check(transport, scope).expect_err(scope);
                assert!(error.contains("no path in its plain form"), "{error}");
                assert_eq!(error.contains(&format!("write {meant:?}")), meant != "-", "{scope}: {error}");
            }
            for scope in ["/a", "/a/b:1", "/.a/b.", "/a/...", "/a..b", "/A"] {
                assert_eq!(check(transport, scope), Ok(()), "{scope}");
            }
        }
    }

    #[test]
    fn a_path_through_a_link_is_told_where_it_leads() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("real")).unwrap();
        std::os::unix::fs::symlink("real", here.join("link")).unwrap();
        let here = here.display();
        for rest in ["", "/deep/er", "/deep:v1", ":v1"] {
            let error = check_links(&format!("{here}/link{rest}")).unwrap_err();
            assert!(error.contains(&format!("write \"{here}/real{rest}\"")), "{rest}: {error}");
            assert_eq!(check_links(&format!("{here}/real{rest}")), Ok(()));
            assert_eq!(check_links(&format!("{here}/none{rest}")), Ok(()));
        }
    }
}
