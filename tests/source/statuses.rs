//! Every status at every request of a pull: what it says is said of who has answered, never of the image.

use crate::image::Image;
use crate::server::{Reply, Request, Server};
use crate::{options, read_layer, registry};
use edgepull::error::{Error, Kind, Result};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};
use edgepull::source::{Options, Source};

/// Lists what stands in the body, as proxies, login pages and registries have it.
const BODIES: [(&str, &str); 3] = [
    ("", ""),
    ("text/html; charset=utf-8", "<html>please log in</html>"),
    ("application/json", r#"{"errors":[{"code":"DENIED","message":"no","detail":null}]}"#),
];

/// All that have a meaning, and more that servers have made up.
pub fn statuses() -> impl Iterator<Item = u16> {
    (200..=208)
        .chain(300..=308)
        .chain(400..=431)
        .chain([440, 444, 449, 451, 460, 499])
        .chain(500..=530)
        .chain([561, 598, 599])
}

/// Each status with a body, and success with each of them.
fn answers() -> impl Iterator<Item = (u16, (&'static str, &'static str))> {
    statuses().map(|status| (status, BODIES[usize::from(status) % 3])).chain(BODIES.map(|body| (200, body)))
}

/// The requests of a pull, by what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Tag,
    Manifest,
    Config,
    Layer,
}

const ALL: [Asked; 4] = [Asked::Tag, Asked::Manifest, Asked::Config, Asked::Layer];

fn asked(request: &Request) -> Option<Asked> {
    let (image, path) = (Image::new(), request.target.split('?').next()?);
    let is = |bytes: &[u8]| path.ends_with(&Digest::of(bytes).to_string());
    match () {
        () if path.ends_with("/manifests/v1") => Some(Asked::Tag),
        () if is(&image.manifest) => Some(Asked::Manifest),
        () if is(&image.config) => Some(Asked::Config),
        () if is(&image.layer) => Some(Asked::Layer),
        () => None,
    }
}

/// Answers as an honest registry does.
fn honest(request: &Request) -> Reply {
    let image = Image::new();
    match asked(request) {
        Some(Asked::Tag | Asked::Manifest) => Reply::typed(media_type::OCI_MANIFEST, image.manifest),
        Some(Asked::Config) => Reply::ranged(request, &image.config),
        Some(Asked::Layer) => Reply::ranged(request, &image.layer),
        None => Reply::new(404, ""),
    }
}

fn said(status: u16, (content_type, body): (&str, &str)) -> Reply {
    match content_type {
        "" => Reply::new(status, body),
        _ => Reply::new(status, body).with("Content-Type", content_type),
    }
}

/// A registry that says `status` and `body` to what asks for `odd`, always.
fn odd_at(odd: Asked, status: u16, body: (&'static str, &'static str)) -> Server {
    Server::start(move |request, _| match asked(request) == Some(odd) {
        true => said(status, body),
        false => honest(request),
    })
}

fn pull(source: &mut dyn Source) -> Result<()> {
    let image = Image::new();
    let root = source.root()?;
    let manifest =
        Descriptor { size: root.bytes.len() as u64, digest: root.digest, ..image.layer_descriptor() };
    assert_eq!(source.manifest(&manifest)?.bytes, image.manifest);
    assert_eq!(source.config(&image.config_descriptor())?.bytes, image.config);
    assert!(read_layer(source, &image.layer_descriptor(), 0)? == image.layer);
    Ok(())
}

/// Says nothing of the image, and names who has answered.
#[track_caller]
fn blames_the_server(what: &str, error: &Error, server: &Server) {
    let text = error.to_string();
    assert!(
        !matches!(error.kind(), Kind::BadImage | Kind::Verification | Kind::NoPlatform | Kind::Other),
        "{what}: {:?}: {text}",
        error.kind()
    );
    assert!(text.contains(&server.address.to_string()), "{what}: {text}");
}

#[test]
fn of_the_registry() {
    for (status, body) in answers() {
        for odd in ALL {
            let server = odd_at(odd, status, body);
            let what = format!("{status} {body:?} to {odd:?}");
            let error = pull(&mut *registry(server.address, &options())).expect_err(&what);
            blames_the_server(&what, &error, &server);
            assert!(server.requests().len() < 4 + 10, "{what}: {} requests", server.requests().len());
        }
    }
}

#[test]
fn of_a_mirror() {
    for (status, body) in answers() {
        for odd in ALL {
            let (origin, mirror) = (Server::start(|request, _| honest(request)), odd_at(odd, status, body));
            let hosts = tempfile::tempdir().unwrap();
            std::fs::create_dir(hosts.path().join("_default")).unwrap();
            let toml = format!("[host.\"http://{}\"]\n", mirror.address);
            std::fs::write(hosts.path().join("_default/hosts.toml"), toml).unwrap();
            let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..options() };
            if let Err(error) = pull(&mut *registry(origin.address, &options)) {
                panic!("{status} {body:?} to {odd:?}: {error}");
            }
        }
    }
}

#[test]
fn of_a_token_server() {
    for (status, body) in answers() {
        let tokens = Server::start(move |_, _| said(status, body));
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
        let server = Server::start(move |_, _| Reply::new(401, "").with("WWW-Authenticate", &challenge));
        let what = format!("{status} {body:?}");
        let error = pull(&mut *registry(server.address, &options())).expect_err(&what);
        assert!(matches!(error.kind(), Kind::Auth | Kind::Network), "{what}: {:?}: {error}", error.kind());
    }
}
