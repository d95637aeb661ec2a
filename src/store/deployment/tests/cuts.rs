//! A kill after every step of an operation, and of what recovers from it. As each change is durable before the
//! next begins, a power cut leaves nothing else.

use super::super::*;
use super::home::*;

/// How many steps of a recovery lie between two cuts; every step is cut behind some step of the operation.
const STRIDE: usize = 7;

/// An operation, cut after every step; and what recovers from it, cut, too.
fn every_cut(
    tracking: Tracking,
    ill: &[(u32, Task)],
    count: u32,
    operation: impl Fn(&Home) -> Result<()>,
    allowed: &[(Option<u32>, Option<u32>)],
    last: impl Fn(&Home),
) {
    let set_up = || {
        let home = Home::with(tracking.clone(), count);
        home.world.ill.borrow_mut().extend(ill.iter().copied());
        home
    };
    let mut cuts = 0;
    for first in 0.. {
        let mut done = false;
        for second in (first % STRIDE as u32..).step_by(STRIDE) {
            let home = set_up();
            done = cut(first, || operation(&home).unwrap()).is_some();
            home.check();
            let restarts = second % 2 == 1 && tracking.confirm_within.is_none();
            if restarts {
                home.world.restart();
            }
            let recovered = cut(second, || home.load().recover(&home.world).unwrap()).is_some();
            home.check();
            home.load().recover(&home.world).unwrap();
            home.check_rest();
            assert!(allowed.contains(&home.links()), "{first} {second}: {:?}", home.links());
            last(&home);
            cuts += 1;
            if recovered {
                break;
            }
        }
        if done {
            break;
        }
    }
    assert!(cuts > 10, "{cuts}");
}

#[test]
fn every_cut_of_a_good_update() {
    let operation = |home: &Home| {
        let mut deployment = home.stage(3);
        deployment.activate(3, &home.world)?;
        deployment.prune().map(drop)
    };
    let last = |home: &Home| {
        // The next run finishes.
        let mut deployment = home.load();
        if deployment.current().unwrap() != Some(3) {
            match deployment.record.staged().map(|staged| staged.number) {
                Some(number) => deployment.activate(number, &home.world).unwrap(),
                None => home.activate(deployment.record.next),
            };
        }
        let mut deployment = home.load();
        deployment.prune().unwrap();
        assert_eq!(home.links(), (Some(3), Some(2)));
        assert_eq!(home.states(), [(2, State::Confirmed), (3, State::Confirmed)]);
        home.check_rest();
    };
    every_cut(tracking(), &[], 2, operation, &[(Some(2), Some(1)), (Some(3), Some(2))], last);
}

#[test]
fn every_cut_of_an_ill_update() {
    for task in [SWITCH, HEALTH] {
        let operation = |home: &Home| {
            let mut deployment = home.stage(3);
            deployment.activate(3, &home.world)?;
            deployment.prune().map(drop)
        };
        let last = |home: &Home| {
            let record = home.load().record;
            let tried = record.generation(3).is_some_and(|third| third.state != State::Staged);
            assert!(!tried || record.bad(&digest(3)).is_some());
        };
        // With a restart in an on-switch command, the boot has done what it is for: the health command decides.
        let allowed: &[_] = match task {
            SWITCH => &[(Some(2), Some(1)), (Some(3), Some(2))],
            HEALTH => &[(Some(2), Some(1))],
        };
        match task {
            SWITCH => every_cut(tracking(), &[(3, task)], 2, operation, allowed, |_| {}),
            HEALTH => every_cut(tracking(), &[(3, task)], 2, operation, allowed, last),
        }
    }
}

#[test]
fn every_cut_of_a_repair() {
    let operation = |home: &Home| {
        let mut deployment = home.stage(3);
        deployment.replace(2, 3, &home.world)?;
        deployment.prune().map(drop)
    };
    every_cut(tracking(), &[], 2, operation, &[(Some(2), Some(1)), (Some(3), Some(1))], |_| {});
}

#[test]
fn every_cut_of_a_rollback() {
    let operation = |home: &Home| home.load().rollback(None, &home.world).map(drop);
    let last = |home: &Home| {
        let mut deployment = home.load();
        if deployment.current().unwrap() == Some(3) {
            deployment.rollback(None, &home.world).unwrap();
        }
        assert_eq!(home.links(), (Some(2), Some(1)));
        home.check_rest();
    };
    let allowed = [(Some(3), Some(2)), (Some(2), Some(1))];
    every_cut(tracking(), &[], 3, operation, &allowed, last);
}

#[test]
fn a_rollback_that_was_cut_short_and_is_called_again_goes_on() {
    for to in [None, Some(2)] {
        for steps in 0.. {
            let home = Home::with(tracking(), 3);
            let rollback = || home.load().rollback(to, &home.world).unwrap();
            let done = cut(steps, rollback).is_some();
            if home.state(2) != State::Confirmed || home.links().0 == Some(3) {
                rollback();
            }
            assert_eq!(home.links(), (Some(2), Some(1)), "{to:?} {steps}");
            assert!(home.load().record.bad(&digest(2)).is_none(), "{to:?} {steps}");
            home.check_rest();
            if done {
                break;
            }
        }
    }
}

#[test]
fn every_cut_of_the_first_deployment() {
    let operation = |home: &Home| home.stage(1).activate(1, &home.world).map(drop);
    let allowed = [(None, None), (Some(1), None)];
    every_cut(tracking(), &[], 0, operation, &allowed, |_| {});
    every_cut(tracking(), &[(1, HEALTH)], 0, operation, &allowed, |_| {});
}

#[test]
fn every_cut_of_what_waits_for_a_hand() {
    let operation = |home: &Home| {
        home.load().confirm(&home.world)?;
        home.stage(2).activate(2, &home.world)?;
        home.load().confirm(&home.world).map(drop)
    };
    let set_up = || Home::with(by_hand(), 1);
    for steps in 0.. {
        let home = set_up();
        let done = cut(steps, || operation(&home).unwrap()).is_some();
        home.check();
        home.load().recover(&home.world).unwrap();
        home.check();
        home.load().confirm(&home.world).unwrap();
        home.check_rest();
        if done {
            assert_eq!(home.links(), (Some(2), Some(1)));
            break;
        }
    }
}
