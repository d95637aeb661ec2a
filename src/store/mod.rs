//! What lasts: how a finished root file system becomes visible, and what edgepull remembers from run to run.

pub mod clock;
pub mod layers;
pub mod staging;
