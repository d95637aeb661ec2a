//! Layers into a root, really: nothing beside it changes, the trash is empty, and whether a layer comes in one piece or
//! is cut, frozen and thawed anywhere, with `openat2` or without, the tree is the same.
#![no_main]

use edgepull::error::{Kind, Result};
use edgepull::layer::rootfs::{Options as Writing, Rootfs};
use edgepull::layer::{Kept, Options, Threads, fetch};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::home::{Home, show_without_new_times};
use edgepull_fuzz::{assert_message, fuzz_target, layers, memory};
use std::cell::RefCell;
use std::io::{Cursor, Read};

/// A layer's decoder, its members at their limits, and the root's open directories.
const MEMORY_MAX: usize = 3 << 20;

#[derive(Debug, Arbitrary)]
struct Input {
    layers: [Option<layers::Tar>; 3],
    /// Where the connection breaks, and after how many bytes a checkpoint is due.
    cut: u16,
    every: u16,
    rootless: bool,
}

/// Unpacks the layers; with `cut`, each breaks there once and is asked for again.
fn unpack(home: &Home, input: &Input, cut: Option<usize>, emulate_openat2: bool) -> Result<()> {
    let victim = home.path("victim");
    let victim = victim.to_str().expect("TMPDIR is text");
    let writing = Writing { rootless: Some(input.rootless), emulate_openat2 };
    let mut root = Rootfs::open(home.fresh("root"), home.fresh("scratch"), writing)?;
    for tar in input.layers.iter().flatten() {
        let tar = tar.bytes(victim);
        let promise = layers::promise(&tar, &tar);
        home.fresh("layer");
        let options = Options {
            threads: Threads::One,
            rootless: Some(input.rootless),
            checkpoint_every: u64::from(input.every) % 4096 + 512,
            ..Options::default()
        };
        let mut cut = cut;
        loop {
            let mut open = |offset: u64| -> Result<Box<dyn Read + Send>> {
                let rest = tar[offset as usize..].to_vec();
                Ok(Box::new(layers::Breaking(Cursor::new(rest), cut.unwrap_or(usize::MAX))))
            };
            match fetch(&promise, home.open("layer"), &options, &mut open, &layers::Silent) {
                Err(error) if error.kind() == Kind::Network => cut = None,
                other => break other.map(drop)?,
            };
        }
        let kept = Kept::open(home.open("layer"))?.expect("what was fetched is whole");
        kept.apply(&mut root)?;
    }
    root.finish().map(drop)
}

/// The tree, or why there is none.
fn tree(home: &Home, input: &Input, cut: Option<usize>, emulate_openat2: bool) -> String {
    let done = memory::within(MEMORY_MAX, || unpack(home, input, cut, emulate_openat2));
    home.assert_untouched(&["root", "scratch", "layer"]);
    match done {
        Ok(()) => {
            assert_eq!(std::fs::read_dir(home.path("scratch")).expect("a directory").count(), 0);
            show_without_new_times(&home.path("root"))
        }
        Err(error) => {
            assert_message(&error.to_string());
            error.to_string()
        }
    }
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::default();
}

fuzz_target!(|input: Input| {
    HOME.with_borrow(|home| {
        let whole = tree(home, &input, None, false);
        let again = tree(home, &input, Some(input.cut.into()), true);
        assert_eq!(whole, again, "interrupted, the tree is another");
    });
});
