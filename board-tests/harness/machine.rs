//! A machine that QEMU boots: a real kernel, a root file system in memory with busybox and the static
//! edgepull for that board, and a test that says over the serial line what to run.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

use super::board::Outcome;
use super::initramfs::Initramfs;
use super::serial::{Serial, Silence};
use super::tools::Scratch;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// What busybox is in the guest.
const APPLETS: &str = "base64 cat chmod chroot date dmesg echo false grep insmod ip kill ls mkdir mknod mount \
    mv printf rm sed sh sleep stty switch_root sync timeout true umount uname usleep wc";

/// How the machine sees a disk.
#[derive(Clone, Copy)]
pub enum Disk {
    /// A virtio device of this model, `/dev/vda`.
    Virtio(&'static str),
    /// An SD card, `/dev/mmcblk0`. Its size has to be a power of two.
    SdCard,
}

/// What QEMU is told, and what stands in the initramfs.
pub struct Model {
    /// As `board-tests/run` calls it.
    pub name: &'static str,
    /// The emulator.
    pub qemu: &'static str,
    /// Its options for the machine and the CPU.
    pub machine: &'static [&'static str],
    /// MiB of memory.
    pub memory: u32,
    /// The memory is soldered on: less can only be had by telling the kernel so.
    pub fixed_memory: bool,
    /// The least memory, in MiB, in which the kernel boots with this initramfs.
    pub least_memory: u32,
    /// A folder that board-tests/kernels/get fills.
    pub kernel: &'static str,
    /// What the kernel is told besides the console.
    pub append: &'static str,
    /// The network device, as QEMU's -device.
    pub network: &'static str,
    pub disk: Disk,
    /// A folder that board-tests/kernels/get fills with a busybox.
    pub userland: &'static str,
    /// target/dist/edgepull-…
    pub binary: &'static str,
    /// Ends a hang; several times what a test takes.
    pub limit: Duration,
}

/// A machine that is about to be switched on.
pub struct Setup {
    model: &'static Model,
    memory: u32,
    disk: Option<String>,
    /// QEMU's cache mode for it.
    cache: &'static str,
    /// Where all is written down that the guest writes to it.
    log: Option<String>,
    files: Vec<(String, Vec<u8>)>,
    bare: bool,
}

impl Setup {
    pub fn of(model: &'static Model) -> Setup {
        Setup {
            model,
            memory: model.memory,
            disk: None,
            cache: "unsafe",
            log: None,
            files: Vec::new(),
            bare: false,
        }
    }

    /// The least memory that it boots with.
    pub fn with_least_memory(mut self) -> Setup {
        self.memory = self.model.least_memory;
        self
    }

    /// Connects a disk: an image file.
    pub fn disk(mut self, image: &str) -> Setup {
        self.disk = Some(image.to_owned());
        self
    }

    /// The disk has a cache that the guest can flush.
    pub fn with_cache(mut self) -> Setup {
        self.cache = "writeback";
        self
    }

    /// All that the guest writes to its virtio disk, and when it flushes it, is written down in this file, as the
    /// kernel's dm-log-writes does (Documentation/admin-guide/device-mapper/log-writes.rst).
    pub fn logged_to(mut self, file: &str) -> Setup {
        self.log = Some(file.to_owned());
        self
    }

    /// Puts an executable file into the initramfs; its folder is / or /bin.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Setup {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// Nothing is set up in the guest, and the machine's clock, where it has one, stands at 1970.
    pub fn bare(mut self) -> Setup {
        self.bare = true;
        self
    }

    /// Switches on, and waits until the guest listens.
    pub fn boot(self) -> Machine {
        let (scratch, begin) = (Scratch::new(), Instant::now());
        let initramfs = scratch.write("initramfs", self.initramfs());
        let mut command = self.qemu(&initramfs);
        let line = format!("{command:?}");
        let mut process = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        let input = process.stdin.take().expect("a pipe");
        let (output, errors) =
            (process.stdout.take().expect("a pipe"), process.stderr.take().expect("a pipe"));
        let mut machine = Machine {
            model: self.model,
            process,
            serial: Serial::over(input, output, errors),
            begin,
            commands: 0,
            proving: format!("that the machine boots: {line}"),
            _scratch: scratch,
        };
        machine.hears("guest is up");
        if !self.bare {
            // Some of the boards have no clock; what edgepull does without one is a test of its own.
            machine.run(&format!("date -s @{}", unix_time())).succeeds();
        }
        machine
    }

    fn initramfs(&self) -> Vec<u8> {
        let mut files = ["/bin", "/dev", "/etc", "/mnt", "/modules", "/proc", "/root", "/sys", "/tmp"]
            .iter()
            .fold(Initramfs::new(), |files, folder| files.dir(folder))
            .char_device("/dev/console", 5, 1)
            .char_device("/dev/null", 1, 3)
            .file("/init", 0o755, include_str!("../machines/guest-init"))
            .file("/bin/guest-network", 0o755, include_str!("../machines/guest-network"))
            .file("/bin/busybox", 0o755, busybox(self.model))
            .file("/bin/edgepull", 0o755, static_edgepull(self.model.binary));
        for applet in APPLETS.split_whitespace() {
            files = files.symlink(&format!("/bin/{applet}"), "busybox");
        }
        for module in modules(self.model.kernel) {
            let content = from_cache(&format!("{}/modules/{module}", self.model.kernel));
            files = files.file(&format!("/modules/{module}"), 0o644, content);
        }
        for (path, content) in &self.files {
            files = files.file(path, 0o755, content);
        }
        files.compressed()
    }

    fn qemu(&self, initramfs: &str) -> Command {
        let Model { qemu, machine, kernel, append, network, .. } = self.model;
        let mut append = format!("console=ttyAMA0 panic=-1 quiet {append}");
        let mut command = Command::new("setpriv"); // so that it goes even when the tests are killed
        command.args(["--pdeathsig", "KILL", qemu]).args(*machine);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        command.args(["-kernel", &in_cache(&format!("{kernel}/vmlinuz"))]);
        let tree = in_cache(&format!("{kernel}/board.dtb"));
        if Path::new(&tree).exists() {
            command.args(["-dtb", &tree]);
        }
        if !self.model.fixed_memory {
            command.args(["-m", &format!("{}M", self.memory), "-initrd", initramfs]);
        } else if self.memory == self.model.memory {
            command.args(["-initrd", initramfs]);
        } else {
            // QEMU puts an -initrd where this much memory does not reach: put it lower by hand.
            let size = std::fs::metadata(initramfs).expect("the initramfs").len();
            command.args(["-device", &format!("loader,file={initramfs},addr=0x2000000,force-raw=on")]);
            append += &format!(" mem={}M initrd=0x2000000,{size}", self.memory);
        }
        command.args(["-netdev", "user,id=net,ipv6=off", "-device", network]);
        if let Some(image) = &self.disk {
            let drive = |interface: &str| format!("{interface},format=raw,cache={},file={image}", self.cache);
            match self.model.disk {
                Disk::Virtio(device) if let Some(log) = &self.log => {
                    for file in
                        [format!("filename={image},node-name=file"), format!("filename={log},node-name=log")]
                    {
                        command.args(["-blockdev", &format!("driver=file,{file}")]);
                    }
                    // Zeroes are written as data: QEMU 7.2's blklogwrites puts what is written beside a "write zeroes"
                    // request into its place in the log, and that is lost to whoever reads it. ext4 makes such requests
                    // while it initializes inode tables.
                    command.args([
                        "-blockdev",
                        "driver=blklogwrites,file=file,log=log,log-sector-size=512,node-name=disk",
                        "-device",
                        &format!("{device},drive=disk,write-zeroes=off,discard=off"),
                    ])
                }
                Disk::SdCard => command.args(["-drive", &drive("if=sd")]),
                Disk::Virtio(device) => command.args([
                    "-drive",
                    &drive("if=none,id=disk"),
                    "-device",
                    &format!("{device},drive=disk"),
                ]),
            };
        }
        if self.bare {
            command.args(["-rtc", "base=1970-01-01T00:00:00"]);
            append += " bare=yes";
        }
        command.args(["-append", &append]).env("QEMU_AUDIO_DRV", "none");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A booted machine; it is switched off when this is dropped, also when the test fails, which
/// then shows all that the serial line has said.
pub struct Machine {
    model: &'static Model,
    process: Child,
    serial: Serial,
    begin: Instant,
    commands: u32,
    /// For the message of a test that fails.
    proving: String,
    _scratch: Scratch,
}

impl Machine {
    pub fn model(&self) -> &'static Model {
        self.model
    }

    /// How the guest calls its disk.
    pub fn disk(&self) -> &'static str {
        match self.model.disk {
            Disk::Virtio(_) => "/dev/vda",
            Disk::SdCard => "/dev/mmcblk0",
        }
    }

    /// Names what comes next, for people who wait and for a test that fails.
    pub fn proves(&mut self, what: &str) {
        what.clone_into(&mut self.proving);
        eprintln!("{:>14} {:7.1} s  {what}", self.model.name, self.begin.elapsed().as_secs_f32());
    }

    /// Since it was switched on.
    pub fn seconds(&self) -> u64 {
        self.begin.elapsed().as_secs()
    }

    /// Runs a line of shell in the guest.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Outcome {
        assert!(!line.contains('\n') && line.len() < 4000, "no line for a terminal: {line}");
        self.commands += 1;
        let prefix = format!("guest {} ", self.commands);
        self.send(&format!("{} {line}", self.commands));
        let (mut status, mut stdout, mut stderr) = (String::new(), String::new(), String::new());
        loop {
            let heard = self.next_line(line);
            let Some((_, answer)) = heard.split_once(&prefix) else { continue };
            match answer.split_once(' ') {
                Some(("status", rest)) => rest.clone_into(&mut status),
                Some(("out", rest)) => stdout += rest,
                Some(("err", rest)) => stderr += rest,
                _ => break,
            }
        }
        let numbers: Vec<i32> = status.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [stdout, stderr] =
            [stdout, stderr].map(|text| STANDARD.decode(text).expect("an answer in base64"));
        // The kernel's messages share the line: this is the proof that none has hit the answer.
        let sizes = [stdout.len() as i32, stderr.len() as i32];
        assert!(numbers.len() == 3 && numbers[1..] == sizes, "a garbled answer to {line}: {status}");
        let status = ExitStatus::from_raw(numbers[0] << 8);
        Outcome::new(Output { status, stdout, stderr }, format!("{}# {line}", self.model.name))
    }

    /// Starts a line of shell in the guest, and does not wait for its end; what it says goes to `/tmp/log`.
    #[track_caller]
    pub fn start(&mut self, line: &str) {
        self.run(&format!("{line} >/tmp/log 2>&1 &")).succeeds();
    }

    /// The power fails: whatever the guest has not handed to its disk yet is lost.
    pub fn lose_power(self) {
        drop(self);
    }

    /// Has PID 1 become this program; nothing can be run after that.
    #[track_caller]
    pub fn becomes(&mut self, command: &str) {
        self.send(&format!("0 exec {command}"));
    }

    /// Waits for a line that holds `text`.
    #[track_caller]
    pub fn hears(&mut self, text: &str) {
        loop {
            let line = self.next_line(text);
            assert!(!line.contains("guest failed"), "{line}");
            if line.contains(text) {
                break;
            }
        }
    }

    #[track_caller]
    fn send(&mut self, line: &str) {
        self.serial.send(line).unwrap_or_else(|e| panic!("{line}: the machine is gone: {e}"));
    }

    #[track_caller]
    fn next_line(&mut self, waiting_for: &str) -> String {
        match self.serial.line(self.begin + self.model.limit) {
            Ok(line) => line,
            Err(Silence::Ended) => panic!("{waiting_for}: the machine went off"),
            Err(Silence::TimeUp) => panic!("{waiting_for}: not in {:?}", self.model.limit),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("-- the serial line of {}\n{}", self.model.name, self.serial.log());
            eprintln!("-- {} should have proved: {}", self.model.name, self.proving);
        }
    }
}

/// A name on this machine's loopback, as a guest has to call it: QEMU's user network has it at 10.0.2.2.
pub fn for_guest(name: &str) -> String {
    name.replace("127.0.0.1", "10.0.2.2")
}

/// The static busybox for a machine.
pub fn busybox(model: &Model) -> Vec<u8> {
    from_cache(&format!("{}/busybox", model.userland))
}

/// Where board-tests/kernels/get puts things.
fn in_cache(path: &str) -> String {
    format!("{REPOSITORY}/board-tests/cache/machines/{path}")
}

fn from_cache(path: &str) -> Vec<u8> {
    let (file, name) = (in_cache(path), path.split('/').next().unwrap_or_default());
    std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}; board-tests/kernels/get {name} brings it"))
}

/// The modules of a kernel, in the order to load them; none where everything is built in.
fn modules(kernel: &str) -> Vec<String> {
    let listed = std::fs::read_dir(in_cache(&format!("{kernel}/modules"))).into_iter().flatten();
    let mut names: Vec<String> =
        listed.map(|e| e.expect("a module").file_name().into_string().expect("a readable name")).collect();
    names.sort();
    names
}

fn static_edgepull(board: &str) -> Vec<u8> {
    let file = format!("{REPOSITORY}/target/dist/edgepull-{board}");
    std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}; cross/build {board} makes it"))
}

/// Seconds since 1970.
pub(super) fn unix_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}
