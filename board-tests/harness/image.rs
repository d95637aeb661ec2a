//! Images made on the spot: layers written entry by entry, images, indexes over them, and what an
//! image ends as: a set of blobs under one descriptor, to be written as a layout or served.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::tools::Scratch;

/// `sha256:…` of some bytes.
pub fn digest_of(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One gzip member (RFC 1952), by the gzip program.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    filtered("gzip", &["-nc"], data)
}

/// The bytes that a filter program makes of `data`.
fn filtered(program: &str, args: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}; board-tests/run installs what the tests need"));
    let mut input = child.stdin.take().expect("a pipe");
    let data = data.to_owned();
    let feeder = std::thread::spawn(move || input.write_all(&data).expect("a filter that reads"));
    let output = child.wait_with_output().expect("a filter's output");
    feeder.join().expect("the feeding thread");
    assert!(output.status.success(), "{program}: {}", output.status);
    output.stdout
}

/// A program of examples/hello (v5, v6, v7, arm64, amd64): real code that needs that platform.
pub fn program(name: &str) -> Vec<u8> {
    let generator = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello/generate.py");
    filtered("python3", &["-B", generator, "--program", name], b"")
}

/// `linux/arm/v7` as a descriptor's `platform`.
pub fn platform(text: &str) -> Value {
    let mut parts = text.split('/');
    let mut platform = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        platform["variant"] = variant.into();
    }
    platform
}

/// One layer's tar archive in the making; entries are owned by root until [`Layer::owned_by`].
pub struct Layer {
    tar: Builder<Vec<u8>>,
    owner: (u64, u64),
    mtime: u64,
}

impl Layer {
    pub fn new() -> Layer {
        Layer { tar: Builder::new(Vec::new()), owner: (0, 0), mtime: 1_700_000_000 }
    }

    /// The owner of the entries that follow.
    pub fn owned_by(mut self, user: u64, group: u64) -> Layer {
        self.owner = (user, group);
        self
    }

    /// Writes extended header records (POSIX pax) for the entry that follows.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Layer {
        self.tar.append_pax_extensions(records.iter().copied()).expect("a tar in memory");
        self
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        content: &[u8],
        change: impl Fn(&mut Header),
    ) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        self.mtime += 1; // every entry its own time, so that a mixed-up one shows
        header.set_mtime(self.mtime);
        header.set_size(content.len() as u64);
        // The name as it is: the tar crate refuses the names that a hostile image holds.
        assert!(path.len() <= 100, "use pax for long names");
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.tar.append(&header, content).expect("a tar in memory");
        self
    }

    pub fn dir(self, path: &str, mode: u32) -> Layer {
        self.entry(EntryType::Directory, path, mode, b"", |_| {})
    }

    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Layer {
        self.file_mode(path, content, 0o644)
    }

    pub fn file_mode(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Layer {
        self.entry(EntryType::Regular, path, mode, content.as_ref(), |_| {})
    }

    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, path, 0o777, b"", |h| set_link(h, target))
    }

    pub fn hardlink(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, path, 0o644, b"", |h| set_link(h, target))
    }

    pub fn fifo(self, path: &str) -> Layer {
        self.entry(EntryType::Fifo, path, 0o600, b"", |_| {})
    }

    pub fn char_device(self, path: &str, major: u32, minor: u32) -> Layer {
        self.device(EntryType::Char, path, major, minor)
    }

    pub fn block_device(self, path: &str, major: u32, minor: u32) -> Layer {
        self.device(EntryType::Block, path, major, minor)
    }

    fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Layer {
        self.entry(kind, path, 0o666, b"", |h| {
            h.set_device_major(major).expect("a header with devices");
            h.set_device_minor(minor).expect("a header with devices");
        })
    }

    /// Hides `path` of the layers below (OCI image-spec, layer.md, "Whiteouts").
    pub fn whiteout(self, path: &str) -> Layer {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let slash = if folder.is_empty() { "" } else { "/" };
        self.file(&format!("{folder}{slash}.wh.{name}"), "")
    }

    /// Hides all that the layers below have in `folder`.
    pub fn opaque(self, folder: &str) -> Layer {
        self.file(&format!("{folder}/.wh..wh..opq"), "")
    }

    pub fn tar(self) -> Vec<u8> {
        self.tar.into_inner().expect("a tar in memory")
    }
}

fn set_link(header: &mut Header, target: &str) {
    let field = &mut header.as_gnu_mut().expect("a GNU header").linkname;
    field[..target.len()].copy_from_slice(target.as_bytes());
}

/// How an image's layers are stored.
#[derive(Clone, Copy, PartialEq)]
enum Stored {
    Plain,
    Gzip,
    Zstd,
}

/// One image in the making.
pub struct Image {
    platform: Value,
    config: Value,
    layers: Vec<Vec<u8>>,
    stored: Stored,
    docker: bool,
}

impl Image {
    /// An image whose config and descriptor both say `platform`, like `linux/arm/v7`.
    pub fn of(platform: &str) -> Image {
        let (platform, config) = (self::platform(platform), json!({}));
        Image { platform, config, layers: Vec::new(), stored: Stored::Gzip, docker: false }
    }

    /// An image that says `platform` and whose entry point is the program called `code`.
    pub fn running(platform: &str, code: &str) -> Image {
        Image::of(platform).layer(Layer::new().file_mode("hello", program(code), 0o755)).entrypoint("/hello")
    }

    pub fn layer(self, layer: Layer) -> Image {
        self.raw_layer(layer.tar())
    }

    /// A layer of these very bytes, a tar archive or not.
    pub fn raw_layer(mut self, tar: Vec<u8>) -> Image {
        self.layers.push(tar);
        self
    }

    pub fn entrypoint(mut self, path: &str) -> Image {
        self.config["Entrypoint"] = json!([path]);
        self
    }

    /// Sets one more field of the config's `config`.
    pub fn configured(mut self, field: &str, value: Value) -> Image {
        self.config[field] = value;
        self
    }

    /// Docker's media types (image manifest version 2, schema 2) in place of OCI's.
    pub fn in_docker_format(mut self) -> Image {
        self.docker = true;
        self
    }

    pub fn in_zstd(mut self) -> Image {
        self.stored = Stored::Zstd;
        self
    }

    pub fn uncompressed(mut self) -> Image {
        self.stored = Stored::Plain;
        self
    }

    fn media_type(&self, what: &str) -> String {
        let stored = match self.stored {
            Stored::Plain => "",
            Stored::Gzip => "gzip",
            Stored::Zstd => "zstd",
        };
        match (self.docker, what) {
            (true, "manifest") => "application/vnd.docker.distribution.manifest.v2+json".into(),
            (true, "config") => "application/vnd.docker.container.image.v1+json".into(),
            (true, _) if stored.is_empty() => "application/vnd.docker.image.rootfs.diff.tar".into(),
            (true, _) => format!("application/vnd.docker.image.rootfs.diff.tar.{stored}"),
            (false, "layer") if stored.is_empty() => "application/vnd.oci.image.layer.v1.tar".into(),
            (false, "layer") => format!("application/vnd.oci.image.layer.v1.tar+{stored}"),
            (false, _) => format!("application/vnd.oci.image.{what}.v1+json"),
        }
    }

    pub fn build(self) -> Artifact {
        let mut blobs = BTreeMap::new();
        let mut config = self.platform.clone();
        let diff_ids: Vec<String> = self.layers.iter().map(|tar| digest_of(tar)).collect();
        config["config"] = self.config.clone();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let store = |blobs: &mut BTreeMap<_, _>, data: Vec<u8>, media_type: String| {
            let descriptor =
                json!({ "mediaType": media_type, "digest": digest_of(&data), "size": data.len() });
            blobs.insert(digest_of(&data), data);
            descriptor
        };
        let mut layers = Vec::new();
        for tar in &self.layers {
            let data = match self.stored {
                Stored::Plain => tar.clone(),
                Stored::Gzip => gzip(tar),
                // With the window of BuildKit's and Podman's.
                Stored::Zstd => filtered("zstd", &["-q", "-c", "--long=23"], tar),
            };
            layers.push(store(&mut blobs, data, self.media_type("layer")));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.media_type("manifest"),
            "config": store(&mut blobs, config.to_string().into_bytes(), self.media_type("config")),
            "layers": layers,
        });
        let mut descriptor =
            store(&mut blobs, manifest.to_string().into_bytes(), self.media_type("manifest"));
        descriptor["platform"] = self.platform;
        Artifact { blobs, descriptor }
    }
}

/// An image index (or a Docker manifest list) in the making.
pub struct Index {
    blobs: BTreeMap<String, Vec<u8>>,
    entries: Vec<Value>,
    media_type: &'static str,
}

impl Index {
    pub fn new() -> Index {
        let media_type = "application/vnd.oci.image.index.v1+json";
        Index { blobs: BTreeMap::new(), entries: Vec::new(), media_type }
    }

    /// A Docker manifest list.
    pub fn in_docker_format() -> Index {
        let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
        Index { media_type, ..Index::new() }
    }

    /// Adds an image under the platform that it was made for, or an index.
    pub fn with(self, artifact: Artifact) -> Index {
        self.with_changed(artifact, |_| {})
    }

    /// Adds an image, after a change of its descriptor.
    pub fn with_changed(mut self, artifact: Artifact, change: impl Fn(&mut Value)) -> Index {
        let mut descriptor = artifact.descriptor;
        change(&mut descriptor);
        self.entries.push(descriptor);
        self.blobs.extend(artifact.blobs);
        self
    }

    /// Adds an image for `platform`, whatever its config says.
    pub fn with_as(self, platform: &str, artifact: Artifact) -> Index {
        self.with_changed(artifact, |descriptor| descriptor["platform"] = self::platform(platform))
    }

    /// Adds an image whose entry says nothing of its platform.
    pub fn with_unlabelled(self, artifact: Artifact) -> Index {
        self.with_changed(artifact, |descriptor| {
            descriptor.as_object_mut().expect("a descriptor").remove("platform");
        })
    }

    pub fn build(mut self) -> Artifact {
        let index = json!({ "schemaVersion": 2, "mediaType": self.media_type, "manifests": self.entries });
        let data = index.to_string().into_bytes();
        let descriptor =
            json!({ "mediaType": self.media_type, "digest": digest_of(&data), "size": data.len() });
        self.blobs.insert(digest_of(&data), data);
        Artifact { blobs: self.blobs, descriptor }
    }
}

/// An image or an index: its blobs, and the descriptor of the topmost one.
#[derive(Clone)]
pub struct Artifact {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub descriptor: Value,
}

impl Artifact {
    pub fn digest(&self) -> &str {
        self.descriptor["digest"].as_str().expect("a digest")
    }

    /// The topmost manifest or index.
    pub fn manifest(&self) -> Value {
        serde_json::from_slice(&self.blobs[self.digest()]).expect("JSON")
    }

    /// The digest of layer `n`, the lowest being 0.
    pub fn layer(&self, n: usize) -> String {
        self.manifest()["layers"][n]["digest"].as_str().expect("a layer").to_owned()
    }

    /// The image with one more layer on top.
    pub fn topped_with(mut self, layer: Layer) -> Artifact {
        let (tar, mut manifest) = (layer.tar(), self.manifest());
        let config = manifest["config"]["digest"].as_str().expect("a config");
        let mut config: Value = serde_json::from_slice(&self.blobs[config]).expect("JSON");
        config["rootfs"]["diff_ids"].as_array_mut().expect("diff-ids").push(digest_of(&tar).into());
        let (config, layer) = (config.to_string().into_bytes(), gzip(&tar));
        let put = |descriptor: &mut Value, data: &[u8]| {
            descriptor["digest"] = digest_of(data).into();
            descriptor["size"] = data.len().into();
        };
        let layers = manifest["layers"].as_array_mut().expect("layers");
        layers.push(layers[0].clone());
        put(layers.last_mut().expect("a layer"), &layer);
        put(&mut manifest["config"], &config);
        self.blobs.extend([config, layer].map(|data| (digest_of(&data), data)));
        self.with_manifest(|there| *there = manifest.clone())
    }

    /// Puts other bytes where the blob `digest` was, as a broken or hostile server would.
    pub fn with_blob(mut self, digest: &str, data: Vec<u8>) -> Artifact {
        self.blobs.insert(digest.to_owned(), data);
        self
    }

    /// Changes the manifest itself; the descriptor follows.
    pub fn with_manifest(mut self, change: impl Fn(&mut Value)) -> Artifact {
        let mut manifest = self.manifest();
        change(&mut manifest);
        let data = manifest.to_string().into_bytes();
        self.descriptor["digest"] = digest_of(&data).into();
        self.descriptor["size"] = data.len().into();
        self.blobs.insert(digest_of(&data), data);
        self
    }

    /// Writes an OCI image layout into `folder` of the scratch, its tag `latest`; gives the folder's path.
    pub fn layout(&self, scratch: &Scratch, folder: &str) -> String {
        for (digest, data) in &self.blobs {
            scratch.write(&format!("{folder}/blobs/{}", digest.replace(':', "/")), data);
        }
        let mut top = self.descriptor.clone();
        top["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({ "schemaVersion": 2, "manifests": [top] });
        scratch.write(&format!("{folder}/index.json"), index.to_string());
        scratch.write(&format!("{folder}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
        scratch.at(folder)
    }

    /// [`Artifact::layout`] as the name of an image: `oci:…`.
    pub fn oci(&self, scratch: &Scratch, folder: &str) -> String {
        format!("oci:{}", self.layout(scratch, folder))
    }
}
