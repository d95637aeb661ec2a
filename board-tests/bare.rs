//! edgepull as the first program of a boot: nothing is mounted, nothing is configured, nothing is installed.

use crate::harness::*;

/// An image for the machine that the tests run on.
fn app() -> Artifact {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/arm/v5",
    };
    let layer = Layer::new().file("etc/motd", "hello").symlink("motd", "etc/motd").fifo("run/queue");
    Image::of(platform).layer(layer).build()
}

#[test]
fn a_ca_file_and_a_literal_address_are_enough() {
    let (root, authority) = (Scratch::new(), Authority::new());
    let registry = FakeRegistry::serving_with_tls(&app(), &authority);
    let board = Board::this_machine().run_in(&root);
    root.write("ca.pem", authority.ca());
    let outcome = board
        .edgepull(["-v", "--ca-file", "/ca.pem", "pull", &registry.image(), "/sysroot"])
        .succeeds()
        .without_saying("warning");
    assert_eq!(std::fs::read_to_string(root.path("sysroot/motd")).expect("a file behind a link"), "hello");
    // Also without /proc, the memory is known, at least to an upper bound.
    let errors = outcome.saying("by getrusage").stderr();
    let peak = errors.lines().find_map(|line| line.strip_prefix("edgepull: peak memory (VmHWM): "));
    let kib: u64 = peak.and_then(|peak| peak.strip_suffix(" KiB")?.parse().ok()).expect("a number");
    assert!(kib > 0, "{errors}");
}

#[test]
fn without_proc_the_kernel_s_own_words_decide() {
    let root = Scratch::new();
    let board = Board::this_machine().run_in(&root);
    let outcome = board.edgepull(["platform"]).succeeds();
    let (text, machine) = (outcome.stdout(), run("uname", ["-m"]));
    assert!(text.contains("mount -t proc proc /proc"), "{text}");
    assert!(text.lines().any(|line| line.contains("uname -m") && line.ends_with(machine.trim())), "{text}");
}

#[test]
fn what_is_missing_is_named() {
    let (root, authority) = (Scratch::new(), Authority::new());
    let registry = FakeRegistry::serving_with_tls(&app(), &authority);
    let board = Board::this_machine().run_in(&root);
    let pull = |image: &str| board.edgepull(["pull", image, "/sysroot"]).fails_with(exit::NETWORK);
    // Names need a DNS server.
    pull("registry.example/board/app").saying("there is no /etc/resolv.conf").saying("literal address");
    // Certificates need somebody who is trusted.
    pull(&registry.image())
        .saying("no CA certificates were found on this system (looked for /etc/ssl/certs/ca-certificates.crt")
        .saying("--ca-file FILE");
    assert!(!root.path("sysroot").exists(), "left behind");
}

#[test]
fn a_network_that_is_not_up_is_named() {
    let root = Scratch::new();
    let board = Board::this_machine().run_in(&root).without_network();
    board
        .edgepull(["pull", "192.0.2.1:5000/board/app", "/sysroot"])
        .fails_with(exit::NETWORK)
        .saying("192.0.2.1:5000: Network is unreachable; is the network up?");
}

#[test]
fn a_literal_address_may_be_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    let (root, authority) = (Scratch::new(), Authority::new());
    let registry = FakeRegistry::serving_with_tls_at("::1", &app(), &authority);
    root.write("ca.pem", authority.ca());
    let args = ["--ca-file", "/ca.pem", "pull", &registry.image(), "/sysroot"];
    Board::this_machine().run_in(&root).edgepull(args).succeeds();
    assert!(root.path("sysroot/etc/motd").exists());
}
