//! What the tests that interrupt edgepull have in common: chance that can be repeated, and what an interruption
//! has cost, counted by the [`Proxy`].

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fmt::{Display, Formatter};
use std::io::Write;

use super::proxy::Proxy;

/// What an interruption may cost, in bytes of blobs that are fetched again.
pub const AGAIN_MAX: u64 = 4 << 20;

/// How often a test is to interrupt, as `board-tests/powercut` says, or else so often.
pub fn cuts_wanted(variable: &str, otherwise: usize) -> usize {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// Tells people, whether the test succeeds or not: only the print macros are captured.
pub fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Numbers that look like chance: the same for the same EDGEPULL_SEED. (SplitMix64.)
pub struct Chance(u64);

impl Chance {
    /// Says with what to repeat it.
    pub fn new() -> Chance {
        let given = env::var("EDGEPULL_SEED").ok();
        let seed = match given {
            Some(seed) => seed.parse().unwrap_or_else(|_| panic!("EDGEPULL_SEED={seed} is no number")),
            None => u64::from(std::process::id()) ^ super::machine::unix_time() << 16,
        };
        tell(format_args!("EDGEPULL_SEED={seed}"));
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, which it is not.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Knows what has been sent of every blob, and so what is sent again.
#[derive(Default)]
pub struct Refetched {
    requests: usize,
    /// How far the client has got in each blob, by its path, in bytes.
    reached: HashMap<String, u64>,
}

impl Refetched {
    /// How many bytes of blobs were sent since the last call that had been sent before.
    pub fn since(&mut self, proxy: &Proxy) -> u64 {
        let asked = proxy.asked();
        let mut again = 0;
        for request in &asked[self.requests..] {
            let range = request.range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            let start: u64 = range.map_or(0, |(first, _)| first.parse().expect("a range's first byte"));
            let end = start + request.blob_bytes;
            let reached = self.reached.entry(request.path.clone()).or_default();
            again += end.min(*reached).saturating_sub(start);
            *reached = end.max(*reached);
        }
        self.requests = asked.len();
        again
    }

    /// How much of these blobs, by digest, the client has been sent at least once, in bytes.
    pub fn reached(&self, blobs: &[(String, u64)]) -> u64 {
        let paths =
            self.reached.iter().filter(|(path, _)| blobs.iter().any(|(digest, _)| path.ends_with(digest)));
        paths.map(|(_, reached)| reached).sum()
    }

    /// From now on nothing has been sent: it may all come again.
    pub fn forget(&mut self, proxy: &Proxy) {
        self.since(proxy);
        self.reached.clear();
    }
}

/// When interruptions hit, and what each has cost.
#[derive(Default)]
pub struct Distribution(BTreeMap<String, Vec<u64>>);

impl Distribution {
    /// An interruption while this was going on, after which so much was fetched again.
    #[track_caller]
    pub fn add(&mut self, during: String, again: u64) {
        assert!(again <= AGAIN_MAX, "after a cut while {during}, {again} bytes were fetched again");
        self.0.entry(during).or_default().push(again);
    }

    /// How many interruptions there were.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl Display for Distribution {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:28} {:>5} {:>43}",
            "cut while", "times", "bytes fetched again: min, median, 95 %, max"
        )?;
        let all: Vec<u64> = self.0.values().flatten().copied().collect();
        for (during, costs) in
            self.0.iter().map(|(during, costs)| (during.as_str(), costs)).chain([("all", &all)])
        {
            let mut costs = costs.clone();
            costs.sort_unstable();
            let at =
                |percent: usize| costs.get((costs.len().saturating_sub(1) * percent).div_ceil(100)).copied();
            let [least, median, most, worst] = [0, 50, 95, 100].map(|percent| at(percent).unwrap_or(0));
            writeln!(f, "{during:28} {:>5} {least:>10} {median:>10} {most:>10} {worst:>10}", costs.len())?;
        }
        Ok(())
    }
}
