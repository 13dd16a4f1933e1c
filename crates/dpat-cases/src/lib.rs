#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod lab;
pub mod protocols;
pub mod shop;
mod sync;
