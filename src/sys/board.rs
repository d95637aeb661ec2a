//! What the kernel says about the board.

use super::{exit_now, fork, wait_for};
use std::ffi::CStr;
use std::io;

/// AT_PLATFORM of the auxiliary vector (`getauxval(3)`): `v6l`, `v7l`, `v8l`, `aarch64`, `x86_64`.
/// `None` where the kernel gives none, or one that is longer than any known.
pub fn at_platform() -> Option<heapless::String<24>> {
    // SAFETY: getauxval has no preconditions; for an absent entry it returns 0.
    let pointer = unsafe { libc::getauxval(libc::AT_PLATFORM) } as *const libc::c_char;
    if pointer.is_null() {
        return None;
    }
    // SAFETY: a present AT_PLATFORM points to a NUL-terminated string on the initial stack, which the
    // kernel put there and nothing changes (Linux fs/binfmt_elf.c, create_elf_tables).
    let text = unsafe { CStr::from_ptr(pointer) };
    heapless::String::try_from(text.to_str().ok()?).ok()
}

/// AT_HWCAP and AT_HWCAP2 of the auxiliary vector: bits for what the CPU can do, 0 where the kernel gives none.
pub fn hwcap() -> (libc::c_ulong, libc::c_ulong) {
    // SAFETY: getauxval has no preconditions; for an absent entry it returns 0.
    let entry = |kind| unsafe { libc::getauxval(kind) };
    (entry(libc::AT_HWCAP), entry(libc::AT_HWCAP2))
}

/// `personality(2)`: how a 64-bit kernel shows itself to 32-bit programs.
const PER_LINUX32: libc::c_ulong = 0x0008;

/// What the probe's child says by its exit status.
const RUNS: i32 = 0;
const REFUSES: i32 = 1;
const CANNOT_TELL: i32 = 2;

/// Whether a 64-bit Arm kernel runs AArch32 programs: it accepts PER_LINUX32 only then (Linux 4.7 and
/// later), and only a kernel with CONFIG_COMPAT shows another machine afterwards. `None` where the
/// kernel or a seccomp filter does not let us ask. The personality belongs to a child, which ends.
pub fn kernel_runs_aarch32() -> Option<bool> {
    other_machine_in_32_bits(b"aarch64")
}

fn other_machine_in_32_bits(native: &[u8]) -> Option<bool> {
    // What the other process calls is async-signal-safe, and touches no lock and no heap.
    let Some(child) = fork().ok()? else { exit_now(probe(native)) };
    match wait_for(child).ok()? {
        Ok(RUNS) => Some(true),
        Ok(REFUSES) => Some(false),
        _ => None,
    }
}

/// The child's part.
fn probe(native: &[u8]) -> i32 {
    // SAFETY: personality takes a number and changes only this process.
    if unsafe { libc::personality(PER_LINUX32) } == -1 {
        let refused = io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        return if refused { REFUSES } else { CANNOT_TELL };
    }
    // SAFETY: utsname is made of byte arrays, for which zeros are a value; uname fills it.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is a valid utsname for the whole call.
    if unsafe { libc::uname(&mut names) } == -1 {
        return CANNOT_TELL;
    }
    let machine = names.machine.iter().take_while(|&&c| c != 0).map(|&c| c as u8);
    if machine.eq(native.iter().copied()) { REFUSES } else { RUNS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn the_probe_sees_the_other_machine_and_leaves_ours_alone() {
        let machine = || nix::sys::utsname::uname().unwrap().machine().to_owned();
        let before = machine();
        // An x86-64 kernel calls itself i686 there; a seccomp filter may forbid the question.
        assert_ne!(other_machine_in_32_bits(b"x86_64"), Some(false));
        // What it answers is compared: after the switch this is the machine's own name.
        assert_ne!(other_machine_in_32_bits(b"i686"), Some(true));
        assert_eq!(machine(), before);
    }

    #[test]
    fn at_platform_is_a_word() {
        if let Some(platform) = at_platform() {
            assert!(platform.chars().all(|c| c.is_ascii_graphic()), "{platform}");
        }
    }
}
