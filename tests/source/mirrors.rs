//! Mirrors by hosts.toml: who is asked for what, in which order, and what becomes of those that fail or lie.

use crate::image::Image;
use crate::server::{Reply, Request, Server, closed_port};
use crate::tls::Pki;
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};
use edgepull::source::{Options, Source, open};
use std::net::SocketAddr;
use std::path::Path;

/// A `hosts.toml` for all hosts, as long as the test lives.
pub struct Hosts(tempfile::TempDir);

impl Hosts {
    pub fn new(toml: &str) -> Hosts {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("_default")).unwrap();
        std::fs::write(directory.path().join("_default/hosts.toml"), toml).unwrap();
        Hosts(directory)
    }

    /// One mirror that may only be asked for what a digest names.
    fn pull_only(mirror: SocketAddr) -> Hosts {
        Hosts::new(&format!("[host.\"http://{mirror}\"]\ncapabilities = [\"pull\"]\n"))
    }

    pub fn options(&self) -> Options {
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
fn a_mirror_that_shows_a_page_is_left_out() {
    for (content_type, body) in [
        ("text/html", "<html>please log in</html>"),
        ("", ""),
        ("application/json", "{}"),
        (media_type::OCI_MANIFEST, "{}"),
        ("application/json", r#"{"errors":[{"code":"DENIED"}]}"#),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1,"fsLayers":[]}"#),
    ] {
        let mirror = Server::start(move |_, _| Reply::typed(content_type, body));
        let origin = honest();
        let hosts = Hosts::new(&format!(
            "[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\", \"referrers\", \"new\"]\n",
            mirror.address
        ));
        let mut source = registry(origin.address, &hosts.options());
        assert!(pull(&mut *source) == Image::new().layer, "{body}");
        assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 4), "{body}");
    }
}

#[test]
fn a_mirror_without_head_is_asked_for_the_manifest_itself() {
    for status in [401, 403, 405, 500, 520] {
        let mirror = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => Reply::new(status, ""),
            _ => serve(&Image::new(), request),
        });
        let origin = Server::start(|_, _| Reply::new(404, ""));
        let hosts = Hosts::new(&format!("[host.\"http://{}\"]\n", mirror.address));
        let mut source = registry(origin.address, &hosts.options());
        assert_eq!(source.current().unwrap(), None, "{status}");
        pull(&mut *source);
        assert_eq!(origin.requests().len(), 1, "{status}: only where HEAD was no use");
    }
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

/// A mirror that spoils everything, and what a pull makes of it: it is asked once, and the registry gives what is right.
#[track_caller]
fn spoilt(what: &str, script: impl Fn(&Image, &Request) -> Reply + Send + Sync + 'static) {
    let image = Image::new();
    let mirror = Server::start(move |request, _| script(&image, request));
    let origin = honest();
    let image = Image::new();
    let hosts = Hosts::pull_only(mirror.address);
    // By digest, its size unknown; then by a descriptor; then as a blob.
    let reference = format!("{}/team/app@{}", origin.address, Digest::of(&image.manifest)).parse().unwrap();
    assert_eq!(open(&reference, &hosts.options()).unwrap().root().unwrap().bytes, image.manifest, "{what}");
    assert_eq!(mirror.requests().len(), 1, "{what}: root");
    let manifest = Descriptor {
        size: image.manifest.len() as u64,
        digest: Digest::of(&image.manifest),
        ..image.layer_descriptor()
    };
    let mut source = registry(origin.address, &hosts.options());
    assert_eq!(source.manifest(&manifest).unwrap().bytes, image.manifest, "{what}");
    assert_eq!(mirror.requests().len(), 2, "{what}: manifest");
    let mut source = registry(origin.address, &hosts.options());
    assert_eq!(source.config(&image.config_descriptor()).unwrap().bytes, image.config, "{what}");
    assert_eq!(mirror.requests().len(), 3, "{what}: config");
    assert_eq!(origin.requests().len(), 3, "{what}");
}

#[test]
fn a_document_that_a_mirror_spoils_comes_from_the_registry() {
    spoilt("cut", |image, request| serve(image, request).cut(10));
    spoilt("of no length, and cut", |image, request| {
        let whole = serve(image, request);
        let less = whole.size() - 1;
        whole.cut(less).length(None)
    });
    spoilt("a byte too many", |image, request| serve(image, request).and(b"x").length(None));
    spoilt("without an end", |_, _| Reply::typed(media_type::OCI_MANIFEST, [b' '; 65536]).endless());
    for status in [206, 416] {
        spoilt("an answer to a range", move |_, _| Reply::new(status, "{}"));
    }
}

#[test]
fn a_mirror_s_head_is_not_believed_where_its_bytes_are_right() {
    let image = Image::new();
    let mirror = Server::start(move |request, _| {
        serve(&image, request).with("Docker-Content-Digest", &Digest::of(b"other").to_string())
    });
    let (image, origin) = (Image::new(), honest());
    let reference = format!("{}/team/app@{}", origin.address, Digest::of(&image.manifest)).parse().unwrap();
    let mut source = open(&reference, &Hosts::pull_only(mirror.address).options()).unwrap();
    assert_eq!(source.current().unwrap(), Some(Digest::of(&image.manifest)), "known without asking");
    assert!(mirror.requests().is_empty() && origin.requests().is_empty());
    assert_eq!(source.root().unwrap().bytes, image.manifest);
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 0));
    // Where a tag is asked for, it has contradicted itself.
    let hosts = Hosts::new(&format!("[host.\"http://{}\"]\n", mirror.address));
    assert_eq!(registry(origin.address, &hosts.options()).root().unwrap().bytes, image.manifest);
    assert_eq!((mirror.requests().len(), origin.requests().len()), (2, 1));
}

#[test]
fn as_many_mirrors_as_there_may_be_lie_and_the_registry_is_asked_nevertheless() {
    let mirrors: Vec<_> = (0..8).map(|_| liar()).collect();
    let origin = honest();
    let hosts: String = mirrors
        .iter()
        .map(|mirror| format!("[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n", mirror.address))
        .collect();
    let image = Image::new();
    let mut source = registry(origin.address, &Hosts::new(&hosts).options());
    let manifest = Descriptor {
        size: image.manifest.len() as u64,
        digest: Digest::of(&image.manifest),
        ..image.layer_descriptor()
    };
    assert_eq!(source.manifest(&manifest).unwrap().bytes, image.manifest);
    assert!(mirrors.iter().all(|mirror| mirror.requests().len() == 1));
}

#[test]
fn a_mirror_that_cuts_each_blob_is_left_at_the_first() {
    let image = Image::new();
    let mirror = Server::start(move |request, _| serve(&image, request).cut(5000));
    let origin = honest();
    let image = Image::new();
    let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(mirror.requests().len(), 1);
    let ranges: Vec<_> = origin.requests().iter().map(Request::range).collect();
    assert_eq!(ranges, [Some((5000, 99_999))]);
}

#[test]
fn a_mirror_without_ranges_does_not_cost_the_registry_s() {
    for wrong in [Reply::new(416, ""), Reply::new(206, "x").with("Content-Range", "bytes 0-0/1")] {
        let mirror = Server::start(move |_, _| wrong.clone());
        let (image, origin) = (Image::new(), honest());
        let mut source = registry(origin.address, &Hosts::pull_only(mirror.address).options());
        let read = read_layer(&mut *source, &image.layer_descriptor(), 4711).unwrap();
        assert!(read == image.layer[4711..]);
        let ranges: Vec<_> = origin.requests().iter().map(Request::range).collect();
        assert_eq!((mirror.requests().len(), ranges), (1, vec![Some((4711, 99_999))]));
    }
}

#[test]
fn referrers_that_a_mirror_cuts_are_asked_for_elsewhere() {
    let list = |request: &Request| match request.target.contains("/referrers/") {
        true => Reply::typed(media_type::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#),
        false => Reply::new(404, ""),
    };
    for spoil in [|reply: Reply| reply.cut(3), |reply: Reply| reply.endless()] {
        let mirror = Server::start(move |request, _| match request.target.contains("/referrers/") {
            true => spoil(Reply::typed(media_type::OCI_INDEX, [b' '; 65536])),
            false => Reply::new(404, ""),
        });
        let origin = Server::start(move |request, _| list(request));
        let hosts = Hosts::new(&format!("[host.\"http://{}\"]\n", mirror.address));
        let mut source = registry(origin.address, &hosts.options());
        let digest = Digest::of(b"image");
        source.signatures(&digest, &mut |found| panic!("{found:?}")).unwrap();
        assert_eq!((mirror.asked("/referrers/").len(), origin.asked("/referrers/").len()), (1, 1));
    }
}

#[test]
fn a_tls_mirror_with_an_authority_and_headers_of_its_own() {
    let Some(pki) = Pki::new() else { return };
    let image = Image::new();
    let mirror = Server::start_tls(pki.server(), move |request, _| serve(&image, request));
    let (image, origin) = (Image::new(), honest());
    let hosts = |ca: &str| {
        Hosts::new(&format!(
            "[host.\"https://{}\"]\ncapabilities = [\"pull\"]\n{ca}header = {{ X-Key = \"k\" }}\n",
            mirror.address
        ))
    };
    let known = hosts(&format!("ca = {:?}\n", pki.path("ca.pem").to_str().unwrap()));
    let mut source = registry(origin.address, &known.options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(mirror.requests()[0].header("x-key"), Some("k"));
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 0));
    // Nobody else's authority vouches for it.
    let mut source = registry(origin.address, &hosts("").options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 1));
}

#[test]
fn what_an_image_names_is_asked_without_the_user_s_headers() {
    let origin = honest();
    let hosts =
        Hosts::new(&format!("server = \"http://{}\"\nheader = {{ X-Key = \"k\" }}\n", origin.address));
    let image = Image::new();
    let path = format!("/elsewhere/{}", Digest::of(&image.layer));
    let foreign = Descriptor {
        urls: vec![format!("http://{}{path}", origin.address)],
        media_type: "application/vnd.oci.image.layer.nondistributable.v1.tar".into(),
        ..image.layer_descriptor()
    };
    let mut source = registry(origin.address, &hosts.options());
    assert!(read_layer(&mut *source, &foreign, 0).unwrap() == image.layer);
    assert_eq!(origin.asked(&path)[0].header("x-key"), None);
    source.config(&image.config_descriptor()).unwrap();
    assert_eq!(origin.asked("/v2/")[0].header("x-key"), Some("k"));
}

/// Pulls `image` from a registry with a pull-only mirror, and whether the registry was asked for its layer.
fn pulled(image: fn() -> Image, code: i32, part: &str) -> bool {
    let start = || {
        let image = image();
        Server::start(move |request, _| serve(&image, request))
    };
    let (mirror, origin) = (start(), start());
    let hosts = Hosts::pull_only(mirror.address);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_edgepull"))
        .args(["pull", "--platform", "linux/arm", "--plain-http", "--hosts-dir"])
        .args([
            hosts.0.path(),
            Path::new(&format!("{}/team/app:v1", origin.address)),
            &hosts.0.path().join("out"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part) && !said.contains("wrong bytes"), "{said}");
    assert_eq!(mirror.asked(&Digest::of(&image().layer).to_string()).len(), 1);
    !origin.asked(&Digest::of(&image().layer).to_string()).is_empty()
}

#[test]
fn a_mirror_that_gave_what_was_asked_for_is_not_accused_of_a_bad_image() {
    // A layer that is no tar; and an empty one, to which the config gives another diff-id.
    assert!(!pulled(Image::new, 8, "tar"));
    let mislabelled = || {
        let empty = Image::with_layer(vec![0; 1024]);
        Image::with_config(Image::new().config, empty.layer)
    };
    assert!(!pulled(mislabelled, 7, "as the config says"));
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
