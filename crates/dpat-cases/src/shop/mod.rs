//! The order platform: gateway, order, inventory, payment and shipping, each with a port and a store of its own.

pub mod check;
pub mod config;
pub mod domain;
pub mod driver;
pub mod generator;
pub mod idempotency;
pub mod node;
pub mod outbox;
pub mod policy;
pub mod record;
pub mod report;
pub mod run;
pub mod service;
pub mod shell;
pub mod view;
pub mod work;
pub mod workflow;
