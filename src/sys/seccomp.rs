//! Limits the system calls that a process can make, by a list of rules and the program for the kernel's filter that
//! is made from it (Documentation/userspace-api/seccomp_filter.rst, linux/seccomp.h, linux/bpf_common.h).

use super::check;
use std::io;
use std::os::fd::RawFd;
#[cfg(test)]
use std::os::fd::{AsRawFd, BorrowedFd};

/// Says what an argument of a system call, by its number from 0, has to be like. The lower 32 bits are compared,
/// because the kernel takes these arguments as `int` or flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Holds if the argument is one of these.
    Is(u8, &'static [u32]),
    /// Holds if the bits of the argument within the mask are one of these.
    Masked(u8, u32, &'static [u32]),
    /// Holds if the argument has one of these bits.
    Has(u8, u32),
    /// Holds if the argument has none of these bits.
    Lacks(u8, u32),
    /// Holds if the argument is 0, or this process's id.
    Own(u8),
    /// Holds if the argument is not the descriptor in [`Calls::held`].
    NotHeld(u8),
    /// Holds if the argument is a null pointer; all 64 bits are compared.
    Null(u8),
}

/// Allows a system call if all of its arguments are so. Several rules for one call allow what any of them allows.
pub type Rule = (libc::c_long, &'static [When]);

/// Lists the system calls that are allowed.
#[derive(Debug)]
pub struct Calls<'a> {
    /// Lists calls that are allowed whatever their arguments, and are compared first.
    pub frequent: &'a [libc::c_long],
    /// Lists calls that are allowed with such arguments only.
    pub sometimes: &'a [Rule],
    /// Lists calls that are allowed whatever their arguments.
    pub always: &'a [&'a [libc::c_long]],
    /// Holds the descriptor that [`When::NotHeld`] compares with.
    pub held: Option<RawFd>,
}

/// Gives BPF's operations to load, calculate, jump and return.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Gives the offsets in `struct seccomp_data` of the call's number, the architecture, and the lower half of the first
/// argument: all of edgepull's targets are little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Gives the target's AUDIT_ARCH_* (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const OURS: u32 = 0x4000_0028;

const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
const DENIED: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Limits this process, and every thread that it starts, to these system calls. All others fail with `ENOSYS`, as if
/// the kernel did not have them: libc then does without, or uses an older one. [`super::no_new_privileges`] has to
/// come before.
///
/// # Errors
/// Returns `EINVAL` if the kernel has no such filters, and `EACCES` if this process has neither no_new_privs set nor
/// CAP_SYS_ADMIN (prctl(2)).
pub fn only_these_calls(calls: &Calls<'_>) -> io::Result<()> {
    let mut filter = program(calls, std::process::id());
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
    // SAFETY: the program is readable for its length; the kernel copies and checks it.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }.into()).map(drop)
}

fn step(code: u16, k: u32, jt: usize, jf: usize) -> libc::sock_filter {
    // A rule has far fewer steps than 256.
    libc::sock_filter { code, jt: jt as u8, jf: jf as u8, k }
}

/// Makes the filter. Each entry for another call takes one step.
fn program(calls: &Calls<'_>, own: u32) -> Vec<libc::sock_filter> {
    let allow = || step(RETURN, ALLOWED, 0, 0);
    let deny = || step(RETURN, DENIED, 0, 0);
    let mut steps = vec![step(LOAD, ARCHITECTURE, 0, 0), step(IF_EQUAL, OURS, 1, 0), deny()];
    steps.push(step(LOAD, NUMBER, 0, 0));
    for number in calls.frequent {
        steps.extend([step(IF_EQUAL, *number as u32, 0, 1), allow()]);
    }
    for (number, when) in calls.sometimes {
        // From its end: what fails goes on behind all that comes after it, where the number is loaded again.
        let mut rule = vec![allow()];
        for when in when.iter().rev() {
            let mut tests = test(*when, own, calls.held, rule.len());
            tests.append(&mut rule);
            rule = tests;
        }
        steps.push(step(IF_EQUAL, *number as u32, 0, rule.len() + 1));
        steps.append(&mut rule);
        steps.push(step(LOAD, NUMBER, 0, 0));
    }
    for number in calls.always.iter().copied().flatten() {
        steps.extend([step(IF_EQUAL, *number as u32, 0, 1), allow()]);
    }
    steps.push(deny());
    steps
}

/// Makes the steps that compare one argument. They fall through if it is as it has to be, and else jump `rest` steps
/// further.
fn test(when: When, own: u32, held: Option<RawFd>, rest: usize) -> Vec<libc::sock_filter> {
    let load = |argument: u8| step(LOAD, ARGUMENTS + 8 * u32::from(argument), 0, 0);
    let one_of = |values: &[u32]| -> Vec<libc::sock_filter> {
        let last = values.len().saturating_sub(1);
        let each = values.iter().enumerate();
        each.map(|(at, value)| step(IF_EQUAL, *value, last - at, if at == last { rest } else { 0 })).collect()
    };
    let steps = |mut first: Vec<libc::sock_filter>, then: Vec<libc::sock_filter>| {
        first.extend(then);
        first
    };
    match when {
        When::Is(argument, values) => steps(vec![load(argument)], one_of(values)),
        When::Masked(argument, mask, values) => {
            steps(vec![load(argument), step(AND, mask, 0, 0)], one_of(values))
        }
        When::Has(argument, bits) => vec![load(argument), step(IF_ANY_BIT, bits, 0, rest)],
        When::Lacks(argument, bits) => vec![load(argument), step(IF_ANY_BIT, bits, rest, 0)],
        When::Own(argument) => steps(vec![load(argument)], one_of(&[0, own])),
        // Nobody holds -1.
        When::NotHeld(argument) => {
            vec![load(argument), step(IF_EQUAL, held.unwrap_or(-1) as u32, rest, 0)]
        }
        When::Null(argument) => {
            let upper = step(LOAD, ARGUMENTS + 8 * u32::from(argument) + 4, 0, 0);
            vec![load(argument), step(IF_EQUAL, 0, 0, rest + 2), upper, step(IF_EQUAL, 0, 0, rest)]
        }
    }
}

/// Makes the system call of this number with these arguments, for a test of which calls are allowed.
///
/// # Errors
/// Returns the call's own error.
#[cfg(test)]
pub fn call(number: libc::c_long, arguments: [libc::c_long; 6]) -> io::Result<libc::c_long> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: only for calls that do nothing with such arguments, which who tests knows.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Tries to enter a user namespace of its own, in which a user is root, which a sandbox has to forbid.
#[cfg(test)]
pub fn new_user_namespace() -> io::Result<()> {
    // SAFETY: unshare takes flags only, and this one concerns nothing but this process.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()).map(drop)
}

/// Tries to have a process signalled when there is something to read (F_SETOWN, fcntl(2)), which a sandbox has to
/// forbid.
#[cfg(test)]
pub fn signal_of_input(file: BorrowedFd<'_>, process: libc::pid_t) -> io::Result<()> {
    // SAFETY: this operation takes a number only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, process) }.into()).map(drop)
}

/// Returns whether this kernel has seccomp filters: `CONFIG_SECCOMP_FILTER` follows from `CONFIG_SECCOMP` on each
/// architecture that has them (arch/Kconfig). An emulated kernel may have none (PR_GET_SECCOMP, prctl(2)).
pub fn has_seccomp() -> bool {
    // SAFETY: this operation takes nothing.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) >= 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does (linux/filter.h), for a call with these arguments.
    pub(super) fn outcome(program: &[libc::sock_filter], number: libc::c_long, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => number as u32,
            ARCHITECTURE => OURS,
            offset => {
                let argument = arguments[(offset - ARGUMENTS) as usize / 8];
                if (offset - ARGUMENTS).is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { step.jt } else { step.jf });
            match step.code {
                LOAD => accumulator = word(step.k),
                AND => accumulator &= step.k,
                IF_EQUAL => at += jump(accumulator == step.k),
                IF_ANY_BIT => at += jump(accumulator & step.k != 0),
                RETURN => return step.k,
                code => panic!("{code} is no step that is made"),
            }
        }
    }

    #[test]
    fn a_rule_is_what_all_of_its_arguments_say_and_several_are_any() {
        const WHENS: &[When] = &[When::Is(0, &[2, 10]), When::Masked(1, 0xf, &[1, 2]), When::Lacks(2, 6)];
        let rules: &[Rule] =
            &[(7, WHENS), (7, &[When::Has(3, 8)]), (8, &[When::Null(1)]), (9, &[When::NotHeld(0)])];
        let calls = Calls { frequent: &[1], sometimes: rules, always: &[&[3, 4], &[5]], held: Some(33) };
        let program = program(&calls, 77);
        let allowed = |number, arguments: [u64; 6]| outcome(&program, number, arguments) == ALLOWED;
        for number in 0..20 {
            let is = [1, 3, 4, 5, 9].contains(&number) || number == 8;
            assert_eq!(allowed(number, [0; 6]), is, "{number}");
        }
        assert!(allowed(7, [2, 0x31, 1, 0, 0, 0]) && allowed(7, [10, 2, 0, 0, 0, 0]));
        assert!(!allowed(7, [3, 1, 0, 0, 0, 0]) && !allowed(7, [2, 3, 0, 0, 0, 0]));
        assert!(!allowed(7, [2, 1, 4, 0, 0, 0]) && allowed(7, [2, 1, 4, 12, 0, 0]));
        assert!(!allowed(8, [0, 1, 0, 0, 0, 0]) && !allowed(8, [0, 1 << 32, 0, 0, 0, 0]));
        assert!(!allowed(9, [33, 0, 0, 0, 0, 0]) && !allowed(9, [33 | 1 << 40, 0, 0, 0, 0, 0]));
    }
}
