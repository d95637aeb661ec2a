//! Pulling from Debian's docker-registry, behind every kind of door that it has.

use serde_json::json;

use crate::harness::*;

/// Pulls onto a v6 board with these options, and sees that the right program is there.
#[track_caller]
fn pulls(board: &Board, options: &[&str], image: &str) {
    let scratch = Scratch::new();
    board.edgepull([options, &["pull", image, &scratch.at("root")]].concat()).succeeds();
    let hello = std::fs::read(scratch.path("root/hello")).expect("the program");
    assert!(hello == program("v6"), "another program than v6");
}

#[track_caller]
fn refused(board: &Board, options: &[&str], image: &str, code: i32) -> Outcome {
    let scratch = Scratch::new();
    let outcome = board.edgepull([options, &["pull", image, &scratch.at("root")]].concat()).fails_with(code);
    assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
    outcome
}

/// A folder with a Docker `config.json` of one entry, for `DOCKER_CONFIG`.
fn logged_in(scratch: &Scratch, registry: &Registry, user: &str, password: &str) -> String {
    let auth = base64(format!("{user}:{password}").as_bytes());
    scratch.write("docker/config.json", docker_config(registry.address(), json!({ "auth": auth })));
    scratch.at("docker")
}

#[test]
fn without_tls_by_tag_and_by_digest() {
    let registry = Registry::start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    pulls(&Board::armv6(), &[], &image);
    pulls(&Board::armv6(), &["--plain-http"], &image);
    let raw = Board::armv6().edgepull(["inspect", "--raw", &image]).succeeds().stdout();
    let digest = digest_of(raw.as_bytes());
    pulls(&Board::armv6(), &[], &registry.image(&format!("board/hello@{digest}")));
    pulls(&Board::armv6(), &[], &registry.image(&format!("board/hello:1.0@{digest}")));
    let told = Board::armv6().edgepull(["--json", "inspect", &image]).succeeds().stdout();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let entries = told["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 5);
    assert!(entries.iter().all(|entry| entry["config"]["entrypoint"][0] == "/hello"), "{told}");
}

#[test]
fn an_unknown_tag_and_an_unknown_name_are_not_found() {
    let registry = Registry::start();
    registry.push(HELLO_LAYOUT, "board/hello:1.0");
    refused(&Board::armv6(), &[], &registry.image("board/hello:2.0"), exit::NOT_FOUND).saying("2.0");
    refused(&Board::armv6(), &[], &registry.image("board/bye:1.0"), exit::NOT_FOUND);
    let nothing = digest_of(b"nothing");
    refused(&Board::armv6(), &[], &registry.image(&format!("board/hello@{nothing}")), exit::NOT_FOUND);
}

#[test]
fn with_tls_and_a_private_authority() {
    let authority = Authority::new();
    let registry = Registry::with().tls(&authority).start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    pulls(&Board::armv6(), &["--ca-file", &authority.ca_file()], &image);
    let by_name = image.replace("127.0.0.1", "localhost");
    pulls(&Board::armv6(), &["--ca-file", &authority.ca_file()], &by_name);
}

#[test]
fn a_certificate_of_another_authority_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let registry = Registry::with().tls(&authority).start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    refused(&Board::armv6(), &["--ca-file", &stranger.ca_file()], &image, exit::NETWORK);
    refused(&Board::armv6(), &[], &image, exit::NETWORK);
}

#[test]
fn behind_a_password() {
    let scratch = Scratch::new();
    let registry = Registry::with().basic_auth(&scratch, "board", "correct horse").start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");

    refused(&Board::armv6(), &[], &image, exit::AUTH);
    let wrong = logged_in(&scratch, &registry, "board", "wrong");
    refused(&Board::armv6().with_env("DOCKER_CONFIG", &wrong), &[], &image, exit::AUTH)
        .without_saying("wrong:");

    let right = logged_in(&scratch, &registry, "board", "correct horse");
    pulls(&Board::armv6().with_env("DOCKER_CONFIG", &right), &[], &image);
    let file = format!("{right}/config.json");
    pulls(&Board::armv6().with_env("REGISTRY_AUTH_FILE", &file), &[], &image);
}

#[test]
fn a_password_is_for_its_registry_only() {
    let scratch = Scratch::new();
    let registry = Registry::with().basic_auth(&scratch, "board", "correct horse").start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    let auth = base64(b"board:correct horse");
    scratch.write("docker/config.json", docker_config("registry.example.org", json!({ "auth": auth })));
    let board = Board::armv6().with_env("DOCKER_CONFIG", &scratch.at("docker"));
    refused(&board, &[], &image, exit::AUTH);
}

#[test]
fn behind_a_token_server_for_anybody() {
    let tokens = TokenServer::start();
    let registry = Registry::with().tokens_of(&tokens).start();
    let image = registry.push(HELLO_LAYOUT, "public/hello:1.0");
    let before = tokens.asked().len();
    pulls(&Board::armv6(), &[], &image);
    let asked = tokens.asked()[before..].to_vec();
    assert!(!asked.is_empty(), "the token server was not asked");
    for request in &asked {
        assert!(request.contains("service=board-registry"), "{request}");
        assert!(request.contains("public") && request.contains("pull"), "{request}");
    }
}

#[test]
fn behind_a_token_server_with_a_password() {
    let (scratch, tokens) = (Scratch::new(), TokenServer::start());
    let registry = Registry::with().tokens_of(&tokens).start();
    let image = registry.push(HELLO_LAYOUT, "private/hello:1.0");

    refused(&Board::armv6(), &[], &image, exit::AUTH);
    let wrong = logged_in(&scratch, &registry, TokenServer::USER, "wrong");
    refused(&Board::armv6().with_env("DOCKER_CONFIG", &wrong), &[], &image, exit::AUTH);
    let right = logged_in(&scratch, &registry, TokenServer::USER, TokenServer::PASSWORD);
    pulls(&Board::armv6().with_env("DOCKER_CONFIG", &right), &[], &image);
}

#[test]
fn behind_a_token_server_with_an_identity_token() {
    let (scratch, tokens) = (Scratch::new(), TokenServer::start());
    let registry = Registry::with().tokens_of(&tokens).start();
    let image = registry.push(HELLO_LAYOUT, "private/hello:1.0");
    let before = tokens.asked().len();

    let entry = json!({ "auth": base64(b"00000000-0000-0000-0000-000000000000:"),
        "identitytoken": TokenServer::IDENTITY });
    scratch.write("docker/config.json", docker_config(registry.address(), entry));
    pulls(&Board::armv6().with_env("DOCKER_CONFIG", &scratch.at("docker")), &[], &image);
    let asked = tokens.asked()[before..].to_vec();
    assert!(
        asked.iter().any(|r| r.starts_with("POST") && r.contains("grant_type=refresh_token")),
        "{asked:?}"
    );
}

#[test]
fn a_pull_asks_for_each_blob_once() {
    let registry = Registry::start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    let pushed = registry.log().matches("\"GET /v2/").count();
    pulls(&Board::armv6(), &[], &image);
    let asked = registry.log().matches("\"GET /v2/").count() - pushed;
    // At most: the protocol's version, the index, the manifest, the config, the layer.
    assert!(asked <= 5, "{asked} requests:\n{}", registry.log());
}
