//! A bad link to a real registry: whatever it does, a pull ends with the right tree, or with its exit code
//! and nothing at the destination; and when the link is well again, the next pull mends all.
//!
//! Wrong answers that no registry gives by itself are in `failures.rs`.

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::thread;

use crate::failures::noise;
use crate::harness::*;

const MIB: u64 = 1 << 20;
/// When a pull has hung, in seconds: many times what the slowest one here takes.
const HUNG: u32 = 300;

/// Five layers: in the middle one of 12 MiB that no compressor makes smaller; some change what lies below them.
static APP: LazyLock<Artifact> = LazyLock::new(|| {
    let data = noise(12 << 20);
    let big = Layer::new()
        .dir("data", 0o755)
        .file("data/small", &data[..5000])
        .file("data/large", &data[5000..9 << 20])
        .file("data/rest", &data[9 << 20..]);
    Image::of("linux/arm/v7")
        .layer(Layer::new().dir("etc", 0o755).file("etc/hostname", "board\n").file("etc/old", "old"))
        .layer(Layer::new().file("bin", noise(40_000)).whiteout("etc/old"))
        .layer(big)
        .layer(Layer::new().hardlink("data/same", "data/small").file("etc/hostname", "other\n"))
        .layer(Layer::new().symlink("link", "data/rest"))
        .build()
});

/// The layer of 12 MiB.
fn big() -> Place {
    Place::Blob(APP.layer(2))
}

/// The bytes of what a pull has to fetch of blobs: config and layers.
fn app_size() -> u64 {
    let manifest = APP.manifest();
    let layers = manifest["layers"].as_array().expect("layers").iter();
    layers.chain([&manifest["config"]]).map(|blob| blob["size"].as_u64().expect("a size")).sum()
}

/// What must become of a pull.
enum Must {
    /// It succeeds, and fetches so many bytes of blobs twice.
    Succeed(RangeInclusive<u64>),
    /// It fails with this exit code, saying this.
    Fail(i32, &'static str),
}

/// One bad link.
struct Case {
    name: &'static str,
    link: Box<dyn Fn(Proxy) -> Proxy + Send>,
    must: Must,
    hurry: Hurry,
}

/// How long edgepull waits.
#[derive(Clone, Copy, PartialEq)]
enum Hurry {
    None,
    /// Between two tries, a twentieth of what it means to.
    Pauses,
    /// For a peer that says nothing, too.
    Stalls,
}

fn case(name: &'static str, must: Must, link: impl Fn(Proxy) -> Proxy + Send + 'static) -> Case {
    Case { name, link: Box::new(link), must, hurry: Hurry::None }
}

impl Case {
    fn in_a_hurry(self) -> Case {
        Case { hurry: Hurry::Pauses, ..self }
    }

    fn impatient(self) -> Case {
        Case { hurry: Hurry::Stalls, ..self }
    }
}

/// A registry that has the image, its tree, and what the cases share.
struct Bench {
    scratch: Scratch,
    registry: Registry,
    tree: Tree,
}

const NAME: &str = "board/app:1.0";

impl Bench {
    fn new() -> Bench {
        let (scratch, registry) = (Scratch::new(), Registry::start());
        let layout = APP.layout(&scratch, "image");
        registry.push(&layout, NAME);
        let tree = Tree::of(umoci_unpack(&layout, "latest", &scratch));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/hurry.c");
        let hurry = scratch.at("hurry.so");
        run("gcc", ["-shared", "-fPIC", "-Os", "-Wall", "-Werror", "-o", &hurry, source]);
        Bench { scratch, registry, tree }
    }

    fn board(&self, hurry: Hurry) -> Board {
        let board = Board::armv7().killed_after(HUNG);
        if hurry == Hurry::None {
            return board;
        }
        let board = board.with_env("LD_PRELOAD", &self.scratch.at("hurry.so"));
        if hurry == Hurry::Stalls { board.with_env("IMPATIENT", "1") } else { board }
    }

    fn run(&self, case: &Case) {
        let (proxy, scratch) = ((case.link)(Proxy::before(&self.registry)), Scratch::new());
        let (board, image, root) = (self.board(case.hurry), proxy.image(NAME), scratch.path("root"));
        let args = ["-v", "pull", &image, &scratch.at("root")];
        let outcome = board.edgepull(args);
        let (fetched, connections) = (proxy.sent().blobs, proxy.connections().len());
        println!(
            "{}: exit code {}, {fetched} bytes of blobs, {connections} connections",
            case.name,
            outcome.code()
        );
        match &case.must {
            Must::Succeed(again) => {
                outcome.succeeds();
                let (first, last) = (app_size() + again.start(), app_size() + again.end());
                assert!((first..=last).contains(&fetched), "not {first} to {last}: {:?}", proxy.asked());
            }
            Must::Fail(code, text) => {
                outcome.fails_with(*code).saying(text);
                assert!(!root.exists(), "something is at the destination");
                proxy.heal();
                board.edgepull(args).succeeds();
            }
        }
        self.tree.equals(&Tree::of(&root));
    }
}

/// Runs all cases at the same time. A failure is told by its thread, which bears the case's name.
fn all(cases: impl IntoIterator<Item = Case>) {
    let bench = &Bench::new();
    let failed: Vec<_> = thread::scope(|scope| {
        let start = |case: Case| {
            let thread = thread::Builder::new().name(case.name.to_owned());
            (case.name, thread.spawn_scoped(scope, move || bench.run(&case)).expect("a thread"))
        };
        let started: Vec<_> = cases.into_iter().map(start).collect();
        started.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[test]
fn connections_that_end() {
    use End::*;
    // A reset throws away what the proxy's kernel still had to send, a buffer and a packet of loopback's size,
    // and that counts as sent.
    let lost = 256 << 10;
    all([
        case("closed every 3 MiB", Must::Succeed(0..=0), |proxy| proxy.connections_carry(3 * MIB)),
        // More often than anything is tried without progress.
        case("closed every 600 kB", Must::Succeed(0..=0), |proxy| proxy.connections_carry(600_000))
            .in_a_hurry(),
        case("an answer closed every 3 MiB", Must::Succeed(0..=0), |proxy| {
            proxy.always(Place::Blobs, Fault::InBody(3 * MIB, Closed))
        }),
        case("reset three times", Must::Succeed(0..=3 * lost), |proxy| {
            proxy.times(3, big(), Fault::InBody(3 * MIB, Reset))
        }),
        case("reset before the answers", Must::Succeed(0..=0), |proxy| {
            proxy.times(3, Place::Manifests, Fault::NoAnswer(Reset)).times(3, big(), Fault::NoAnswer(Reset))
        }),
        case("cut within the answers' heads", Must::Succeed(0..=0), |proxy| {
            proxy.times(2, Place::Manifests, Fault::InHead(Closed)).times(2, big(), Fault::InHead(Reset))
        }),
        case("cut within a manifest", Must::Succeed(0..=0), |proxy| {
            proxy.times(2, Place::Manifests, Fault::InBody(100, Closed))
        }),
        // On a busy machine, more than that is taken for a stall.
        case("stalled in a blob and before an answer", Must::Succeed(0..=4 * MIB), |proxy| {
            proxy.times(2, big(), Fault::InBody(5 * MIB, Silent)).times(2, big(), Fault::NoAnswer(Silent))
        })
        .impatient(),
        case("reset for good", Must::Fail(exit::NETWORK, "tried 6 times"), |proxy| {
            proxy.always(Place::Everything, Fault::NoAnswer(Reset))
        })
        .in_a_hurry(),
        case("truncated for good", Must::Fail(exit::NETWORK, "closed too early"), |proxy| {
            proxy.times(1, big(), Fault::InBody(5 * MIB, Closed)).always(big(), Fault::InBody(0, Closed))
        })
        .in_a_hurry(),
        case("heads cut for good", Must::Fail(exit::NETWORK, "tried 6 times"), |proxy| {
            proxy.always(big(), Fault::InHead(Closed))
        })
        .in_a_hurry(),
        case("stalled for good", Must::Fail(exit::NETWORK, "not a byte"), |proxy| {
            proxy.times(1, big(), Fault::InBody(5 * MIB, Silent)).always(big(), Fault::NoAnswer(Silent))
        })
        .impatient(),
        case("silent for good", Must::Fail(exit::NETWORK, "not a byte"), |proxy| {
            proxy.always(Place::Everything, Fault::NoAnswer(Silent))
        })
        .impatient(),
    ]);
}

#[test]
fn registries_that_are_busy_or_broken() {
    let for_good = |name, status, retry_after, text| {
        case(name, Must::Fail(exit::NETWORK, text), move |proxy| {
            proxy.always(Place::Everything, Fault::Status(status, retry_after))
        })
    };
    let at_layer = |name, status, retry_after, text| {
        case(name, Must::Fail(exit::NETWORK, text), move |proxy| {
            proxy
                .times(1, big(), Fault::InBody(5 * MIB, End::Closed))
                .always(big(), Fault::Status(status, retry_after))
        })
    };
    let passing = |name, status, retry_after| {
        case(name, Must::Succeed(0..=0), move |proxy| {
            let fault = Fault::Status(status, retry_after);
            proxy.times(2, Place::Manifests, fault.clone()).times(4, big(), fault)
        })
    };
    let cases = [
        passing("429, then well", 429, None),
        passing("429 with Retry-After, then well", 429, Some(1)),
        passing("500, then well", 500, None),
        passing("502, then well", 502, None),
        for_good("429 for good", 429, None, "429"),
        for_good("429 with Retry-After for good", 429, Some(3), "429"),
        for_good("500 for good", 500, None, "500"),
        for_good("502 for good", 502, None, "502"),
        at_layer("a layer's 429 for good", 429, Some(30), "429"),
        at_layer("a layer's 500 for good", 500, None, "500"),
    ];
    all(cases.map(Case::in_a_hurry));
}

#[test]
fn bytes_that_are_others() {
    let corrupt = |name, place: fn() -> Place, at, text| {
        case(name, Must::Fail(exit::VERIFICATION, text), move |proxy| {
            proxy.always(place(), Fault::Corrupt(at))
        })
    };
    all([
        corrupt("a manifest's byte", || Place::Manifests, 300, "manifest"),
        corrupt("a layer's first byte", big, 0, "blob"),
        corrupt("a layer's byte in the middle", big, 7 * MIB + 1, "blob"),
        corrupt("a layer's last byte", || Place::Blob(APP.layer(0)), layer_size(0) - 1, "blob"),
        case("a layer's byte once", Must::Fail(exit::VERIFICATION, "blob"), |proxy| {
            proxy.times(1, big(), Fault::Corrupt(11 * MIB))
        }),
        case("a byte after a range", Must::Fail(exit::VERIFICATION, "blob"), |proxy| {
            proxy.connections_carry(3 * MIB).always(big(), Fault::Corrupt(10 * MIB))
        }),
        case("other bytes than the range's", Must::Fail(exit::VERIFICATION, "blob"), |proxy| {
            proxy.times(1, big(), Fault::InBody(5 * MIB, End::Closed)).always(big(), Fault::OtherBytes(1000))
        }),
    ]);
}

fn layer_size(n: usize) -> u64 {
    APP.blobs[&APP.layer(n)].len() as u64
}

#[test]
fn ranges_that_are_not_given() {
    // What has begun to come of the wrong range was sent, too.
    let whole_again = 5 * MIB..=6 * MIB;
    let wrong = |name, fault: Fault| {
        case(name, Must::Succeed(whole_again.clone()), move |proxy| {
            proxy.times(1, big(), Fault::InBody(5 * MIB, End::Closed)).always(big(), fault.clone())
        })
    };
    all([
        case("ignored", Must::Succeed(5 * MIB..=5 * MIB), |proxy| {
            proxy.times(1, big(), Fault::InBody(5 * MIB, End::Closed)).always(big(), Fault::IgnoreRange)
        }),
        // Six answers of 3 MiB are given, none of which leads further.
        case("ignored, closed every 3 MiB", Must::Fail(exit::NETWORK, "tried 6 times"), |proxy| {
            proxy.connections_carry(3 * MIB).always(big(), Fault::IgnoreRange)
        })
        .in_a_hurry(),
        wrong("another range", Fault::EarlierRange(1000)),
        wrong("labelled from the start", Fault::ContentRange("bytes 0-12582911/12582912")),
        wrong("labelled beyond any end", Fault::ContentRange("bytes 99999999999999999999-0/1")),
        wrong("labelled with no range", Fault::ContentRange("none")),
    ]);
}

#[test]
fn a_link_of_two_kilobytes_a_second() {
    all([
        case("small layers", Must::Succeed(0..=0), |proxy| {
            let slow = || Fault::Trickle { length: 6_000, rate: 2_000 };
            (0..5).filter(|n| *n != 2).fold(proxy, |proxy, n| proxy.always(Place::Blob(APP.layer(n)), slow()))
        }),
        case("a large layer's begin", Must::Succeed(0..=0), |proxy| {
            proxy.always(big(), Fault::Trickle { length: 20_000, rate: 2_000 })
        }),
        case("manifests", Must::Succeed(0..=0), |proxy| {
            proxy.always(Place::Manifests, Fault::Trickle { length: 1_000, rate: 200 })
        }),
    ]);
}

#[test]
fn a_port_that_takes_connections_and_says_nothing() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (bench, scratch) = (Bench::new(), Scratch::new());
    let image = format!("{}/{NAME}", deaf.local_addr().expect("an address"));
    bench.board(Hurry::Stalls).edgepull(["pull", &image, &scratch.at("root")]).fails_with(exit::NETWORK);
    assert!(!scratch.path("root").exists(), "something is at the destination");
}

/// What the power cut tests count with.
#[test]
fn every_byte_is_counted_where_it_went() {
    let (bench, scratch) = (Bench::new(), Scratch::new());
    let proxy = Proxy::before(&bench.registry).connections_carry(3 * MIB);
    bench.board(Hurry::None).edgepull(["pull", &proxy.image(NAME), &scratch.at("root")]).succeeds();
    let (connections, layer, sent) = (proxy.connections(), APP.layer(2), proxy.sent());
    assert!(connections.iter().all(|sent| sent.blobs + sent.rest <= 3 * MIB), "{connections:?}");
    assert!(connections.len() >= 5, "{connections:?}");
    assert!(sent.rest < 64 << 10, "{sent:?}");
    let mut got = 0;
    for asked in proxy.asked_for(&layer) {
        let rest = format!("bytes={got}-{}", layer_size(2) - 1);
        assert_eq!(asked.range, if got == 0 { "-".to_owned() } else { rest });
        got += asked.blob_bytes;
    }
    assert_eq!(got, layer_size(2));
}
