//! Certificates on boards whose clock is wrong: behind, ahead, or lied to. The server's certificate is
//! valid for 30 days from today on; the clocks are made up around it.

use crate::refused;
use crate::server::{Reply, Server};
use crate::tls::{Pki, trusting};
use edgepull::clock::date::Utc;
use edgepull::clock::{Clock, HORIZON, Reason};
use edgepull::error::{Kind, Result};
use edgepull::image::manifest::media_type;
use edgepull::source::{Fetched, Options};
use std::sync::Arc;

const DAY: u64 = 24 * 60 * 60;

/// Today, in seconds since 1970.
fn today() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Asks a registry, whose answer has these headers, with a board's clock.
fn ask(pki: &Pki, headers: &[(&'static str, String)], clock: &Arc<Clock>) -> Result<Fetched> {
    let headers = headers.to_vec();
    let server = Server::start_tls(pki.server(), move |_, _| {
        let reply = Reply::typed(media_type::OCI_INDEX, "{}");
        headers.iter().fold(reply, |reply, (name, value)| reply.with(name, value))
    });
    let options = Options { clock: clock.clone(), ..trusting(&pki.path("ca.pem")) };
    crate::registry(server.address, &options).root()
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
        ask(&pki, &[], &clock).unwrap();
        assert_eq!(clock.now().time, today + DAY, "nothing else was learnt");
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
        let text = refused(ask(&pki, &[], &clock), Kind::Network, &parts);
        assert!(text.contains(&format!("has expired on {}", &expired[..10])), "{text}");
    }
}

#[test]
fn a_clock_far_ahead_is_named_as_the_cause() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    let ahead = clock(today + HORIZON + DAY, today, None);
    refused(ask(&pki, &[], &ahead), Kind::Network, &["has expired", "hardly true", "date -u -s"]);
    assert_eq!(ahead.to_record(), None);
}

#[test]
fn a_date_is_learnt_within_the_certificate_s_life() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    let unset = clock(7, today - 90 * DAY, None);
    ask(&pki, &[date(today + 20 * DAY)], &unset).unwrap();
    assert_eq!((unset.now().time, unset.to_record()), (today + 20 * DAY, None));
    assert_eq!(unset.now().reason, Reason::Date("127.0.0.1".into()));

    let right = clock(today + 9 * DAY, today, None);
    ask(&pki, &[date(today + 9 * DAY + 30)], &right).unwrap();
    assert_eq!(right.to_record(), Some(today + 9 * DAY));
}

#[test]
fn a_lying_date_is_neither_believed_nor_recorded() {
    let (Some(pki), today) = (Pki::new(), today()) else { return };
    for lie in [today + 31 * DAY, 4_070_908_800, today - 400 * DAY] {
        let unset = clock(7, today + DAY, None);
        ask(&pki, &[date(lie)], &unset).unwrap();
        assert_eq!((unset.now().time, unset.to_record()), (today + DAY, None), "{lie}");
        let right = clock(today + 9 * DAY, today, None);
        ask(&pki, &[date(lie)], &right).unwrap();
        assert_eq!((right.now().time, right.to_record()), (today + 9 * DAY, None), "{lie}");
    }
    // Within the certificate's life it is no more than what the clock says.
    let right = clock(today + 9 * DAY, today, None);
    ask(&pki, &[date(today + 29 * DAY)], &right).unwrap();
    assert_eq!(right.to_record(), Some(today + 9 * DAY));
    let unset = clock(7, today + DAY, None);
    ask(&pki, &[("Date", "tomorrow".into())], &unset).unwrap();
    assert_eq!(unset.now().time, today + DAY);
}

#[test]
fn nothing_is_learnt_without_tls() {
    let today = today();
    let (name, value) = date(today + 5 * DAY);
    let server =
        Server::start(move |_, _| Reply::typed(media_type::OCI_INDEX, "{}").with(name, &value.clone()));
    for system in [7, today + 5 * DAY] {
        let clock = clock(system, today, None);
        let options = Options { clock: clock.clone(), ..crate::options() };
        crate::registry(server.address, &options).root().unwrap();
        assert_eq!((clock.now().time, clock.to_record()), (system.max(today), None));
    }
}
