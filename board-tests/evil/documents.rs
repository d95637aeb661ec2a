//! Indexes, manifests and configs that lie: about digests, sizes, media types, about what they are, and about how deep
//! they are.

use serde_json::{Value, json};

use super::builder::{EvilImage, blob, descriptor, gzipped, index_json, tar};
use super::victim::{By, Expect, Family};
use crate::harness::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn image() -> EvilImage {
    EvilImage::new([tar().dir("d").file("d/f", "first"), tar().file("f", "second")])
}

/// Writes a layout whose one image is the manifest `text`, announced as `media_type`.
fn with_manifest(scratch: &Scratch, media_type: &str, text: &str) -> String {
    image().blobs(scratch, "image");
    let top = blob(scratch, "image", media_type, text.as_bytes());
    index_json(scratch, "image", &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
    format!("oci:{}", scratch.at("image"))
}

/// The manifest of [`image`], changed.
fn changed(change: impl Fn(&mut Value)) -> impl Fn(&Scratch) -> String {
    move |scratch| {
        let mut manifest = image().manifest();
        change(&mut manifest);
        with_manifest(scratch, MANIFEST, &manifest.to_string())
    }
}

fn refused(words: &'static str) -> Expect {
    Expect::Refused(exit::BAD_IMAGE, words)
}

fn verification(words: &'static str) -> Expect {
    Expect::Refused(exit::VERIFICATION, words)
}

fn kept() -> Expect {
    Expect::Kept(vec![("d/f", Some("first")), ("f", Some("second"))])
}

#[test]
fn digests_and_sizes() {
    let mut family = Family::pulled_by("digests and sizes", &[By::Root]).and_deployed();
    family.image("nothing changed", kept(), changed(|_| ()));
    for size in [json!(0), json!(1), json!(u64::MAX), json!(1u64 << 63)] {
        for place in ["config", "layers"] {
            let (size, shown) = (size.clone(), size.to_string());
            let wrong = changed(move |manifest| match place {
                "config" => manifest["config"]["size"] = size.clone(),
                _ => manifest["layers"][0]["size"] = size.clone(),
            });
            let expect = match (place, shown.len()) {
                // More than any disk: not even begun.
                ("layers", 10..) => Expect::Refused(exit::DISK, "the image needs at least"),
                _ => verification("its descriptor says"),
            };
            family.image(&format!("{place} of size {shown}"), expect, wrong);
        }
    }
    for size in
        ["-1", "1e3", "1.5", "\"100\"", "null", "18446744073709551616", "1e400", "[]", "{}", "0x10", "01"]
    {
        let is_json = serde_json::from_str::<Value>(size).is_ok() || size == "1e400";
        let words = if is_json { "the manifest's layer 1: it has" } else { "not valid" };
        family.image(&format!("a size of {size}"), refused(words), move |scratch| {
            let mut manifest = image().manifest();
            manifest["layers"][0]["size"] = json!("SIZE");
            with_manifest(scratch, MANIFEST, &manifest.to_string().replace("\"SIZE\"", size))
        });
    }
    for digest in [
        "".to_owned(),
        "sha256:".into(),
        "sha256:short".into(),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "0".repeat(65)),
        format!("sha256:{}", "../".repeat(21) + "x"),
        "sha256:../../../../../../../etc/passwd".into(),
        "../../victim/passwd".into(),
        format!("sha512:{}", "0".repeat(128)),
        format!("md5:{}", "0".repeat(32)),
        format!("SHA256:{}", "0".repeat(64)),
        format!("sha256:{}\0", "0".repeat(64)),
        format!(" sha256:{}", "0".repeat(64)),
    ] {
        for place in ["/config/digest", "/layers/0/digest"] {
            let digest = digest.clone();
            let what = format!("{place} {}", digest.escape_debug());
            family.image(
                &what,
                refused("its digest cannot be checked"),
                changed(move |manifest| {
                    *manifest.pointer_mut(place).expect("a place") = digest.clone().into();
                }),
            );
        }
    }
    let missing = || Expect::Refused(exit::NOT_FOUND, "the layout is not complete");
    let none = format!("sha256:{}", "0".repeat(64));
    for place in ["/config/digest", "/layers/1/digest"] {
        let none = none.clone();
        family.image(
            &format!("{place} that is nowhere"),
            missing(),
            changed(move |manifest| {
                *manifest.pointer_mut(place).expect("a place") = none.clone().into();
            }),
        );
    }
    // Another blob under a digest's name, of the same size.
    for place in ["/config", "/layers/0", "/layers/1"] {
        family.image(&format!("other bytes at {place}"), verification("sha256"), |scratch| {
            let name = image().layout(scratch, "image");
            let manifest = image().manifest();
            let at = manifest.pointer(place).expect("a place");
            let path = format!("image/blobs/{}", at["digest"].as_str().expect("a digest").replace(':', "/"));
            let mut bytes = std::fs::read(scratch.path(&path)).expect("a blob");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            scratch.write(&path, bytes);
            name
        });
    }
    family.image("other bytes as the manifest", verification("sha256"), |scratch| {
        let name = image().layout(scratch, "image");
        let text = image().manifest().to_string();
        let path = format!("image/blobs/{}", digest_of(text.as_bytes()).replace(':', "/"));
        scratch.write(&path, text.replace("\"schemaVersion\":2", "\"schemaVersion\":3"));
        name
    });
    family.end();
}

#[test]
fn layers_and_diff_ids() {
    let mut family = Family::pulled_by("layers and diff-ids", &[By::Root]).and_deployed();
    let twice = tar().file("f", "x").symlink("l", "../victim");
    family.keeps("the same layer four times", vec![twice; 4], &[("f", "x"), ("l", "-> ../victim")]);
    let many: Vec<_> = (0..300).map(|at| tar().file(format!("{}", at % 7), at.to_string())).collect();
    family.keeps("300 layers", many, &[("6", "293"), ("5", "299")]);
    let with = |change: fn(&mut EvilImage)| {
        move |scratch: &Scratch| {
            let mut image = image();
            change(&mut image);
            image.layout(scratch, "image")
        }
    };
    let ids =
        |image: &mut EvilImage| image.config["rootfs"]["diff_ids"].as_array_mut().expect("a list").len();
    assert_eq!(ids(&mut image()), 2);
    family.image(
        "a diff-id too many",
        refused("diff_ids"),
        with(|image| {
            let ids = image.config["rootfs"]["diff_ids"].as_array_mut().expect("a list");
            ids.push(ids[0].clone());
        }),
    );
    family.image(
        "a diff-id too few",
        refused("diff_ids"),
        with(|image| {
            image.config["rootfs"]["diff_ids"].as_array_mut().expect("a list").pop();
        }),
    );
    family.image("no diff-ids", refused("diff_ids"), with(|image| image.config["rootfs"] = json!({})));
    family.image(
        "diff-ids in another order",
        verification("as the config says"),
        with(|image| {
            image.config["rootfs"]["diff_ids"].as_array_mut().expect("a list").reverse();
        }),
    );
    // Two layers of different bytes under one diff-id: the second must not count as the first.
    family.image(
        "one diff-id for two layers",
        verification(""),
        with(|image| {
            let first = image.config["rootfs"]["diff_ids"][1].clone();
            image.config["rootfs"]["diff_ids"][0] = first;
        }),
    );
    family.image("the digest of the wire as diff-id", verification("as the config says"), |scratch| {
        let bytes = gzipped(&tar().file("f", "x").end());
        EvilImage::new([super::builder::Wire::of(bytes.clone(), &bytes)]).layout(scratch, "image")
    });
    let too_many: Vec<Value> = vec![json!(digest_of(b"x")); 1025];
    family.image("1025 diff-ids", refused("LAYERS_MAX"), |scratch| {
        let mut image = image();
        image.config["rootfs"]["diff_ids"] = too_many.clone().into();
        image.layout(scratch, "image")
    });
    family.image(
        "1025 layers",
        refused("LAYERS_MAX"),
        changed(|manifest| {
            manifest["layers"] = vec![manifest["layers"][0].clone(); 1025].into();
        }),
    );
    // A layer whose type is not known is what its bytes are, as containerd and podman have it.
    for (what, media_type) in [
        ("no", ""),
        ("a config's", CONFIG),
        ("a manifest's", MANIFEST),
        ("an index'", INDEX),
        ("a Helm chart's", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        ("bzip2's", "application/vnd.oci.image.layer.v1.tar+bzip2"),
        ("estargz with a parameter", "application/vnd.oci.image.layer.v1.tar+gzip; x=y"),
        ("control characters'", "\u{1b}[2J\n"),
        ("a Windows base layer's", "application/vnd.docker.image.rootfs.foreign.diff.tar.bzip2"),
    ] {
        family.image(
            &format!("a layer of {what} media type"),
            kept(),
            changed(move |manifest| {
                manifest["layers"][0]["mediaType"] = media_type.into();
            }),
        );
    }
    family.image(
        "a layer of an encrypted layer's media type",
        refused("encrypted"),
        changed(|manifest| {
            manifest["layers"][0]["mediaType"] =
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
        }),
    );
    for compression in ["", "+gzip", "+zstd"] {
        family.image(
            &format!("a tar that is said to be {compression:?}"),
            kept(),
            changed(move |manifest| {
                manifest["layers"][0]["mediaType"] = format!("{LAYER}{compression}").into();
            }),
        );
    }
    family.image("the config as a layer", refused("ends in the middle"), |scratch| {
        let mut image = EvilImage::new([tar().file("f", "x")]);
        // The config's own digest can't be in it: what unpacks is refused before that shows.
        image.layers[0].bytes = image.config.to_string().into_bytes();
        image.layout(scratch, "image")
    });
    family.image(
        "a layer as the config",
        refused(""),
        changed(|manifest| {
            manifest["config"] = manifest["layers"][0].clone();
        }),
    );
    family.image("a manifest as the config", Expect::Refused(exit::NO_PLATFORM, ""), |scratch| {
        let mut manifest = image().manifest();
        manifest["config"] = descriptor(CONFIG, image().manifest().to_string().as_bytes());
        blob(scratch, "image", CONFIG, image().manifest().to_string().as_bytes());
        with_manifest(scratch, MANIFEST, &manifest.to_string())
    });
    family.end();
}

#[test]
fn manifests_that_are_indexes_too() {
    let mut family = Family::pulled_by("manifests that are indexes too", &[By::Root]).and_deployed();
    let entry = || descriptor(MANIFEST, image().manifest().to_string().as_bytes());
    // Who looks for `manifests` and who looks for `layers` would run different images (CVE-2021-41190).
    for own in [MANIFEST, INDEX, DOCKER_LIST, "", "text/plain"] {
        for announced in [MANIFEST, INDEX, DOCKER_LIST] {
            for with in [&["manifests"][..], &["manifests", "fsLayers"]] {
                let what = format!("both, of its own type {own:?}, announced as {announced:?}, {with:?}");
                family.image(&what, refused(""), |scratch| {
                    let mut manifest = image().manifest();
                    manifest["mediaType"] = own.into();
                    for field in with {
                        manifest[*field] = json!([entry()]);
                    }
                    with_manifest(scratch, announced, &manifest.to_string())
                });
            }
            let image_type = |name| name == MANIFEST;
            let says_other = !own.is_empty() && own != announced && own != "text/plain";
            if says_other || (own.is_empty() && !image_type(announced)) {
                family.image(
                    &format!("an image of type {own:?} announced as {announced:?}"),
                    refused(""),
                    |scratch| {
                        let mut manifest = image().manifest();
                        manifest["mediaType"] = own.into();
                        with_manifest(scratch, announced, &manifest.to_string())
                    },
                );
            }
            if says_other || (own.is_empty() && image_type(announced)) {
                // Docker's list and OCI's index mean the same.
                let expect = if image_type(own) || image_type(announced) { refused("") } else { kept() };
                family.image(
                    &format!("an index of type {own:?} announced as {announced:?}"),
                    expect,
                    |scratch| {
                        blob(scratch, "image", MANIFEST, image().manifest().to_string().as_bytes());
                        let index = json!({ "schemaVersion": 2, "mediaType": own, "manifests": [entry()] });
                        with_manifest(scratch, announced, &index.to_string())
                    },
                );
            }
        }
    }
    family.image("a manifest as index.json", refused("index"), |scratch| {
        image().blobs(scratch, "image");
        index_json(scratch, "image", &image().manifest().to_string());
        format!("oci:{}", scratch.at("image"))
    });
    family.image("schema 1", refused("schema 1"), |scratch| {
        let text = json!({ "schemaVersion": 1, "fsLayers": [], "history": [] }).to_string();
        with_manifest(scratch, MANIFEST, &text)
    });
    family.image("an artifact", refused("neither an index nor an image"), |scratch| {
        with_manifest(scratch, MANIFEST, &json!({ "schemaVersion": 2, "blobs": [entry()] }).to_string())
    });
    family.end();
}

/// Indexes in indexes: each is named by its digest, so a circle has to be a lie.
fn nested(scratch: &Scratch, depth: usize) -> String {
    image().blobs(scratch, "image");
    let mut top = blob(scratch, "image", MANIFEST, image().manifest().to_string().as_bytes());
    for _ in 0..depth {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] }).to_string();
        top = blob(scratch, "image", INDEX, index.as_bytes());
    }
    index_json(scratch, "image", &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
    format!("oci:{}", scratch.at("image"))
}

#[test]
fn circles_and_depth() {
    let mut family = Family::pulled_by("circles and depth", &[By::Root]).and_deployed();
    for depth in 1..=3 {
        family.image(&format!("{depth} deep"), kept(), move |scratch| nested(scratch, depth));
    }
    for depth in [4, 5, 50] {
        let expect = Expect::Refused(exit::NO_PLATFORM, "NESTING_MAX");
        family.image(&format!("{depth} deep"), expect, move |scratch| nested(scratch, depth));
    }
    family.image("an index that names itself", verification(""), |scratch| {
        let size = 500;
        let named = json!({ "mediaType": INDEX, "digest": digest_of(b"itself"), "size": size });
        let mut text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] }).to_string();
        text += &" ".repeat(size - text.len());
        scratch.write(&format!("image/blobs/{}", digest_of(b"itself").replace(':', "/")), text);
        index_json(scratch, "image", &json!({ "schemaVersion": 2, "manifests": [named] }).to_string());
        format!("oci:{}", scratch.at("image"))
    });
    family.image("two that name each other", verification(""), |scratch| {
        let named =
            |other: &str| json!({ "mediaType": INDEX, "digest": digest_of(other.as_bytes()), "size": 500 });
        for (this, other) in [("one", "other"), ("other", "one")] {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named(other)] });
            let text = format!("{:<500}", index.to_string());
            scratch.write(&format!("image/blobs/{}", digest_of(this.as_bytes()).replace(':', "/")), text);
        }
        index_json(scratch, "image", &json!({ "schemaVersion": 2, "manifests": [named("one")] }).to_string());
        format!("oci:{}", scratch.at("image"))
    });
    let wide = |count: usize, media_type: &'static str| {
        move |scratch: &Scratch| {
            let name = image().layout(scratch, "image");
            let entry = descriptor(media_type, image().manifest().to_string().as_bytes());
            let index = json!({ "schemaVersion": 2, "manifests": vec![entry; count] }).to_string();
            let top = blob(scratch, "image", INDEX, index.as_bytes());
            index_json(scratch, "image", &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
            name
        }
    };
    // The first of them is for this board: what is not looked at any more does it no harm.
    family.image("33 entries without a platform", kept(), wide(33, MANIFEST));
    family.image("1025 entries", refused("ENTRIES_MAX"), wide(1025, MANIFEST));
    let none = Expect::Refused(exit::NO_PLATFORM, "was announced as");
    family.image("33 indexes in an index", none, wide(33, INDEX));
    family.end();
}

/// An index of [`image`] for this board.
fn index_of_one() -> String {
    let mut entry = descriptor(MANIFEST, image().manifest().to_string().as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
    json!({ "schemaVersion": 2, "manifests": [entry] }).to_string()
}

/// Writes a layout whose one image is the index `text`.
fn with_index(scratch: &Scratch, text: &str) -> String {
    let manifest = image().manifest().to_string();
    blob(scratch, "image", MANIFEST, manifest.as_bytes());
    with_manifest(scratch, INDEX, text)
}

/// A JSON text in which the field `name` occurs twice, with the value that it has: the first place where it stands.
fn twice(text: &str, name: &str) -> String {
    let at = text.find(&format!("\"{name}\":")).expect("such a field");
    let value = &text[at + name.len() + 3..];
    let mut values = serde_json::Deserializer::from_str(value).into_iter::<Value>();
    values.next().expect("a value").expect("JSON");
    let end = at + name.len() + 3 + values.byte_offset();
    format!("{},{}", &text[..end], &text[at..])
}

#[test]
fn json() {
    let mut family = Family::pulled_by("JSON", &[By::Root]).and_deployed();
    let manifest = image().manifest().to_string();
    let padded = |extra: usize| {
        let manifest = manifest.clone();
        move |scratch: &Scratch| {
            let text = format!("{manifest}{}", " ".repeat((4 << 20) + extra - manifest.len()));
            with_manifest(scratch, MANIFEST, &text)
        }
    };
    family.image("4 MiB", kept(), padded(0));
    family.image("4 MiB and a byte", refused("4 MiB"), padded(1));
    family.image("40 MiB", refused("4 MiB"), padded(36 << 20));
    let field = |value: String| {
        let text = format!("{},\"evil\":{value}}}", manifest.trim_end_matches('}').to_owned() + "}");
        // The manifest's own closing brace goes to the end.
        let text = match text.rfind("},\"evil\"") {
            Some(at) => format!("{},{}", &manifest[..manifest.len() - 1], &text[at + 2..]),
            None => text,
        };
        move |scratch: &Scratch| with_manifest(scratch, MANIFEST, &text)
    };
    family.image("a field that nobody knows", kept(), field("[1,{\"a\":null}]".into()));
    // What is skipped is skipped without recursion; what is read has serde_json's limit.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    family.image("100000 brackets, skipped", kept(), field(deep.clone()));
    family.image(
        "500000 braces, skipped",
        kept(),
        field("{\"a\":".repeat(300_000) + "1" + &"}".repeat(300_000)),
    );
    family.image("100000 brackets without an end", refused("not valid"), field("[".repeat(100_000)));
    for place in ["layers", "config", "schemaVersion", "mediaType", "manifests", "annotations"] {
        let (manifest, deep) = (manifest.clone(), deep.clone());
        let expect = match place {
            "layers" | "config" | "manifests" => refused(""),
            _ => kept(),
        };
        family.image(&format!("100000 brackets as {place}"), expect, move |scratch| {
            let mut changed: Value = serde_json::from_str(&manifest).expect("JSON");
            changed[place] = "DEEP".into();
            with_manifest(scratch, MANIFEST, &changed.to_string().replace("\"DEEP\"", &deep))
        });
    }
    // Of a name that stands there twice, Go's readers take the last, and so do all of these.
    for name in ["layers", "config", "mediaType", "schemaVersion"] {
        let manifest = manifest.clone();
        family.image(&format!("{name} twice"), kept(), move |scratch| {
            let value = &serde_json::from_str::<Value>(&manifest).expect("JSON")[name];
            let text = format!("{{\"{name}\":{value},{}", &manifest[1..]);
            with_manifest(scratch, MANIFEST, &text)
        });
        // The same name by another spelling, which a parser may or may not fold.
        let manifest = image().manifest().to_string();
        family.image(&format!("{name} in capitals, too"), kept(), move |scratch| {
            let text = format!("{{\"{}\":[],{}", name.to_uppercase(), &manifest[1..]);
            with_manifest(scratch, MANIFEST, &text)
        });
    }
    for name in ["digest", "size", "mediaType"] {
        let manifest = manifest.clone();
        family.image(&format!("{name} of a descriptor twice"), kept(), move |scratch| {
            let text =
                manifest.replacen(&format!("\"{name}\":"), &format!("\"{name}\":\"x\",\"{name}\":"), 1);
            let text = text.replacen("\"size\":\"x\"", "\"size\":1", 1).replacen(
                "\"digest\":\"x\"",
                &format!("\"digest\":\"{}\"", digest_of(b"")),
                1,
            );
            with_manifest(scratch, MANIFEST, &text)
        });
    }
    // Of an index' entry: what names the image, and what says whom it is for.
    let index = index_of_one();
    for name in ["digest", "size", "mediaType", "platform", "os", "architecture", "variant"] {
        let index = index.clone();
        family.image(&format!("{name} of an entry twice"), kept(), move |scratch| {
            with_index(scratch, &twice(&index, name))
        });
    }
    for name in ["manifests", "schemaVersion"] {
        let index = index.clone();
        family.image(&format!("{name} of an index twice"), kept(), move |scratch| {
            with_index(scratch, &twice(&index, name))
        });
    }
    for name in [
        "os",
        "architecture",
        "variant",
        "config",
        "rootfs",
        "diff_ids",
        "Entrypoint",
        "Env",
        "User",
        "Labels",
    ] {
        family.image(&format!("{name} of a config twice"), kept(), move |scratch| {
            let mut image = image();
            image.config["config"] =
                json!({ "Entrypoint": ["/d/f"], "Env": ["A=b"], "User": "0", "Labels": { "a": "b" } });
            let config = twice(&image.config.to_string(), name);
            let mut manifest = image.manifest();
            manifest["config"] = blob(scratch, "image", CONFIG, config.as_bytes());
            with_manifest(scratch, MANIFEST, &manifest.to_string())
        });
    }
    for (what, text) in [
        ("nothing", ""),
        ("null", "null"),
        ("a number", "1"),
        ("a list", "[]"),
        ("an empty object", "{}"),
        ("trailing garbage", "{\"schemaVersion\":2}x"),
        ("two documents", "{\"schemaVersion\":2}{\"schemaVersion\":2}"),
        ("a byte order mark", "\u{feff}{\"schemaVersion\":2}"),
        ("NaN", "{\"schemaVersion\":NaN}"),
        ("a huge number", "{\"schemaVersion\":1e999999999}"),
        ("a comment", "{/**/\"schemaVersion\":2}"),
        ("a lone surrogate", "{\"mediaType\":\"\\ud800\"}"),
        ("a control character", "{\"mediaType\":\"\x01\"}"),
    ] {
        family.image(what, refused(""), move |scratch| with_manifest(scratch, MANIFEST, text));
    }
    let digits = "9".repeat(1_000_000);
    family.image("a number of a million digits, skipped", kept(), field(digits.clone()));
    family.image("as a size", refused("it has a size"), move |scratch| {
        let text = manifest.replacen("\"size\":", &format!("\"size\":{digits}"), 1);
        with_manifest(scratch, MANIFEST, &text)
    });
    for (what, config, words) in [
        ("an environment of 4097", json!({ "Env": vec!["A=b"; 4097] }), "LIST_MAX"),
        ("4097 arguments", json!({ "Cmd": vec!["x"; 4097] }), "LIST_MAX"),
        ("numbers as arguments", json!({ "Entrypoint": [1, 2] }), "config.Entrypoint"),
        ("an object as the user", json!({ "User": {} }), "config.User"),
    ] {
        family.image(&format!("a config with {what}"), refused(words), move |scratch| {
            let mut image = image();
            image.config["config"] = config.clone();
            image.layout(scratch, "image")
        });
    }
    family.end();
}
