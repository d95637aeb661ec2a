//! This process: who it is, what memory it takes, how it ends, and another one beside it.

use super::check;
use std::fmt::Write;
use std::io;

/// The effective user and group id.
pub fn effective_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// The most memory that this process has had resident, in KiB (VmHWM of proc_pid_status(5)); `None` without
/// `/proc`.
pub fn peak_resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The same by `getrusage(2)`, which needs no `/proc`, but counts what the process was before `execve`, too:
/// a copy of whoever started it. Never less than the truth.
pub fn peak_resident_kib_by_getrusage() -> u64 {
    // SAFETY: rusage is made of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid rusage for the call to write to; nothing else is touched.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    u64::try_from(usage.ru_maxrss).unwrap_or(0)
}

/// Keeps passwords and keys of this process, and of those that it forks, out of core dumps and from other processes
/// of the same user (PR_SET_DUMPABLE, prctl(2); RLIMIT_CORE, getrlimit(2)). A program that is started can be dumped
/// again as far as its own limits say; the soft limit is 0 then, as it is for a service by default.
pub fn no_core_dumps() {
    // SAFETY: rlimit is made of integers, for which zeros are a value.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    let off: libc::c_ulong = 0;
    // SAFETY: `limit` is valid for the calls to write to and to read; the other takes numbers only. Either is enough.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_CORE, &mut limit) == 0 {
            limit.rlim_cur = 0;
            libc::setrlimit(libc::RLIMIT_CORE, &limit);
        }
        libc::prctl(libc::PR_SET_DUMPABLE, off, off, off, off);
    }
}

/// Another process like this one, but without its other threads. `None` there; here, its id.
///
/// Only for a process that has no other threads, as edgepull before it fetches, or for what neither allocates nor locks
/// there: a lock that one of them holds would be held for ever.
///
/// # Errors
/// As `fork(2)`.
pub fn fork() -> io::Result<Option<u32>> {
    // SAFETY: without other threads the child is a whole copy, and may do what this process may; with them it does
    // what signal-safety(7) allows, as is said above.
    let child = check(unsafe { libc::fork() }.into())?;
    Ok((child > 0).then_some(child as u32))
}

/// Waits until a process that was forked has ended. Its exit code, or the signal that has ended it.
///
/// # Errors
/// As `waitpid(2)`.
pub fn wait_for(child: u32) -> io::Result<Result<i32, i32>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        match check(unsafe { libc::waitpid(child as libc::pid_t, &mut status, 0) }.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) if libc::WIFSIGNALED(status) => return Ok(Err(libc::WTERMSIG(status))),
            Ok(_) => return Ok(Ok(libc::WEXITSTATUS(status))),
        }
    }
}

/// Ends this process at once, without what would have been done at its end: that is its parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Says what it means when the processor meets an instruction that it cannot run, before that ends the program
/// (SIGILL; on aarch64 also SIGTRAP), as it would anyway.
///
/// Such an instruction is where the binaries for boards end if edgepull has a bug: the words of the panics that
/// other builds have would take 100 KB (`cross/build-std.toml`). The address is what is left of them.
/// Where the system refuses a handler, the program ends without words.
pub fn explain_traps() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_trap;
    for signal in [libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: sigaction is made of integers, for which zeros are a value; an empty mask is one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // Once: the second time, in the handler or after it, the signal does what it does without one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does nothing but what
        // signal-safety(7) allows.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Neither allocates nor locks.
extern "C" fn on_trap(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands over a siginfo_t, which for these signals has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let mut text = heapless::String::<256>::new();
    // What does not fit is left out.
    let _ = writeln!(
        text,
        "edgepull {}: signal {signal} at {address:#x}: a bug of edgepull, or its binary is for another board. \
         What was live is as it was. Please report this line",
        env!("CARGO_PKG_VERSION")
    );
    // SAFETY: `text` is valid for its length; raise(3) ends the program, with the signal that it got.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::raise(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_memory_are_in_no_core_dump() {
        let Some(child) = fork().unwrap() else {
            no_core_dumps();
            // SAFETY: rlimit is made of integers, for which zeros are a value.
            let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
            limit.rlim_cur = 1;
            // SAFETY: `limit` is valid for the call to write to; the other takes a number only.
            let dumpable = unsafe {
                libc::getrlimit(libc::RLIMIT_CORE, &mut limit);
                libc::prctl(libc::PR_GET_DUMPABLE)
            };
            exit_now(if limit.rlim_cur == 0 && dumpable == 0 { 0 } else { 1 });
        };
        assert_eq!(wait_for(child).unwrap(), Ok(0));
    }

    #[test]
    fn peak_memory_by_both_ways() {
        let (proc, getrusage) = (peak_resident_kib().unwrap(), peak_resident_kib_by_getrusage());
        // At least what it is (the kernel counts in batches of pages), and in the same unit: what started
        // the tests was no larger than this.
        assert!(getrusage * 2 > proc && getrusage < 1024 * proc, "{proc} {getrusage}");
    }
}
