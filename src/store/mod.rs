//! What lasts: how a finished root file system becomes visible.

pub mod staging;
