//! Work that reads what others have sent, in a process that can do little.
//!
//! ```text
//! edgepull ──┬── fork ──> confined: registry → digest → inflate → tar → files beneath its root
//!            │   <── questions: may I go on with this image?
//!            └── keeps the books: locks, records, links, the user's commands
//! ```
//!
//! The confined process reads and writes where it is told, and talks to the internet; it cannot read or write elsewhere,
//! change modes, owners or times outside of the one directory that all those to write to are in, open a device, run a
//! program, signal, trace or start another process, or use any right of root's but those that unpacking takes. What it
//! says is data: the process that has started it takes no more of it than 512 KiB, decides itself, and does itself what
//! becomes visible.
//!
//! What the kernel does not have is left out, and said at `-v`; `docs/security.md` has the table.

mod calls;

use crate::error::{Error, Kind, Result};
use crate::sys::{self, Beneath};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The largest message, in bytes: the longest ones name the layers of an image, of which a manifest can have 1024.
const MESSAGE_MAX: u32 = 512 << 10;

/// What unpacking takes of root's rights, by the numbers of capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD,
/// SETFCAP.
const CAPABILITIES: [u8; 6] = [0, 1, 3, 4, 27, 31];

/// What it reads in any case: how much memory it takes, how many threads make sense, random numbers for TLS where the
/// kernel gives them in no other way.
const READABLE: [&str; 3] = ["/proc/self", "/sys/fs/cgroup", "/dev/urandom"];

/// What the confined process says: a question, how it ended.
const QUESTION: u8 = b'?';
const DONE: u8 = b'=';
const FAILED: u8 = b'!';
/// What it is answered; or [`FAILED`].
const YES: u8 = b'y';
const NO: u8 = b'n';

/// What the confined process may do.
#[derive(Debug, Default)]
pub struct Rights {
    /// Directories, beneath which it may read and write.
    pub writable: Vec<PathBuf>,
    /// One more, whose files it may read, link, and write to where they are.
    pub linked: Option<PathBuf>,
    /// Files, and directories, beneath which it may read besides. Those that are not there are left out.
    pub readable: Vec<PathBuf>,
    /// It lets others have the processor and the disk first.
    pub background: bool,
}

/// The confined process's line to the one that has started it.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// Asks whether to go on.
    ///
    /// # Errors
    /// The reason not to.
    pub fn ask(&mut self, question: &impl Serialize) -> Result<bool> {
        send(&mut self.0, QUESTION, &encoded(question)).map_err(gone)?;
        match receive(&mut self.0).map_err(gone)? {
            (YES, _) => Ok(true),
            (NO, _) => Ok(false),
            (_, error) => Err(decoded_error(&error)),
        }
    }
}

/// Does `work` in a process of its own, with these rights only; `answer` is what it may ask. Waits for it.
///
/// # Errors
/// Those of `work` and `answer`; [`Kind::Other`] where the process ends in another way.
pub fn run<T: Serialize + DeserializeOwned>(
    rights: &Rights,
    work: impl FnOnce(&mut Line) -> Result<T>,
    mut answer: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<T> {
    let mut work = Some(work);
    let mut encoding = |line: &mut Line| {
        let work = work.take().expect("it is called once, in one of two processes");
        Ok(encoded(&work(line)?))
    };
    let bytes = run_encoded(rights, &mut encoding, &mut answer)?;
    serde_json::from_slice(&bytes).map_err(|_| nonsense())
}

/// The same for bytes: once in the program, whatever is done.
fn run_encoded(
    rights: &Rights,
    work: &mut dyn FnMut(&mut Line) -> Result<Vec<u8>>,
    answer: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<Vec<u8>> {
    let unable = |error| Error::from_io(Kind::Other, error).context("no process to fetch with");
    let (mut ours, theirs) = UnixStream::pair().map_err(unable)?;
    let parent = std::process::id();
    let Some(child) = sys::fork().map_err(unable)? else {
        drop(ours);
        confined(rights, parent, theirs, work);
    };
    drop(theirs);
    let said = listen(&mut ours, answer);
    drop(ours);
    let ended = sys::wait_for(child).map_err(unable)?;
    match (said, ended) {
        (Ok(said), _) => said,
        (Err(_), Err(signal)) => Err(ended_by(signal)),
        (Err(error), Ok(_)) => Err(unable(error)),
    }
}

/// Hears what the confined process has to say until it is done.
fn listen(
    line: &mut UnixStream,
    answer: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> io::Result<Result<Vec<u8>>> {
    loop {
        match receive(line)? {
            (DONE, result) => return Ok(Ok(result)),
            (FAILED, error) => return Ok(Err(decoded_error(&error))),
            (QUESTION, question) => match answer(&question) {
                Ok(true) => send(line, YES, b"")?,
                Ok(false) => send(line, NO, b"")?,
                Err(error) => send(line, FAILED, &encoded(&error))?,
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The other process: it gives up its rights, works, says what came of it, and ends.
fn confined(
    rights: &Rights,
    parent: u32,
    line: UnixStream,
    work: &mut dyn FnMut(&mut Line) -> Result<Vec<u8>>,
) -> ! {
    let mut line = Line(line);
    // What is let open stays what it is: the kernel makes entries of /proc anew when it has forgotten them.
    let result = confine(rights, parent).and_then(|_open| work(&mut line));
    let sent = match &result {
        Ok(result) => send(&mut line.0, DONE, result),
        Err(error) => send(&mut line.0, FAILED, &encoded(error)),
    };
    // Whoever would hear of it is gone.
    drop(sent);
    sys::exit_now(0)
}

/// Gives up, for good, what the work does not need. What it may read.
fn confine(rights: &Rights, parent: u32) -> Result<Vec<File>> {
    let _ = sys::die_with_parent();
    // It may have ended before that was said.
    if std::os::unix::process::parent_id() != parent {
        sys::exit_now(0);
    }
    if rights.background {
        sys::background();
    }
    // Before any directory is opened.
    let mounts = sys::read_only_outside(common(rights.writable.iter().chain(&rights.linked)));
    let writable = rights.writable.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let linked = rights.linked.as_deref().map(open).transpose()?;
    let readable = READABLE.iter().map(Path::new).chain(rights.readable.iter().map(PathBuf::as_path));
    let readable: Vec<File> = readable.filter_map(|path| place(0).open(path).ok()).collect();
    let beneath = Beneath {
        writable: writable.iter().map(File::as_fd).collect(),
        linked: linked.as_ref().map(File::as_fd),
        readable: readable.iter().map(File::as_fd).collect(),
    };
    let mut calls = calls::ALWAYS.to_vec();
    calls.extend_from_slice(calls::OWN);
    calls.extend_from_slice(calls::OLD);
    let mut in_force = Vec::new();
    // In this order: each of them may take away what those before it need.
    for (name, outcome) in [
        ("mounts", mounts),
        ("no_new_privs", sys::no_new_privileges()),
        ("Landlock", sys::only_beneath(&beneath)),
        ("capabilities", sys::drop_capabilities(&CAPABILITIES)),
        ("seccomp", sys::only_these_calls(&calls, calls::SOMETIMES)),
    ] {
        match outcome {
            Ok(()) => in_force.push(name),
            Err(error) => log::info!("this kernel does not confine what fetches by {name}: {error}"),
        }
    }
    log::info!("what fetches is confined by {}", in_force.join(", "));
    Ok(readable)
}

/// Opens a directory that is one by itself, for its place.
fn open(path: &Path) -> Result<File> {
    place(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path).map_err(|error| Error::disk(path.display(), error))
}

/// Opens something for its place only.
fn place(flags: libc::c_int) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | flags);
    options
}

/// The deepest directory that all of these are in: files are linked from one into the other, which takes one mount.
fn common<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Option<&'a Path> {
    paths.map(PathBuf::as_path).reduce(|common, path| {
        common.ancestors().find(|ancestor| path.starts_with(ancestor)).unwrap_or(Path::new("/"))
    })
}

/// Why there was no word.
fn ended_by(signal: i32) -> Error {
    let message = format!("the process that fetches was ended by signal {signal}");
    let error = Error::new(Kind::Other, message);
    match signal {
        libc::SIGKILL => {
            error.hint("was there too little memory (dmesg)? The same command goes on from there")
        }
        _ => error,
    }
}

// --- messages: one byte for the kind, four for the length, little-endian, then JSON ---

fn send(line: &mut UnixStream, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= MESSAGE_MAX);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut message = Vec::with_capacity(5 + payload.len());
    message.push(kind);
    message.extend_from_slice(&length.to_le_bytes());
    message.extend_from_slice(payload);
    line.write_all(&message)
}

fn receive(line: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    line.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length as usize];
    line.read_exact(&mut payload)?;
    Ok((head[0], payload))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn decoded_error(bytes: &[u8]) -> Error {
    serde_json::from_slice(bytes).unwrap_or_else(|_| nonsense())
}

/// What the confined process has said cannot be so: it has become somebody else's.
pub fn nonsense() -> Error {
    Error::new(Kind::Other, "the process that fetches has said what makes no sense")
}

fn gone(error: io::Error) -> Error {
    Error::from_io(Kind::Other, error).context("the process that keeps the books is gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::effective_ids;
    use std::fs;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::process::Command;

    /// What `work` comes back with from a process that may write beneath `home/root`.
    fn inside<T: Serialize + DeserializeOwned>(home: &Path, work: impl FnOnce() -> T) -> T {
        let root = home.join("root");
        let rights = Rights {
            writable: vec![root],
            linked: Some(home.join("linked")),
            readable: vec![home.join("readable/there"), home.join("readable/file"), home.join("absent")],
            background: true,
        };
        run(&rights, |_| Ok(work()), |_| Ok(true)).unwrap()
    }

    /// A directory with `root`, which may be written to, and `beside`, which may not.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for name in ["root", "beside", "linked", "readable"] {
            fs::create_dir_all(home.path().join(name).join("there")).unwrap();
            fs::write(home.path().join(name).join("file"), "before").unwrap();
        }
        home
    }

    fn has_landlock() -> bool {
        sys::landlock_version().is_ok_and(|version| version >= 2)
    }

    /// Whether this process may do what mount(2) takes (CapEff of proc_pid_status(5)), on a kernel that has
    /// mount_setattr(2): not by what the code under test makes of it.
    fn has_mounts() -> bool {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        u64::from_str_radix(effective, 16).unwrap() & CAP_SYS_ADMIN != 0 && sys::has_mount_attributes()
    }

    #[test]
    fn it_writes_beneath_its_root_and_nowhere_else() {
        let home = home();
        let (root, beside) = (home.path().join("root"), home.path().join("beside"));
        let attempts = |at: &Path| -> Vec<(String, bool)> {
            let listed: [(&str, &dyn Fn() -> io::Result<()>); 9] = [
                ("make a file", &|| fs::write(at.join("new"), "new")),
                ("write to a file", &|| fs::write(at.join("file"), "after")),
                ("make a directory", &|| fs::create_dir(at.join("directory"))),
                ("make a link", &|| symlink("nowhere", at.join("symlink"))),
                ("link to a file", &|| fs::hard_link(at.join("file"), at.join("there/link"))),
                ("rename", &|| fs::rename(at.join("file"), at.join("there/renamed"))),
                ("link one out of it", &|| fs::hard_link(root.join("there/link"), at.join("taken"))),
                ("remove a file", &|| fs::remove_file(at.join("there/link"))),
                ("remove a directory", &|| fs::remove_dir(at.join("directory"))),
            ];
            listed.iter().map(|(name, attempt)| ((*name).to_owned(), attempt().is_ok())).collect()
        };
        let there = inside(home.path(), || attempts(&root));
        assert!(there.iter().all(|(_, done)| *done), "{there:?}");
        if !has_mounts() && !has_landlock() {
            eprintln!("LEFT OUT: this kernel has no Landlock that edgepull can use");
            return;
        }
        let elsewhere = inside(home.path(), || attempts(&beside));
        assert!(elsewhere.iter().all(|(_, done)| !done), "{elsewhere:?}");
        assert_eq!(fs::read_to_string(beside.join("file")).unwrap(), "before");
    }

    #[test]
    fn it_reads_what_it_is_given_and_nothing_else() {
        let home = home();
        fs::write(home.path().join("readable/there/file"), "before").unwrap();
        fs::write(home.path().join("readable/other"), "before").unwrap();
        let at = |path: &str| home.path().join(path);
        let read = inside(home.path(), || {
            let file = |path: &str| fs::read(at(path)).is_ok();
            let listed = |path: &str| fs::read_dir(at(path)).is_ok();
            let given = [
                file("root/file"),
                listed("root"),
                file("linked/file"),
                listed("linked"),
                file("readable/file"),
                file("readable/there/file"),
                listed("readable/there"),
                sys::peak_resident_kib().is_some(),
            ];
            let not = [file("readable/other"), listed("readable"), file("beside/file"), listed("beside")];
            // By another name, it is the same.
            let linked = symlink(at("beside"), at("root/link")).is_ok();
            let through = file("root/link/file");
            (given.to_vec(), not.to_vec(), linked, through)
        });
        let free = !has_landlock();
        assert_eq!(read, (vec![true; 8], vec![free; 4], true, free));
    }

    #[test]
    fn of_what_it_links_it_makes_nothing_new() {
        let home = home();
        let (root, linked) = (home.path().join("root"), home.path().join("linked"));
        let done = inside(home.path(), || {
            [
                fs::hard_link(linked.join("file"), root.join("mine")).is_ok(),
                fs::write(linked.join("config.json"), "mine").is_ok(),
                fs::rename(root.join("there"), linked.join("mine")).is_ok(),
                fs::remove_file(linked.join("file")).is_ok(),
                symlink("/", linked.join("link")).is_ok(),
            ]
        });
        let free = !has_landlock();
        assert_eq!(done, [true, free, free, free, free]);
    }

    #[test]
    fn modes_owners_attributes_times_and_devices_are_not_its_own_elsewhere() {
        if !has_mounts() {
            eprintln!("LEFT OUT: this user may not mount, or the kernel cannot");
            return;
        }
        let (home, elsewhere) = (home(), home());
        // What is open leads to the mounts of before.
        let open = File::open(elsewhere.path()).unwrap();
        let attempts = |at: &Path| {
            let null = at.join("null");
            let (read_write, device) = (fs::Permissions::from_mode(0o666), nix::sys::stat::makedev(1, 3));
            let kind = nix::sys::stat::SFlag::S_IFCHR;
            let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            let fd = nix::fcntl::openat(
                &open,
                "beside",
                nix::fcntl::OFlag::O_RDONLY,
                nix::sys::stat::Mode::empty(),
            );
            [
                fs::set_permissions(at.join("file"), fs::Permissions::from_mode(0o4777)).is_ok(),
                chown(at.join("file"), Some(7), Some(8)).is_ok(),
                File::open(at.join("file")).is_ok_and(|file| file.set_times(times).is_ok()),
                File::open(at.join("file"))
                    .is_ok_and(|file| sys::set_xattr(file.as_fd(), c"user.mine", b"mine").is_ok()),
                nix::sys::stat::mknod(&null, kind, nix::sys::stat::Mode::empty(), device).is_ok()
                    && fs::set_permissions(&null, read_write).is_ok(),
                File::open(&null).is_ok(),
                fd.is_ok(),
            ]
        };
        let (root, beside) = (home.path().join("root"), elsewhere.path().join("beside"));
        assert_eq!(inside(home.path(), || attempts(&root)), [true, true, true, true, true, false, false]);
        assert_eq!(inside(home.path(), || attempts(&beside)), [false; 7]);
    }

    #[test]
    fn it_starts_signals_and_reaches_nothing() {
        if !sys::has_seccomp() {
            eprintln!("LEFT OUT: this kernel has no seccomp filters");
            return;
        }
        let home = home();
        let listener = std::os::unix::net::UnixListener::bind(home.path().join("socket")).unwrap();
        let parent = nix::unistd::getpid();
        let done = inside(home.path(), || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let attempts: [(&str, bool); 8] = [
                ("have its parent signalled", sys::signal_of_input(socket.as_fd(), parent.as_raw()).is_ok()),
                ("run a program", Command::new("/bin/true").status().is_ok()),
                ("fork", sys::fork().is_ok_and(|child| child.is_some() || sys::exit_now(0))),
                ("signal its parent", nix::sys::signal::kill(parent, None).is_ok()),
                (
                    "talk to a service of this machine",
                    UnixStream::connect(home.path().join("socket")).is_ok(),
                ),
                ("make a namespace", sys::new_user_namespace().is_ok()),
                ("change the root", nix::unistd::chroot("/").is_ok()),
                ("become somebody else", nix::unistd::setuid(nix::unistd::Uid::from_raw(1)).is_ok()),
            ];
            attempts.map(|(name, done)| (name.to_owned(), done)).to_vec()
        });
        assert!(done.iter().all(|(_, done)| !done), "{done:?}");
        drop(listener);
    }

    #[test]
    fn it_does_what_unpacking_and_fetching_take() {
        let home = home();
        let root = home.path().join("root");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_root = effective_ids().0 == 0;
        let done: Vec<(String, bool)> = inside(home.path(), || {
            let file = root.join("file");
            let owned =
                || chown(&file, Some(7), Some(8)).and_then(|()| fs::metadata(&file)).map(|m| m.uid() == 7);
            let attempts: [(&str, bool); 5] = [
                ("threads", std::thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7)),
                ("TCP", TcpStream::connect(address).is_ok()),
                ("UDP, for DNS", UdpSocket::bind("127.0.0.1:0").is_ok()),
                ("owners", !is_root || owned().unwrap_or(false)),
                ("modes", fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).is_ok()),
            ];
            attempts.map(|(name, done)| (name.to_owned(), done)).to_vec()
        });
        assert!(done.iter().all(|(_, done)| *done), "{done:?}");
    }

    #[test]
    fn it_asks_and_is_answered() {
        let mut asked = Vec::new();
        let outcome = run(
            &Rights::default(),
            |line| Ok((line.ask(&1)?, line.ask(&2)?, line.ask(&3).map_err(|error| error.to_string()))),
            |question| {
                asked.push(question.to_vec());
                match question {
                    b"1" => Ok(true),
                    b"2" => Ok(false),
                    _ => Err(Error::new(Kind::Verification, "no").hint("never")),
                }
            },
        );
        assert_eq!(outcome.unwrap(), (true, false, Err("no; never".to_owned())));
        assert_eq!(asked, [b"1", b"2", b"3"]);
    }

    #[test]
    fn however_it_ends_its_parent_says_so() {
        let nothing = |_: &[u8]| Ok(true);
        let refused = run(&Rights::default(), |_| Err::<(), _>(Error::new(Kind::BadImage, "bad")), nothing);
        let refused = refused.unwrap_err();
        assert_eq!((refused.kind(), refused.to_string()), (Kind::BadImage, "bad".to_owned()));
        let killed: Result<()> = run(&Rights::default(), |_| std::process::abort(), nothing);
        let killed = killed.unwrap_err().to_string();
        assert!(killed.contains("ended by signal 6"), "{killed}");
        let silent: Result<()> = run(&Rights::default(), |_| sys::exit_now(0), nothing);
        assert_eq!(silent.unwrap_err().kind(), Kind::Other);
        // More than MESSAGE_MAX is not even sent; a length that lies is not believed.
        let (mut one, mut other) = UnixStream::pair().unwrap();
        assert!(send(&mut one, DONE, &vec![0; MESSAGE_MAX as usize + 1]).is_err());
        one.write_all(&[DONE, 255, 255, 255, 255]).unwrap();
        assert_eq!(receive(&mut other).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
