//! The messages of a filter, shared by its subscribers that lose the oldest when they are slow.

use crate::error::Closed;
use crate::ring::Taken;
use crate::sync::{AtomicU64, Lock, Once, Padded};
use crate::wait::{Place, WaitList};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::task::{Context, Poll};

/// Messages that are kept and let go together.
const SEGMENT: u64 = 32;

/// A sequence of messages of which each reader sees the last `capacity`.
///
/// A message is stored once, whatever the number of readers. A reader takes no lock for it, except at the beginning of
/// each segment and when it has to wait. What no reader can want any more goes when the next segment begins.
#[derive(Debug)]
pub(crate) struct Log<M> {
    /// Messages that were appended; those before it can be read.
    tail: Padded<AtomicU64>,
    state: Lock<State<M>>,
}

struct State<M> {
    segments: VecDeque<Arc<Segment<M>>>,
    /// The position of the first message of the first segment.
    first: u64,
    /// As [`Log::tail`].
    tail: u64,
    cursors: Vec<Arc<Cursor>>,
    waiting: WaitList<()>,
    closed: Option<Closed>,
}

/// What is left to do for a message after the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Done,
    Wake,
    Closed,
    /// There is no place for it yet.
    Segment,
}

#[derive(Debug)]
struct Segment<M> {
    /// The position of the first message; set before the segment is shared.
    first: AtomicU64,
    messages: [Once<M>; 32],
}

/// Where a reader is, as publishers see it.
#[derive(Debug)]
struct Cursor {
    position: AtomicU64,
    capacity: u64,
    /// The reader is known to lag; under the log's lock.
    lags: AtomicU64,
}

/// One reader of a log.
#[derive(Debug)]
pub(crate) struct Reader<M> {
    cursor: Arc<Cursor>,
    /// The next message.
    position: u64,
    /// The position at which it joined.
    start: u64,
    lost: u64,
    segment: Option<Arc<Segment<M>>>,
    /// The place of the next message in the segment.
    at: usize,
    place: Option<Place>,
}

/// What became of an appended message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is in; so many readers are found to lag that did not the last time.
    Stored {
        begin_to_lag: usize,
    },
    Closed,
}

impl<M: Clone> Log<M> {
    pub(crate) fn new() -> Self {
        Self {
            tail: Padded(AtomicU64::new(0)),
            state: Lock::new(State {
                segments: VecDeque::new(),
                first: 0,
                tail: 0,
                cursors: Vec::new(),
                waiting: WaitList::new(),
                closed: None,
            }),
        }
    }

    /// Starts to read with the next message.
    pub(crate) fn join(&self, capacity: usize) -> Reader<M> {
        self.state.with(|state| {
            let cursor = Arc::new(Cursor {
                position: AtomicU64::new(state.tail),
                capacity: capacity as u64,
                lags: AtomicU64::new(0),
            });
            state.cursors.push(Arc::clone(&cursor));
            Reader {
                cursor,
                position: state.tail,
                start: state.tail,
                lost: 0,
                segment: None,
                at: 0,
                place: None,
            }
        })
    }

    /// Ends a reader.
    pub(crate) fn leave(&self, reader: &mut Reader<M>) {
        self.stop_waiting(reader);
        let _garbage = self.state.with(|state| {
            state
                .cursors
                .retain(|one| !Arc::ptr_eq(one, &reader.cursor));
            state.let_go().0
        });
    }

    #[inline]
    pub(crate) fn append(&self, message: M) -> Appended {
        let mut offered = Some(message);
        let mut begin_to_lag = 0;
        loop {
            // Little goes in and out of the lock, which is short for nearly all messages.
            let next = self.state.with(|state| {
                let next = state.push(&mut offered);
                if next != Next::Segment {
                    self.tail.store(state.tail, Release);
                }
                next
            });
            match next {
                Next::Done => return Appended::Stored { begin_to_lag },
                Next::Wake => {
                    self.wake();
                    return Appended::Stored { begin_to_lag };
                }
                Next::Closed => return Appended::Closed,
                Next::Segment => begin_to_lag += self.begin_segment(),
            }
        }
    }

    #[cold]
    fn wake(&self) {
        let mut first = None;
        let mut others = Vec::new();
        self.state.with(|state| {
            first = state.waiting.next();
            if !state.waiting.is_empty() {
                others.extend(state.waiting.all());
            }
        });
        for (waker, ()) in first.into_iter().chain(others) {
            waker.wake();
        }
    }

    /// Adds a segment, unless somebody else just did, and lets go what nobody wants any more. Returns how many readers
    /// are found to lag that did not the last time.
    #[cold]
    fn begin_segment(&self) -> usize {
        let new = Arc::new(Segment {
            first: AtomicU64::new(0),
            messages: std::array::from_fn(|_| Once::new()),
        });
        let (begin_to_lag, _garbage, _unused) = self.state.with(|state| {
            if !state.is_at_end() {
                return (0, Vec::new(), Some(new));
            }
            let (garbage, begin_to_lag) = state.let_go();
            if state.segments.is_empty() {
                state.first = state.tail;
            }
            new.first.store(state.tail, Relaxed);
            state.segments.push_back(new);
            (begin_to_lag, garbage, None)
        });
        begin_to_lag
    }

    /// Takes what is next, or waits for it.
    #[inline]
    pub(crate) fn poll_take(
        &self,
        reader: &mut Reader<M>,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken<M>, Closed>> {
        loop {
            if let Some(taken) = self.take(reader) {
                self.stop_waiting(reader);
                return Poll::Ready(Ok(taken));
            }
            let waker = cx.waker().clone();
            let place = reader.place;
            let (waits, _unused) = self.state.with(|state| {
                if state.tail > reader.position {
                    return (Some(Ok(())), Some(waker));
                }
                if let Some(closed) = &state.closed {
                    return (Some(Err(closed.clone())), Some(waker));
                }
                let renewed = match place {
                    Some(own) => state.waiting.renew(own, waker),
                    None => Err(waker),
                };
                match renewed {
                    Ok(old) => (None, Some(old)),
                    Err(waker) => {
                        reader.place = Some(state.waiting.join(waker, ()));
                        (None, None)
                    }
                }
            });
            match waits {
                None => return Poll::Pending,
                Some(Ok(())) => {}
                Some(Err(closed)) => {
                    self.stop_waiting(reader);
                    return Poll::Ready(Err(closed));
                }
            }
        }
    }

    /// Takes what is next, if anything is.
    pub(crate) fn try_take(&self, reader: &mut Reader<M>) -> Result<Option<Taken<M>>, Closed> {
        loop {
            if let Some(taken) = self.take(reader) {
                return Ok(Some(taken));
            }
            let closed = self
                .state
                .with(|state| (state.tail == reader.position).then(|| state.closed.clone()));
            match closed {
                None => {}
                Some(None) => return Ok(None),
                Some(Some(closed)) => return Err(closed),
            }
        }
    }

    #[inline]
    fn take(&self, reader: &mut Reader<M>) -> Option<Taken<M>> {
        let mut lost = 0;
        loop {
            let tail = self.tail.load(Acquire);
            let waiting = tail - reader.position;
            if waiting > reader.cursor.capacity {
                let skipped = waiting - reader.cursor.capacity;
                lost += skipped;
                reader.go_to(reader.position + skipped);
            }
            if lost > 0 {
                reader.lost += lost;
                return Some(Taken::Lagged(lost));
            }
            if waiting == 0 {
                return None;
            }
            if let Some(message) = reader.read() {
                return Some(Taken::Message(message));
            }
            // The beginning of a segment. If it has gone, the reader lags by now.
            let position = reader.position;
            reader.segment = self.state.with(|state| state.segment_of(position));
            if let Some(segment) = &reader.segment {
                let first = segment.first.load(Relaxed);
                reader.at = usize::try_from(position - first).unwrap_or(usize::MAX);
            }
        }
    }

    /// Gives up the place in the wait list.
    #[inline]
    pub(crate) fn stop_waiting(&self, reader: &mut Reader<M>) {
        if let Some(place) = reader.place.take() {
            self.leave_line(place);
        }
    }

    fn leave_line(&self, place: Place) {
        let _left = self.state.with(|state| state.waiting.leave(place));
    }

    /// Ends the log: what is in it can still be read, and nothing more comes.
    pub(crate) fn close(&self, why: Closed) {
        let (waiting, _why) = self.state.with(|state| {
            let why = match state.closed {
                Some(_) => Some(why),
                None => state.closed.replace(why),
            };
            (state.waiting.all(), why)
        });
        waiting.for_each(|(waker, ())| waker.wake());
    }

    /// Returns messages that wait, were accepted, and are or will be lost for a reader.
    pub(crate) fn counts(&self, reader: &Reader<M>) -> (u64, u64, u64) {
        let tail = self.tail.load(Acquire);
        let behind = tail - reader.position;
        let waiting = behind.min(reader.cursor.capacity);
        (waiting, tail - reader.start, reader.lost + behind - waiting)
    }
}

impl<M> State<M> {
    /// Says whether the next message needs a new segment.
    #[inline]
    fn is_at_end(&self) -> bool {
        self.first + self.segments.len() as u64 * SEGMENT == self.tail || self.segments.is_empty()
    }

    #[inline]
    fn push(&mut self, message: &mut Option<M>) -> Next
    where
        M: Clone,
    {
        if self.closed.is_some() {
            return Next::Closed;
        }
        if self.is_at_end() {
            return Next::Segment;
        }
        let place = usize::try_from(self.tail % SEGMENT).unwrap_or(usize::MAX);
        let slot = self
            .segments
            .back()
            .and_then(|last| last.messages.get(place));
        if let (Some(slot), Some(message)) = (slot, message.take()) {
            slot.fill(message);
        }
        self.tail += 1;
        if self.waiting.is_empty() {
            Next::Done
        } else {
            Next::Wake
        }
    }

    /// Takes out the segments that no reader can want any more, and counts the readers that are found to lag.
    fn let_go(&mut self) -> (Vec<Arc<Segment<M>>>, usize) {
        let mut wanted = self.tail;
        let mut begin_to_lag = 0;
        for cursor in &self.cursors {
            let position = cursor.position.load(Relaxed);
            let oldest = self.tail.saturating_sub(cursor.capacity);
            let lags = u64::from(position < oldest);
            begin_to_lag += usize::from(lags > cursor.lags.load(Relaxed));
            cursor.lags.store(lags, Relaxed);
            wanted = wanted.min(position.max(oldest));
        }
        let mut garbage = Vec::new();
        while self.first + SEGMENT <= wanted {
            match self.segments.pop_front() {
                Some(segment) => garbage.push(segment),
                None => break,
            }
            self.first += SEGMENT;
        }
        (garbage, begin_to_lag)
    }

    fn segment_of(&self, position: u64) -> Option<Arc<Segment<M>>> {
        let at = position.checked_sub(self.first)? / SEGMENT;
        self.segments.get(usize::try_from(at).ok()?).cloned()
    }
}

impl<M: Clone> Reader<M> {
    #[inline]
    fn read(&mut self) -> Option<M> {
        let segment = self.segment.as_ref()?;
        let message = segment.messages.get(self.at)?.get()?;
        self.position += 1;
        self.at += 1;
        self.cursor.position.store(self.position, Relaxed);
        if self.at == segment.messages.len() {
            self.segment = None;
        }
        Some(message)
    }

    fn go_to(&mut self, position: u64) {
        self.position = position;
        self.segment = None;
        self.cursor.position.store(position, Relaxed);
    }
}
