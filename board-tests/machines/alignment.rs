//! Proof that edgepull makes no unaligned access where the CPU cannot: the kernel counts these
//! (/proc/cpu/alignment, Documentation/arch/arm/mem_alignment.rst), and can be told to kill for them.
//!
//! What QEMU enforces, as the first steps of the test show again each time: on the ARM926 every word that
//! is not at a multiple of four, as the hardware does (SCTLR.A). The ARM1176 itself does unaligned LDR and
//! STR (SCTLR.U), so only the instructions that it does not, LDM and LDRD, can be seen there.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

use super::results::peak_memory;
use super::table::Machine as Board;
use crate::harness::*;

/// Loads from the address in r1 (ARM ARM DDI 0406C, section A8).
const LDR: u32 = 0xE591_2000; // ldr   r2, [r1]
const LDM: u32 = 0xE891_000C; // ldm   r1, {r2, r3}
const LDRD: u32 = 0xE1C1_20D0; // ldrd  r2, r3, [r1]

/// An executable that loads from an address which is one more than a multiple of four, and ends well.
fn unaligned(load: u32) -> Vec<u8> {
    let code: [u32; 7] = [
        0xE28F_1011, // add  r1, pc, #17    the data, and one
        load,
        0xE3A0_0000, // mov  r0, #0
        0xE3A0_7001, // mov  r7, #1
        0xEF00_0000, // svc  #0             exit(0)
        0,
        0,
    ];
    static_program(&code)
}

/// The smallest ELF file (System V gABI) with this code and some zeros behind it.
fn static_program(code: &[u32]) -> Vec<u8> {
    const BASE: u32 = 0x10000;
    const START: u32 = 52 + 32;
    let size = START + 4 * code.len() as u32 + 16;
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 40, 0]); // ET_EXEC, EM_ARM
    for word in [1, BASE + START, 52, 0, 0x0500_0200] {
        file.extend(u32::to_le_bytes(word)); // ..., EABI version 5
    }
    for half in [52, 32, 1, 40, 0, 0] {
        file.extend(u16::to_le_bytes(half));
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 0x10000] {
        file.extend(u32::to_le_bytes(word)); // PT_LOAD, readable and executable
    }
    file.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    file.resize(size as usize, 0);
    file
}

/// What the tests pull by: the certificate's kind decides which of ring's signature code runs, the suite
/// decides the version of TLS and the ciphers.
const CONNECTIONS: &[(&str, SupportedCipherSuite)] = &[
    ("EC", TLS13_CHACHA20_POLY1305_SHA256),
    ("EC", TLS13_AES_128_GCM_SHA256),
    ("RSA", TLS13_AES_256_GCM_SHA384),
    ("EC", TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("RSA", TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
];

pub fn prove(board: &'static Board) {
    let authorities = [("EC", Authority::new()), ("RSA", Authority::with_rsa())];
    let mut setup = Setup::of(&board.model);
    for (kind, authority) in &authorities {
        setup = setup.file(&format!("/{kind}.pem"), authority.ca());
    }
    let controls = [("ldr", LDR), ("ldm", LDM), ("ldrd", LDRD)];
    for (name, load) in controls {
        setup = setup.file(&format!("/bin/unaligned-{name}"), unaligned(load));
    }
    let mut machine = setup.boot();
    let all: Vec<&str> = controls.iter().map(|(name, _)| *name).collect();
    let trapped = |name: &str| board.traps_unaligned.contains(&name);

    machine.proves("that the kernel counts unaligned loads");
    // 2: do in software what the CPU cannot. By itself the ARM926's kernel only switches the check off for
    // the moment (0), and QEMU makes it fault again for ever.
    machine.run("echo 2 > /proc/cpu/alignment").succeeds();
    for name in &all {
        let before = counted(&mut machine);
        machine.run(&format!("unaligned-{name}")).succeeds();
        assert_eq!(counted(&mut machine) > before, trapped(name), "{name}: the count was {before}");
    }
    let registries: Vec<(&str, FakeRegistry)> = CONNECTIONS
        .iter()
        .map(|(kind, suite)| {
            let authority = &authorities.iter().find(|(name, _)| name == kind).expect("an authority").1;
            (*kind, FakeRegistry::serving_with_suite(&image(board, *kind == "RSA"), authority, *suite))
        })
        .collect();
    let before = counted(&mut machine);
    pulls(&mut machine, &registries, "makes no unaligned access");
    assert_eq!(counted(&mut machine), before, "edgepull makes unaligned accesses");

    machine.run("echo 4 > /proc/cpu/alignment").succeeds();
    machine.proves("that the kernel now kills for unaligned loads");
    for name in all.iter().filter(|name| trapped(name)) {
        machine.run(&format!("unaligned-{name}; [ $? = 135 ]")).succeeds().saying("Bus error");
    }
    pulls(&mut machine, &registries, "is not killed for an unaligned access");
    super::results::record(board.model.name, "seconds", machine.seconds());
}

/// How many unaligned accesses of programs the kernel has seen.
fn counted(machine: &mut Machine) -> u64 {
    let text = machine.run("cat /proc/cpu/alignment").succeeds().stdout();
    let user = text.lines().find_map(|line| line.strip_prefix("User:"));
    user.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no count of users: {text}"))
}

/// An image of some hundred files and all kinds of lengths.
fn image(board: &Board, zstd: bool) -> Artifact {
    let layer = (0..150u32).fold(Layer::new().dir("files", 0o755), |layer, number| {
        let line = format!("line of the file {number}\n");
        layer.file(&format!("files/{number}"), line.repeat(number as usize))
    });
    let image = Image::of(board.candidates[0]).layer(layer);
    if zstd { image.in_zstd().build() } else { image.build() }
}

fn pulls(machine: &mut Machine, registries: &[(&str, FakeRegistry)], what: &str) {
    for ((kind, registry), (_, suite)) in registries.iter().zip(CONNECTIONS) {
        machine.proves(&format!("edgepull {what}: {:?}, {kind} certificate", suite.suite()));
        let image = registry.image_for_guest();
        let outcome = machine.run(&format!("edgepull -v --ca-file /{kind}.pem pull {image} /root/image"));
        peak_memory(machine.model().name, &outcome.succeeds());
        machine.run("rm -r /root/image").succeeds();
    }
}
