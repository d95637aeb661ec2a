//! The record of a kept layer's members, as it may be on flash that forgets, or that somebody else wrote: applied to a
//! root it touches nothing beside it.
#![no_main]

use edgepull::layer::Kept;
use edgepull::layer::fuzzing::record;
use edgepull::layer::rootfs::{Options, Rootfs};
use edgepull_fuzz::home::Home;
use edgepull_fuzz::{assert_message, fuzz_target, head, memory};
use std::cell::RefCell;
use std::fs::File;

const MAGIC: &[u8] = b"edgepull members 1\n";

thread_local! {
    static HOME: RefCell<Home> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let Some((as_it_is, body)) = head::<bool>(data, 1) else { return };
    let mut bytes = body.to_vec();
    if !as_it_is {
        bytes = [MAGIC, body].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    }
    HOME.with_borrow(|home| {
        let layer = home.fresh("layer");
        home.write("layer/members", &bytes);
        let file = File::open(home.path("layer/members")).expect("it is there");
        let whole = memory::within(4 << 20, || record(file, &mut |_, _| {}));
        let Ok(Some(kept)) = Kept::open(layer) else {
            return assert!(!matches!(whole, Ok(Some(()))), "whole for one reader only");
        };
        let made = memory::within(4 << 20, || -> edgepull::error::Result<()> {
            let options = Options { rootless: Some(true), emulate_openat2: false };
            let mut root = Rootfs::open(home.fresh("root"), home.fresh("scratch"), options)?;
            kept.apply(&mut root)?;
            root.finish().map(drop)
        });
        home.assert_untouched(&["layer", "root", "scratch"]);
        if let Err(error) = made {
            assert_message(&error.to_string());
        }
    });
});
