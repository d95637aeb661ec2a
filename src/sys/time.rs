//! Time and chance.

use super::check;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Seconds since 1970 by the system clock; 0 for what is before, or cannot be asked.
///
/// Not `SystemTime::now`: on 32-bit musl its `time_t` has 32 bits, and it panics from 2038-01-19 on.
pub fn unix_time() -> u64 {
    #[cfg(target_pointer_width = "32")]
    {
        /// Since Linux 5.1, the same number on every 32-bit architecture (asm-generic/unistd.h).
        const CLOCK_GETTIME64: libc::c_long = 403;
        // struct __kernel_timespec: 64 bits each on every architecture.
        let mut time = [0i64; 2];
        // SAFETY: `time` has the size and alignment of a __kernel_timespec for the call to write to.
        let result = unsafe { libc::syscall(CLOCK_GETTIME64, libc::CLOCK_REALTIME, time.as_mut_ptr()) };
        if result == 0 {
            return u64::try_from(time[0]).unwrap_or(0);
        }
        // ENOSYS before 5.1, EPERM of an old seccomp filter: such kernels' time ends in 2038 anyway.
    }
    clock(libc::CLOCK_REALTIME).and_then(|time| u64::try_from(time.tv_sec).ok()).unwrap_or(0)
}

/// Whole seconds since this boot, time asleep included (CLOCK_BOOTTIME, Linux 2.6.39; before, CLOCK_MONOTONIC,
/// which leaves that out): unlike the time of day, nobody sets it. 0 where the kernel can't say.
pub fn seconds_since_boot() -> u64 {
    let time = clock(libc::CLOCK_BOOTTIME).or_else(|| clock(libc::CLOCK_MONOTONIC));
    time.and_then(|time| u64::try_from(time.tv_sec).ok()).unwrap_or(0)
}

/// The kernel's name for this boot (`/proc/sys/kernel/random/boot_id`, a random UUID); `None` without `/proc`.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// What a clock of `clock_gettime(2)` says; `None` where the kernel can't say.
fn clock(id: libc::clockid_t) -> Option<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write to; nothing else is touched.
    (unsafe { libc::clock_gettime(id, &mut time) } == 0).then_some(time)
}

/// Whether the kernel has random numbers that keys can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// It has.
    Ready,
    /// Not yet, as it has gathered too little since it started: getrandom(2) waits.
    NotYet,
    /// Nobody here gives any: no getrandom (Linux before 3.17, or a filter), and no /dev/urandom.
    Missing,
}

/// Asks without waiting.
pub fn randomness() -> Randomness {
    match random_bytes(&mut [0; 1]) {
        Ok(_) => Randomness::Ready,
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Randomness::NotYet,
        Err(_) if Path::new("/dev/urandom").exists() => Randomness::Ready,
        Err(_) => Randomness::Missing,
    }
}

/// A number from 0 to 1 to spread retries with, from what there is: never waits, never fails.
pub fn any_fraction() -> f64 {
    let mut bytes = [0; 4];
    if random_bytes(&mut bytes).is_err() {
        let nanoseconds = clock(libc::CLOCK_MONOTONIC).map_or(0, |time| time.tv_nsec as u32);
        // Fibonacci hashing: the low bits, which differ most from board to board, decide the high ones.
        bytes = nanoseconds.wrapping_mul(2_654_435_769).to_ne_bytes();
    }
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// As many as the buffer holds, or an error: never waits.
fn random_bytes(buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the buffer is writable for the length that is given.
    check(unsafe { libc::syscall(libc::SYS_getrandom, start, length, libc::GRND_NONBLOCK) })
}

/// CPU time, user and system, that the calling thread has used. Zero where the kernel can't say.
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, |time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_the_standard_library() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let ours = unix_time();
        assert!((before..before + 60).contains(&ours), "{before} {ours}");
    }

    #[test]
    fn a_running_system_has_random_numbers() {
        assert_eq!(randomness(), Randomness::Ready);
        let numbers: Vec<f64> = (0..8).map(|_| any_fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)), "{numbers:?}");
        assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]), "{numbers:?}");
    }
}
