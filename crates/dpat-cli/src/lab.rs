//! `dpat lab`.

use clap::Args;
use dpat_cases::protocols::registry::registry;

use crate::output::{result, say};
use crate::{INTERNAL, OK};

/// Options of `dpat lab`.
#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// The loopback port; 0 for any that is free.
    #[arg(long, default_value_t = 7117)]
    port: u16,
}

/// Serves the lab until Ctrl-C.
pub(crate) fn run(lab: &Lab) -> u8 {
    let served = dpat_cases::lab::serve(registry(), lab.port, |address| {
        result(&format!("http://{address}/"));
        say("the lab is there until Ctrl-C");
    });
    match served {
        Ok(()) => OK,
        Err(error) => {
            say(&format!("dpat: port {}: {error}", lab.port));
            INTERNAL
        }
    }
}
