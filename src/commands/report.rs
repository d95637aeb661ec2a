//! How a command speaks: results on standard output, as text or as JSON lines; a progress bar on standard
//! error where that is a terminal.

use crate::cli::Options;
use crate::decimal::Decimal;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::layer::Observer;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the bar is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How often a JSON progress line is written.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// The bar's width in characters.
const BAR: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Quiet,
    Plain,
    Terminal,
    Json,
}

/// Where a command's words go.
pub struct Report {
    style: Style,
}

impl Report {
    /// As the options, and the terminal, say.
    pub fn new(options: &Options) -> Report {
        let style = match (options.json, options.quiet) {
            (true, _) => Style::Json,
            (_, true) => Style::Quiet,
            _ if io::stderr().is_terminal() => Style::Terminal,
            _ => Style::Plain,
        };
        Report { style }
    }

    /// One that says nothing but what is asked for: where many images are read for one answer.
    #[cfg(feature = "publish")]
    pub fn quiet() -> Report {
        Report { style: Style::Quiet }
    }

    /// Was `--json` given?
    pub fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    /// A result that was asked for: it is printed even with `-q`.
    pub fn text(&self, text: impl fmt::Display) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(unwritable)
    }

    /// A result that is these very bytes.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(unwritable)
    }

    /// A result as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let line =
            serde_json::to_string(value).map_err(|error| Error::new(Kind::Other, error.to_string()))?;
        self.text(escaped(&line))
    }

    /// Something that happened: a line for people, or an event for machines.
    pub fn event(&self, human: impl fmt::Display, machine: impl FnOnce() -> serde_json::Value) -> Result<()> {
        match self.style {
            Style::Quiet => Ok(()),
            Style::Json => self.json(&machine()),
            Style::Plain | Style::Terminal => self.text(human),
        }
    }

    /// Begins to follow layer `number` of `count`.
    pub fn layer(&self, number: usize, count: usize, digest: Digest, size: u64) -> LayerProgress<'_> {
        let state = State {
            spared: 0,
            wire: 0,
            unpacked: 0,
            entries: 0,
            wire_is_right: false,
            drawn: Instant::now(),
        };
        LayerProgress {
            report: self,
            number,
            count,
            digest,
            size,
            begun: Instant::now(),
            state: Mutex::new(state),
        }
    }
}

/// JSON in which DEL and U+0080 to U+009F, which it may hold as they are, are escaped, too: what an index says must not be
/// a terminal's order. Between its words a carriage return is as good as a space.
pub(super) fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' => shown.push(' '),
            other if other.is_control() => shown.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => shown.push(other),
        }
    }
    shown
}

fn unwritable(error: io::Error) -> Error {
    Error::from_io(Kind::Other, error).context("standard output")
}

/// Counts one layer's bytes and shows them.
pub struct LayerProgress<'a> {
    report: &'a Report,
    number: usize,
    count: usize,
    digest: Digest,
    size: u64,
    begun: Instant,
    // A mutex, for ARMv5 has no 64-bit atomics; it is taken once a buffer.
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// Of the wire, by an earlier run.
    spared: u64,
    wire: u64,
    unpacked: u64,
    entries: u64,
    wire_is_right: bool,
    drawn: Instant,
}

impl LayerProgress<'_> {
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut state);
        let every = match self.report.style {
            Style::Terminal => DRAW_EVERY,
            Style::Json => JSON_EVERY,
            Style::Plain | Style::Quiet => return,
        };
        if state.drawn.elapsed() < every {
            return;
        }
        state.drawn = Instant::now();
        match self.report.style {
            // Progress that cannot be written is no reason to end a pull.
            Style::Json => drop(self.report.json(&self.json(&state, false))),
            _ => {
                let _ = io::stderr().write_all(format!("\r\x1b[K{}", self.bar(&state)).as_bytes());
            }
        }
    }

    /// May bytes have been changed on the way? Not once the wire's digest was right.
    pub fn may_be_damaged(&self) -> bool {
        !self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).wire_is_right
    }

    /// The layer is unpacked: its last line.
    pub fn finish(self) -> Result<()> {
        let state = *self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.clear();
        let elapsed = self.begun.elapsed();
        let line = format!(
            "layer {}/{} {}: {} fetched, {} unpacked, {} entries, {} s ({}/s)",
            self.number,
            self.count,
            self.digest.short(),
            bytes(state.wire),
            bytes(state.unpacked),
            state.entries,
            Decimal { value: elapsed.as_millis() as u64, unit: 1000, places: 1 },
            bytes(per_second(state.wire, elapsed))
        );
        self.report.event(line, || self.json(&state, true))
    }

    fn clear(&self) {
        if self.report.style == Style::Terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn bar(&self, state: &State) -> String {
        let came = state.spared + state.wire;
        let full = came.min(self.size).saturating_mul(BAR as u64) / self.size.max(1);
        let rate = per_second(state.wire, self.begun.elapsed());
        format!(
            "layer {}/{} {} [{:BAR$}] {} of {}, {}/s, {} entries",
            self.number,
            self.count,
            self.digest.short(),
            "=".repeat(full as usize),
            bytes(came),
            bytes(self.size),
            bytes(rate),
            state.entries,
        )
    }

    fn json(&self, state: &State, is_done: bool) -> serde_json::Value {
        json!({
            "event": "layer",
            "number": self.number,
            "count": self.count,
            "digest": self.digest,
            "size": self.size,
            "spared": state.spared,
            "fetched": state.wire,
            "unpacked": state.unpacked,
            "entries": state.entries,
            "seconds": (self.begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            "done": is_done,
        })
    }
}

impl Drop for LayerProgress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Observer for LayerProgress<'_> {
    fn wire_bytes(&self, n: u64) {
        self.update(|state| state.wire += n);
    }
    fn unpacked_bytes(&self, n: u64) {
        self.update(|state| state.unpacked += n);
    }
    fn entries(&self, n: u64) {
        self.update(|state| state.entries += n);
    }
    fn spared(&self, n: u64) {
        self.update(|state| state.spared = n);
    }
    fn starts_over(&self) {
        self.update(|state| {
            (state.spared, state.unpacked, state.entries) = (0, 0, 0);
            state.wire_is_right = false;
        });
    }
    fn wire_is_right(&self) {
        self.update(|state| state.wire_is_right = true);
    }
}

/// The mean speed of `n` bytes in `time`, in bytes per second.
fn per_second(n: u64, time: Duration) -> u64 {
    n.saturating_mul(1000) / (time.as_millis() as u64).max(1)
}

/// A size for people: decimal units, as registries and disks have them.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", Decimal { value: n, unit: 1_000, places: 1 }),
        1_000_000..1_000_000_000 => format!("{} MB", Decimal { value: n, unit: 1_000_000, places: 1 }),
        _ => format!("{} GB", Decimal { value: n, unit: 1_000_000_000, places: 2 }),
    }
}

/// The last line of a failed command with `--json`.
pub fn error(error: &Error) {
    let value = json!({
        "event": "error",
        "kind": error.kind().name(),
        "exitCode": error.kind().exit_code(),
        "message": error.to_string(),
    });
    // Standard output may be what failed; the line on standard error stands anyway.
    let _ = writeln!(io::stdout(), "{value}");
}
