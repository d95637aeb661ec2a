//! OCI layouts and archives on disk: as tools write them, incomplete, and hostile.

use crate::image::{Image, pointer};
use crate::{options, read_layer, refused};
use edgepull::error::{Kind, Result};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, Document, media_type};
use edgepull::source::{Source, open};
use std::io::Write;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Files by name, to be written as a directory or as a tar.
type Files = Vec<(String, Vec<u8>)>;

fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec())
}

/// A layout with these entries in its index, and these blobs.
fn layout(entries: &[String], blobs: &[&[u8]]) -> Files {
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    files.extend(blobs.iter().map(|bytes| blob(bytes)));
    files
}

/// A layout of one image, its manifest under `name`.
fn layout_of(image: &Image, name: Option<&str>) -> Files {
    let parts = [&image.manifest[..], &image.config, &image.layer];
    layout(&[entry(&image.manifest, name, None)], &parts)
}

/// An index entry with a tag and a variant.
fn entry(manifest: &[u8], name: Option<&str>, variant: Option<&str>) -> String {
    let mut text = pointer(media_type::OCI_MANIFEST, manifest);
    text.pop();
    if let Some(variant) = variant {
        text += &format!(r#","platform":{{"os":"linux","architecture":"arm","variant":"{variant}"}}"#);
    }
    if let Some(name) = name {
        text += &format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}","other":"x"}}"#);
    }
    text + "}"
}

fn write_directory(root: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A temporary folder, and what is in it.
struct Place(tempfile::TempDir);

impl Place {
    fn directory(files: &Files) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        write_directory(&place.path(), files);
        place
    }

    fn tar(files: &Files, build: impl Fn(&mut tar::Builder<Vec<u8>>)) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        for (name, bytes) in files {
            let mut header = Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        std::fs::write(place.0.path().join("image.tar"), builder.into_inner().unwrap()).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Opens `transport:path:tag`.
    fn open(&self, transport: &str, tag: &str) -> Result<Box<dyn Source>> {
        let file = if transport == "oci" { self.path() } else { self.path().join("image.tar") };
        open(&format!("{transport}:{}{tag}", file.display()).parse().unwrap(), &options())
    }
}

/// From the root, which must be an image manifest, to the layer.
fn pull(source: &mut dyn Source) -> (Vec<u8>, Descriptor) {
    let root = source.root().unwrap();
    assert_eq!(root.digest, Digest::of(&root.bytes));
    let Document::Manifest(manifest) = Document::parse(&root.media_type, &root.bytes).unwrap() else {
        panic!()
    };
    source.config(&manifest.config).unwrap();
    let layer = read_layer(source, &manifest.layers[0], 0).unwrap();
    assert_eq!(layer.len() as u64, manifest.layers[0].size);
    assert_eq!(Digest::of(&layer), manifest.layers[0].digest);
    (layer, manifest.layers[0].clone())
}

#[test]
fn one_image_in_a_directory_and_in_a_tar() {
    let image = Image::new();
    for name in [None, Some("v1")] {
        let files = layout_of(&image, name);
        let places = [("oci", Place::directory(&files)), ("oci-archive", Place::tar(&files, |_| {}))];
        for (transport, place) in places {
            let mut source = place.open(transport, "").unwrap();
            assert_eq!(source.root().unwrap().bytes, image.manifest);
            let (layer, descriptor) = pull(&mut *source);
            assert!(layer == image.layer);
            assert_eq!(read_layer(&mut *source, &descriptor, 99_990).unwrap(), &image.layer[99_990..]);
        }
    }
}

#[test]
fn a_tag_chooses_among_images() {
    let (one, two) = (Image::new(), Image::with_layer(b"two".to_vec()));
    let entries = [entry(&one.manifest, Some("v1"), None), entry(&two.manifest, Some("r.io/app:v2"), None)];
    let place = Place::directory(&layout(&entries, &[&one.manifest, &two.manifest]));
    assert_eq!(place.open("oci", ":v1").unwrap().root().unwrap().bytes, one.manifest);
    assert_eq!(place.open("oci", ":v2").unwrap().root().unwrap().bytes, two.manifest);
    refused(
        place.open("oci", "").unwrap().root(),
        Kind::Usage,
        &["several images", "v1, r.io/app:v2", "name one, as in oci:", ":v1"],
    );
    refused(
        place.open("oci", ":v3").unwrap().root(),
        Kind::NotFound,
        &["no image \"v3\"", "there is v1, r.io/app:v2"],
    );
    refused(place.open("oci", ":2").unwrap().root(), Kind::NotFound, &["no image"]);

    let untagged = Place::directory(&layout_of(&one, None));
    refused(untagged.open("oci", ":v1").unwrap().root(), Kind::NotFound, &["no names"]);
}

/// An entry as containerd and Docker write it: the name in full, and the tag.
fn full(manifest: &[u8], name: &str) -> String {
    let tag = name.rsplit_once(':').unwrap().1;
    entry(manifest, Some(tag), None)
        .replace(r#""other":"x""#, &format!(r#""io.containerd.image.name":"{name}""#))
}

#[test]
fn several_images_are_never_silently_one() {
    let (one, two, three) =
        (Image::new(), Image::with_layer(b"two".to_vec()), Image::with_layer(b"three".to_vec()));
    let blobs = [&one.manifest[..], &two.manifest, &three.manifest];
    let (a, b) = (
        full(&one.manifest, "docker.io/library/a:latest"),
        full(&two.manifest, "docker.io/library/b:latest"),
    );
    // Each way to write one, and what it takes: an image, or the names that an error lists.
    type Taken<'a> = Result<&'a [u8], &'a [&'a str]>;
    type Case<'a> = (&'a str, Vec<String>, &'a [(&'a str, Taken<'a>)]);
    let both: Taken =
        Err(&["docker.io/library/a:latest, docker.io/library/b:latest", ":docker.io/library/a:latest"]);
    let by_number: Taken = Err(&["several images: @0, @1", ":@0"]);
    let cases: [Case; 8] = [
        (
            "docker save of two",
            vec![a.clone(), b.clone()],
            &[
                ("", both),
                (":latest", both),
                (":docker.io/library/b:latest", Ok(&two.manifest)),
                (":library/b:latest", Ok(&two.manifest)),
                (":b", Ok(&two.manifest)),
                (":b:latest", Ok(&two.manifest)),
                (":@1", Ok(&two.manifest)),
                (":@2", Err(&["no usable entry with number 2"])),
                (
                    ":c",
                    Err(&[
                        "no image \"c\"",
                        "there is docker.io/library/a:latest, docker.io/library/b:latest",
                    ]),
                ),
            ],
        ),
        (
            "one by two names",
            vec![a.clone(), full(&one.manifest, "localhost:5000/a:1")],
            &[("", Ok(&one.manifest)), (":localhost:5000/a:1", Ok(&one.manifest)), (":1", Ok(&one.manifest))],
        ),
        (
            "two without a name",
            vec![entry(&one.manifest, None, None), entry(&two.manifest, None, None)],
            &[("", by_number), (":@0", Ok(&one.manifest))],
        ),
        (
            "two for one platform",
            vec![entry(&one.manifest, None, Some("v6")), entry(&two.manifest, None, Some("v6"))],
            &[("", by_number)],
        ),
        (
            "two of one name",
            vec![entry(&one.manifest, Some("v1"), None), entry(&two.manifest, Some("v1"), None)],
            &[("", by_number), (":v1", by_number)],
        ),
        (
            "one with a name, one without",
            vec![entry(&one.manifest, Some("v1"), None), entry(&two.manifest, None, None)],
            &[("", Err(&["several images: v1, @1"])), (":v1", Ok(&one.manifest)), (":@1", Ok(&two.manifest))],
        ),
        (
            "an artifact beside it",
            vec![
                entry(&two.manifest, None, None).replacen(
                    '{',
                    r#"{"artifactType":"application/spdx+json","#,
                    1,
                ),
                a.clone(),
            ],
            &[("", Ok(&one.manifest)), (":a", Ok(&one.manifest)), (":@1", Ok(&one.manifest))],
        ),
        (
            "one that cannot be checked",
            vec![b.replace("sha256:", "blake3:"), a.clone()],
            &[
                ("", Ok(&one.manifest)),
                (
                    ":b",
                    Err(&[
                        "\"b\" of oci",
                        "cannot be used: its digest cannot be checked: it is of blake3, not sha256",
                    ]),
                ),
                (":@0", Err(&["no usable entry with number 0"])),
                (":@1", Ok(&one.manifest)),
            ],
        ),
    ];
    for (what, entries, ways) in cases {
        let files = layout(&entries, &blobs);
        for (transport, place) in
            [("oci", Place::directory(&files)), ("oci-archive", Place::tar(&files, |_| {}))]
        {
            for (written, taken) in ways {
                let root = place.open(transport, written).unwrap().root();
                match taken {
                    Ok(manifest) => assert!(root.unwrap().bytes == *manifest, "{what}: {transport}{written}"),
                    Err(words) => {
                        let error = root.unwrap_err();
                        let text = error.to_string();
                        assert!(
                            words.iter().all(|word| text.contains(word)),
                            "{what}: {transport}{written}: {text}"
                        );
                    }
                }
            }
        }
    }
}

/// Something about an image, without a name: only its manifest says that it is none.
#[test]
fn what_is_about_an_image_is_no_other_one() {
    let image = Image::new();
    let own = String::from_utf8(image.manifest.clone()).unwrap();
    let subject = format!(r#"{{"subject":{{"digest":"{}","size":1}},"#, Digest::of(&image.manifest));
    let signature = own.replacen('{', &subject, 1);
    let chart =
        own.replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    for odd in [signature, chart] {
        assert_ne!(odd, own);
        let files = layout(
            &[entry(odd.as_bytes(), None, None), entry(&image.manifest, None, None)],
            &[&image.manifest, odd.as_bytes()],
        );
        let root = Place::directory(&files).open("oci", "").unwrap().root().unwrap();
        assert!(root.bytes == image.manifest, "{odd}");
    }
    // Types that no image has.
    let thing = entry(&image.manifest, None, None).replace("image.manifest", "artifact.manifest");
    let files = layout(&[thing, entry(&image.manifest, None, None)], &[&image.manifest]);
    assert!(Place::directory(&files).open("oci", "").unwrap().root().unwrap().bytes == image.manifest);
}

#[test]
fn a_list_beside_whose_name_its_own_entries_stand_is_one_image() {
    let (one, two) = (Image::new(), Image::with_layer(b"two".to_vec()));
    let listed = [entry(&one.manifest, None, Some("v6")), entry(&two.manifest, None, Some("v7"))];
    let list = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, listed.join(","));
    let named =
        entry(list.as_bytes(), Some("v1"), None).replace(media_type::OCI_MANIFEST, media_type::OCI_INDEX);
    // As ORAS writes it, which notes every manifest that it has.
    let entries = [named, listed[0].clone(), listed[1].clone()];
    let files = layout(&entries, &[list.as_bytes(), &one.manifest, &two.manifest]);
    for written in ["", ":v1"] {
        let root = Place::directory(&files).open("oci", written).unwrap().root().unwrap();
        assert_eq!(root.bytes, list.as_bytes());
    }
}

#[test]
fn several_platforms_without_an_index_of_their_own() {
    let (one, two, other) =
        (Image::new(), Image::with_layer(b"two".to_vec()), Image::with_layer(b"three".to_vec()));
    let entries = [
        entry(&one.manifest, Some("v1"), Some("v6")),
        entry(&other.manifest, Some("v2"), Some("v5")),
        entry(&two.manifest, Some("v1"), Some("v7")),
    ];
    let place = Place::directory(&layout(&entries, &[&one.manifest, &two.manifest, &other.manifest]));
    let mut source = place.open("oci", ":v1").unwrap();
    let root = source.root().unwrap();
    assert_eq!(root.digest, Digest::of(&root.bytes));
    let Document::Index(index) = Document::parse(&root.media_type, &root.bytes).unwrap() else { panic!() };
    let variants: Vec<_> = index
        .entries
        .iter()
        .map(|entry| entry.platform.as_ref().unwrap().variant.as_deref().unwrap())
        .collect();
    assert_eq!(variants, ["v6", "v7"]);
    assert_eq!(source.manifest(&index.entries[1]).unwrap().bytes, two.manifest);

    let files = layout(&[entries[0].clone(), entries[2].clone()], &[&one.manifest, &two.manifest]);
    let whole = Place::directory(&files).open("oci", "").unwrap().root().unwrap();
    assert_eq!(whole.bytes, files[1].1, "nothing to filter: index.json as it is");
}

#[test]
fn what_is_no_layout() {
    let image = Image::new();
    let missing = "oci:/nonexistent/layout".parse().unwrap();
    refused(open(&missing, &options()), Kind::NotFound, &["/nonexistent/layout: no such file"]);
    let empty = Place::directory(&Vec::new());
    refused(empty.open("oci", ""), Kind::NotFound, &["not an OCI layout", "oci-layout"]);
    refused(empty.open("oci-archive", ""), Kind::NotFound, &["image.tar: no such file"]);

    let mut files = layout_of(&image, None);
    files[0].1 = br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec();
    refused(Place::directory(&files).open("oci", ""), Kind::BadImage, &["\"2.0.0\" is not 1.x"]);
    files[0].1 = br#"{"imageLayoutVersion":"1.0.0","ImageLayoutVersion":"2.0.0"}"#.to_vec();
    refused(Place::directory(&files).open("oci", ""), Kind::BadImage, &["\"2.0.0\" is not 1.x"]);
    // Nobody else reads it; as Go would.
    for mark in [
        r#"{"ImageLayoutVersion":"1.0.0"}"#,
        r#"{"imageLayoutVersion":"2.0.0","imageLayoutVersion":"1.0.0"}"#,
        r#"{"imageLayoutVersion":1}"#,
        "{}",
        "",
    ] {
        files[0].1 = mark.as_bytes().to_vec();
        pull(&mut *Place::directory(&files).open("oci", "").unwrap());
    }
    files[0].1 = br#"{"imageLayoutVersion":"1.1.0"}"#.to_vec();
    files[1].1 = b"{".to_vec();
    let broken = Place::directory(&files);
    refused(broken.open("oci", "").unwrap().root(), Kind::BadImage, &["index.json", "not valid"]);
    let huge = vec![b' '; (4 << 20) + 1];
    std::fs::write(broken.path().join("index.json"), huge).unwrap();
    refused(broken.open("oci", "").unwrap().root(), Kind::BadImage, &["DOCUMENT_MAX"]);

    let archive = Place::tar(&layout_of(&image, None), |_| {});
    let as_directory = format!("oci:{}/image.tar", archive.path().display()).parse().unwrap();
    refused(open(&as_directory, &options()), Kind::Usage, &["no directory", "oci-archive:"]);
}

#[test]
fn blobs_that_are_missing_or_wrong() {
    let image = Image::new();
    let files = layout_of(&image, None);
    let place = Place::directory(&files);
    let at = |at: usize| place.path().join(&files[at].0);
    let mut source = place.open("oci", "").unwrap();
    let layer = image.layer_descriptor();

    std::fs::write(at(4), &image.layer[1..]).unwrap();
    refused(read_layer(&mut *source, &layer, 0), Kind::Verification, &["99999 bytes", "says 100000"]);
    std::fs::remove_file(at(4)).unwrap();
    refused(read_layer(&mut *source, &layer, 0), Kind::NotFound, &["blobs/sha256/", "not complete"]);
    // A fifo must not make the pull wait for a writer.
    nix::unistd::mkfifo(&at(4), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(read_layer(&mut *source, &layer, 0), Kind::Usage, &["no regular file"]);

    let mut changed = image.manifest.clone();
    changed[0] = b'[';
    std::fs::write(at(2), changed).unwrap();
    refused(source.root(), Kind::Verification, &["manifest", "expected sha256:"]);
}

#[test]
fn a_compressed_archive_names_the_command() {
    let place = Place(tempfile::tempdir().unwrap());
    for (magic, tool) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip -dc "),
        (b"\x28\xb5\x2f\xfd", "zstd -dc "),
        (b"\xfd7zXZ\0", "xz -dc "),
    ] {
        std::fs::write(place.path().join("image.tar"), magic).unwrap();
        for transport in ["oci-archive", "docker-archive"] {
            refused(place.open(transport, ""), Kind::Usage, &["is compressed", tool]);
        }
    }
    std::fs::write(place.path().join("image.tar"), [b'x'; 2048]).unwrap();
    refused(place.open("oci-archive", ""), Kind::BadImage, &["not a sound tar file"]);
}

/// An extension header of that kind, before the next member.
fn extension(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, bytes: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

#[test]
fn names_in_extension_headers() {
    let image = Image::new();
    let files = layout_of(&image, None);
    for prefix in ["", "./"] {
        let place = Place::tar(&Vec::new(), |builder| {
            extension(builder, EntryType::XGlobalHeader, b"17 comment=hello\n");
            for (number, (name, bytes)) in files.iter().enumerate() {
                let name = format!("{prefix}{name}");
                if number % 2 == 0 {
                    let record = format!(" path={name}\n");
                    let length =
                        (record.len() + 1..).find(|l| l.to_string().len() + record.len() == *l).unwrap();
                    extension(builder, EntryType::XHeader, format!("{length}{record}").as_bytes());
                } else {
                    extension(builder, EntryType::GNULongName, format!("{name}\0").as_bytes());
                }
                let mut header = Header::new_ustar();
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, "short", &bytes[..]).unwrap();
            }
        });
        assert!(pull(&mut *place.open("oci-archive", "").unwrap()).0 == image.layer);
    }
}

#[test]
fn a_huge_extension_header_is_refused_unread() {
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let place = Place(tempfile::tempdir().unwrap());
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(300 << 20);
        header.set_cksum();
        let mut file = std::fs::File::create(place.path().join("image.tar")).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len(301 << 20).unwrap();
        refused(place.open("oci-archive", ""), Kind::BadImage, &["EXTENSION_MAX"]);
    }
}

#[test]
fn a_truncated_archive() {
    let image = Image::new();
    let place = Place::tar(&layout_of(&image, None), |_| {});
    let mut source = place.open("oci-archive", "").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(place.path().join("image.tar")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 60_000).unwrap();
    refused(
        read_layer(&mut *source, &image.layer_descriptor(), 0),
        Kind::BadImage,
        &["ends within a member"],
    );
}

/// `manifest.json`, its config and layers as `docker save` wrote them before version 25.
fn docker(image: &Image, tags: &str, layers: &str) -> Files {
    let list = format!(r#"[{{"Config":"c.json","RepoTags":{tags},"Layers":[{layers}]}}]"#);
    vec![
        ("c.json".to_owned(), image.config.clone()),
        ("aa/layer.tar".to_owned(), image.layer.clone()),
        ("manifest.json".to_owned(), list.into_bytes()),
    ]
}

#[test]
fn a_docker_archive_gets_a_manifest() {
    let image = Image::new();
    let place = Place::tar(&docker(&image, r#"["app:v1"]"#, r#""aa/layer.tar""#), |_| {});
    for tag in ["", ":v1", ":app:v1", ":docker.io/library/app:v1"] {
        let mut source = place.open("docker-archive", tag).unwrap();
        let (layer, descriptor) = pull(&mut *source);
        assert!(layer == image.layer);
        assert_eq!(read_layer(&mut *source, &descriptor, 99_998).unwrap(), &image.layer[99_998..]);
        let root = source.root().unwrap();
        assert_eq!(root.media_type, media_type::DOCKER_MANIFEST);
        let Document::Manifest(manifest) = Document::parse(&root.media_type, &root.bytes).unwrap() else {
            panic!()
        };
        assert_eq!(manifest.config.digest, Digest::of(&image.config));
    }
    refused(
        place.open("docker-archive", ":v2").unwrap().root(),
        Kind::NotFound,
        &["no image \"v2\"", "there is app:v1"],
    );
    let untagged = Place::tar(&docker(&image, "null", r#""aa/layer.tar""#), |_| {});
    pull(&mut *untagged.open("docker-archive", "").unwrap());
}

/// `manifest.json` is read as Go reads it, and an odd neighbour of the image does no harm.
#[test]
fn an_odd_list_in_a_docker_archive() {
    let image = Image::new();
    let files = docker(&image, "null", "");
    let with = |list: &str| {
        let mut files = files.clone();
        files[2].1 = list.as_bytes().to_vec();
        Place::tar(&files, |_| {})
    };
    let whole = r#""Config":"c.json","RepoTags":["app:v1"],"Layers":["aa/layer.tar"]"#;
    for list in [
        r#"[{"config":"c.json","repotags":["app:v1"],"layers":["aa/layer.tar"]}]"#.to_owned(),
        r#"[{"CONFIG":"c.json","RepoTags":["app:v1"],"LAYERS":["aa/layer.tar"]}]"#.to_owned(),
        format!(r#"[{{"Config":"gone","Layers":[],"RepoTags":["x:1"],{whole}}}]"#),
        format!(r#"[{{{whole},"Config":null,"layers":null}}]"#),
        format!(r#"[{{{whole},"Parent":5,"LayerSources":[{{}}]}}]"#),
        format!("[null,{{{whole}}},{{}},5,{{\"Config\":\"\"}},{{\"Config\":[]}}]\n\n"),
    ] {
        let place = with(&list);
        pull(&mut *place.open("docker-archive", "").unwrap());
        pull(&mut *place.open("docker-archive", ":app:v1").unwrap());
    }
    for (list, words) in [
        (r#"[{"Config":5,"RepoTags":["app:v1"]}]"#, "Config is a number"),
        (r#"[{"RepoTags":["app:v1"]}]"#, "Config is missing"),
        (r#"[{"Config":"c.json","RepoTags":["app:v1"],"Layers":{}}]"#, "Layers is an object"),
        (r#"[{"Config":"c.json","RepoTags":["app:v1"],"Layers":[5]}]"#, "element of Layers is a number"),
        ("{}", "it is an object"),
        ("[", "not valid"),
    ] {
        refused(
            with(list).open("docker-archive", ":app:v1").unwrap().root(),
            Kind::BadImage,
            &["manifest.json", words],
        );
    }
    for none in ["null", "[]", "[null]"] {
        refused(with(none).open("docker-archive", "").unwrap().root(), Kind::NotFound, &["has no images"]);
    }
}

#[test]
fn several_images_in_a_docker_archive() {
    let (one, two) = (Image::new(), Image::with_layer(b"two".to_vec()));
    let list = br#"[{"Config":"1.json","RepoTags":["a:1","a:x"],"Layers":["1.tar"]},
                    {"Config":"2.json","RepoTags":["b:2"],"Layers":["2.tar"]}]"#;
    let files = vec![
        ("manifest.json".to_owned(), list.to_vec()),
        ("1.json".to_owned(), one.config.clone()),
        ("1.tar".to_owned(), one.layer.clone()),
        ("2.json".to_owned(), two.config.clone()),
        ("2.tar".to_owned(), two.layer.clone()),
    ];
    let place = Place::tar(&files, |_| {});
    assert_eq!(pull(&mut *place.open("docker-archive", ":b:2").unwrap()).0, b"two");
    assert_eq!(pull(&mut *place.open("docker-archive", ":x").unwrap()).0.len(), 100_000);
    refused(place.open("docker-archive", "").unwrap().root(), Kind::Usage, &["several images: a:1, b:2"]);
}

#[test]
fn layers_that_are_links_or_compressed() {
    let image = Image::new();
    for (kind, target) in [(EntryType::Symlink, "../aa/layer.tar"), (EntryType::Link, "aa/layer.tar")] {
        let files = docker(&image, "null", r#""bb/layer.tar""#);
        let place = Place::tar(&files, |builder| {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, "bb/layer.tar", target).unwrap();
        });
        assert!(pull(&mut *place.open("docker-archive", "").unwrap()).0 == image.layer);
    }
    let circle = Place::tar(&docker(&image, "null", r#""bb""#), |builder| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "bb", "bb").unwrap();
    });
    refused(circle.open("docker-archive", "").unwrap().root(), Kind::NotFound, &["has no bb"]);

    let gzip = [b"\x1f\x8b\x08\0".as_slice(), &[7; 40_000]].concat();
    let mut files = docker(&image, "null", r#""aa/layer.tar""#);
    files[1].1 = gzip.clone();
    let place = Place::tar(&files, |_| {});
    let (layer, descriptor) = pull(&mut *place.open("docker-archive", "").unwrap());
    assert!(layer == gzip);
    assert_eq!(descriptor.media_type, "application/vnd.docker.image.rootfs.diff.tar.gzip");
}

#[test]
fn docker_archives_that_are_none() {
    let image = Image::new();
    let oci = Place::tar(&layout_of(&image, None), |_| {});
    refused(
        oci.open("docker-archive", "").unwrap().root(),
        Kind::NotFound,
        &["no manifest.json", "oci-archive:"],
    );
    let no_layers = Place::tar(&docker(&image, "null", ""), |_| {});
    refused(
        no_layers.open("docker-archive", "").unwrap().root(),
        Kind::BadImage,
        &["0 layers", "1 diff_ids"],
    );
    let missing = Place::tar(&docker(&image, "null", r#""gone\u001b.tar""#), |_| {});
    let text = refused(missing.open("docker-archive", "").unwrap().root(), Kind::NotFound, &["has no gone"]);
    assert!(!text.contains('\x1b'));
}
