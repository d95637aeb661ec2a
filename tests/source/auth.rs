//! Who is shown which secret, and what a user is told who has the wrong one.

use crate::server::{Reply, Request, Server};
use crate::{options, refused, registry};
use edgepull::error::Kind;
use edgepull::image::manifest::media_type;
use edgepull::source::Options;
use std::net::SocketAddr;

/// `user:hunter2` in base64.
const USER: &str = "dXNlcjpodW50ZXIy";

/// A credentials file in a folder that lives as long as the test.
struct File(tempfile::TempDir);

impl File {
    fn new(host: SocketAddr, entry: &str) -> File {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(r#"{{"auths":{{"{host}":{entry}}}}}"#);
        std::fs::write(directory.path().join("auth.json"), text).unwrap();
        File(directory)
    }

    fn options(&self) -> Options {
        Options { auth_file: Some(self.0.path().join("auth.json")), ..options() }
    }
}

fn challenge(realm: &str) -> Reply {
    let value = format!(r#"Bearer realm="{realm}",service="my registry",scope="repository:team/app:pull""#);
    Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
        .with("WWW-Authenticate", "Negotiate")
        .with("WWW-Authenticate", &value)
}

/// A registry that takes the tokens that `good` likes, issued at `realm`.
fn guarded(realm: String, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |request, _| match request.header("authorization") {
        Some(token) if good(token) => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
        _ => challenge(&realm),
    })
}

#[test]
fn an_anonymous_token() {
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"token":"abc","expires_in":300}"#));
    let server = guarded(format!("http://{}/token?x=1", tokens.address), |token| token == "Bearer abc");
    let mut source = registry(server.address, &options());
    assert_eq!(source.root().unwrap().bytes, crate::INDEX.as_bytes());
    let asked = &tokens.requests()[0];
    assert_eq!(asked.target, "/token?x=1&service=my%20registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked.header("authorization"), None);
    source.root().unwrap();
    assert_eq!((server.requests().len(), tokens.requests().len()), (3, 1), "the token is kept");
}

#[test]
fn user_and_password_go_to_the_token_server_only() {
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"access_token":"abc","token":""}"#));
    let server = guarded(format!("http://{}/token", tokens.address), |token| token == "Bearer abc");
    let file = File::new(server.address, &format!(r#"{{"auth":"{USER}"}}"#));
    registry(server.address, &file.options()).root().unwrap();
    assert_eq!(tokens.requests()[0].header("authorization"), Some(&*format!("Basic {USER}")));
    assert_eq!(server.requests()[0].header("authorization"), None);
}

#[test]
fn an_identity_token_is_posted() {
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"access_token":"abc"}"#));
    let server = guarded(format!("http://{}/token", tokens.address), |token| token == "Bearer abc");
    let file = File::new(server.address, r#"{"auth":"PHRva2VuPjo=","identitytoken":"ref+resh"}"#);
    registry(server.address, &file.options()).root().unwrap();
    let asked = &tokens.requests()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    assert_eq!(
        asked.text(),
        "grant_type=refresh_token&client_id=edgepull&service=my%20registry\
         &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=ref%2Bresh"
    );
}

#[test]
fn a_registry_token_is_shown_as_it_is() {
    let server = guarded("http://127.0.0.1:1/never".into(), |token| token == "Bearer direct");
    let file = File::new(server.address, r#"{"registrytoken":"direct"}"#);
    registry(server.address, &file.options()).root().unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn long_tokens_up_to_a_limit_that_is_named() {
    for (length, fits) in [(6 << 10, true), (16_000, true), (64 << 10, true), (70_000, false)] {
        let token = "x".repeat(length);
        let wanted = format!("Bearer {token}");
        let tokens = Server::start(move |_, _| {
            Reply::new(200, format!(r#"{{"token":"{token}","access_token":"{token}"}}"#))
        });
        let server = guarded(format!("http://{}/token", tokens.address), move |token| token == wanted);
        let root = registry(server.address, &options()).root();
        match fits {
            true => assert_eq!(root.unwrap().bytes, crate::INDEX.as_bytes()),
            false => {
                let text =
                    refused(root, Kind::Network, &["authorization would have 70007 bytes", "LINE_MAX"]);
                assert!(!text.contains("xxx"), "{text}");
            }
        }
    }
}

/// Challenges as they are met: what is asked of the token server is always enough to pull this repository.
#[test]
fn odd_challenges() {
    let own = "scope=repository%3Ateam%2Fapp%3Apull";
    for (scope, asked) in [
        ("", own.to_owned()),
        (r#",scope="""#, own.to_owned()),
        (r#",scope="*""#, format!("scope=%2A&{own}")),
        (r#",scope="repository:team/app:pull""#, own.to_owned()),
        (
            r#",scope="repository:team/app:pull,push""#,
            "scope=repository%3Ateam%2Fapp%3Apull%2Cpush".to_owned(),
        ),
        (r#",scope="repository:other:pull""#, format!("scope=repository%3Aother%3Apull&{own}")),
        (r#",scope="registry:catalog:*""#, format!("scope=registry%3Acatalog%3A%2A&{own}")),
        (r#",error="inválid",scope="  ""#, own.to_owned()),
    ] {
        let tokens = Server::start(|_, _| Reply::new(200, r#"{"token":"good"}"#));
        let header = format!(r#"Bearer realm="http://{}/token"{scope}"#, tokens.address);
        let server = Server::start(move |request, _| match request.header("authorization") {
            Some("Bearer good") => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
            _ => Reply::new(401, "").with("WWW-Authenticate", &header),
        });
        registry(server.address, &options()).root().unwrap();
        let target = &tokens.requests()[0].target;
        assert_eq!(target.split_once('?').unwrap().1, asked, "{scope}");
    }
}

#[test]
fn a_token_that_expires_on_the_way_is_replaced() {
    let tokens = Server::start(|_, before| Reply::new(200, format!(r#"{{"token":"t{before}"}}"#)));
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::start(move |request, before| {
        let wanted = if before < 2 { "Bearer t0" } else { "Bearer t1" };
        match request.header("authorization") == Some(wanted) {
            true => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
            false => challenge(&realm),
        }
    });
    let mut source = registry(server.address, &options());
    source.root().unwrap();
    source.root().unwrap();
    assert_eq!(tokens.requests().len(), 2);
}

fn basic(request: &Request) -> Reply {
    match request.header("authorization") == Some(&*format!("Basic {USER}")) {
        true => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
        false => Reply::new(401, "").with("WWW-Authenticate", r#"basic realm="x, y""#),
    }
}

#[test]
fn basic_and_what_is_said_without_or_with_wrong_credentials() {
    let server = Server::start(|request, _| basic(request));
    let host = server.address.to_string();
    let file = File::new(server.address, r#"{"username":"user","password":"hunter2"}"#);
    registry(server.address, &file.options()).root().unwrap();

    refused(
        registry(server.address, &options()).root(),
        Kind::Auth,
        &["HTTP 401", "no credentials found for", &host, "/nonexistent/auth.json"],
    );
    let wrong = File::new(server.address, r#"{"username":"user","password":"hunter3"}"#);
    let before = server.requests().len();
    let text = refused(
        registry(server.address, &wrong.options()).root(),
        Kind::Auth,
        &["access to team/app denied", "were refused", "auth.json"],
    );
    assert!(!text.contains("hunter3"));
    assert_eq!(server.requests().len() - before, 2, "wrong credentials are not tried again and again");
}

#[test]
fn a_token_without_the_right_is_access_denied() {
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"token":"weak"}"#));
    let server = guarded(format!("http://{}/token", tokens.address), |_| false);
    refused(
        registry(server.address, &options()).root(),
        Kind::Auth,
        &["UNAUTHORIZED: authentication required", "may not exist, or be private"],
    );
    assert_eq!((server.requests().len(), tokens.requests().len()), (2, 1));

    let forbidden = Server::start(|_, _| Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#));
    refused(registry(forbidden.address, &options()).root(), Kind::Auth, &["HTTP 403 (DENIED: no)"]);
    assert_eq!(forbidden.requests().len(), 1);
}

#[test]
fn token_servers_that_misbehave() {
    for (reply, kind, part) in [
        (Reply::new(401, ""), Kind::Auth, "token server"),
        (Reply::new(200, "{}"), Kind::Auth, "holds no token"),
        (Reply::new(200, r#"{"token":["hunter2"]}"#), Kind::Auth, "holds no token"),
        (Reply::new(200, r#"{"token":"a\r\nHost: evil"}"#), Kind::Auth, "characters"),
        (Reply::new(200, r#"{"token":{"token":"hunter2"}}"#), Kind::Auth, "holds no token"),
        (Reply::new(200, format!(r#"{{"x":"{}"}}"#, "y".repeat(160 << 10))), Kind::Auth, "TOKEN_MAX"),
        (Reply::new(200, [b' '; 4096]).endless(), Kind::Auth, "TOKEN_MAX"),
        (Reply::new(503, ""), Kind::Network, "tried 6 times: token server: 127.0.0.1:"),
        (Reply::new(408, ""), Kind::Network, "tried 6 times"),
        (Reply::new(425, ""), Kind::Network, "tried 6 times"),
        (Reply::new(407, ""), Kind::Auth, "the proxy on the way"),
    ] {
        let tokens = Server::start(move |_, _| reply.clone());
        let server = guarded(format!("http://{}/token", tokens.address), |_| false);
        let text = refused(registry(server.address, &options()).root(), kind, &[part]);
        assert!(!text.contains("hunter2"), "{text}");
    }
    for realm in ["", "ftp://127.0.0.1/", "token", "http://user:pw@127.0.0.1/"] {
        let server = guarded(realm.to_owned(), |_| false);
        refused(registry(server.address, &options()).root(), Kind::Auth, &["no http or https URL"]);
    }
}

#[test]
fn a_page_before_the_token_server_says_nothing_of_anybody_s_rights() {
    let large = format!("<html>{}</html>", "please log in ".repeat(20_000));
    for page in [
        "",
        "  ",
        "<html>log in</html>",
        "log in",
        "\u{feff}{",
        "[]",
        "null",
        "\"hunter2\"",
        "{\"token\":",
        &large,
    ] {
        for entry in [r#"{"username":"user","password":"hunter2"}"#, r#"{"identitytoken":"hunter2"}"#] {
            let page = page.to_owned();
            let tokens = Server::start(move |_, _| Reply::typed("text/html", page.clone()));
            let server = guarded(format!("http://{}/token", tokens.address), |_| false);
            let file = File::new(server.address, entry);
            let text = refused(
                registry(server.address, &file.options()).root(),
                Kind::Network,
                &["token server", "not a registry, or a login page is before it"],
            );
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(tokens.requests().len(), 1, "{text}");
        }
    }
    // A form that is posted follows no redirect to a page.
    let tokens = Server::start(|_, _| Reply::new(302, "").with("Location", "http://127.0.0.1/login"));
    let server = guarded(format!("http://{}/token", tokens.address), |_| false);
    let file = File::new(server.address, r#"{"identitytoken":"hunter2"}"#);
    let root = registry(server.address, &file.options()).root();
    refused(root, Kind::Network, &["HTTP 302", "a login page is before it"]);
}

#[test]
fn a_token_is_read_as_go_reads_it() {
    for answer in [
        r#"{"Token":"T"}"#,
        r#"{"ACCESS_TOKEN":"T"}"#,
        r#"{"token":"X","token":"T"}"#,
        r#"{"token":"T","token":null}"#,
        r#"{"token":null,"access_token":"T","expires_in":"soon","issued_at":7}"#,
        r#"{"token":"\u0054"}"#,
        " {\"token\":\"T\"}\n",
    ] {
        let tokens = Server::start(move |_, _| Reply::typed("text/plain", answer));
        let server = guarded(format!("http://{}/token", tokens.address), |token| token == "Bearer T");
        let root = registry(server.address, &options()).root();
        assert!(root.is_ok(), "{answer}: {:?}", root.err());
    }
}

#[test]
fn a_password_does_not_travel_in_the_clear_to_a_stranger() {
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"token":"abc"}"#));
    // Another host than the registry's 127.0.0.1, though the same machine.
    let server =
        guarded(format!("http://localhost:{}/token", tokens.address.port()), |token| token == "Bearer abc");
    let file = File::new(server.address, &format!(r#"{{"auth":"{USER}"}}"#));
    refused(
        registry(server.address, &file.options()).root(),
        Kind::Auth,
        &["credentials are not sent there"],
    );
    assert_eq!(tokens.requests().len(), 0);
    registry(server.address, &options()).root().expect("without credentials there is nothing to lose");
}

#[test]
fn authorization_stays_with_the_registry() {
    let store = Server::start(|_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    let elsewhere = format!("http://{}/store", store.address);
    let server = Server::start(move |request, _| match basic(request) {
        _ if request.header("authorization").is_none() => basic(request),
        // First to the same origin, which may see it, then away.
        _ if request.target == "/here" => Reply::new(307, "").with("Location", &elsewhere),
        _ => Reply::new(307, "").with("Location", "/here"),
    });
    let file = File::new(server.address, &format!(r#"{{"auth":"{USER}"}}"#));
    registry(server.address, &file.options()).root().unwrap();
    assert!(server.asked("/here")[0].header("authorization").is_some());
    assert_eq!(store.requests()[0].header("authorization"), None);
}

#[test]
fn a_broken_credentials_file_matters_only_where_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    std::fs::write(&path, r#"{"auths":{"x":"hunter2"}}"#).unwrap();
    let options = Options { auth_file: Some(path), ..options() };
    let open = Server::start(|_, _| Reply::typed(media_type::OCI_INDEX, crate::INDEX));
    registry(open.address, &options).root().unwrap();
    let guarded = Server::start(|request, _| basic(request));
    let text = refused(registry(guarded.address, &options).root(), Kind::Usage, &["auth.json", "line 1"]);
    assert!(!text.contains("hunter2"), "{text}");
}
