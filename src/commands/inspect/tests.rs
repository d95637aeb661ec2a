use super::*;
use crate::error::Kind;
use crate::image::manifest::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::platform::Inputs;
use crate::platform::families::FAMILIES;
use crate::source;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read;

/// Documents by digest, and how often one was asked for.
#[derive(Default)]
struct Shelf {
    documents: HashMap<[u8; 32], Vec<u8>>,
    root: Option<Fetched>,
    asked: usize,
    /// For which documents there is no answer, and of which kind the error is.
    silent: HashMap<[u8; 32], Kind>,
}

impl Shelf {
    fn put(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let descriptor =
            json!({ "mediaType": media_type, "digest": Digest::of(&bytes), "size": bytes.len() });
        self.documents.insert(Digest::of(&bytes).0, bytes);
        descriptor
    }

    /// An image for `platform`, with this config and these annotations of its manifest.
    fn image(&mut self, platform: &str, config: Value, annotations: Value) -> Value {
        let mut parts = platform.splitn(3, '/');
        let mut label = json!({ "os": parts.next(), "architecture": parts.next() });
        if let Some(variant) = parts.next() {
            label["variant"] = variant.into();
        }
        let mut whole = label.clone();
        whole["config"] = config;
        let config = self.put(OCI_CONFIG, &whole);
        let layer = json!({ "mediaType": OCI_LAYER, "digest": Digest::of(platform.as_bytes()), "size": 7 });
        let manifest = json!({ "config": config, "layers": [layer], "annotations": annotations });
        let mut descriptor = self.put(OCI_MANIFEST, &manifest);
        descriptor["platform"] = label;
        descriptor
    }

    fn plain(&mut self, platform: &str) -> Value {
        self.image(platform, json!({}), json!({}))
    }

    /// An attestation about the entry `about`, as BuildKit writes it.
    fn attestation(&mut self, about: &Value) -> Value {
        let layer = |predicate_type: &str| {
            json!({
                "mediaType": "application/vnd.in-toto+json", "digest": Digest::of(predicate_type.as_bytes()), "size": 9,
                "annotations": { "in-toto.io/predicate-type": predicate_type },
            })
        };
        let config = self.put(OCI_CONFIG, &json!({ "architecture": "unknown", "os": "unknown" }));
        let layers = ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"].map(layer);
        let mut descriptor = self.put(OCI_MANIFEST, &json!({ "config": config, "layers": layers }));
        descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        descriptor["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about["digest"],
        });
        descriptor
    }

    fn is(&mut self, media_type: &str, document: &Value) {
        let bytes = document.to_string().into_bytes();
        self.root = Some(Fetched { digest: Digest::of(&bytes), media_type: media_type.into(), bytes });
    }

    /// An index of entries that are written as they are.
    fn is_text(&mut self, bytes: Vec<u8>) {
        self.root = Some(Fetched { digest: Digest::of(&bytes), media_type: OCI_INDEX.into(), bytes });
    }

    fn is_index(&mut self, entries: &[Value]) {
        self.is(OCI_INDEX, &json!({ "manifests": entries }));
    }

    fn get(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.asked += 1;
        if let Some(kind) = self.silent.get(&descriptor.digest.0) {
            return Err(Error::new(*kind, "no answer"));
        }
        let (digest, media_type) = (descriptor.digest, descriptor.media_type.clone());
        match self.documents.get(&digest.0) {
            Some(bytes) => Ok(Fetched { bytes: bytes.clone(), digest, media_type }),
            None => Err(Error::new(Kind::NotFound, format!("{digest} is not there"))),
        }
    }

    fn inspect(&mut self, deeply: bool) -> Inspected {
        let board = Inputs { machine: Some("armv7l"), ..Inputs::default() };
        let root = self.root().unwrap();
        inspect(root, &Host::detect(&board).unwrap(), deeply, self).unwrap()
    }

    fn json(&mut self) -> Value {
        told(&self.inspect(true))
    }
}

impl Source for Shelf {
    fn root(&mut self) -> Result<Fetched> {
        Ok(self.root.clone().expect("a test says what it is"))
    }
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.get(descriptor)
    }
    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.get(descriptor)
    }
    fn layer(&mut self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
        unreachable!("nobody reads layers")
    }
}

fn told(inspected: &Inspected) -> Value {
    let board = Inputs { machine: Some("armv7l"), ..Inputs::default() };
    let image = "oci:image".parse::<Reference>().unwrap();
    serde_json::to_value(inspected.as_json(&image, &Host::detect(&board).unwrap())).unwrap()
}

/// `ARMv6: linux/arm/v6 best` of each family; of those that do not get the best, why.
fn coverage(told: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |served: &Value| {
        let how = text(&served["how"]);
        let why = if how == "best" { String::new() } else { format!(": {}", text(&served["why"])) };
        assert_eq!(served["platform"].is_null(), served["digest"].is_null(), "{served}");
        format!("{}: {} {how}{why}", text(&served["family"]), text(&served["platform"]))
    };
    told["coverage"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn the_example_serves_all_of_its_boards() {
    let name = format!("oci:{}/examples/hello", env!("CARGO_MANIFEST_DIR"));
    let image = name.parse::<Reference>().unwrap();
    let mut source = source::open(&image, &source::Options::default()).unwrap();
    let host = Host::detect(&Inputs { machine: Some("armv6l"), ..Inputs::default() }).unwrap();
    let root = source.root().unwrap();
    let inspected = inspect(root, &host, false, &mut *source).unwrap();
    let lines = inspected.lines();
    assert_eq!(lines[7], format!("this board takes linux/arm/v6 {}", inspected.rows[2].digest));
    assert_eq!(lines[8..10], ["", "coverage:"], "nothing else, where little was asked for");
    assert_eq!(lines.len(), 10 + FAMILIES.len());
    for line in [
        "  ARMv5            Kirkwood NAS, i.MX28, AT91SAM9     linux/arm/v5    best",
        "  ARMv7, no VFP    Broadcom Northstar routers         linux/arm/v5    best",
        "  ARMv8, mixed     Raspberry Pi 4, 32-bit userland    linux/arm/v7    best",
        "  RISC-V, 64-bit   VisionFive 2, LicheePi 4A          refused         no linux/riscv64",
        "  x86-64           every 64-bit PC                    linux/amd64     best",
    ] {
        assert!(lines.iter().any(|one| one == line), "no {line:?} in {lines:#?}");
    }
}

#[test]
fn families_fall_back_or_are_refused_as_their_boards_are() {
    let mut shelf = Shelf::default();
    let entries = ["linux/arm/v6", "linux/s390x"].map(|platform| shelf.plain(platform));
    shelf.is_index(&entries);
    let inspected = shelf.inspect(false);
    let asked = shelf.asked;
    assert_eq!(
        coverage(&told(&inspected)),
        [
            "ARMv5: - refused: no linux/arm/v5",
            "ARMv6: linux/arm/v6 best",
            "ARMv7, no VFP: - refused: no linux/arm/v5",
            "ARMv7, no NEON: linux/arm/v6 fallback: no linux/arm/v7",
            "ARMv7: linux/arm/v6 fallback: no linux/arm/v7",
            "ARMv8, 32-bit: linux/arm/v6 fallback: no linux/arm/v7",
            "ARMv8, mixed: linux/arm/v6 fallback: no linux/arm/v7",
            "ARMv8, 64-bit: linux/arm/v6 fallback: no linux/arm64/v8",
            "ARMv8.2, 64-bit: linux/arm/v6 fallback: no linux/arm64/v8",
            "Arm 64-bit only: - refused: no linux/arm64/v8",
            "RISC-V, 64-bit: - refused: no linux/riscv64",
            "x86-64: - refused: no linux/amd64, no fallback",
        ]
    );
    assert_eq!(asked, 2, "every manifest once, however many boards there are");
    let widest = inspected.closer.lines(&inspected.rows).iter().map(|line| line.chars().count()).max();
    assert!(widest.unwrap() <= 100, "{widest:?}");
}

#[test]
fn the_picture_is_what_each_board_takes() {
    let mut shelf = Shelf::default();
    let mute = {
        let mut image = shelf.plain("linux/arm/v5");
        image.as_object_mut().unwrap().remove("platform");
        image
    };
    let mut neon = shelf.plain("linux/arm/v7");
    neon["platform"]["features"] = json!(["neon"]);
    let nested = [shelf.plain("linux/arm64/v8.2"), shelf.plain("linux/386")];
    let nested = shelf.put(OCI_INDEX, &json!({ "manifests": nested }));
    shelf.is_index(&[neon, nested, mute]);
    let coverage = shelf.json()["coverage"].clone();
    let root = shelf.root().unwrap();
    for (at, family) in FAMILIES.iter().enumerate() {
        let inspected = inspect(root.clone(), &family.host(), false, &mut shelf).unwrap();
        let taken = inspected.rows.iter().find(|row| row.is_taken);
        let digest = taken.map(|row| row.digest.to_string());
        assert_eq!(coverage[at]["digest"].as_str(), digest.as_deref(), "{}", family.name);
        let served = (coverage[at]["how"].as_str().unwrap(), coverage[at]["why"].as_str().unwrap());
        match family.name {
            "ARMv7, no NEON" => assert_eq!(served, ("fallback", "linux/arm/v7 needs neon")),
            "ARMv8.2, 64-bit" => assert_eq!(served, ("fallback", "no linux/arm64/v8")),
            "x86-64" => assert_eq!(coverage[at]["platform"], "linux/386"),
            _ => {}
        }
    }
}

#[test]
fn a_single_image_serves_whoever_runs_it() {
    let mut shelf = Shelf::default();
    let notes = json!({ "org.opencontainers.image.version": "1.2" });
    let image = shelf.image("linux/amd64", json!({ "Cmd": ["/a"], "User": "app" }), notes.clone());
    let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    let bytes = shelf.documents[&digest.0].clone();
    shelf.root = Some(Fetched { bytes, digest, media_type: OCI_MANIFEST.into() });
    let told = shelf.json();
    let served: Vec<_> = coverage(&told).into_iter().filter(|line| !line.contains(": - refused")).collect();
    assert_eq!(served, ["x86-64: linux/amd64 best"]);
    assert_eq!((&told["annotations"], &told["size"]), (&notes, &image["size"]));
    let entry = &told["entries"][0];
    assert_eq!((&entry["os"], &entry["architecture"]), (&json!("linux"), &json!("amd64")));
    assert_eq!((&entry["taken"], &entry["manifestAnnotations"]), (&json!(false), &notes));
    assert_eq!((&entry["config"]["cmd"], &entry["config"]["user"]), (&json!(["/a"]), &json!("app")));
    assert!(told["refusal"].as_str().unwrap().contains("linux/amd64 and nothing else"), "{told}");
}

#[test]
fn entries_are_told_as_they_are_written() {
    let mut shelf = Shelf::default();
    let config = json!({
        "Entrypoint": ["/bin/a", "b c"], "WorkingDir": "/srv", "Env": ["A=1", "B=2"], "Labels": { "l": "m" },
    });
    let mut image = shelf.image("linux/armhf", config, json!({ "of": "the manifest" }));
    image["annotations"] = json!({ "of": "the entry", "odd": 1 });
    image["platform"]["os.version"] = "10.0".into();
    image["platform"]["os.features"] = json!(["win32k"]);
    image["platform"]["features"] = json!(["neon"]);
    let mut artifact = json!({ "mediaType": "application/x", "digest": Digest::of(b"x"), "size": 1 });
    artifact["artifactType"] = "application/vnd.example".into();
    shelf.is(OCI_INDEX, &json!({ "manifests": [image, artifact], "annotations": { "of": "the index" } }));
    let told = shelf.json();
    assert_eq!(told["annotations"], json!({ "of": "the index" }));
    let entry = &told["entries"][0];
    for (key, value) in [
        ("platform", json!("linux/arm/v7")),
        ("architecture", json!("armhf")),
        ("variant", json!(null)),
        ("osVersion", json!("10.0")),
        ("osFeatures", json!(["win32k"])),
        ("features", json!(["neon"])),
        ("annotations", json!({ "of": "the entry" })),
        ("leftOut", json!(1)),
        ("manifestAnnotations", json!({ "of": "the manifest" })),
        ("manifestSize", image["size"].clone()),
        (
            "layerDetails",
            json!([{ "mediaType": OCI_LAYER, "digest": Digest::of(b"linux/armhf"), "size": 7 }]),
        ),
        ("attestationFor", json!(null)),
    ] {
        assert_eq!(entry[key], value, "{key}");
    }
    for (key, value) in [
        ("architecture", json!("armhf")),
        ("entrypoint", json!(["/bin/a", "b c"])),
        ("workingDir", json!("/srv")),
        ("env", json!(["A=1", "B=2"])),
        ("user", json!(null)),
        ("diffIds", json!(0)),
        ("labels", json!({ "l": "m" })),
    ] {
        assert_eq!(entry["config"][key], value, "{key}");
    }
    assert_eq!(told["entries"][1]["artifactType"], "application/vnd.example");
}

#[test]
fn annotations_of_nested_entries_stay_with_them() {
    let mut shelf = Shelf::default();
    let named = |shelf: &mut Shelf, platform: &str, name: &str| {
        let mut image = shelf.plain(platform);
        image["annotations"] = json!({ "name": name });
        image
    };
    let inner = [named(&mut shelf, "linux/arm/v5", "b"), named(&mut shelf, "linux/arm/v6", "c")];
    let inner = shelf.put(OCI_INDEX, &json!({ "manifests": inner }));
    // The same index twice: it has to be read twice, too.
    let entries =
        [named(&mut shelf, "linux/arm/v7", "a"), inner.clone(), named(&mut shelf, "linux/amd64", "d"), inner];
    shelf.is_index(&entries);
    let told = shelf.json();
    let entries = told["entries"].as_array().unwrap().iter();
    let seen: Vec<_> = entries
        .map(|entry| (entry["platform"].as_str().unwrap(), entry["annotations"]["name"].as_str().unwrap()))
        .collect();
    let (v5, v6) = (("linux/arm/v5", "b"), ("linux/arm/v6", "c"));
    assert_eq!(seen, [("linux/arm/v7", "a"), v5, v6, ("linux/amd64", "d"), v5, v6]);
}

#[test]
fn an_attestation_is_shown_below_what_it_is_about() {
    let mut shelf = Shelf::default();
    let images = ["linux/arm/v6", "linux/arm/v7"].map(|platform| shelf.plain(platform));
    let below = shelf.attestation(&images[0]);
    let mut alone = shelf.attestation(&images[0]);
    alone["annotations"]["vnd.docker.reference.digest"] = alone["digest"].clone();
    shelf.is_index(&[images[0].clone(), images[1].clone(), below.clone(), alone]);
    let inspected = shelf.inspect(true);
    let told = told(&inspected);
    assert_eq!(told["entries"][2]["attestationFor"], images[0]["digest"]);
    assert_eq!(
        told["entries"][2]["layerDetails"][1]["predicateType"],
        json!("https://slsa.dev/provenance/v1")
    );
    let lines = inspected.closer.lines(&inspected.rows);
    let at = |text: &str| lines.iter().position(|line| line.starts_with(text)).unwrap_or(usize::MAX);
    let (v6, v7) = (at("linux/arm/v6"), at("linux/arm/v7"));
    let attested = at(&format!("  attestation  {}, ", below["digest"].as_str().unwrap()));
    assert!(v6 < attested && attested < v7, "{lines:#?}");
    assert!(lines[attested + 2].ends_with("https://slsa.dev/provenance/v1"), "{lines:#?}");
    // One about itself is below nothing, and shown all the same.
    let title = format!("attestation  {}", told["entries"][3]["digest"].as_str().unwrap());
    assert!(v7 < at(&title) && at(&title) < usize::MAX, "{lines:#?}");
}

#[test]
fn what_is_not_there_is_told_beside_the_rest() {
    let mut shelf = Shelf::default();
    let image = shelf.plain("linux/arm/v7");
    let attestation = shelf.attestation(&image);
    let digest = |value: &Value| value["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    let manifest: Value = serde_json::from_slice(&shelf.documents[&digest(&image).0]).unwrap();
    shelf.documents.remove(&digest(&attestation).0);
    shelf.documents.remove(&digest(&manifest["config"]).0);
    shelf.is_index(&[image, attestation]);
    let inspected = shelf.inspect(true);
    let told = told(&inspected);
    for entry in told["entries"].as_array().unwrap() {
        assert!(entry["problems"][0].as_str().unwrap().contains("is not there"), "{entry}");
    }
    assert_eq!((&told["entries"][0]["taken"], &told["entries"][0]["config"]), (&json!(true), &json!(null)));
    let lines = inspected.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("  unknown ")).count(), 2, "{lines:#?}");
}

/// Values that a field may have by mistake.
fn odd_values() -> Vec<String> {
    let plain =
        ["null", "\"\"", "5", "-1", "1e999", "0.5", "[]", "{}", "true", "[null,[],{}]", r#""\ud800""#];
    let huge = format!("{:?}", "x".repeat(200_000));
    let many = format!("[{}0]", "0,".repeat(5000));
    let map = format!("{{{}\"a\":[{{}}],\"a\":1}}", "\"a\":\"b\",".repeat(100));
    plain.map(str::to_owned).into_iter().chain([huge, many, map]).collect()
}

/// Every field of the second of three entries is in turn missing and of every other kind: the others keep what is theirs,
/// and what cannot be used is told with its reason.
#[test]
fn an_odd_entry_is_a_line() {
    let mut shelf = Shelf::default();
    let mut named = |platform: &str, name: &str| {
        let mut image = shelf.plain(platform);
        image["annotations"] = json!({ "name": name });
        image.to_string()
    };
    let (first, last) = (named("linux/arm/v7", "first"), named("linux/arm64/v8", "last"));
    let whole: serde_json::Map<String, Value> = serde_json::from_str(&named("linux/arm/v6", "odd")).unwrap();
    let mut entries: Vec<String> = odd_values();
    for value in odd_values() {
        for field in ["mediaType", "digest", "size", "platform", "annotations", "artifactType"] {
            let others = whole.iter().filter(|(name, _)| *name != field);
            let others: String = others.map(|(name, value)| format!(",{name:?}:{value}")).collect();
            entries.push(format!("{{{field:?}:{value}{others}}}"));
        }
    }
    for field in whole.keys() {
        let mut less = whole.clone();
        less.remove(field);
        entries.push(Value::Object(less).to_string());
    }
    for algorithm in ["sha512", "blake3"] {
        entries.push(json!({ "digest": format!("{algorithm}:{}", "b".repeat(128)), "size": 5 }).to_string());
    }
    for odd in entries {
        shelf.is_text(format!(r#"{{"manifests":[{first},{odd},{last}]}}"#).into_bytes());
        let inspected = shelf.inspect(true);
        let (told, lines) = (told(&inspected), inspected.lines());
        let told = told["entries"].as_array().unwrap();
        assert_eq!(told.len(), 3, "{odd:.99}");
        assert_eq!((&told[0]["annotations"]["name"], &told[0]["taken"]), (&json!("first"), &json!(true)));
        let of_last = told.iter().filter(|entry| entry["annotations"]["name"] == "last");
        assert!(of_last.count() == 1, "{odd:.99}");
        for entry in told.iter().filter(|entry| entry.get("unusable").is_some()) {
            assert!(entry["unusable"].as_str().unwrap().starts_with("it"), "{entry}");
            assert!(entry.to_string().len() < 2000, "{}", entry.to_string().len());
            let is_shown = |line: &&String| line.starts_with("  unusable     it");
            assert_eq!(lines.iter().filter(is_shown).count(), 1, "{lines:#?}");
        }
    }
    // What can be told of it is.
    let odd = json!({
        "mediaType": "application/x", "digest": "sha512:b", "size": 7, "artifactType": "application/y",
        "platform": { "os": "linux", "architecture": "arm" }, "annotations": { "name": "odd" },
    });
    shelf.is_text(format!(r#"{{"manifests":[{odd},{first}]}}"#).into_bytes());
    let told = shelf.json();
    let entry = &told["entries"][1];
    assert_eq!(entry["unusable"], "its digest cannot be checked: it is of sha512, not sha256");
    for field in ["mediaType", "digest", "artifactType", "annotations"] {
        assert_eq!(entry[field], odd[field], "{field}");
    }
    assert_eq!((&entry["manifestSize"], &entry["architecture"]), (&json!(7), &json!("arm")));
}

/// Go takes all of these, and so do people who look at an image with it.
#[test]
fn odd_documents_are_shown_as_far_as_they_can_be_read() {
    for value in odd_values() {
        let mut shelf = Shelf::default();
        let layer = format!(
            r#"{{"digest":"{}","size":7,"annotations":{value},"mediaType":{value},"mediaType":"x"}}"#,
            Digest::of(b"layer")
        );
        let mut put = |media_type: &str, text: String| {
            let digest = Digest::of(text.as_bytes());
            let size = text.len();
            shelf.documents.insert(digest.0, text.into_bytes());
            format!(r#""mediaType":"{media_type}","digest":"{digest}","size":{size}"#)
        };
        let config = put(
            OCI_CONFIG,
            format!(
                r#"{{"os":"linux","architecture":"arm","created":{value},"history":{value},"author":{value},
                "config":{{"Labels":{value},"Env":{value},"User":{value}}}}}"#
            ),
        );
        let manifest = format!(
            r#"{{"artifactType":{value},"annotations":{value},"subject":{value},"layers":[],"layers":[{layer}],
            "config":{{"digest":"x",{config}}}}}"#
        );
        let manifest = put(OCI_MANIFEST, manifest);
        let about = r#""annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
        let index = format!(
            r#"{{"manifests":[],"manifests":[{{{manifest},"platform":{{"os":"linux","architecture":"arm"}}}},
            {{{manifest},{about}}}],"annotations":{value},"subject":{value}}}"#
        );
        shelf.is_text(index.replace("linux", "linux\u{fffd}").into_bytes());
        shelf.inspect(true);
        let bytes = [b"{\"x\":\"\xff\",".as_slice(), &index.as_bytes()[1..]].concat();
        shelf.is_text(bytes);
        let told = shelf.json();
        let entries = told["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 2, "{value:.99}");
        assert_eq!((&entries[0]["taken"], &entries[0]["layers"]), (&json!(true), &json!(1)), "{value:.99}");
        assert_eq!(entries[1]["layerDetails"].as_array().unwrap().len(), 1, "{value:.99}");
        let is_told = entries[0]["config"].is_object() || entries[0]["problems"].is_array();
        assert!(is_told, "{value:.99}: {}", entries[0]);
        if value == "[]" {
            assert_eq!((&told["leftOut"], &told["annotations"]), (&json!(1), &json!({})), "{told}");
        }
    }
}

/// Whatever is not answered but the list is a line, as a pull that does not need it goes on, too.
#[test]
fn what_is_not_answered_is_a_line() {
    let digest = |value: &Value| value["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    for kind in [Kind::Auth, Kind::Network, Kind::Disk, Kind::Usage, Kind::Other] {
        let mut shelf = Shelf::default();
        let images = ["linux/arm/v7", "linux/arm64/v8"].map(|platform| shelf.plain(platform));
        let attestation = shelf.attestation(&images[0]);
        let config = {
            let manifest: Value = serde_json::from_slice(&shelf.documents[&digest(&images[0]).0]).unwrap();
            digest(&manifest["config"])
        };
        let inner = shelf.plain("linux/386");
        let nested = shelf.put(OCI_INDEX, &json!({ "manifests": [inner] }));
        let mut mute = shelf.plain("linux/riscv64");
        mute.as_object_mut().unwrap().remove("platform");
        let plain = [images[0].clone(), images[1].clone(), attestation.clone(), nested.clone(), mute.clone()];
        shelf.is_index(&plain);
        let verdicts = |told: &Value| -> Vec<String> {
            let of = |entry: &Value| entry["unusable"].as_str().unwrap_or_default().to_owned();
            told["entries"].as_array().unwrap().iter().map(of).collect()
        };
        const WHY: &str = "could not be asked: no answer";
        for (silent, place, refused) in [
            (digest(&images[1]), 1, false),
            (digest(&mute), 4, false),
            (digest(&images[0]), 0, true),
            (digest(&nested), 3, true),
        ] {
            shelf.silent = HashMap::from([(silent.0, kind)]);
            let inspected = shelf.inspect(true);
            let told = told(&inspected);
            assert_eq!(verdicts(&told)[place], WHY, "{told}");
            assert_eq!(verdicts(&told).iter().filter(|why| !why.is_empty()).count(), 1, "{told}");
            assert_eq!(told["refusal"].is_string(), refused, "{told}");
            assert_eq!(told["entries"][0]["taken"], json!(!refused), "{told}");
            assert!(inspected.lines().iter().any(|line| line.ends_with(WHY)));
            assert_eq!(shelf.inspect(false).rows[place].verdict, WHY);
        }
        for (silent, place) in [(digest(&attestation), 2), (config, 0)] {
            shelf.silent = HashMap::from([(silent.0, kind)]);
            let told = shelf.json();
            assert_eq!(told["entries"][place]["problems"], json!([WHY]), "{told}");
            assert_eq!(told["entries"][0]["taken"], true);
        }
        // Where nothing that is labelled fits, a pull needs to know what the mute one is.
        shelf.is_index(&[images[1].clone(), mute.clone()]);
        shelf.silent = HashMap::from([(digest(&mute).0, kind)]);
        assert!(shelf.json()["refusal"].as_str().unwrap().ends_with("no answer"));
        // And a registry that answers nothing more is not asked a thousand times.
        let many: Vec<Value> = (0..50)
            .map(|at| shelf.image("linux/arm/v7", json!({ "User": at.to_string() }), json!({})))
            .collect();
        shelf.is_index(&many);
        shelf.silent = many.iter().map(|image| (digest(image).0, kind)).collect();
        shelf.asked = 0;
        let told = shelf.json();
        assert_eq!(shelf.asked, 3);
        assert!(verdicts(&told)[49].contains("others could not be had"), "{told}");
    }
}

#[test]
fn a_terminal_obeys_no_image() {
    const EVIL: &str = "\u{1b}]0;x\u{7}\u{9b}2J\r\nlinux: \u{7f}";
    let mut shelf = Shelf::default();
    let config = json!({
        "Entrypoint": [EVIL], "Cmd": [EVIL], "User": EVIL, "WorkingDir": EVIL, "Env": [EVIL], "Labels": { EVIL: EVIL },
    });
    let mut image = shelf.image("linux/arm/v7", config, json!({ EVIL: EVIL }));
    image["annotations"] = json!({ EVIL: EVIL });
    image["artifactType"] = EVIL.into();
    image["platform"]["variant"] = EVIL.into();
    image["platform"]["os.version"] = EVIL.into();
    image["platform"]["features"] = json!([EVIL]);
    image["platform"]["os.features"] = json!([EVIL]);
    let mut attestation = shelf.attestation(&image);
    attestation["annotations"]["vnd.docker.reference.digest"] = EVIL.into();
    let odd = json!({ "digest": EVIL, "platform": { "os": EVIL, "architecture": EVIL }, "mediaType": EVIL });
    shelf.is(OCI_INDEX, &json!({ "manifests": [image, attestation, odd], "annotations": { EVIL: EVIL } }));
    let inspected = shelf.inspect(true);
    let lines = inspected.lines();
    let obeyed: Vec<_> = lines.iter().filter(|line| line.contains(char::is_control)).collect();
    assert!(obeyed.is_empty(), "{obeyed:#?}");
    let shown = lines.iter().filter(|line| line.contains("]0;x")).count();
    assert!(shown >= 11, "{shown}: {lines:#?}");
    assert_eq!(told(&inspected)["entries"][0]["annotations"], json!({ EVIL: EVIL }));
}

#[test]
fn what_is_kept_of_an_image_is_bounded() {
    let mut shelf = Shelf::default();
    let labels: serde_json::Map<_, _> =
        (0..30).map(|at| (at.to_string(), json!(at.to_string().repeat(250)))).collect();
    let images: Vec<Value> = (0..300)
        .map(|at| {
            let config = json!({ "Labels": labels, "User": at.to_string() });
            shelf.image("linux/arm/v7", config, json!({}))
        })
        .collect();
    shelf.is_index(&images);
    let inspected = shelf.inspect(true);
    let told = told(&inspected);
    assert!((1 << 19..2 << 20).contains(&told.to_string().len()), "{}", told.to_string().len());
    let (first, last) = (&told["entries"][0], &told["entries"][299]);
    assert_eq!((first["config"]["labels"].as_object().unwrap().len(), first["leftOut"].as_u64()), (30, None));
    assert_eq!(last["config"]["labels"].as_object().unwrap().len(), 0);
    assert!(last["leftOut"].as_u64().unwrap() > 30, "{last}");
    assert_eq!((&last["layers"], &last["platform"]), (&json!(1), &json!("linux/arm/v7")), "the row stays");
    assert!(inspected.lines().iter().any(|line| line.contains("more, for limits")));
}
