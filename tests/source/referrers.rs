//! Every answer to the question for a digest's referrers: a registry that does not know these has them behind a tag, and
//! whoever is no registry says nothing of the image, least of all that it is signed.

use crate::image::pointer;
use crate::server::{Reply, Server};
use crate::{options, refused, registry};
use edgepull::error::{Kind, Result};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::media_type;
use edgepull::source::Options;

const PAGES: [&str; 7] =
    ["", "<html>please log in</html>", "log in", "{}", "null", "[]", r#"{"errors":[{"code":"DENIED"}]}"#];

fn image() -> Digest {
    Digest::of(b"image")
}

/// A registry that answers `reply` at its referrers API, and has a list of one, which it lacks, behind their tag.
fn answering(reply: Reply) -> Server {
    let tag = format!("/manifests/sha256-{}", image().hex());
    Server::start(move |request, _| match request.target.as_str() {
        target if target.contains("/referrers/") => reply.clone(),
        target if target.ends_with(&tag) => {
            let entry = pointer(media_type::OCI_MANIFEST, b"referrer");
            Reply::typed(media_type::OCI_INDEX, format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#))
        }
        _ => Reply::new(404, ""),
    })
}

fn signatures(server: &Server, options: &Options) -> Result<()> {
    registry(server.address, options).signatures(&image(), &mut |_| false)
}

/// How often the API was asked, and what its tag lists.
fn asked(server: &Server) -> (usize, usize) {
    let listed = format!("/manifests/{}", Digest::of(b"referrer"));
    (server.asked("/referrers/").len(), server.asked(&listed).len())
}

#[test]
fn a_page_is_whoever_answers_it() {
    let large = format!("<html>{}</html>", "please log in ".repeat(400_000));
    for page in PAGES.iter().copied().chain([large.as_str()]) {
        let server = answering(Reply::typed("text/html", page));
        let host = server.address.to_string();
        let parts = [host.as_str(), "not a registry, or a login page is before it"];
        refused(signatures(&server, &options()), Kind::Network, &parts);
        assert_eq!(asked(&server), (1, 0), "{}", &page[..page.len().min(40)]);
        #[cfg(feature = "publish")]
        refused(registry(server.address, &options()).attachments(&image()), Kind::Network, &parts);
    }
}

#[test]
fn who_does_not_know_them_has_them_behind_their_tag() {
    for status in [204, 205, 400, 401, 403, 404, 405, 406, 410, 415, 418, 422, 501] {
        let server = answering(Reply::new(status, ""));
        signatures(&server, &options()).unwrap();
        assert_eq!(asked(&server), (1, 1), "{status}");
    }
    // What may pass is waited for.
    for status in [408, 425, 429, 500, 502, 503, 599] {
        let server = answering(Reply::new(status, ""));
        refused(signatures(&server, &options()), Kind::Network, &["tried 6 times", &status.to_string()]);
        assert_eq!(asked(&server), (6, 0), "{status}");
    }
}

#[test]
fn an_empty_list_is_one() {
    for list in [r#"{"schemaVersion":2,"manifests":[]}"#, r#"{"schemaVersion":2,"manifests":null}"#] {
        let server = answering(Reply::typed(media_type::OCI_INDEX, list));
        signatures(&server, &options()).unwrap();
        assert_eq!(asked(&server), (1, 0), "{list}");
    }
}

/// A mirror that does not know them, or shows a page, leaves that to the registry.
#[test]
fn a_mirror_is_passed_over() {
    let replies = PAGES.map(|page| Reply::typed("text/html", page));
    for reply in replies.into_iter().chain([400, 404, 405, 501].map(|status| Reply::new(status, ""))) {
        let mirror = answering(reply);
        let origin = answering(Reply::typed(media_type::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#));
        let hosts = tempfile::tempdir().unwrap();
        std::fs::create_dir(hosts.path().join("_default")).unwrap();
        let toml = format!("[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", mirror.address);
        std::fs::write(hosts.path().join("_default/hosts.toml"), toml).unwrap();
        let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..options() };
        signatures(&origin, &options).unwrap();
        assert_eq!((asked(&mirror), asked(&origin)), ((1, 0), (1, 0)));
    }
}
