//! Archives that images are written to: what a killed run leaves of them, and that they are the same every time.

use crate::destinations::{Place, break_off, document, never, put, put_parts};
use crate::image::{Image, descriptor};
use crate::refused;
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn what_cannot_be_opened_without_waiting_is_replaced() {
    let image = Image::new();
    let place = Place::new("oci-archive");
    nix::unistd::mkfifo(&place.partial(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.publish(&image, None, &[]);
    let _socket = std::os::unix::net::UnixListener::bind(place.partial()).unwrap();
    place.publish(&image, None, &[]);
    place.assert_has(&image, "");
}

#[test]
fn an_archive_has_one_writer() {
    let place = Place::new("oci-archive");
    let first = place.write(None).unwrap();
    refused(place.write(None), Kind::Busy, &["another edgepull is writing", "/image"]);
    drop(first);
    assert!(!place.partial().exists());
    place.publish(&Image::new(), None, &[]);
}

#[test]
fn an_archive_is_written_once() {
    let image = Image::new();
    let place = Place::new("oci-archive");
    let mut destination = place.write(None).unwrap();
    put_parts(&mut *destination, &image);
    destination.publish(&document(&image.index), &[]).unwrap();
    let other = descriptor("", b"other");
    refused(destination.blob(&other, &mut never, &mut |_| {}), Kind::Other, &["complete already"]);
    refused(destination.publish(&document(&image.index), &[]), Kind::Other, &["complete already"]);
    assert!(!place.path().exists(), "it was not shown");
    destination.show().unwrap();
    drop(destination);
    place.assert_has(&image, "");
}

#[test]
fn the_same_image_gives_the_same_archive() {
    let image = Image::new();
    let (at_once, in_pieces) = (Place::new("oci-archive"), Place::new("oci-archive"));
    at_once.publish(&image, Some("v1"), &[]);
    let layer = image.layer_descriptor();
    // Begun, and not what is asked for next.
    break_off(&mut *in_pieces.write(None).unwrap(), &layer, &image.layer[..1000]);
    let mut destination = in_pieces.write(Some("v1")).unwrap();
    put_parts(&mut *destination, &image);
    // Begun, and never ended: it is not to be seen between the last members.
    break_off(&mut *destination, &descriptor("", &[b'?'; 9000]), &[b'?'; 8000]);
    destination.publish(&document(&image.index), &[]).unwrap();
    destination.show().unwrap();
    let bytes = fs::read(at_once.path()).unwrap();
    assert!(bytes == fs::read(in_pieces.path()).unwrap());

    let mut archive = tar::Archive::new(&bytes[..]);
    let mut members = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        assert_eq!((owner, header.mode().unwrap()), ((0, 0, 0), 0o644));
        members.push(entry.path().unwrap().display().to_string());
    }
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let blobs = [&image.config, &image.layer, &image.manifest, &image.index].map(|bytes| blob(bytes));
    assert_eq!(members, [&blobs[..], &["oci-layout".to_owned(), "index.json".to_owned()]].concat());
    assert!(bytes.len() % 512 == 0 && bytes.ends_with(&[0; 1024]));
}

#[test]
fn what_a_power_cut_has_spoilt_is_fetched_again() {
    let image = Image::new();
    let (config, layer) = (image.config_descriptor(), image.layer_descriptor());
    let last = descriptor("", b"last");
    let place = Place::new("oci-archive");
    let spoilt = |at: usize, by: &[u8]| {
        let _ = fs::remove_file(place.partial());
        let mut destination = place.write(None).unwrap();
        put(&mut *destination, &config, &image.config, 0).unwrap();
        put(&mut *destination, &layer, &image.layer, 0).unwrap();
        put(&mut *destination, &last, b"last", 0).unwrap();
        drop(destination);
        let mut bytes = fs::read(place.partial()).unwrap();
        bytes.splice(at..at + by.len(), by.iter().copied());
        fs::write(place.partial(), bytes).unwrap();
        let mut destination = place.write(None).unwrap();
        let there = [&config, &layer, &last].map(|blob| destination.has_blob(blob).unwrap());
        (there, fs::metadata(place.partial()).unwrap().len())
    };
    let layer_at = 512 + image.config.len().next_multiple_of(512);
    let first = layer_at as u64;
    assert_eq!(spoilt(0, b""), ([true; 3], first + 512 + 100_352 + 1024));
    assert_eq!(spoilt(layer_at + 512 + 50_000, b"\xff"), ([true, false, false], first), "a layer's byte");
    assert_eq!(spoilt(layer_at + 120, b"x"), ([true, false, false], first), "a header that is not ours");
    assert_eq!(spoilt(layer_at, &[0; 512]), ([true, false, false], first), "a header that was not written");
}

#[test]
fn a_publication_that_was_killed_is_done_again() {
    let image = Image::new();
    let place = Place::new("oci-archive");
    place.publish(&image, Some("v1"), &[]);
    // All of it was written, and not renamed.
    fs::rename(place.path(), place.partial()).unwrap();
    let mut destination = place.write(Some("v2")).unwrap();
    for bytes in [&image.config, &image.layer, &image.manifest, &image.index] {
        assert!(destination.has_blob(&descriptor("", bytes)).unwrap());
    }
    destination.publish(&document(&image.index), &[]).unwrap();
    destination.show().unwrap();
    place.assert_has(&image, ":v2");
    refused(place.read(":v1").unwrap().root(), Kind::NotFound, &["there is v2"]);
}

#[test]
fn a_link_to_an_archive_stays() {
    let image = Image::new();
    let place = Place::new("oci-archive");
    let real = place.home.path().join("real");
    fs::write(&real, "old").unwrap();
    symlink(&real, place.path()).unwrap();
    place.publish(&image, None, &[]);
    assert!(fs::symlink_metadata(place.path()).unwrap().is_symlink());
    assert!(fs::symlink_metadata(real).unwrap().len() > 100_000);
    place.assert_has(&image, "");
}
