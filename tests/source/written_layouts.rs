//! Layouts that images are written to, next to other images and other writers.

use crate::destinations::{Place, document, names, put};
use crate::image::{Image, pointer};
use crate::refused;
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::media_type;
use serde_json::{Value, json};
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn more_than_the_blob_has_is_started_over() {
    let image = Image::new();
    let layer = image.layer_descriptor();
    let place = Place::new("oci");
    let mut destination = place.write(None).unwrap();
    fs::write(place.partial_blob(&layer), [&image.layer[..], b"?"].concat()).unwrap();
    put(&mut *destination, &layer, &image.layer, 0).unwrap();
    assert!(fs::read(place.blob(&layer)).unwrap() == image.layer);
}

#[test]
fn a_blob_of_another_size_is_written_anew() {
    let image = Image::new();
    let layer = image.layer_descriptor();
    let place = Place::new("oci");
    place.publish(&image, None, &[]);
    let mut destination = place.write(None).unwrap();
    for harm in [fs::write, |path: PathBuf, _| {
        fs::rename(&path, path.with_extension("elsewhere"))?;
        symlink(path.with_extension("elsewhere"), path)
    }] {
        harm(place.blob(&layer), "short").unwrap();
        assert!(!destination.has_blob(&layer).unwrap());
        put(&mut *destination, &layer, &image.layer, 0).unwrap();
        place.assert_has(&image, "");
    }
}

/// `index.json` of a layout that other tools have written to.
fn foreign(image: &Image) -> Value {
    let entry = |text: &str| {
        let mut entry: Value = serde_json::from_str(&pointer(media_type::OCI_INDEX, &image.index)).unwrap();
        let more: Value = serde_json::from_str(text).unwrap();
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    json!({
        "schemaVersion": 2,
        "unknown": {"deep": [1, 2.5, null]},
        "annotations": {"com.example": "kept"},
        "manifests": [
            entry(r#"{"annotations":{"org.opencontainers.image.ref.name":"v1","z":"1","a":"2"},"x":[{"y":-1}]}"#),
            entry(r#"{"platform":{"os":"linux","architecture":"arm","variant":"v6"}}"#),
            entry(r#"{"platform":{"os":"linux","architecture":"arm","variant":"v7"}}"#),
            entry(r#"{"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#),
            entry(r#"{"artifactType":"application/spdx+json"}"#),
            entry(r#"{"annotations":{"kind":"dev.cosignproject.cosign/sigs"}}"#),
        ],
    })
}

#[test]
fn other_images_stay_as_they_are() {
    let (old, new) = (Image::new(), Image::with_layer(b"new".to_vec()));
    let name = "org.opencontainers.image.ref.name";
    let entry = |annotations: Option<Value>| {
        let mut entry = json!({
            "mediaType": media_type::OCI_INDEX,
            "digest": Digest::of(&new.index),
            "size": new.index.len(),
        });
        if let Some(annotations) = annotations {
            entry["annotations"] = annotations;
        }
        entry
    };
    let place = Place::new("oci");
    place.publish(&old, Some("v1"), &[]);
    let write = |index: &Value| fs::write(place.path().join("index.json"), index.to_string()).unwrap();

    let mut wanted = foreign(&old);
    write(&wanted);
    place.publish(&new, Some("v2"), &["v3"]);
    for tag in ["v2", "v3"] {
        wanted["manifests"].as_array_mut().unwrap().push(entry(Some(json!({ name: tag }))));
    }
    assert_eq!(place.index(), wanted, "appended");
    place.assert_has(&old, ":v1");
    place.assert_has(&new, ":v2");

    write(&foreign(&old));
    place.publish(&new, Some("v1"), &[]);
    let mut wanted = foreign(&old);
    wanted["manifests"][0] = entry(Some(json!({ name: "v1" })));
    assert_eq!(place.index(), wanted, "the tag was replaced");

    write(&foreign(&old));
    place.publish(&new, None, &[]);
    let mut wanted = foreign(&old);
    wanted["manifests"][1] = entry(None);
    wanted["manifests"].as_array_mut().unwrap().remove(2);
    assert_eq!(place.index(), wanted, "the image without a name was replaced, and nothing about it");
}

/// An index that Go reads is added to, and keeps its images.
#[test]
fn an_index_in_another_case_and_other_letters_keeps_its_images() {
    let (old, new) = (Image::new(), Image::with_layer(b"new".to_vec()));
    let place = Place::new("oci");
    place.publish(&old, Some("v1"), &[]);
    let path = place.path().join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    for odd in [
        text.replace("\"manifests\"", "\"Manifests\"").into_bytes(),
        text.replace("\"manifests\"", "\"manifests\":null,\"MANIFESTS\"").into_bytes(),
        [b"{\"x\":\"\xe4\",", &text.as_bytes()[1..]].concat(),
    ] {
        fs::write(&path, &odd).unwrap();
        place.publish(&new, Some("v2"), &[]);
        place.assert_has(&old, ":v1");
        place.assert_has(&new, ":v2");
    }
}

#[test]
fn an_index_that_cannot_be_added_to_stays() {
    let image = Image::new();
    let place = Place::new("oci");
    place.publish(&image, Some("v1"), &[]);
    let path = place.path().join("index.json");
    let mut full = place.index();
    let mut filler = full["manifests"][0].clone();
    full["manifests"] = (0..1024)
        .map(|number| {
            filler["annotations"]["org.opencontainers.image.ref.name"] = format!("n{number}").into();
            filler.clone()
        })
        .collect();
    let mut large = place.index();
    large["padding"] = "?".repeat((4 << 20) - 400).into();
    let digest = format!("sha512:{}", "0".repeat(128));
    let foreign = json!({"schemaVersion": 2, "manifests": [{"digest": digest, "size": 1}]});
    for (bytes, part) in [
        ("{".to_owned(), "is not valid"),
        ("[]".to_owned(), "is no index"),
        (json!({"manifests": {}}).to_string(), "is no index"),
        (r#"{"Manifests":[],"manifests":[]}"#.to_owned(), "two lists of manifests"),
        (full.to_string(), "more than 1024 elements"),
        (large.to_string(), "DOCUMENT_MAX"),
        (" ".repeat((4 << 20) + 1), "DOCUMENT_MAX"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let published = place.write(Some("v2")).unwrap().publish(&document(&image.index), &[]);
        refused(published, Kind::BadImage, &["index.json", part]);
        assert!(fs::read_to_string(&path).unwrap() == bytes);
        assert_eq!(names(&place.path()), ["blobs", "index.json", "oci-layout"]);
    }
    // What this edgepull cannot check is somebody else's, and stays.
    fs::write(&path, foreign.to_string()).unwrap();
    place.write(Some("v2")).unwrap().publish(&document(&image.index), &[]).unwrap();
    place.assert_has(&image, ":v2");
    assert_eq!(place.index()["manifests"][0], foreign["manifests"][0]);
    // What Go writes of a list that it never made.
    fs::write(&path, json!({"schemaVersion": 2, "manifests": null}).to_string()).unwrap();
    place.write(Some("v2")).unwrap().publish(&document(&image.index), &[]).unwrap();
    place.assert_has(&image, ":v2");
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    const WRITERS: usize = 8;
    let place = Place::new("oci");
    let image = Image::new();
    let fetched = AtomicU64::new(0);
    let start = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (place, image, start, fetched) = (&place, &image, &start, &fetched);
            scope.spawn(move || {
                start.wait();
                let mut destination = place.write(Some(&format!("v{number}"))).unwrap();
                let open = &mut |offset: u64| {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    let rest = image.layer[offset as usize..].to_vec();
                    Ok(Box::new(Cursor::new(rest)) as Box<dyn Read + Send>)
                };
                let count = &mut |more| {
                    fetched.fetch_add(more, Ordering::Relaxed);
                };
                destination.blob(&image.layer_descriptor(), open, count).unwrap();
                for bytes in [&image.config, &image.manifest, &image.index] {
                    destination.manifest(&document(bytes)).unwrap();
                }
                for round in 0..8 {
                    let tags = [format!("r{round}-{number}")];
                    destination.publish(&document(&image.index), &tags).unwrap();
                }
            });
        }
    });
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), WRITERS * 9);
    assert_eq!(fetched.into_inner(), 100_000, "the layer came once");
    assert_eq!(names(&place.path()), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(names(&place.path().join("blobs/sha256")).len(), 4);
    for number in 0..WRITERS {
        place.assert_has(&image, &format!(":v{number}"));
    }
}
