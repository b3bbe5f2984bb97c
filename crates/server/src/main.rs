//! The binary cairn: config, wiring, the command line.
fn main() {}
