//! Work that reads what others have sent, in a process that can do little.
//!
//! ```text
//! edgepull ──┬── fork ──> confined: registry → digest → inflate → tar → files beneath its root
//!            │   <── questions: may I go on with this image?
//!            └── keeps the books: locks, records, links, the user's commands
//! ```
//!
//! The confined process reads and writes where it is told, and talks to the internet; it cannot read or write elsewhere,
//! change modes, owners or times outside of the directories that it writes to, open a device, run a program, signal,
//! trace or start another process, or use any right of root's but those that unpacking takes. Of what its parent has open
//! it has nothing but the files that it was given. What it says is data: its parent takes no more of it than 512 KiB at
//! a time, makes readable text of it (`words`, `output`), decides itself, and does itself what becomes visible.
//!
//! What the kernel does not have is left out, and said at `-v`; `docs/security.md` has the table.

mod calls;
mod output;
mod words;

pub use words::Verbatim;

use crate::error::{Error, Kind, Result};
use crate::sys::{self, Beneath, Calls};
use output::{Output, Pipes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest message, in bytes: the longest ones name the layers of an image, of which a manifest can have 1024.
const MESSAGE_MAX: u32 = 512 << 10;

/// What unpacking takes of root's rights, by the numbers of capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD,
/// SETFCAP.
const CAPABILITIES: [u8; 6] = [0, 1, 3, 4, 27, 31];

/// What it reads in any case: how much memory it takes, how many threads make sense, random numbers for TLS where the
/// kernel gives them in no other way.
const READABLE: [&str; 3] = ["/proc/self", "/sys/fs/cgroup", "/dev/urandom"];

/// Limits how long a process that has worked for a killed edgepull may take to end.
pub const ENDING: Duration = Duration::from_secs(2);

/// Names the means by which a process is confined, as the log does.
const MOUNTS: &str = "mounts";
const LANDLOCK: &str = "Landlock";

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
    /// Lists more of them, between which it links and renames files. It reaches them only by [`Line::open`].
    pub together: Vec<PathBuf>,
    /// Names one more of those, whose files it may read, link, and write to in place.
    pub linked: Option<PathBuf>,
    /// Files, and directories, beneath which it may read besides. Those that are not there are left out.
    pub readable: Vec<PathBuf>,
    /// Lists descriptors of open files that it goes on writing to.
    pub written: Vec<RawFd>,
    /// Names a file or directory on which it holds a shared lock (flock(2)) until it has ended: [`wait_until_ended`].
    pub ending: Option<PathBuf>,
    /// Is set if its standard output is bytes that were asked for as they are, and is passed on unchanged.
    pub raw: bool,
    /// It lets others have the processor and the disk first.
    pub background: bool,
    /// Lists the means that are left out, as on a kernel without them.
    #[cfg(test)]
    pub(crate) left_out: Vec<&'static str>,
}

/// Has the kernel confine this process by `means`, called `name`, unless a test leaves it out.
fn apply(rights: &Rights, name: &str, means: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    if rights.left_out.contains(&name) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let _ = (rights, name);
    means()
}

/// Connects the confined process with its parent, and holds the directories that it was given.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    /// Holds the directories of [`Rights::together`] and [`Rights::linked`], opened by O_PATH.
    places: Vec<(PathBuf, File)>,
}

impl Line {
    /// Opens one of the directories of [`Rights::together`], or that of [`Rights::linked`].
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] for any other path, or if the directory cannot be opened.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        let place = self.places.iter().find(|(known, _)| known == path).map(|(_, place)| place);
        let place = place.ok_or(io::ErrorKind::NotFound.into());
        let opened =
            place.and_then(|place| Ok(nix::fcntl::openat(place, ".", flags, nix::sys::stat::Mode::empty())?));
        opened.map_err(|error| Error::disk(path.display(), error))
    }

    /// Asks whether to go on.
    ///
    /// # Errors
    /// The reason not to.
    pub fn ask(&mut self, question: &impl Serialize) -> Result<bool> {
        send(&mut self.stream, QUESTION, &encoded(question)).map_err(gone)?;
        match receive(&mut self.stream).map_err(gone)? {
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
    let pipes = Pipes::new().map_err(unable)?;
    let parent = std::process::id();
    let Some(child) = sys::fork().map_err(unable)? else {
        drop(ours);
        confined(rights, parent, theirs, pipes, work);
    };
    drop(theirs);
    let mut output = pipes.ours(rights.raw);
    let said = listen(&mut ours, &mut output, answer);
    drop(ours);
    let printed = output.end();
    let ended = sys::wait_for(child).map_err(unable)?;
    printed.map_err(|error| Error::from_io(Kind::Other, error).context("standard output"))?;
    match (said, ended) {
        (Ok(said), _) => said,
        (Err(_), Err(signal)) => Err(ended_by(signal)),
        (Err(error), Ok(_)) => Err(unable(error)),
    }
}

/// Hears what the confined process has to say until it is done.
fn listen(
    line: &mut UnixStream,
    output: &mut Output,
    answer: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> io::Result<Result<Vec<u8>>> {
    loop {
        output.pass_on_until(line.as_fd())?;
        let (kind, mut said) = receive(line)?;
        words::make_readable(&mut said);
        match (kind, said) {
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
    stream: UnixStream,
    pipes: Pipes,
    work: &mut dyn FnMut(&mut Line) -> Result<Vec<u8>>,
) -> ! {
    let mut line = Line { stream, places: Vec::new() };
    // The kernel makes entries of /proc anew when it has forgotten them, and with them what is allowed.
    let result = confine(rights, parent, &mut line, pipes).and_then(|_kept| work(&mut line));
    let sent = match &result {
        Ok(result) => send(&mut line.stream, DONE, result),
        Err(error) => send(&mut line.stream, FAILED, &encoded(error)),
    };
    // Whoever would hear of it is gone.
    drop(sent);
    sys::exit_now(0)
}

/// Gives up, for good, what the work does not need. What is to be kept open meanwhile.
fn confine(rights: &Rights, parent: u32, line: &mut Line, pipes: Pipes) -> Result<Vec<File>> {
    let unable = |error| Error::from_io(Kind::Other, error).context("what fetches cannot be confined");
    let _ = sys::die_with_parent();
    // It may have ended before that was said.
    let orphaned = || std::os::unix::process::parent_id() != parent;
    if orphaned() {
        sys::exit_now(0);
    }
    for (stream, number) in pipes.theirs().iter().zip([libc::STDOUT_FILENO, libc::STDERR_FILENO]) {
        sys::put_at(stream.as_fd(), number).map_err(unable)?;
    }
    if rights.background {
        sys::background();
    }
    // Before any directory is opened.
    let writable = real(&rights.writable)?;
    let linked = rights.linked.iter().cloned();
    let asked: Vec<PathBuf> = rights.together.iter().cloned().chain(linked).collect();
    let together = real(&asked)?;
    let mut homes = None;
    let mounts = apply(rights, MOUNTS, || {
        sys::read_only_outside(&writable, &together).map(|mounted| homes = Some(mounted))
    });
    let (own_proc, places) = match homes {
        Some(homes) => (homes.own_proc, homes.together),
        None => {
            let places = together.iter().map(|path| open(path)).collect::<Result<_>>()?;
            (Err(io::ErrorKind::Unsupported.into()), places)
        }
    };
    let writable = writable.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let opened = |path: &Path| place(0).open(path).ok();
    let kept: Vec<File> = READABLE.iter().filter_map(|path| opened(Path::new(path))).collect();
    let ending = rights.ending.as_deref().map(hold).transpose()?;
    let numbers = [line.stream.as_raw_fd(), libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter();
    let files = places.iter().chain(&writable).chain(&kept).chain(&ending);
    let numbers = numbers.chain(rights.written.iter().copied()).chain(files.map(AsRawFd::as_raw_fd));
    sys::keep_only(&numbers.collect::<Vec<_>>(), &|file| again(file, &rights.readable)).map_err(unable)?;
    // Before this, whoever works here next could not know of this process.
    if orphaned() {
        sys::exit_now(0);
    }
    let mut readable = kept.iter().filter_map(|file| file.try_clone().ok());
    let mut readable =
        readable.by_ref().chain(rights.readable.iter().filter_map(|path| opened(path))).map(OwnedFd::from);
    let linked = places.get(rights.together.len());
    let beneath = Beneath {
        writable: writable.iter().chain(&places[..rights.together.len()]).map(File::as_fd).collect(),
        linked: linked.map(File::as_fd),
        readable: &mut readable,
    };
    let calls = Calls {
        frequent: calls::FREQUENT,
        sometimes: calls::SOMETIMES,
        always: &[calls::ALWAYS, calls::OWN, calls::OLD],
        held: ending.as_ref().map(AsRawFd::as_raw_fd),
    };
    let mut in_force = Vec::new();
    // In this order: each of them may take away what those before it need.
    for (name, outcome) in [
        (MOUNTS, mounts),
        ("a /proc of its own", own_proc),
        ("no_new_privs", sys::no_new_privileges()),
        (LANDLOCK, apply(rights, LANDLOCK, || sys::only_beneath(beneath))),
        ("capabilities", sys::drop_capabilities(&CAPABILITIES)),
        ("seccomp", sys::only_these_calls(&calls)),
    ] {
        match outcome {
            Ok(()) => in_force.push(name),
            Err(error) => log::info!("this kernel does not confine what fetches by {name}: {error}"),
        }
    }
    log::info!("what fetches is confined by {}", in_force.join(", "));
    line.places = asked.into_iter().zip(places).collect();
    Ok(kept.into_iter().chain(writable).chain(ending).collect())
}

/// Returns the paths of these directories without links in them. Each must be a directory itself, and not a link to
/// one.
fn real(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let real = |path: &PathBuf| {
        open(path)?;
        fs::canonicalize(path).map_err(|error| Error::disk(path.display(), error))
    };
    paths.iter().map(real).collect()
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

/// Opens a file, which is open for reading, again by its path in `readable`, if it is there. The new descriptor leads
/// to the mount of now, by which its mode cannot be changed.
fn again(file: &File, readable: &[PathBuf]) -> Option<File> {
    let there = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let is_it = |other: &fs::Metadata| (other.dev(), other.ino()) == (there.dev(), there.ino());
    readable.iter().filter(|path| fs::metadata(path).is_ok_and(|other| is_it(&other))).find_map(|path| {
        let again = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
        again.metadata().is_ok_and(|other| is_it(&other)).then_some(again)
    })
}

/// Takes the shared lock that shows that this process has not ended. Its descriptor cannot be written to, and nobody
/// shares it.
fn hold(path: &Path) -> Result<File> {
    let failed = |error| Error::disk(path.display(), error);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    match file.try_lock_shared() {
        // Only an edgepull that has the lock already looks for processes of the one before: then the parent is gone.
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Waits until no confined process is left that works for an edgepull that has ended ([`Rights::ending`]). `file` is
/// that file, open, and the caller has the lock that keeps other edgepulls away. Returns `false` if one is still
/// there after `most`; without `most` it waits for ever.
///
/// # Errors
/// Returns the error of flock(2).
pub fn wait_until_ended(file: &File, most: Option<Duration>) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        let locked = match most {
            None => file.lock().map_err(TryLockError::Error),
            Some(_) => file.try_lock(),
        };
        match locked {
            // The next one that is confined takes it by a descriptor of its own.
            Ok(()) => return file.unlock().map(|()| true),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if most.is_some_and(|most| started.elapsed() < most) => {
                std::thread::sleep(ENDING / 40);
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
    }
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
mod tests;
