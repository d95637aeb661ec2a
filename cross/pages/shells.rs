//! Completions for bash, zsh and fish. The parts that are no list are in `edgepull.bash`, `_edgepull` and
//! `edgepull.fish` beside this file; `@NAME@` there is where a list goes.

use edgepull::cli::definition::{
    ArgumentSpec, CommandSpec, Complete, IMAGES, OptionSpec, STATE_DIR, commands, first_words, options,
    options_of,
};
use std::fmt::Write;

/// For `/usr/share/bash-completion/completions/edgepull`.
pub fn bash() -> String {
    let (mut values, mut valued, mut arguments, mut offers) =
        (String::new(), Vec::new(), String::new(), String::new());
    for option in options() {
        if let Some((_, complete)) = option.value {
            let _ = writeln!(values, "    --{}) {} ;;", option.long, bash_offer(complete));
            valued.push(format!("--{}", option.long));
        }
    }
    for group in groups() {
        let _ = writeln!(arguments, "    '{group}-0') _edgepull_words '{}' ;;", below(&group).join(" "));
    }
    for command in commands() {
        for (place, ArgumentSpec { complete, repeated, .. }) in command.arguments.iter().enumerate() {
            let quoted = format!("'{}-{place}'", command.name);
            let pattern = if *repeated { format!("'{}-'*", command.name) } else { quoted };
            let _ = write!(arguments, "    {pattern}) {}", bash_offer(*complete));
            match &below(command.name)[..] {
                words if place == 0 && !words.is_empty() => {
                    let _ = writeln!(arguments, "; _edgepull_more '{}' ;;", words.join(" "));
                }
                _ => arguments.push_str(" ;;\n"),
            }
        }
        let _ =
            writeln!(offers, "    '{}') offer='{}' ;;", command.name, longs(options_of(Some(command.verb))));
    }
    let prefixes_of_names: Vec<_> = prefixes_of_names().iter().map(|name| format!("'{name}'")).collect();
    include_str!("edgepull.bash")
        .replace("@VALUES@\n", &values)
        .replace("@VALUED@", &valued.join(" | "))
        .replace("@ARGUMENTS@\n", &arguments)
        .replace("@OPTIONS@\n", &offers)
        .replace("@SHARED@", &longs(options_of(None)))
        .replace("@ALL@", &longs(options()))
        .replace("@COMMANDS@", &first_words(commands()).join(" "))
        .replace("@NAMES@", &prefixes_of_names.join(" | "))
        .replace("@PREFIXES@", &prefixes())
        .replace("@STATE@", STATE_DIR)
}

/// Commands that are none without a further word: `manifest`.
fn groups() -> Vec<String> {
    prefixes_of_names().into_iter().filter(|name| commands().all(|command| command.name != name)).collect()
}

/// Everything that names begin with, and the names: `manifest`, `manifest push`, `manifest push from-spec`, `pull`.
fn prefixes_of_names() -> Vec<String> {
    let mut prefixes: Vec<String> = Vec::new();
    for command in commands() {
        let words: Vec<&str> = command.name.split(' ').collect();
        let heads = (1..=words.len()).map(|count| words[..count].join(" "));
        prefixes.extend(heads.filter(|head| !prefixes.contains(head)).collect::<Vec<_>>());
    }
    prefixes
}

/// Lists the words that a shell offers behind `name`: behind `manifest` there are `check`, `create` and others.
/// A command's second name (`manifest pushml`) is understood, but not offered.
fn below(name: &str) -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for command in commands().filter(|command| !is_second_name(command)) {
        let rest = command.name.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        let word = rest.and_then(|rest| rest.split(' ').next());
        words.extend(word.filter(|word| !words.contains(word)));
    }
    words
}

fn is_second_name(command: &CommandSpec) -> bool {
    commands().find(|first| first.verb == command.verb).is_some_and(|first| first.name != command.name)
}

fn bash_offer(complete: Complete) -> String {
    match complete {
        Complete::File => "_edgepull_paths -f".into(),
        Complete::Directory => "_edgepull_paths -d".into(),
        Complete::Image => "_edgepull_image".into(),
        Complete::Command => format!("_edgepull_words '{}'", names()),
        Complete::Deployment => "_edgepull_deployments".into(),
        Complete::Number | Complete::Line => ":".into(),
        Complete::Words(words) => format!("_edgepull_words '{}'", words.join(" ")),
    }
}

/// For `/usr/share/zsh/vendor-completions/_edgepull`.
pub fn zsh() -> String {
    let shared: String = options_of(None).map(|option| zsh_option(option) + "\n").collect();
    let all: String = options().map(|option| zsh_option(option) + "\n").collect();
    let (mut first, mut cases) = (String::new(), String::new());
    for group in groups() {
        let words = below(&group).join(" ");
        let _ = writeln!(first, "        '{group}:{}'", words.replace(' ', ", "));
        let _ = writeln!(
            cases,
            "    '{group}')\n    _arguments -S -s $shared ':command:({words})' && return\n    ;;"
        );
    }
    for command in commands() {
        if !command.name.contains(' ') {
            let help = quoted(command.help).replace(':', "\\:");
            let _ = writeln!(first, "        '{}:{help}'", command.name);
        }
        let mut lines: String =
            options_of(Some(command.verb)).map(|option| zsh_option(option) + " \\\n").collect();
        for (place, argument) in command.arguments.iter().enumerate() {
            let many = if argument.repeated { "*" } else { "" };
            let offer = match &below(command.name)[..] {
                words if place == 0 && !words.is_empty() => {
                    format!("{{{}; compadd {}}}", zsh_offer(argument.complete), words.join(" "))
                }
                _ => zsh_offer(argument.complete),
            };
            let _ = writeln!(lines, "    '{many}:{}:{offer}' \\", argument.name);
        }
        let _ = writeln!(
            cases,
            "    '{}')\n    _arguments -S -s $shared \\\n{lines}    && return\n    ;;",
            command.name
        );
    }
    let names: Vec<_> = prefixes_of_names().iter().map(|name| format!("'{name}'")).collect();
    include_str!("_edgepull")
        .replace("@SHARED@\n", &shared)
        .replace("@ALL@\n", &all)
        .replace("@COMMANDS@\n", &first)
        .replace("@NAMES@", &names.join(" "))
        .replace("@CASES@\n", &cases)
}

fn zsh_option(option: &OptionSpec) -> String {
    let help = quoted(option.help).replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let value = match option.value {
        Some((_, complete)) => format!(":{}:{}", option.long, zsh_offer(complete)),
        None => String::new(),
    };
    let equals = if option.value.is_some() { "=" } else { "" };
    let mut line = format!("    '--{}{equals}[{help}]{value}'", option.long);
    if let Some(short) = option.short {
        let _ = write!(line, " '-{short}[{help}]'");
    }
    line
}

fn zsh_offer(complete: Complete) -> String {
    match complete {
        Complete::File => "_files".into(),
        Complete::Directory => "_files -/".into(),
        Complete::Image => "_edgepull_image".into(),
        Complete::Deployment => format!("_path_files -/ -W {STATE_DIR}/deployments"),
        Complete::Number | Complete::Line => " ".into(),
        Complete::Command => format!("({})", names()),
        Complete::Words(words) => format!("({})", words.join(" ")),
    }
}

/// For `/usr/share/fish/vendor_completions.d/edgepull.fish`.
pub fn fish() -> String {
    let mut lines = String::new();
    for name in prefixes_of_names() {
        let command = commands().find(|command| command.name == name);
        if command.is_some_and(is_second_name) {
            continue;
        }
        let help = command.map_or(String::new(), |command| format!(" -d '{}'", fish_quoted(command.help)));
        let (group, word) = name.rsplit_once(' ').unwrap_or(("", &name));
        let condition = match group {
            "" => "__fish_use_subcommand".to_owned(),
            group => {
                let others = below(group).join(" ");
                format!("'{}; and not __fish_seen_subcommand_from {others}'", fish_seen(group))
            }
        };
        let _ = writeln!(lines, "complete -c edgepull -n {condition} -a {word}{help}");
        for argument in command.into_iter().flat_map(|command| command.arguments) {
            let offer = fish_offer(argument.complete);
            let _ = writeln!(lines, "complete -c edgepull -n '{}' -a '{offer}'", fish_seen(&name));
        }
    }
    for option in options() {
        let seen = commands().filter(|command| option.commands.contains(&command.verb));
        let mut seen: Vec<_> =
            seen.map(|command| format!("begin; {}; end", fish_seen(command.name))).collect();
        let _ = write!(lines, "complete -c edgepull");
        if !seen.is_empty() {
            // An option may stand before its command.
            seen.push("__fish_use_subcommand".to_owned());
            let _ = write!(lines, " -n '{}'", seen.join("; or "));
        }
        if let Some(short) = option.short {
            let _ = write!(lines, " -s {short}");
        }
        let _ = write!(lines, " -l {}", option.long);
        match option.value {
            Some((_, Complete::File)) => lines.push_str(" -r -F"),
            Some((_, Complete::Number | Complete::Line)) => lines.push_str(" -x"),
            Some((_, complete)) => {
                let _ = write!(lines, " -x -a '{}'", fish_offer(complete));
            }
            None => {}
        }
        let _ = writeln!(lines, " -d '{}'", fish_quoted(option.help));
    }
    include_str!("edgepull.fish")
        .replace("@LINES@\n", &lines)
        .replace("@PREFIXES@", &prefixes())
        .replace("@STATE@", STATE_DIR)
}

/// True once every word of a command's name was typed.
fn fish_seen(name: &str) -> String {
    let words: Vec<_> = name.split(' ').map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
    words.join("; and ")
}

fn fish_offer(complete: Complete) -> String {
    match complete {
        Complete::File => "(__fish_complete_path)".into(),
        Complete::Directory => "(__fish_complete_directories)".into(),
        Complete::Image => "(__edgepull_images)".into(),
        Complete::Deployment => "(__edgepull_deployments)".into(),
        Complete::Number | Complete::Line => String::new(),
        Complete::Command => names(),
        Complete::Words(words) => words.join(" "),
    }
}

fn longs(options: impl Iterator<Item = &'static OptionSpec>) -> String {
    options.map(|option| format!("--{}", option.long)).collect::<Vec<_>>().join(" ")
}

/// Every word of any name, which is what may follow `help`.
fn names() -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in commands().flat_map(|command| command.name.split(' ')) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" ")
}

fn prefixes() -> String {
    IMAGES.iter().filter_map(|image| Some(image.prefix?.0)).collect::<Vec<_>>().join(" ")
}

/// Within single quotes, for sh and zsh.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''").replace('`', "")
}

/// Within single quotes, for fish.
fn fish_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// What an interactive bash makes of keys typed behind `edgepull `: one argument a `<…>`.
    /// `script` is the terminal that it needs to complete anything.
    fn typed(keys: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("completion"), bash()).unwrap();
        std::fs::create_dir_all(folder.path().join("layouts/hello")).unwrap();
        std::fs::write(folder.path().join("ca.pem"), "").unwrap();
        let mut terminal = Command::new("script")
            .args(["-qec", "bash --norc --noprofile -i", "/dev/null"])
            .current_dir(folder.path())
            .env("TERM", "dumb")
            .env("INPUTRC", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let session = format!(
            ". ./completion\nedgepull() {{ printf 'ran'; printf '<%s>' \"$@\"; echo; }}\nedgepull {keys}\nexit\n"
        );
        terminal.stdin.take().unwrap().write_all(session.as_bytes()).unwrap();
        let output = String::from_utf8(terminal.wait_with_output().unwrap().stdout).unwrap();
        let ran = output.lines().find_map(|line| line.trim().strip_prefix("ran<"));
        format!("<{}", ran.unwrap_or_else(|| panic!("{keys:?}: {output}")))
    }

    #[test]
    fn bash_completes_commands_options_values_and_images() {
        assert_eq!(typed("pu\t --rep\t oci:lay\thel\t /x"), "<pull><--replace><oci:layouts/hello/></x>");
        assert_eq!(typed("--var\t v6 ins\talpine --ra\t"), "<--variant><v6><inspect><alpine><--raw>");
        assert_eq!(
            typed("--machine aarch\t--ca-file=ca\tplat\t"),
            "<--machine><aarch64><--ca-file=ca.pem><platform>"
        );
        assert_eq!(typed("help ins\t"), "<help><inspect>");
        assert_eq!(typed("roll\t app --wa\t --t\t 3"), "<rollback><app><--wait><--to><3>");
        assert_eq!(typed("dep\t app oci:lay\thel\t --hea\t"), "<deploy><app><oci:layouts/hello/><--health>");
        assert_eq!(typed("pull alpine lay\t"), "<pull><alpine><layouts/>");
        assert_eq!(
            typed("mani\tcre\t--am\t li oci:lay\thel\t"),
            "<manifest><create><--amend><li><oci:layouts/hello/>"
        );
        assert_eq!(
            typed("manifest pu\tfrom-s\tca\t --str\t"),
            "<manifest><push><from-spec><ca.pem><--strict>"
        );
        assert_eq!(typed("manifest push oci:lay\t"), "<manifest><push><oci:layouts/>");
        assert_eq!(typed("manifest push from-a\t--type o\t"), "<manifest><push><from-args><--type><oci>");
    }

    #[test]
    fn no_shell_is_left_with_a_gap() {
        for text in [bash(), zsh(), fish()] {
            let gap = text.lines().find(|line| line.contains('@') && !line.contains("$@"));
            assert!(gap.is_none_or(|line| line.contains("[@]")), "{gap:?}");
            for option in options() {
                assert!(text.contains(option.long), "{}", option.long);
            }
        }
    }
}
