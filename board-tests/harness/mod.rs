//! What the tests in this folder are written with, so that each reads as what it proves:
//! boards that run edgepull, as recorded ([`Board`]) and booted in QEMU ([`Machine`]), registries real
//! ([`Registry`]), scripted ([`FakeRegistry`]), behind a bad link ([`Proxy`]) and behind a wire that counts ([`Relay`]),
//! images made on the spot
//! ([`Image`], [`Layer`], [`Index`]) and trees to compare ([`Tree`]). Everything lives in a [`Scratch`]
//! folder or a child process and goes when the test ends, also when it fails.

mod board;
mod cuts;
mod fake;
mod image;
mod initramfs;
mod machine;
mod pki;
mod proxy;
mod registry;
mod relay;
mod serial;
mod taken;
mod token;
mod tools;
mod tree;

pub use board::{Board, Outcome, agent, exit};
pub use cuts::{Chance, Distribution, Refetched, cuts_wanted, tell};
pub use fake::{Answer, FakeRegistry};
pub use image::{Artifact, Image, Index, Layer, digest_of, gzip, program};
pub use machine::{Disk, Machine, Model, Setup, busybox, for_guest};
pub use pki::{Authority, own_address};
pub use proxy::{End, Fault, Place, Proxy};
pub use registry::Registry;
pub use relay::Relay;
pub use token::TokenServer;
pub use tools::{Mounted, Scratch, SmallDisk, base64, copy_disk, docker_config, run, skopeo, umoci_unpack};
pub use tree::Tree;

/// The example layout in the repository, as an image name.
pub const HELLO: &str = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/examples/hello");
/// The folder that it is, for those who push it.
pub const HELLO_LAYOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello");
