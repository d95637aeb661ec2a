//! edgepull: board facts choose one entry of a manifest list; the entry's layers stream once, verified,
//! through a few fixed buffers into files; only whole, durable results ever become visible.
//!
//! The rooms, from the ground up (each imports only from rooms below it):
//!
//! | room | knows |
//! |---|---|
//! | [`error`], [`sys`] | failures and their exit codes; every raw syscall with its fallback |
//! | [`links`] | which links of a path are followed by whoever is about to write there |
//! | [`clock`] | what time it is, on boards whose clock may not know |
//! | [`platform`] | who the board is, and which platforms it can run, best first |
//! | [`image`] | references, digests, manifests, which entry a host takes, what an ELF file needs, how a list is made |
//! | [`source`] | where an image's bytes come from, and are written to: registry, OCI layout, archives |
//! | [`trust`] | whether an image may be unpacked: policy, keys, signatures; which of two is older |
//! | [`layer`] | how a layer's bytes become files, kept once and linked into roots; how that is frozen and thawed |
//! | [`store`] | what lasts: layers, generations, what is current, lists in the making; how a finished tree becomes visible, and only then |
//! | [`sandbox`] | work in a process that can do little; needs nothing of the rooms above [`sys`] |
//! | [`commands`] | what each command does, in order |
//! | [`cli`] | the command line |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod commands;
mod decimal;
pub mod error;
pub mod image;
pub mod layer;
pub mod links;
pub mod platform;
pub mod sandbox;
pub mod source;
pub mod store;
pub mod sys;
pub mod trust;
