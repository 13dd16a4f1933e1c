//! Side-by-side measurements of the dpat engines, the bare clients and other queues, on the same servers in the same run.

pub mod cases;
pub mod harness;
#[path = "../../src/machine.rs"]
pub mod machine;
pub mod page;
#[path = "../../src/report.rs"]
pub mod report;
pub mod run;
pub mod servers;
#[path = "../../src/stats.rs"]
pub mod stats;
#[path = "../../src/table.rs"]
pub mod table;
#[path = "../../src/versions.rs"]
pub mod versions;
