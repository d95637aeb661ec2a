//! Mirrors by hosts.toml: who is asked for what, in which order, and what becomes of those that fail or lie.

use crate::image::Image;
use crate::server::{Reply, Request, Server, closed_port};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};
use edgepull::source::{Options, Source};
use std::net::SocketAddr;

/// A `hosts.toml` for all hosts, as long as the test lives.
struct Hosts(tempfile::TempDir);

impl Hosts {
    fn new(toml: &str) -> Hosts {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("_default")).unwrap();
        std::fs::write(directory.path().join("_default/hosts.toml"), toml).unwrap();
        Hosts(directory)
    }

    /// One mirror that may only be asked for what a digest names.
    fn pull_only(mirror: SocketAddr) -> Hosts {
        Hosts::new(&format!("[host.\"http://{mirror}\"]\ncapabilities = [\"pull\"]\n"))
    }

    fn options(&self) -> Options {
        Options { hosts_dir: Some(self.0.path().to_owned()), ..options() }
    }
}

/// An image with a manifest; what an honest registry says.
fn serve(image: &Image, request: &Request) -> Reply {
    let path = request.target.split('?').next().unwrap();
    if path.contains("/manifests/") {
        return Reply::typed(media_type::OCI_MANIFEST, image.manifest.clone());
    }
    let wanted = |bytes: &[u8]| path.ends_with(&Digest::of(bytes).to_string());
    match () {
        _ if wanted(&image.layer) => Reply::ranged(request, &image.layer),
        _ if wanted(&image.config) => Reply::ranged(request, &image.config),
        _ => Reply::new(404, ""),
    }
}

fn honest() -> Server {
    let image = Image::new();
    Server::start(move |request, _| serve(&image, request))
}

/// Everything that a pull asks for.
fn pull(source: &mut dyn Source) -> Vec<u8> {
    let image = Image::new();
    let root = source.root().unwrap();
    assert_eq!(root.bytes, image.manifest);
    let descriptor =
        Descriptor { size: root.bytes.len() as u64, digest: root.digest, ..image.layer_descriptor() };
    assert_eq!(source.manifest(&descriptor).unwrap().bytes, image.manifest);
    assert_eq!(source.config(&image.config_descriptor()).unwrap().bytes, image.config);
    read_layer(source, &image.layer_descriptor(), 0).unwrap()
}

#[test]
fn what_a_digest_names_comes_from_the_mirror_and_what_a_tag_means_does_not() {
    let (mirror, origin) = (honest(), honest());
    let hosts = Hosts::new(&format!(
        "[host.\"http://{}/cache/v2\"]\ncapabilities = [\"pull\"]\n[host.\"http://{0}/cache/v2\".header]\nX-Key = \"k\"\n",
        mirror.address
    ));
    let layer = pull(&mut *registry(origin.address, &hosts.options()));
    assert!(layer == Image::new().layer);
    let tags: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(tags, ["/v2/team/app/manifests/v1"]);
    let asked = mirror.requests();
    assert_eq!(asked.len(), 3);
    let namespace = format!("?ns={}", origin.address.to_string().replace(':', "%3A"));
    for request in asked {
        assert!(request.target.starts_with("/cache/v2/team/app/"), "{}", request.target);
        assert!(
            request.target.contains("/sha256:") && request.target.ends_with(&namespace),
            "{}",
            request.target
        );
        assert_eq!(request.header("x-key"), Some("k"));
    }
    assert_eq!(origin.requests()[0].header("x-key"), None);
}

#[test]
fn a_mirror_that_may_say_what_a_tag_means_is_asked_first() {
    let (mirror, origin) = (honest(), honest());
    let hosts = Hosts::new(&format!(
        "[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        mirror.address
    ));
    pull(&mut *registry(origin.address, &hosts.options()));
    assert_eq!((mirror.requests().len(), origin.requests().len()), (4, 0));
}

#[test]
fn nobody_may_say_what_the_tag_means() {
    let origin = honest();
    let hosts = Hosts::new(&format!("server = \"http://{}\"\ncapabilities = [\"pull\"]\n", origin.address));
    refused(
        registry(origin.address, &hosts.options()).root(),
        Kind::Network,
        &["nobody may be asked", "capabilities"],
    );
    assert!(origin.requests().is_empty());
}

#[test]
fn what_a_mirror_lacks_comes_from_the_next() {
    let lacking = Server::start(|_, _| Reply::new(404, ""));
    let (second, origin) = (honest(), honest());
    let hosts =
        Hosts::new(&format!("[host.\"http://{}\"]\n[host.\"http://{}\"]\n", lacking.address, second.address));
    pull(&mut *registry(origin.address, &hosts.options()));
    assert_eq!(
        (lacking.requests().len(), second.requests().len()),
        (4, 4),
        "what it lacks is no reason to leave it out"
    );
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_mirror_that_fails_is_tried_once_in_a_run() {
    for status in [500, 503, 401, 403, 418] {
        let mirror = Server::start(move |_, _| Reply::new(status, ""));
        let origin = honest();
        let hosts = Hosts::pull_only(mirror.address);
        let options = hosts.options();
        pull(&mut *registry(origin.address, &options));
        // Another image of the same run.
        pull(&mut *registry(origin.address, &options));
        assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 8), "HTTP {status}");
    }
    let origin = honest();
    pull(&mut *registry(origin.address, &Hosts::pull_only(closed_port()).options()));
}

#[test]
fn a_mirror_that_dies_in_a_blob_is_followed_by_the_registry_at_that_byte() {
    let image = Image::new();
    let mirror = Server::start(move |request, before| match before {
        0 => serve(&image, request).cut(30_000),
        _ => Reply::new(503, ""),
    });
    let origin = honest();
    let image = Image::new();
    let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    let asked = origin.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].range(), Some((30_000, image.layer.len() - 1)));
}

#[test]
fn a_mirror_that_gives_nothing_of_a_body_is_left() {
    let image = Image::new();
    let mirror = Server::start(move |request, _| serve(&image, request).cut(0));
    let origin = honest();
    let image = Image::new();
    let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 1));
}

#[test]
fn where_the_registry_is_down_a_mirror_gets_another_chance() {
    let image = Image::new();
    let mirror = Server::start(move |request, before| match before {
        0 => Reply::new(503, ""),
        _ => serve(&image, request),
    });
    let image = Image::new();
    let mut source = registry(closed_port(), &Hosts::pull_only(mirror.address).options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(mirror.requests().len(), 2);
}

/// What a registry says, with one bit of each body changed.
fn liar() -> Server {
    let image = Image::new();
    Server::start(move |request, _| {
        let mut lie = Image::with_layer(image.layer.clone());
        for bytes in [&mut lie.layer, &mut lie.config, &mut lie.manifest] {
            bytes[10] ^= 1;
        }
        let path = request.target.split('?').next().unwrap();
        if path.contains("/manifests/") {
            return Reply::typed(media_type::OCI_MANIFEST, lie.manifest);
        }
        match path.ends_with(&Digest::of(&image.layer).to_string()) {
            true => Reply::ranged(request, &lie.layer),
            false => Reply::ranged(request, &lie.config),
        }
    })
}

#[test]
fn a_mirror_that_gives_wrong_documents_is_never_asked_again() {
    let image = Image::new();
    let origin = honest();
    for what in ["manifest", "config"] {
        let mirror = liar();
        let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
        let manifest = Descriptor {
            size: image.manifest.len() as u64,
            digest: Digest::of(&image.manifest),
            ..image.layer_descriptor()
        };
        let fetched = match what {
            "manifest" => source.manifest(&manifest).unwrap(),
            _ => source.config(&image.config_descriptor()).unwrap(),
        };
        assert!(
            fetched.bytes == if what == "manifest" { image.manifest.clone() } else { image.config.clone() }
        );
        assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
        assert_eq!(mirror.requests().len(), 1, "{what}");
    }
}

#[test]
fn wrong_bytes_of_a_layer_are_asked_for_elsewhere() {
    let image = Image::new();
    let (mirror, origin) = (liar(), honest());
    let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
    let descriptor = image.layer_descriptor();
    assert!(read_layer(&mut *source, &descriptor, 0).unwrap() != image.layer);
    assert!(source.distrust(&descriptor), "there is somebody else to ask");
    assert!(read_layer(&mut *source, &descriptor, 0).unwrap() == image.layer);
    assert!(!source.distrust(&descriptor), "the registry's bytes are the last word");
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 1));
}

#[test]
fn a_mirror_that_lies_about_a_length_is_left_before_its_first_byte() {
    let mirror = Server::start(|_, _| Reply::new(200, "short"));
    let origin = honest();
    let image = Image::new();
    let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(mirror.requests().len(), 1);
}

#[test]
fn a_mirror_s_credentials_are_its_own() {
    let basic = |image: Image, wanted: &'static str| {
        Server::start(move |request, _| match request.header("authorization") {
            Some(login) if login == wanted => serve(&image, request),
            _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
        })
    };
    // mirror:m and origin:o in base64.
    let mirror = basic(Image::new(), "Basic bWlycm9yOm0=");
    let origin = basic(Image::new(), "Basic b3JpZ2luOm8=");
    let hosts = Hosts::pull_only(mirror.address);
    let auth = hosts.0.path().join("auth.json");
    let text = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWlycm9yOm0="}},"{}":{{"auth":"b3JpZ2luOm8="}}}}}}"#,
        mirror.address, origin.address
    );
    std::fs::write(&auth, text).unwrap();
    pull(&mut *registry(origin.address, &Options { auth_file: Some(auth), ..hosts.options() }));
    let shown = |server: &Server| {
        let mut all: Vec<_> =
            server.requests().iter().filter_map(|r| r.header("authorization").map(str::to_owned)).collect();
        all.dedup();
        all
    };
    assert_eq!(shown(&mirror), ["Basic bWlycm9yOm0="]);
    assert_eq!(shown(&origin), ["Basic b3JpZ2luOm8="]);
}

#[test]
fn a_broken_hosts_toml_is_a_usage_error() {
    let hosts = Hosts::new("[host.\"https://x\"\n");
    let opened = edgepull::source::open(&"r.example/a".parse().unwrap(), &hosts.options()).map(drop);
    refused(opened, Kind::Usage, &["_default/hosts.toml, line 1", "] is missing"]);
}
