//! The shop, run for real: sockets, stores, kills.

mod chaos;
mod services;
mod stores;
mod switches;
