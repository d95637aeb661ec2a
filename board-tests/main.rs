//! The board tests: the finished program against real registries, real tools and hostile servers.
//! `board-tests/run` installs what they need and runs them; they want root, as they compare owners.

mod failures;
mod harness;
mod registries;
mod selection;
mod trees;
