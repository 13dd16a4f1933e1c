//! Sends, in transactions of callers and of our own.

use dpat_core::Wall;
use dpat_queue::{BackendError, Message, SendError, Sent};
use tokio::time::Instant;

use super::QueueStore;
use super::message::{encode, size};
use super::rows::{BEGIN, backend, count, first, id};
use crate::connection::{Alone, Session};
use crate::error::EngineError;
use crate::gauge::Room;
use crate::sql::{limit, nanos, number, unsigned};
use crate::tx::{Run, Value};

/// How many messages one statement sends.
pub(super) const RUN_MAX: usize = 64;

/// How many bytes it sends, unless one message has more.
pub(super) const RUN_BYTES_MAX: usize = 4 << 20;

/// How often a deduplication key is looked for that others remember and forget.
const TRIES: usize = 3;

impl QueueStore {
    pub(super) async fn send_all(
        &self,
        batch: &[Message],
    ) -> Result<Vec<Result<Sent, SendError>>, BackendError> {
        let mut session = self.shared.pool.session().await?;
        if let [message] = batch
            && message.get_dedup().is_none()
        {
            return self.send_alone(session, message).await;
        }
        if batch.len() <= RUN_MAX && self.is_one_run(batch) {
            return self.send_run(session, batch).await;
        }
        session.batch(BEGIN).await?;
        let mut sent = self.send_each(&mut session, batch).await?;
        let is_full = |one: &Result<Sent, SendError>| matches!(one, Err(SendError::Full { .. }));
        if sent.iter().any(is_full) {
            // What has ended makes room.
            session.batch("ROLLBACK").await?;
            self.tick(&mut session).await?;
            session.batch(BEGIN).await?;
            sent = self.send_each(&mut session, batch).await?;
        }
        let is_news = sent.iter().flatten().any(|one| !one.is_duplicate());
        let tell = self.telling().filter(|_| is_news);
        session.commit_and_tell(tell).await?;
        for one in sent.iter().flatten() {
            self.note(*one);
        }
        Ok(sent)
    }

    /// In one statement that commits by itself.
    async fn send_alone(
        &self,
        mut session: Session,
        message: &Message,
    ) -> Result<Vec<Result<Sent, SendError>>, BackendError> {
        let bytes = size(message) as u64;
        let mut may = self.may_send(message);
        if may.is_ok() {
            may = self.room(&mut session, bytes).await;
            if matches!(may, Err(SendError::Full { .. })) {
                self.tick(&mut session).await?;
                may = self.room(&mut session, bytes).await;
            }
        }
        let sent = match may {
            Ok(()) => {
                let mut alone = Alone {
                    session: &mut session,
                    tell: self.telling(),
                };
                let sent = self
                    .insert(&mut alone, message, None, self.now(), false)
                    .await?;
                Ok(Sent::new(id(sent)))
            }
            Err(SendError::Backend(error)) => return Err(error),
            Err(refused) => Err(refused),
        };
        session.done();
        if let Ok(sent) = sent {
            self.note(sent);
        }
        Ok(vec![sent])
    }

    /// Whether one statement sends all, and there surely is room for them; if so, it is taken.
    fn is_one_run(&self, batch: &[Message]) -> bool {
        let may = |one: &Message| one.get_dedup().is_none() && self.may_send(one).is_ok();
        let bytes: usize = batch.iter().map(size).sum();
        batch.iter().all(may)
            && bytes <= RUN_BYTES_MAX
            && self.has_room(batch.iter().map(|one| size(one) as u64))
    }

    /// Many in one statement that commits by itself.
    async fn send_run(
        &self,
        mut session: Session,
        batch: &[Message],
    ) -> Result<Vec<Result<Sent, SendError>>, BackendError> {
        let mut run: Vec<&Message> = batch.iter().collect();
        let mut sent = Vec::with_capacity(run.len());
        let mut alone = Alone {
            session: &mut session,
            tell: self.telling(),
        };
        self.flush(&mut alone, &mut run, &mut sent).await?;
        session.done();
        for one in sent.iter().flatten() {
            self.note(*one);
        }
        Ok(sent)
    }

    /// Sends what has no deduplication key in runs, each one statement.
    async fn send_each(
        &self,
        session: &mut Session,
        batch: &[Message],
    ) -> Result<Vec<Result<Sent, SendError>>, BackendError> {
        let mut sent = Vec::with_capacity(batch.len());
        let mut run = Vec::new();
        let mut run_bytes = 0;
        for message in batch {
            if message.get_dedup().is_none() && self.may_send(message).is_ok() {
                let bytes = size(message);
                if run.len() == RUN_MAX || run_bytes + bytes > RUN_BYTES_MAX {
                    self.flush(session, &mut run, &mut sent).await?;
                    run_bytes = 0;
                }
                if self.has_room(std::iter::once(bytes as u64)) {
                    run.push(message);
                    run_bytes += bytes;
                    continue;
                }
            }
            self.flush(session, &mut run, &mut sent).await?;
            run_bytes = 0;
            match self.try_send(session, message, false).await {
                Err(SendError::Backend(error)) => return Err(error),
                one => sent.push(one),
            }
        }
        self.flush(session, &mut run, &mut sent).await?;
        Ok(sent)
    }

    /// Whether there surely is room for messages of these sizes; if so, it is taken.
    fn has_room(&self, sizes: impl Iterator<Item = u64>) -> bool {
        let settings = &self.shared.settings;
        let room = Room {
            rows: settings.messages_max,
            bytes: settings.bytes_max,
        };
        let now = Instant::now();
        self.shared.gauge.with(|gauge| {
            // What does not fit as a whole is counted again, and looked at one by one.
            for bytes in sizes {
                if !gauge.has_room(room, bytes, now) {
                    return false;
                }
                gauge.added(bytes);
            }
            true
        })
    }

    async fn flush(
        &self,
        on: &mut impl Run,
        run: &mut Vec<&Message>,
        sent: &mut Vec<Result<Sent, SendError>>,
    ) -> Result<(), EngineError> {
        if run.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let rows: Vec<Stored> = run.iter().map(|message| Stored::of(message, now)).collect();
        let column = |of: fn(&Stored) -> i64| rows.iter().map(of).collect::<Vec<_>>();
        let (due, bytes) = (column(|row| row.due), column(|row| row.bytes));
        let expires: Vec<Option<i64>> = rows.iter().map(|row| row.expires).collect();
        let headers: Vec<&[u8]> = rows
            .iter()
            .map(|row| row.headers.as_deref().unwrap_or_default())
            .collect();
        let keys: Vec<Option<&str>> = run.iter().map(|message| message.get_key()).collect();
        let priorities: Vec<i64> = run.iter().map(|one| one.get_priority().into()).collect();
        let payloads: Vec<&[u8]> = run.iter().map(|one| &one.payload()[..]).collect();
        let params = [
            Value::MaybeTexts(&keys),
            Value::Ints(&priorities),
            Value::Int(nanos(now)),
            Value::Ints(&due),
            Value::MaybeInts(&expires),
            Value::Ints(&bytes),
            Value::BytesList(&headers),
            Value::BytesList(&payloads),
        ];
        let text = &self.shared.statements.send_many;
        let mut ids = on.rows(text, &params).await?;
        for row in &mut ids {
            sent.push(Ok(Sent::new(id(row.int(0)?))));
        }
        run.clear();
        Ok(())
    }

    pub(super) async fn send_on(
        &self,
        on: &mut impl Run,
        message: &Message,
    ) -> Result<Sent, SendError> {
        let notifies = self.shared.pool.config.notifies;
        let mut sent = self.try_send(on, message, notifies).await;
        if matches!(sent, Err(SendError::Full { .. })) {
            // What has ended makes room; it is removed in transactions of our own.
            let mut session = self.shared.pool.session().await.map_err(backend)?;
            self.tick(&mut session).await.map_err(backend)?;
            session.done();
            sent = self.try_send(on, message, notifies).await;
        }
        if let Ok(sent) = sent {
            self.note(sent);
        }
        sent
    }

    fn note(&self, sent: Sent) {
        self.shared.stats.with(|stats| match sent.is_duplicate() {
            true => stats.duplicates += 1,
            false => stats.sent += 1,
        });
    }

    fn may_send(&self, message: &Message) -> Result<(), SendError> {
        message.check(self.shared.settings.message_bytes_max)?;
        match self.shared.is_closed() {
            true => Err(SendError::Closed),
            false => Ok(()),
        }
    }

    /// `notifies`: in the transaction itself.
    async fn try_send(
        &self,
        on: &mut impl Run,
        message: &Message,
        notifies: bool,
    ) -> Result<Sent, SendError> {
        self.may_send(message)?;
        let now = self.now();
        let mut drawn = None;
        if let Some(dedup) = message.get_dedup() {
            if let Some(known) = self.known(on, dedup, now).await.map_err(backend)? {
                return Ok(duplicate(known));
            }
            self.dedup_room(on, now).await?;
        }
        self.room(on, size(message) as u64).await?;
        if let Some(dedup) = message.get_dedup() {
            match self.remember(on, dedup, now).await.map_err(backend)? {
                Remembered::Now(id) => drawn = Some(id),
                Remembered::Before(known) => return Ok(duplicate(known)),
            }
        }
        let sent = self.insert(on, message, drawn, now, notifies).await;
        Ok(Sent::new(id(sent.map_err(backend)?)))
    }

    async fn known(
        &self,
        on: &mut impl Run,
        dedup: &str,
        now: Wall,
    ) -> Result<Option<i64>, EngineError> {
        let params = [Value::Text(dedup), Value::Int(nanos(now))];
        let mut rows = on.rows(&self.shared.statements.dedup, &params).await?;
        rows.first_mut().map(|row| row.int(0)).transpose()
    }

    /// Waits for others that send the same at the same time.
    async fn remember(
        &self,
        on: &mut impl Run,
        dedup: &str,
        now: Wall,
    ) -> Result<Remembered, EngineError> {
        let until = nanos(now + self.shared.settings.dedup_window);
        let params = [
            Value::Text(dedup),
            Value::Int(until),
            Value::Int(nanos(now)),
        ];
        for _ in 0..TRIES {
            let mut rows = on.rows(&self.shared.statements.remember, &params).await?;
            if let Some(row) = rows.first_mut() {
                return Ok(Remembered::Now(row.int(0)?));
            }
            // Another was faster.
            if let Some(known) = self.known(on, dedup, now).await? {
                return Ok(Remembered::Before(known));
            }
        }
        Err(EngineError::contended(&self.shared.statements.messages))
    }

    async fn dedup_room(&self, on: &mut impl Run, now: Wall) -> Result<(), SendError> {
        let limit = self.shared.settings.dedup_max;
        let room = Room {
            rows: limit,
            bytes: u64::MAX,
        };
        let began = Instant::now();
        let dedups = &self.shared.dedups;
        if !dedups.with(|gauge| gauge.has_room(room, 0, began)) {
            let params = [
                Value::Int(number(limit).saturating_add(1)),
                Value::Int(nanos(now)),
            ];
            let text = &self.shared.statements.count_dedups;
            let (rows, _) = count(on, text, &params).await.map_err(backend)?;
            dedups.with(|gauge| gauge.counted(rows, 0, began, Instant::now()));
            if rows >= limit {
                let field = "dedup_max";
                return Err(SendError::Full { field, limit });
            }
        }
        dedups.with(|gauge| gauge.added(0));
        Ok(())
    }

    /// Counts if the last count says too little.
    async fn room(&self, on: &mut impl Run, bytes: u64) -> Result<(), SendError> {
        let settings = &self.shared.settings;
        let room = Room {
            rows: settings.messages_max,
            bytes: settings.bytes_max,
        };
        let began = Instant::now();
        let gauge = &self.shared.gauge;
        if !gauge.with(|gauge| gauge.has_room(room, bytes, began)) {
            let full = |field, limit| Err(SendError::Full { field, limit });
            let most = [Value::Int(number(room.rows).saturating_add(1))];
            let text = &self.shared.statements.count_live;
            let (rows, counted) = self.counted(on, text, &most).await.map_err(backend)?;
            gauge.with(|gauge| gauge.counted(rows, counted, began, Instant::now()));
            if rows >= room.rows {
                return full("messages_max", room.rows);
            }
            if counted.saturating_add(bytes) > room.bytes {
                return full("bytes_max", room.bytes);
            }
        }
        gauge.with(|gauge| gauge.added(bytes));
        Ok(())
    }

    /// Counts, and reads the server's clock.
    async fn counted(
        &self,
        on: &mut impl Run,
        text: &str,
        most: &[Value<'_>],
    ) -> Result<(u64, u64), EngineError> {
        let asked = Instant::now();
        let mut rows = on.rows(text, most).await?;
        let row = first(&mut rows)?;
        self.read_clock(row.int(2)?, asked);
        Ok((unsigned(row.int(0)?), unsigned(row.int(1)?)))
    }

    async fn insert(
        &self,
        on: &mut impl Run,
        message: &Message,
        drawn: Option<i64>,
        now: Wall,
        notifies: bool,
    ) -> Result<i64, EngineError> {
        let stored = Stored::of(message, now);
        let params = [
            Value::MaybeInt(drawn),
            Value::MaybeText(message.get_key()),
            Value::Int(message.get_priority().into()),
            Value::Int(nanos(now)),
            Value::Int(stored.due),
            Value::MaybeInt(stored.expires),
            Value::Int(stored.bytes),
            Value::MaybeBytes(stored.headers.as_deref()),
            Value::Bytes(message.payload()),
            Value::Bool(notifies),
        ];
        let mut rows = on.rows(&self.shared.statements.send, &params).await?;
        first(&mut rows)?.int(0)
    }
}

/// What is stored of a message, beside what it is.
struct Stored {
    due: i64,
    expires: Option<i64>,
    bytes: i64,
    headers: Option<Vec<u8>>,
}

impl Stored {
    fn of(message: &Message, now: Wall) -> Self {
        let due = message.delay_from(now).map_or(now, |delay| now + delay);
        Self {
            due: nanos(due),
            expires: message.get_ttl().map(|ttl| nanos(due + ttl)),
            bytes: limit(size(message)),
            headers: encode(message.headers()),
        }
    }
}

/// Whether a deduplication key was remembered now, for the message with this id.
enum Remembered {
    Now(i64),
    Before(i64),
}

fn duplicate(known: i64) -> Sent {
    Sent::duplicate(id(known))
}
