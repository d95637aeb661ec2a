//! `edgepull --help` and `edgepull help COMMAND`, from the tables of [`super::definition`].

use super::definition::{
    CommandSpec, EXIT_CODES, IMAGES, OptionSpec, Verb, commands, commands_below, common_options, options_of,
    own_options,
};
use std::fmt::{self, Display, Formatter, Write};

/// Where the explanations start, in columns: of commands and their own options, of image forms, of options.
const COMMAND_COLUMN: usize = 18;
const IMAGE_COLUMN: usize = 44;
const OPTION_COLUMN: usize = 33;
/// No line that is broken here is longer.
const WIDTH: usize = 98;

/// A help text.
#[derive(Debug, Clone)]
pub enum Help {
    /// Of all commands.
    All,
    /// Of those whose names begin so: `manifest`.
    Group(String),
    /// Of one command.
    One(&'static CommandSpec),
}

impl Display for Help {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Help::All => all(f),
            Help::Group(group) => below(group, f),
            Help::One(command) => one(command, f),
        }
    }
}

fn all(f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(
        "edgepull puts the right container image onto this board.\n\n\
         Usage: edgepull [OPTIONS] COMMAND\n\nCommands:\n",
    )?;
    commands().try_for_each(|command| with_options(command, f))?;
    let mut before: &[Verb] = &[];
    for option in common_options() {
        if option.commands != before {
            write!(f, "\nWith {}:\n", option.companions())?;
        }
        before = option.commands;
        row(f, 2, option, OPTION_COLUMN, option.help)?;
    }
    images(f)?;
    shared_options(f)?;
    f.write_str("\nExit codes:")?;
    let mut column = "Exit codes:".len();
    for (place, (code, meaning)) in EXIT_CODES.iter().enumerate() {
        let comma = if place + 1 == EXIT_CODES.len() { '.' } else { ',' };
        // A space, the digits, a space, the meaning, the comma.
        let width = meaning.len() + if *code < 10 { 4 } else { 5 };
        let broken = column + width > WIDTH;
        column = if broken { width - 1 } else { column + width };
        write!(f, "{}{code} {meaning}{comma}", if broken { '\n' } else { ' ' })?;
    }
    Ok(())
}

/// A command and the options that only it has.
fn with_options(command: &CommandSpec, f: &mut Formatter<'_>) -> fmt::Result {
    row(f, 2, command, COMMAND_COLUMN, command.help)?;
    own_options(command.verb).try_for_each(|option| row(f, 6, option, COMMAND_COLUMN + 2, option.help))
}

fn below(group: &str, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "Usage: edgepull [OPTIONS] {group} COMMAND\n\nCommands:")?;
    commands_below(group).try_for_each(|command| with_options(command, f))?;
    write!(f, "\nedgepull help {group} COMMAND has more on each.")
}

fn one(command: &CommandSpec, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "Usage: edgepull [OPTIONS] {command}\n\n{}", command.help)?;
    if !command.more.is_empty() {
        writeln!(f, "\n{}", command.more)?;
    }
    for (place, option) in options_of(Some(command.verb)).enumerate() {
        if place == 0 {
            writeln!(f, "\nIts options:")?;
        }
        row(f, 2, option, COMMAND_COLUMN, option.help)?;
    }
    for (place, more) in commands_below(command.name).enumerate() {
        if place == 0 {
            writeln!(f, "\nSee also:")?;
        }
        row(f, 2, more, COMMAND_COLUMN, more.help)?;
    }
    if command.arguments.iter().any(|argument| matches!(argument.name, "IMAGE" | "SRC")) {
        images(f)?;
    }
    shared_options(f)?;
    write!(f, "\nedgepull help lists all commands; man edgepull explains them.")
}

fn images(f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("\nIMAGE is one of\n")?;
    IMAGES.iter().try_for_each(|image| row(f, 2, image.form, IMAGE_COLUMN, image.help))
}

fn shared_options(f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("\nOptions, before or after the command:\n")?;
    options_of(None).try_for_each(|option| row(f, 2, option, OPTION_COLUMN, option.help))
}

/// `left` after `indent` columns, `right` from `column` on: a line further down where `left` is too wide.
fn row(f: &mut Formatter<'_>, indent: usize, left: impl Display, column: usize, right: &str) -> fmt::Result {
    let left = left.to_string();
    write!(f, "{:indent$}{left}", "")?;
    let mut at = indent + left.chars().count();
    if at + 2 > column {
        f.write_char('\n')?;
        at = 0;
    }
    writeln!(f, "{:1$}{right}", "", column - at)
}

impl Display for CommandSpec {
    /// As it is typed: `pull IMAGE DIR`, `help [COMMAND]`, `update [NAME…]`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.arguments.iter().try_for_each(|argument| {
            let more = if argument.repeated { "…" } else { "" };
            match argument.optional {
                false => write!(f, " {}{more}", argument.name),
                true => write!(f, " [{}{more}]", argument.name),
            }
        })
    }
}

impl Display for OptionSpec {
    /// As it is typed: `-v, --verbose`, `--ca-file FILE`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(short) = self.short {
            write!(f, "-{short}, ")?;
        }
        write!(f, "--{}", self.long)?;
        match self.value {
            Some((name, _)) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::{command_of, options};
    use super::*;

    #[test]
    fn the_help_shows_every_row_of_the_tables() {
        let help = Help::All.to_string();
        let lines: Vec<&str> = help.lines().map(str::trim).collect();
        // Beside it, or, where that is too wide, on the next line.
        let explained = |row: String, help: &str| {
            let at = lines.iter().position(|line| line.starts_with(&row)).unwrap();
            assert!(lines[at].ends_with(help) || lines[at] == row && lines[at + 1] == help, "{row}");
        };
        commands().for_each(|command| explained(command.to_string(), command.help));
        options().for_each(|option| explained(option.to_string(), option.help));
        for (code, meaning) in EXIT_CODES {
            assert!(help.replace('\n', " ").contains(&format!("{code} {meaning}")), "{meaning}");
        }
    }

    #[test]
    fn a_commands_help_has_its_own_options_and_no_others() {
        let help = |name| Help::One(command_of([name].into_iter()).unwrap().0).to_string();
        assert!(help("pull").contains("--replace") && !help("pull").contains("--raw"));
        assert!(help("pull").contains("oci-archive:") && !help("platform").contains("oci-archive:"));
        assert!(help("platform").contains("--variant") && !help("platform").contains("--plain-http"));
        assert!(!help("confirm").contains("--variant") && help("confirm").contains("--json"));
        assert!(help("gc").contains("--wait ") && !help("status").contains("--wait "));
        assert!(help("pull").starts_with("Usage: edgepull [OPTIONS] pull IMAGE DIR\n"));
    }

    #[test]
    fn the_help_fits_a_terminal_of_100_columns() {
        let groups = [Help::All, Help::Group("manifest".into())];
        for topic in groups.into_iter().chain(commands().map(Help::One)) {
            let help = topic.to_string();
            let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(widest.chars().count() <= 100, "{widest}");
            assert!(!help.ends_with('\n') && help.lines().all(|line| line == line.trim_end()));
        }
    }

    #[test]
    fn what_is_too_wide_for_its_column_gets_a_line_of_its_own() {
        struct Row(&'static str);
        impl Display for Row {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                row(f, 2, self.0, 8, "right")
            }
        }
        assert_eq!(Row("1234").to_string(), "  1234  right\n");
        assert_eq!(Row("12345").to_string(), "  12345\n        right\n");
    }
}
