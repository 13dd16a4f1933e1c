//! Chores of the dpat workspace.
fn main() {}
