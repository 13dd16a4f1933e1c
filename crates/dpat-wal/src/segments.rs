//! Which segments there are, and where in them to look for a position.

use crate::position::Position;

/// How far the entries of an index are apart: a seek reads headers over so many bytes at most.
const INDEX_BYTES: u64 = 256 << 10;
/// The entries of one segment at most.
const INDEX_ENTRIES_MAX: u64 = 1024;

/// Decides which frames get an entry in the index.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Index {
    next: u64,
}

impl Index {
    pub(crate) const fn wants(self, offset: u64) -> bool {
        offset >= self.next
    }

    pub(crate) fn add(&mut self, offset: u64) {
        // The first entry is that of the segment itself; a large segment has wider steps.
        let step = INDEX_BYTES.max(offset / INDEX_ENTRIES_MAX * 2);
        self.next = offset + step;
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    /// Positions of frames and their offsets, ascending.
    pub(crate) index: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) const fn new(first: u64) -> Self {
        Self {
            first,
            index: Vec::new(),
        }
    }
}

/// The segments that can be read, the oldest first, and the low-water mark.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) all: Vec<Segment>,
    /// Records before it are compacted.
    pub(crate) low: u64,
    /// Below this offset of the last segment everything is durable.
    pub(crate) end: u64,
}

/// Where to begin to look for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment's first position, which is its name.
    pub(crate) segment: u64,
    /// Where the next segment begins; none for the last.
    pub(crate) until: Option<u64>,
    /// A frame, and its offset.
    pub(crate) position: u64,
    pub(crate) offset: u64,
}

impl Segments {
    /// Finds where to look for a position that is not compacted; the last segment for one that is not there yet.
    pub(crate) fn place_of(&self, position: Position, first_offset: u64) -> Option<Place> {
        let at = self.at(position.0)?;
        let segment = &self.all[at];
        let before = segment.index.partition_point(|entry| entry.0 <= position.0);
        let (position, offset) = match before.checked_sub(1) {
            Some(entry) => segment.index[entry],
            None => (segment.first, first_offset),
        };
        Some(Place {
            segment: segment.first,
            until: self.all.get(at + 1).map(|next| next.first),
            position,
            offset,
        })
    }

    /// The segment that holds a position.
    fn at(&self, position: u64) -> Option<usize> {
        self.all
            .partition_point(|segment| segment.first <= position)
            .checked_sub(1)
    }

    /// Where the segment after one begins, if that one is not the last.
    pub(crate) fn until(&self, segment: u64) -> Option<u64> {
        let next = self.all.partition_point(|one| one.first <= segment);
        self.all.get(next).map(|next| next.first)
    }

    /// Remembers what a reader found in a segment that has no index yet.
    pub(crate) fn learn(&mut self, segment: u64, index: Vec<(u64, u64)>) {
        if let Some(at) = self.at(segment) {
            let one = &mut self.all[at];
            if one.first == segment && one.index.is_empty() {
                one.index = index;
            }
        }
    }

    /// The segments that hold nothing from `low` on, by their first positions.
    pub(crate) fn below(&self, low: Position) -> Vec<u64> {
        let kept = self.at(low.0).unwrap_or(0);
        self.all[..kept]
            .iter()
            .map(|segment| segment.first)
            .collect()
    }

    /// Takes out the segments that hold nothing from `low` on.
    pub(crate) fn compact(&mut self, low: Position) -> Vec<u64> {
        self.low = self.low.max(low.0);
        let gone = self.below(Position(self.low));
        self.all.drain(..gone.len());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Segments {
        let segment = |first, index: &[(u64, u64)]| Segment {
            first,
            index: index.to_vec(),
        };
        Segments {
            all: vec![
                segment(0, &[]),
                segment(10, &[(10, 64), (15, 900)]),
                segment(20, &[]),
            ],
            low: 3,
            end: 640,
        }
    }

    #[test]
    fn places_begin_at_the_entry_before() {
        let segments = segments();
        let place = |position| segments.place_of(Position(position), 64).unwrap();
        let at = |segment, until, position, offset| Place {
            segment,
            until,
            position,
            offset,
        };
        assert_eq!(place(5), at(0, Some(10), 0, 64));
        assert_eq!(place(14), at(10, Some(20), 10, 64));
        assert_eq!(place(15), at(10, Some(20), 15, 900));
        assert_eq!(place(99), at(20, None, 20, 64));
        assert_eq!(segments.until(10), Some(20));
        assert_eq!(segments.until(20), None);
    }

    #[test]
    fn compaction_keeps_the_segment_that_holds_the_mark() {
        let mut some = segments();
        let gone = |segments: &mut Segments, low| segments.compact(Position(low));
        assert_eq!(gone(&mut some, 9), []);
        assert_eq!((gone(&mut some, 10), some.low), (vec![0], 10));
        assert_eq!((gone(&mut some, 5), some.low), (vec![], 10));
        assert_eq!(gone(&mut some, 25), [10]);
    }

    #[test]
    fn what_readers_find_is_learned_once() {
        let mut some = segments();
        some.learn(0, vec![(0, 64)]);
        some.learn(0, vec![(1, 65)]);
        some.learn(10, vec![(10, 1)]);
        some.learn(11, vec![(11, 1)]);
        assert_eq!(some.all[0].index, [(0, 64)]);
        assert_eq!(some.all[1].index.len(), 2);
    }

    #[test]
    fn an_index_is_bounded() {
        let mut index = Index::default();
        let mut entries = 0;
        for offset in (64..4 << 30).step_by(4096) {
            if index.wants(offset) {
                index.add(offset);
                entries += 1;
            }
        }
        assert!(entries < 8 * INDEX_ENTRIES_MAX, "{entries}");
        assert!(entries > 1000);
    }
}
