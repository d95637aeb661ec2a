//! Where the CPU time of a layer goes, stage by stage.
//!
//! A stage that has its own thread reads that thread's CPU clock once, at its end. The stages that
//! share the main thread are told apart by a stopwatch which changes hands once a buffer (32 KiB):
//! two clock reads for some hundred microseconds of work.

use std::cell::Cell;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::decimal::Decimal;
use crate::sys;

/// One stage of the way from wire to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Reading the source (TLS included) and hashing the wire bytes.
    Wire = 0,
    /// Gzip or zstd.
    Decode = 1,
    /// Hashing the uncompressed bytes.
    Diff = 2,
    /// Tar framing and the file system.
    Files = 3,
}

/// CPU time (user and system) that one layer cost, by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Reading the source, TLS included, and sha256 of the wire bytes.
    pub wire: Duration,
    /// Decompression.
    pub decode: Duration,
    /// Sha256 of the uncompressed bytes.
    pub diff: Duration,
    /// Tar framing and file system calls.
    pub files: Duration,
}

impl AddAssign for CpuTimes {
    /// Adds another layer's times.
    fn add_assign(&mut self, other: CpuTimes) {
        self.wire += other.wire;
        self.decode += other.decode;
        self.diff += other.diff;
        self.files += other.files;
    }
}

impl fmt::Display for CpuTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [wire, decode, diff, files] = [self.wire, self.decode, self.diff, self.files]
            .map(|time| Decimal { value: time.as_millis() as u64, unit: 1000, places: 2 });
        write!(f, "network and sha256 {wire} s, inflate {decode} s, diff-id {diff} s, files {files} s")
    }
}

/// The main thread's stopwatch. Exactly one stage runs at any time; [`Stage::Files`] at first.
pub(crate) struct Meter {
    running: Cell<Stage>,
    since: Cell<Duration>,
    spent: [Cell<Duration>; 4],
}

impl Meter {
    pub(crate) fn start() -> Meter {
        Meter {
            running: Cell::new(Stage::Files),
            since: Cell::new(sys::thread_cpu_time()),
            spent: Default::default(),
        }
    }

    /// `stage` runs until the guard is dropped; then the one before it goes on.
    pub(crate) fn enter(&self, stage: Stage) -> Running<'_> {
        Running { meter: self, before: self.switch(stage) }
    }

    fn switch(&self, stage: Stage) -> Stage {
        let now = sys::thread_cpu_time();
        let before = self.running.replace(stage);
        let elapsed = now.saturating_sub(self.since.replace(now));
        let spent = &self.spent[before as usize];
        spent.set(spent.get() + elapsed);
        before
    }

    /// What was spent so far on this thread.
    pub(crate) fn times(&self) -> CpuTimes {
        self.switch(self.running.get());
        let [wire, decode, diff, files] = &self.spent;
        CpuTimes { wire: wire.get(), decode: decode.get(), diff: diff.get(), files: files.get() }
    }
}

/// Gives the stopwatch back when dropped.
pub(crate) struct Running<'a> {
    meter: &'a Meter,
    before: Stage,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.switch(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn() -> Duration {
        let start = sys::thread_cpu_time();
        let mut x = 1u64;
        while sys::thread_cpu_time() - start < Duration::from_millis(5) {
            x = std::hint::black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        Duration::from_millis(5)
    }

    #[test]
    fn nested_stages_do_not_count_twice() {
        let meter = Meter::start();
        let before = sys::thread_cpu_time();
        let atleast = {
            let _decode = meter.enter(Stage::Decode);
            let inner = {
                let _wire = meter.enter(Stage::Wire);
                burn()
            };
            inner.min(burn())
        };
        let times = meter.times();
        let all = sys::thread_cpu_time() - before;
        assert!(times.wire >= atleast && times.decode >= atleast);
        assert!(times.wire + times.decode <= all, "{times:?} is more than the thread's {all:?}");
        assert_eq!(times.diff, Duration::ZERO);
    }
}
