//! What an image is: its names, digests and documents, and which of its entries a host takes.

pub mod digest;
pub mod manifest;
pub mod reference;
