#![doc = include_str!("../README.md")]

pub mod cases;
pub mod harness;
pub mod machine;
pub mod report;
pub mod run;
pub mod stats;
pub mod table;
pub mod versions;
