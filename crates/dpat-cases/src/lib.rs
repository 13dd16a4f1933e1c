//! Whole systems built from the dpat crates.
