//! What may go wrong between a registry and a board, one scripted wrong answer at a time.

use crate::harness::*;

/// Bytes that no compressor makes small, so that a layer of them takes many reads.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

/// An image for every board here, with one layer of about 300 KB.
fn app() -> Artifact {
    Image::of("linux/arm/v5").layer(Layer::new().file("noise", noise(300_000))).build()
}

/// Pulls onto a v7 board, into the scratch's folder `root`.
fn pull(image: &str, scratch: &Scratch) -> Outcome {
    Board::armv7().edgepull(["pull", image, &scratch.at("root")])
}

#[track_caller]
fn assert_whole(scratch: &Scratch) {
    let seen = std::fs::read(scratch.path("root/noise")).expect("the layer's file");
    assert!(seen == noise(300_000), "the file differs");
}

/// Pulls, expects this exit code, and sees that nothing is left behind.
#[track_caller]
fn pull_fails(registry: &FakeRegistry, code: i32) -> Outcome {
    let scratch = Scratch::new();
    let outcome = pull(&registry.image(), &scratch).fails_with(code);
    assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
    outcome
}

#[test]
fn a_dropped_connection_continues_where_it_ended() {
    let app = app();
    let layer = app.layer(0);
    let registry = FakeRegistry::serving(&app)
        .at_blob(&layer, [Answer::DropAfter(100_000), Answer::DropAfter(50_000), Answer::Honest]);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
    let (ranges, size) = (registry.ranges_of(&layer), app.blobs[&layer].len());
    let last = size - 1;
    assert_eq!(ranges, ["-".to_owned(), format!("bytes=100000-{last}"), format!("bytes=150000-{last}")]);
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_start() {
    let app = app();
    let layer = app.layer(0);
    let registry =
        FakeRegistry::serving(&app).at_blob(&layer, [Answer::DropAfter(100_000), Answer::IgnoreRange]);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
}

#[test]
fn another_range_than_asked_for_is_never_used() {
    let app = app();
    let layer = app.layer(0);
    let answers = [Answer::DropAfter(100_000), Answer::RangeEarlierBy(10_000)];
    let registry = FakeRegistry::serving(&app).at_blob(&layer, answers);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
    // What was asked for after that had to be asked for: none of the wrong bytes has counted.
    let after = registry.ranges_of(&layer).split_off(2).join(" ");
    assert!(after.starts_with("bytes=100000-") || after.starts_with('-'), "asked for {after:?}");
}

#[test]
fn too_many_requests_are_followed_by_a_pause_and_another_try() {
    let app = app();
    let busy = Answer::Exactly(429, vec![("Retry-After", "1".into())], Vec::new());
    let registry = FakeRegistry::serving(&app)
        .at_manifest([busy.clone()])
        .at_blob(&app.layer(0), [busy, Answer::status(503), Answer::Honest]);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
}

#[test]
fn a_server_that_is_down_for_good_is_given_up() {
    let app = app();
    let registry = FakeRegistry::serving(&app).at_blob(&app.layer(0), vec![Answer::status(502); 100]);
    pull_fails(&registry, exit::NETWORK).saying("502");
    let tries = registry.ranges_of(&app.layer(0)).len();
    assert!((2..20).contains(&tries), "{tries} tries");
}

#[test]
fn a_redirect_to_another_host_takes_no_credentials_along() {
    let app = app();
    let storage = FakeRegistry::serving_at("127.0.0.2", &app);
    let login = base64(b"board:secret");
    let registry = FakeRegistry::serving(&app)
        .wanting_authorization(format!("Basic {login}"))
        .at_blob(&app.layer(0), [Answer::Redirect(storage.blob_url(&app.layer(0)))]);
    let scratch = Scratch::new();
    let config = docker_config(registry.address(), serde_json::json!({ "auth": login }));
    scratch.write("docker/config.json", config);
    Board::armv7()
        .with_env("DOCKER_CONFIG", &scratch.at("docker"))
        .edgepull(["pull", &registry.image(), &scratch.at("root")])
        .succeeds();
    assert_whole(&scratch);
    let asked = storage.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("authorization"), None, "the storage host was sent the credentials");
    let own = registry.requests();
    assert!(own.iter().any(|r| r.header("authorization").is_some()), "the registry was not: {own:?}");
}

#[test]
fn a_dropped_connection_behind_a_redirect_asks_the_registry_again() {
    let app = app();
    let layer = app.layer(0);
    // Signed addresses expire: the second time the registry may well name another.
    let storage = FakeRegistry::serving_at("127.0.0.2", &app).at_blob(&layer, [Answer::DropAfter(100_000)]);
    let url = storage.blob_url(&layer);
    let registry =
        FakeRegistry::serving(&app).at_blob(&layer, [Answer::Redirect(url.clone()), Answer::Redirect(url)]);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
    assert_eq!(registry.ranges_of(&layer).len(), 2);
    assert_eq!(storage.ranges_of(&layer).len(), 2);
}

#[test]
fn a_foreign_layer_comes_from_its_own_address() {
    let app = app();
    let layer = app.layer(0);
    let elsewhere = FakeRegistry::serving_at("127.0.0.2", &app);
    let url = elsewhere.blob_url(&layer);
    let foreign = app.with_manifest(|manifest| {
        let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        manifest["layers"][0]["mediaType"] = kind.into();
        manifest["layers"][0]["urls"] = serde_json::json!([url]);
    });
    // The registry itself does not have it, as none has that keeps to the licence.
    let registry = FakeRegistry::serving(&foreign).at_blob(&layer, vec![Answer::status(404); 100]);
    let scratch = Scratch::new();
    pull(&registry.image(), &scratch).succeeds();
    assert_whole(&scratch);
    assert_eq!(elsewhere.ranges_of(&layer).len(), 1);
}

#[test]
fn redirects_in_a_circle_are_left() {
    let app = app();
    let registry = FakeRegistry::serving(&app);
    let here = registry.blob_url(&app.layer(0));
    let registry = registry.at_blob(&app.layer(0), vec![Answer::Redirect(here); 100]);
    pull_fails(&registry, exit::NETWORK).saying("redirect");
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let (app, authority) = (app(), Authority::new());
    let plain = FakeRegistry::serving_at("127.0.0.2", &app);
    let registry = FakeRegistry::serving_with_tls(&app, &authority)
        .at_blob(&app.layer(0), vec![Answer::Redirect(plain.blob_url(&app.layer(0))); 100]);
    let scratch = Scratch::new();
    Board::armv7()
        .edgepull(["--ca-file", &authority.ca_file(), "pull", &registry.image(), &scratch.at("root")])
        .fails_with(exit::NETWORK);
    assert!(plain.requests().is_empty(), "asked without TLS: {:?}", plain.requests());
}

#[test]
fn a_layer_of_other_bytes_is_refused() {
    let app = app();
    let layer = app.layer(0);
    let mut other = app.blobs[&layer].clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let registry = FakeRegistry::serving(&app.with_blob(&layer, other));
    let scratch = Scratch::new();
    let outcome = pull(&registry.image(), &scratch);
    outcome.fails_with(exit::VERIFICATION).saying(&layer[..19]);
    assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
}

#[test]
fn a_layer_that_decodes_well_but_has_another_digest_is_refused() {
    let app = app();
    let other = gzip(&Layer::new().file("other", noise(300_000)).tar());
    let layer = app.layer(0);
    pull_fails(&FakeRegistry::serving(&app.with_blob(&layer, other)), exit::VERIFICATION);
}

#[test]
fn a_layer_that_is_too_short_or_too_long_is_refused() {
    let app = app();
    let layer = app.layer(0);
    let whole = app.blobs[&layer].clone();
    let short = whole[..whole.len() - 1000].to_vec();
    let scratch = Scratch::new();
    let registry = FakeRegistry::serving(&app.clone().with_blob(&layer, short));
    let code = pull(&registry.image(), &scratch).code();
    assert!([exit::VERIFICATION, exit::NETWORK].contains(&code), "exit code {code}");
    assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
    let long = [whole, noise(1000)].concat();
    pull_fails(&FakeRegistry::serving(&app.with_blob(&layer, long)), exit::VERIFICATION);
}

#[test]
fn a_layer_whose_tar_is_not_the_one_of_the_config_is_refused() {
    let app = app();
    let mut config: serde_json::Value =
        serde_json::from_slice(&app.blobs[app.manifest()["config"]["digest"].as_str().expect("a config")])
            .expect("JSON");
    config["rootfs"]["diff_ids"][0] = digest_of(b"something else").into();
    let data = config.to_string().into_bytes();
    let lying = app.with_blob(&digest_of(&data), data.clone()).with_manifest(|manifest| {
        manifest["config"]["digest"] = digest_of(&data).into();
        manifest["config"]["size"] = data.len().into();
    });
    pull_fails(&FakeRegistry::serving(&lying), exit::VERIFICATION);
}

#[test]
fn a_manifest_of_other_bytes_is_refused() {
    let app = app();
    let pinned = app.digest().to_owned();
    let other = Image::of("linux/arm/v5").layer(Layer::new().file("other", "other")).build();
    let manifest = other.blobs[other.digest()].clone();
    let registry = FakeRegistry::serving(&app.with_blob(&pinned, manifest));
    let scratch = Scratch::new();
    let image = format!("{}/board/app@{pinned}", registry.address());
    pull(&image, &scratch).fails_with(exit::VERIFICATION);
    assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
}

#[test]
fn a_manifest_beyond_four_mebibytes_is_refused() {
    let app = app().with_manifest(|manifest| {
        manifest["annotations"] = serde_json::json!({ "padding": "x".repeat(5 << 20) });
    });
    pull_fails(&FakeRegistry::serving(&app), exit::BAD_IMAGE).saying("4 MiB");
}

#[test]
fn a_manifest_of_schema_1_is_refused_by_its_name() {
    let app = app().with_manifest(|manifest| {
        *manifest = serde_json::json!({
            "schemaVersion": 1,
            "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "name": "board/app", "tag": "latest", "architecture": "arm", "fsLayers": [], "history": [],
        });
    });
    pull_fails(&FakeRegistry::serving(&app), exit::BAD_IMAGE).saying("schema 1");
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let app = app();
    let registry = FakeRegistry::serving(&app).at_manifest(vec![Answer::status(404); 100]);
    pull_fails(&registry, exit::NOT_FOUND);
    let layer = app.layer(0);
    pull_fails(&FakeRegistry::serving(&app).at_blob(&layer, vec![Answer::status(404); 100]), exit::NOT_FOUND);
}

#[test]
fn a_port_where_nobody_listens_is_a_network_failure() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let scratch = Scratch::new();
    pull(&format!("{address}/board/app"), &scratch).fails_with(exit::NETWORK).saying(&address.to_string());
    assert!(scratch.names().is_empty());
}
