//! Every lie that a label can be, and every honest program that looks a little like one.

use super::super::elf::tests::{arm_program, with_interpreter};
use super::super::manifest::RunConfig;
use super::super::program;
use super::*;
use crate::error::Error;
use std::fs::{self, File};
use std::path::Path;

const EABI5: u32 = 0x0500_0000;
const SOFT: u32 = EABI5 | 0x200;
const HARD: u32 = EABI5 | 0x400;

/// What compilers say of floats: IEEE 754 (Tag_ABI_FP_number_model).
const FLOATS: [u8; 2] = [23, 3];

fn v5() -> Vec<u8> {
    arm_program(SOFT, &[&[6, 4][..], &FLOATS].concat())
}

fn v6() -> Vec<u8> {
    arm_program(HARD, &[&[6, 6, 10, 2, 28, 1][..], &FLOATS].concat())
}

fn v7() -> Vec<u8> {
    arm_program(HARD, &[&[6, 10, 10, 4, 28, 1][..], &FLOATS].concat())
}

/// What Go's own linker writes: no attributes, and no word about floats.
fn go() -> Vec<u8> {
    let mut program = arm_program(EABI5 | 2, &[]);
    program[48..50].copy_from_slice(&[0, 0]); // e_shnum
    program
}

/// A 64-bit, little-endian ELF file's header.
fn of_machine(machine: u8) -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    (elf[16], elf[18]) = (2, machine);
    elf
}

fn arm64() -> Vec<u8> {
    of_machine(183)
}

fn amd64() -> Vec<u8> {
    of_machine(62)
}

fn field(text: &str) -> PlatformField {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    PlatformField { os: next(), architecture: next(), variant: parts.next(), ..PlatformField::default() }
}

fn config(text: &str) -> ImageConfig {
    let PlatformField { os, architecture, variant, .. } = field(text);
    ImageConfig { os, architecture, variant, ..ImageConfig::default() }
}

/// What the first of `files` leads through.
fn programs(files: &[(&str, Vec<u8>)]) -> Programs {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(&path[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let cmd = files.first().map(|(path, _)| (*path).to_owned()).into_iter().collect();
    let open = |path: &Path| File::open(root.path().join(path.strip_prefix("/").unwrap_or(path)));
    program::read(&RunConfig { cmd, ..RunConfig::default() }, &open)
}

/// An entry labelled `label` (empty: not at all) of an image with this config and these files.
fn judge(label: &str, said: &str, files: &[(&str, Vec<u8>)]) -> Outcome {
    let label = Some(field(label)).filter(|_| !label.is_empty());
    check(Label::Entry(label.as_ref()), &config(said), &mut || Ok(programs(files))).unwrap()
}

/// The lies of an entry whose config says what its label says.
#[track_caller]
fn lies(label: &str, program: Vec<u8>) -> Vec<String> {
    lies_beside(label, label, &[("/bin/app", program)])
}

#[track_caller]
fn lies_beside(label: &str, said: &str, files: &[(&str, Vec<u8>)]) -> Vec<String> {
    match judge(label, said, files) {
        Outcome::Lies(lies) => lies,
        other => panic!("{label}: {other:?}"),
    }
}

#[track_caller]
fn fits(label: &str, said: &str, files: &[(&str, Vec<u8>)]) {
    let read = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(judge(label, said, files), Outcome::Fits(read), "{label}, {said}");
}

#[test]
fn honest_images_fit() {
    for (label, program) in [
        ("linux/arm/v5", v5()),
        ("linux/arm/v6", v6()),
        ("linux/arm/v7", v7()),
        ("linux/arm64", arm64()),
        ("linux/arm64/v8", arm64()),
        ("linux/amd64", amd64()),
        ("linux/arm/v5", go()),
        ("linux/arm/v6", go()),
        ("linux/arm/v7", go()),
        // Older code runs on newer cores.
        ("linux/arm/v7", v6()),
        ("linux/arm/v8", v7()),
        // The variant is in the same word.
        ("linux/armhf", v7()),
        ("linux/armv6l", v6()),
    ] {
        fits(label, label, &[("/bin/app", program)]);
    }
}

#[test]
fn code_for_more_than_the_label() {
    assert_eq!(lies("linux/arm/v6", v7()), ["/bin/app: it is ARMv7 code; label it linux/arm/v7"]);
    let arm64 = lies("linux/amd64", arm64());
    assert_eq!(arm64, ["/bin/app: it is a program for arm64; label it linux/arm64/v8"]);
    let amd64 = lies("linux/arm/v7", amd64());
    assert_eq!(amd64, ["/bin/app: it is a program for x86-64 (amd64); label it linux/amd64"]);
    let [hard] = &lies("linux/arm/v5", v6())[..] else { panic!() };
    assert!(hard.contains("it is hard-float") && hard.ends_with("; label it linux/arm/v6"), "{hard}");
    let [unknown] = &lies("linux/arm/v5", arm_program(HARD, &[])[..52].to_vec())[..] else { panic!() };
    assert!(unknown.contains("broken"), "{unknown}");
    let old = lies("linux/arm/v5", arm_program(0, &[6, 4]));
    assert!(old[0].ends_with("no label stands for that: build it for linux/arm/v5"), "{old:?}");
    let micro = lies("linux/arm/v7", arm_program(EABI5, &[6, 11]));
    assert!(micro[0].contains("M profile") && micro[0].contains("no label stands for that"), "{micro:?}");
}

#[test]
fn hard_float_code_that_says_no_more() {
    let mut stripped = arm_program(HARD, &[]);
    stripped[48..50].copy_from_slice(&[0, 0]); // e_shnum
    let lies = lies("linux/arm/v5", stripped);
    assert!(
        lies[0].ends_with("label it linux/arm/v6 or linux/arm/v7, whichever it was built for"),
        "{lies:?}"
    );
}

#[test]
fn soft_float_code_labelled_as_armhf() {
    let soft =
        "/bin/app: it is soft-float code, and linux/arm/v7 stands for hard-float; label it linux/arm/v5";
    assert_eq!(lies("linux/arm/v7", v5()), [soft]);
    assert!(lies("linux/arm/v6", v5())[0].contains("linux/arm/v6 stands for hard-float"));
    // Linkers before binutils 2.24 set no flag.
    let old = arm_program(EABI5, &[&[6, 4][..], &FLOATS].concat());
    assert_eq!(lies("linux/arm/v7", old), [soft]);
    // Nor is there anything but the flag when the sections are stripped.
    let mut stripped = v5();
    stripped[48..50].copy_from_slice(&[0, 0]); // e_shnum
    assert_eq!(lies("linux/arm/v7", stripped), [soft]);
    let v6_soft = arm_program(SOFT, &[&[6, 6][..], &FLOATS].concat());
    let advice = "no label stands for soft-float ARMv6 code: build it for hard-float or for ARMv5";
    for label in ["linux/arm/v6", "linux/arm/v5"] {
        let lies = lies(label, v6_soft.clone());
        assert!(lies[0].ends_with(advice), "{lies:?}");
    }
}

#[test]
fn what_proves_nothing_about_floats() {
    for program in [
        // Compatible with both (Tag_ABI_VFP_args 3): linkers set the soft-float flag on it.
        arm_program(SOFT, &[6, 4, 23, 3, 28, 3]),
        // Not meant to use any floating-point number.
        arm_program(EABI5, &[6, 4]),
        go(),
    ] {
        for label in ["linux/arm/v5", "linux/arm/v7"] {
            fits(label, label, &[("/bin/app", program.clone())]);
        }
    }
}

#[test]
fn a_dynamic_linker_tells_the_abi_by_its_name() {
    let bare_linker = || arm_program(EABI5, &[6, 4]);
    for (linker, wrong, right) in [
        ("/lib/ld-linux.so.3", "linux/arm/v7", "linux/arm/v5"),
        ("/lib/ld-musl-arm.so.1", "linux/arm/v6", "linux/arm/v5"),
        ("/lib/ld-linux-armhf.so.3", "linux/arm/v5", "linux/arm/v6"),
        ("/lib/ld-musl-armhf.so.1", "linux/arm/v5", "linux/arm/v7"),
    ] {
        let files = [("/bin/app", with_interpreter(go(), linker)), (linker, bare_linker())];
        fits(right, right, &files);
        let lies = lies_beside(wrong, wrong, &files);
        assert_eq!(lies.len(), 1, "{lies:?}");
        assert!(lies[0].starts_with(&format!("/bin/app: its dynamic linker {linker} is the")), "{lies:?}");
    }
    // Debian's armhf has a link of the old name to its hard-float linker, for which Go asks.
    let files = [("/bin/app", with_interpreter(go(), "/lib/ld-linux.so.3")), ("/lib/ld-linux.so.3", v7())];
    fits("linux/arm/v7", "linux/arm/v7", &files);
    let files = [("/bin/app", with_interpreter(v7(), "/lib/ld-linux.so.3")), ("/lib/ld-linux.so.3", v7())];
    fits("linux/arm/v7", "linux/arm/v7", &files);
}

#[test]
fn every_file_that_lies_has_its_line_and_all_have_one_advice() {
    let files = [("/bin/app", with_interpreter(v6(), "/lib/ld.so")), ("/lib/ld.so", v7())];
    let lies = lies_beside("linux/arm/v5", "linux/arm/v5", &files);
    assert_eq!(lies.len(), 2, "{lies:?}");
    assert!(lies[0].starts_with("/bin/app: ") && lies[1].starts_with("/lib/ld.so: "), "{lies:?}");
    assert!(lies.iter().all(|lie| lie.ends_with("; label it linux/arm/v7")), "the more of both: {lies:?}");
    let mixed = [("/bin/app", with_interpreter(v5(), "/lib/ld.so")), ("/lib/ld.so", v7())];
    let lies = lies_beside("linux/arm/v7", "linux/arm/v7", &mixed);
    assert!(lies[0].ends_with("no label stands for that: build it for linux/arm/v7"), "{lies:?}");
    let micro = arm_program(EABI5, &[6, 11]);
    let mixed = [("/bin/app", with_interpreter(micro, "/lib/ld.so")), ("/lib/ld.so", v7())];
    let lies = lies_beside("linux/arm/v7", "linux/arm/v7", &mixed);
    assert!(lies[0].ends_with("no label stands for that: build it for linux/arm/v7"), "{lies:?}");
}

#[test]
fn a_missing_variant() {
    let without = |said: &str, program: Vec<u8>| {
        let lies = lies_beside("linux/arm", said, &[("/bin/app", program)]);
        assert_eq!(lies.len(), 1, "{lies:?}");
        assert!(lies[0].starts_with("linux/arm has no variant, which Docker"), "{lies:?}");
        lies[0].split_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(without("linux/arm", v6()), "label it linux/arm/v6, which /bin/app needs");
    assert_eq!(without("linux/arm", v7()), "label it linux/arm/v7, which /bin/app needs");
    assert_eq!(without("linux/arm", v5()), "label it linux/arm/v5, which /bin/app needs");
    assert_eq!(without("linux/arm", go()), "label it with what it was built for");
    assert_eq!(without("linux/arm/v6", go()), "label it linux/arm/v6, as its config says");
    let more = "label it linux/arm/v7, as its config says (/bin/app alone needs linux/arm/v6)";
    assert_eq!(without("linux/arm/v7", v6()), more);
    assert_eq!(
        without("linux/arm/v6", v7()),
        "label it linux/arm/v7, which /bin/app needs",
        "its config lies"
    );
    let lies = lies("linux/arm", arm64());
    assert!(lies.len() == 2 && lies[1].starts_with("/bin/app: it is a program for arm64"), "{lies:?}");
}

#[test]
fn no_platform_or_half_of_one() {
    let files = [("/bin/app", v6())];
    let lies = lies_beside("", "linux/arm/v6", &files);
    assert_eq!(lies.len(), 1);
    assert!(lies[0].starts_with("the entry has no platform"), "{lies:?}");
    assert!(lies[0].ends_with("label it linux/arm/v6, as its config says"), "{lies:?}");
    let half = lies_beside("/arm/v6", "linux/arm/v6", &files);
    assert!(half[0].contains("/arm/v6 lacks a part"), "{half:?}");
    let belied = lies_beside("", "linux/arm/v6", &[("/bin/app", v7())]);
    assert_eq!(belied.len(), 2);
    assert!(belied.iter().all(|lie| lie.contains("label it linux/arm/v7")), "{belied:?}");
    let nothing = lies_beside("", "", &files);
    assert!(nothing[0].ends_with("label it with what it was built for"), "{nothing:?}");
}

#[test]
fn a_label_and_a_config_that_disagree() {
    let beside = |label: &str, said: &str, program: Vec<u8>| {
        let lies = lies_beside(label, said, &[("/bin/app", program)]);
        let flaw = format!("the label says {label}, but the image's own config {said}; ");
        lies[0].strip_prefix(&flaw).unwrap_or_else(|| panic!("{lies:?}")).to_owned()
    };
    assert_eq!(beside("linux/arm/v6", "linux/arm/v7", v7()), "label it linux/arm/v7");
    assert_eq!(beside("linux/arm/v7", "linux/arm/v6", v7()), "correct the config: the code is as labelled");
    assert_eq!(beside("linux/arm/v7", "linux/arm/v6", v6()), "make them say the same");
    assert_eq!(beside("linux/arm64", "linux/amd64", amd64()), "label it linux/amd64");
    assert_eq!(beside("linux/arm64", "linux/amd64", v7()), "label it linux/arm/v7");
    assert_eq!(beside("linux/arm64", "windows/arm64", arm64()), "make them say the same");
    for (label, said) in [
        ("linux/arm/v7", "linux/arm/7"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/arm64", "linux/aarch64/v8"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64", ""),
    ] {
        let program = if label.contains("64") { arm64() } else { v7() };
        fits(label, said, &[("/bin/app", program)]);
    }
}

#[test]
fn a_single_image_is_held_against_its_config() {
    let single = |said: &str, program: Vec<u8>| {
        let files = [("/bin/app", program)];
        check(Label::Config, &config(said), &mut || Ok(programs(&files))).unwrap()
    };
    assert_eq!(single("linux/arm/v6", v6()), Outcome::Fits(vec!["/bin/app".into()]));
    assert!(matches!(single("linux/arm/v6", v7()), Outcome::Lies(lies) if lies[0].contains("ARMv7")));
    assert!(matches!(single("linux/arm", v6()), Outcome::Lies(lies) if lies[0].contains("linux/arm/v6")));
    assert!(matches!(single("/arm", v6()), Outcome::Lies(lies) if lies[0].contains("lacks a part")));
}

#[test]
fn what_is_not_checked_is_not_read() {
    for (label, why) in [
        ("windows/amd64", "programs for windows"),
        ("unknown/unknown", "attestation"),
        ("linux/mips", "programs for linux/mips"),
    ] {
        let field = field(label);
        let outcome = check(Label::Entry(Some(&field)), &config(label), &mut || panic!("{label} is read"));
        assert!(matches!(outcome.unwrap(), Outcome::Unchecked(said) if said.contains(why)), "{label}");
    }
    // No board looks for these; what they are shows all the same.
    let [lie, _] = &lies("linux/arm/v4", v5())[..] else { panic!() };
    assert!(lie.ends_with("label it linux/arm/v5, which /bin/app needs"), "{lie}");
    assert!(lies("linux/amr64", arm64())[0].ends_with("label it linux/arm64/v8, which /bin/app needs"));
}

#[test]
fn nothing_to_check_is_no_lie_and_what_is_missing_is_one() {
    let outcome = judge("linux/arm/v6", "linux/arm/v6", &[]);
    assert!(matches!(outcome, Outcome::Unchecked(why) if why.contains("no command")));
    let alone = lies("linux/arm/v6", with_interpreter(v6(), "/lib/ld.so"));
    assert_eq!(alone, ["/bin/app needs /lib/ld.so, which is not in the image"]);
    let disk = Programs {
        gap: Some(Gap::Broken(Error::new(Kind::Disk, "it cannot be read"))),
        ..Programs::default()
    };
    let mut disk = Some(disk);
    let error = check(Label::Config, &config("linux/arm/v6"), &mut || Ok(disk.take().unwrap())).unwrap_err();
    assert_eq!(error.kind(), Kind::Disk, "a disk is no lie");
    let error = check(Label::Config, &config("linux/arm/v6"), &mut || Err(Error::new(Kind::Network, "gone")));
    assert_eq!(error.unwrap_err().kind(), Kind::Network);
}

#[test]
fn what_an_image_says_has_an_end() {
    let long = format!("/{}/{0}/{0}", "x".repeat(250));
    let lies = lies_beside("linux/arm/v6", "linux/arm/v6", &[(&long, v7())]);
    assert_eq!(lies[0].chars().count(), LINE_MAX);
    let hostile =
        PlatformField { os: "linux".into(), architecture: "\x1b[2J".repeat(99), ..PlatformField::default() };
    assert_eq!(Written::of_field(&hostile).to_string().len(), "linux/".len() + 32);
    assert!(!Written::of_field(&hostile).to_string().contains('\x1b'));
}
