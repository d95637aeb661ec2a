//! The life of a deployment that is interrupted everywhere: the images that it gets one after the other, and
//! what has to be true of its state directory at any moment. Killed on this machine by `powercut.rs`, on a board whose
//! power is cut by `machines/powercut.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::harness::*;

/// What is tracked.
pub const TAG: &str = "board/app:now";

/// The images that a deployment gets one after the other. The first two have a large layer of their own, half of
/// whose files are the same; each has a layer of many small files below, and one above that changes what is there.
pub struct Life {
    pub first: Version,
    /// With another large layer.
    pub second: Version,
    /// The first, and one more layer.
    pub third: Version,
    /// The layout of each, and of the second with one more layer.
    layouts: [String; 4],
    _scratch: Scratch,
}

impl Life {
    /// `size`: of a large layer on the wire, in bytes; unpacked it is twice that.
    pub fn new(platform: &'static str, size: usize) -> Life {
        let image = |version: u64| {
            Image::of(platform)
                .layer(small_files())
                .layer(large(version, size))
                .layer(changes(version))
                .build()
        };
        let [first, second] = thread::scope(|scope| {
            let built = [1, 2].map(|version| scope.spawn(move || image(version)));
            built.map(|built| built.join().expect("an image"))
        });
        let (third, fourth) =
            (first.clone().topped_with(on_top("third")), second.clone().topped_with(on_top("fourth")));
        let images = [first, second, third, fourth];
        let scratch = Scratch::new();
        let layouts = [0, 1, 2, 3].map(|number: usize| images[number].layout(&scratch, &number.to_string()));
        let [first, second, third] = thread::scope(|scope| {
            let oracles = [0, 1, 2].map(|number: usize| {
                let (image, layout) = (&images[number], &layouts[number]);
                scope.spawn(move || Version::new(image, layout))
            });
            oracles.map(|oracle| oracle.join().expect("an oracle"))
        });
        Life { first, second, third, layouts, _scratch: scratch }
    }

    /// Number `number`, from 0 on, is what is tracked.
    pub fn publish(&self, registry: &Registry, number: usize) {
        registry.push(&self.layouts[number], TAG);
    }
}

/// The same in all images.
fn small_files() -> Layer {
    let base = Layer::new()
        .dir("etc", 0o755)
        .file("etc/hostname", "board\n")
        .dir("usr", 0o755)
        .dir("usr/share", 0o755);
    (0..40).fold(base, |base, folder| {
        let path = format!("usr/share/{folder}");
        let base = base.owned_by(folder % 3, folder % 5).dir(&path, 0o711 + folder as u32 % 8);
        let base = (0..40u64).fold(base, |base, number| {
            base.file(
                &format!("{path}/{number}"),
                format!("{folder} {number}\n").repeat((number * 17) as usize),
            )
        });
        base.symlink(&format!("{path}/link"), "../0/1")
            .hardlink(&format!("{path}/same"), &format!("{path}/7"))
    })
}

/// One file of half the size, and 40 others, of which every other one is the same in all versions.
fn large(version: u64, size: usize) -> Layer {
    let layer = Layer::new().dir("data", 0o755).file("data/huge", content(version, size));
    (0..40).fold(layer, |layer, number| {
        let seed = if number % 2 == 0 { version } else { 0 };
        layer.file(&format!("data/{number}"), content(seed << 8 | number, size / 40))
    })
}

/// Half of it is noise, the other half repeats that.
fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut data = Vec::with_capacity(size + 4096);
    while data.len() < size {
        let begin = data.len();
        for _ in 0..2048 / 8 {
            // Xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data.extend(state.to_le_bytes());
        }
        data.extend_from_within(begin..);
    }
    data.truncate(size);
    data
}

/// Takes away, replaces and links what lies below.
fn changes(version: u64) -> Layer {
    let layer = Layer::new()
        .whiteout("data/1")
        .whiteout(&format!("usr/share/{version}"))
        .opaque("usr/share/9")
        .file("etc/hostname", format!("version {version}\n"))
        .hardlink("data/same", "data/huge")
        .symlink("usr/share/10", "11")
        .fifo("fifo")
        .char_device("null", 1, 3);
    (0..300u64).fold(layer.dir("new", 0o755), |layer, number| {
        layer.file(&format!("new/{number}"), content(version << 16 | number, (number * 37) as usize))
    })
}

fn on_top(name: &str) -> Layer {
    let top =
        Layer::new().dir(name, 0o750).whiteout("data/3").whiteout("usr/share/5/1").file("etc/hostname", name);
    (0..200).fold(top, |top, number| top.file(&format!("{name}/{number}"), name.repeat(number % 60)))
}

/// An image, and the tree that umoci makes of it.
pub struct Version {
    digest: String,
    /// Digest and size of each layer.
    layers: Vec<(String, u64)>,
    tree: Tree,
}

impl Version {
    fn new(artifact: &Artifact, layout: &str) -> Version {
        let (scratch, manifest) = (Scratch::new(), artifact.manifest());
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let known = |layer: &Value| Some((layer["digest"].as_str()?.to_owned(), layer["size"].as_u64()?));
        Version {
            digest: artifact.digest().to_owned(),
            layers: layers.filter_map(known).collect(),
            tree: Tree::of(umoci_unpack(layout, "latest", &scratch)),
        }
    }

    /// A tree is this image's, and whole.
    #[track_caller]
    pub fn is(&self, root: &Path) {
        self.tree.equals(&Tree::of(root));
    }
}

/// What a user does, and how the deployment looks before and after.
#[derive(Clone)]
pub struct Operation<'a> {
    pub name: &'static str,
    pub args: Vec<&'a str>,
    pub before: Option<&'a Version>,
    pub after: &'a Version,
    /// What is called in place of `args` when the deployment is new already.
    pub to_end: Vec<&'a str>,
}

impl<'a> Operation<'a> {
    /// One that can be called again in any case.
    pub fn new(
        name: &'static str,
        args: &[&'a str],
        before: Option<&'a Version>,
        after: &'a Version,
    ) -> Operation<'a> {
        Operation { name, args: args.to_vec(), before, after, to_end: args.to_vec() }
    }

    /// The layers that it brings, and their sizes in bytes.
    pub fn layers(&self) -> Vec<(String, u64)> {
        let before = self.before.map_or(&[][..], |before| &before.layers);
        self.after.layers.iter().filter(|layer| !before.contains(layer)).cloned().collect()
    }
}

fn edgepull(state: &Path, args: &[&str]) -> String {
    let mut command = Command::new(agent());
    let output = command.arg("--state-dir").arg(state).args(args).output().expect("edgepull runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `status --json` says of the deployment; null where there is none yet.
#[track_caller]
fn status(state: &Path) -> Value {
    if !state.join("deployments/app/record").exists() {
        return Value::Null;
    }
    serde_json::from_str(&edgepull(state, &["status", "app", "--json"])).expect("JSON")
}

/// What verify has to find, in a state directory that may be changed.
#[track_caller]
pub fn verify(state: &Path) {
    edgepull(state, &["verify", "app"]);
}

/// Nothing is left to be removed.
#[track_caller]
pub fn is_cleared(state: &Path) {
    let told = edgepull(state, &["gc", "--dry-run"]);
    assert!(told.starts_with("0 generations and 0 layers "), "{told}");
    let status = status(state);
    assert!(status["pending"].is_null(), "{status}");
    let trees = fs::read_dir(state.join("deployments/app/generations")).expect("a folder").count();
    assert_eq!(Some(trees), status["generations"].as_array().map(Vec::len), "a tree that is no generation's");
    for path in ["deployments/app/staging", "deployments/app/scratch"] {
        assert!(!state.join(path).exists(), "{path} is left");
    }
    let trash = fs::read_dir(state.join("trash")).map_or(0, |trash| trash.count());
    assert_eq!(trash, 0, "the trash is not empty");
}

/// The deployment is old or new, and whole; once new, it stays so. Whether it is new. Verifying leaves traces: `state` is a copy.
#[track_caller]
pub fn whole(state: &Path, operation: &Operation, was_new: bool) -> bool {
    let current = state.join("deployments/app/current");
    let Ok(config) = fs::read_to_string(current.join("config.json")) else {
        assert!(fs::symlink_metadata(&current).is_err(), "current leads nowhere");
        assert!(operation.before.is_none() && !was_new, "nothing is current any more");
        return false;
    };
    let _: Value = serde_json::from_str(&config).expect("JSON");
    let tree = Tree::of(current.join("rootfs"));
    let version = match operation.before {
        Some(before) if !was_new && tree == before.tree => before,
        _ => operation.after,
    };
    version.tree.equals(&tree);
    assert_eq!(status(state)["digest"], version.digest.as_str());
    verify(state);
    std::ptr::eq(version, operation.after)
}

fn has(status: &Value, what: impl Fn(&Value) -> bool) -> bool {
    status["generations"].as_array().is_some_and(|generations| generations.iter().any(what))
}

/// Whether one more interruption would look as if the generation itself brings the board down.
pub fn is_tried_often(state: &Path) -> bool {
    has(&status(state), |generation| generation["attempts"].as_u64().is_some_and(|attempts| attempts > 1))
}

/// What an interrupted run was at, as what it has left shows.
pub fn phase(state: &Path, operation: &Operation) -> String {
    let (app, status) = (state.join("deployments/app"), status(state));
    let on_its_way = |generation: &Value| {
        ["staged", "switching", "trial"].iter().any(|state| generation["state"] == *state)
    };
    let phase = match operation.name {
        "rollback" | "gc" => return operation.name.to_owned(),
        _ if app.join("staging").exists() || app.join("scratch").exists() => "composing",
        _ if has(&status, on_its_way) => "switching",
        _ if app.join("pending").exists() => "fetching",
        _ if status["digest"] == operation.after.digest.as_str() => "clearing or ended",
        _ => "beginning",
    };
    format!("{}: {phase}", operation.name)
}
