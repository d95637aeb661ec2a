//! Who the board is, and which platforms it can run, best first.
//!
//! [`cpuinfo`], [`machine`] and [`midr`] turn the kernel's texts into facts, [`evidence`] keeps each
//! observation apart, `decide` weighs them, [`host`] holds the outcome. Nothing here knows images;
//! [`variant`] is the vocabulary that both sides share.

pub mod candidates;
pub mod cpuinfo;
mod decide;
pub mod evidence;
mod extensions;
#[cfg(feature = "publish")]
pub mod families;
pub mod host;
mod hwcap;
#[cfg(feature = "publish")]
mod label;
mod live;
pub mod machine;
pub mod midr;
mod order;
mod report;
pub mod variant;

pub use candidates::Candidate;
pub use evidence::Evidence;
pub use host::{Host, Inputs};
#[cfg(feature = "publish")]
pub use label::check_label;
pub(crate) use variant::name as shown_name;
pub use variant::{Name, Platform};
