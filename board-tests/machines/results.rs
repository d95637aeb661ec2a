//! What the tests measured, for the table at the end of `board-tests/run`.

use std::io::Write;

use crate::harness::*;

/// Adds a value to a column of the board's row: a line in target/boards/BOARD/COLUMN.
pub fn record(board: &str, column: &str, value: impl std::fmt::Display) {
    let folder = format!("{}/target/boards/{board}", env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(&folder).expect("a folder for the results");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(format!("{folder}/{column}"));
    writeln!(file.expect("a file for the results"), "{value}").expect("a result written");
}

/// What edgepull may use of a board's memory, in KiB (VmHWM of proc_pid_status(5)).
const MOST_MEMORY: u64 = 3 * 1024;

/// The peak that `edgepull -v` says at its end: held against the most it may be, and recorded.
#[track_caller]
pub fn peak_memory(board: &str, outcome: &Outcome) -> u64 {
    let errors = outcome.stderr();
    let said = errors.split_once("peak memory (VmHWM): ").and_then(|(_, rest)| rest.split_once(" KiB"));
    let Some(peak) = said.and_then(|(number, _)| number.parse().ok()) else {
        panic!("edgepull -v says no peak: {errors}")
    };
    assert!(peak <= MOST_MEMORY, "{peak} KiB of memory");
    record(board, "peak", peak);
    peak
}
