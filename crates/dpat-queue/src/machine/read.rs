//! Looking at a queue without changing it.

#[cfg(any(feature = "wal", test))]
use super::Kept;
#[cfg(any(feature = "wal", feature = "test-util", test))]
use super::{Buried, Record};
use super::{Entry, Machine};
use crate::message::{DeadLetter, Message, MessageId, Parts, Peeked, Stats};

impl Machine {
    /// All messages in the order of their places.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries_behind(None)
    }

    fn entries_behind(&self, place: Option<u64>) -> impl Iterator<Item = &Entry> {
        let slots = self.places.behind(place);
        slots.filter_map(|slot| self.entry(slot))
    }

    pub(crate) fn peek(&self, after: Option<MessageId>, max: usize) -> Vec<Peeked> {
        // One that is gone meanwhile had its place by its id, unless it was replayed.
        let behind = after.map(|after| {
            let id = u64::try_from(after.get()).unwrap_or(u64::MAX);
            self.by_id(id).map_or(id, |entry| entry.place)
        });
        let slots = self.entries_behind(behind).map(|entry| Peeked {
            id: MessageId::new(entry.id.into()),
            message: message(&entry.parts),
            sent_at: entry.sent_at,
            count: entry.count,
            leased: entry.state.is_leased(),
            reason: entry.reason.clone(),
        });
        let row = self.row.behind(behind);
        let row = row.map(|(id, plain, leased)| Peeked {
            id: MessageId::new(id.into()),
            message: message(&plain.parts()),
            sent_at: plain.sent_at,
            count: u32::from(leased),
            leased,
            reason: None,
        });
        slots.chain(row).take(max).collect()
    }

    pub(crate) fn dead(&self, after: Option<MessageId>, max: usize) -> Vec<DeadLetter> {
        let from = match after.map(|id| u64::try_from(id.get())) {
            None => 0,
            Some(Ok(id)) => id.saturating_add(1),
            Some(Err(_)) => u64::MAX,
        };
        let letters = self.dead.range(from..).take(max);
        letters
            .map(|(id, dead)| DeadLetter {
                id: MessageId::new((*id).into()),
                message: message(&dead.parts),
                reason: dead.reason.clone(),
                at: dead.at,
                sent_at: dead.sent_at,
                count: dead.count,
            })
            .collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let oldest = self.entries().next().map(|entry| entry.sent_at);
        let oldest = oldest.or_else(|| self.row.first().map(|plain| plain.sent_at));
        let all = self.len();
        let ready = self.ready() as u64;
        Stats {
            ready,
            waiting: all - ready - self.leased,
            leased: self.leased,
            dead: self.dead.len() as u64,
            bytes: self.bytes,
            oldest_ns: oldest.map(|sent_at| {
                let age = self.clock.since(sent_at).as_nanos();
                u64::try_from(age).unwrap_or(u64::MAX)
            }),
            paused: self.paused,
            ..self.counts
        }
    }

    /// What a rejection would be that is written down in two steps; other records as they are.
    #[cfg(feature = "test-util")]
    pub(crate) fn in_two_steps(&self, record: Record) -> Vec<Record> {
        let Record::Rejected { id, at, reason } = record else {
            return vec![record];
        };
        let Some(entry) = self.by_id(id) else {
            return Vec::new();
        };
        let buried = Buried {
            id,
            at,
            sent_at: entry.sent_at.as_nanos(),
            count: entry.count,
            reason,
            parts: entry.parts.clone(),
        };
        vec![Record::Done { id }, Record::Buried(Box::new(buried))]
    }

    pub(crate) fn count_duplicate(&mut self) {
        self.counts.duplicates += 1;
    }

    /// Returns how many records an image would have.
    #[cfg(feature = "wal")]
    pub(crate) fn image_len(&self) -> u64 {
        self.len() + (self.dead.len() + self.dedup.len()) as u64
    }

    /// The whole state as records, for a snapshot.
    #[cfg(any(feature = "wal", test))]
    pub(crate) fn image(&self) -> Vec<Record> {
        let mut image = vec![
            Record::Next { next: self.next },
            Record::Paused {
                paused: self.paused,
            },
        ];
        image.extend(self.entries().map(|entry| {
            Record::Kept(Box::new(Kept {
                id: entry.id,
                place: entry.place,
                at: entry.sent_at.as_nanos(),
                not_before: entry.not_before.as_nanos(),
                expires: entry.expires.as_nanos(),
                count: entry.count,
                base: entry.base,
                reason: entry.reason.clone(),
                parts: entry.parts.clone(),
            }))
        }));
        image.extend(self.row_image().map(|kept| Record::Kept(Box::new(kept))));
        image.extend(self.dead.iter().map(|(id, dead)| {
            Record::Buried(Box::new(Buried {
                id: *id,
                at: dead.at.as_nanos(),
                sent_at: dead.sent_at.as_nanos(),
                count: dead.count,
                reason: dead.reason.clone(),
                parts: dead.parts.clone(),
            }))
        }));
        let known = self.dedup_ends.iter().filter_map(|(until, key)| {
            let (id, at) = self.dedup.get(key)?;
            (at == until).then(|| Record::Remembered {
                key: key.clone(),
                id: *id,
                until: until.as_nanos(),
            })
        });
        image.extend(known);
        image
    }
}

fn message(parts: &Parts) -> Message {
    Message {
        parts: parts.clone(),
        times: None,
    }
}
