//! The scripts of a queue, and the keys that they get.

use crate::script::Script;

/// The keys, in the order in which the scripts name them.
pub(super) const KEYS: [&str; 12] = [
    "queue:meta",
    "queue:log",
    "queue:facts",
    "queue:bodies",
    "queue:ready",
    "queue:delayed",
    "queue:leases",
    "queue:ends",
    "queue:lanes",
    "queue:dead",
    "queue:dedups",
    "queue:windows",
];

const NAMES: &str = include_str!("../../lua/queue/names.lua");
const COMMON: &str = include_str!("../../lua/queue/common.lua");

pub(super) struct Scripts {
    pub(super) open: Script,
    pub(super) send: Script,
    pub(super) receive: Script,
    pub(super) settle: Script,
    pub(super) extend: Script,
    pub(super) manage: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let freeing = |name, text| Script::freeing(name, &[NAMES, COMMON, text]);
        let check = include_str!("../../lua/queue/check.lua");
        let open = include_str!("../../lua/queue/open.lua");
        let send = include_str!("../../lua/queue/send.lua");
        Self {
            open: Script::freeing("open", &[NAMES, check, COMMON, open]),
            send: Script::growing("send", &[NAMES, COMMON, send]),
            receive: freeing("receive", include_str!("../../lua/queue/receive.lua")),
            settle: freeing("settle", include_str!("../../lua/queue/settle.lua")),
            extend: freeing("extend", include_str!("../../lua/queue/extend.lua")),
            manage: freeing("manage", include_str!("../../lua/queue/manage.lua")),
        }
    }
}
