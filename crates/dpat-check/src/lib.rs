#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod hash;
mod limits;
mod value;

mod format;
mod history;

mod model;
mod object;
mod sequential;
mod verdict;

mod delivery;
mod graph;
mod linear;
mod txn;
mod unique;
mod wgl;

mod report;

pub use delivery::check_delivery;
pub use error::{BadEvent, BadOperation, InputError};
pub use format::{Format, MAX_EVENTS, MAX_INPUT_BYTES, Parsed, parse};
pub use history::{History, Operation, Outcome};
pub use limits::{Limits, Stopped};
pub use linear::{check, check_linearizable};
pub use model::{Model, UnknownName};
pub use report::{Blocked, Broken, Report};
pub use sequential::{Sequential, Timed};
pub use txn::{Anomalies, Anomaly, Rule, Transactions, check_transactions, find_anomalies};
pub use value::Value;
pub use verdict::{Verdict, Violation};
pub use wgl::linearize;
