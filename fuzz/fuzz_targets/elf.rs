//! Headers of a program: no file takes more than a few KiB, and what it says is one thing.
#![no_main]

use edgepull::image::elf::Elf;
use edgepull::platform::Platform;
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    let elf = match memory::within(24 * 1024, || Elf::read(&mut Cursor::new(data))) {
        Ok(Some(elf)) => elf,
        Ok(None) => return assert!(!data.starts_with(b"\x7fELF"), "an ELF file that is none"),
        Err(error) => return assert_message(&error.to_string()),
    };
    assert!(elf.interpreter.as_ref().is_none_or(|path| path.len() <= 4096));
    let label = |text| Platform::parse(text).expect("a platform");
    let wrong = |text| elf.contradicts(&label(text));
    let labels = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64", "linux/386"];
    labels.into_iter().filter_map(wrong).for_each(|why| assert_message(&why));
    // What a board of version n runs, runs on one of n + 1.
    assert!(wrong("linux/arm/v5").is_some() || wrong("linux/arm/v6").is_none(), "{elf:?}");
    assert!(wrong("linux/arm/v6").is_some() || wrong("linux/arm/v7").is_none(), "{elf:?}");
    // No program is for two of these.
    let fits =
        ["linux/arm/v7", "linux/arm64", "linux/amd64"].into_iter().filter(|text| wrong(text).is_none());
    assert!(fits.count() <= 1, "{elf:?}");
    let _ = elf.lacks_feature(&|_| Some(false));
});
