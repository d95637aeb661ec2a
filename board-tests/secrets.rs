//! Credentials are used, and kept nowhere: neither on the disk nor in what is said. And where they are looked for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use crate::failures::noise;
use crate::harness::*;

fn image(layers: &[&str]) -> Artifact {
    let image = Image::of("linux/arm/v7");
    layers.iter().fold(image, |image, name| image.layer(Layer::new().file(name, noise(300_000)))).build()
}

/// A file that only its owner may read.
fn private(scratch: &Scratch, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = scratch.write(name, content);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
    path
}

/// The files below `folder` that hold one of `secrets`; each file once, however many names it has.
fn holding(folder: &Path, secrets: &[String], seen: &mut BTreeSet<u64>, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let stat = fs::symlink_metadata(&entry).expect("it is there");
        if stat.is_dir() {
            holding(&entry, secrets, seen, found);
        } else if stat.is_file() && seen.insert(stat.ino()) {
            let bytes = fs::read(&entry).expect("a file");
            let holds = |secret: &&String| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            found.extend(secrets.iter().find(holds).map(|secret| format!("{}: {secret}", entry.display())));
        }
    }
}

/// `edgepull -vv` never says one of these, and no file that it leaves has one.
struct Watched {
    board: Board,
    secrets: Vec<String>,
}

impl Watched {
    #[track_caller]
    fn edgepull(&self, words: &[&str]) -> Outcome {
        let outcome = self.board.edgepull([&["-vv"], words].concat());
        let said = outcome.stderr() + &outcome.stdout();
        let told: Vec<_> = self.secrets.iter().filter(|secret| said.contains(secret.as_str())).collect();
        assert!(told.is_empty(), "{words:?} says {told:?}: {said}");
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        holding(&self.board.beside_state("state"), &self.secrets, &mut seen, &mut found);
        assert!(found.is_empty() && seen.len() > 2, "{words:?}: {found:?} of {} files", seen.len());
        outcome
    }
}

#[test]
fn neither_password_nor_token_is_kept_or_told() {
    const PASSWORD: &str = "hunter2-of-the-fleet";
    const TOKEN: &str = "a-token-that-nobody-else-may-have";
    const REFRESHED: &str = "an-identity-token-of-the-fleet";
    let login = base64(format!("board:{PASSWORD}").as_bytes());
    let both = image(&["first", "second"]);
    let next = image(&["first", "third"]);
    for credential in [json!({ "auth": login }), json!({ "username": "board", "identitytoken": REFRESHED })] {
        // The token server asks nobody who he is: what it is told is what must not be kept.
        let answer =
            json!({ "token": TOKEN, "access_token": TOKEN, "refresh_token": REFRESHED, "expires_in": 60 });
        let given = Answer::Exactly(
            200,
            vec![("Content-Type", "application/json".into())],
            answer.to_string().into(),
        );
        let tokens = FakeRegistry::serving(&both).at("", vec![given; 100]);
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"x\"", tokens.address());
        let asks = || vec![Answer::Exactly(401, vec![("WWW-Authenticate", realm.clone())], Vec::new())];
        let serve = |app: &Artifact, broken: &str| {
            FakeRegistry::serving(app)
                .at("/v2/", asks())
                .at_manifest(asks())
                .at_blob(broken, vec![Answer::DropAfter(100_000), Answer::status(404)])
        };
        let registry = serve(&both, &both.layer(1));
        let scratch = Scratch::new();
        let auth = private(&scratch, "auth.json", docker_config(registry.address(), credential));
        let encoded = [PASSWORD, TOKEN, REFRESHED].map(|secret| base64(secret.as_bytes()));
        let secrets = [PASSWORD, TOKEN, REFRESHED, &login].map(str::to_owned).into_iter();
        // As base64 has them wherever they begin, but for their ends.
        let secrets = secrets.chain(encoded.map(|text| text.trim_end_matches('=')[4..].to_owned())).collect();
        let watched = Watched { board: Board::armv7(), secrets };
        let deploy = ["--auth-file", &auth, "deploy", "app", &registry.image()];
        // Cut short: what was begun is kept, and so is what is known of it.
        watched.edgepull(&deploy).fails_with(exit::NOT_FOUND);
        let pending = watched.board.beside_state("state/deployments/app/pending");
        assert!(pending.exists(), "nothing was begun");
        watched.edgepull(&deploy).succeeds();
        for words in [&["status"][..], &["--json", "status"], &["update"], &["verify"], &["gc"]] {
            watched.edgepull(words).succeeds();
        }
        let sent = registry
            .requests()
            .iter()
            .any(|one| one.header("authorization").is_some_and(|it| it.contains(TOKEN)));
        assert!(sent && !tokens.requests().is_empty(), "the token was never used");
        // Another registry takes the place; the file knows it not, and yet it asks.
        let other = serve(&next, &next.layer(1));
        watched.edgepull(&["--auth-file", &auth, "deploy", "app", &other.image()]);
    }
}

#[test]
fn a_password_alone_is_not_kept_either() {
    const PASSWORD: &str = "hunter2-of-the-fleet";
    let login = base64(format!("board:{PASSWORD}").as_bytes());
    let app = image(&["first", "second"]);
    let registry = FakeRegistry::serving(&app)
        .wanting_authorization(format!("Basic {login}"))
        .at_blob(&app.layer(1), vec![Answer::DropAfter(100_000), Answer::status(404)]);
    let scratch = Scratch::new();
    let config = docker_config(registry.address(), json!({ "auth": login.clone() }));
    let auth = private(&scratch, "auth.json", config);
    let secrets = vec![PASSWORD.to_owned(), login, base64(PASSWORD.as_bytes())[4..24].to_owned()];
    let watched = Watched { board: Board::armv7(), secrets };
    let deploy = ["--auth-file", &auth, "deploy", "app", &registry.image()];
    watched.edgepull(&deploy).fails_with(exit::NOT_FOUND);
    watched.edgepull(&deploy).succeeds();
    // The wrong one is no less secret.
    private(
        &scratch,
        "auth.json",
        docker_config(registry.address(), json!({ "auth": base64(b"board:wrong-horse") })),
    );
    let wrong = ["wrong-horse".to_owned(), base64(b"board:wrong-horse")];
    let watched = Watched { secrets: [&watched.secrets[..], &wrong].concat(), ..watched };
    watched.edgepull(&deploy).fails_with(exit::AUTH);
    watched.edgepull(&["update"]).fails_with(exit::AUTH);
}

/// Without an option: /etc/edgepull/certs.d and /etc/edgepull/auth.json, in a root of its own.
#[test]
fn what_is_in_etc_is_read() {
    let login = base64(b"board:hunter2");
    let app = image(&["first"]);
    let closed = FakeRegistry::serving(&app).wanting_authorization(format!("Basic {login}"));
    let root = Scratch::new();
    let board = Board::this_machine().run_in(&root);
    let pull = |name: &str, to: &str| board.edgepull(["--platform", "linux/arm/v7", "pull", name, to]);
    pull(&closed.image(), "/one").fails_with(exit::AUTH);
    private(&root, "etc/edgepull/auth.json", docker_config(closed.address(), json!({ "auth": login })));
    pull(&closed.image(), "/one").succeeds();
    // A mirror of a registry that nobody has ever seen.
    let mirror = FakeRegistry::serving(&app);
    let name = format!("registry.invalid/board/app@{}", app.digest());
    let toml = format!("server = \"http://{0}\"\n[host.\"http://{0}\"]\n", mirror.address());
    root.write("etc/edgepull/certs.d/registry.invalid/hosts.toml", toml);
    pull(&name, "/two").succeeds();
    assert!(!mirror.requests().is_empty());
    assert!(root.path("two/first").exists());
}
