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
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest message, in bytes: the longest ones name the layers of an image, of which a manifest can have 1024.
const MESSAGE_MAX: u32 = 512 << 10;

/// What unpacking takes of root's rights, by the numbers of capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD,
/// SETFCAP.
const CAPABILITIES: [u8; 6] = [0, 1, 3, 4, 27, 31];

/// What it reads in any case: how much memory it takes, how many threads make sense, random numbers for TLS where the
/// kernel gives them in no other way.
const READABLE: [&str; 3] = ["/proc/self", "/sys/fs/cgroup", "/dev/urandom"];

/// How long a process may take to end that has worked for a killed edgepull, and holds its locks until then.
pub const ENDING: Duration = Duration::from_secs(2);

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
    // The kernel makes entries of /proc anew when it has forgotten them, and with them what is allowed.
    let result = confine(rights, parent).and_then(|_kept| work(&mut line));
    let sent = match &result {
        Ok(result) => send(&mut line.0, DONE, result),
        Err(error) => send(&mut line.0, FAILED, &encoded(error)),
    };
    // Whoever would hear of it is gone.
    drop(sent);
    sys::exit_now(0)
}

/// Gives up, for good, what the work does not need. What is to be kept open meanwhile.
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
    let opened = |path: &Path| place(0).open(path).ok();
    let kept: Vec<File> = READABLE.iter().filter_map(|path| opened(Path::new(path))).collect();
    let kept_too = kept.iter().filter_map(|file| file.try_clone().ok());
    let mut readable =
        kept_too.chain(rights.readable.iter().filter_map(|path| opened(path))).map(OwnedFd::from);
    let beneath = Beneath {
        writable: writable.iter().map(File::as_fd).collect(),
        linked: linked.as_ref().map(File::as_fd),
        readable: &mut readable,
    };
    let mut calls = calls::ALWAYS.to_vec();
    calls.extend_from_slice(calls::OWN);
    calls.extend_from_slice(calls::OLD);
    let mut in_force = Vec::new();
    // In this order: each of them may take away what those before it need.
    for (name, outcome) in [
        ("mounts", mounts),
        ("no_new_privs", sys::no_new_privileges()),
        ("Landlock", sys::only_beneath(beneath)),
        ("capabilities", sys::drop_capabilities(&CAPABILITIES)),
        ("seccomp", sys::only_these_calls(&calls, calls::SOMETIMES)),
    ] {
        match outcome {
            Ok(()) => in_force.push(name),
            Err(error) => log::info!("this kernel does not confine what fetches by {name}: {error}"),
        }
    }
    log::info!("what fetches is confined by {}", in_force.join(", "));
    Ok(kept)
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
mod tests;
