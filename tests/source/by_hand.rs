//! A try by hand against anything that is there, with the peak memory it took:
//! `EDGEPULL_IMAGE=host/name:tag cargo test --release --test source -- --ignored --nocapture by_hand`,
//! with `EDGEPULL_CA_FILE` and `EDGEPULL_AUTH_FILE` where needed. It takes the first entry of an index.
//!
//! `EDGEPULL_PUSH=host/name:tag` and `EDGEPULL_PUSH_MIB=100` write an image with one layer of that size instead, which is
//! then pulled.

use edgepull::error::{Error, Kind};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Document, Manifest};
#[cfg(feature = "publish")]
use edgepull::image::reference::Reference;
use edgepull::source::{Options, Source, open};
use sha2::Digest as _;
use std::io::Read;

fn options() -> Options {
    let file = |name: &str| std::env::var_os(name).map(Into::into);
    Options { ca_file: file("EDGEPULL_CA_FILE"), auth_file: file("EDGEPULL_AUTH_FILE"), ..Options::default() }
}

fn memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

#[test]
#[ignore = "needs EDGEPULL_IMAGE"]
fn by_hand() {
    let Ok(image) = std::env::var("EDGEPULL_IMAGE") else { return println!("EDGEPULL_IMAGE is not set") };
    let result = image.parse().and_then(|reference| pull(&mut *open(&reference, &options())?));
    memory();
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
#[cfg(feature = "publish")]
#[ignore = "needs EDGEPULL_PUSH"]
fn push_by_hand() {
    let Ok(image) = std::env::var("EDGEPULL_PUSH") else { return println!("EDGEPULL_PUSH is not set") };
    struct Log;
    impl log::Log for Log {
        fn enabled(&self, metadata: &log::Metadata) -> bool {
            metadata.level() <= log::Level::Info || metadata.target().starts_with("edgepull")
        }
        fn log(&self, record: &log::Record) {
            if self.enabled(record.metadata()) {
                println!("{}: {}", record.level(), record.args());
            }
        }
        fn flush(&self) {}
    }
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let size = std::env::var("EDGEPULL_PUSH_MIB").map_or(100, |size| size.parse::<u64>().unwrap()) << 20;
    let reference = image.parse().unwrap();
    let result = push(&reference, size);
    memory();
    if let Err(error) = result.and_then(|()| pull(&mut *open(&reference, &options())?)) {
        panic!("{error}");
    }
}

/// Writes an image whose layer has that many bytes, which nobody keeps.
#[cfg(feature = "publish")]
fn push(reference: &Reference, size: u64) -> Result<(), Error> {
    use crate::image::{descriptor, pointer};
    use edgepull::image::manifest::media_type;
    use edgepull::image::reference::RegistryReference;
    use edgepull::source::{Fetched, open_destination};

    /// Bytes that differ from one another, and from one run to the next.
    struct Bytes(u64, std::ops::Range<u64>);
    impl Read for Bytes {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = (buffer.len() as u64).min(self.1.end - self.1.start);
            for byte in &mut buffer[..length as usize] {
                let at = self.1.next().unwrap();
                *byte = ((at / 8).wrapping_mul(self.0) >> (at % 8 * 7)) as u8;
            }
            Ok(length as usize)
        }
    }
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    let (mut hash, mut reader, mut buffer) = (sha2::Sha256::new(), Bytes(seed, 0..size), [0; 16 << 10]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let digest = Digest(hash.finalize().into());
    let layer = format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, media_type::OCI_LAYER);
    let config = br#"{"architecture":"arm","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{layer}]}}"#,
        media_type::OCI_MANIFEST,
        pointer(media_type::OCI_CONFIG, config)
    );
    let mut destination = open_destination(reference, &options())?;
    let (config_descriptor, layer) = (
        descriptor(media_type::OCI_CONFIG, config),
        edgepull::image::manifest::Descriptor::new(media_type::OCI_LAYER.to_owned(), digest, size),
    );
    let mut all = 0;
    println!("there? {}", destination.has_blob(&layer)?);
    destination.blob(&layer, &mut |from| Ok(Box::new(Bytes(seed, from..size))), &mut |sent| all += sent)?;
    assert_eq!(all, size);
    destination.blob(&config_descriptor, &mut |from| Ok(Box::new(&config[from as usize..])), &mut |_| {})?;
    assert!(destination.has_blob(&layer)? && destination.has_blob(&config_descriptor)?);
    let document = Fetched {
        digest: Digest::of(manifest.as_bytes()),
        media_type: media_type::OCI_MANIFEST.into(),
        bytes: manifest.into_bytes(),
    };
    destination.manifest(&document)?;
    assert!(destination.has_manifest(&descriptor(media_type::OCI_MANIFEST, &document.bytes))?);
    destination.publish(&document, &["second".to_owned()])?;
    destination.show()?;
    if let Reference::Registry(image) = reference {
        let repository = format!("{}/mounted", image.repository);
        let other = Reference::Registry(RegistryReference { repository, ..image.clone() });
        println!("mounted? {}", open_destination(&other, &options())?.mount(&layer, reference)?);
    }
    Ok(())
}

fn pull(source: &mut dyn Source) -> Result<(), Error> {
    let manifest = manifest(source)?;
    println!("config {}", source.config(&manifest.config)?.digest);
    for layer in &manifest.layers {
        let mut reader = source.layer(layer, 0)?;
        let (mut buffer, mut hash) = ([0; 16 << 10], sha2::Sha256::new());
        loop {
            let read = reader.read(&mut buffer).map_err(|error| Error::from_io(Kind::Other, error))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        println!("layer {} of {} bytes", layer.digest, layer.size);
        assert_eq!(Digest(hash.finalize().into()), layer.digest);
    }
    Ok(())
}

fn manifest(source: &mut dyn Source) -> Result<Manifest, Error> {
    let mut fetched = source.root()?;
    loop {
        match Document::parse(&fetched.media_type, &fetched.bytes)? {
            Document::Manifest(manifest) => return Ok(*manifest),
            Document::Index(index) => fetched = source.manifest(&index.entries[0])?,
        }
    }
}
