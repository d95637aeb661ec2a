//! A file on its way: it gets its name only when it is whole and durable, and until then lies beside its place as
//! `.NAME.edgepull`.
//!
//! Whoever writes it holds its lock (`flock(2)`), which dies with its holder. So what a killed run has left is known to
//! be nobody's, and the next run goes on with it: the bytes that are there are read again for their hash, not fetched
//! again. What somebody else has put there, in a directory where others may write, is removed and never followed.

use super::destination::Open;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::sandbox::ENDING;
use crate::sys;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many bytes are read and written at a time.
const BUFFER: usize = 16 << 10;
/// The mode of all files, whatever the umask: an image is no secret of whoever wrote it.
const MODE: u32 = 0o644;

/// An open file that has yet to get its name, and its lock.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// That of the file `place`: what an ended run has left of it, or a new one. Another run that is at it is waited
    /// for with `wait`.
    ///
    /// # Errors
    /// [`Kind::Busy`] without `wait`; [`Kind::Usage`] if `place` has no name; [`Kind::Disk`].
    pub(super) fn open(place: &Path, wait: bool) -> Result<Partial> {
        let path = beside(place)?;
        let failed = |error| Error::disk(path.display(), error);
        let started = Instant::now();
        loop {
            let Some(file) = open_ours(&path).map_err(failed)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if wait => {
                    log::info!("waiting for another edgepull that writes {}", place.display());
                    lock(&file).map_err(failed)?;
                }
                Err(TryLockError::WouldBlock) if started.elapsed() < ENDING => {
                    std::thread::sleep(ENDING / 40);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another edgepull is writing {}", place.display());
                    return Err(Error::new(Kind::Busy, message));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Its holder may have renamed or removed it between our open and our lock.
            if is_at(&file, &path).map_err(failed)? {
                set_mode(&file, MODE).map_err(failed)?;
                return Ok(Partial { file, path });
            }
        }
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its descriptor, which has the lock.
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(error))
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| self.failed(error))
    }

    /// Leaves the first `length` bytes.
    pub(super) fn cut(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| self.failed(error))
    }

    /// Writes `bytes` at the offset `at`.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|error| self.failed(error))
    }

    /// Reads as many bytes as `bytes` has, from the offset `at` on.
    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(bytes, at).map_err(|error| self.failed(error))
    }

    /// The digest of `size` bytes from the offset `start` on.
    pub(super) fn digest(&self, start: u64, size: u64) -> Result<Digest> {
        let mut hash = Sha256::new();
        self.hash(&mut hash, start, size)?;
        Ok(Digest(hash.finalize().into()))
    }

    /// Makes the file's last bytes, from the offset `start` on, those of `blob`, of which the first `have` are there
    /// already; `sent` hears how many more come. If what was there was not the blob's beginning, it starts over once.
    ///
    /// # Errors
    /// [`Kind::Verification`] for bytes that are not the blob's; [`Kind::Disk`]; those of `open` and its reader.
    pub(super) fn fill(
        &self,
        start: u64,
        have: u64,
        blob: &Descriptor,
        open: &mut Open<'_>,
        sent: &mut dyn FnMut(u64),
    ) -> Result<()> {
        match self.pour(start, have, blob, open, sent) {
            Err(error) if error.kind() == Kind::Verification && have > 0 => {
                log::info!("{}: starting over: {error}", self.path.display());
                self.cut(start)?;
                self.pour(start, 0, blob, open, sent)
            }
            other => other,
        }
    }

    fn pour(
        &self,
        start: u64,
        have: u64,
        blob: &Descriptor,
        open: &mut Open<'_>,
        sent: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let wrong = |what: String| Error::new(Kind::Verification, format!("blob {}: {what}", blob.digest));
        let mut hash = Sha256::new();
        self.hash(&mut hash, start, have)?;
        let mut at = have;
        if at < blob.size {
            let mut reader = open(at)?;
            let mut buffer = vec![0; BUFFER];
            loop {
                let read = read_some(&mut reader, &mut buffer)?;
                if read.len() as u64 > blob.size - at {
                    let size = blob.size;
                    return Err(wrong(format!(
                        "it is longer than the {size} bytes that its descriptor says"
                    )));
                }
                if read.is_empty() {
                    break;
                }
                self.write(read, start + at)?;
                hash.update(read);
                at += read.len() as u64;
                sent(read.len() as u64);
            }
        }
        let digest = Digest(hash.finalize().into());
        match at == blob.size && digest == blob.digest {
            true => Ok(()),
            false => Err(wrong(format!("expected {} bytes, got {digest} of {at} bytes", blob.size))),
        }
    }

    fn hash(&self, hash: &mut Sha256, start: u64, size: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut at = 0;
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(BUFFER).min(BUFFER);
            self.read(&mut buffer[..wanted], start + at)?;
            hash.update(&buffer[..wanted]);
            at += wanted as u64;
        }
        Ok(())
    }

    /// Makes it durable, then visible as `place`, in the same directory, and that durable, too.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub(super) fn rename(self, place: &Path) -> Result<()> {
        let renamed = self.file.sync_all().and_then(|()| fs::rename(&self.path, place));
        renamed.and_then(|()| sync(parent(place))).map_err(|error| Error::disk(place.display(), error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::disk(self.path.display(), error)
    }
}

/// The file `place` has `bytes`, durably, or what it had before.
///
/// # Errors
/// [`Kind::Disk`].
pub(super) fn replace(place: &Path, bytes: &[u8]) -> Result<()> {
    let partial = Partial::open(place, true)?;
    let written = partial.cut(0).and_then(|()| partial.write(bytes, 0));
    match written {
        Ok(()) => partial.rename(place),
        // On a full disk the room is needed.
        Err(error) => partial.remove().and(Err(error)),
    }
}

/// Makes the directory `path` durably, with mode 0755 whatever the umask, unless it is there.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {
            set_mode(&File::open(path)?, 0o755)?;
            sync(parent(path))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for the lock of an open file or directory.
pub(super) fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Where the file `place` is until it is whole.
pub(super) fn beside(place: &Path) -> Result<PathBuf> {
    let Some(name) = place.file_name() else {
        return Err(Error::new(Kind::Usage, format!("{} does not end in a name", place.display())));
    };
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".edgepull");
    Ok(place.with_file_name(partial))
}

/// Opens what is at `path` if it is a file of ours alone, or makes one. `None`: something else was there and is
/// removed, or something has come meanwhile.
fn open_ours(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(path) {
        Ok(file) if is_ours(&file.metadata()?) => return Ok(Some(file)),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match options.create_new(true).open(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
                other => other.map(Some),
            };
        }
        // A link; a socket.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {}
        Err(error) => return Err(error),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}

/// With another name it is another file, too, which must not change; with another owner it could, after its hash.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == sys::effective_ids().0
}

/// Whether `path` still leads to the open `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// File systems without modes, such as a USB stick's vfat, refuse those that they cannot show.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    match file.set_permissions(Permissions::from_mode(mode)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// The directory that `place` is in.
fn parent(place: &Path) -> &Path {
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes durable what was made or renamed in a directory.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The next bytes of a source; none at its end.
fn read_some<'a>(reader: &mut dyn Read, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    loop {
        match reader.read(buffer) {
            Ok(read) => return Ok(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_io(Kind::Other, error)),
        }
    }
}
