//! What the confined process can do, and what it cannot: it tries.

use super::*;
use crate::sys::effective_ids;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

/// Does `work` in a process that may write beneath `home/root`, and link files of `home/linked` into `home/together`,
/// and returns its result.
fn inside<T: Serialize + DeserializeOwned>(home: &Path, work: impl FnOnce() -> T) -> T {
    with_line(home, |_| work())
}

fn with_line<T: Serialize + DeserializeOwned>(home: &Path, work: impl FnOnce(&Line) -> T) -> T {
    let rights = Rights {
        writable: vec![home.join("root")],
        together: vec![home.join("together")],
        linked: Some(home.join("linked")),
        readable: vec![home.join("readable/there"), home.join("readable/file"), home.join("absent")],
        background: true,
        ..Rights::default()
    };
    run(&rights, |line| Ok(work(line)), |_| Ok(true)).unwrap()
}

/// A directory with `root`, which may be written to, and `beside`, which may not.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for name in ["root", "beside", "together", "linked", "readable"] {
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
    let at = |path: &str| home.path().join(path);
    let (done, by_path, above) = with_line(home.path(), |line| {
        let [together, linked] = ["together", "linked"].map(|name| line.open(&at(name)).unwrap());
        let link = |from: &OwnedFd, name: &str, to: &OwnedFd, new: &str| {
            nix::unistd::linkat(from, name, to, new, nix::fcntl::AtFlags::empty()).is_ok()
        };
        let open = |at: &OwnedFd, path: &str, flags| {
            let flags = nix::fcntl::OFlag::O_CLOEXEC | flags;
            nix::fcntl::openat(at, path, flags, nix::sys::stat::Mode::S_IRWXU).is_ok()
        };
        let (write, make) =
            (nix::fcntl::OFlag::O_WRONLY, nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CREAT);
        let done = [
            link(&linked, "file", &together, "mine"),
            open(&together, "mine", write),
            open(&together, "new", make),
            nix::fcntl::renameat(&together, "new", &together, "there/new").is_ok(),
            link(&together, "file", &linked, "mine"),
            nix::fcntl::renameat(&together, "there", &linked, "moved").is_ok(),
            open(&linked, "new", make),
            nix::unistd::unlinkat(&linked, "file", nix::unistd::UnlinkatFlags::NoRemoveDir).is_ok(),
        ];
        // By its name nothing of it is writable, nor by way of what is above it.
        let by_path = [fs::write(at("together/path"), "").is_ok(), fs::write(at("linked/file"), "").is_ok()];
        let above = ["../beside/file", "../../beside/file", "there/../../beside/file", "../together/file"];
        let above = above.map(|path| open(&together, path, write)).to_vec();
        (done.to_vec(), by_path, above)
    });
    let free = !has_landlock();
    assert_eq!(done, [true, true, true, true, free, free, free, free]);
    assert_eq!(by_path[0], !has_mounts(), "by its path it is read-only");
    assert_eq!(by_path[1], !has_mounts());
    assert!(!has_mounts() || above.iter().all(|done| !done), "{above:?}");
    assert_eq!(fs::read_to_string(at("beside/file")).unwrap(), "before");
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
        let fd =
            nix::fcntl::openat(&open, "beside", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
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
            ("talk to a service of this machine", UnixStream::connect(home.path().join("socket")).is_ok()),
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

/// Lists calls that do something whatever their arguments are, or that never return.
const NOT_TRIED: [libc::c_long; 6] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_clone,
    libc::SYS_vhangup,
    // Unknown operations are none that the kernel has.
    libc::SYS_futex,
];
/// Lists more of them, which only some architectures have.
#[cfg(target_arch = "x86_64")]
const NOT_TRIED_EITHER: [libc::c_long; 5] = [
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_pause,
    // uretprobe and uprobe, which the kernel lets through to what traces programs, ending all others (kernel/seccomp.c).
    335,
    336,
];
#[cfg(target_arch = "arm")]
const NOT_TRIED_EITHER: [libc::c_long; 3] = [libc::SYS_fork, libc::SYS_vfork, libc::SYS_pause];
#[cfg(target_arch = "aarch64")]
const NOT_TRIED_EITHER: [libc::c_long; 0] = [];
/// Is beyond the last number that Linux has given to a call: 467 in 6.15.
const NUMBERS: libc::c_long = 500;
/// Lists calls by which a process would get out of a sandbox, or do more than fetch. No allowed call is among them.
#[rustfmt::skip]
const NEVER: &[libc::c_long] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_kill, libc::SYS_ptrace, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_setns, libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    libc::SYS_listen, libc::SYS_accept4, libc::SYS_socketpair, libc::SYS_seccomp, libc::SYS_personality,
    libc::SYS_reboot, libc::SYS_sethostname, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex,
    libc::SYS_swapon, libc::SYS_quotactl, libc::SYS_acct, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setresuid,
    libc::SYS_setgroups, libc::SYS_capset, libc::SYS_memfd_create, libc::SYS_fanotify_init, libc::SYS_mq_open,
    libc::SYS_shmget, libc::SYS_msgget, libc::SYS_semget, libc::SYS_setxattr, libc::SYS_removexattr,
    libc::SYS_rt_sigqueueinfo, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_open_tree,
    libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_clone3, libc::SYS_setsid, libc::SYS_syslog,
    // close_range, pidfd_getfd, mount_setattr, the three of Landlock.
    436, 438, 442, 444, 445, 446,
];

#[test]
fn of_all_system_calls_it_has_those_of_its_list_only() {
    if !sys::has_seccomp() {
        eprintln!("LEFT OUT: this kernel has no seccomp filters");
        return;
    }
    let home = home();
    let ending = Some(home.path().join("readable/file"));
    let rights = Rights { ending, ..Rights::default() };
    let tried = |number: &libc::c_long| !NOT_TRIED.contains(number) && !NOT_TRIED_EITHER.contains(number);
    let has = |_: &mut Line| {
        let there = |number: &libc::c_long| {
            let refused = sys::call(*number, [-1; 6]).err().and_then(|error| error.raw_os_error());
            refused != Some(libc::ENOSYS)
        };
        Ok((0..NUMBERS).filter(tried).filter(there).collect::<Vec<_>>())
    };
    let has: Vec<libc::c_long> = run(&rights, has, |_| Ok(true)).unwrap();
    // With arguments of which all bits are set these of the others are allowed, too.
    let besides = [libc::SYS_close, libc::SYS_dup3];
    let mut list = [calls::FREQUENT, calls::ALWAYS, calls::OWN, calls::OLD, &besides].concat();
    #[cfg(not(target_arch = "aarch64"))]
    list.push(libc::SYS_dup2);
    #[cfg(all(not(target_arch = "arm"), not(target_env = "musl")))]
    list.push(libc::SYS_mmap);
    #[cfg(all(target_arch = "arm", not(target_env = "musl")))]
    list.push(libc::SYS_mmap2);
    let more: Vec<_> = has.iter().filter(|number| !list.contains(number)).collect();
    assert!(more.is_empty(), "more than its list: {more:?}");
    let never: Vec<_> = has.iter().filter(|number| NEVER.contains(number)).collect();
    assert!(never.is_empty(), "{never:?}");
    // The filter lets through what is on the list; what a kernel is too old for, it has not.
    for number in [libc::SYS_read, libc::SYS_fchmodat, libc::SYS_linkat, libc::SYS_unlinkat, libc::SYS_close]
    {
        assert!(has.contains(&number), "{number}");
    }
    let rules = calls::SOMETIMES.iter().map(|rule| rule.0);
    assert!(rules.chain(list).all(|number| !NEVER.contains(&number)));
}

#[test]
fn its_sockets_are_those_of_tcp_and_udp_and_have_few_options() {
    if !sys::has_seccomp() {
        eprintln!("LEFT OUT: this kernel has no seccomp filters");
        return;
    }
    let denied = |result: &io::Result<libc::c_long>| {
        result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
    };
    let home = home();
    let (sockets, options): (Vec<[libc::c_long; 3]>, Vec<[libc::c_long; 2]>) = inside(home.path(), || {
        let mut sockets = Vec::new();
        for family in 0..46 {
            for kind in 0..12 {
                // TCP, UDP, SCTP, UDP-Lite, raw and MPTCP are among them.
                for protocol in [0, 1, 2, 6, 17, 33, 58, 132, 136, 143, 255, 256, 262] {
                    let made = sys::call(libc::SYS_socket, [family, kind, protocol, 0, 0, 0]);
                    if let Ok(socket) = made {
                        drop(sys::call(libc::SYS_close, [socket, 0, 0, 0, 0, 0]));
                    }
                    if !denied(&made) {
                        sockets.push([family, kind, protocol]);
                    }
                }
            }
        }
        let socket = TcpListener::bind("127.0.0.1:0");
        // It has none that listens.
        assert!(socket.is_err());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut options = Vec::new();
        let pairs = (0..300).flat_map(|level| (0..90).map(move |name| [level, name]));
        for [level, name] in pairs {
            let arguments = [socket.as_raw_fd() as libc::c_long, level, name, 0, 0, 0];
            if !denied(&sys::call(libc::SYS_setsockopt, arguments)) {
                options.push([level, name]);
            }
        }
        (sockets, options)
    });
    let (stream, datagram) = (libc::SOCK_STREAM as libc::c_long, libc::SOCK_DGRAM as libc::c_long);
    let mut expected = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6].map(libc::c_long::from) {
        expected.extend([0, 6].map(|protocol| [family, stream, protocol]));
        expected.extend([0, 17].map(|protocol| [family, datagram, protocol]));
    }
    assert_eq!(sockets, expected);
    // SO_RCVBUF and time-outs; IP_RECVERR; TCP_NODELAY, TCP_WINDOW_CLAMP, TCP_FASTOPEN_CONNECT; IPV6_RECVERR, IPV6_V6ONLY.
    let expected: &[[libc::c_long; 2]] =
        &[[0, 11], [1, 8], [1, 20], [1, 21], [1, 66], [1, 67], [6, 1], [6, 10], [6, 30], [41, 25], [41, 26]];
    assert_eq!(options, expected);
}

#[test]
fn what_it_says_is_text_whatever_it_was_made_of() {
    let mut asked = Vec::new();
    let order = "\u{1b}[2Jplatform\u{9b}\n";
    let result = run(
        &Rights::default(),
        |line| {
            line.ask(&order)?;
            Err::<(), _>(Error::new(Kind::Network, order.to_owned()).hint(order.to_owned()))
        },
        |question| {
            asked.push(serde_json::from_slice::<String>(question).unwrap());
            Ok(true)
        },
    );
    assert_eq!(asked, ["?[2Jplatform????"]);
    let sent = serde_json::to_string(&result.unwrap_err()).unwrap();
    assert_eq!(sent, "[6,\"?[2Jplatform????\",\"?[2Jplatform????\"]");
    let data = run(&Rights::default(), |_| Ok(Verbatim(order.to_owned())), |_| Ok(true));
    assert_eq!(data.unwrap().0, order);
}

#[test]
fn it_has_nothing_of_what_its_parent_has_open() {
    let home = home();
    let at = |path: &str| home.path().join(path);
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(at(path)).unwrap();
    let (lock, given) = (open("beside/file"), open("root/file"));
    let (secret, source) =
        (File::open(at("beside/there")).unwrap(), File::open(at("readable/file")).unwrap());
    let (_mine, socket) = UnixStream::pair().unwrap();
    let mode = |file: &File| file.metadata().unwrap().mode();
    let modes = (mode(&lock), mode(&source));
    let rights =
        Rights { written: vec![given.as_raw_fd()], readable: vec![at("readable/file")], ..Rights::default() };
    let done: Vec<bool> = run(
        &rights,
        |_| {
            let mode = fs::Permissions::from_mode(0o666);
            // It is none of that file any more.
            let _ = lock.set_permissions(mode.clone());
            Ok(vec![
                (&lock).write_all(b"mine").is_ok(),
                lock.set_len(0).is_ok(),
                secret.metadata().is_ok_and(|secret| secret.is_dir()),
                (&socket).write_all(b"mine").is_ok(),
                io::stdin().read_to_end(&mut Vec::new()).is_ok_and(|read| read > 0),
                // What it was given.
                (&given).write_all(b"mine").is_ok(),
                io::read_to_string(&source).is_ok_and(|text| text == "before"),
                source.set_permissions(mode).is_ok() && has_mounts(),
            ])
        },
        |_| Ok(true),
    )
    .unwrap();
    assert_eq!(done, [false, false, false, false, false, true, true, false]);
    assert_eq!(fs::read_to_string(at("beside/file")).unwrap(), "before");
    assert_eq!(mode(&lock), modes.0);
    assert!(!has_mounts() || mode(&source) == modes.1);
}
