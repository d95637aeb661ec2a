//! Registries that let in whom they know.

use super::*;

#[test]
fn with_a_password_from_docker_login_or_from_the_command_line() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let registry = Registry::with().tls(&authority).basic_auth(&scratch, "board", "secret word").start();
    let ca = authority.ca_file();
    let name = registry.image("board/app:1");
    let stranger = publisher(&scratch);
    stranger.edgepull(["--ca-file", &ca, "copy", HELLO, &name]).fails_with(exit::AUTH).saying("docker login");
    let given = ["--username", "board", "--password", "secret word", "--ca-file", &ca];
    stranger.edgepull([&given[..], &["copy", HELLO, &name]].concat()).succeeds();
    let auth = base64(b"board:secret word");
    let config = docker_config(registry.address(), serde_json::json!({ "auth": auth }));
    let config = scratch.write("docker/config.json", config);
    // manifest-tool's options for the same.
    for place in [&config, &scratch.at("docker")] {
        let target = registry.image("board/app:all");
        let args = [
            "--docker-cfg",
            place,
            "--ca-file",
            &ca,
            "manifest",
            "push",
            "from-args",
            "--platforms",
            "linux/arm/v6",
        ];
        stranger.edgepull([&args[..], &["--template", &name, "--target", &target]].concat()).succeeds();
    }
    let list = registry.image("board/app:mine");
    let known = publisher(&scratch).with_env("DOCKER_CONFIG", &scratch.at("docker"));
    known.edgepull(["--ca-file", &ca, "manifest", "create", &list, &name]).succeeds();
    let said = known.edgepull(["-vv", "--ca-file", &ca, "manifest", "push", &list]).succeeds();
    said.without_saying("secret word").without_saying(&auth);
}

#[test]
fn with_tokens_that_are_for_one_repository_each() {
    let (scratch, tokens) = (Scratch::new(), TokenServer::start());
    let registry = Registry::with().tokens_of(&tokens).start();
    let (from, to) = (registry.image("private/app:1"), registry.image("other/app:1"));
    let login = ["--username", TokenServer::USER, "--password", TokenServer::PASSWORD];
    let edgepull = publisher(&scratch);
    edgepull.edgepull(["copy", HELLO, &from]).fails_with(exit::AUTH);
    edgepull.edgepull([&login[..], &["copy", HELLO, &from]].concat()).succeeds();
    // A mount needs the right to read there and to write here.
    let outcome = edgepull.edgepull([&login[..], &["--json", "copy", &from, &to]].concat()).succeeds();
    let last: Value = serde_json::from_str(outcome.stdout().lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["sent"], &last["mounted"]), (&0.into(), &10.into()), "{last}");
    let asked = tokens.asked().join("\n");
    // In either order: it is the registry's challenge that names them, and it keeps them in a map.
    let rights = ["pull%2Cpush", "push%2Cpull", "pull,push", "push,pull"];
    let is_asked = |right: &&str| {
        asked.contains(&format!("repository%3Aother%2Fapp%3A{right}"))
            || asked.contains(&format!("repository:other/app:{right}"))
    };
    assert!(rights.iter().any(is_asked), "{asked}");
}

#[test]
fn a_registry_without_tls_is_spoken_to_if_that_is_said() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let (_, port) = registry.address().split_once(':').expect("a port");
    // By a name of its own: a loopback address is tried without TLS by itself.
    let edgepull = publisher(&scratch).with_hosts_file(&scratch.write("hosts", "127.0.0.1 registry.test\n"));
    let name = format!("registry.test:{port}/board/app:1");
    edgepull.edgepull(["copy", HELLO, &name]).fails_with(exit::NETWORK).saying("TLS");
    edgepull.edgepull(["copy", "--insecure", HELLO, &name]).succeeds();
    edgepull
        .edgepull(["inspect", "--insecure", "--raw", &name])
        .says_only(&raw(&registry.image("board/app:1")));
}
