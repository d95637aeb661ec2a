//! `STATE/clock`: the newest time that this board is known to have seen, one decimal number of seconds since
//! 1970 and a line end. [`crate::clock`] says what it protects from.
//!
//! Whatever is wrong with it, a pull goes on: without it there is still the time of the build. It is
//! written at most once a day, for flash wears out, and in such an order that a power cut leaves the old one
//! or the new one: new file → fsync → rename → fsync of the directory.

use super::{disk, state};
use crate::clock::{BUILT, HORIZON, STEP};
use std::io;
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
const NAME: &str = "clock";
/// The longest file that is read, in bytes: every number below 10^12 and a line end.
const SIZE_MAX: u64 = 13;

/// The record, and the file that it is from. Junk is warned about and ignored.
pub fn load(state: &Path) -> Option<(u64, PathBuf)> {
    let path = state.join(NAME);
    match read(&path) {
        Ok(time) => Some((time, path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // Not everybody may look.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            log::info!("{}: {error}", path.display());
            None
        }
        Err(error) => {
            log::warn!("{} is ignored: {error}", path.display());
            None
        }
    }
}

fn read(path: &Path) -> io::Result<u64> {
    let junk = || io::Error::new(io::ErrorKind::InvalidData, "it does not hold one time");
    let text = String::from_utf8(disk::read(path, SIZE_MAX)?).map_err(|_| junk())?;
    let time = parse(&text).ok_or_else(junk)?;
    match time <= BUILT + HORIZON {
        true => Ok(time),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "no board has seen that time")),
    }
}

/// Digits without a leading zero, and one line end.
fn parse(text: &str) -> Option<u64> {
    let number = text.strip_suffix('\n').filter(|_| text.len() as u64 <= SIZE_MAX)?;
    let strict = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    number.parse().ok().filter(|_| strict)
}

/// Records `time`, if that is at least [`STEP`] newer than what is recorded. A failure is only logged: who
/// pulls as a user, or onto a read-only system, goes without.
pub fn save(home: &Path, time: u64) {
    let path = home.join(NAME);
    // Another edgepull may have been faster. Junk is replaced.
    if read(&path).is_ok_and(|recorded| time < recorded.saturating_add(STEP)) {
        return;
    }
    let text = format!("{time}\n");
    match state::ensure(home).and_then(|()| disk::replace(home, NAME, text.as_bytes(), disk::PUBLIC)) {
        Ok(()) => log::info!("the time is recorded in {}", path.display()),
        Err(error) => log::info!("the time cannot be recorded: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TIME: u64 = 1_800_000_000; // 2027

    fn recorded(state: &Path) -> Option<u64> {
        load(state).map(|(time, path)| {
            assert_eq!(path, state.join("clock"));
            time
        })
    }

    #[test]
    fn it_moves_forward_by_whole_days_only() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("new/state");
        assert_eq!(recorded(&state), None);
        for (time, then) in [
            (TIME, TIME),
            (TIME + STEP - 1, TIME),
            (TIME - 7 * STEP, TIME),
            (TIME + STEP, TIME + STEP),
            (0, TIME + STEP),
        ] {
            save(&state, time);
            assert_eq!(recorded(&state), Some(then), "{time}");
        }
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["clock"]);
    }

    #[test]
    fn one_strict_number_and_nothing_else() {
        assert_eq!(parse("1800000000\n"), Some(TIME));
        assert_eq!(parse("999999999999\n"), Some(999_999_999_999));
        for junk in [
            "",
            "\n",
            "1800000000",
            "01800000000\n",
            "0\n",
            "+1800000000\n",
            "-1\n",
            " 1800000000\n",
            "1800000000 \n",
            "1800000000\n\n",
            "1800000000\r\n",
            "1.8e9\n",
            "0x10\n",
            "soon\n",
            "9999999999999\n",
            "18446744073709551616\n",
        ] {
            assert_eq!(parse(junk), None, "{junk:?}");
        }
    }

    #[test]
    fn junk_is_ignored_and_replaced() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("clock");
        let far = format!("{}\n", BUILT + HORIZON + 1);
        for junk in [far.as_bytes(), &b"\0\0\0\0\0\0\0\0\0\0\0"[..], b"soon\n", b"\xff\xfe", &[b'1'; 5000]] {
            fs::write(&file, junk).unwrap();
            assert_eq!(recorded(home.path()), None);
        }
        save(home.path(), TIME);
        assert_eq!(fs::read(&file).unwrap(), b"1800000000\n");
    }

    #[test]
    fn what_is_no_file_makes_nobody_wait() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("clock");
        std::os::unix::fs::symlink("/proc/self/stat", &file).unwrap();
        assert_eq!(recorded(home.path()), None);
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(recorded(home.path()), None);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(recorded(home.path()), None);
        save(home.path(), TIME); // cannot be written: no panic, no file left
        assert!(file.is_dir() && !home.path().join("clock.new").exists());
    }

    #[test]
    fn a_new_file_left_by_a_power_cut_is_no_obstacle() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("clock.new"), "18000").unwrap();
        save(home.path(), TIME);
        assert_eq!(recorded(home.path()), Some(TIME));
        assert!(!home.path().join("clock.new").exists());
    }
}
