//! Tells the agent when it was built, which is the earliest time that a board's clock can say
//! (`src/clock`). `SOURCE_DATE_EPOCH` (reproducible-builds.org) sets it; else it is the time of the build.
//! One in the future fails the build, as boards would refuse every certificate of today; one that is plainly
//! too early is warned about, as it protects from little.

use std::time::{SystemTime, UNIX_EPOCH};

/// 2026-11-01: this file was written later.
const EARLIEST: u64 = 1_793_491_200;
/// How far the build machine's clock may be behind that of whoever set `SOURCE_DATE_EPOCH`, in seconds.
const TOLERANCE: u64 = 24 * 60 * 60;

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // Any change of the program is a new build, and a build without a change keeps its time.
    for input in ["build.rs", "src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => given.trim().parse().unwrap_or_else(|_| {
            panic!("SOURCE_DATE_EPOCH={given:?} is not a number of seconds since 1970");
        }),
        Err(_) => now,
    };
    if time < EARLIEST {
        println!(
            "cargo::warning=the build time {time} is before this program was written: as a floor for boards \
             without a clock it is of little use; set SOURCE_DATE_EPOCH, or this machine's clock"
        );
    }
    // A build machine whose own clock is wrong cannot judge.
    assert!(
        now < EARLIEST || time <= now + TOLERANCE,
        "SOURCE_DATE_EPOCH={time} is in the future: boards would refuse the certificates of today"
    );
    println!("cargo::rustc-env=EDGEPULL_BUILD_TIME={time}");
}
