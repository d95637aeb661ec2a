//! What `docker save` and `podman save` write: a tar with `manifest.json`, a config and layers.
//!
//! There is no manifest with digests in it, so one is made: the config's digest is computed, and the
//! layers, which are stored uncompressed, have the config's diff_ids as digests. A layer that some tool
//! compressed nevertheless is hashed once beforehand.

use super::archive::{Archive, Member};
use super::{Fetched, Source, names, read_document, verified};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::json::{self, Odd, Shape, Value};
use crate::image::manifest::{Descriptor, ImageConfig, LAYERS_MAX, media_type};
use crate::image::reference::LocalReference;
use serde::Serialize;
use sha2::Digest as _;
use std::io::Read;
use std::path::PathBuf;

/// The largest `manifest.json`, in bytes.
const LIST_FILE_MAX: u64 = 1 << 20;
/// The most images of an archive.
const IMAGES_MAX: usize = 1024;
/// The most names of one of them.
const NAMES_MAX: usize = 256;
/// The longest chain of links from a layer's name to its bytes.
const LINKS_MAX: usize = 4;

/// One image in a Docker archive.
pub(super) struct DockerArchive {
    archive: Archive,
    name: Option<String>,
    image: Option<Image>,
}

/// What was found out about the image.
struct Image {
    manifest: Fetched,
    config: Fetched,
    /// Digest, start in the archive, size.
    layers: Vec<(Digest, u64, u64)>,
}

/// An image in `manifest.json`. What is odd in it matters only if it is the one that is meant.
struct Listed {
    config: Result<Option<String>, Odd>,
    tags: Vec<String>,
    layers: Result<Option<Vec<Value>>, Odd>,
}

impl Listed {
    fn of(value: Value) -> Listed {
        let [config, tags, layers] = value.fields();
        Listed {
            config: config.needed_text(),
            tags: tags.texts().unwrap_or_default(),
            layers: layers.needed_list(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(String::as_str)
    }

    /// Whether it names a config, without which nothing is an image.
    fn is_image(&self) -> bool {
        self.config.as_ref().is_ok_and(|config| config.as_ref().is_some_and(|name| !name.is_empty()))
    }

    /// The names of the config and of the layers; or says what is odd.
    fn files(self) -> Result<(String, Vec<String>), String> {
        let is = |name: &'static str| move |odd: Odd| format!("{name} is {odd}");
        let config = self.config.map_err(is("Config"))?.filter(|name| !name.is_empty());
        let config = config.ok_or("Config is missing")?;
        let layers = self.layers.map_err(is("Layers"))?.unwrap_or_default().into_iter();
        let layers = layers.map(|layer| layer.needed_text().map(Option::unwrap_or_default));
        Ok((config, layers.collect::<Result<_, _>>().map_err(is("an element of Layers"))?))
    }
}

#[derive(Serialize)]
struct Pointer<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    size: u64,
    digest: Digest,
}

#[derive(Serialize)]
struct Manifest<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u8,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    config: Pointer<'a>,
    layers: Vec<Pointer<'a>>,
}

impl DockerArchive {
    /// Opens the archive that `reference` names.
    pub(super) fn open(reference: &LocalReference) -> Result<DockerArchive> {
        let archive = Archive::open(&reference.path)?;
        Ok(DockerArchive { archive, name: reference.tag.clone(), image: None })
    }

    fn image(&mut self) -> Result<&Image> {
        if self.image.is_none() {
            self.image = Some(self.load()?);
        }
        Ok(self.image.as_ref().expect("just loaded"))
    }

    fn load(&self) -> Result<Image> {
        let chosen = self.choose()?;
        let place = &self.archive.place;
        let (config, layers) = chosen
            .files()
            .map_err(|why| Error::new(Kind::BadImage, format!("{place}: manifest.json: {why}")))?;
        let (start, size) = self.bytes_of(&config)?;
        let what = format!("{place}: {}", config.escape_debug());
        let bytes = read_document(self.archive.read(start, size, 0), Some(size), Kind::Disk, &what)?;
        let diff_ids = ImageConfig::parse(&bytes).map_err(|error| error.context(&what))?.rootfs.diff_ids;
        if diff_ids.len() != layers.len() || layers.len() > LAYERS_MAX {
            return Err(Error::new(
                Kind::BadImage,
                format!("{place}: {} layers, but the config has {} diff_ids", layers.len(), diff_ids.len()),
            ));
        }
        let config = Fetched {
            digest: Digest::of(&bytes),
            bytes,
            media_type: "application/vnd.docker.container.image.v1+json".to_owned(),
        };
        let mut pointers = Vec::new();
        let mut places = Vec::new();
        for (name, diff_id) in layers.iter().zip(diff_ids) {
            let (start, size) = self.bytes_of(name)?;
            let (media_type, digest) = self.layer_kind(start, size, diff_id)?;
            pointers.push(Pointer { media_type, size, digest });
            places.push((digest, start, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::DOCKER_MANIFEST,
            config: Pointer {
                media_type: &config.media_type,
                size: config.bytes.len() as u64,
                digest: config.digest,
            },
            layers: pointers,
        };
        let bytes = serde_json::to_vec(&manifest).expect("strings and numbers only");
        let manifest =
            Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::DOCKER_MANIFEST.to_owned() };
        Ok(Image { manifest, config, layers: places })
    }

    /// The image that the reference means.
    fn choose(&self) -> Result<Listed> {
        const NAMES: Shape = Shape::List { of: &Shape::Text, max: NAMES_MAX, limit: "NAMES_MAX" };
        const LAYERS: Shape = Shape::List { of: &Shape::Text, max: LAYERS_MAX, limit: "LAYERS_MAX" };
        const IMAGE: Shape =
            Shape::Object(&[("Config", Shape::Text), ("RepoTags", NAMES), ("Layers", LAYERS)]);
        const LIST: Shape = Shape::List { of: &IMAGE, max: IMAGES_MAX, limit: "IMAGES_MAX" };
        let place = &self.archive.place;
        let Some(Member::File { start, size }) = self.archive.find("manifest.json")? else {
            return Err(Error::new(
                Kind::NotFound,
                format!("{place} is not a Docker archive: no manifest.json in it"),
            )
            .hint("an OCI layout in a tar file is oci-archive:FILE"));
        };
        if size > LIST_FILE_MAX {
            return Err(Error::new(Kind::BadImage, format!("{place}: manifest.json is larger than 1 MiB"))
                .hint("edgepull's limit LIST_FILE_MAX"));
        }
        let what = format!("{place}: manifest.json");
        let bytes = read_document(self.archive.read(start, size, 0), Some(size), Kind::Disk, &what)?;
        let invalid = |why: String| Error::new(Kind::BadImage, format!("{what} is not valid: {why}"));
        let images = json::read(&bytes, &LIST).map_err(|error| invalid(error.to_string()))?;
        let images = images.needed_list().map_err(|odd| invalid(format!("it is {odd}")))?;
        let mut images: Vec<Listed> = images.unwrap_or_default().into_iter().map(Listed::of).collect();
        let named = images.iter().enumerate();
        let named: Vec<(&str, usize)> =
            named.flat_map(|(at, image)| image.names().map(move |name| (name, at))).collect();
        let found = match &self.name {
            None => (0..images.len()).filter(|at| images[*at].is_image()).collect(),
            Some(wanted) => match names::number(wanted) {
                Some(number) => Vec::from_iter((number < images.len()).then_some(number)),
                None => names::find(wanted, &named),
            },
        };
        let shown = |among: &[usize]| -> Vec<String> {
            let first =
                |at: &usize| images[*at].names().next().map_or_else(|| format!("@{at}"), str::to_owned);
            among.iter().map(first).collect()
        };
        let place = format!("docker-archive:{place}");
        match (found.as_slice(), &self.name) {
            ([one], _) => Ok(images.swap_remove(*one)),
            ([], Some(wanted)) => Err(names::none(&place, wanted, &shown(&Vec::from_iter(0..images.len())))),
            ([], None) => Err(Error::new(Kind::NotFound, format!("{place} has no images"))),
            (several, _) => Err(names::several(&place, &shown(several))),
        }
    }

    /// Where the file `name` lies in the archive. Old `docker save` writes a layer that several images
    /// share once, and links to it.
    fn bytes_of(&self, name: &str) -> Result<(u64, u64)> {
        let mut path = name.to_owned();
        for _ in 0..=LINKS_MAX {
            match self.archive.find(&path)? {
                Some(Member::File { start, size }) => return Ok((start, size)),
                Some(Member::Link { symbolic, target }) => path = followed(&path, symbolic, &target),
                None => break,
            }
        }
        Err(Error::new(Kind::NotFound, format!("{} has no {}", self.archive.place, name.escape_debug())))
    }

    /// A layer's media type and digest: the diff_id, unless the file is compressed.
    fn layer_kind(&self, start: u64, size: u64, diff_id: Digest) -> Result<(&'static str, Digest)> {
        let mut reader = self.archive.read(start, size, 0);
        let mut buffer = [0; 16 << 10];
        let unreadable = |error| Error::from_io(Kind::Disk, error).context(&self.archive.place);
        let mut filled = reader.read(&mut buffer).map_err(unreadable)?;
        let media_type = match &buffer[..filled] {
            [0x1f, 0x8b, ..] => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.docker.image.rootfs.diff.tar.zstd",
            _ => return Ok(("application/vnd.docker.image.rootfs.diff.tar", diff_id)),
        };
        let mut hash = sha2::Sha256::new();
        while filled > 0 {
            hash.update(&buffer[..filled]);
            filled = reader.read(&mut buffer).map_err(unreadable)?;
        }
        Ok((media_type, Digest(hash.finalize().into())))
    }
}

impl Source for DockerArchive {
    fn files(&self) -> Vec<PathBuf> {
        vec![self.archive.path().to_owned()]
    }

    fn root(&mut self) -> Result<Fetched> {
        Ok(self.image()?.manifest.clone())
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        let fetched = self.root()?;
        verified(fetched.bytes, descriptor, "manifest")
    }

    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        let bytes = self.image()?.config.bytes.clone();
        verified(bytes, descriptor, "config")
    }

    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let found = self.image()?.layers.iter().find(|layer| layer.0 == descriptor.digest).copied();
        let Some((_, start, size)) = found else {
            return Err(Error::new(
                Kind::NotFound,
                format!("{} has no layer {}", self.archive.place, descriptor.digest),
            ));
        };
        Ok(Box::new(self.archive.read(start, size, offset)))
    }
}

/// The name in the archive that a link at `path` points at. `..` beyond the top stays at the top.
fn followed(path: &str, symbolic: bool, target: &str) -> String {
    let base = match symbolic && !target.starts_with('/') {
        true => path.rsplit_once('/').map_or("", |(directory, _)| directory),
        false => "",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        assert_eq!(followed("aa/layer.tar", true, "../bb/layer.tar"), "bb/layer.tar");
        assert_eq!(followed("aa/layer.tar", false, "bb/layer.tar"), "bb/layer.tar");
        assert_eq!(followed("aa/layer.tar", true, "../../../etc/passwd"), "etc/passwd");
        assert_eq!(followed("layer.tar", true, "./x"), "x");
    }
}
