//! Hostile images: every way out of a root, and every way to use up a board, that is known from other engines' tests
//! and advisories (containerd, moby, umoci, containers/storage, the tar libraries of Go, Rust, Node and Python) or
//! follows from the formats. Each is built byte by byte ([`builder`]), pulled by the real program, and judged by what
//! must not have changed ([`victim`]).

mod bombs;
mod breakout;
mod builder;
mod compression;
mod documents;
mod framing;
mod members;
mod registries;
mod scale;
mod sparse;
mod terminal;
mod truncated;
mod victim;
mod whiteout;
