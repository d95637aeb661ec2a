//! What lasts: how a finished root file system becomes visible, and what edgepull remembers from run to run.

mod access;
pub mod clock;
pub mod deployment;
pub mod disk;
pub mod layers;
#[cfg(feature = "publish")]
pub mod lists;
pub mod lock;
pub mod staging;
pub mod state;
#[cfg(feature = "publish")]
pub mod temporary;
pub mod turns;
