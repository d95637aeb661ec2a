//! Closed networks with their real parts: docker-registry as a pull-through cache, tinyproxy, certificates by
//! openssl, helper programs.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::failures::noise;
use crate::harness::*;

/// What must never be seen.
const PASSWORD: &str = "hunter2-of-the-fleet";

/// An image for every board here, with one layer of 4 MB.
fn app() -> Artifact {
    Image::of("linux/arm/v5").layer(Layer::new().file("noise", noise(4_000_000))).build()
}

#[track_caller]
fn assert_whole(scratch: &Scratch, root: &str) {
    let seen = std::fs::read(scratch.path(root).join("noise")).expect("the layer's file");
    assert!(seen == noise(4_000_000), "the file differs");
}

/// `--hosts-dir`: these lines are the `hosts.toml` of `host`.
fn hosts_dir(scratch: &Scratch, host: &str, toml: &str) -> String {
    let directory = host.replace(':', "_") + "_";
    scratch.write(&format!("certs.d/{directory}/hosts.toml"), toml);
    scratch.at("certs.d")
}

/// A mirror for what a digest names.
fn pull_only(mirror: &str) -> String {
    format!("[host.\"http://{mirror}\"]\n  capabilities = [\"pull\"]\n")
}

/// A registry with [`app`]; its name there, and its name by digest.
fn origin(scratch: &Scratch) -> (Registry, String, String) {
    let (registry, app) = (Registry::start(), app());
    let image = registry.push(&app.layout(scratch, "layout"), "board/app:1");
    let by_digest = registry.image(&format!("board/app@{}", app.digest()));
    (registry, image, by_digest)
}

#[test]
fn a_pull_through_cache_goes_on_where_its_upstream_is_off() {
    let scratch = Scratch::new();
    let (origin, image, by_digest) = origin(&scratch);
    let cache = Registry::with().cache_of(&origin).start();
    let hosts = hosts_dir(&scratch, origin.address(), &pull_only(cache.address()));
    let pull = |image: &str, root: &str| {
        Board::armv7().edgepull([
            "-v",
            "--plain-http",
            "--hosts-dir",
            &hosts,
            "pull",
            image,
            &scratch.at(root),
        ])
    };
    pull(&by_digest, "first").succeeds();
    assert_whole(&scratch, "first");
    let asked = |registry: &Registry, what: &str| registry.log().matches(what).count();
    assert!(asked(&cache, "/blobs/sha256:") > 0, "the mirror was not asked:\n{}", cache.log());
    let before = asked(&origin, "/manifests/1");
    pull(&image, "second").succeeds();
    assert!(
        asked(&origin, "/manifests/1") > before && asked(&cache, "/manifests/1") == 0,
        "who was asked for the tag"
    );
    drop(origin);
    pull(&by_digest, "third").succeeds();
    assert_whole(&scratch, "third");
    pull(&image, "fourth").fails_with(exit::NETWORK);
}

#[test]
fn a_deployment_remembers_its_mirrors() {
    let scratch = Scratch::new();
    let (origin, image, _) = origin(&scratch);
    let mirror = Proxy::before(&origin);
    let hosts = hosts_dir(&scratch, origin.address(), &pull_only(mirror.image("").trim_end_matches('/')));
    let board = Board::armv7();
    board.edgepull(["--plain-http", "--hosts-dir", &hosts, "deploy", "app", &image]).succeeds();
    let first = mirror.asked().len();
    assert!(first > 0, "the mirror was not asked");
    let next = Image::of("linux/arm/v5").layer(Layer::new().file("noise", noise(1000))).build();
    origin.push(&next.layout(&scratch, "next"), "board/app:1");
    board.edgepull(["update", "app"]).succeeds();
    assert!(mirror.asked().len() > first, "update has forgotten the mirror");
    assert!(mirror.asked().iter().all(|asked| asked.path.contains("sha256:")), "{:?}", mirror.asked());
}

#[test]
fn a_mirror_that_lies_about_a_tag_is_not_asked() {
    let scratch = Scratch::new();
    let (origin, image, _) = origin(&scratch);
    let other = Image::of("linux/arm/v5").layer(Layer::new().file("evil", "evil")).build();
    let liar = FakeRegistry::serving(&other);
    let hosts = hosts_dir(&scratch, origin.address(), &pull_only(liar.address()));
    Board::armv7()
        .edgepull(["--plain-http", "--hosts-dir", &hosts, "pull", &image, &scratch.at("root")])
        .succeeds();
    assert_whole(&scratch, "root");
    let asked = liar.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request.path.contains("sha256:")), "{asked:?}");
}

#[test]
fn a_mirror_that_dies_in_a_blob_is_followed_by_the_registry() {
    let scratch = Scratch::new();
    let (origin, image, _) = origin(&scratch);
    let layer = app().layer(0);
    let mirror = Proxy::before(&origin)
        .times(1, Place::Blob(layer.clone()), Fault::InBody(2_000_000, End::Closed))
        .always(Place::Blob(layer.clone()), Fault::NoAnswer(End::Reset));
    let own = Proxy::before(&origin);
    let hosts = hosts_dir(
        &scratch,
        origin.address(),
        &format!(
            "server = \"http://{}\"\n{}",
            own.image("").trim_end_matches('/'),
            pull_only(mirror.image("").trim_end_matches('/'))
        ),
    );
    Board::armv7()
        .edgepull(["--plain-http", "--hosts-dir", &hosts, "pull", &image, &scratch.at("root")])
        .succeeds()
        .saying("is left out");
    assert_whole(&scratch, "root");
    let ranges: Vec<_> = own.asked_for(&layer);
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(ranges[0].range.starts_with("bytes=2000000-"), "{ranges:?}");
}

#[test]
fn wrong_bytes_of_a_mirror_are_fetched_again_elsewhere() {
    let scratch = Scratch::new();
    let (origin, image, by_digest) = origin(&scratch);
    let mirror = Proxy::before(&origin).always(Place::Blobs, Fault::Corrupt(50));
    let hosts = hosts_dir(&scratch, origin.address(), &pull_only(mirror.image("").trim_end_matches('/')));
    let pull = |image: &str, root: &str| {
        Board::armv7().edgepull(["--plain-http", "--hosts-dir", &hosts, "pull", image, &scratch.at(root)])
    };
    pull(&image, "root").succeeds().saying("it has given wrong bytes");
    assert_whole(&scratch, "root");
    drop(origin);
    // Nobody else is there.
    pull(&by_digest, "gone").fails_with(exit::NETWORK);
    assert!(!scratch.path("gone").exists());
}

/// A running tinyproxy on a free port of this machine.
struct Tinyproxy {
    process: Child,
    address: String,
    scratch: Scratch,
}

impl Tinyproxy {
    fn start(more: &str) -> Tinyproxy {
        let scratch = Scratch::new();
        // tinyproxy takes no port of the kernel's choice.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let log = scratch.at("log");
        let config =
            format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile \"{log}\"\nLogLevel Info\n{more}\n");
        let config = scratch.write("tinyproxy.conf", config);
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "tinyproxy", "-d", "-c", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv, of util-linux");
        let address = format!("127.0.0.1:{port}");
        let patience = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < patience, "tinyproxy does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Tinyproxy { process, address, scratch }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).expect("the proxy's log")
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn by_a_real_proxy_with_and_without_a_password() {
    let Some(own) = own_address() else { return println!("skipped: this machine has only a loopback") };
    let (app, authority) = (app(), Authority::new());
    let (plain, secure) = (
        FakeRegistry::serving_at(&own.to_string(), &app),
        FakeRegistry::serving_with_tls_at(&own.to_string(), &app, &authority),
    );
    let (open, closed) = (Tinyproxy::start(""), Tinyproxy::start(&format!("BasicAuth board {PASSWORD}")));
    let pull = |variable: &str, value: &str, no_proxy: &str, secured: bool| {
        let scratch = Scratch::new();
        let ca = authority.ca_file();
        let (how, image): (&[&str], _) =
            if secured { (&["--ca-file", &ca], secure.image()) } else { (&["--plain-http"], plain.image()) };
        let root = scratch.at("root");
        let outcome = Board::armv7()
            .with_env(variable, value)
            .with_env("NO_PROXY", no_proxy)
            .edgepull([&["-vv"], how, &["pull", &image, &root]].concat());
        if outcome.code() == 0 {
            assert_whole(&scratch, "root");
        }
        outcome.without_saying(PASSWORD)
    };
    let with_password = format!("http://board:{PASSWORD}@{}", closed.address);
    for (secured, upper) in [(true, "HTTPS_PROXY"), (false, "HTTP_PROXY")] {
        let lower = upper.to_lowercase();
        let before = open.log().len();
        pull(upper, &open.address, "", secured).succeeds();
        let seen = open.log()[before..].to_owned();
        let expected = if secured { "CONNECT" } else { "GET http://" };
        assert!(seen.contains(expected), "no {expected} in the proxy's log:\n{seen}");
        pull(&lower, &with_password, "", secured).succeeds();
        let address = format!("http://{}", closed.address);
        pull(upper, &address, "", secured).fails_with(exit::AUTH).saying("407");
        pull(upper, &address, &own.to_string(), secured).succeeds();
        pull(upper, &format!("socks5://x:{PASSWORD}@127.0.0.1:1"), "", secured)
            .fails_with(exit::USAGE)
            .saying("socks5");
        // Nobody listens there: the error names the proxy.
        pull(upper, &format!("http://x:{PASSWORD}@127.0.0.1:1"), "", secured)
            .fails_with(exit::NETWORK)
            .saying("by the proxy 127.0.0.1:1");
    }
    let filtered = Tinyproxy::start("ConnectPort 443");
    pull("HTTPS_PROXY", &filtered.address, "", true).fails_with(exit::NETWORK).saying("does not connect to");
}

#[test]
fn a_client_certificate_opens_a_registry() {
    let authority = Authority::new();
    let clients = Authority::with_rsa();
    let registry = Registry::with().tls(&authority).clients_of(&clients).start();
    let image = registry.image("board/app:1");
    let pull = |board: Board, hosts: &str| {
        let scratch = Scratch::new();
        let root = scratch.at("root");
        board.edgepull(["-vv", "--hosts-dir", hosts, "pull", &image, &root])
    };
    for kind in [
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-newkey", "rsa:2048"],
    ] {
        let (certificate, key) = clients.client(kind);
        let scratch = Scratch::new();
        let directory = registry.address().replace(':', "_") + "_";
        let at = |name: &str| format!("certs.d/{directory}/{name}");
        scratch.write(&at("ca.crt"), authority.ca());
        let hosts = scratch.at("certs.d");
        // The registry is empty: who is let in hears that there is no such image.
        pull(Board::armv7(), &hosts).fails_with(exit::AUTH).saying("client certificates are");
        let key_file = scratch.write(&at("board.key"), &key);
        scratch.write(&at("board.cert"), &certificate);
        pull(Board::armv7(), &hosts).fails_with(exit::NOT_FOUND).saying("chmod 600");
        std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o600)).expect("a mode");
        pull(Board::armv7(), &hosts).fails_with(exit::NOT_FOUND).without_saying("chmod");
        // The same by hosts.toml, certificate and key in one file.
        std::fs::remove_file(&key_file).expect("the key");
        scratch.write(&at("both.pem"), format!("{certificate}{key}"));
        let toml =
            format!("server = \"https://{}\"\nca = \"ca.crt\"\nclient = \"both.pem\"\n", registry.address());
        scratch.write(&at("hosts.toml"), toml);
        pull(Board::armv7(), &hosts).fails_with(exit::NOT_FOUND);
        // And as systemd credentials.
        let named = |what: &str| format!("credentials/edgepull.{directory}.{what}");
        scratch.write(&named("ca.crt"), authority.ca());
        scratch.write(&named("client.cert"), &certificate);
        scratch.write(&named("client.key"), &key);
        scratch.write("empty/README", "");
        let board = Board::armv7().with_env("CREDENTIALS_DIRECTORY", &scratch.at("credentials"));
        pull(board, &scratch.at("empty")).fails_with(exit::NOT_FOUND);
        // Another certificate's key.
        let (_, other) = clients.client(kind);
        scratch.write(&named("client.key"), &other);
        let board = Board::armv7().with_env("CREDENTIALS_DIRECTORY", &scratch.at("credentials"));
        pull(board, &scratch.at("empty")).fails_with(exit::USAGE).saying("not the certificate's key");
    }
}

/// A `docker-credential-test` in a folder of its own, and the PATH that finds it.
fn helper(scratch: &Scratch, script: &str) -> String {
    let program = scratch.write("bin/docker-credential-test", format!("#!/bin/sh\n{script}"));
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).expect("a mode");
    format!("{}:{}", scratch.at("bin"), std::env::var("PATH").expect("a PATH"))
}

#[test]
fn a_helper_program_has_the_credentials() {
    let app = app();
    let login = base64(format!("board:{PASSWORD}").as_bytes());
    let registry = FakeRegistry::serving(&app).wanting_authorization(format!("Basic {login}"));
    let pull = |scratch: &Scratch, config: serde_json::Value, script: &str| {
        let config = scratch.write("auth.json", config.to_string());
        std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).expect("a mode");
        Board::armv7()
            .with_env("PATH", &helper(scratch, script))
            .edgepull(["-vv", "--auth-file", &config, "pull", &registry.image(), &scratch.at("root")])
            .without_saying(PASSWORD)
            .without_saying(&login)
    };
    let host = registry.address();
    for config in
        [json!({ "credHelpers": { host: "test" } }), json!({ "credsStore": "test", "auths": { host: {} } })]
    {
        let scratch = Scratch::new();
        let (seen, lines) = (scratch.at("asked"), scratch.at("lines"));
        let script = format!(
            "echo \"$*\" $(cat) >> {seen}\ncat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> {lines}\n\
             printf '{{\"ServerURL\":\"x\",\"Username\":\"board\",\"Secret\":\"{PASSWORD}\"}}'\n\
             echo {PASSWORD} >&2"
        );
        pull(&scratch, config, &script).succeeds();
        assert_whole(&scratch, "root");
        let asked = std::fs::read_to_string(&seen).expect("what the helper was asked");
        assert_eq!(asked, format!("get {host}\n"), "once, and before the first request");
        assert!(!std::fs::read_to_string(&lines).expect("command lines").contains(PASSWORD));
    }
    let scratch = Scratch::new();
    let config = json!({ "credHelpers": { host: "test" } });
    pull(&scratch, config.clone(), "echo 'credentials not found in native keychain'; exit 1")
        .fails_with(exit::AUTH)
        .saying("docker-credential-test of");
    pull(&scratch, config.clone(), &format!("echo {PASSWORD}; echo {PASSWORD} >&2; exit 3"))
        .fails_with(exit::USAGE)
        .saying("exit status: 3")
        .saying("try it by hand");
    pull(&scratch, config, &format!("head -c 100000 /dev/zero; echo {PASSWORD}; sleep 60"))
        .fails_with(exit::USAGE)
        .saying("ANSWER_MAX");
}

#[test]
fn a_helper_that_fails_matters_only_where_it_is_needed() {
    let scratch = Scratch::new();
    let registry = FakeRegistry::serving(&app());
    let config = scratch.write("auth.json", json!({ "credsStore": "nobody-here" }).to_string());
    Board::armv7()
        .edgepull(["--auth-file", &config, "pull", &registry.image(), &scratch.at("root")])
        .succeeds();
    assert_whole(&scratch, "root");
}

#[test]
fn systemd_credentials_and_files_that_everybody_can_read() {
    let app = app();
    let login = base64(format!("board:{PASSWORD}").as_bytes());
    let registry = FakeRegistry::serving(&app).wanting_authorization(format!("Basic {login}"));
    let scratch = Scratch::new();
    // A file before it that has something for another host only does not end the search.
    scratch.write("docker/config.json", docker_config("other.example", json!({ "auth": login })));
    let file = scratch
        .write("credentials/edgepull.auth.json", docker_config(registry.address(), json!({ "auth": login })));
    let pull = |root: &str| {
        Board::armv7()
            .with_env("REGISTRY_AUTH_FILE", &scratch.at("docker/config.json"))
            .with_env("CREDENTIALS_DIRECTORY", &scratch.at("credentials"))
            .edgepull(["pull", &registry.image(), &scratch.at(root)])
            .succeeds()
            .without_saying(&login)
    };
    let warned = pull("first").stderr();
    assert_eq!(warned.matches(&format!("chmod 600 {file}")).count(), 1, "{warned}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).expect("a mode");
    pull("second").without_saying(&format!("chmod 600 {file}"));
    assert_whole(&scratch, "second");
}

/// However slow the machine is, a limited pull takes at least as long as its bytes are worth.
#[test]
fn a_limited_pull_takes_its_time() {
    const RATE: u32 = 100 << 10;
    let size = 400_000;
    let app = Image::of("linux/arm/v5").layer(Layer::new().file("noise", noise(size))).build();
    let registry = FakeRegistry::serving(&app);
    let scratch = Scratch::new();
    let (image, root, least) =
        (registry.image(), scratch.at("root"), Duration::from_secs_f64(size as f64 / f64::from(RATE) - 1.0));
    for (board, words) in [
        (Board::armv7(), &["--limit-rate", "100k", "pull", &image, &root][..]),
        (Board::armv7(), &["--limit-rate", "102400", "deploy", "app", &image]),
    ] {
        let begun = Instant::now();
        board.edgepull(words.iter().copied()).succeeds();
        assert!(begun.elapsed() >= least, "{words:?} took {:?}, not {least:?}", begun.elapsed());
    }
}

/// A name that is not known yet, as before the network of a board is up.
#[test]
fn the_network_is_waited_for() {
    let registry = FakeRegistry::serving(&app());
    let scratch = Scratch::new();
    let hosts = scratch.write("hosts", "127.0.0.1 localhost\n");
    let port = registry.address().rsplit_once(':').expect("a port").1;
    let (image, root) = (format!("registry.test:{port}/board/app:1"), scratch.at("root"));
    let words = ["-v", "--plain-http", "--wait-online", "600", "pull", &image, &root];
    let board = Board::armv7().with_hosts_file(&hosts);
    board.edgepull([&words[..2], &words[4..]].concat()).fails_with(exit::NETWORK);
    assert!(registry.requests().is_empty());
    let log = std::fs::File::create(scratch.path("log")).expect("a file");
    let mut edgepull = board.command(words).stdout(Stdio::null()).stderr(log).spawn().expect("edgepull");
    // More often than without the option it would have tried.
    let waited =
        || std::fs::read_to_string(scratch.path("log")).expect("the log").matches("waiting for").count();
    while waited() < 4 {
        assert_eq!(edgepull.try_wait().expect("a child"), None, "it has given up");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(&hosts, "127.0.0.1 localhost registry.test\n").expect("a file");
    assert!(edgepull.wait().expect("its end").success());
    assert_whole(&scratch, "root");
}

/// Who writes the names of a network that has come up puts new files into the places of the old ones; what fetches, which
/// reads little, is to see them.
#[test]
fn names_are_found_in_files_that_are_written_anew() {
    let registry = FakeRegistry::serving(&app());
    let scratch = Scratch::new();
    scratch.write("etc/nsswitch.conf", "hosts: files\n");
    scratch.write("etc/hosts", "127.0.0.1 localhost\n");
    let port = registry.address().rsplit_once(':').expect("a port").1;
    let (image, root) = (format!("registry.test:{port}/board/app:1"), scratch.at("root"));
    let log = std::fs::File::create(scratch.path("log")).expect("a file");
    let mut edgepull = Board::armv7()
        .with_etc(&scratch.at("etc"))
        .command(["-v", "--plain-http", "--wait-online", "600", "pull", &image, &root])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("edgepull");
    while !std::fs::read_to_string(scratch.path("log")).expect("the log").contains("waiting for") {
        assert_eq!(edgepull.try_wait().expect("a child"), None, "it has given up");
        std::thread::sleep(Duration::from_millis(20));
    }
    let new = scratch.write("etc/hosts.new", "127.0.0.1 localhost registry.test\n");
    std::fs::rename(new, scratch.path("etc/hosts")).expect("a new file in its place");
    assert!(edgepull.wait().expect("its end").success());
    assert_whole(&scratch, "root");
}
