//! How full something is, without counting at every change.

use std::time::Duration;

use tokio::time::Instant;

/// How long a count is believed at least;
const BELIEVED: Duration = Duration::from_secs(1);

/// and so many times as long as it took, so that counting takes no more than this part of the time.
const COST: u32 = 50;

/// This part of the room that a count found may be filled before the next count.
const PART: u64 = 8;

/// What may be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// The last count, and what was added since by this process.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    counted: Option<Counted>,
    rows_since: u64,
    bytes_since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    until: Instant,
    rows: u64,
    bytes: u64,
}

impl Gauge {
    /// Whether there is room for so many bytes, surely enough to add them without a count.
    pub(crate) fn has_room(&self, limits: Room, bytes: u64, now: Instant) -> bool {
        let Some(counted) = self.counted else {
            return false;
        };
        let room = limits.rows.saturating_sub(counted.rows) / PART;
        let room_bytes = limits.bytes.saturating_sub(counted.bytes) / PART;
        now < counted.until
            && self.rows_since < room
            && self.bytes_since.saturating_add(bytes) <= room_bytes
    }

    /// Takes a count that began and ended then.
    pub(crate) fn counted(&mut self, rows: u64, bytes: u64, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        *self = Self {
            counted: Some(Counted {
                until: began + BELIEVED.max(took.saturating_mul(COST)),
                rows,
                bytes,
            }),
            rows_since: 0,
            bytes_since: 0,
        };
    }

    pub(crate) fn added(&mut self, bytes: u64) {
        self.rows_since = self.rows_since.saturating_add(1);
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_believed_for_a_part_of_the_room_and_for_a_time() {
        let limits = Room {
            rows: 100,
            bytes: 8000,
        };
        let now = Instant::now();
        let mut gauge = Gauge::default();
        assert!(!gauge.has_room(limits, 1, now), "nothing is counted");
        gauge.counted(20, 0, now, now);
        for _ in 0..10 {
            assert!(gauge.has_room(limits, 1, now));
            gauge.added(1);
        }
        assert!(!gauge.has_room(limits, 1, now), "an eighth of 80 is filled");
        gauge.counted(20, 0, now, now);
        assert!(gauge.has_room(limits, 1000, now));
        assert!(!gauge.has_room(limits, 1001, now));
        assert!(!gauge.has_room(limits, 1, now + BELIEVED));
        let ended = now + Duration::from_millis(100);
        gauge.counted(20, 0, now, ended);
        assert!(gauge.has_room(limits, 1, now + Duration::from_millis(4999)));
        assert!(!gauge.has_room(limits, 1, now + Duration::from_secs(5)));
        gauge.counted(99, 0, now, now);
        assert!(
            !gauge.has_room(limits, 1, now),
            "near the limit all is counted"
        );
    }
}
