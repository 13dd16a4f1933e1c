//! What connects the services to a real machine: sockets, files, clocks.

pub mod http;
pub mod redb;
pub mod time;
