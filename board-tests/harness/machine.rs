//! A whole machine in QEMU: a real kernel on the CPU that it is for, the program for that board out of
//! target/dist, and a shell on the serial console that runs one command after the other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::base64::{Engine, engine::general_purpose::STANDARD};

use super::initramfs::Initramfs;
use super::serial::{Serial, Silence};
use super::tools::Scratch;

/// One sort of machine, as QEMU knows it, and what runs on it.
pub struct Model {
    pub name: &'static str,
    /// `qemu-system-…`
    pub qemu: &'static str,
    /// `-M`, `-cpu`, `-m` and whatever else makes this board.
    pub options: &'static [&'static str],
    /// The network card.
    pub card: &'static str,
    /// Kernel parameters besides the console.
    pub parameters: &'static str,
    /// Folders that `board-tests/kernels/get` makes.
    pub kernel: &'static str,
    pub busybox: &'static str,
    /// The program under test: `target/dist/edgepull-…`.
    pub edgepull: &'static str,
    /// Ends a boot that hangs, and a command; far beyond what either takes.
    pub patience: Duration,
}

/// A booted machine; QEMU ends when this is dropped, also when the test fails or is killed.
pub struct Machine {
    qemu: Child,
    serial: Serial,
    patience: Duration,
    name: &'static str,
    scratch: Scratch,
}

/// A file of this repository.
fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}; board-tests/run BOARD makes it", path.display()))
}

impl Model {
    fn kernel_file(&self, name: &str) -> PathBuf {
        here("board-tests/cache/machines").join(self.kernel).join(name)
    }

    /// Boots; `files` are put into the guest's root folder. Comes back when the network is up.
    pub fn boot(&self, files: &[(&str, Vec<u8>)]) -> Machine {
        get_kernel(&[self.kernel, self.busybox]);
        let scratch = Scratch::new();
        let initrd = scratch.write("initrd", self.initramfs(files));
        let errors = std::fs::File::create(scratch.path("qemu.err")).expect("a file");
        let mut qemu = Command::new("setpriv") // so that it goes even when the tests are killed
            .args(["--pdeathsig", "KILL", self.qemu])
            .args(self.options)
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
            .args(["-netdev", "user,id=host,ipv6=off", "-device", self.card])
            .arg("-kernel")
            .arg(self.kernel_file("vmlinuz"))
            .args(self.device_tree())
            .args(["-initrd", &initrd, "-append"])
            .arg(format!("console=ttyAMA0 panic=-1 quiet {}", self.parameters))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("setpriv, of util-linux");
        let (input, output) = (qemu.stdin.take().expect("a pipe"), qemu.stdout.take().expect("a pipe"));
        let serial = Serial::over(input, output);
        let machine = Machine { qemu, serial, patience: self.patience, name: self.name, scratch };
        let limit = Instant::now() + machine.patience;
        loop {
            match machine.line(limit, "booting").strip_prefix("guest: ") {
                None => {} // the kernel's
                Some("ready") => break,
                Some(complaint) => panic!("booting: {complaint}"),
            }
        }
        machine
    }

    fn device_tree(&self) -> Vec<PathBuf> {
        let file = self.kernel_file("board.dtb");
        if file.exists() { vec!["-dtb".into(), file] } else { Vec::new() }
    }

    fn initramfs(&self, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let busybox = here("board-tests/cache/machines").join(self.busybox).join("busybox");
        let edgepull = here("target/dist").join(format!("edgepull-{}", self.edgepull));
        let mut tree = ["bin", "dev", "proc", "sys", "tmp", "modules"]
            .iter()
            .fold(Initramfs::new(), |tree, dir| tree.dir(dir))
            .char_device("dev/console", 5, 1)
            .file("init", 0o755, include_str!("guest-init"))
            .file("bin/busybox", 0o755, read(&busybox))
            .file("bin/edgepull", 0o755, read(&edgepull));
        for module in self.modules() {
            let name = module.file_name().expect("a name").to_str().expect("a readable name");
            tree = tree.file(&format!("modules/{name}"), 0o644, read(&module));
        }
        files.iter().fold(tree, |tree, (path, content)| tree.file(path, 0o755, content)).compressed()
    }

    /// Numbered in the order in which they are to be loaded; a kernel of our own has none.
    fn modules(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.kernel_file("modules")).into_iter().flatten();
        let mut modules: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        modules.sort();
        modules
    }
}

/// Kernels and busybox, from the cache if they are there and whole.
fn get_kernel(names: &[&str]) {
    let status = Command::new(here("board-tests/kernels/get")).args(names).stdin(Stdio::null()).status();
    assert!(status.expect("bash").success(), "board-tests/kernels/get {} failed", names.join(" "));
}

impl Machine {
    /// Runs one line of shell to its end.
    pub fn run(&mut self, command: &str) -> Ran {
        assert!(!command.contains('\n'), "one line: {command}");
        self.serial.send(command).expect("the serial line of a running machine");
        let limit = Instant::now() + self.patience;
        let status = loop {
            if let Some(status) = self.line(limit, command).strip_prefix("guest: exit ") {
                break status.parse().expect("an exit status");
            }
        };
        let stdout = self.text_until("guest: errors", limit, command);
        let stderr = self.text_until("guest: end", limit, command);
        Ran { command: command.to_owned(), status, stdout, stderr }
    }

    fn text_until(&self, end: &str, limit: Instant, doing: &str) -> String {
        let mut encoded = String::new();
        loop {
            let line = self.line(limit, doing);
            if line == end {
                break;
            }
            encoded.push_str(&line);
        }
        let bytes = STANDARD.decode(&encoded).unwrap_or_else(|e| panic!("{doing}: {e} in {encoded}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn line(&self, limit: Instant, doing: &str) -> String {
        self.serial.line(limit).unwrap_or_else(|silence| match silence {
            Silence::Ended => panic!("{doing}: the machine ended\n{}", self.qemu_errors()),
            Silence::TimeUp => panic!("{doing}: not done after {:?}", self.patience),
        })
    }

    fn qemu_errors(&self) -> String {
        std::fs::read_to_string(self.scratch.path("qemu.err")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("-- the serial console of {}\n{}{}", self.name, self.serial.log(), self.qemu_errors());
        }
    }
}

/// How a command on a machine ended, and what it said.
pub struct Ran {
    command: String,
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn story(&self) -> String {
        let Ran { command, status, stdout, stderr } = self;
        format!("{command}\nexit status {status}\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }

    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    #[track_caller]
    pub fn succeeds(self) -> Ran {
        assert_eq!(self.status, 0, "should have succeeded: {}", self.story());
        self
    }

    /// It ended with this exit status, and a message.
    #[track_caller]
    pub fn fails_with(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "{}", self.story());
        assert!(!self.stderr.trim().is_empty() && !self.stderr.contains("panicked"), "{}", self.story());
        self
    }

    /// Standard output or standard error holds `text`; runs of spaces count as one.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = [&self.stdout, &self.stderr].into_iter().any(|stream| plain(stream).contains(text));
        assert!(said, "does not say \"{text}\": {}", self.story());
        self
    }

    /// The peak of resident memory in KiB, which edgepull tells with `-v`.
    #[track_caller]
    pub fn peak_kib(&self) -> u64 {
        let told = self
            .stderr
            .lines()
            .find_map(|line| line.split_once("peak memory (VmHWM): ")?.1.strip_suffix(" KiB")?.parse().ok());
        told.unwrap_or_else(|| panic!("no peak memory: {}", self.story()))
    }
}
