//! Tests records that hold as much as they ever may: the longest texts, most generations, most layers, most tracking.
//! They can always be written, and a full one of version 1 can be used again.

use super::super::record::{BAD_MAX, RECORD_MAX, TRACKING_MAX};
use super::super::*;
use super::home::*;
use crate::image::manifest::LAYERS_MAX;
use crate::trust::rollback::Age;
use serde_json::{Value, json};

/// Makes a text of `count` quotation marks, which take two bytes each in JSON.
fn long(count: usize) -> String {
    "\"".repeat(count)
}

/// Makes content with as much as an image may say; each `number` has layers of its own.
fn full_content(number: u32, layers: usize) -> Content {
    let age = "\u{1}".repeat(128);
    let layer = |at: usize| Digest::of(format!("{number} {at}").as_bytes());
    Content {
        platform: long(5000).into(),
        layers: LayerList::Unwritten((0..layers).map(layer).collect()),
        image_bytes: u64::MAX,
        written_bytes: u64::MAX,
        fetched_bytes: u64::MAX,
        entries: u64::MAX,
        config_digest: Some(digest(number)),
        age: Age { created: Some(age.clone()), version: Some(age), created_weight: 255, version_weight: 255 },
        ..content(number)
    }
}

/// Makes tracking that takes exactly `TRACKING_MAX` bytes.
fn full_tracking(keep: u32) -> Tracking {
    let mut tracking = Tracking { keep, ..by_hand() };
    let length = serde_json::to_vec(&tracking).unwrap().len();
    tracking.image.push_str(&"x".repeat(TRACKING_MAX - length));
    tracking
}

fn stage(home: &Home, layers: usize) -> u32 {
    let mut deployment = home.load();
    let number = deployment.record.next;
    let tree = home.compose(&deployment, number);
    deployment.stage(&tree, full_content(number, layers), &home.world).unwrap()
}

/// Makes a sequence of numbers that is the same each time (Knuth's MMIX).
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 7u64;
    move |below| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

#[test]
fn whatever_happens_a_record_can_be_written_and_read_again() {
    let home = Home::new(Tracking { keep: KEEP_MAX, ..by_hand() });
    home.world.complaint.replace(long(100_000));
    let record = home.load().directory().join("record");
    let (mut next, mut most, mut generations) = (numbers(), 0, 0);
    let (mut good, mut refused) = (0, 0);
    for _ in 0..300 {
        let what = next(16);
        // One in four is killed somewhere.
        let steps = if next(4) == 0 { next(40) as u32 } else { u32::MAX };
        let done = cut(steps, || -> Result<()> {
            home.load().recover(&home.world)?;
            let kept: Vec<u32> = home.load().record.generations.iter().map(|one| one.number).collect();
            match what {
                0..7 => {
                    let number = stage(&home, 1);
                    home.load().activate(number, &home.world)?;
                    home.load().confirm(&home.world)?;
                }
                7..9 => {
                    let number = stage(&home, 1);
                    let task = if what == 7 { SWITCH } else { HEALTH };
                    home.world.ill.borrow_mut().insert(number, task);
                    home.load().activate(number, &home.world)?;
                }
                9 => drop(stage(&home, 1)),
                10..13 => drop(home.load().rollback(None, &home.world)?),
                13 => drop(home.load().rollback(kept.first().copied(), &home.world)?),
                14 => home.world.restart(),
                _ => {
                    let number = stage(&home, 1);
                    home.load().activate(number, &home.world)?;
                    let bad = Bad {
                        digest: digest(number + 1_000_000),
                        root_digest: Some(digest(number)),
                        generation: Some(u32::MAX),
                        reason: long(100_000).into(),
                        when: u64::MAX,
                    };
                    home.load().refuse(bad)?;
                }
            }
            home.load().prune().map(drop)
        });
        match done {
            Some(Err(error)) => assert!(matches!(error.kind(), Kind::NotFound | Kind::Usage), "{error}"),
            Some(Ok(())) => good += 1,
            None => {}
        }
        let now = home.load().record;
        most = most.max(fs::metadata(&record).unwrap().len());
        generations = generations.max(now.generations.len());
        refused = refused.max(now.bad.len());
    }
    // It has come to what it is about.
    assert!(good > 120 && refused == BAD_MAX, "{good} {refused}");
    assert!((KEEP_MAX as usize..=KEEP_MAX as usize + 4).contains(&generations), "{generations}");
    let others = most - serde_json::to_vec(&home.load().record.tracking).unwrap().len() as u64;
    assert!(others > 50 << 10 && others < (RECORD_MAX - TRACKING_MAX as u64) / 2, "{others}");
}

#[test]
fn as_many_layers_as_there_may_be_are_no_reason_to_write_more() {
    let home = Home::new(Tracking { keep: 3, ..tracking() });
    for _ in 0..4 {
        let number = stage(&home, LAYERS_MAX);
        home.load().activate(number, &home.world).unwrap();
        home.load().prune().unwrap();
    }
    let deployment = home.load();
    let length = fs::metadata(deployment.directory().join("record")).unwrap().len();
    assert!(length < 16 << 10, "{length}");
    for generation in &deployment.record.generations {
        let LayerList::Unwritten(should) = full_content(generation.number, LAYERS_MAX).layers else {
            panic!()
        };
        assert_eq!(deployment.layers(generation).unwrap(), should);
    }
    assert_eq!(home.links(), (Some(4), Some(3)));
}

#[test]
fn runs_that_are_killed_when_they_have_staged_do_not_fill_the_record() {
    let home = Home::with(Tracking { keep: 3, ..tracking() }, 3);
    for _ in 0..3 * KEEP_MAX {
        stage(&home, 1);
    }
    let deployment = home.load();
    let generations = deployment.record.generations.len();
    assert!(generations <= KEEP_MAX as usize + 1, "{generations}");
    assert_eq!(home.links(), (Some(3), Some(2)));
    assert_eq!(deployment.record.staged().unwrap().number, 3 + 3 * KEEP_MAX);
}

#[test]
fn what_a_user_says_has_an_end_and_is_refused_before_it_is_remembered() {
    let home = Home::new(tracking());
    let before = fs::read(home.load().directory().join("record")).unwrap();
    let full = full_tracking(2);
    let more = Tracking { image: format!("{}x", full.image), ..full.clone() };
    let error = home.load().track(more.clone()).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("script"), "{error}");
    assert_eq!(fs::read(home.load().directory().join("record")).unwrap(), before);
    home.load().track(full).unwrap();
    let deployments = Deployments::open(&home.state).unwrap();
    assert_eq!(deployments.create("other", more).unwrap_err().kind(), Kind::Usage);
    assert_eq!(deployments.names().unwrap(), ["app"]);
}

/// Replaces the record by one as version 1 wrote it, with so many layers for each generation, and a refused digest
/// whose reason is so long that not one byte more could be written.
fn full_of_version_1(home: &Home, layers: usize) {
    let deployment = home.load();
    let path = deployment.directory().join("record");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["version"] = json!(1);
    for generation in record["generations"].as_array_mut().unwrap() {
        let number = generation["number"].as_u64().unwrap() as u32;
        generation["content"]["layers"] = serde_json::to_value(full_content(number, layers).layers).unwrap();
        fs::remove_file(deployment.tree(number).join("layers")).unwrap();
    }
    let reason = |length: usize| json!({ "digest": digest(77), "generation": null, "reason": "r".repeat(length), "when": 1 });
    let limit = 256 * 1024 - 1;
    record["bad"] = json!([reason(0)]);
    let length = serde_json::to_vec(&record).unwrap().len();
    record["bad"] = json!([reason(limit - length)]);
    let mut text = serde_json::to_vec(&record).unwrap();
    assert_eq!(text.len(), limit);
    text.push(b'\n');
    fs::write(path, text).unwrap();
}

#[test]
fn a_full_record_of_version_1_can_be_used_again() {
    let three = || {
        let home = Home::with(Tracking { keep: 3, ..tracking() }, 3);
        full_of_version_1(&home, LAYERS_MAX);
        home
    };
    let lists_are_right = |home: &Home| {
        let deployment = home.load();
        for generation in &deployment.record.generations {
            let LayerList::Unwritten(should) = full_content(generation.number, LAYERS_MAX).layers else {
                panic!()
            };
            assert_eq!(deployment.layers(generation).unwrap(), should, "{}", generation.number);
        }
        fs::metadata(deployment.directory().join("record")).unwrap().len()
    };
    let home = three();
    assert_eq!(lists_are_right(&home), 256 * 1024);
    assert_eq!(home.load().record.bad(&digest(77)).unwrap().reason.as_str().len(), 1024);
    // An update, a rollback, and a smaller keep: each is the first that is written.
    let number = stage(&home, LAYERS_MAX);
    home.load().activate(number, &home.world).unwrap();
    assert_eq!(home.load().prune().unwrap(), [1]);
    assert!(lists_are_right(&home) < 16 << 10);
    assert_eq!(home.links(), (Some(4), Some(3)));

    let home = three();
    assert_eq!(home.load().rollback(None, &home.world).unwrap(), Outcome::Confirmed { generation: 2 });
    assert!(lists_are_right(&home) < 16 << 10);

    let home = three();
    let mut deployment = home.load();
    deployment.track(Tracking { keep: 1, ..tracking() }).unwrap();
    assert_eq!(deployment.prune().unwrap(), [1, 2]);
    assert!(lists_are_right(&home) < 16 << 10);

    let home = three();
    home.load().refuse(home.load().record.bad[0].clone()).unwrap();
    assert!(lists_are_right(&home) < 16 << 10);
}

#[test]
fn a_record_of_version_1_is_whole_after_every_cut_of_its_first_change() {
    for steps in 0.. {
        let home = Home::with(Tracking { keep: 3, ..tracking() }, 3);
        full_of_version_1(&home, 2);
        let done = cut(steps, || home.load().forgive(&digest(77)).unwrap()).is_some();
        let deployment = home.load();
        for generation in &deployment.record.generations {
            assert_eq!(deployment.layers(generation).unwrap().len(), 2, "{steps}");
        }
        home.load().rollback(None, &home.world).unwrap();
        if done {
            break;
        }
    }
}
