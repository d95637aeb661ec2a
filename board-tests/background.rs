//! `--background`: what fetches lets others have the disk first. (That it lets them have the processor is in
//! [`crate::confined`].)

use std::fs;
use std::process::Stdio;

use crate::failures::noise;
use crate::harness::*;

/// IOPRIO_CLASS_IDLE (linux/ioprio.h).
const IDLE: i64 = 3;

/// The I/O class of each thread of the processes that `pid` has forked.
fn classes(pid: u32) -> Vec<i64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let threads = children.split_whitespace().flat_map(|child| {
        let tasks = fs::read_dir(format!("/proc/{child}/task")).into_iter().flatten().flatten();
        tasks.map(|task| task.file_name().to_string_lossy().parse::<libc::c_long>().expect("a number"))
    });
    // SAFETY: IOPRIO_WHO_PROCESS and a thread: numbers in, a number out.
    threads.map(|thread| unsafe { libc::syscall(libc::SYS_ioprio_get, 1, thread) } >> 13).collect()
}

#[test]
fn what_fetches_waits_for_the_disk() {
    let registry = Registry::start();
    let proxy = Proxy::before(&registry).always(Place::Blobs, Fault::InBody(1, End::Silent));
    let scratch = Scratch::new();
    let image = Image::of("linux/arm/v7").layer(Layer::new().file("file", noise(100_000))).build();
    registry.push(&image.layout(&scratch, "layout"), "board/app:1");
    for background in [true, false] {
        let root = scratch.at("root");
        let words = ["pull", &proxy.image("board/app:1"), &root];
        let words = [if background { &["--background"][..] } else { &[] }, &words].concat();
        let before = proxy.asked().len();
        let mut edgepull = Board::armv7().command(words).stdout(Stdio::null()).spawn().expect("edgepull");
        // It has its rights and its place by then.
        while !proxy.asked()[before..].iter().any(|asked| asked.path.contains("/blobs/")) {
            std::thread::yield_now();
        }
        let (theirs, own) = (classes(edgepull.id()), classes(std::process::id()));
        edgepull.kill().expect("killed");
        edgepull.wait().expect("it has ended");
        assert!(
            !theirs.is_empty() && theirs.iter().all(|class| (*class == IDLE) == background),
            "{theirs:?}"
        );
        assert!(own.iter().all(|class| *class != IDLE), "{own:?}");
    }
}
