//! A try by hand against anything that is there, with the peak memory it took:
//! `EDGEPULL_IMAGE=host/name:tag cargo test --release --test source -- --ignored --nocapture by_hand`,
//! with `EDGEPULL_CA_FILE` and `EDGEPULL_AUTH_FILE` where needed. It takes the first entry of an index.

use edgepull::error::{Error, Kind};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Document, Manifest};
use edgepull::source::{Options, Source, open};
use sha2::Digest as _;
use std::io::Read;

#[test]
#[ignore = "needs EDGEPULL_IMAGE"]
fn by_hand() {
    let Ok(image) = std::env::var("EDGEPULL_IMAGE") else { return println!("EDGEPULL_IMAGE is not set") };
    let file = |name: &str| std::env::var_os(name).map(Into::into);
    let options = Options {
        ca_file: file("EDGEPULL_CA_FILE"),
        auth_file: file("EDGEPULL_AUTH_FILE"),
        ..Options::default()
    };
    let result = image.parse().and_then(|reference| pull(&mut *open(&reference, &options)?));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
    if let Err(error) = result {
        panic!("{error}");
    }
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
