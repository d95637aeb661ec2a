//! What an image is: its names, digests and documents, which of its entries a host takes, and whether
//! its programs are what their label says; and for who publishes, how entries become a list.

#[cfg(feature = "publish")]
pub mod compose;
pub mod digest;
pub mod elf;
pub(crate) mod json;
#[cfg(feature = "publish")]
pub mod label;
mod limits;
pub mod manifest;
pub mod program;
#[cfg(feature = "publish")]
pub mod reduce;
pub mod reference;
pub mod runtime;
pub mod select;
#[cfg(feature = "publish")]
pub mod spec;
#[cfg(feature = "publish")]
mod yaml;
