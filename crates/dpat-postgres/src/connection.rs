//! A few connections of our own, made again when they break.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use dpat_core::{Backoff, Delays, Effect, Jitter, SystemEntropy};
use std::time::Duration;
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_postgres::{Client, Statement};

use crate::config::Config;
use crate::error::EngineError;
use crate::prepared::Prepared;
use crate::sync::Mutex;
use crate::tls::Messages;
use crate::tx::{self, Row, Run, Value};

/// Between tries to connect: 50 ms, doubling, up to 2 s, half of it random.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);

pub(crate) fn delays() -> Delays {
    let backoff = Backoff::exponential(FIRST_DELAY, 2.0, LAST_DELAY).unwrap_or(Backoff::DEFAULT);
    backoff.with_jitter(Jitter::Equal).delays()
}

/// A connection, and the statements that the server has planned for it.
pub(crate) struct Link {
    client: Client,
    prepared: Prepared,
}

impl Link {
    fn new(client: Client) -> Self {
        Self {
            client,
            prepared: Prepared::new(),
        }
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// Connections that nobody uses at the moment, and room for more.
pub(crate) struct Pool {
    pub(crate) config: Config,
    pub(crate) address: String,
    room: Arc<Semaphore>,
    idle: Mutex<VecDeque<Link>>,
    tries: Turn<Tries>,
}

struct Tries {
    delays: Delays,
    /// Not before this is another try made.
    retry_at: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            address: config.address(),
            room: Arc::new(Semaphore::new(config.connections)),
            idle: Mutex::new(VecDeque::new()),
            tries: Turn::new(Tries {
                delays: delays(),
                retry_at: None,
            }),
        })
    }

    /// The deadline of a call has passed.
    pub(crate) fn late(&self, effect: Effect) -> EngineError {
        EngineError::timeout(&self.address, self.config.timeout, effect)
    }

    /// Lends a connection for one call, which ends by its deadline.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Session, EngineError> {
        let by = Instant::now() + self.config.timeout;
        let Ok(Ok(permit)) = timeout_at(by, Arc::clone(&self.room).acquire_owned()).await else {
            return Err(EngineError::busy(&self.address, self.config.connections));
        };
        let mut kept = self.idle.with(VecDeque::pop_front);
        while kept.as_ref().is_some_and(Link::is_closed) {
            kept = self.idle.with(VecDeque::pop_front);
        }
        let link = match kept {
            Some(link) => link,
            None => Link::new(self.connected(by).await?),
        };
        Ok(Session {
            pool: Arc::clone(self),
            link,
            by,
            _permit: permit,
        })
    }

    /// As [`session`](Self::session), in a transaction.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<Session, EngineError> {
        let session = self.session().await?;
        session
            .batch("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await?;
        Ok(session)
    }

    /// Makes a connection; after a failure not before its time.
    async fn connected(&self, by: Instant) -> Result<Client, EngineError> {
        let by = by.min(Instant::now() + self.config.connect_timeout);
        let connecting = async {
            let mut tries = self.tries.lock().await;
            if let Some(at) = tries.retry_at.filter(|at| *at > Instant::now()) {
                sleep_until(at).await;
            }
            // If this future is dropped in the middle, the next try waits all the same.
            tries.retry_at = Some(Instant::now() + tries.delays.next_delay(&SystemEntropy));
            let (client, messages) = self.connect().await?;
            tokio::spawn(drive(messages));
            self.settings(&client).await?;
            tries.retry_at = None;
            tries.delays = delays();
            Ok(client)
        };
        match timeout_at(by, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(EngineError::not_connected(
                &self.address,
                self.config.connect_timeout,
            )),
        }
    }

    pub(crate) async fn connect(&self) -> Result<(Client, Box<dyn Messages>), EngineError> {
        let connecting = self.config.tls.connect(self.config.client.clone());
        connecting
            .await
            .map_err(|error| EngineError::connecting(&self.address, error))
    }

    /// The server ends what takes too long, and takes the indexes whatever its statistics say.
    async fn settings(&self, client: &Client) -> Result<(), EngineError> {
        let millis = self.config.timeout.as_millis();
        let text = format!(
            "SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}; SET client_min_messages = error; \
             SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
             SET enable_bitmapscan = off"
        );
        let done = client.batch_execute(&text).await;
        done.map_err(|error| EngineError::connecting(&self.address, error))
    }
}

/// Reads what the server sends until the connection ends.
async fn drive(mut messages: Box<dyn Messages>) {
    while let Some(Ok(_)) = poll_fn(|cx| messages.poll_next(cx)).await {}
}

/// A connection lent for one call. What is dropped before its end closes it, and the server rolls back.
pub(crate) struct Session {
    pool: Arc<Pool>,
    link: Link,
    by: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    /// Runs statements without parameters.
    pub(crate) async fn batch(&self, text: &str) -> Result<(), EngineError> {
        let client = &self.link.client;
        in_time(&self.pool, self.by, client.batch_execute(text)).await
    }

    /// Runs a statement that commits by itself.
    pub(crate) async fn change(
        &mut self,
        text: &str,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>, EngineError> {
        self.change_and_tell(text, params, None).await
    }

    /// Runs a statement that commits by itself, and behind it one that tells of it, without waiting in between.
    ///
    /// Transactions that notify commit one after another; what notifies apart keeps nobody waiting for a disk.
    pub(crate) async fn change_and_tell(
        &mut self,
        text: &str,
        params: &[Value<'_>],
        tell: Option<&str>,
    ) -> Result<Vec<Row>, EngineError> {
        let statement = self.statement(text, params).await?;
        let telling = self.telling(tell).await?;
        let running = tx::on_client(&self.link.client, &statement, params);
        match self.and_tell(running, telling).await {
            Some(done) => done.map_err(EngineError::changing),
            None => Err(self.pool.late(Effect::Unknown)),
        }
    }

    async fn telling(&mut self, tell: Option<&str>) -> Result<Option<Statement>, EngineError> {
        match tell {
            Some(text) => Ok(Some(self.statement(text, &[]).await?)),
            None => Ok(None),
        }
    }

    /// None: it is not done in time. Whether it was told matters less: who waits looks by the clock as well.
    async fn and_tell<R>(
        &self,
        work: impl Future<Output = R>,
        telling: Option<Statement>,
    ) -> Option<R> {
        let client = &self.link.client;
        let telling = async {
            if let Some(statement) = &telling {
                drop(tx::on_client(client, statement, &[]).await);
            }
        };
        let (mut work, mut telling) = (pin!(work), pin!(telling));
        let (mut done, mut is_told) = (None, false);
        let both = poll_fn(|cx| {
            if done.is_none()
                && let Poll::Ready(result) = work.as_mut().poll(cx)
            {
                done = Some(result);
            }
            is_told = is_told || telling.as_mut().poll(cx).is_ready();
            match done.is_some() && is_told {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        drop(timeout_at(self.by, both).await);
        done
    }

    async fn statement(
        &mut self,
        text: &str,
        params: &[Value<'_>],
    ) -> Result<Statement, EngineError> {
        let Link { client, prepared } = &mut self.link;
        let preparing = prepared.statement(client, text, params);
        in_time(&self.pool, self.by, preparing).await
    }

    /// Commits, and gives the connection back.
    pub(crate) async fn commit(self) -> Result<(), EngineError> {
        self.commit_and_tell(None).await
    }

    /// Commits, tells of it by a statement behind the commit, and gives the connection back.
    pub(crate) async fn commit_and_tell(mut self, tell: Option<&str>) -> Result<(), EngineError> {
        let telling = self.telling(tell).await?;
        let committing = self.link.client.batch_execute("COMMIT");
        match self.and_tell(committing, telling).await {
            Some(Ok(())) => {
                self.done();
                Ok(())
            }
            Some(Err(error)) => Err(EngineError::committing(error)),
            None => Err(self.pool.late(Effect::Unknown)),
        }
    }

    /// Rolls back, and gives the connection back.
    pub(crate) async fn rollback(self) -> Result<(), EngineError> {
        self.batch("ROLLBACK").await?;
        self.done();
        Ok(())
    }

    /// Gives the connection back; no transaction is open.
    pub(crate) fn done(self) {
        let Self { pool, link, .. } = self;
        pool.idle.with(|idle| idle.push_back(link));
    }
}

async fn in_time<R>(
    pool: &Pool,
    by: Instant,
    work: impl Future<Output = Result<R, tokio_postgres::Error>>,
) -> Result<R, EngineError> {
    match timeout_at(by, work).await {
        Ok(done) => done.map_err(EngineError::of),
        Err(_) => Err(pool.late(Effect::NotDone)),
    }
}

#[async_trait]
impl Run for Session {
    fn keeps(&self) -> bool {
        true
    }

    async fn rows(&mut self, text: &str, params: &[Value<'_>]) -> Result<Vec<Row>, EngineError> {
        let statement = self.statement(text, params).await?;
        let running = tx::on_client(&self.link.client, &statement, params);
        in_time(&self.pool, self.by, running).await
    }
}

/// Runs each statement as one that commits by itself, and tells of it.
pub(crate) struct Alone<'s> {
    pub(crate) session: &'s mut Session,
    pub(crate) tell: Option<&'s str>,
}

#[async_trait]
impl Run for Alone<'_> {
    fn keeps(&self) -> bool {
        true
    }

    async fn rows(&mut self, text: &str, params: &[Value<'_>]) -> Result<Vec<Row>, EngineError> {
        self.session.change_and_tell(text, params, self.tell).await
    }
}
