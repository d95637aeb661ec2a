//! Boards without a clock: what time it is taken to be, and what is remembered of it. Debian's faketime sets
//! the clock.

use crate::harness::*;

/// What a board without a battery says half a minute after it was switched on.
const SWITCHED_ON: &str = "@1970-01-01 00:00:30";
const DAY: u64 = 24 * 60 * 60;

/// An image for every board here.
fn app() -> Artifact {
    Image::of("linux/arm/v5").layer(Layer::new().file("etc/motd", "hello")).build()
}

fn moment(when: &str, format: &str) -> String {
    run("env", ["LC_ALL=C", "date", "-u", "-d", when, format]).trim().to_owned()
}

/// The `Date` of a server that thinks it is then.
fn http_date(when: &str) -> String {
    moment(when, "+%a, %d %b %Y %H:%M:%S GMT")
}

fn seconds(when: &str) -> u64 {
    moment(when, "+%s").parse().expect("a number")
}

fn pull(board: &Board, authority: &Authority, registry: &FakeRegistry) -> Outcome {
    let scratch = Scratch::new();
    board.edgepull(["-v", "--ca-file", &authority.ca_file(), "pull", &registry.image(), &scratch.at("root")])
}

/// What a board has recorded.
#[track_caller]
fn recorded(board: &Board) -> u64 {
    let text = board.recorded_time().expect("a recorded time");
    text.strip_suffix('\n').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
}

#[test]
fn in_1970_a_registry_with_tls_is_trusted_and_nothing_is_recorded() {
    for authority in [Authority::new(), Authority::with_rsa()] {
        pulls_in_1970(&authority);
    }
}

fn pulls_in_1970(authority: &Authority) {
    let registry = Registry::with().tls(authority).start();
    let image = registry.push(HELLO_LAYOUT, "board/hello:1.0");
    let (board, scratch) = (Board::armv6().with_clock(SWITCHED_ON), Scratch::new());
    board
        .edgepull(["-v", "--ca-file", &authority.ca_file(), "pull", &image, &scratch.at("root")])
        .succeeds()
        .saying("this board's clock says 1970-01-01 00:00 UTC, which cannot be true")
        .saying("(when this edgepull was built)");
    let hello = std::fs::read(scratch.path("root/hello")).expect("the program");
    assert!(hello == program("v6"), "another program than v6");
    assert_eq!(board.recorded_time(), None, "recorded by a clock that is wrong");
    // Without -v, nothing needs to be said.
    board
        .edgepull(["--ca-file", &authority.ca_file(), "pull", &image, &scratch.at("quiet")])
        .succeeds()
        .without_saying("1970");
}

#[test]
fn in_1970_as_today_an_expired_certificate_is_refused_in_one_line() {
    let authority = Authority::expired();
    let registry = FakeRegistry::serving_with_tls(&app(), &authority);
    let refused = |board: &Board| {
        let scratch = Scratch::new();
        let args = ["--ca-file", &authority.ca_file(), "pull", &registry.image(), &scratch.at("root")];
        let outcome = board.edgepull(args).fails_with(exit::NETWORK).saying("certificate has expired on 20");
        assert_eq!(outcome.stderr().lines().count(), 1, "{}", outcome.stderr());
        assert!(scratch.names().is_empty(), "left behind: {:?}", scratch.names());
        outcome
    };
    refused(&Board::armv7()).saying("if that is right, the registry's certificate must be renewed");
    let board = Board::armv7().with_clock(SWITCHED_ON);
    refused(&board)
        .saying("this board's clock says 1970-01-01 00:00 UTC, which cannot be true")
        .saying("(when this edgepull was built)");
    assert!(registry.requests().is_empty(), "asked behind an expired certificate");
}

#[test]
fn a_clock_that_may_be_right_and_a_record_say_that_a_certificate_has_expired() {
    let authority = Authority::new();
    let registry = FakeRegistry::serving_with_tls(&app(), &authority);
    let later = Board::armv7().with_clock("+40d"); // the certificate has 30 days left
    pull(&later, &authority, &registry).fails_with(exit::NETWORK).saying("has expired on");
    let remembers = Board::armv7().with_recorded_time(&format!("{}\n", seconds("+40 days")));
    pull(&remembers.with_clock(SWITCHED_ON), &authority, &registry)
        .fails_with(exit::NETWORK)
        .saying("has expired on")
        .saying("(recorded in ");
}

#[test]
fn what_clock_and_server_agree_on_is_recorded_and_only_ever_moves_forward() {
    let authority = Authority::new();
    let at = |days: u32| {
        let when = format!("+{days} days");
        (FakeRegistry::serving_with_tls(&app(), &authority).saying_date(http_date(&when)), seconds(&when))
    };
    let (three, third) = at(3);
    let board = Board::armv7().with_clock("+3d");
    pull(&board, &authority, &three).succeeds().saying("the time is recorded in ");
    let first = recorded(&board);
    // Between then and now there is only this test.
    assert!((third - DAY / 24..=third).contains(&first), "{first} instead of {third}");
    // Less than a day later, and earlier: nothing.
    for clock in ["+86h", "+2d"] {
        let board = Board::armv7().with_clock(clock).with_recorded_time(&format!("{first}\n"));
        let (server, _) = at(if clock == "+2d" { 2 } else { 3 });
        pull(&board, &authority, &server).succeeds().without_saying("is recorded");
        assert_eq!(recorded(&board), first, "{clock}");
    }
    let board = board.with_clock("+5d");
    let (five, fifth) = at(5);
    pull(&board, &authority, &five).succeeds();
    let second = recorded(&board);
    assert!((fifth - DAY / 24..=fifth).contains(&second), "{second} instead of {fifth}");
    // After that a clock that is switched on in 1970 counts from there.
    let board = board.with_clock(SWITCHED_ON);
    pull(&board, &authority, &five).succeeds().saying("(recorded in ");
    assert_eq!(recorded(&board), second);
}

#[test]
fn a_server_that_lies_about_the_time_is_not_recorded() {
    let authority = Authority::new();
    for (clock, date, said) in [
        ("+0", "2099-01-01", "peak memory"), // where the clock may be right, nobody listens
        (SWITCHED_ON, "2099-01-01", "not believed"), // no certificate of this server is valid then
        ("+3d", "+2 years", "not believed"),
        (SWITCHED_ON, "+20 days", "as 127.0.0.1 says"), // it is, but the clock cannot confirm it
        ("+0", "+20 days", "peak memory"),
        ("+0", "2001-01-01", "peak memory"),
    ] {
        let board = Board::armv7().with_clock(clock);
        let registry = FakeRegistry::serving_with_tls(&app(), &authority).saying_date(http_date(date));
        pull(&board, &authority, &registry).succeeds().saying(said);
        assert_eq!(board.recorded_time(), None, "{clock} {date}");
    }
    // Where the clock has moved on, the smaller of both counts.
    let board = Board::armv7().with_clock("+3d");
    let registry = FakeRegistry::serving_with_tls(&app(), &authority).saying_date(http_date("+20 days"));
    pull(&board, &authority, &registry).succeeds();
    let (time, clock) = (recorded(&board), seconds("+3 days"));
    assert!((clock - DAY / 24..=clock).contains(&time), "{time} instead of {clock}");
}

#[test]
fn without_tls_nothing_is_learnt() {
    let registry = FakeRegistry::serving(&app()).saying_date(http_date("+3 days"));
    let (board, scratch) = (Board::armv7().with_clock("+3d"), Scratch::new());
    board.edgepull(["-v", "--plain-http", "pull", &registry.image(), &scratch.at("root")]).succeeds();
    assert_eq!(board.recorded_time(), None);
}

#[test]
fn junk_instead_of_a_record_is_ignored_in_one_line_and_replaced() {
    let authority = Authority::new();
    let when = "+3 days";
    let registry = FakeRegistry::serving_with_tls(&app(), &authority).saying_date(http_date(when));
    for junk in ["soon\n", "", "9999999999\n", "-1\n", "18000000001800000000180000000018000000\n"] {
        let board = Board::armv7().with_clock("+3d").with_recorded_time(junk);
        let outcome = pull(&board, &authority, &registry).succeeds();
        let errors = outcome.stderr();
        let about: Vec<_> = errors.lines().filter(|line| line.contains("/clock is ignored")).collect();
        assert_eq!(about.len(), 1, "{junk:?}: {errors}");
        assert!(recorded(&board) <= seconds(when), "{junk:?}");
    }
}

#[test]
fn a_state_that_cannot_be_kept_stops_no_pull() {
    let authority = Authority::new();
    let registry = FakeRegistry::serving_with_tls(&app(), &authority).saying_date(http_date("+3 days"));
    let (board, scratch) = (Board::armv7().with_clock("+3d"), Scratch::new());
    let file = scratch.write("file", "");
    let state = format!("{file}/state");
    let ca = authority.ca_file();
    let args =
        ["-v", "--state-dir", &state, "--ca-file", &ca, "pull", &registry.image(), &scratch.at("root")];
    board.edgepull(args).succeeds().saying("the time cannot be recorded: ");
}
