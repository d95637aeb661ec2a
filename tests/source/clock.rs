//! Certificates on boards whose clock is wrong: behind, ahead, or lied to. The server's certificate is
//! valid for 30 days from today on; the clocks are made up around it.

use crate::image::Image;
use crate::refused;
use crate::server::{Reply, Request, Server};
use crate::tls::{Pki, trusting};
use edgepull::clock::date::Utc;
use edgepull::clock::{Clock, HORIZON, Reading, Reason};
use edgepull::error::{Kind, Result};
use edgepull::image::manifest::media_type;
use edgepull::source::{Fetched, Options};
use std::path::PathBuf;
use std::sync::Arc;

const DAY: u64 = 24 * 60 * 60;

/// Today, in seconds since 1970.
fn today() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Asks a registry, whose answer has these headers, with a board's clock; and what time it is taken to be there afterwards.
fn ask(pki: &Pki, headers: &[(&'static str, String)], clock: &Arc<Clock>) -> (Result<Fetched>, Reading) {
    let headers = headers.to_vec();
    let server = Server::start_tls(pki.server(), move |_, _| {
        let reply = Reply::typed(media_type::OCI_INDEX, crate::INDEX);
        headers.iter().fold(reply, |reply, (name, value)| reply.with(name, value))
    });
    let options = Options { clock: clock.clone(), ..trusting(&pki.path("ca.pem")) };
    let answer = crate::registry(server.address, &options).root();
    (answer, clock.now_at(&server.address.to_string()))
}

fn clock(system: u64, built: u64, recorded: Option<u64>) -> Arc<Clock> {
    let recorded = recorded.map(|time| (time, "/state/clock".into()));
    Arc::new(Clock::with(move || system, built, recorded))
}

/// An HTTP date, by `date`.
fn date(time: u64) -> (&'static str, String) {
    let command = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{time}"), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    ("Date", String::from_utf8(command.stdout).unwrap().trim().to_owned())
}

#[test]
fn a_board_in_1970_pulls_by_the_time_of_its_build_or_record() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    for (built, recorded) in [(today + DAY, None), (today - 90 * DAY, Some(today + DAY))] {
        let clock = clock(7, built, recorded);
        let (answer, now) = ask(&pki, &[], &clock);
        answer.unwrap();
        assert_eq!(now.time, today + DAY, "nothing else was learnt");
    }
}

#[test]
fn an_expired_certificate_is_refused_by_clock_build_and_record() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    let late = today + 40 * DAY;
    let at_least = format!("at least {}", Utc(late));
    let unset = "says 1970-01-01 00:00 UTC, which cannot be true";
    for (clock, parts) in [
        (clock(late, today, None), ["has expired", &format!("clock says {}", Utc(late)), "if that is right"]),
        (clock(7, late, None), [unset, &at_least, "(when this edgepull was built)"]),
        (clock(7, today, Some(late)), [unset, &at_least, "(recorded in /state/clock)"]),
    ] {
        let expired = Utc(today + 30 * DAY).to_string();
        let text = refused(ask(&pki, &[], &clock).0, Kind::Network, &parts);
        assert!(text.contains(&format!("has expired on {}", &expired[..10])), "{text}");
    }
}

#[test]
fn a_clock_far_ahead_is_named_as_the_cause() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    let ahead = clock(today + HORIZON + DAY, today, None);
    refused(ask(&pki, &[], &ahead).0, Kind::Network, &["has expired", "hardly true", "date -u -s"]);
    assert_eq!(ahead.to_record(), None);
}

#[test]
fn a_date_is_learnt_within_the_certificate_s_life() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    let unset = clock(7, today - 90 * DAY, None);
    let (answer, now) = ask(&pki, &[date(today + 20 * DAY)], &unset);
    answer.unwrap();
    assert_eq!((now.time, unset.to_record()), (today + 20 * DAY, None));
    assert_eq!(now.reason, Reason::Date("127.0.0.1".into()));
    assert_eq!(unset.now().reason, Reason::Built, "for no other registry");

    let right = clock(today + 9 * DAY, today, None);
    ask(&pki, &[date(today + 9 * DAY + 30)], &right).0.unwrap();
    assert_eq!(right.to_record(), Some(today + 9 * DAY));
}

#[test]
fn a_lying_date_is_neither_believed_nor_recorded() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    for lie in [today + 31 * DAY, 4_070_908_800, today - 400 * DAY] {
        let unset = clock(7, today + DAY, None);
        let (answer, now) = ask(&pki, &[date(lie)], &unset);
        answer.unwrap();
        assert_eq!((now.time, unset.to_record()), (today + DAY, None), "{lie}");
        let right = clock(today + 9 * DAY, today, None);
        let (answer, now) = ask(&pki, &[date(lie)], &right);
        answer.unwrap();
        assert_eq!((now.time, right.to_record()), (today + 9 * DAY, None), "{lie}");
    }
    // Within the certificate's life it is no more than what the clock says, which stays right.
    let right = clock(today + 9 * DAY, today, None);
    let (answer, now) = ask(&pki, &[date(today + 29 * DAY)], &right);
    answer.unwrap();
    assert_eq!(right.to_record(), Some(today + 9 * DAY));
    assert_eq!((now.time, now.is_floor()), (today + 9 * DAY, false));
    let unset = clock(7, today + DAY, None);
    let (answer, now) = ask(&pki, &[("Date", "tomorrow".into())], &unset);
    answer.unwrap();
    assert_eq!(now.time, today + DAY);
}

/// An authority file with those of both.
fn both(one: &Pki, other: &Pki) -> PathBuf {
    let [first, second] = [one, other].map(|pki| std::fs::read_to_string(pki.path("ca.pem")).unwrap());
    let file = one.path("both.pem");
    std::fs::write(&file, first + &second).unwrap();
    file
}

/// Who has a certificate for 12 years, and says that 9 of them have passed. What he is there for, he does: `reply`.
fn liar(pki: &Pki, today: u64, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    let (name, value) = date(today + 9 * 365 * DAY);
    Server::start_tls(pki.server(), move |request, _| reply(request).with(name, &value))
}

/// Nothing but the registry itself says what time it is: its certificate, which is good for 30 days, stays good, whatever
/// `liar` says; and nothing is recorded.
#[track_caller]
fn nobody_else_is_believed(registry: &Server, options: &Options, today: u64) {
    for (system, floor) in [(today, Reason::System), (7, Reason::Built)] {
        // Every connection is a new one.
        let clock = clock(system, today - 90 * DAY, None);
        let options = Options { clock: clock.clone(), ..options.clone() };
        let mut source = crate::registry(registry.address, &options);
        let image = Image::new();
        for _ in 0..2 {
            source.root().unwrap();
            let read = crate::read_layer(&mut *source, &image.layer_descriptor(), 0);
            assert!(read.unwrap() == image.layer);
        }
        let now = clock.now_at(&registry.address.to_string());
        // On a board without a clock, the day on which the registry's own certificate was issued has come.
        let issued = Reason::Certificate("127.0.0.1".into());
        assert!(now.reason == floor || now.reason == issued, "{now}");
        assert!(now.time <= today + DAY && clock.to_record().is_none_or(|time| time <= today), "{now}");
    }
}

/// The registry: a manifest and a layer, by connections that are used once.
fn registry(pki: &Pki, blob: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start_tls(pki.server(), move |request, _| match request.target.contains("/blobs/") {
        true => blob(request),
        false => Reply::typed(media_type::OCI_INDEX, crate::INDEX).length(None),
    })
}

#[test]
fn a_blob_store_does_not_say_what_time_it_is() {
    let (Some(pki), Some(long), today) = (Pki::new(), Pki::long(), today()) else { return };
    let layer = Image::new().layer;
    let store = liar(&long, today, move |request| Reply::ranged(request, &layer));
    let target = format!("https://{}/blob", store.address);
    let registry = registry(&pki, move |_| Reply::new(307, "").with("Location", &target).length(None));
    nobody_else_is_believed(&registry, &trusting(&both(&pki, &long)), today);
    assert_eq!(store.requests().len(), 4);
}

#[test]
fn a_token_server_does_not_say_what_time_it_is() {
    let (Some(pki), Some(long), today) = (Pki::new(), Pki::long(), today()) else { return };
    let tokens = liar(&long, today, |_| Reply::new(200, r#"{"token":"t"}"#));
    let challenge = format!("Bearer realm=\"https://{}/token\",service=\"x\"", tokens.address);
    let layer = Image::new().layer;
    let registry = registry(&pki, move |request| match request.header("authorization") {
        Some(_) => Reply::ranged(request, &layer).length(None),
        None => Reply::new(401, "").with("WWW-Authenticate", &challenge).length(None),
    });
    nobody_else_is_believed(&registry, &trusting(&both(&pki, &long)), today);
    assert!(!tokens.requests().is_empty());
}

#[test]
fn a_mirror_does_not_say_what_time_it_is() {
    let (Some(pki), Some(long), today) = (Pki::new(), Pki::long(), today()) else { return };
    let layer = Image::new().layer;
    let mirror = liar(&long, today, move |request| Reply::ranged(request, &layer));
    // Its certificate is newer than the build, too, by an authority that is trusted for it alone.
    let registry = registry(&pki, |_| panic!("the mirror has it"));
    let hosts = tempfile::tempdir().unwrap();
    std::fs::create_dir(hosts.path().join("_default")).unwrap();
    let toml = format!(
        "server = \"https://{}\"\n[host.\"https://{}\"]\ncapabilities = [\"pull\"]\nca = {:?}\n",
        registry.address,
        mirror.address,
        long.path("ca.pem")
    );
    std::fs::write(hosts.path().join("_default/hosts.toml"), toml).unwrap();
    let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..trusting(&pki.path("ca.pem")) };
    nobody_else_is_believed(&registry, &options, today);
    assert_eq!(mirror.requests().len(), 4);
}

#[test]
fn an_error_says_what_time_it_is_too_and_a_clock_that_is_right_needs_nobody() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    for (system, then) in [(7, today + 20 * DAY), (today, today)] {
        let (name, value) = date(today + 20 * DAY);
        let server = Server::start_tls(pki.server(), move |_, _| Reply::new(404, "").with(name, &value));
        let clock = clock(system, today - 90 * DAY, None);
        let options = Options { clock: clock.clone(), ..trusting(&pki.path("ca.pem")) };
        refused(crate::registry(server.address, &options).root(), Kind::NotFound, &["HTTP 404"]);
        assert_eq!(clock.now_at(&server.address.to_string()).time, then);
    }
}

#[test]
fn nothing_is_learnt_without_tls() {
    let today = today();
    let (name, value) = date(today + 5 * DAY);
    let server = Server::start(move |_, _| {
        Reply::typed(media_type::OCI_INDEX, crate::INDEX).with(name, &value.clone())
    });
    for system in [7, today + 5 * DAY] {
        let clock = clock(system, today, None);
        let options = Options { clock: clock.clone(), ..crate::options() };
        crate::registry(server.address, &options).root().unwrap();
        let now = clock.now_at(&server.address.to_string());
        assert_eq!((now.time, clock.to_record()), (system.max(today), None));
    }
}
