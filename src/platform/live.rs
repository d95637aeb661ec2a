//! Observes the machine edgepull runs on: a few kernel files, `uname`, the auxiliary vector, one probe.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use super::cpuinfo::{Cpuinfo, Parser};
use super::evidence::{Evidence, Origin, Userland};
use super::hwcap;
use super::machine::{Machine, Width};
use crate::sys;

/// Bytes of cpuinfo read at once.
const CHUNK: usize = 2048;
/// ELF identification and header up to `e_machine` (gABI, "ELF Header").
const ELF_HEAD: usize = 20;
/// Programs that stand for the userland, best first: the init system, else the shell.
const USERLAND: [&str; 3] = ["/proc/1/exe", "/bin/sh", "/system/bin/sh"];

/// Everything this machine tells.
pub(super) fn observe() -> Evidence {
    let mut evidence = Evidence::new(Origin::Live);
    match read_cpuinfo("/proc/cpuinfo") {
        Some(parser) => evidence.cpuinfo = parser.finish(),
        None => {
            evidence.origin = Origin::Unreadable;
            evidence.cpuinfo = from_auxiliary_vector();
        }
    }
    evidence.machine = nix::sys::utsname::uname().ok().and_then(|uts| {
        let machine = uts.machine().to_str()?;
        heapless::String::try_from(machine).ok()
    });
    evidence.at_platform = sys::at_platform();
    evidence.userland = userland();
    // Only a 64-bit Arm kernel has two kinds of programs to choose from; a 32-bit one accepts the
    // personality too, and would answer a question that was not asked.
    if let Some(Machine::Arm(word)) = evidence.uname()
        && word.width != Width::Bits32
    {
        evidence.aarch32_probe = match evidence.at_platform_word().map(|word| word.width) {
            // This very process is a 32-bit program on a 64-bit kernel.
            Some(Width::Compat) => Some(true),
            _ => sys::kernel_runs_aarch32(),
        };
    }
    evidence
}

/// What is known without /proc: not which cores, but what they can do.
fn from_auxiliary_vector() -> Cpuinfo {
    let mut cpuinfo = Cpuinfo::default();
    if cfg!(any(target_arch = "arm", target_arch = "aarch64")) {
        let bits_32 = cfg!(target_pointer_width = "32");
        let (hwcap, hwcap2) = sys::hwcap();
        cpuinfo.features = hwcap::features(hwcap, hwcap2, bits_32);
        // 64-bit kernels have more features than the table.
        cpuinfo.features_cut = !bits_32;
    }
    cpuinfo
}

/// Streams the file through the parser; `None` where it cannot be read from the start.
fn read_cpuinfo(path: &str) -> Option<Parser> {
    let mut file = File::open(path).ok()?;
    let mut parser = Parser::new();
    let mut chunk = [0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Some(parser),
            Ok(n) if !parser.feed(&chunk[..n]) => return Some(parser),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // What came before the error is as good as a shorter file.
            Err(_) => return Some(parser),
        }
    }
}

/// The installed userland's width by the first program that can be read. In a container PID 1 may be
/// edgepull itself, which says nothing about what is installed.
fn userland() -> Option<Userland> {
    USERLAND.into_iter().filter(|file| !is_myself(file)).find_map(|file| {
        let mut head = [0; ELF_HEAD];
        File::open(file).ok()?.read_exact(&mut head).ok()?;
        elf_head(&head, file)
    })
}

fn is_myself(file: &str) -> bool {
    let (Ok(theirs), Ok(mine)) = (fs::metadata(file), fs::metadata("/proc/self/exe")) else { return false };
    (theirs.dev(), theirs.ino()) == (mine.dev(), mine.ino())
}

/// Class, byte order and machine of an ELF file.
fn elf_head(head: &[u8; ELF_HEAD], file: &'static str) -> Option<Userland> {
    let bits = match head.strip_prefix(b"\x7fELF")?[0] {
        1 => 32,
        2 => 64,
        _ => return None,
    };
    let big_endian = head[5] == 2;
    let machine = [head[18], head[19]];
    let machine = if big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    Some(Userland { bits, big_endian, machine, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(class: u8, order: u8, machine: [u8; 2]) -> [u8; ELF_HEAD] {
        let mut head = [0; ELF_HEAD];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        head[18..].copy_from_slice(&machine);
        head
    }

    #[test]
    fn an_elf_head_tells_width_order_and_machine() {
        let arm = elf_head(&head(1, 1, [40, 0]), "/bin/sh").unwrap();
        assert_eq!((arm.bits, arm.big_endian, arm.machine), (32, false, 40));
        let big = elf_head(&head(2, 2, [0, 183]), "/bin/sh").unwrap();
        assert_eq!((big.bits, big.big_endian, big.machine), (64, true, 183));
        assert_eq!(elf_head(&head(7, 1, [40, 0]), "/bin/sh"), None);
        assert_eq!(elf_head(b"#!/bin/busybox sh\n\0\0", "/bin/sh"), None);
    }

    #[test]
    fn this_machine_tells_something() {
        let evidence = observe();
        assert!(evidence.machine.is_some());
        assert!(!evidence.is_recorded());
    }

    #[test]
    fn a_missing_or_unreadable_cpuinfo_is_no_failure() {
        assert!(read_cpuinfo("/nonexistent/cpuinfo").is_none());
        assert!(read_cpuinfo("/proc").is_some_and(|parser| parser.finish().cores.is_empty()));
    }
}
