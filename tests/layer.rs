//! Layers become files: what real tar writers make, whiteouts and replaced types across layers, what
//! hostile images try, and all of that without root.
//!
//! Run as root, these tests also check owners, devices and file capabilities, and run the part without
//! root as another user. Run by a user, they say what they leave out.

#[path = "layer/breakout.rs"]
mod breakout;
#[path = "layer/hostile.rs"]
mod hostile;
#[path = "layer/layers.rs"]
mod layers;
#[path = "layer/metadata.rs"]
mod metadata;
#[path = "layer/resume.rs"]
mod resume;
#[path = "layer/rootless.rs"]
mod rootless;
#[path = "layer/support.rs"]
mod support;
#[path = "layer/writers.rs"]
mod writers;
