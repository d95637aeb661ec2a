//! Command lines and what they mean.

use super::definition::Complete;
use super::*;

fn run(line: &str) -> Result<Invocation> {
    parse(line.split_whitespace().map(OsString::from))
}

fn refusal(line: &str) -> String {
    let error = run(line).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{line}");
    error.to_string()
}

#[test]
fn options_stand_before_or_after_the_command() {
    for line in
        ["--variant v6 -v --json pull alpine /x --replace", "pull alpine --replace /x --json -v --variant=v6"]
    {
        let Invocation { options, command: Command::Pull(pull) } = run(line).unwrap() else { panic!() };
        assert_eq!(options.variant.as_deref(), Some("v6"));
        assert!(options.json && options.verbose == 1 && pull.replace && !pull.bundle);
        assert_eq!(pull.directory, PathBuf::from("/x"));
    }
    assert_eq!(run("--variant auto platform").unwrap().options.variant, None);
}

/// A command with what it cannot do without.
fn least(command: &CommandSpec) -> String {
    let needed = command.arguments.iter().filter(|argument| !argument.optional);
    let line = needed
        .fold(command.name.to_owned(), |line, argument| format!("{line} {}", argument.name.to_lowercase()));
    match command.name {
        "manifest push from-args" => line + " --platforms linux/arm --template a:ARCH --target a",
        "manifest annotate" => line + " image",
        _ => line,
    }
}

#[test]
fn every_row_of_the_tables_is_parsed() {
    for option in definition::options() {
        let verb = option.commands.first().copied().unwrap_or(Verb::Pull);
        let command = least(commands().find(|command| command.verb == verb).unwrap());
        let value = match option.value {
            Some((_, Complete::Words(words))) => format!("={}", words[1]),
            Some((_, Complete::Number)) => "=3".into(),
            Some((_, Complete::Line)) => "=key=value".into(),
            Some(_) => "=/some".into(),
            None => String::new(),
        };
        // One of these is nothing without the other.
        let other = match option.long {
            "username" => " --password=x",
            "password" => " --username=x",
            _ => "",
        };
        let line = format!("--{}{value}{other} {command}", option.long);
        assert!(run(&line).is_ok(), "{line}: {}", refusal(&line));
        // The value that the table names is taken, and no other one is.
        let wrong = if option.value.is_some() { "" } else { "=x" };
        let line = format!("{command} --{}{wrong}", option.long);
        assert!(run(&line).is_err(), "{line}");
    }
    for command in commands() {
        let words = command.arguments.iter().map(|argument| argument.name.to_lowercase());
        let line = words.fold(command.name.to_owned(), |line, word| format!("{line} {word}"));
        let line = if command.name.ends_with("from-args") { least(command) } else { line };
        let line = line.replace(" command", " pull");
        assert!(run(&line).is_ok(), "{line}: {}", refusal(&line));
        let repeated = command.arguments.iter().any(|argument| argument.repeated);
        assert!(repeated || refusal(&format!("{line} more")).contains("too many"), "{line}");
        let (shorter, _) = line.rsplit_once(' ').unwrap_or(("", ""));
        let needed = command.arguments.last().is_some_and(|argument| !argument.optional);
        assert!(!needed || refusal(shorter).contains("is missing"), "{line}");
    }
}

#[test]
fn help_is_that_of_the_command_beside_it() {
    let topic = |line| match run(line).unwrap().command {
        Command::Help(Help::One(command)) => Some(command.name),
        Command::Help(Help::All) => None,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(topic("--help"), None);
    assert_eq!(topic("help"), None);
    assert_eq!(topic("help inspect"), Some("inspect"));
    assert_eq!(topic("-h pull alpine"), Some("pull"));
    assert_eq!(topic("pull --help --raw"), Some("pull"));
    assert_eq!(topic("nonsense --help"), None);
    #[cfg(feature = "publish")]
    for line in ["help manifest push", "manifest push --help x", "help manifest push x"] {
        assert_eq!(topic(line), Some("manifest push"), "{line}");
    }
    #[cfg(feature = "publish")]
    assert!(matches!(run("help manifest").unwrap().command, Command::Help(Help::Group(_))));
    assert!(refusal("help nonsense").contains(" and help;"));
}

#[test]
fn state_is_kept_in_var_lib_unless_the_command_line_names_a_place() {
    assert_eq!(run("platform").unwrap().options.state_dir, PathBuf::from("/var/lib/edgepull"));
    assert_eq!(run("platform --state-dir /run/x").unwrap().options.state_dir, PathBuf::from("/run/x"));
}

#[test]
fn rates_are_written_as_for_curl() {
    for (text, bytes) in
        [("200k", 200 << 10), ("1M", 1 << 20), ("1.5m", 3 << 19), ("2G", 2 << 30), ("4096", 4096)]
    {
        assert_eq!(rate("limit-rate", text, RATE_MIN).unwrap(), bytes, "{text}");
    }
    for text in [
        "",
        "k",
        "fast",
        "-1M",
        "1e6",
        "1023",
        "0",
        "inf",
        "1T",
        "9999999999G",
        "1073741824G",
        "1é",
        "1.x",
        ".5M",
        "1..5M",
    ] {
        let refused = rate("limit-rate", text, RATE_MIN).unwrap_err().to_string();
        assert!(refused.contains("--limit-rate") && refused.contains("1024 bytes a second"), "{refused}");
    }
}

#[test]
fn the_lowest_rate_is_a_choice_of_who_asks_a_registry() {
    let lowest = |line| run(line).unwrap().options.lowest.rate;
    assert_eq!(lowest("pull a /x"), 512);
    assert_eq!(lowest("pull a /x --lowest-rate 100"), 100);
    assert_eq!(lowest("update --all --lowest-rate=1.5k"), 1536);
    assert!(refusal("update --all --lowest-rate 0").contains("is no rate of 1 bytes a second or more"));
    assert!(refusal("gc --lowest-rate 100").contains("--lowest-rate does not go with gc"));
}

#[test]
fn an_option_that_does_nothing_is_an_error() {
    for option in [
        "--background",
        "--variant v6",
        "--platform linux/arm",
        "--cpuinfo /c",
        "--machine armv6l",
        "--plain-http",
        "--ca-file /c",
        "--auth-file /a",
        "--hosts-dir /h",
        "--limit-rate 1M",
        "--lowest-rate 100",
        "--wait-online 5",
    ] {
        let (name, _) = option.split_once(' ').unwrap_or((option, ""));
        let idle = format!("verify: {name} does nothing without --repair");
        assert!(refusal(&format!("verify app {option}")).contains(&idle), "{option}");
        assert!(refusal(&format!("{option} verify")).contains(&idle), "{option}");
        assert!(run(&format!("verify {option} --repair")).is_ok(), "{option}");
        #[cfg(feature = "publish")]
        assert!(refusal(&format!("manifest rm h/l {option}")).contains("does not go with"), "{option}");
        let is_for_a_choice = ["--variant", "--platform", "--cpuinfo", "--machine"].contains(&name);
        let raw = format!("inspect --raw {option} a");
        match is_for_a_choice {
            true => assert!(refusal(&raw).contains("does nothing beside --raw"), "{option}"),
            false if name == "--background" => {}
            false => assert!(run(&raw).is_ok(), "{option}"),
        }
        assert!(name == "--background" || run(&format!("inspect {option} a")).is_ok(), "{option}");
    }
    assert!(run("--state-dir /s --json -v verify --wait").is_ok());
}

#[test]
fn deployments_are_named() {
    let command = |line| run(line).unwrap().command;
    let Command::Update { names } = command("update b a b") else { panic!() };
    assert_eq!(names, ["b", "a"]);
    let Command::Update { names } = command("update") else { panic!() };
    assert!(names.is_empty());
    let Command::Update { names } = command("update --all") else { panic!() };
    assert_eq!(names, [""; 0]);
    let Command::Rollback { name, to: Some(3) } = command("rollback app --to=3") else { panic!() };
    assert_eq!(name, "app");
    assert!(matches!(command("status"), Command::Status { name: None }));
    assert!(matches!(command("verify app --repair"), Command::Verify { name: Some(_), repair: true }));
    assert!(matches!(command("gc --dry-run"), Command::Gc { dry_run: true }));
    assert!(run("gc --wait").unwrap().options.wait && !run("gc").unwrap().options.wait);
}

#[test]
fn what_is_wrong_is_named() {
    for (line, named) in [
        ("", "a command is missing: platform, inspect, pull, deploy, update"),
        ("pul alpine x", "pul"),
        ("pull", "pull IMAGE DIR: IMAGE is missing"),
        ("pull alpine", "DIR is missing"),
        ("pull alpine a b", "too many"),
        ("pull Alpine a", "upper-case"),
        ("inspect alpine --replace", "--replace does not go with inspect"),
        ("platform --raw", "--raw"),
        ("inspect alpine --wait", "--wait does not go with inspect"),
        ("status --keep 2", "--keep does not go with status"),
        ("deploy app", "deploy NAME IMAGE: IMAGE is missing"),
        ("deploy ../app alpine", "no name for a deployment"),
        ("deploy app alpine --keep 0", "--keep \"0\" is not a number from 1 to 16"),
        ("deploy app alpine --keep +2", "\"+2\""),
        ("deploy app alpine --confirm-within 9999999999", "9999999999"),
        ("deploy app alpine --monotonic digest", "neither created nor version"),
        ("update app --verify-key k", "--verify-key does not go with update"),
        ("update a --all", "either NAMEs or --all"),
        ("update a b/c", "b/c"),
        ("rollback app --to x", "--to \"x\""),
        ("rollback", "NAME is missing"),
        ("--nonsense platform", "--nonsense"),
        ("--variant", "variant"),
        ("--json=yes platform", "yes"),
    ] {
        assert!(refusal(line).contains(named), "{line}: {}", refusal(line));
    }
}

#[test]
fn platforms_are_one_but_for_copy_and_have_features_but_for_copy() {
    assert_eq!(run("--platform linux(+gpu)/arm64 inspect a").unwrap().options.os_features, ["gpu"]);
    assert!(refusal("--platform arm64 --platform arm inspect a").contains("one --platform"));
    assert!(refusal("copy --platform linux(+gpu)/arm64 a oci:b").contains("no features"));
    #[cfg(feature = "publish")]
    match run("copy --platform arm64 --platform arm/v6 a oci:b").unwrap().command {
        super::Command::Copy { platforms, .. } => {
            let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            assert_eq!(platforms, ["linux/arm64/v8", "linux/arm/v6"]);
        }
        other => panic!("{other:?}"),
    }
}
