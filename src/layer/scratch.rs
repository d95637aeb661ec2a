//! Files without a name, for what would take too much memory. Whatever happens to the process, nothing of them stays.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// An empty file on the file system of `directory`, where it is called `name` for a moment: O_TMPFILE would not need
/// one, but Linux 3.11, and a file system that has it.
///
/// # Errors
/// Those of the system calls.
pub(super) fn unnamed(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let make = || openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let remove = || unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
    let made = match make() {
        // A run that was killed within that moment.
        Err(Errno::EEXIST) => {
            remove()?;
            make()?
        }
        other => other?,
    };
    remove()?;
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn nothing_is_in_the_directory_even_if_something_was() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("name"), "left by a killed run").unwrap();
        let directory = File::open(home.path()).unwrap();
        let mut file = unnamed(directory.as_fd(), "name").unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        file.write_all(b"kept").unwrap();
        file.rewind().unwrap();
        let mut kept = String::new();
        file.read_to_string(&mut kept).unwrap();
        assert_eq!(kept, "kept");
    }
}
