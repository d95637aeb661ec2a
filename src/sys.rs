//! Every raw syscall in one place, each with its fallback for old kernels.
#![allow(unsafe_code)]

use std::time::Duration;

/// CPU time, user and system, that the calling thread has used. Zero where the kernel can't say.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write to; nothing else is touched.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}
