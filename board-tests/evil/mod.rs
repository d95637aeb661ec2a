//! Hostile images: every way out of a root, and every way to use up a board, that is known from other engines' tests
//! and advisories (containerd, moby, umoci, containers/storage, the tar libraries of Go, Rust, Node and Python) or
//! follows from the formats. Each is built byte by byte ([`builder`]), pulled by the real program, and judged by what
//! must not have changed ([`victim`]).
//!
//! | known from | what it was | tried by |
//! |---|---|---|
//! | containerd, `TestBreakouts` | links, hard links and whiteouts that lead out, by 32 names | [`upstream::containerd`] |
//! | moby, containers/storage, `TestApplyLayerInvalid…` | `..` in names, links and hard links to a victim | [`upstream::moby`] |
//! | umoci, `TestUnpackEntry…Scoping` | names and links that begin with `..` | [`upstream::umoci`] |
//! | umoci, CVE-2021-29136 | a link named `/.`, through which the next layer is written | [`upstream::umoci`], [`breakout::dots_and_slashes`] |
//! | containerd, CVE-2021-32760 | a mode that is set through a link | [`upstream::containerd`], [`breakout::links_at_the_end_of_a_path`] |
//! | containerd, CVE-2025-47290 | a link in place of a directory while it is unpacked | [`breakout::folders_that_become_something_else`] |
//! | Docker, CVE-2018-15664 | the same, between check and use | [`breakout::folders_that_become_something_else`] |
//! | Docker, CVE-2021-41089 | parents that are made through a link | [`breakout::symbolic_links`], [`whiteout::whiteouts_through_links`] |
//! | tar-split, CVE-2017-14992 | what stands behind the end of an archive | [`upstream::padding`] |
//! | image-spec, CVE-2021-41190 | a manifest that is an index, too | [`documents::manifests_that_are_indexes_too`] |
//! | containers/image, CVE-2024-3727 | digests that are paths | [`documents::digests_and_sizes`] |
//!
//! CVE-2019-14271 (`docker cp` loads libraries out of the container) and those of runc (CVE-2019-5736, CVE-2021-30465,
//! CVE-2024-21626 and later) are about containers that run. Nothing of an image is executed, loaded or mounted here.

pub mod bombs;
mod breakout;
pub mod builder;
mod compression;
mod documents;
mod framing;
mod members;
mod registries;
mod scale;
mod sparse;
pub mod terminal;
mod truncated;
mod upstream;
pub mod victim;
mod whiteout;
