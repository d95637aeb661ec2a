//! Which entry of an index a board takes: one that it can run, the best, with all that the entry asks for; and
//! however many there are, few are looked up.
#![no_main]

use edgepull::error::Result;
use edgepull::image::manifest::{Descriptor, Document, media_type};
use edgepull::image::select::{
    Ask, Entry as Seen, LOOKUPS_MAX, Lookup, Selection, Verdict, check_single, select,
};
use edgepull::platform::{Host, Inputs, Platform};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::{UpTo, assert_message, fuzz_target, memory};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TYPES: [&str; 6] = [
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
    "",
    "application/vnd.unknown",
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
];
const SYSTEMS: [&str; 4] = ["linux", "", "unknown", "windows"];
const ARCHITECTURES: [&str; 10] =
    ["arm", "arm64", "amd64", "386", "armhf", "aarch64", "", "unknown", "ARM", "riscv64"];
const VARIANTS: [&str; 10] = ["", "v5", "v6", "v7", "v8", "7", "v8.2", "V7L", "v9", "v2"];
const FEATURES: [&str; 5] = ["neon", "vfp", "sse4", "win32k", "\u{1b}[2J"];
/// In a byte that picks something: what is picked is not there, does not tell, or is asked for always.
const FLAG: u8 = 0x80;
const BOARDS: [(&str, &str); 7] = [
    ("armv7l", ""),
    ("armv5tejl", "Features: swp half fastmult edsp java\nCPU implementer: 0x41\nCPU part: 0x926\n"),
    ("armv6l", "Features: half thumb fastmult vfp edsp java tls\nCPU implementer: 0x41\nCPU part: 0xb76\n"),
    ("armv7l", "Features: half thumb vfp vfpv3 vfpv3d16 tls\nCPU implementer: 0x41\nCPU part: 0xc09\n"),
    ("armv7l", "Features: half thumb vfp neon vfpv3 tls vfpv4\nCPU implementer: 0x41\nCPU part: 0xc07\n"),
    ("aarch64", "Features: fp asimd crc32\nCPU implementer: 0x41\nCPU architecture: 8\nCPU part: 0xd03\n"),
    ("x86_64", "vendor_id: x\nflags: fpu sse2 lm pni sse4_1 sse4_2\n"),
];

#[derive(Debug, Arbitrary)]
struct Entry<'a> {
    media_type: u8,
    platform: Option<(u8, u8, u8)>,
    text: Option<&'a str>,
    features: Vec<u8>,
    attestation: bool,
    config: (u8, u8, u8),
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    board: u8,
    entries: UpTo<Entry<'a>, 12>,
    nested: UpTo<UpTo<Entry<'a>, 6>, 3>,
}

fn pick<'a>(list: &[&'a str], which: u8) -> &'a str {
    list[usize::from(which) % list.len()]
}

fn index(entries: &[Entry<'_>]) -> Value {
    let entry = |(at, entry): (usize, &Entry<'_>)| {
        // The size tells the lookup which one it is asked about.
        let mut json = json!({ "mediaType": pick(&TYPES, entry.media_type), "digest": DIGEST, "size": at });
        if let Some((os, architecture, variant)) = entry.platform {
            json["platform"] = json!({
                "os": pick(&SYSTEMS, os),
                "architecture": entry.text.unwrap_or(pick(&ARCHITECTURES, architecture)),
                "variant": pick(&VARIANTS, variant),
                "features": entry.features.iter().map(|one| pick(&FEATURES, *one)).collect::<Vec<_>>(),
            });
        }
        if entry.attestation {
            json["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        }
        json
    };
    json!({ "schemaVersion": 2, "manifests": entries.iter().enumerate().map(entry).collect::<Vec<_>>() })
}

fn parsed(document: &Value) -> Result<Document> {
    Document::parse("", document.to_string().as_bytes())
}

struct Lookups<'a> {
    input: &'a Input<'a>,
    count: usize,
}

impl Lookup for Lookups<'_> {
    fn document(&mut self, _: &Descriptor) -> Result<Document> {
        self.count += 1;
        match self.input.nested.0.get(self.count % self.input.nested.0.len().max(1)) {
            Some(nested) => parsed(&index(&nested.0)),
            None => parsed(&json!({ "config": { "digest": DIGEST, "size": 1 } })),
        }
    }

    fn config_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
        self.count += 1;
        let (os, architecture, variant) = self.config(descriptor);
        let says = architecture & FLAG == 0;
        let platform = || {
            Platform::new(pick(&SYSTEMS, os), pick(&ARCHITECTURES, architecture), pick(&VARIANTS, variant))
        };
        Ok(says.then(platform))
    }

    fn is_there(&mut self, descriptor: &Descriptor) -> bool {
        self.config(descriptor).0 & FLAG == 0
    }
}

impl Lookups<'_> {
    fn config(&self, descriptor: &Descriptor) -> (u8, u8, u8) {
        self.input.entries.0.get(descriptor.size as usize).map_or((0, 0, 0), |entry| entry.config)
    }
}

/// Whether an entry says itself what it runs on: such a one comes before all whose config has to be asked.
fn is_labelled(entry: &Seen) -> bool {
    entry
        .descriptor
        .platform
        .as_ref()
        .is_some_and(|field| !field.os.is_empty() && !field.architecture.is_empty())
}

fuzz_target!(|input: Input<'_>| {
    let (machine, cpuinfo) = BOARDS[usize::from(input.board) % BOARDS.len()];
    let inputs = Inputs { machine: Some(machine), cpuinfo: Some(cpuinfo.as_bytes()), ..Inputs::default() };
    let host = Host::detect(&inputs).expect("a board");
    let Ok(Document::Index(top)) = parsed(&index(&input.entries.0)) else { return };
    let mut lookups = Lookups { input: &input, count: 0 };
    let ask = if input.board & FLAG == 0 { Ask::IfNoLabelFits } else { Ask::Always };
    let selected = memory::within(4 << 20, || select(top, &host, ask, &mut lookups));
    assert!(lookups.count <= LOOKUPS_MAX, "{} lookups", lookups.count);
    let Selection { entries, unusable, taken, .. } = match &selected {
        Ok(selection) => selection,
        Err(error) => return assert_message(&error.to_string()),
    };
    let runs = |platform: &Platform| host.candidates.iter().position(|one| one.platform == *platform);
    let count = entries.iter().filter(|entry| entry.verdict == Verdict::Taken).count();
    assert_eq!(count, usize::from(taken.is_some()));
    if let Some((at, candidate)) = *taken {
        let entry = &entries[at];
        let platform = entry.platform.as_ref().expect("it is an image");
        assert_eq!(*platform, host.candidates[candidate].platform);
        assert!(check_single(platform, &host).is_ok());
        assert!(entry.descriptor.is_manifest() && !entry.descriptor.is_attestation());
        let field = entry.descriptor.platform.as_ref();
        let features = field.map(|field| field.features.clone()).unwrap_or_default();
        assert!(features.iter().all(|feature| host.has_feature(feature) == Some(true)), "{features:?}");
    }
    // Nothing better, or that comes first, was left.
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.verdict == Verdict::Runnable) {
        let (taken, best) = taken.expect("there was one");
        let rank = runs(entry.platform.as_ref().expect("it is an image")).expect("it runs here");
        let taken_first = (!is_labelled(&entries[taken]), best, taken);
        assert!(taken_first < (!is_labelled(entry), rank, at), "{at} is better than {taken}");
    }
    for entry in entries {
        assert_message(&entry.verdict.text());
    }
    for entry in unusable {
        assert_message(&entry.why);
    }
    if taken.is_none() {
        assert_message(&selected.as_ref().expect("as above").refusal(&host).to_string());
    }
});
