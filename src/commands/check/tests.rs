//! Whole images, fetched and unpacked in the confined process, and what is said of them.

use super::*;
use crate::image::elf::tests::arm_program;
use crate::sandbox::{self, Line};
use crate::source::Fetched;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout that is being written.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Bench(directory)
    }

    fn place(&self, digest: &str) -> PathBuf {
        self.0.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    /// Stores a blob. Its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        fs::write(self.place(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// An image whose layers have these files; it runs /app. Its manifest's descriptor, without a platform.
    fn image(&self, platform: &str, layers: &[&[(&str, &[u8])]]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|files| self.blob(LAYER, &tar_of(files))).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let mut config = platform_of(platform);
        config["config"] = json!({ "Cmd": ["/app"] });
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        self.manifest(self.blob(CONFIG, config.to_string().as_bytes()), &layers)
    }

    fn manifest(&self, config: Value, layers: &[Value]) -> Value {
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// An image that runs one program, in an entry with its platform.
    fn entry(&self, platform: &str, program: &[u8]) -> Value {
        labelled(self.image(platform, &[&[("app", program)]]), platform)
    }

    fn index(&self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// The layout's only image is what `descriptor` points at.
    fn reference(&self, descriptor: Value) -> Reference {
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(self.0.path().join("index.json"), index.to_string()).unwrap();
        format!("oci:{}", self.0.path().display()).parse().unwrap()
    }

    fn look(&self, descriptor: Value) -> Result<(Digest, Vec<Checked>)> {
        let options = Options { quiet: true, ..Options::default() };
        look(&self.reference(descriptor), &options, &Arc::default())
    }
}

fn labelled(mut descriptor: Value, platform: &str) -> Value {
    descriptor["platform"] = platform_of(platform);
    descriptor
}

fn platform_of(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    let mut platform = json!({ "os": parts[0], "architecture": parts[1] });
    if let Some(variant) = parts.get(2) {
        platform["variant"] = json!(variant);
    }
    platform
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        // Somebody else's: without root this cannot be kept, and does not matter.
        header.set_uid(4711);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn v6() -> Vec<u8> {
    arm_program(0x0500_0400, &[6, 6, 10, 2, 28, 1])
}

fn v7() -> Vec<u8> {
    arm_program(0x0500_0400, &[6, 10, 10, 4, 28, 1])
}

fn fits() -> Outcome {
    Outcome::Fits(vec!["/app".into()])
}

fn lie() -> Outcome {
    Outcome::Lies(vec!["/app: it is ARMv7 code; label it linux/arm/v7".into()])
}

fn platforms(rows: &[Checked]) -> Vec<&str> {
    rows.iter().map(|row| row.platform.as_deref().unwrap_or(UNLABELLED)).collect()
}

#[test]
fn every_entry_gets_its_verdict_in_its_place() {
    let bench = Bench::new();
    let (honest, lying) = (bench.entry("linux/arm/v7", &v7()), bench.entry("linux/arm/v6", &v7()));
    let nested = bench.index(&[lying, bench.image("linux/arm/v6", &[&[("app", &v6())]])]);
    // By its annotation alone: as an image, it would be a lie.
    let mut attestation = bench.entry("linux/arm/v6", &v7());
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let unknown = labelled(bench.image("unknown/unknown", &[]), "unknown/unknown");
    let chart = bench.manifest(bench.blob("application/vnd.example.chart+json", b"{}"), &[]);
    let windows = bench.entry("windows/amd64", b"MZ");
    let top = bench.index(&[honest, nested, attestation, unknown, chart, windows]);
    let (digest, rows) = bench.look(top.clone()).unwrap();
    assert_eq!(json!(digest), top["digest"]);
    assert_eq!(
        platforms(&rows),
        ["linux/arm/v7", "linux/arm/v6", "-", "linux/arm/v6", "unknown/unknown", "-", "windows/amd64"]
    );
    assert_eq!(rows[0].outcome, fits());
    assert_eq!(rows[1].outcome, lie());
    assert!(matches!(&rows[2].outcome, Outcome::Lies(lies) if lies[0].contains("no platform")));
    let unchecked = |row: &Checked| matches!(row.outcome, Outcome::Unchecked(_));
    assert!(rows[3..].iter().all(unchecked), "{rows:?}");
    assert_eq!(lies(&rows), 2);
}

#[test]
fn a_single_image_is_held_against_its_config() {
    let bench = Bench::new();
    let mut image = bench.image("linux/arm/v6", &[&[("app", &v7())]]);
    let (digest, rows) = bench.look(image.clone()).unwrap();
    assert_eq!(rows, [Checked { platform: Some("linux/arm/v6".into()), digest, outcome: lie() }]);
    image = bench.image("linux/arm/v6", &[&[("app", &v6())]]);
    assert_eq!(bench.look(image).unwrap().1[0].outcome, fits());
}

#[test]
fn upper_layers_decide_what_is_run() {
    let bench = Bench::new();
    let layers: [&[(&str, &[u8])]; 3] = [&[("app", &v7())], &[(".wh.app", b"")], &[("app", &v6())]];
    assert_eq!(bench.look(bench.image("linux/arm/v6", &layers)).unwrap().1[0].outcome, fits());
}

#[test]
fn what_cannot_be_read_is_no_verdict_but_an_error_that_names_the_entry() {
    let bench = Bench::new();
    let (good, bad) = (bench.entry("linux/arm/v6", &v6()), bench.entry("linux/arm/v7", &v7()));
    let layer = Digest::of(&tar_of(&[("app", &v7())])).to_string();
    let mut bytes = fs::read(bench.place(&layer)).unwrap();
    bytes[600] ^= 1;
    fs::write(bench.place(&layer), bytes).unwrap();
    let name = format!("entry linux/arm/v7 {}", bad["digest"].as_str().unwrap());
    let error = bench.look(bench.index(&[good.clone(), bad])).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification, "{error}");
    assert!(error.to_string().contains(&name) && error.to_string().contains("layer 1/1"), "{error}");

    let diff_id = Digest::of(b"not a tar").to_string();
    let config = json!({ "os": "linux", "architecture": "arm", "variant": "v6",
        "rootfs": { "type": "layers", "diff_ids": [diff_id] } });
    let config = bench.blob(CONFIG, config.to_string().as_bytes());
    let broken = bench.manifest(config, &[bench.blob(LAYER, b"not a tar")]);
    let error = bench.look(bench.index(&[good, labelled(broken, "linux/arm/v6")])).unwrap_err();
    assert_eq!(error.kind(), Kind::BadImage, "{error}");
    assert!(error.to_string().contains("entry linux/arm/v6 sha256:"), "{error}");
}

/// A layout that counts how often its layers are asked for.
struct Counting(Box<dyn Source>, Vec<Digest>);

impl Source for Counting {
    fn root(&mut self) -> Result<Fetched> {
        self.0.root()
    }
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.0.manifest(descriptor)
    }
    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.0.config(descriptor)
    }
    fn files(&self) -> Vec<PathBuf> {
        self.0.files()
    }
    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.1.push(descriptor.digest);
        self.0.layer(descriptor, offset)
    }
}

#[test]
fn a_layer_in_common_is_fetched_once_and_the_disk_holds_one_image() {
    let bench = Bench::new();
    let (common, six, seven): (&[(&str, &[u8])], _, _) = (&[("etc/x", b"x")], v6(), v7());
    let image = |platform: &str, program: &[u8]| {
        labelled(bench.image(platform, &[common, &[("app", program)]]), platform)
    };
    let entries = [image("linux/arm/v6", &six), image("linux/arm/v7", &seven)];
    let reference = bench.reference(bench.index(&entries));
    let source = open(&reference, &Options::default(), &Arc::default()).unwrap();
    let mut source = Counting(source, Vec::new());
    let temporary = Temporary::new().unwrap();
    let kept = || fs::read_dir(temporary.directory().join("layers/sha256")).unwrap().count();
    let writable = vec![temporary.directory().to_owned()];
    let rights = Rights { writable, readable: source.files(), ..Rights::default() };
    // In a process of its own, for fetching changes the umask, which other tests share.
    let work = |_: &mut Line| {
        let mut seen = Vec::new();
        let told = &mut |row: Checked| {
            seen.push((row.outcome, kept()));
            Ok(())
        };
        each(&temporary, &mut source, told)?;
        Ok((seen, source.1))
    };
    let (seen, asked): (Vec<(Outcome, usize)>, Vec<Digest>) =
        sandbox::run(&rights, work, |_| Ok(true)).unwrap();
    assert_eq!(seen, [(fits(), 2), (fits(), 2)], "the entry's layers are there, and nobody else's");
    let layers = [common, &[("app", &six)], &[("app", &seven)]].map(|files| Digest::of(&tar_of(files)));
    assert_eq!(asked, layers);
}

fn rows() -> Vec<Checked> {
    let two = vec!["one".to_owned(), "two \x1b[2J".to_owned()];
    let row = |platform: Option<&str>, outcome| Checked {
        platform: platform.map(str::to_owned),
        digest: Digest([0xab; 32]),
        outcome,
    };
    vec![
        row(Some("linux/arm/v6"), Outcome::Fits(vec!["/run".into(), "/bin/sh".into()])),
        row(None, Outcome::Lies(two)),
        row(Some("unknown/unknown"), Outcome::Unchecked("an attestation".into())),
    ]
}

#[test]
fn the_table_has_a_line_for_each_lie() {
    assert_eq!(
        table(&rows()),
        [
            "PLATFORM         DIGEST               VERDICT",
            "linux/arm/v6     sha256:abababababab  fits: /run, /bin/sh",
            "-                sha256:abababababab  LIE: one",
            "                                      LIE: two \\u{1b}[2J",
            "unknown/unknown  sha256:abababababab  not checked: an attestation",
        ]
    );
}

#[test]
fn the_json_says_the_same() {
    let image: Reference = "oci:x".parse().unwrap();
    let digest = Digest([0xab; 32]);
    let entry = |platform: Value, verdict: &str, files: Value, why: Value| json!({ "platform": platform, "digest": digest, "verdict": verdict, "files": files, "why": why });
    let entries = [
        entry(json!("linux/arm/v6"), "fits", json!(["/run", "/bin/sh"]), json!([])),
        entry(Value::Null, "lie", json!([]), json!(["one", "two \x1b[2J"])),
        entry(json!("unknown/unknown"), "unchecked", json!([]), json!(["an attestation"])),
    ];
    let expected = json!({ "image": "oci:x", "digest": digest, "entries": entries, "lies": 1 });
    assert_eq!(as_json(&image, digest, &rows()), expected);
}

#[test]
fn a_lie_is_the_exit_code_of_a_bad_image() {
    let error = refusal(&rows()).unwrap();
    assert_eq!(error.kind().exit_code(), 8);
    assert!(error.to_string().starts_with("1 of 3 entries are not what their labels say"), "{error}");
    assert!(refusal(&rows()[..1]).is_none() && refusal(&rows()[2..]).is_none());
    let single = refusal(&rows()[1..2]).unwrap().to_string();
    assert!(single.starts_with("the image is not what its label says"), "{single}");
}
