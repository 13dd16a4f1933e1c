//! Processes that may be anybody's.

use std::time::Duration;

use super::pid_of;
use crate::wait::until;

/// Waits until a process is gone; false if it stays.
pub(super) fn gone(pid: u32, limit: Duration) -> bool {
    until(limit, || (!runs(pid)).then_some(())).is_some()
}

/// Says whether a process runs. One that has ended and whose parent has not asked how does not.
pub(super) fn runs(pid: u32) -> bool {
    let there = pid_of(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may have any character.
    let state = stat.rsplit(')').next().unwrap_or_default();
    there && !state.trim_start().starts_with('Z')
}
