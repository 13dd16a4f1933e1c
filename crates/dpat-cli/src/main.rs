//! The `dpat` command.
fn main() {}
