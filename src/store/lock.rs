//! One edgepull at a time in a state directory.
//!
//! A POSIX record lock (`fcntl(2)`, F_SETLK) on `STATE/lock`: the kernel takes it away with its holder, however
//! that ends, and knows the holder's process id, so nothing has to be written, and nothing stale can be left.
//! Commands that are started meanwhile don't inherit it.
//!
//! The process that fetches for the holder ([`crate::sandbox`]) ends with it, but a moment later. That moment is
//! waited for by a `flock(2)` of the same file, which that process holds alone, by a descriptor that it can only read: of
//! the holder's lock it has nothing.

use super::{access, state};
use crate::error::{Error, Kind, Result};
use crate::sandbox;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How much of the holder's command line is shown, in bytes.
const COMMAND_MAX: u64 = 200;

/// The state directory is ours as long as this lives.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Locks `state`, which it makes if nothing is there, and closes it to other users (`store::access`). With `wait`
    /// it waits for whoever holds the lock, and says so once; `what` names the command that waits, as in `update`.
    ///
    /// # Errors
    /// Returns [`Kind::Busy`] if another edgepull holds the lock, with its process id if that can be known;
    /// [`Kind::Usage`] if `state` is behind another user's link; [`Kind::Disk`] if it cannot be locked, or another
    /// user owns it or may write to it.
    pub fn take(state: &Path, wait: bool, what: &str) -> Result<StateLock> {
        let lock = StateLock::taken(state, wait, what)?;
        access::close(state);
        access::check(state)?;
        Ok(lock)
    }

    fn taken(state: &Path, wait: bool, what: &str) -> Result<StateLock> {
        state::ensure(state)?;
        access::check_owner(state)?;
        let path = state::lock(state);
        let failed = |error: std::io::Error| Error::disk(path.display(), error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => return locked(file).map_err(failed),
            Err(Errno::EAGAIN | Errno::EACCES) => {}
            Err(error) => return Err(refused(&path, error)),
        }
        let holder = holder(&file);
        if !wait {
            let message = format!("{holder} is at work in {}", state.display());
            return Err(Error::new(Kind::Busy, message).hint("--wait waits for it"));
        }
        log::warn!("{what} waits for {holder}, which is at work in {}", state.display());
        loop {
            match fcntl(&file, FcntlArg::F_SETLKW(&whole(libc::F_WRLCK))) {
                Ok(_) => return locked(file).map_err(failed),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(refused(&path, error)),
            }
        }
    }
}

/// The file is locked by nobody else; but a process of whoever held it may still be ending.
fn locked(file: File) -> std::io::Result<StateLock> {
    sandbox::wait_until_ended(&file, None)?;
    Ok(StateLock { _file: file })
}

/// A lock of the whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Why a lock cannot be had at all.
fn refused(path: &Path, error: Errno) -> Error {
    match error {
        Errno::ENOLCK | Errno::EINVAL | Errno::ENOSYS => {
            Error::new(Kind::Disk, format!("{}: this file system or kernel has no locks", path.display()))
                .hint("--state-dir names another place")
        }
        error => Error::disk(path.display(), error.into()),
    }
}

/// Who holds it, as far as that can be known: `another edgepull (pid 1234: edgepull update --all)`.
fn holder(file: &File) -> String {
    let mut lock = whole(libc::F_WRLCK);
    let asked = fcntl(file, FcntlArg::F_GETLK(&mut lock));
    // 0 and below: gone meanwhile, or in another process id namespace.
    if asked.is_err() || libc::c_int::from(lock.l_type) == libc::F_UNLCK || lock.l_pid <= 0 {
        return "another edgepull".into();
    }
    match command_line(lock.l_pid) {
        Some(command) => format!("another edgepull (pid {}: {command})", lock.l_pid),
        None => format!("another edgepull (pid {})", lock.l_pid),
    }
}

/// The words of a process's command line, cut to [`COMMAND_MAX`]; nothing that a terminal would act upon.
fn command_line(pid: libc::pid_t) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(COMMAND_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    let shown: String = text.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdout, Command, Stdio};

    const STATE: &str = "EDGEPULL_TEST_LOCK";

    /// Not a test: what the tests below start as another process. It locks, says so, and waits for its
    /// standard input to end.
    #[test]
    fn holds_the_lock_for_another_test() {
        let Some(state) = std::env::var_os(STATE) else { return };
        let _lock = StateLock::take(Path::new(&state), true, "the holder").unwrap();
        println!("\nlocked");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    /// `None` where this program runs in an emulator that the kernel does not know, and so cannot start itself.
    fn other(state: &Path) -> Option<Child> {
        let spawned = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::lock::tests::holds_the_lock_for_another_test"])
            .env(STATE, state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        match spawned {
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                eprintln!("LEFT OUT: another process: {error}");
                None
            }
            other => Some(other.unwrap()),
        }
    }

    /// Returns its standard output, which it cannot do without.
    fn until_locked(child: &mut Child) -> BufReader<ChildStdout> {
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let locked = output.by_ref().lines().map_while(|line| line.ok()).any(|line| line == "locked");
        assert!(locked);
        output
    }

    #[test]
    fn who_holds_it_is_named_and_its_death_frees_it() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let Some(mut child) = other(&state) else { return };
        let _output = until_locked(&mut child);
        let error = StateLock::take(&state, false, "update").unwrap_err();
        assert_eq!(error.kind(), Kind::Busy);
        let said = error.to_string();
        let who = format!("another edgepull (pid {}: ", child.id());
        assert!(said.starts_with(&who) && said.contains("--exact"), "{said}");
        assert!(said.ends_with(&format!("is at work in {}; --wait waits for it", state.display())), "{said}");
        child.kill().unwrap();
        child.wait().unwrap();
        StateLock::take(&state, false, "update").unwrap();
        assert_eq!(std::fs::metadata(state.join("lock")).unwrap().len(), 0);
    }

    #[test]
    fn the_one_that_waits_gets_it_afterwards() {
        let home = tempfile::tempdir().unwrap();
        let Some(mut child) = other(home.path()) else { return };
        let _output = until_locked(&mut child);
        let waiting = {
            let state = home.path().to_owned();
            std::thread::spawn(move || StateLock::take(&state, true, "update").map(drop))
        };
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_is_an_error_with_its_path() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "").unwrap();
        let error = StateLock::take(&home.path().join("file/state"), false, "update").unwrap_err();
        assert!(error.kind() == Kind::Disk && error.to_string().contains("file/state"), "{error}");
    }

    #[test]
    fn kernels_without_locks_are_named() {
        let error = refused(Path::new("/x/lock"), Errno::ENOLCK).to_string();
        assert!(error.contains("/x/lock") && error.contains("no locks"), "{error}");
    }
}
