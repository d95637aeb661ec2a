//! `/proc/cpuinfo`, and what is decided by it: the same whatever the pieces that it is read in, without any memory of
//! the heap, and never more than the least core can do.
#![no_main]

use edgepull::platform::cpuinfo::{Cpuinfo, Family, Parser};
use edgepull::platform::{Host, Inputs};
use edgepull_fuzz::{assert_printable, fuzz_target, head, memory};

const MACHINES: [Option<&str>; 8] = [
    None,
    Some("armv5tejl"),
    Some("armv6l"),
    Some("armv7l"),
    Some("armv8l"),
    Some("aarch64"),
    Some("x86_64"),
    Some("armv7b"),
];

fn host(cpuinfo: &[u8], machine: Option<&str>) -> Host {
    let inputs = Inputs { cpuinfo: Some(cpuinfo), machine, ..Inputs::default() };
    memory::within(0, || Host::detect(&inputs)).expect("no option is wrong")
}

fuzz_target!(|data: &[u8]| {
    let Some(((machine, piece), text)) = head::<(u8, u8)>(data, 2) else { return };
    let whole = memory::within(0, || Cpuinfo::parse(text));
    let mut parser = Parser::new();
    for piece in text.chunks(usize::from(piece) + 1) {
        parser.feed(piece);
    }
    assert_eq!(format!("{:?}", parser.finish()), format!("{whole:?}"), "in pieces of {piece}");

    let machine = MACHINES[usize::from(machine) % MACHINES.len()];
    let found = host(text, machine);
    assert_eq!(found.candidates.is_empty(), found.refusal.is_some());
    for (at, candidate) in found.candidates.iter().enumerate() {
        assert_printable(&candidate.reason);
        assert!(found.candidates[..at].iter().all(|before| before.platform != candidate.platform));
    }
    // Soft floats: what is built for hard ones would be killed.
    let is_32 = matches!(machine, Some("armv5tejl" | "armv6l" | "armv7l"));
    if is_32 && whole.family() == Family::Arm && whole.has_vfp() == Some(false) {
        assert!(found.candidates.iter().all(|one| one.platform.variant == "v5"), "{found:?}");
    }
    // One core that can do less is enough, whatever the others say.
    let least = [b"model name: ARMv6 (v6l)\n\n", text].concat();
    for candidate in &host(&least, Some("armv7l")).candidates {
        let platform = &candidate.platform;
        assert!(
            platform.architecture == "arm" && matches!(platform.variant.as_str(), "v5" | "v6"),
            "{platform}"
        );
    }
});
