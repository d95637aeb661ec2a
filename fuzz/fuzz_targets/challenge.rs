//! `WWW-Authenticate`: few challenges, and written down again they are the same.
#![no_main]

use edgepull::source::fuzzing::challenges;
use edgepull_fuzz::{fuzz_target, memory};

const NAMES: [&str; 4] = ["realm", "service", "scope", "error"];

fuzz_target!(|header: &str| {
    let found = memory::within(16 * header.len() + 32 * 1024, || challenges(header, &NAMES));
    assert!(found.len() <= 16);
    let mut written = String::new();
    for (scheme, parameters) in &found {
        assert!(!scheme.is_empty() && !scheme.contains([' ', '"', ',', '=']), "{scheme:?}");
        written.push_str(scheme);
        for (at, (name, value)) in parameters.iter().enumerate() {
            let value = value.replace('\\', r"\\").replace('"', "\\\"");
            written.push_str(&format!("{} {name}=\"{value}\"", if at > 0 { "," } else { "" }));
        }
        written.push_str(", ");
    }
    // Any value at all, with every character escaped, or only those that have to be.
    let all: String = header.chars().flat_map(|character| ['\\', character]).collect();
    let needed = header.replace('\\', r"\\").replace('"', "\\\"");
    for escaped in [all, needed] {
        let bearer = challenges(&format!("Bearer a=b, Realm = \"{escaped}\", scope=x"), &NAMES);
        let parameters = vec![("realm", header.to_owned()), ("scope", "x".to_owned())];
        assert_eq!(bearer, [("bearer".to_owned(), parameters)]);
    }
    assert_eq!(challenges(&written, &NAMES), found, "{header:?} was written as {written:?}");
});
