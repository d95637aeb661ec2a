//! Images in one file, `oci-archive:` and `docker-archive:`: whatever the file is, it is read or refused, and only what its
//! digest promises comes out.
#![no_main]

use edgepull::image::digest::Digest;
use edgepull::image::manifest::Document;
use edgepull::image::reference::{LocalReference, Reference};
use edgepull::source::{Options, open};
use edgepull_fuzz::home::Home;
use edgepull_fuzz::{assert_message, fuzz_target, head, layers, memory};
use std::cell::RefCell;
use std::io::Read;

thread_local! {
    static HOME: RefCell<Home> = RefCell::default();
}

fn read(reference: &Reference) -> edgepull::error::Result<()> {
    let mut source = open(reference, &Options::default())?;
    let root = source.root()?;
    assert_eq!(root.digest, Digest::of(&root.bytes));
    let mut document = Document::parse(&root.media_type, &root.bytes)?;
    if let Document::Index(index) = &document {
        let Some(first) = index.entries.first() else { return Ok(()) };
        let fetched = source.manifest(first)?;
        assert_eq!(Digest::of(&fetched.bytes), first.digest);
        document = Document::parse(&fetched.media_type, &fetched.bytes)?;
    }
    let Document::Manifest(manifest) = document else { return Ok(()) };
    let config = source.config(&manifest.config)?;
    assert_eq!(Digest::of(&config.bytes), manifest.config.digest);
    for layer in manifest.layers.iter().take(4) {
        let mut bytes = source.layer(layer, 0)?;
        std::io::copy(&mut bytes.by_ref().take(1 << 20), &mut std::io::sink())
            .map_err(|error| edgepull::error::Error::from_io(edgepull::error::Kind::Disk, error))?;
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, tar)) = head::<u8>(data, 1) else { return };
    let mut tar = tar.to_vec();
    layers::repair(&mut tar);
    HOME.with_borrow(|home| {
        drop(home.fresh("source"));
        home.write("source/image.tar", &tar);
        let tag = (kind & 2 != 0).then(|| "latest".to_owned());
        let local = LocalReference { path: home.path("source/image.tar"), tag };
        let reference =
            if kind & 1 == 0 { Reference::OciArchive(local) } else { Reference::DockerArchive(local) };
        if let Err(error) = memory::within(3 * tar.len() + (2 << 20), || read(&reference)) {
            assert_message(&error.to_string());
        }
        home.assert_untouched(&["source"]);
    });
});
