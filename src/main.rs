//! The `edgepull` program: log set-up, the command, the exit code; nothing else.

use edgepull::cli::{self, Options};
use edgepull::commands;
use edgepull::error::{Error, Printable};
use edgepull::sys;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Log lines on standard error: `edgepull: warning: …`. Those of one message that follow its first are set in, so that
/// none is taken for another message.
struct Stderr {
    /// Is set if standard error was a terminal at the beginning; the process that fetches has a pipe there.
    is_terminal: bool,
}

static STDERR: OnceLock<Stderr> = OnceLock::new();

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Warnings of the libraries below (ureq, rustls) are details of retries that edgepull words itself.
        metadata.target().starts_with("edgepull") || log::max_level() == LevelFilter::Trace
    }
    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let word = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        // On a terminal a progress bar may stand there, without a line end.
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let text = record.args().to_string();
        let mut lines = text.split('\n');
        let first = lines.next().unwrap_or_default();
        let mut whole = format!("{clear}edgepull: {word}{}\n", Printable(first));
        for line in lines {
            let indent = if line.is_empty() { "" } else { "  " };
            whole.push_str(&format!("{indent}{}\n", Printable(line)));
        }
        // At once, or something else would come between its words. A log that cannot be written must not end a pull.
        let _ = std::io::stderr().write_all(whole.as_bytes());
    }
    fn flush(&self) {}
}

fn start_log(options: &Options) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::Off,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    log::set_max_level(level);
    let is_terminal = std::io::stderr().is_terminal();
    let _ = log::set_logger(STDERR.get_or_init(|| Stderr { is_terminal })); // fails only if set twice
}

fn main() -> ExitCode {
    sys::no_core_dumps();
    sys::explain_traps();
    let outcome = cli::parse(std::env::args_os().skip(1)).and_then(|invocation| {
        start_log(&invocation.options);
        commands::run(&invocation).inspect_err(|error| {
            if invocation.options.json {
                commands::report::error(error);
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The one readable line, and the exit code.
fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "edgepull: {error}");
    ExitCode::from(error.kind().exit_code())
}
