//! Which platforms a board gets: recorded evidence against the truth about it.
//!
//! `tests/data/cpuinfo` has one file for every rule, with the whole ordered list that it must lead to.
//! Beside a checkout there may be a `shared` folder (or where EDGEPULL_SHARED points) with dumps of
//! real boards; they are walked too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use edgepull::error::Kind;
use edgepull::platform::{Host, Inputs, Platform, cpuinfo, midr};

/// Counts the allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counter is a plain cell of
// the calling thread without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.with(Cell::get)
}

fn detect(cpuinfo: Option<&[u8]>, machine: Option<&str>) -> Host {
    Host::detect(&Inputs { cpuinfo, machine, ..Inputs::default() }).expect("no option is wrong")
}

fn list(host: &Host) -> Vec<String> {
    host.candidates.iter().map(|candidate| candidate.platform.to_string()).collect()
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/cpuinfo")
}

/// One line of `expected.tsv`.
struct Case {
    name: String,
    cpuinfo: Vec<u8>,
    machine: Option<String>,
    want: Vec<String>,
}

fn cases() -> Vec<Case> {
    let table = fs::read_to_string(data().join("expected.tsv")).unwrap();
    let case = |line: &str| {
        let [name, machine, want] = line.split('\t').collect::<Vec<_>>().try_into().expect("three columns");
        Case {
            name: format!("{name} with --machine {machine}"),
            cpuinfo: fs::read(data().join(format!("{name}.cpuinfo"))).unwrap(),
            machine: (machine != "-").then(|| machine.to_owned()),
            want: want.split(' ').filter(|&want| want != "none").map(str::to_owned).collect(),
        }
    };
    table.lines().skip(1).map(case).collect()
}

#[test]
fn every_fixture_gives_its_whole_list() {
    let cases = cases();
    for case in &cases {
        let host = detect(Some(&case.cpuinfo), case.machine.as_deref());
        assert_eq!(list(&host), case.want, "{}\n{host}", case.name);
        assert_eq!(host.refusal.is_some(), case.want.is_empty(), "{}", case.name);
        assert_eq!(host.architecture.is_none(), case.want.is_empty(), "{}", case.name);
        assert!(host.candidates.iter().all(|candidate| !candidate.reason.is_empty()), "{}", case.name);
    }
    println!("{} fixtures", cases.len());
}

#[test]
fn how_a_file_was_copied_changes_nothing() {
    let swap = |text: &str, from: &str, to: &str| text.replace(from, to).into_bytes();
    for case in cases() {
        let text = String::from_utf8(case.cpuinfo).unwrap();
        let copies = [
            ("CRLF", swap(&text, "\n", "\r\n")),
            ("spaces for tabs", swap(&text, "\t", "        ")),
            ("no blanks around the colon", swap(&swapped(&text), " : ", ":")),
            ("trailing blanks", swap(&text, "\n", "  \t\n")),
            ("double spaced", swap(&text, "\n", "\n\n")),
            ("no blank lines", swap(&text, "\n\n", "\n")),
            ("upper case", text.to_uppercase().replace("0X", "0x").into_bytes()),
            ("no last line end", text.trim_end().as_bytes().to_vec()),
            ("UTF-8 with BOM", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
            ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("junk in front", [b"\x7fELF\xff\xfe\0\0: :\n=\n", text.as_bytes()].concat()),
        ];
        for (how, copy) in copies {
            let host = detect(Some(&copy), case.machine.as_deref());
            assert_eq!(list(&host), case.want, "{how}: {}\n{host}", case.name);
        }
    }
}

fn swapped(text: &str) -> String {
    text.replace('\t', " ").replace("  :", " :")
}

#[test]
fn detection_allocates_nothing() {
    for case in cases() {
        let before = allocations();
        let host = detect(Some(&case.cpuinfo), case.machine.as_deref());
        let after = allocations();
        assert_eq!(after - before, 0, "{}", case.name);
        drop(host);
    }
    let big = many_cores(4096);
    let before = allocations();
    let host = detect(Some(&big), None);
    assert_eq!(allocations() - before, 0);
    assert_eq!(list(&host)[0], "linux/arm64/v8");
    // The counter itself works.
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}

fn many_cores(cores: usize) -> Vec<u8> {
    let core = |at: usize| {
        format!(
            "processor\t: {at}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x43\n\
             CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0x0af\nCPU revision\t: 1\n\n"
        )
    };
    (0..cores).map(core).collect::<String>().into_bytes()
}

#[test]
fn the_machine_alone_is_enough_and_nothing_of_this_one_is_looked_at() {
    for (machine, want) in [
        ("armv5tel", "linux/arm/v5"),
        ("armv6l", "linux/arm/v6 linux/arm/v5"),
        ("armv7l\n", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("aarch64", "linux/arm64/v8"),
        ("x86_64", "linux/amd64 linux/386"),
        ("i686", "linux/386"),
        ("riscv64", "linux/riscv64"),
        ("armv7ml", ""),
        ("armv5teb", ""),
        ("aarch64_be", ""),
        ("armv4tl", ""),
        ("", ""),
        ("vax", ""),
    ] {
        let host = detect(None, Some(machine));
        assert_eq!(list(&host).join(" "), want, "{machine}");
        assert!(host.evidence.is_recorded() && host.evidence.cpuinfo.cores.is_empty());
        assert_eq!(host.has_feature("fp"), None, "unknown is not absent");
    }
    let host = detect(Some(b"CPU implementer: 0x41\nCPU part: 0xb76\n"), None);
    assert_eq!((host.evidence.machine.as_deref(), host.evidence.userland.is_none()), (None, true));
}

#[test]
fn variant_is_an_order() {
    let a53 = fs::read(data().join("cortex-a53-64-bit-kernel.cpuinfo")).unwrap();
    let a64fx = fs::read(data().join("a64fx.cpuinfo")).unwrap();
    let arm32 = "linux/arm/v7 linux/arm/v8 linux/arm/v6 linux/arm/v5";
    for (cpuinfo, machine, variant, want) in [
        (&a53, "aarch64", "v6", "linux/arm/v6 linux/arm/v5".to_owned()),
        (&a53, "aarch64", "7", "linux/arm/v7 linux/arm/v6 linux/arm/v5".to_owned()),
        (&a53, "aarch64", "V8", format!("linux/arm64/v8 {arm32}")),
        (&a64fx, "aarch64", "v8.1", "linux/arm64/v8.1 linux/arm64/v8".to_owned()),
        (&a53, "armv7l", "v8", "linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5".to_owned()),
        (&a53, "armv5teb", "v5", "linux/arm/v5".to_owned()),
        (&a53, "aarch64", "auto", format!("linux/arm64/v8 {arm32}")),
    ] {
        let inputs = Inputs {
            cpuinfo: Some(cpuinfo),
            machine: Some(machine),
            variant: Some(variant),
            ..Inputs::default()
        };
        let host = Host::detect(&inputs).unwrap();
        assert_eq!(list(&host).join(" "), want, "{machine} {variant}");
        assert_eq!(host.evidence.cpuinfo.cores.len(), 1, "the evidence is still gathered");
        assert_eq!(host.to_string().contains("--variant"), variant != "auto");
    }
    let host = Host::detect(&Inputs { variant: Some("v9.1"), machine: Some("x86_64"), ..Inputs::default() });
    assert_eq!(list(&host.unwrap())[..3], ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6"]);
}

#[test]
fn platform_is_an_order() {
    for (platform, want) in [
        ("linux/arm", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/v8", "linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64/v8"),
        ("linux/amd64", "linux/amd64"),
        ("freebsd/arm64/v8.1", "freebsd/arm64/v8.1 freebsd/arm64/v8"),
        ("windows/amd64", "windows/amd64"),
    ] {
        let platform = Platform::parse(platform).unwrap();
        let inputs = Inputs { platform: Some(&platform), machine: Some("armv4l"), ..Inputs::default() };
        let host = Host::detect(&inputs).unwrap();
        assert_eq!(list(&host).join(" "), want);
        assert_eq!((&host.os, host.architecture.as_ref()), (&platform.os, Some(&platform.architecture)));
        assert!(host.refusal.is_none());
    }
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    for variant in ["v4", "v10", "", "v7b", "armv7b", "v8.10", "latest"] {
        let error = Host::detect(&Inputs { variant: Some(variant), ..Inputs::default() }).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{variant}");
        assert!(error.to_string().contains("auto, v5, v6, v7, v8"), "{error}");
    }
    let both = |variant, platform: &str| {
        let platform = Platform::parse(platform).unwrap();
        Host::detect(&Inputs { variant: Some(variant), platform: Some(&platform), ..Inputs::default() })
            .map(|_| ())
    };
    assert!(both("v6", "linux/arm/v6").is_ok());
    assert!(both("v8", "linux/arm64").is_ok());
    assert!(both("auto", "linux/arm64").is_ok());
    for (variant, platform) in [("v6", "linux/arm/v7"), ("v8", "linux/amd64"), ("v7", "linux/arm64")] {
        assert_eq!(both(variant, platform).unwrap_err().kind(), Kind::Usage, "{variant} {platform}");
    }
}

#[test]
fn features_are_those_of_all_cores() {
    let core = |features| format!("Features: {features}\nCPU implementer: 0x41\nCPU part: 0xc07\n\n");
    let text = core("half thumb vfp neon") + &core("half vfp  idiva");
    let host = detect(Some(text.as_bytes()), None);
    assert_eq!(host.features(), Some("half vfp"));
    assert_eq!(host.has_feature("vfp"), Some(true));
    assert_eq!(host.has_feature("neon"), Some(false));
    // A line that is longer than what is kept proves presence, not absence.
    let long = format!("Features: half {}\nCPU architecture: 7\n", "x ".repeat(cpuinfo::MAX_LINE));
    let host = detect(Some(long.as_bytes()), None);
    assert_eq!((host.has_feature("half"), host.has_feature("vfp")), (Some(true), None));
    assert_eq!(list(&host)[0], "linux/arm/v7", "and so does not lower the board");
    // Another architecture's file says nothing about this one.
    let x86 = b"vendor_id: X\nflags: lm vfp\n";
    assert_eq!(detect(Some(x86), Some("armv7l")).has_feature("vfp"), None);
}

#[test]
fn the_least_capable_core_wins_wherever_it_stands() {
    let core = |part| format!("CPU implementer: 0x41\nCPU part: {part}\n\n");
    for order in [["0xb76", "0xc07"], ["0xc07", "0xb76"]] {
        let host = detect(Some(order.map(core).concat().as_bytes()), None);
        assert_eq!(list(&host), ["linux/arm/v6", "linux/arm/v5"]);
        assert!(host.candidates[0].reason.contains("ARM1176"), "{}", host.candidates[0].reason);
    }
    // More kinds of cores than are kept apart: what was dropped might lack AArch32.
    let many: String = (0x41..0x55).map(|n| format!("CPU implementer: {n:#x}\nCPU part: 0xd03\n")).collect();
    let host = detect(Some(many.as_bytes()), Some("aarch64"));
    assert!(host.evidence.cpuinfo.cores_dropped);
    assert!(!list(&host).iter().any(|platform| platform.starts_with("linux/arm/")));
}

#[test]
fn the_json_report_has_what_programs_read() {
    let a7 = fs::read(data().join("cortex-a7-quad.cpuinfo")).unwrap();
    let json = serde_json::to_value(detect(Some(&a7), Some("armv7l"))).unwrap();
    assert_eq!(
        (&json["os"], &json["architecture"], &json["variant"]),
        (&"linux".into(), &"arm".into(), &"v7".into())
    );
    assert_eq!(json["candidates"][1]["platform"], "linux/arm/v6");
    assert!(json["candidates"][0]["reason"].as_str().unwrap().contains("Cortex-A7"));
    let core = &json["evidence"]["cores"][0];
    assert_eq!(
        (&core["part"], &core["name"], &core["count"]),
        (&"0xc07".into(), &"Cortex-A7".into(), &4.into())
    );
    assert_eq!((&core["isa"], &core["aarch32"]), (&"ARMv7-A".into(), &true.into()));
    assert_eq!(json["evidence"]["decided_by"][0], "cores");
    assert!(json.get("reason").is_none());

    let json = serde_json::to_value(detect(None, Some("armv5teb"))).unwrap();
    assert!(json["architecture"].is_null());
    assert!(json["reason"].as_str().unwrap().contains("big-endian"));
    assert_eq!(json["candidates"].as_array().unwrap().len(), 0);
}

#[test]
fn the_text_report_marks_what_decided() {
    let pi1 = fs::read(data().join("arm1176-says-7.cpuinfo")).unwrap();
    let text = detect(Some(&pi1), Some("armv6l")).to_string();
    let marked: Vec<_> = text.lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(
        marked,
        ["* cores (MIDR)      1 x ARM1176 (0x41/0xb76), ARMv6, 32-bit programs: yes"],
        "{text}"
    );
    assert!(text.contains("  1. linux/arm/v6"), "{text}");

    let a9 = fs::read(data().join("cortex-a9-no-vfp.cpuinfo")).unwrap();
    let text = detect(Some(&a9), None).to_string();
    assert!(text.lines().any(|line| line.starts_with("* features")), "{text}");
    assert!(text.contains("no vfp"), "{text}");

    let a64fx = fs::read(data().join("a64fx.cpuinfo")).unwrap();
    let text = detect(Some(&a64fx), None).to_string();
    assert!(text.contains("A64FX (0x46/0x001), ARMv8.2-A, 32-bit programs: no"), "{text}");

    let host = detect(None, Some("armv4tl"));
    assert!(host.to_string().contains("no image can run here: uname -m is armv4tl"), "{host}");
}

#[test]
fn this_machine_can_run_something() {
    let host = Host::detect(&Inputs::default()).unwrap();
    assert!(host.refusal.is_none() && !host.evidence.is_recorded(), "{host}");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(list(&host)[0], "linux/amd64", "{host}");
    }
    if cfg!(target_arch = "aarch64") {
        assert_eq!(list(&host)[0], "linux/arm64/v8", "{host}");
    }
}

#[test]
fn no_input_makes_it_panic() {
    // xorshift64: the same mutations in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let cases = cases();
    for _ in 0..4000 {
        let mut bytes = cases[random(cases.len())].cpuinfo.clone();
        for _ in 0..=random(12) {
            let at = random(bytes.len());
            match random(5) {
                0 if !bytes.is_empty() => bytes[at] = random(256) as u8,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, random(256) as u8),
                3 if !bytes.is_empty() => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                _ => {
                    let other = &cases[random(cases.len())].cpuinfo;
                    bytes.extend_from_slice(&other[random(other.len()).min(other.len())..]);
                }
            }
        }
        let machine: String = (0..random(90)).map(|_| char::from(random(256) as u8)).collect();
        for machine in [None, Some(machine.as_str()), Some("aarch64"), Some("armv7l")] {
            let host = detect(Some(&bytes), machine);
            assert_eq!(host.refusal.is_some(), host.candidates.is_empty());
            let json = serde_json::to_string(&host).unwrap();
            let shown = format!("{host}{json}");
            assert!(
                !shown.chars().any(|c| c.is_control() && c != '\n'),
                "raw bytes reach the terminal: {shown:?}"
            );
        }
    }
    let endless = vec![b'x'; 3 * cpuinfo::MAX_BYTES];
    assert!(detect(Some(&endless), None).refusal.is_some());
    assert!(detect(Some(&endless), Some("armv6l")).refusal.is_none());
    assert!(detect(Some(&[0xff; 4096]), None).refusal.is_some());
}

#[test]
fn what_lies_beyond_the_limit_is_not_half_read() {
    let mut big = b"CPU implementer: 0x41\n".to_vec();
    big.resize(cpuinfo::MAX_BYTES - 14, b'\n');
    // Cut in the middle, this would be part 0xc0 and not 0xc07.
    big.extend_from_slice(b"CPU part: 0xc07\n");
    let info = cpuinfo::Cpuinfo::parse(&big);
    assert!(info.cut);
    assert_eq!(info.cores[0].part, None);
}

fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("EDGEPULL_SHARED").map_or_else(beside, PathBuf::from);
    shared.join("cpuinfo/truth.tsv").exists().then_some(shared)
}

/// The columns of a tab-separated table by the names in its first line.
fn table(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    (lines.next().unwrap_or_default(), lines.collect())
}

#[test]
fn every_recorded_real_board_gets_its_platform() {
    let Some(shared) = shared() else {
        println!("no shared folder beside the checkout: no recorded boards walked");
        return;
    };
    let text = fs::read_to_string(shared.join("cpuinfo/truth.tsv")).unwrap();
    let (names, rows) = table(&text);
    let column = |row: &[&str], name: &str| row[names.iter().position(|n| *n == name).unwrap()].to_owned();
    let mut wrong = Vec::new();
    for row in &rows {
        let [board, machine, truth, aarch32] =
            ["name", "uname_m", "platform", "aarch32_el0"].map(|name| column(row, name));
        let cpuinfo = fs::read(shared.join(format!("cpuinfo/{board}.cpuinfo"))).unwrap();
        let before = allocations();
        let host = detect(Some(&cpuinfo), Some(&machine));
        assert_eq!(allocations() - before, 0, "{board}");
        let got = list(&host);
        let arm = |platform: &&String| platform.starts_with("linux/arm");
        let first = match truth.as_str() {
            // No Arm platform; an x86 machine still runs its own images.
            "none" => got.iter().find(arm).is_none(),
            truth => got.first().is_some_and(|first| first == truth),
        };
        let falls_back = got[1.min(got.len())..].iter().any(|platform| platform == "linux/arm/v7");
        let fallback = match aarch32.split(' ').next() {
            Some("yes") => falls_back,
            Some("no" | "mixed" | "rev-dependent" | "unknown") => !falls_back,
            _ => true,
        };
        if !first || !fallback {
            wrong.push(format!("{board}: {machine}, {truth}, AArch32 {aarch32}, but got {got:?}"));
        }
    }
    println!("{} recorded boards walked", rows.len());
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// A cpuinfo whose cores nobody knows, and which is otherwise the same.
fn of_strangers(cpuinfo: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(cpuinfo);
    let line = |line: &str| match line.starts_with("CPU implementer") {
        true => "CPU implementer : 0xee\n".to_owned(),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect::<String>().into_bytes()
}

#[test]
fn recorded_boards_whose_cores_were_not_known_would_get_no_more_than_they_get() {
    let Some(shared) = shared() else { return };
    let text = fs::read_to_string(shared.join("cpuinfo/truth.tsv")).unwrap();
    let (mut walked, mut proven) = (0, 0);
    for row in table(&text).1.iter().filter(|row| row[1] == "aarch64") {
        let cpuinfo = fs::read(shared.join(format!("cpuinfo/{}.cpuinfo", row[0]))).unwrap();
        let known = list(&detect(Some(&cpuinfo), Some("aarch64")));
        let stranger = list(&detect(Some(&of_strangers(&cpuinfo)), Some("aarch64")));
        let more =
            stranger.iter().filter(|platform| platform.contains("arm64/") && !known.contains(platform));
        // What the table says of these is less than they are: QEMU emulates what it is told to, and is recorded as
        // ARMv9.4-A; of the other no manual is public, and it has SVE2.
        let is_more = ["hrw-qemu-max", "hrw-snapdragon-x2e"].contains(&row[0]);
        assert!(is_more || more.count() == 0, "{}: {stranger:?}, not {known:?}", row[0]);
        (walked, proven) = (walked + 1, proven + usize::from(stranger.len() > 1));
    }
    println!("{walked} recorded boards walked, {proven} of them more than v8 by their features");
    assert!(proven > 0);
}

#[test]
fn cores_that_are_not_known_are_what_their_features_prove_all_of_them() {
    const V8_2: &str = "fp asimd crc32 atomics asimdrdm dcpop";
    let core = |id: &str, features: &str| {
        let (implementer, part) = id.split_once('/').unwrap();
        format!(
            "Features: {features}\nCPU implementer: {implementer}\nCPU architecture: 8\nCPU part: {part}\n\n"
        )
    };
    let v8_4 = &format!("{V8_2} jscvt fcma lrcpc paca pacg asimddp dit flagm ilrcpc uscat");
    for (cores, want) in [
        (vec![("0xee/0x001", V8_2)], "v8 v8.2 v8.1"),
        (vec![("0xee/0x001", v8_4)], "v8 v8.4 v8.3 v8.2 v8.1"),
        (vec![("0xee/0x001", v8_4), ("0xee/0x002", V8_2)], "v8 v8.2 v8.1"),
        (vec![("0xee/0x001", v8_4), ("0xee/0x002", "fp asimd crc32")], "v8"),
        (vec![("0xee/0x001", V8_2), ("0xee/0x001", "fp asimd atomics crc32")], "v8"),
        // A Cortex-A76, which is of v8.2, beside a core that is of more by what both are said to have.
        (vec![("0x41/0xd0b", v8_4), ("0xee/0x001", v8_4)], "v8 v8.2 v8.1"),
        // A core that is known is what it is known as.
        (vec![("0x41/0xd03", v8_4)], "v8"),
        (vec![("0xee/0x001", "half thumb neon")], "v8"),
    ] {
        let text: String = cores.iter().map(|(id, features)| core(id, features)).collect();
        let got = list(&detect(Some(text.as_bytes()), Some("aarch64")));
        let got: Vec<_> = got.iter().filter_map(|platform| platform.strip_prefix("linux/arm64/")).collect();
        assert_eq!(got.join(" "), want, "{text}");
    }
    // A line that is cut proves what it has.
    let long = core("0xee/0x001", &format!("{V8_2} {}", "x ".repeat(cpuinfo::MAX_LINE)));
    assert_eq!(list(&detect(Some(long.as_bytes()), Some("aarch64")))[1], "linux/arm64/v8.2");
}

#[test]
fn the_core_table_agrees_with_the_collected_facts() {
    let Some(shared) = shared() else { return };
    let text = fs::read_to_string(shared.join("midr.tsv")).unwrap();
    let (_, rows) = table(&text);
    let number = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    for row in &rows {
        let (implementer, part) = (number(row[0]), number(row[1]));
        // The collection's 0x51/0x400 is a family mask misread as a part; its note gives 0x040 to 0x07f.
        let core = match (implementer, part) {
            (0x51, 0x400) => midr::lookup(0x51, 0x040),
            _ => midr::lookup(implementer, part),
        };
        let core = core.unwrap_or_else(|| panic!("{row:?} is missing"));
        let version = row[4].trim_start_matches('v').chars().next().and_then(|c| c.to_digit(10));
        if let (Some(level), Some(version)) = (core.isa.level(), version) {
            assert_eq!(u32::from(level), version.min(8), "{row:?}");
        }
        let aarch32 = match row[5] {
            // No images for these profiles, so the question does not arise.
            _ if core.isa.level().is_none() => continue,
            "yes" | "yes (32-bit only)" => midr::Aarch32::Yes,
            "" if core.isa == midr::Isa::V8Only32 => midr::Aarch32::Yes,
            "" | "rev-dependent" => midr::Aarch32::Unknown,
            _ => midr::Aarch32::No,
        };
        assert_eq!(aarch32, core.aarch32, "{row:?}: {core:?}");
    }
    println!("{} cores compared", rows.len());
}
