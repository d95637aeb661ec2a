//! Which image of a layout or an archive a user means, where it has several.
//!
//! docker, podman, skopeo and containerd write several images into one file, each with one name or several, or none:
//!
//! | written by | name |
//! |---|---|
//! | containerd (`ctr export`, `docker save`) | annotation `io.containerd.image.name`, in full; `org.opencontainers.image.ref.name`, the tag alone |
//! | skopeo, podman, umoci, ORAS | annotation `org.opencontainers.image.ref.name`, a tag or in full |
//! | `docker save`, a Docker archive | `RepoTags`, as Docker shortens names |
//!
//! A user may write any of these, a tag alone, or `@N` for the Nth image from 0 on, as in containers-transports(5). More
//! than one image by what was written is an error that lists names which each mean one.

use crate::error::{Error, Kind};
use std::fmt::Write;

/// The most names that an error message lists.
const LISTED_MAX: usize = 20;

/// How exactly what a user wrote names an image; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// By the name itself.
    Exact,
    /// By the same name as Docker shortens it, or completes it.
    Docker,
    /// By its tag alone.
    Tag,
}

/// Says how `wanted` means the image `name`, if it does.
pub(super) fn matches(name: &str, wanted: &str) -> Option<Match> {
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    match () {
        () if name == wanted => Some(Match::Exact),
        () if tag.is_some() && whole(name) == whole(wanted) => Some(Match::Docker),
        () if tag == Some(wanted) => Some(Match::Tag),
        () => None,
    }
}

/// A name without what Docker leaves out, and with the tag that it completes.
fn whole(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}

/// Finds the images that `wanted` means: of those whose names match, the ones that match best.
pub(super) fn find<T: Copy + PartialEq>(wanted: &str, named: &[(&str, T)]) -> Vec<T> {
    let best = named.iter().filter_map(|(name, _)| matches(name, wanted)).min();
    let mut found = Vec::new();
    for (name, image) in named {
        if best.is_some() && matches(name, wanted) == best && !found.contains(image) {
            found.push(*image);
        }
    }
    found
}

/// Reads `@N`.
pub(super) fn number(wanted: &str) -> Option<usize> {
    wanted.strip_prefix('@')?.parse().ok()
}

/// The error for several images of which one was to be named. `place` is what was opened, with its transport
/// (`oci:DIR`).
pub(super) fn several(place: &str, names: &[String]) -> Error {
    let message = format!("{place} has several images: {}", listed(names));
    let example = names.first().map(|name| format!("name one, as in {place}:{}", name.escape_debug()));
    Error::new(Kind::Usage, message).hint(example.unwrap_or_else(|| "name one".to_owned()))
}

/// The error for a name that no image has.
pub(super) fn none(place: &str, wanted: &str, names: &[String]) -> Error {
    let error = Error::new(Kind::NotFound, format!("{place} has no image {wanted:?}"));
    match names.is_empty() {
        true => error.hint("its images have no names; leave the name out"),
        false => error.hint(format!("there is {}", listed(names))),
    }
}

/// `a, b, c`, within [`LISTED_MAX`].
fn listed(names: &[String]) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        match at {
            LISTED_MAX => {
                let _ = write!(text, " and {} more", names.len() - LISTED_MAX);
                break;
            }
            0 => {}
            _ => text.push_str(", "),
        }
        let _ = write!(text, "{}", name.escape_debug());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_full_comes_before_a_short_one_and_a_tag_alone() {
        let names = [
            ("docker.io/library/a:latest", 1),
            ("docker.io/library/b:latest", 2),
            ("b", 3),
            ("localhost:5000/x", 4),
        ];
        for (wanted, found) in [
            ("docker.io/library/a:latest", &[1][..]),
            ("a:latest", &[1]),
            ("a", &[1]),
            ("library/a", &[1]),
            ("docker.io/a", &[1]),
            ("latest", &[1, 2]),
            ("b", &[3]),
            ("b:latest", &[2]),
            ("localhost:5000/x", &[4]),
            ("5000/x", &[]),
            ("est", &[]),
            ("c", &[]),
            ("", &[]),
        ] {
            assert_eq!(find(wanted, &names), found, "{wanted}");
        }
        assert_eq!(find("a", &[("docker.io/library/a:1", 1)]), [0; 0], "another tag");
    }

    #[test]
    fn errors_list_what_can_be_pasted() {
        let names: Vec<String> = (0..25).map(|number| format!("r.io/x:{number}")).collect();
        let error = several("oci:dir", &names).to_string();
        assert!(error.starts_with("oci:dir has several images: r.io/x:0, r.io/x:1, "), "{error}");
        assert!(error.ends_with("r.io/x:19 and 5 more; name one, as in oci:dir:r.io/x:0"), "{error}");
        assert_eq!((number("@3"), number("@x"), number("3")), (Some(3), None, None));
    }
}
