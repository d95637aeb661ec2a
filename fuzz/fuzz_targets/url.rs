//! `Location`, and the urls of foreign layers: http and https only, no user names, and what is relative stays with the
//! host that said it, for that one gets the credentials.
#![no_main]

use edgepull::source::fuzzing::{absolute, origin, resolve, shown};
use edgepull_fuzz::{assert_printable, fuzz_target, memory};

fuzz_target!(|data: &str| {
    let (base, reference) = data.split_once('\n').unwrap_or(("https://r.example:5000/v2/a/blobs/x?y", data));
    let Some(base) = absolute(base) else { return };
    let limit = 64 * data.len() + 4096;
    let Some(url) = memory::within(limit, || resolve(&base, reference)) else { return };
    let text = url.to_string();
    assert!(matches!(url.scheme_str(), Some("http" | "https")), "{text}");
    assert!(!url.authority().expect("a host").as_str().contains('@'), "{text}");
    assert!(!text.contains(['#', ' ', '\r', '\n']), "{text}");
    assert_printable(&text);
    let to = origin(&url).expect("an origin");
    assert!(!to.1.is_empty(), "{text}");
    // By RFC 3986 only a scheme or two slashes lead to another host.
    let has_scheme = reference.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
    if !has_scheme && !reference.starts_with("//") {
        assert_eq!(Some(to), origin(&base), "{reference:?} leads from {base} to {text}");
        assert!(!reference.starts_with('/') || url.path().split('/').all(|part| part != ".."), "{text}");
    }
    assert_eq!(resolve(&base, &text).map(|again| again.to_string()), Some(text), "resolved twice");
    let shown = shown(&url);
    assert!(!shown.contains('?'), "{shown} has a query, where signatures are");
});
