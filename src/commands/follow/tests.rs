//! Tests which options hold for a deployment, and what the process that fetches for it can do to the state directory, as if an
//! attacker had taken it over: it tries every call that it has.

use super::*;
use crate::sandbox::run;
use crate::store::deployment::Deployments;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

/// Lists the calls that are tried on a file, in this order: those that remove it come last.
const ATTEMPTS: [&str; 12] = [
    "chmod", "chown", "setxattr", "utimes", "truncate", "write", "link", "make", "symlink", "mknod",
    "rename", "unlink",
];
/// Lists those of them that Landlock does not restrict (landlock(7)).
const ATTRIBUTES: [&str; 4] = ["chmod", "chown", "setxattr", "utimes"];
const NOTHING: [&str; 0] = [];

/// Holds a state directory with two deployments, one of which has a generation and is fetching another one, and a
/// file beside it.
struct State {
    home: tempfile::TempDir,
    layers: Layers,
    deployment: Deployment,
    _lock: store::lock::StateLock,
}

impl State {
    fn new() -> State {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let lock = store::lock::StateLock::take(&state, false, "test").unwrap();
        let layers = Layers::open(&state).unwrap();
        let deployments = Deployments::open(&state).unwrap();
        let deployment = deployments.create("web", Tracking::default()).unwrap();
        deployments.create("other", Tracking::default()).unwrap();
        store::clock::save(&state, sys::unix_time());
        let digest = Digest::of(b"");
        Pending { digest, platform: "linux/arm/v7".into(), missing: Vec::new() }.save(&deployment).unwrap();
        let (whole, partial) = (layers.whole().join("aa"), layers.partial().join("bb"));
        let root = deployment.tree(1).join("rootfs");
        for directory in [&whole, &partial, &root, &deployment.staging(), &home.path().join("etc")] {
            fs::create_dir_all(directory).unwrap();
        }
        for file in [whole.join("file"), partial.join("file"), home.path().join("etc/passwd")] {
            fs::write(file, "before").unwrap();
        }
        fs::hard_link(whole.join("file"), root.join("file")).unwrap();
        for file in [deployment.tree(1).join("config.json"), deployment.staging().join("file")] {
            fs::write(file, "before").unwrap();
        }
        symlink("generations/1", deployment.directory().join("current")).unwrap();
        State { home, layers, deployment, _lock: lock }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Does `work` in the process that fetches, which is not confined by the means that are `left_out`, and returns
    /// its result.
    fn inside<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        left_out: &[&'static str],
        work: impl FnOnce(&Line, &OwnedFd) -> T,
    ) -> T {
        let state = self.path("state");
        let tree = self.deployment.tree(1);
        let rights = rights(Vec::new(), &self.layers, &self.deployment, Some(&tree), &state);
        let rights = Rights { left_out: left_out.to_vec(), ..rights };
        let work_directory = self.deployment.work();
        run(&rights, |line| Ok(work(line, &line.open(&work_directory).unwrap())), |_| Ok(true)).unwrap()
    }
}

/// Returns which of [`ATTEMPTS`] succeed on the file `path` from the directory `at`, and beside it. A link to it is
/// made in `work`.
fn done(at: BorrowedFd<'_>, path: &str, work: &OwnedFd) -> Vec<String> {
    let (beside, moved) = (format!("{path}.new"), format!("{path}.moved"));
    let open = |path: &str, flags| {
        openat(at, path, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::S_IRWXU).map(fs::File::from)
    };
    let attempt = |name: &str| -> std::io::Result<()> {
        match name {
            "chmod" => fchmodat(at, path, Mode::from_bits_retain(0o666), FchmodatFlags::FollowSymlink)?,
            "chown" => {
                let (user, group) = (Uid::from_raw(7), Gid::from_raw(8));
                fchownat(at, path, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            "setxattr" => {
                let path = Path::new(path);
                let (parent, name) = (path.parent().unwrap(), path.file_name().unwrap());
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let parent = openat(at, parent, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
                sys::set_xattr_at(parent.as_fd(), name.as_bytes(), c"user.mine", b"mine")?;
            }
            "utimes" => {
                let time = TimeSpec::new(7, 0);
                utimensat(at, path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
            }
            "truncate" => open(path, OFlag::O_WRONLY | OFlag::O_TRUNC).map(drop)?,
            "write" => std::io::Write::write_all(&mut open(path, OFlag::O_WRONLY)?, b"mine")?,
            "link" => linkat(at, path, work, "taken", AtFlags::empty())?,
            "make" => open(&beside, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL).map(drop)?,
            "symlink" => symlinkat("/", at, format!("{path}.link").as_str())?,
            "mknod" => {
                let node = format!("{path}.node");
                mknodat(at, node.as_str(), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3))?;
            }
            "rename" => renameat(at, path, at, moved.as_str())?,
            "unlink" => {
                // It has been renamed, or not.
                let there = fstatat(at, moved.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
                unlinkat(at, if there { moved.as_str() } else { path }, UnlinkatFlags::NoRemoveDir)?;
            }
            _ => unreachable!("{name}"),
        }
        Ok(())
    };
    let done = ATTEMPTS.iter().filter(|name| attempt(name).is_ok()).map(|name| (*name).to_owned()).collect();
    let _ = unlinkat(work, "taken", UnlinkatFlags::NoRemoveDir);
    done
}

/// Asks the kernel whether it and this user can confine by mounts, and by Landlock.
fn means() -> (bool, bool) {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let may_mount = u64::from_str_radix(effective, 16).unwrap() & CAP_SYS_ADMIN != 0;
    (may_mount && sys::has_mount_attributes(), sys::landlock_version().is_ok_and(|version| version >= 2))
}

/// Lists files that it must not change, by their paths in the test's directory.
const OTHERS: [&str; 9] = [
    "state/lock",
    "state/clock",
    "state/deployments/web/record",
    "state/deployments/web/pending",
    "state/deployments/web/current",
    "state/deployments/web/generations/1/config.json",
    "state/deployments/web/generations/1/rootfs/file",
    "state/deployments/other/record",
    "etc/passwd",
];

#[test]
fn records_and_locks_are_nothing_that_the_process_that_fetches_can_change() {
    let (has_mounts, has_landlock) = means();
    if !has_mounts || !has_landlock {
        eprintln!("LEFT OUT: this user or kernel has mounts: {has_mounts}, Landlock: {has_landlock}");
        return;
    }
    // With both, and on kernels with one of them.
    for (left_out, possible) in
        [(&[][..], &NOTHING[..]), (&["Landlock"], &NOTHING), (&["mounts"], &ATTRIBUTES)]
    {
        for path in OTHERS {
            let state = State::new();
            let there = state.path(path);
            let done = state.inside(left_out, |_, work| done(AT_FDCWD, there.to_str().unwrap(), work));
            // Of a link only owner and times can be changed; a file of the current root can be linked.
            let is_link = fs::symlink_metadata(&there).unwrap().is_symlink();
            let in_root = path.ends_with("rootfs/file");
            let landlock_only = left_out == ["mounts"];
            let expected = ATTEMPTS.iter().filter(|name| match **name {
                "setxattr" if is_link => false,
                "link" | "write" | "truncate" if in_root => landlock_only,
                name => possible.contains(&name),
            });
            let expected: Vec<&str> = expected.copied().collect();
            assert_eq!(done, expected, "{path} without {left_out:?}");
        }
    }
}

/// Tests devices, named pipes and other files, against the table in docs/security.md.
#[test]
fn what_is_left_to_it_without_mounts_or_without_landlock_is_what_the_documentation_says() {
    let (has_mounts, has_landlock) = means();
    if !has_mounts || !has_landlock {
        eprintln!("LEFT OUT: this user or kernel has mounts: {has_mounts}, Landlock: {has_landlock}");
        return;
    }
    for (left_out, expected) in [
        (&[][..], [false, false, false]),
        (&["Landlock"], [false, true, true]),
        (&["mounts"], [false, false, false]),
    ] {
        let state = State::new();
        let (pipe, other) = (state.path("pipe"), state.path("etc/passwd"));
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let reads = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let _reader = nix::fcntl::open(&pipe, reads, Mode::empty()).unwrap();
        let done = state.inside(left_out, |_, _| {
            let opens = |path: &Path| {
                let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                nix::fcntl::open(path, flags, Mode::empty()).is_ok()
            };
            [opens(Path::new("/dev/null")), opens(&pipe), fs::read(&other).is_ok()]
        });
        assert_eq!(done, expected, "without {left_out:?}");
    }
}

#[test]
fn nothing_above_its_directories_leads_to_where_it_could_write() {
    let (has_mounts, _) = means();
    if !has_mounts {
        eprintln!("LEFT OUT: this user may not mount, or the kernel cannot");
        return;
    }
    let state = State::new();
    // A descriptor that its parent has open leads to the mounts of before.
    let open = fs::File::open(state.path("state")).unwrap();
    let parent = std::process::id();
    let (home, deployment, layers) = (state.home.path(), &state.deployment, &state.layers);
    let ways = state.inside(&["Landlock", "capabilities"], |line, work| {
        let open_at = |at: &OwnedFd, path: &str| {
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            openat(at, path, flags, Mode::empty()).ok()
        };
        let root = line.open(&deployment.tree(1).join("rootfs")).unwrap();
        let [whole, partial] = [layers.whole(), layers.partial()].map(|path| line.open(path).unwrap());
        let mut ways: Vec<(String, Vec<String>)> = Vec::new();
        let mut attempt = |way: &str, at: Option<OwnedFd>, file: &str| {
            if let Some(at) = at {
                ways.push((format!("{way} to {file}"), done(at.as_fd(), file, work)));
            }
        };
        for (name, from, up) in [("work", work, "..".to_owned()), ("root", &root, "../../..".to_owned())] {
            attempt(&format!("{name}/{up}"), open_at(from, &up), "record");
            attempt(&format!("{name}/{up}"), open_at(from, &format!("{up}/../other")), "record");
            attempt(&format!("{name}/{up}"), open_at(from, &format!("{up}/../..")), "lock");
            attempt(&format!("{name}/{up}"), open_at(from, &format!("{up}/../../../etc")), "passwd");
        }
        attempt("root/..", open_at(&root, ".."), "config.json");
        for (name, from) in [("whole", &whole), ("partial", &partial)] {
            attempt(&format!("{name}/../.."), open_at(from, "../.."), "clock");
            attempt(&format!("{name}/../../deployments"), open_at(from, "../../deployments/web"), "pending");
        }
        for link in [
            format!("/proc/self/fd/{}/..", work.as_raw_fd()),
            format!("/proc/self/root{}", deployment.directory().display()),
            format!("/proc/{parent}/root{}", deployment.directory().display()),
            format!("/proc/{parent}/cwd/{}", deployment.directory().display()),
        ] {
            attempt(&link, openat(AT_FDCWD, link.as_str(), OFlag::O_DIRECTORY, Mode::empty()).ok(), "record");
        }
        attempt("an open one", openat(&open, ".", OFlag::O_DIRECTORY, Mode::empty()).ok(), "lock");
        if fs::metadata(format!("/proc/{parent}")).is_ok() {
            ways.push(("the parent's /proc".to_owned(), vec!["seen".to_owned()]));
        }
        ways
    });
    assert!(ways.len() >= 12, "{ways:?}");
    assert!(ways.iter().all(|(_, done)| done.is_empty()), "{ways:?}");
    assert_eq!(fs::read(home.join("etc/passwd")).unwrap(), b"before");
}

#[test]
fn in_its_own_directories_it_does_what_unpacking_takes() {
    let (has_mounts, has_landlock) = means();
    for left_out in [&[][..], &["Landlock"], &["mounts"], &["mounts", "Landlock"]] {
        let state = State::new();
        let [whole, partial] = [state.layers.whole(), state.layers.partial()].map(Path::to_owned);
        let all = state.inside(left_out, |line, work| {
            let [whole, partial] = [&whole, &partial].map(|path| line.open(path).unwrap());
            // From one of them to another, too.
            let linked = linkat(&whole, "aa/file", work, "staging/linked", AtFlags::empty()).is_ok();
            let renamed = renameat(&partial, "bb", &whole, "bb").is_ok();
            let each = [(&whole, "aa/file"), (&whole, "bb/file"), (work, "staging/file")];
            (linked && renamed, each.map(|(at, file)| done(at.as_fd(), file, work)).to_vec())
        });
        let is_root = sys::effective_ids().0 == 0;
        let expected: Vec<&str> =
            ATTEMPTS.into_iter().filter(|name| is_root || !["chown", "mknod"].contains(name)).collect();
        assert!(all.0, "without {left_out:?}");
        for done in all.1 {
            assert_eq!(done, expected, "without {left_out:?}; mounts {has_mounts}, Landlock {has_landlock}");
        }
    }
}

#[test]
fn the_lock_that_says_that_it_has_not_ended_is_not_let_go_by_it() {
    if !sys::has_seccomp() {
        eprintln!("LEFT OUT: this kernel has no seccomp filters");
        return;
    }
    let state = State::new();
    let path = state.path("state/lock");
    let held = |path: &Path| fs::File::open(path).unwrap().try_lock().is_err();
    assert!(!held(&path), "the holder has another kind of lock");
    let mut seen = Vec::new();
    let mut answer = |_: &[u8]| {
        seen.push(held(&path));
        Ok(true)
    };
    let tree = state.deployment.tree(1);
    let rights = rights(Vec::new(), &state.layers, &state.deployment, Some(&tree), &state.path("state"));
    let attempts = |line: &mut Line| {
        line.ask(&"held")?;
        let mut done = Vec::new();
        for number in 0..64 {
            // What it needs to say so.
            let kept = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
            if !kept.ends_with("lock") {
                continue;
            }
            let no = -1;
            for (name, call, arguments) in [
                ("unlock", libc::SYS_flock, [number, libc::LOCK_UN as _, 0, 0, 0, 0]),
                ("write", libc::SYS_write, [number, c"x".as_ptr() as libc::c_long, 1, 0, 0, 0]),
                ("truncate", libc::SYS_ftruncate, [number, 7, 0, 0, 0, 0]),
                ("chmod", libc::SYS_fchmod, [number, 0o666, 0, 0, 0, 0]),
                ("chown", libc::SYS_fchown, [number, 7, 7, 0, 0, 0]),
                ("record lock", libc::SYS_fcntl, [number, libc::F_SETLK as _, 0, 0, 0, 0]),
                ("replace", libc::SYS_dup3, [1, number, libc::O_CLOEXEC as _, 0, 0, 0]),
                ("close all", CLOSE_RANGE, [0, 1023, 0, 0, 0, 0]),
                ("close", libc::SYS_close, [number, no, no, no, no, no]),
            ] {
                // A lock that is not there any more cannot be written to either.
                if sys::call(call, arguments).is_ok() {
                    done.push(name.to_owned());
                }
            }
            done.push("found".to_owned());
        }
        line.ask(&"held")?;
        Ok(done)
    };
    let done = run(&rights, attempts, &mut answer).unwrap();
    assert_eq!(done, ["found"], "one descriptor, and nothing that can be done with it");
    assert_eq!(seen, [true, true]);
    assert!(!held(&path), "it has ended");
    drop(state);
}

const CLOSE_RANGE: libc::c_long = 436;

/// No option does nothing: one that the deployment does not remember is this run's.
#[test]
fn what_is_remembered_comes_before_what_is_given_and_the_rest_is_as_it_is_given() {
    let home = tempfile::tempdir().unwrap();
    let _lock = store::lock::StateLock::take(home.path(), false, "test").unwrap();
    let deployments = Deployments::open(home.path()).unwrap();
    let bare = deployments.create("bare", Tracking::default()).unwrap();
    let told = Tracking {
        platform: Some("linux(+gpu)/arm64".into()),
        ca_file: Some("/its.pem".into()),
        plain_http: true,
        ..Tracking::default()
    };
    let told = deployments.create("told", told).unwrap();
    let given = Options {
        variant: Some("v6".into()),
        platform: Some(Platform::parse("linux/arm/v7").unwrap()),
        os_features: vec!["npu".into()],
        ca_file: Some("/given.pem".into()),
        plain_http: true,
        ..Options::default()
    };
    let shown = |deployment: &Deployment, options: &Options| {
        let found = remembered(deployment, options).unwrap();
        let platform = found.platform.map(|platform| platform.with_features(&found.os_features));
        (found.variant, platform, found.ca_file, found.plain_http)
    };
    let (ca, its) = (Some("/given.pem".into()), Some("/its.pem".into()));
    assert_eq!(shown(&bare, &given), (Some("v6".into()), Some("linux(+npu)/arm/v7".into()), ca, true));
    assert_eq!(shown(&bare, &Options::default()), (None, None, None, false));
    // A variant that is given is no part of a platform that is remembered.
    let platform = Some("linux(+gpu)/arm64/v8".into());
    assert_eq!(shown(&told, &given), (None, platform.clone(), its.clone(), true));
    assert_eq!(shown(&told, &Options::default()), (None, platform, its, true));
}
