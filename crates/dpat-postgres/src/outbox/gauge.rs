//! How full the backlog is, without counting at every append.

use std::time::Duration;

use dpat_outbox::Limits;
use tokio::time::Instant;

/// How long a count is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// This part of the room that a count found may be filled before the next count.
const PART: u64 = 8;

/// The last count, and what was appended since by this process.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    counted: Option<Counted>,
    rows_since: u64,
    bytes_since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    rows: u64,
    bytes: u64,
}

impl Gauge {
    /// Whether there is room for so many bytes, surely enough to append without a count.
    pub(super) fn has_room(&self, limits: Limits, bytes: u64, now: Instant) -> bool {
        let Some(counted) = self.counted else {
            return false;
        };
        let room = limits.backlog_rows.saturating_sub(counted.rows) / PART;
        let room_bytes = limits.backlog_bytes.saturating_sub(counted.bytes) / PART;
        now.saturating_duration_since(counted.at) < BELIEVED
            && self.rows_since < room
            && self.bytes_since.saturating_add(bytes) <= room_bytes
    }

    pub(super) fn counted(&mut self, rows: u64, bytes: u64, now: Instant) {
        *self = Self {
            counted: Some(Counted {
                at: now,
                rows,
                bytes,
            }),
            rows_since: 0,
            bytes_since: 0,
        };
    }

    pub(super) fn appended(&mut self, bytes: u64) {
        self.rows_since = self.rows_since.saturating_add(1);
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_believed_for_a_part_of_the_room_and_for_a_time() {
        let limits = Limits {
            backlog_rows: 100,
            backlog_bytes: 8000,
        };
        let now = Instant::now();
        let mut gauge = Gauge::default();
        assert!(!gauge.has_room(limits, 1, now), "nothing is counted");
        gauge.counted(20, 0, now);
        for _ in 0..10 {
            assert!(gauge.has_room(limits, 1, now));
            gauge.appended(1);
        }
        assert!(!gauge.has_room(limits, 1, now), "an eighth of 80 is filled");
        gauge.counted(20, 0, now);
        assert!(gauge.has_room(limits, 1000, now));
        assert!(!gauge.has_room(limits, 1001, now));
        assert!(!gauge.has_room(limits, 1, now + BELIEVED));
        gauge.counted(99, 0, now);
        assert!(
            !gauge.has_room(limits, 1, now),
            "near the limit all is counted"
        );
    }
}
