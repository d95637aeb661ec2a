//! The `edgepull` program.
fn main() {}
