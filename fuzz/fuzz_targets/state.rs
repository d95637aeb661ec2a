//! What is in the state directory: a deployment's record, what it is fetching, and the time. Whatever is there is read or
//! refused, and a record that was read comes back as it was when it is written.
#![no_main]

use edgepull::store::clock;
use edgepull::store::deployment::Deployments;
use edgepull_fuzz::home::Home;
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use std::cell::RefCell;
use std::fs;

thread_local! {
    static HOME: RefCell<Home> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    HOME.with_borrow(|home| {
        drop(home.fresh("state"));
        let state = home.path("state");
        let directory = state.join("deployments/web");
        fs::create_dir_all(&directory).expect("a directory");
        for name in ["deployments/web/record", "deployments/web/pending", "clock"] {
            home.write(&format!("state/{name}"), data);
        }
        if let Some((time, _)) = clock::load(&state) {
            assert_eq!(format!("{time}\n").as_bytes(), data);
        }
        let deployments = Deployments::open(&state).expect("a state directory");
        let limit = 16 * data.len() + 16 * 1024;
        let mut deployment = match memory::within(limit, || deployments.load("web")) {
            Ok(deployment) => deployment.expect("there is a record"),
            Err(error) => return assert_message(&error.to_string()),
        };
        let mut tracking = deployment.record().tracking.clone();
        // What does not change is not written.
        tracking.plain_http ^= true;
        if deployment.track(tracking).is_err() {
            return;
        }
        let again = deployments.load("web").expect("what was written can be read").expect("it is there");
        assert_eq!(again.record(), deployment.record());
        home.assert_untouched(&["state"]);
    });
});
