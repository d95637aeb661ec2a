//! The manual page and the shells' completions, from the one definition of the command line.
//! `cross/package` runs it; none of this is in the agent.
//!
//!     cargo run --example pages -- FOLDER 'November 21, 2026'

mod man;
mod shells;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, date] = &arguments[..] else {
        eprintln!("usage: pages FOLDER DATE");
        return ExitCode::from(2);
    };
    let files = [
        ("edgepull.1", man::page(date)),
        ("edgepull.bash", shells::bash()),
        ("_edgepull", shells::zsh()),
        ("edgepull.fish", shells::fish()),
    ];
    let write = |(name, text)| std::fs::write(Path::new(folder).join(name), text);
    match std::fs::create_dir_all(folder).and_then(|()| files.into_iter().try_for_each(write)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}
