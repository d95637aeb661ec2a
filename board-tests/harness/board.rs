//! A board that runs edgepull: the real program, fed with the recorded evidence of one machine.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::tools::{Scratch, run};

/// The exit codes that edgepull documents.
pub mod exit {
    pub const OTHER: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const NO_PLATFORM: i32 = 3;
    pub const NOT_FOUND: i32 = 4;
    pub const AUTH: i32 = 5;
    pub const NETWORK: i32 = 6;
    pub const VERIFICATION: i32 = 7;
    pub const BAD_IMAGE: i32 = 8;
    pub const DISK: i32 = 9;
    pub const UNHEALTHY: i32 = 10;
    pub const BUSY: i32 = 11;
}

/// Returns the path of the program under test: the one in `EDGEPULL_UNDER_TEST`, else that of cargo's build for this test.
/// `board-tests/run` names the release build there, so that the tests themselves need not be optimized at link time.
pub fn agent() -> String {
    std::env::var("EDGEPULL_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_edgepull").into())
}

/// A board, the environment of its shell and who is logged in.
pub struct Board {
    evidence: Vec<String>,
    env: Vec<(String, String)>,
    /// The program, and what runs it.
    program: Vec<String>,
    /// What edgepull remembers on this board.
    state: Scratch,
    /// What its clock says, in the words of faketime; `None`: the truth.
    clock: Option<String>,
}

impl Board {
    fn recorded(name: &str, machine: &str) -> Board {
        let cpuinfo = format!("{}/board-tests/boards/{name}.cpuinfo", env!("CARGO_MANIFEST_DIR"));
        let evidence = ["--cpuinfo", &cpuinfo, "--machine", machine].map(str::to_owned).to_vec();
        Board { evidence, ..Board::this_machine() }
    }

    /// An ARM926 without VFP.
    pub fn armv5() -> Board {
        Board::recorded("armv5", "armv5tejl")
    }

    /// An ARM1176 whose kernel says "CPU architecture: 7", as that of the Raspberry Pi 1 does.
    pub fn armv6() -> Board {
        Board::recorded("armv6", "armv6l")
    }

    /// Four Cortex-A7.
    pub fn armv7() -> Board {
        Board::recorded("armv7", "armv7l")
    }

    /// Four Cortex-A53 with a 64-bit kernel.
    pub fn aarch64() -> Board {
        Board::recorded("aarch64", "aarch64")
    }

    /// The machine that the tests run on, whatever it is.
    pub fn this_machine() -> Board {
        let program = vec![agent()];
        Board { evidence: Vec::new(), env: Vec::new(), program, state: Scratch::new(), clock: None }
    }

    /// A static binary of `cross/build` under qemu-user, on a CPU that has no more instructions than `cpu`.
    pub fn emulated(binary: &str, qemu: &str, cpu: &str) -> Board {
        Board {
            program: [qemu, "-cpu", cpu, &cross_built(binary)].map(str::to_owned).into(),
            ..Board::this_machine()
        }
    }

    /// This board with the static build of `cross/build` for this machine.
    pub fn with_static_build(self) -> Board {
        let name = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
        Board { program: vec![cross_built(name)], ..self }
    }

    /// Sets an environment variable for edgepull.
    pub fn with_env(mut self, name: &str, value: &str) -> Board {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// edgepull is run by the user `nobody`, who may write into the scratch's folder `home`.
    pub fn run_by_nobody(mut self, scratch: &Scratch) -> Board {
        // The repository may stand where nobody cannot look: copies of what is needed.
        let copy = |from: &str, name: &str| {
            let to = scratch.at(&format!("bin/{name}"));
            install(from, &to);
            to
        };
        self.evidence[1] = copy(&self.evidence[1], "cpuinfo");
        let program = copy(&self.program[0], "edgepull");
        std::fs::create_dir_all(scratch.path("home")).expect("a folder");
        for (folder, mode) in [("", 0o755), ("home", 0o777)] {
            std::fs::set_permissions(scratch.path(folder), PermissionsExt::from_mode(mode)).expect("a mode");
        }
        let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
        self.program = drop.map(str::to_owned).into_iter().chain([program]).collect();
        self
    }

    /// edgepull is run in a root that holds nothing but itself, what runs it, the libraries that they are
    /// linked with here, and what the test puts there: no /proc, /dev or /etc, as early in a boot.
    pub fn run_in(mut self, root: &Scratch) -> Board {
        for word in &mut self.program {
            let path = Path::new("/usr/bin").join(&*word); // an absolute word stays what it is
            if !path.exists() {
                continue;
            }
            *word = path.into_os_string().into_string().expect("a readable path");
            // A static program has none, about which ldd complains.
            let libraries = Command::new("ldd").arg(&*word).output().expect("ldd, of libc-bin").stdout;
            let libraries = String::from_utf8_lossy(&libraries);
            let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
            for path in libraries.chain([word.as_str()]) {
                install(path, &root.at(&path[1..]));
            }
        }
        self.program.splice(..0, ["chroot".to_owned(), root.at("")]);
        self
    }

    /// No network interface is up, not even the loopback.
    pub fn without_network(mut self) -> Board {
        self.program.splice(..0, ["unshare", "-n"].map(str::to_owned));
        self
    }

    /// edgepull sees this file as /etc/hosts, also when it changes, and no name server: in a mount namespace of its own.
    pub fn with_hosts_file(mut self, hosts: &str) -> Board {
        let resolver =
            self.state.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        let mount =
            r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@""#;
        let private = ["unshare", "-m", "sh", "-c", mount, "sh", hosts, &resolver];
        self.program.splice(..0, private.map(str::to_owned));
        self
    }

    /// edgepull sees this directory as /etc: in a mount namespace of its own.
    pub fn with_etc(mut self, etc: &str) -> Board {
        let mount = r#"mount --bind "$1" /etc && shift && exec "$@""#;
        self.program.splice(..0, ["unshare", "-m", "sh", "-c", mount, "sh", etc].map(str::to_owned));
        self
    }

    /// edgepull is killed when it has not ended by itself after so many seconds.
    pub fn killed_after(mut self, seconds: u32) -> Board {
        self.program.splice(..0, ["timeout", "-s", "KILL", &seconds.to_string()].map(str::to_owned));
        self
    }

    /// Sets the board's clock: `@1970-01-01 00:00:30` (UTC), or `+3d` from now.
    pub fn with_clock(mut self, time: &str) -> Board {
        self.clock = Some(time.to_owned());
        self
    }

    /// The state directory is `state` in this folder.
    pub fn with_state_in(self, folder: Scratch) -> Board {
        Board { state: folder, ..self }
    }

    /// A path in the folder that the state directory is in.
    pub fn beside_state(&self, below: &str) -> PathBuf {
        self.state.path(below)
    }

    /// What edgepull has recorded of the time.
    pub fn recorded_time(&self) -> Option<String> {
        std::fs::read_to_string(self.state.path("state/clock")).ok()
    }

    /// Puts a record of the time there.
    pub fn with_recorded_time(self, content: &str) -> Board {
        self.state.write("state/clock", content);
        self
    }

    /// Runs edgepull to its end.
    pub fn edgepull<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Outcome {
        let home = Scratch::new(); // no credentials of whoever runs the tests
        let mut command = self.command(args);
        command.env("HOME", home.at(""));
        let line = format!("{command:?}");
        Outcome { output: command.output().expect("edgepull runs"), line }
    }

    /// The command that [`Board::edgepull`] runs, for a test that wants to end it early.
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let faketime = self.clock.iter().flat_map(|time| ["faketime", "-f", time]);
        let mut program = faketime.chain(self.program.iter().map(String::as_str));
        let mut command = Command::new(program.next().expect("a program"));
        command.args(program).env("TZ", "UTC").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let args: Vec<&str> = args.into_iter().collect();
        // Only these commands ask which board it is; `manifest inspect` does not, nor does who fetches nothing, or shows
        // what is there for all boards.
        let asks = ["platform", "inspect", "pull", "deploy", "update", "--repair"];
        let of_all = ["manifest", "--raw"];
        if args.iter().any(|word| asks.contains(word)) && !args.iter().any(|word| of_all.contains(word)) {
            command.args(&self.evidence);
        }
        command.args(["--state-dir", &self.state.at("state")]).args(args);
        command.stdin(Stdio::null());
        for name in [
            "DOCKER_CONFIG",
            "REGISTRY_AUTH_FILE",
            "CREDENTIALS_DIRECTORY",
            "XDG_RUNTIME_DIR",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NO_PROXY",
        ] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("HOME", "/nonexistent").envs(self.env.iter().cloned());
        command
    }
}

/// What `cross/build` has made for a board.
fn cross_built(board: &str) -> String {
    let path = format!("{}/target/dist/edgepull-{board}", env!("CARGO_MANIFEST_DIR"));
    assert!(Path::new(&path).exists(), "no {path}: run cross/build {board} first");
    path
}

/// Copies a program, by another process: one that this process has open for writing may be open in a child
/// that another test is starting, and then the kernel calls it busy.
fn install(from: &str, to: &str) {
    run("install", ["-D", "-m", "755", from, to]);
}

/// How a run of edgepull ended, and what it said.
pub struct Outcome {
    output: Output,
    line: String,
}

impl Outcome {
    /// What became of the command `line`.
    pub(super) fn new(output: Output, line: String) -> Outcome {
        Outcome { output, line }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The exit code; a death by signal fails the test.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap_or_else(|| panic!("{}", self.story()))
    }

    /// The signal that it died of.
    pub fn signal(&self) -> Option<i32> {
        self.output.status.signal()
    }

    fn story(&self) -> String {
        let Outcome { output, line } = self;
        format!("{line}\n{}\n-- stdout\n{}\n-- stderr\n{}", output.status, self.stdout(), self.stderr())
    }

    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        assert!(self.output.status.success(), "should have succeeded: {}", self.story());
        self
    }

    /// It ended with this exit code, and a message that is not a crash.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Outcome {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.story());
        let errors = self.stderr();
        assert!(!errors.trim().is_empty() && !errors.contains("panicked"), "no message: {}", self.story());
        self
    }

    /// Standard error holds `text`.
    #[track_caller]
    pub fn saying(self, text: &str) -> Outcome {
        assert!(self.stderr().contains(text), "does not say \"{text}\": {}", self.story());
        self
    }

    /// Standard output holds `text`.
    #[track_caller]
    pub fn printing(self, text: &str) -> Outcome {
        assert!(self.stdout().contains(text), "does not print \"{text}\": {}", self.story());
        self
    }

    /// Standard error does not hold `text`.
    #[track_caller]
    pub fn without_saying(self, text: &str) -> Outcome {
        assert!(!self.stderr().contains(text), "says \"{text}\": {}", self.story());
        self
    }

    /// Standard output is `text`.
    #[track_caller]
    pub fn says_only(self, text: &str) -> Outcome {
        assert_eq!(self.stdout(), text, "{}", self.story());
        self
    }

    /// Nothing at all was written to either stream.
    #[track_caller]
    pub fn silently(self) -> Outcome {
        assert!(
            self.output.stdout.is_empty() && self.output.stderr.is_empty(),
            "not silent: {}",
            self.story()
        );
        self
    }
}
