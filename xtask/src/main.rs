//! Every repository command.
fn main() {}
