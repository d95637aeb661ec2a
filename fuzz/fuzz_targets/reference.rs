//! What a user, or a record, names as an image: shown and read again it is the same, and no part of it gets out of
//! its place in a URL.
#![no_main]

use edgepull::image::reference::{Reference, RegistryReference};
use edgepull_fuzz::{assert_printable, fuzz_target, memory};

fuzz_target!(|text: &str| {
    let limit = 64 * text.len() + 4096;
    let reference = match memory::within(limit, || text.parse::<Reference>()) {
        Ok(reference) => reference,
        Err(error) => return assert_printable(&error.to_string()),
    };
    let shown = reference.to_string();
    let again =
        shown.parse::<Reference>().unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}"));
    assert_eq!(again, reference, "{text:?} is shown as {shown:?}");
    if let Reference::Registry(RegistryReference { host, repository, tag, .. }) = &reference {
        assert!(
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte)),
            "{host:?}"
        );
        let path_is_safe =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._/".contains(&byte);
        assert!(repository.bytes().all(path_is_safe), "{repository:?}");
        assert!(
            repository.split('/').all(|part| !part.is_empty() && !part.starts_with('.')),
            "{repository:?}"
        );
        assert!(tag.iter().all(|tag| !tag.starts_with(['.', '-']) && !tag.contains(['/', '?', '#', '%'])));
        assert!(!reference_path(&reference).contains(".."), "{text:?}");
    }
});

/// What of it becomes the path of a request.
fn reference_path(reference: &Reference) -> String {
    match reference {
        // A tag may have two dots in it, but is one segment by itself.
        Reference::Registry(image) => format!("/v2/{}/manifests/", image.repository),
        _ => String::new(),
    }
}
