//! A state directory in a temporary place, a board that does as it is told, and cuts.

use super::super::*;
use crate::image::digest::Digest;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

thread_local! {
    /// How many steps are left before the cut.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(super) struct Cut;

/// Ends the run as a kill would, where a test has asked for it: nothing is cleaned up.
pub(in crate::store) fn step() {
    match LEFT.get() {
        None => {}
        Some(0) => {
            LEFT.set(None);
            resume_unwind(Box::new(Cut));
        }
        Some(left) => LEFT.set(Some(left - 1)),
    }
}

/// Runs `operation` with a cut after `steps` steps; `None` if it was cut.
pub(super) fn cut<T>(steps: u32, operation: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Some(steps));
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    LEFT.set(None);
    match outcome {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Cut>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// A board whose clock stands still unless told, and whose commands fail for the generations that are `ill`.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) boot: Cell<u32>,
    pub(super) second: Cell<u64>,
    pub(super) ill: RefCell<HashMap<u32, Task>>,
    /// The run ends with this one.
    pub(super) deadly: Cell<Option<(Task, u32)>>,
    pub(super) ran: RefCell<Vec<(Task, u32)>>,
    /// Holds what the failure of an ill generation's command says after "is ill".
    pub(super) complaint: RefCell<String>,
}

impl Fake {
    pub(super) fn restart(&self) {
        self.boot.set(self.boot.get() + 1);
        self.second.set(1);
    }

    pub(super) fn ran(&self) -> Vec<(Task, u32)> {
        self.ran.take()
    }
}

impl World for Fake {
    fn unix_time(&self) -> u64 {
        1_800_000_000
    }

    fn moment(&self) -> Moment {
        Moment { boot: Some(format!("boot {}", self.boot.get()).into()), second: self.second.get() }
    }

    fn run(&self, task: Task, command: &str, at: &Environment, limit: Duration) -> Result<(), String> {
        step();
        assert_eq!(limit, Duration::from_secs(60));
        assert!(command.starts_with("the "), "{command}");
        // What the command sees is what it is told.
        assert_eq!(std::fs::read_to_string(at.rootfs.join("file")).unwrap(), at.digest);
        self.ran.borrow_mut().push((task, at.generation));
        if self.deadly.get() == Some((task, at.generation)) {
            resume_unwind(Box::new(Cut));
        }
        step();
        match self.ill.borrow().get(&at.generation) == Some(&task) {
            true => Err(format!("is ill{}", self.complaint.borrow())),
            false => Ok(()),
        }
    }
}

pub(super) fn digest(content: u32) -> Digest {
    Digest::of(&content.to_le_bytes())
}

pub(super) fn content(number: u32) -> Content {
    Content {
        root_digest: digest(number),
        digest: digest(number),
        platform: "linux/arm/v6".into(),
        layers: LayerList::Unwritten(vec![digest(number)]),
        image_bytes: 100,
        written_bytes: 10,
        fetched_bytes: 5,
        entries: 1,
        config_digest: None,
        age: Default::default(),
    }
}

pub(super) fn tracking() -> Tracking {
    Tracking {
        image: "registry.example/app:1".into(),
        health: Some("the health".into()),
        on_switch: Some("the switch".into()),
        ..Tracking::default()
    }
}

pub(in crate::store) struct Home {
    _home: tempfile::TempDir,
    pub(super) state: PathBuf,
    pub(super) world: Fake,
}

impl Home {
    pub(in crate::store) fn new(tracking: Tracking) -> Home {
        // Where syncing costs nothing, if there is such a place.
        let home = match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm"),
            false => tempfile::tempdir(),
        };
        let home = home.unwrap();
        let state = home.path().join("state");
        Deployments::open(&state).unwrap().create("app", tracking).unwrap();
        Home { _home: home, state, world: Fake::default() }
    }

    /// With these generations, each activated in turn.
    pub(super) fn with(tracking: Tracking, count: u32) -> Home {
        let home = Home::new(tracking);
        for number in 1..=count {
            home.activate(number);
        }
        home.world.ran();
        home
    }

    pub(in crate::store) fn load(&self) -> Deployment {
        Deployments::open(&self.state).unwrap().existing("app").unwrap()
    }

    pub(super) fn compose(&self, deployment: &Deployment, number: u32) -> PathBuf {
        let tree = deployment.staging();
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(tree.join("rootfs")).unwrap();
        fs::write(tree.join("rootfs/file"), digest(number).to_string()).unwrap();
        tree
    }

    pub(super) fn stage(&self, number: u32) -> Deployment {
        let mut deployment = self.load();
        let tree = self.compose(&deployment, number);
        assert_eq!(deployment.stage(&tree, content(number), &self.world).unwrap(), number);
        deployment
    }

    pub(super) fn activate(&self, number: u32) -> Outcome {
        self.stage(number).activate(number, &self.world).unwrap()
    }

    pub(super) fn links(&self) -> (Option<u32>, Option<u32>) {
        let deployment = self.load();
        (deployment.current().unwrap(), deployment.previous().unwrap())
    }

    pub(super) fn states(&self) -> Vec<(u32, State)> {
        let record = self.load().record;
        record.generations.iter().map(|generation| (generation.number, generation.state)).collect()
    }

    pub(super) fn state(&self, number: u32) -> State {
        self.load().record.generation(number).unwrap().state
    }

    /// What holds at any moment, whatever was cut.
    pub(super) fn check(&self) {
        let deployment = self.load();
        for generation in &deployment.record.generations {
            let file = deployment.tree(generation.number).join("rootfs/file");
            assert_eq!(fs::read_to_string(file).unwrap(), generation.content.digest.to_string());
            assert_eq!(deployment.layers(generation).unwrap(), [generation.content.digest]);
        }
        let (current, previous) = self.links();
        assert!(current.is_none_or(|number| deployment.record.generation(number).is_some()));
        // Whoever goes back without edgepull, by the links, gets to what edgepull would go back to.
        if let Some(active) = deployment.record.active().filter(|active| current == Some(active.number)) {
            let back = deployment.back_from(active.number).filter(|number| {
                let back = deployment.record.generation(*number).unwrap();
                deployment.record.bad(&back.content.digest).is_none()
            });
            assert!(back.is_none() || previous == back, "{active:?} {previous:?}");
        }
        assert!(previous.is_none_or(|number| {
            let previous = deployment.record.generation(number).unwrap();
            previous.state != State::Staged && previous.state != State::Failed
        }));
    }

    /// What holds besides, once a run has recovered.
    pub(super) fn check_rest(&self) {
        self.check();
        let deployment = self.load();
        let trees = fs::read_dir(deployment.directory.join(GENERATIONS)).unwrap().count();
        assert_eq!(trees, deployment.record.generations.len());
        assert!(!deployment.trash.exists() || fs::read_dir(&deployment.trash).unwrap().next().is_none());
        assert!(deployment.record.active().is_none(), "{:?}", deployment.record.active());
        let state = |number| deployment.record.generation(number).unwrap().state;
        let (current, previous) = self.links();
        assert_eq!(previous.map(state).unwrap_or(State::Confirmed), State::Confirmed);
        assert!(previous.is_none() || previous != current);
    }
}

pub(super) const SWITCH: Task = Task::OnSwitch;
pub(super) const HEALTH: Task = Task::Health;

/// One that waits for a confirmation by hand, 600 s.
pub(super) fn by_hand() -> Tracking {
    Tracking { confirm_within: Some(600), ..tracking() }
}
