//! What a registry says to an upload (`Location`, `Range`, `OCI-Chunk-Min-Length`, `Docker-Content-Digest`): it goes on
//! where credentials may go, never without TLS after it was with it, and no number is taken for another.
#![no_main]

use edgepull::image::digest::Digest;
use edgepull::source::fuzzing::{absolute, chunk, origin, resolve, upload_ends, upload_goes_on, upload_has};
use edgepull_fuzz::{assert_message, fuzz_target, memory};

/// The smallest chunk. Nothing is kept of one, so that the largest is the registry's affair.
const CHUNK: u64 = 8 << 20;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let [location, range, digest, size] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let size = size.parse().unwrap_or(0);
    let limit = 64 * text.len() + 8192;
    for base in ["https://r.example:5000/v2/a/blobs/uploads/?y", "http://r.example/v2/a/blobs/uploads/x"] {
        let base = absolute(base).expect("a URL");
        let url = match memory::within(limit, || upload_goes_on(&base, location)) {
            Ok(url) => url,
            Err(error) => {
                assert_message(&error.to_string());
                continue;
            }
        };
        assert!(
            base.scheme_str() == Some("http") || url.scheme_str() == Some("https"),
            "{base} leads to {url}"
        );
        assert_eq!(resolve(&base, location).as_ref(), Some(&url));
        let of = Digest::of(b"blob");
        let Some(end) = memory::within(limit, || upload_ends(&url, &of)) else { continue };
        assert_eq!((origin(&end), end.path()), (origin(&url), url.path()), "{url} ends at {end}");
        let query = end.query().expect("the digest");
        assert!(query.split('&').any(|pair| pair == format!("digest={of}")), "{end}");
        assert_eq!(query.split('&').next_back(), Some(format!("digest={of}").as_str()), "{end}");
    }
    if let Some(has) = upload_has(range) {
        let last: u64 = range.rsplit('-').next().and_then(|last| last.parse().ok()).expect("digits");
        assert_eq!(has, if last == 0 { 0 } else { last + 1 }, "{range:?}");
        assert!(range.strip_prefix("bytes=").unwrap_or(range).starts_with("0-"), "{range:?}");
    }
    let least = range.parse::<u64>().unwrap_or(0).max(CHUNK);
    assert_eq!(chunk(Some(range), size), Some(least).filter(|least| *least < size), "{range:?} of {size}");
    match digest.parse::<Digest>() {
        Ok(read) => assert_eq!(read.to_string(), digest),
        Err(error) => assert_message(&error.to_string()),
    }
});
