//! Every state and every event of the table, one after another.

use super::super::*;
use super::home::*;

#[test]
fn a_generation_that_is_good_becomes_current_and_the_one_before_stays() {
    let home = Home::new(tracking());
    assert_eq!(home.links(), (None, None));
    assert_eq!(home.activate(1), Outcome::Confirmed { generation: 1 });
    assert_eq!((home.links(), home.world.ran()), ((Some(1), None), vec![(SWITCH, 1), (HEALTH, 1)]));
    assert_eq!(home.activate(2), Outcome::Confirmed { generation: 2 });
    assert_eq!(home.links(), (Some(2), Some(1)));
    assert_eq!(home.states(), [(1, State::Confirmed), (2, State::Confirmed)]);
    home.check_rest();
    let target = fs::read_link(home.load().directory().join("current")).unwrap();
    assert_eq!(target, Path::new("generations/2"));
}

#[test]
fn a_generation_that_is_ill_goes_back_and_is_remembered() {
    for task in [HEALTH, SWITCH] {
        let home = Home::with(tracking(), 2);
        home.world.ill.borrow_mut().insert(3, task);
        let Outcome::Back { failed: 3, to: 2, reason } = home.activate(3) else { panic!() };
        assert!(reason.contains("is ill"), "{reason}");
        assert_eq!(home.links(), (Some(2), Some(1)));
        // The service is brought up again on what is current again.
        assert_eq!(home.world.ran().last(), Some(&(SWITCH, 2)));
        assert_eq!(home.load().record.bad(&digest(3)).unwrap().generation, Some(3));
        home.check_rest();
        assert_eq!(home.load().prune().unwrap(), [3]);
        assert!(home.load().record.bad(&digest(3)).is_some());
        home.check_rest();
        let error = Outcome::Back { failed: 3, to: 2, reason }.check("app").unwrap_err();
        assert_eq!(error.kind(), Kind::Unhealthy);
        assert!(error.to_string().ends_with("; generation 2 is current again"), "{error}");
    }
}

#[test]
fn the_first_generation_stays_even_if_it_is_ill_until_somebody_says_that_it_is_not() {
    let home = Home::new(tracking());
    home.world.ill.borrow_mut().insert(1, HEALTH);
    let Outcome::Stuck { generation: 1, .. } = home.activate(1) else { panic!() };
    assert_eq!((home.links(), home.state(1)), ((Some(1), None), State::Failed));
    assert_eq!(home.load().removable().unwrap(), [0; 0]);
    assert!(home.load().recover(&home.world).unwrap().is_none());
    // Another one that is ill: neither was good, so the newer stays.
    home.world.ill.borrow_mut().insert(2, HEALTH);
    let Outcome::Stuck { generation: 2, .. } = home.activate(2) else { panic!() };
    assert_eq!(home.links(), (Some(2), None));
    assert_eq!(home.load().removable().unwrap(), [1]);
    assert_eq!(home.load().confirm(&home.world).unwrap(), Outcome::Confirmed { generation: 2 });
    assert!(home.load().record.bad(&digest(2)).is_none());
    home.check_rest();
}

#[test]
fn what_was_damaged_is_replaced_and_need_not_be_confirmed_again() {
    let home = Home::with(Tracking { confirm_within: Some(600), ..tracking() }, 0);
    for number in [1, 2] {
        assert_eq!(home.activate(number), Outcome::Waiting { generation: number, seconds: 600 });
        home.load().confirm(&home.world).unwrap();
    }
    home.world.ran();
    let mut deployment = home.stage(3);
    let replaced = deployment.replace(2, 3, &home.world).unwrap();
    // Who runs it is told; and what was before can still be gone back to.
    assert_eq!(
        (replaced, home.world.ran()),
        (Outcome::Confirmed { generation: 3 }, vec![(SWITCH, 3), (HEALTH, 3)])
    );
    assert_eq!((home.links(), home.load().removable().unwrap()), ((Some(3), Some(1)), vec![2]));
    home.check_rest();
    // It was not confirmed, so this is not either.
    home.activate(4);
    let mut deployment = home.stage(5);
    let replaced = deployment.replace(4, 5, &home.world).unwrap();
    assert_eq!(replaced, Outcome::Waiting { generation: 5, seconds: 600 });
    // One that is ill is left for what was before, never for the damaged one.
    home.load().confirm(&home.world).unwrap();
    home.world.ill.borrow_mut().insert(6, HEALTH);
    let Outcome::Back { failed: 6, to: 3, .. } = home.stage(6).replace(5, 6, &home.world).unwrap() else {
        panic!()
    };
    home.check_rest();
}

#[test]
fn without_commands_the_switch_itself_confirms() {
    let home = Home::with(Tracking { image: "app".into(), ..Tracking::default() }, 2);
    assert_eq!(home.states(), [(1, State::Confirmed), (2, State::Confirmed)]);
    assert_eq!(home.links(), (Some(2), Some(1)));
}

#[test]
fn what_is_to_be_confirmed_by_hand_waits_for_it() {
    let home = Home::new(by_hand());
    assert_eq!(home.activate(1), Outcome::Waiting { generation: 1, seconds: 600 });
    home.world.second.set(599);
    // Neither asks again, nor writes.
    home.world.ran();
    let before = fs::read(home.load().directory().join("record")).unwrap();
    let waiting = home.load().recover(&home.world).unwrap();
    assert_eq!(waiting, Some(Outcome::Waiting { generation: 1, seconds: 1 }));
    assert_eq!(home.world.ran(), []);
    assert_eq!(fs::read(home.load().directory().join("record")).unwrap(), before);
    assert_eq!(home.load().confirm(&home.world).unwrap(), Outcome::Confirmed { generation: 1 });
    home.check_rest();
}

#[test]
fn what_nobody_confirms_in_time_or_before_a_restart_goes_back() {
    for restart in [true, false] {
        let home = Home::new(by_hand());
        home.activate(1);
        home.load().confirm(&home.world).unwrap();
        home.activate(2);
        home.world.ran();
        match restart {
            true => home.world.restart(),
            false => home.world.second.set(600),
        }
        // To confirm it now is too late.
        let Outcome::Back { failed: 2, to: 1, reason } = home.load().confirm(&home.world).unwrap() else {
            panic!()
        };
        assert!(reason.contains(if restart { "restarted" } else { "within 600 s" }), "{reason}");
        assert_eq!((home.links(), home.world.ran()), ((Some(1), None), vec![(SWITCH, 1)]));
        home.check_rest();
    }
}

#[test]
fn rolling_back_leaves_what_was_current_and_remembers_that() {
    let home = Home::with(Tracking { keep: 3, ..by_hand() }, 0);
    for number in 1..=3 {
        home.activate(number);
        home.load().confirm(&home.world).unwrap();
    }
    home.world.ran();
    assert_eq!(home.load().rollback(None, &home.world).unwrap(), Outcome::Confirmed { generation: 2 });
    assert_eq!(home.world.ran(), [(SWITCH, 2), (HEALTH, 2)]);
    // Once more goes further back, and never to what was left.
    assert_eq!(home.links(), (Some(2), Some(1)));
    assert!(home.load().record.bad(&digest(3)).unwrap().reason.as_str().contains("by hand"));
    assert_eq!(home.load().removable().unwrap(), [0; 0]);
    assert_eq!(home.load().rollback(None, &home.world).unwrap(), Outcome::Confirmed { generation: 1 });
    assert_eq!(home.links(), (Some(1), None));
    assert_eq!(home.load().rollback(None, &home.world).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(home.load().rollback(Some(1), &home.world).unwrap_err().kind(), Kind::Usage);
    assert_eq!(home.load().rollback(Some(9), &home.world).unwrap_err().kind(), Kind::NotFound);
    // To the newest again: all is forgiven that concerns it.
    assert_eq!(home.load().rollback(Some(3), &home.world).unwrap(), Outcome::Confirmed { generation: 3 });
    assert!(home.load().record.bad(&digest(3)).is_none());
    assert!(home.load().record.bad(&digest(1)).is_some() && home.load().record.bad(&digest(2)).is_some());
    home.check_rest();
}

#[test]
fn a_rollback_to_what_is_ill_by_now_leaves_the_board_where_it_was() {
    let home = Home::with(Tracking { keep: 3, ..tracking() }, 3);
    home.world.ill.borrow_mut().insert(2, HEALTH);
    let Outcome::Back { failed: 2, to: 3, .. } = home.load().rollback(None, &home.world).unwrap() else {
        panic!()
    };
    assert_eq!(home.links(), (Some(3), Some(1)));
    home.check_rest();
}

#[test]
fn a_trial_is_rolled_back_without_asking_its_health_again() {
    let home = Home::with(by_hand(), 1);
    home.load().confirm(&home.world).unwrap();
    home.activate(2);
    home.world.ran();
    assert_eq!(home.load().rollback(None, &home.world).unwrap(), Outcome::Confirmed { generation: 1 });
    assert_eq!(home.world.ran(), [(SWITCH, 1)]);
    assert_eq!((home.links(), home.state(2)), ((Some(1), None), State::Failed));
    home.check_rest();
}

#[test]
fn another_one_replaces_what_waits_and_can_go_back_behind_it() {
    let home = Home::with(by_hand(), 1);
    home.load().confirm(&home.world).unwrap();
    home.activate(2);
    home.activate(3);
    assert_eq!((home.links(), home.state(2)), ((Some(3), Some(1)), State::Failed));
    // Nobody said that it was bad.
    assert!(home.load().record.bad(&digest(2)).is_none());
    home.world.restart();
    home.load().recover(&home.world).unwrap();
    assert_eq!(home.links(), (Some(1), None));
    home.check_rest();
}

#[test]
fn what_brings_the_board_down_each_time_is_given_up() {
    for task in [SWITCH, HEALTH] {
        let home = Home::with(tracking(), 1);
        home.stage(2);
        home.world.deadly.set(Some((task, 2)));
        let mut runs = 1;
        assert!(cut(u32::MAX, || home.load().activate(2, &home.world)).is_none());
        while cut(u32::MAX, || home.load().recover(&home.world)).is_none() {
            runs += 1;
            home.check();
        }
        assert_eq!(runs, ATTEMPTS_MAX, "{task:?}");
        let reason = home.load().record.bad(&digest(2)).unwrap().reason.clone();
        assert!(reason.as_str().contains("cut short each time"), "{reason}");
        assert_eq!(home.links(), (Some(1), None));
        home.check_rest();
    }
}

#[test]
fn on_switch_that_brings_the_board_down_on_the_way_back_is_left_out_in_the_end() {
    let home = Home::with(tracking(), 1);
    home.stage(2);
    home.world.ill.borrow_mut().insert(2, HEALTH);
    home.world.deadly.set(Some((SWITCH, 1)));
    assert!(cut(u32::MAX, || home.load().activate(2, &home.world)).is_none());
    let mut runs = 1;
    while cut(u32::MAX, || home.load().recover(&home.world)).is_none() {
        runs += 1;
        assert_eq!(home.links(), (Some(1), None));
    }
    assert_eq!(runs, ATTEMPTS_MAX);
    home.check_rest();
}

#[test]
fn an_on_switch_command_that_reboots_runs_once_and_is_no_restart_of_a_trial() {
    let home = Home::with(by_hand(), 1);
    home.load().confirm(&home.world).unwrap();
    home.stage(2);
    home.world.deadly.set(Some((SWITCH, 2)));
    assert!(cut(u32::MAX, || home.load().activate(2, &home.world)).is_none());
    home.world.restart();
    home.world.ran();
    let outcome = home.load().recover(&home.world).unwrap();
    assert_eq!(outcome, Some(Outcome::Waiting { generation: 2, seconds: 600 }));
    assert_eq!(home.world.ran(), [(HEALTH, 2)]);
}

#[test]
fn keep_counts_what_is_good() {
    let home = Home::with(Tracking { keep: 3, ..tracking() }, 5);
    assert_eq!(home.load().prune().unwrap(), [1, 2]);
    assert_eq!(home.links(), (Some(5), Some(4)));
    let mut deployment = home.load();
    deployment.track(Tracking { keep: 1, ..tracking() }).unwrap();
    assert_eq!(deployment.prune().unwrap(), [3, 4]);
    assert_eq!(home.links(), (Some(5), None));
    // What was left by hand stays until another takes its place.
    home.activate(6);
    home.load().rollback(None, &home.world).unwrap();
    assert_eq!(home.load().prune().unwrap(), [0; 0]);
    home.activate(7);
    assert_eq!(home.load().prune().unwrap(), [5, 6]);
    home.check_rest();
}

#[test]
fn numbers_are_never_used_twice() {
    let home = Home::with(tracking(), 1);
    home.world.ill.borrow_mut().insert(2, HEALTH);
    home.activate(2);
    home.load().prune().unwrap();
    let mut deployment = home.load();
    let tree = home.compose(&deployment, 9);
    assert_eq!(deployment.stage(&tree, content(9), &home.world).unwrap(), 3);
}

#[test]
fn a_damaged_record_says_what_to_do_and_nothing_is_lost() {
    let home = Home::with(tracking(), 1);
    let path = home.load().directory().join("record");
    let text = fs::read_to_string(&path).unwrap();
    let deployments = Deployments::open(&home.state).unwrap();
    for (junk, named) in [
        (text[..text.len() / 2].to_owned(), "damaged"),
        (String::new(), "damaged"),
        ("\0".repeat(500), "damaged"),
        (text.replace("\"version\":2", "\"version\":3"), "version 3"),
        (text.replace("\"next\":2", "\"next\":1"), "contradict"),
        (format!("{text}{}", " ".repeat(600_000)), "RECORD_MAX"),
    ] {
        fs::write(&path, junk).unwrap();
        let error = deployments.load("app").unwrap_err();
        assert!(error.kind() == Kind::Disk && error.to_string().contains(named), "{error}");
        assert!(error.to_string().contains("deploy it again"), "{error}");
    }
    // Fields of later versions are no damage.
    fs::write(&path, text.replacen('{', "{\"later\":[1],", 1)).unwrap();
    assert_eq!(home.links(), (Some(1), None));
    assert_eq!(deployments.names().unwrap(), ["app"]);
}

#[test]
fn names_are_those_of_units_and_files() {
    for name in ["a", "App-1.2_x", "0", &"x".repeat(64)] {
        check_name(name).unwrap();
    }
    for name in ["", ".", "..", "-x", "_x", "a/b", "a b", "é", "a@b", "a\n", &"x".repeat(65)] {
        assert_eq!(check_name(name).unwrap_err().kind(), Kind::Usage, "{name:?}");
    }
    let deployments = Deployments::open(Path::new("/nonexistent")).unwrap();
    assert_eq!(deployments.names().unwrap(), [""; 0]);
    assert_eq!(deployments.existing("app").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(deployments.load("../app").unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_link_that_leads_elsewhere_is_not_followed() {
    let home = Home::with(tracking(), 1);
    let link = home.load().directory().join("current");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let error = home.load().current_tree().unwrap_err();
    assert!(error.to_string().contains("leads to /etc"), "{error}");
}
