//! What a deployment needs of the world: the time, and commands of the user's.
//!
//! Commands are run by `/bin/sh -c` in a process group of their own, so that all that they have started can be
//! stopped with them. What they print is not swallowed.

use super::Moment;
use crate::sys;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long after SIGTERM comes SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The first and the longest pause between two health commands.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How often it is looked whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What new files of the user's commands are without.
const USUAL_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// Which of the user's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Brings up what is current now: has to succeed.
    OnSwitch,
    /// Whether what is current is healthy: has to succeed once within its time.
    Health,
}

/// What a command is told, in environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `EDGEPULL_NAME`: the deployment's.
    pub name: String,
    /// `EDGEPULL_GENERATION`: the number of the one that is current.
    pub generation: u32,
    /// `EDGEPULL_DIGEST`: its manifest's.
    pub digest: String,
    /// `EDGEPULL_ROOTFS`: `STATE/deployments/NAME/current/rootfs`.
    pub rootfs: PathBuf,
    /// `EDGEPULL_PREVIOUS`: the number of the one that was current before; empty for none.
    pub previous: Option<u32>,
}

/// What a deployment needs of the world.
pub trait World {
    /// Seconds since 1970 by the board's clock: for people only.
    fn unix_time(&self) -> u64;
    /// The time that decides.
    fn moment(&self) -> Moment;
    /// Runs a command; the error says what became of it.
    fn run(
        &self,
        task: Task,
        command: &str,
        environment: &Environment,
        limit: Duration,
    ) -> Result<(), String>;
}

/// The real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Board {
    /// Standard output is for JSON only: what commands print goes to standard error.
    pub json: bool,
}

impl World for Board {
    fn unix_time(&self) -> u64 {
        sys::unix_time()
    }

    fn moment(&self) -> Moment {
        Moment::now()
    }

    fn run(
        &self,
        task: Task,
        command: &str,
        environment: &Environment,
        limit: Duration,
    ) -> Result<(), String> {
        let until = Instant::now() + limit;
        let mut pause = PAUSES.0;
        loop {
            let outcome = self.once(command, environment, until, limit);
            match (&outcome, task) {
                (Err(_), Task::Health) if Instant::now() + pause < until => {}
                _ => return outcome,
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

impl Board {
    fn once(
        &self,
        command: &str,
        environment: &Environment,
        until: Instant,
        limit: Duration,
    ) -> Result<(), String> {
        let child = self.spawn(command, environment).map_err(|error| unable(command, error))?;
        succeeded(child, command, until, limit)
    }

    fn spawn(&self, command: &str, environment: &Environment) -> io::Result<Child> {
        let output = match self.json {
            true => Stdio::from(io::stderr().as_fd().try_clone_to_owned()?),
            false => Stdio::inherit(),
        };
        let previous = environment.previous.map(|number| number.to_string()).unwrap_or_default();
        // Unpacking keeps every mode as it is in the image; the user's commands did not ask for that.
        let ours = umask(USUAL_UMASK);
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .env("EDGEPULL_NAME", &environment.name)
            .env("EDGEPULL_GENERATION", environment.generation.to_string())
            .env("EDGEPULL_DIGEST", &environment.digest)
            .env("EDGEPULL_ROOTFS", &environment.rootfs)
            .env("EDGEPULL_PREVIOUS", previous)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .process_group(0)
            .spawn();
        umask(ours);
        child
    }
}

fn unable(command: &str, error: io::Error) -> String {
    format!("{command:?} could not be run ({error})")
}

/// Waits until a command has ended; it has to succeed until then, which is `limit` after its begin. It leads a process
/// group.
///
/// # Errors
/// What became of it, in words.
pub fn succeeded(mut child: Child, command: &str, until: Instant, limit: Duration) -> Result<(), String> {
    match wait(&mut child, until).map_err(|error| unable(command, error))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{command:?} ended with {status}")),
        None => {
            stop(&mut child).map_err(|error| unable(command, error))?;
            Err(format!("{command:?} did not end within {} s", limit.as_secs()))
        }
    }
}

/// Waits until the command ends, or its time does.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            other => return Ok(other),
        }
    }
}

/// Ends a command with all that it has started: SIGTERM, and after [`GRACE`] SIGKILL.
fn stop(child: &mut Child) -> io::Result<()> {
    let group = Pid::from_raw(child.id() as libc::pid_t);
    // The group is there as long as the command has not been waited for.
    killpg(group, Signal::SIGTERM)?;
    std::thread::sleep(LOOK_EVERY);
    let until = Instant::now() + GRACE;
    while child_runs(group) && Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
    }
    killpg(group, Signal::SIGKILL)?;
    child.wait().map(drop)
}

/// Whether the command itself still runs; it is not taken from the kernel yet, so its group's id stays its own.
fn child_runs(pid: Pid) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(60);

    fn environment() -> Environment {
        Environment {
            name: "app".into(),
            generation: 7,
            digest: "sha256:00".into(),
            rootfs: "/state/deployments/app/current/rootfs".into(),
            previous: Some(6),
        }
    }

    fn run(task: Task, command: &str, limit: Duration) -> Result<(), String> {
        Board { json: true }.run(task, command, &environment(), limit)
    }

    #[test]
    fn a_command_knows_what_it_is_for() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        let said = "$EDGEPULL_NAME $EDGEPULL_GENERATION $EDGEPULL_DIGEST $EDGEPULL_ROOTFS $EDGEPULL_PREVIOUS";
        run(Task::OnSwitch, &format!("echo \"{said}\" > {}; pwd >> {0}; umask >> {0}", out.display()), LONG)
            .unwrap();
        let text = fs::read_to_string(out).unwrap();
        assert_eq!(text, "app 7 sha256:00 /state/deployments/app/current/rootfs 6\n/\n0022\n");
    }

    #[test]
    fn health_is_asked_again_until_it_is_good_and_on_switch_once() {
        let home = tempfile::tempdir().unwrap();
        let count = home.path().join("count");
        let command = format!("echo >> {}; [ $(wc -l < {0}) -ge 2 ]", count.display());
        let said = run(Task::OnSwitch, &command, LONG).unwrap_err();
        assert!(said.contains("exit status: 1"), "{said}");
        fs::remove_file(&count).unwrap();
        run(Task::Health, &command, LONG).unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap(), "\n\n");
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_has_started() {
        let home = tempfile::tempdir().unwrap();
        let fifo = home.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Both hold the pipe open for writing: only when both are dead does reading it end.
        let command = format!("trap '' TERM; exec 3>{}; sleep 1000 & sleep 1000", fifo.display());
        let reader = std::thread::spawn(move || fs::read(fifo).map(|bytes| bytes.len()));
        let said = run(Task::Health, &command, Duration::from_millis(200)).unwrap_err();
        assert!(said.contains("did not end within"), "{said}");
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    }
}
