//! Layouts and archives that images are written to: read back, interrupted, with other images, and under attack.

use crate::image::{Image, descriptor};
use crate::{options, read_layer, refused};
use edgepull::error::{Error, Kind, Result};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};
use edgepull::image::reference::LocalReference;
use edgepull::source::{ArchiveWriter, Attachment, Destination, Fetched, LayoutWriter, Source, open};
use serde_json::Value;
use std::fs;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub const TRANSPORTS: [&str; 2] = ["oci", "oci-archive"];

/// A temporary folder, and a place in it that images are written to.
pub struct Place {
    pub home: tempfile::TempDir,
    pub transport: &'static str,
}

impl Place {
    pub fn new(transport: &'static str) -> Place {
        Place { home: tempfile::tempdir().unwrap(), transport }
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("image")
    }

    /// The archive on its way.
    pub fn partial(&self) -> PathBuf {
        self.home.path().join(".image.edgepull")
    }

    pub fn write(&self, tag: Option<&str>) -> Result<Box<dyn Destination>> {
        let reference = LocalReference { path: self.path(), tag: tag.map(str::to_owned) };
        Ok(match self.transport {
            "oci" => Box::new(LayoutWriter::open(&reference)?),
            _ => Box::new(ArchiveWriter::open(&reference)?),
        })
    }

    pub fn read(&self, tag: &str) -> Result<Box<dyn Source>> {
        open(&format!("{}:{}{tag}", self.transport, self.path().display()).parse().unwrap(), &options())
    }

    /// Writes a whole image.
    pub fn publish(&self, image: &Image, tag: Option<&str>, further: &[&str]) {
        let mut destination = self.write(tag).unwrap();
        put_parts(&mut *destination, image);
        let tags: Vec<String> = further.iter().map(|tag| tag.to_string()).collect();
        destination.publish(&document(&image.index), &tags).unwrap();
        destination.show().unwrap();
    }

    /// The image's index, manifest, config and layer, as they are read from here.
    #[track_caller]
    pub fn assert_has(&self, image: &Image, tag: &str) {
        let mut source = self.read(tag).unwrap();
        let root = source.root().unwrap();
        assert!(root.bytes == image.index && root.media_type == media_type::OCI_INDEX, "{root:?}");
        let manifest = source.manifest(&descriptor(media_type::OCI_MANIFEST, &image.manifest)).unwrap();
        assert!(manifest.bytes == image.manifest);
        assert!(source.config(&image.config_descriptor()).unwrap().bytes == image.config);
        assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    }

    pub fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path().join("index.json")).unwrap()).unwrap()
    }

    pub fn blob(&self, descriptor: &Descriptor) -> PathBuf {
        self.path().join(format!("blobs/sha256/{}", descriptor.digest.hex()))
    }

    pub fn partial_blob(&self, descriptor: &Descriptor) -> PathBuf {
        self.path().join(format!("blobs/sha256/.{}.edgepull", descriptor.digest.hex()))
    }
}

pub fn document(bytes: &[u8]) -> Fetched {
    Fetched { bytes: bytes.to_vec(), digest: Digest::of(bytes), media_type: String::new() }
}

/// Writes `bytes` as a blob that has to begin at `wanted`.
pub fn put(destination: &mut dyn Destination, blob: &Descriptor, bytes: &[u8], wanted: u64) -> Result<u64> {
    let mut sent = 0;
    let open = &mut |offset| {
        assert_eq!(offset, wanted);
        Ok(Box::new(Cursor::new(bytes[offset as usize..].to_vec())) as Box<dyn Read + Send>)
    };
    destination.blob(blob, open, &mut |more| sent += more)?;
    assert!(destination.has_blob(blob).unwrap());
    Ok(sent)
}

/// Everything but the name.
pub fn put_parts(destination: &mut dyn Destination, image: &Image) {
    put(destination, &image.config_descriptor(), &image.config, 0).unwrap();
    put(destination, &image.layer_descriptor(), &image.layer, 0).unwrap();
    for bytes in [&image.manifest, &image.index] {
        destination.manifest(&document(bytes)).unwrap();
        assert!(destination.has_manifest(&descriptor("", bytes)).unwrap());
    }
}

/// Nothing that may be asked for.
pub fn never(_: u64) -> Result<Box<dyn Read + Send>> {
    panic!("bytes that are there are fetched again")
}

/// Writes the beginning of a blob; then the connection breaks for good.
pub fn break_off(destination: &mut dyn Destination, blob: &Descriptor, bytes: &[u8]) {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Error::new(Kind::Network, "gone").into())
        }
    }
    let open = &mut |_| Ok(Box::new(Cursor::new(bytes.to_vec()).chain(Broken)) as Box<dyn Read + Send>);
    refused(destination.blob(blob, open, &mut |_| {}), Kind::Network, &["gone"]);
    assert!(!destination.has_blob(blob).unwrap());
}

/// All names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_back() {
    let image = Image::new();
    for transport in TRANSPORTS {
        for (tag, further, read) in
            [(None, &[][..], ""), (Some("v1"), &[], ":v1"), (Some("v1"), &["v2", "v1", "v2"], ":v2")]
        {
            let place = Place::new(transport);
            place.publish(&image, tag, further);
            place.assert_has(&image, read);
            assert_eq!(names(place.home.path()), ["image"], "nothing else is left");
        }
    }
}

#[test]
fn nothing_shows_before_it_is_published() {
    let (old, new) = (Image::new(), Image::with_layer(b"new".to_vec()));
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        let mut destination = place.write(Some("v1")).unwrap();
        put_parts(&mut *destination, &old);
        let absent = place.read(":v1").and_then(|mut source| source.root());
        assert_eq!(absent.unwrap_err().kind(), Kind::NotFound);
        destination.publish(&document(&old.index), &[]).unwrap();
        destination.show().unwrap();

        let mut destination = place.write(Some("v1")).unwrap();
        put_parts(&mut *destination, &new);
        place.assert_has(&old, ":v1");
        destination.publish(&document(&new.index), &[]).unwrap();
        destination.show().unwrap();
        place.assert_has(&new, ":v1");
    }
}

#[test]
fn what_is_attached_is_found_there_and_is_no_image() {
    let image = Image::new();
    let subject = Digest::of(&image.index);
    let about = |of: &Digest, kind: &str| {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{kind}","config":{{"digest":"{of}","size":2}},
                "layers":[],"subject":{{"digest":"{of}","size":1}}}}"#,
            media_type::OCI_MANIFEST
        );
        Fetched { media_type: media_type::OCI_MANIFEST.to_owned(), ..document(bytes.as_bytes()) }
    };
    let tag = format!("sha256-{}.att", subject.hex());
    let attached = [
        Attachment { document: about(&subject, "application/x"), tag: Some(tag) },
        Attachment { document: about(&subject, "application/y"), tag: None },
    ];
    let other = Attachment { document: about(&Digest::of(b"other"), "application/z"), tag: None };
    for transport in TRANSPORTS {
        for (tag, read) in [(None, ""), (Some("v1"), ":v1")] {
            let place = Place::new(transport);
            let mut destination = place.write(tag).unwrap();
            put_parts(&mut *destination, &image);
            for attachment in attached.iter().chain([&other, &attached[1]]) {
                destination.attach(attachment, &subject).unwrap();
            }
            destination.publish(&document(&image.index), &[]).unwrap();
            destination.show().unwrap();
            place.assert_has(&image, read);
            let found = place.read(read).unwrap().attachments(&subject).unwrap();
            let mut found: Vec<_> = found.iter().map(|one| (&one.tag, one.document.digest)).collect();
            found.sort();
            let mut wanted: Vec<_> = attached.iter().map(|one| (&one.tag, one.document.digest)).collect();
            wanted.sort();
            assert_eq!(found, wanted, "{transport}{read}");
        }
    }
}

#[test]
fn a_document_without_its_bytes_gets_no_name() {
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        let mut destination = place.write(None).unwrap();
        let published = destination.publish(&document(&Image::new().index), &[]);
        refused(published, Kind::NotFound, &["which was to be named"]);
        drop(destination);
        assert!(!place.path().join("index.json").exists() && !place.path().is_file());
        assert!(!place.partial().exists());
    }
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing() {
    let image = Image::new();
    let layer = image.layer_descriptor();
    let other = [&image.layer[..99_999], b"?"].concat();
    let longer = [&image.layer[..], b"?"].concat();
    for transport in TRANSPORTS {
        for (bytes, part) in
            [(&other[..], "expected"), (&image.layer[..99_999], "of 99999 bytes"), (&longer, "longer")]
        {
            let place = Place::new(transport);
            let mut destination = place.write(None).unwrap();
            put(&mut *destination, &image.config_descriptor(), &image.config, 0).unwrap();
            let before = fs::metadata(place.partial()).map(|file| file.len()).ok();
            refused(put(&mut *destination, &layer, bytes, 0), Kind::Verification, &["blob sha256:", part]);
            assert!(!destination.has_blob(&layer).unwrap());
            assert_eq!(fs::metadata(place.partial()).map(|file| file.len()).ok(), before);
            if transport == "oci" {
                assert_eq!(names(&place.path().join("blobs/sha256")).len(), 1);
            }
            // What was right counts, and the rest can still come.
            put(&mut *destination, &layer, &image.layer, 0).unwrap();
            assert!(destination.has_blob(&image.config_descriptor()).unwrap());
        }
        let place = Place::new(transport);
        let mut destination = place.write(None).unwrap();
        let mut lie = document(&image.manifest);
        lie.digest = Digest::of(b"");
        refused(destination.manifest(&lie), Kind::Verification, &["expected"]);
    }
}

#[test]
fn a_source_without_a_byte_leaves_nothing() {
    let layer = Image::new().layer_descriptor();
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        let mut destination = place.write(None).unwrap();
        let open = &mut |_| Err(Error::new(Kind::NotFound, "no such blob"));
        refused(destination.blob(&layer, open, &mut |_| {}), Kind::NotFound, &["no such blob"]);
        drop(destination);
        assert!(!place.partial().exists());
        assert!(!place.partial_blob(&layer).exists());
    }
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let image = Image::new();
    let (config, layer) = (image.config_descriptor(), image.layer_descriptor());
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        let mut destination = place.write(None).unwrap();
        put(&mut *destination, &config, &image.config, 0).unwrap();
        break_off(&mut *destination, &layer, &image.layer[..70_000]);
        drop(destination);

        let mut destination = place.write(None).unwrap();
        assert!(destination.has_blob(&config).unwrap());
        destination.blob(&config, &mut never, &mut |_| {}).unwrap();
        assert_eq!(put(&mut *destination, &layer, &image.layer, 70_000).unwrap(), 30_000);
        destination.blob(&layer, &mut never, &mut |_| {}).unwrap();
        for bytes in [&image.manifest, &image.index] {
            destination.manifest(&document(bytes)).unwrap();
        }
        drop(destination);

        let mut destination = place.write(Some("v1")).unwrap();
        assert!(destination.has_manifest(&descriptor("", &image.index)).unwrap());
        destination.publish(&document(&image.index), &[]).unwrap();
        destination.show().unwrap();
        place.assert_has(&image, ":v1");
    }
}

#[test]
fn a_beginning_that_is_not_the_blobs_is_started_over_once() {
    let image = Image::new();
    let layer = image.layer_descriptor();
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        break_off(&mut *place.write(None).unwrap(), &layer, &[b'?'; 70_000]);
        let mut destination = place.write(None).unwrap();
        let mut offsets = Vec::new();
        let mut asked = |bytes: &[u8]| {
            offsets.clear();
            let open = &mut |offset| {
                offsets.push(offset);
                Ok(Box::new(Cursor::new(bytes[offset as usize..].to_vec())) as Box<dyn Read + Send>)
            };
            (destination.blob(&layer, open, &mut |_| {}).map_err(|error| error.kind()), offsets.clone())
        };
        let wrong = [&image.layer[..99_999], b"?"].concat();
        assert_eq!(asked(&wrong), (Err(Kind::Verification), vec![70_000, 0]));
        assert_eq!(asked(&image.layer), (Ok(()), vec![0]));
    }
}

#[test]
fn what_is_no_layout_is_not_written_to() {
    let place = Place::new("oci");
    fs::create_dir(place.path()).unwrap();
    // What a run leaves that is killed before anything else.
    fs::write(place.path().join(".oci-layout.edgepull"), "{").unwrap();
    place.write(None).unwrap();
    assert_eq!(names(&place.path()), ["blobs", "oci-layout"]);

    fs::write(place.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    refused(place.write(None), Kind::Usage, &["\"2.0.0\" is not 1.x"]);
    fs::remove_file(place.path().join("oci-layout")).unwrap();
    refused(place.write(None), Kind::Usage, &["no OCI layout, and not empty"]);
    assert_eq!(names(&place.path()), ["blobs"]);

    let file = Place::new("oci");
    fs::write(file.path(), "").unwrap();
    refused(file.write(None), Kind::Usage, &["is no directory", "oci-archive:"]);
    let orphan = LocalReference { path: file.home.path().join("no/such"), tag: None };
    refused(LayoutWriter::open(&orphan), Kind::Usage, &["no/such", "the directory above it is not there"]);
    refused(ArchiveWriter::open(&orphan), Kind::Disk, &["No such file"]);
    let directory = Place::new("oci-archive");
    fs::create_dir(directory.path()).unwrap();
    refused(directory.write(None), Kind::Usage, &["no regular file", "oci:DIR"]);
}

#[test]
fn links_that_somebody_put_there_are_not_followed() {
    let image = Image::new();
    let layer = image.layer_descriptor();
    for transport in TRANSPORTS {
        for symbolic in [true, false] {
            let link = |target: &Path, path: &Path| match symbolic {
                true => symlink(target, path).unwrap(),
                false => fs::hard_link(target, path).unwrap(),
            };
            let place = Place::new(transport);
            let victim = place.home.path().join("victim");
            fs::write(&victim, "precious").unwrap();
            if transport == "oci" {
                place.publish(&Image::with_layer(b"old".to_vec()), Some("v1"), &[]);
                link(&victim, &place.partial_blob(&layer));
                link(&victim, &place.path().join(".index.json.edgepull"));
            } else {
                link(&victim, &place.partial());
            }
            place.publish(&image, Some("v1"), &[]);
            place.assert_has(&image, ":v1");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
        }
    }
    // Nor is what it leads to shown to everybody.
    let place = Place::new("oci");
    place.publish(&image, Some("v1"), &[]);
    let index = place.path().join("index.json");
    fs::rename(&index, place.home.path().join("secret")).unwrap();
    symlink(place.home.path().join("secret"), &index).unwrap();
    refused(place.write(None).unwrap().publish(&document(&image.index), &[]), Kind::Disk, &["index.json"]);
}

#[test]
fn modes_are_the_same_whatever_the_umask() {
    use nix::sys::stat::{Mode, umask};
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for mask in [0o077, 0] {
        let before = umask(Mode::from_bits_truncate(mask));
        let places = TRANSPORTS.map(|transport| {
            let place = Place::new(transport);
            place.publish(&Image::new(), None, &[]);
            place
        });
        umask(before);
        let layout = places[0].path();
        let layer = places[0].blob(&Image::new().layer_descriptor());
        for file in [&layout.join("oci-layout"), &layout.join("index.json"), &layer, &places[1].path()] {
            assert_eq!(mode(file), 0o644, "{}", file.display());
        }
        for directory in [&layout, &layout.join("blobs"), &layout.join("blobs/sha256")] {
            assert_eq!(mode(directory), 0o755, "{}", directory.display());
        }
    }
}

#[test]
fn empty_blobs_are_blobs() {
    let empty = descriptor("", b"");
    for transport in TRANSPORTS {
        let place = Place::new(transport);
        let mut destination = place.write(None).unwrap();
        destination.blob(&empty, &mut never, &mut |_| {}).unwrap();
        drop(destination);
        assert!(place.write(None).unwrap().has_blob(&empty).unwrap());
    }
}
