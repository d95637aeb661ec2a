//! A board's everyday: who am I, and the right entry of an image from a registry, run.

use serde_json::Value;

use super::results::{peak_memory, record};
use super::table::Machine as Board;
use crate::harness::*;
use crate::publish::made;

/// The programs of examples/hello, and the platform that each is for.
const PROGRAMS: &[(&str, &str)] = &[
    ("amd64", "linux/amd64"),
    ("v5", "linux/arm/v5"),
    ("v6", "linux/arm/v6"),
    ("v7", "linux/arm/v7"),
    ("arm64", "linux/arm64/v8"),
];

fn platform_of(program: &str) -> &'static str {
    PROGRAMS.iter().find(|(name, _)| *name == program).expect("a program of examples/hello").1
}

pub fn prove(board: &'static Board) {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let registry = Registry::with().tls(&authority).start();
    let mut machine = Setup::of(&board.model).file("/ca.pem", authority.ca()).boot();

    who_it_is(&mut machine, board);
    let push = |name: &str, artifact: Artifact| {
        registry.push(&artifact.layout(&scratch, name), name);
        registry.image_for_guest(name)
    };
    the_right_entry(&mut machine, board, &push("all", all_but(None)));
    match board.falls_back_to {
        Some(next) => {
            machine.proves("without its own entry it takes the next best");
            takes(&mut machine, &push("fallback", all_but(Some(board.takes))), next);
        }
        None => {
            machine.proves("without its own entry there is nothing that it may take");
            refuses(&mut machine, &push("fallback", all_but(Some(board.takes))), exit::NO_PLATFORM)
                .saying("linux/arm");
        }
    }
    machine.proves("it refuses a list of what it cannot run");
    let foreign = PROGRAMS.iter().filter(|(_, platform)| !board.candidates.contains(platform));
    let foreign = foreign
        .fold(Index::new(), |index, (name, platform)| index.with(Image::running(platform, name).build()));
    refuses(&mut machine, &push("foreign", foreign.build()), exit::NO_PLATFORM).saying("linux/amd64");
    code_for_a_newer_cpu(&mut machine, board, &push);
    machine.proves("it takes its own entry of what examples/publish has made and pushed");
    let made = made(&registry, &authority, &scratch);
    takes(&mut machine, &registry.image_for_guest(&made), board.takes);
    record(board.model.name, "seconds", machine.seconds());
}

fn who_it_is(machine: &mut Machine, board: &Board) {
    let kernel = machine.run("uname -r").succeeds().stdout();
    record(board.model.name, "kernel", kernel.trim());
    machine.proves("edgepull platform finds out who the board is");
    let text = machine.run("edgepull platform").succeeds().stdout();
    assert!(text.starts_with(&format!("this board is {}: ", board.candidates[0])), "{text}");
    let json = machine.run("edgepull platform --json").succeeds().stdout();
    let found: Value = serde_json::from_str(&json).expect("JSON");
    let candidates: Vec<&str> = found["candidates"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["platform"].as_str())
        .collect();
    assert_eq!(candidates, board.candidates, "{text}");
    for (place, expected) in board.evidence {
        let seen =
            found.pointer(place).map(|seen| seen.as_str().map_or_else(|| seen.to_string(), str::to_owned));
        assert!(seen.is_some_and(|seen| seen.starts_with(expected)), "{place} is not {expected}: {json}");
    }
    record(board.model.name, "platform", candidates[0]);
}

/// An index over all programs but one, each under its own platform.
fn all_but(missing: Option<&str>) -> Artifact {
    let there = PROGRAMS.iter().filter(|(name, _)| Some(*name) != missing);
    there
        .fold(Index::new(), |index, (name, platform)| index.with(Image::running(platform, name).build()))
        .build()
}

fn the_right_entry(machine: &mut Machine, board: &Board, image: &str) {
    machine.proves("without --ca-file it does not trust the registry");
    machine.run(&format!("edgepull pull {image} /root/image")).fails_with(exit::NETWORK);
    machine.proves("it takes its own entry, and the program in it runs");
    let outcome = takes(machine, image, board.takes);
    peak_memory(board.model.name, &outcome);
    record(board.model.name, "entry", platform_of(board.takes));
}

/// Pulls and runs the image: it is `program` that runs.
#[track_caller]
fn takes(machine: &mut Machine, image: &str, program: &str) -> Outcome {
    let outcome = machine.run(&format!("edgepull -v --ca-file /ca.pem pull {image} /root/image")).succeeds();
    let said = machine.run("/root/image/hello").succeeds().stdout();
    assert_eq!(said, format!("hello from {}\n", platform_of(program)));
    machine.run("rm -r /root/image").succeeds();
    outcome
}

/// The pull ends with this exit code, and leaves nothing behind.
#[track_caller]
fn refuses(machine: &mut Machine, image: &str, code: i32) -> Outcome {
    let outcome =
        machine.run(&format!("edgepull --ca-file /ca.pem pull {image} /root/image")).fails_with(code);
    assert_eq!(machine.run("ls -A /root").succeeds().stdout(), "", "something is left");
    outcome
}

/// Code that the CPU does not have, under a label that it takes.
fn code_for_a_newer_cpu(machine: &mut Machine, board: &Board, push: &impl Fn(&str, Artifact) -> String) {
    let (label, code) = match board.takes {
        "v5" => ("v5", "v6"),
        "v6" => ("v6", "v7"),
        _ => return,
    };
    let image =
        push("mislabelled", Index::new().with(Image::running(platform_of(label), code).build()).build());
    machine.proves("it refuses code for a newer CPU under a label for this one");
    refuses(machine, &image, exit::BAD_IMAGE).saying("/hello");
    machine.proves("and that code would have died");
    machine.run(&format!("edgepull --ca-file /ca.pem pull --force {image} /root/image")).succeeds();
    machine.run("/root/image/hello; [ $? = 132 ]").succeeds().saying("Illegal instruction");
    machine.run("rm -r /root/image").succeeds();
}
