//! The example layout: that it is what its generator writes, and that each program runs where it
//! should and only there.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::harness::*;

const GENERATOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello/generate.py");
const SIGILL: i32 = 4;

#[test]
fn its_files_are_what_the_generator_writes() {
    run("python3", ["-B", GENERATOR, "--check"]);
}

/// Runs a program of the example under qemu-user; gives what it said, or the signal it died of.
fn under_qemu(qemu: &str, cpu: &str, name: &str) -> Result<String, i32> {
    let scratch = Scratch::new();
    let path = scratch.write("hello", program(name));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("an executable");
    let output = Command::new(qemu).args(["-cpu", cpu, &path]).output().expect("qemu-user-static");
    match output.status.signal() {
        Some(signal) => Err(signal),
        None => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

#[test]
fn its_arm_programs_die_on_lesser_cpus() {
    let cpus = ["arm926", "arm1176", "cortex-a7"]; // each can run what its place in the list says
    for (need, name) in ["v5", "v6", "v7"].into_iter().enumerate() {
        for (has, cpu) in cpus.into_iter().enumerate() {
            let expected =
                if has >= need { Ok(format!("hello from linux/arm/{name}\n")) } else { Err(SIGILL) };
            assert_eq!(under_qemu("qemu-arm-static", cpu, name), expected, "{name} on {cpu}");
        }
    }
}

#[test]
fn its_64_bit_programs_run() {
    let arm64 = under_qemu("qemu-aarch64-static", "cortex-a53", "arm64");
    assert_eq!(arm64.as_deref(), Ok("hello from linux/arm64/v8\n"));
    let amd64 = under_qemu("qemu-x86_64-static", "qemu64", "amd64");
    assert_eq!(amd64.as_deref(), Ok("hello from linux/amd64\n"));
}

#[test]
fn readelf_reads_its_attributes() {
    for (name, wanted) in [
        ("v5", ["soft-float ABI", "Tag_CPU_arch: v5TE", "Tag_ARM_ISA_use: Yes"]),
        ("v6", ["hard-float ABI", "Tag_CPU_arch: v6", "Tag_FP_arch: VFPv2"]),
        ("v7", ["hard-float ABI", "Tag_CPU_arch: v7", "Tag_FP_arch: VFPv3-D16"]),
    ] {
        let scratch = Scratch::new();
        let said = run("readelf", ["-h", "-A", &scratch.write("hello", program(name))]);
        for part in wanted {
            assert!(said.contains(part), "{name}: no {part} in\n{said}");
        }
    }
}
