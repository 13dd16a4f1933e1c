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

mod access;
mod atomic;
mod causal;
mod convergence;
mod delivery;
mod graph;
mod linear;
mod program_order;
mod session;
mod txn;
mod unique;
mod wgl;

mod report;

pub use atomic::{Protocol, check_atomicity};
pub use causal::{Causal, check_causal};
pub use convergence::check_convergence;
pub use delivery::check_delivery;
pub use error::{BadEvent, BadOperation, InputError};
pub use format::{Format, MAX_EVENTS, MAX_INPUT_BYTES, Parsed, parse};
pub use history::{History, Operation, Outcome};
pub use limits::{Limits, Stopped};
pub use linear::{check, check_linearizable};
pub use model::{Model, UnknownName};
pub use program_order::check_sequential;
pub use report::{Blocked, Broken, Report};
pub use sequential::{Sequential, Timed};
pub use session::{Session, check_session};
pub use txn::{Anomalies, Anomaly, Rule, Transactions, check_transactions, find_anomalies};
pub use value::Value;
pub use verdict::{Verdict, Violation};
pub use wgl::linearize;
