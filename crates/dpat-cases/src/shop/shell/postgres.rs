//! The store of one node, on PostgreSQL: rows, outbox and inbox in one schema, and in one transaction.
//!
//! A server may go away in the middle. The writer connects again, finds out whether its last commit was done, and otherwise
//! runs the group once more: callers wait, and learn nothing of it.

mod rows;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Class, Classify, Clock, Sleep, TokioTime};
use dpat_outbox::Limits;
use dpat_postgres::tokio_postgres::{self, Client, NoTls};
use dpat_postgres::{Config, EngineError, Inbox, MARKERS_MAX, Outbox, commit};
use tokio::runtime::Runtime;

use super::group::{Ground, Job, NodeStore, Parts, StoreOwner, engine, run_all};
use crate::shop::engine::{AWAY_MAX, LOOK, Place};
use crate::shop::service::ports::{Peer, StoreError};
use rows::{Changes, Markers, Tables, Texts};

/// How long one statement may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens or creates the store of a service: its tables are in the schema of the run, and begin with the name of the service.
///
/// Within a tokio runtime, on which the relay's connections live; the writer has a connection of its own. Setting `severed`
/// cuts the store off, as a killed process is: nothing is committed any more.
///
/// # Errors
/// [`StoreError::Engine`].
pub async fn open(
    place: &Place,
    peer: Peer,
    severed: Arc<AtomicBool>,
) -> Result<(NodeStore, StoreOwner), StoreError> {
    let config = config(place, peer.name())?;
    let outbox = Outbox::open(&config, Limits::DEFAULT)
        .await
        .map_err(engine)?;
    // Makes the tables of the inbox; their texts are run in the writer's transaction.
    Inbox::open(&config).await.map_err(engine)?;
    let texts = Texts::of(&config);
    let client = client(place)?;
    let (life, count) = enter(&client, &texts).await.map_err(engine)?;
    let markers = Markers {
        count,
        max: MARKERS_MAX,
    };
    let relay = outbox.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(engine)?;
    let parts = Parts {
        ground: PostgresGround {
            line: Line {
                runtime,
                config: client,
                connected: None,
            },
            texts,
            outbox,
            life,
            number: 0,
            markers,
            next: markers,
            severed,
        },
        // Only the writer has a connection to look through.
        look: None,
    };
    NodeStore::start(parts, |_| Arc::new(relay))
}

/// The tables of a run that begin with a prefix: each run has a schema of its own.
pub(in super::super) fn config(place: &Place, prefix: &str) -> Result<Config, StoreError> {
    let config = Config::new(place.url.reveal(), prefix).map_err(engine)?;
    config.schema(place.run.replace('-', "_")).map_err(engine)
}

fn client(place: &Place) -> Result<tokio_postgres::Config, StoreError> {
    let parsed = place.url.reveal().parse::<tokio_postgres::Config>();
    // What does not parse may have a password in it.
    let mut config = parsed.map_err(|_| engine("postgres: the URL does not parse"))?;
    config.connect_timeout(TIMEOUT);
    config.application_name("dpat-shop");
    let millis = TIMEOUT.as_millis();
    config.options(format!(
        "-c statement_timeout={millis} -c idle_in_transaction_session_timeout={millis} \
         -c client_min_messages=error"
    ));
    Ok(config)
}

/// Makes the tables of the shop, and begins a life of its writer: whatever one before still does is refused from now on.
/// Returns which life it is, and how many markers there are.
async fn enter(config: &tokio_postgres::Config, texts: &Texts) -> Result<(i64, u64), EngineError> {
    let (client, connection) = config.connect(NoTls).await.map_err(EngineError::of)?;
    let connection = tokio::spawn(connection);
    let entered = async {
        client.batch_execute(&texts.tables).await?;
        let life = client.query_one(&texts.enter, &[]).await?.try_get(0)?;
        let markers: i64 = client.query_one(&texts.markers, &[]).await?.try_get(0)?;
        Ok((life, u64::try_from(markers).unwrap_or(0)))
    };
    let entered = entered.await.map_err(EngineError::of)?;
    drop(client);
    // Until the server has been told that it is over.
    let _ended = connection.await;
    Ok(entered)
}

/// The way of the writer to the server.
struct Line {
    runtime: Runtime,
    config: tokio_postgres::Config,
    connected: Option<Client>,
}

impl Line {
    /// Waits for an answer of the server, but not for ever.
    fn wait<R, E: From<Late>>(
        runtime: &Runtime,
        answer: impl Future<Output = Result<R, E>>,
    ) -> Result<R, E> {
        runtime.block_on(async {
            match tokio::time::timeout(TIMEOUT * 2, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(E::from(Late)),
            }
        })
    }
}

/// A server that did not answer in time.
pub(super) struct Late;

/// Why a group was not committed.
pub(super) enum Failed {
    /// The server went away, or wants the transaction to be run again.
    Away(StoreError),
    /// For good.
    Broken(StoreError),
}

impl From<Late> for Failed {
    fn from(_: Late) -> Self {
        Self::Away(engine("postgres: no answer in time"))
    }
}

impl Failed {
    fn of(error: &(impl Classify + fmt::Display)) -> Self {
        let text = engine(format_args!("postgres: {error}"));
        match error.class() {
            Class::Transient | Class::Unavailable | Class::Timeout | Class::Overloaded => {
                Self::Away(text)
            }
            _ => Self::Broken(text),
        }
    }
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::of(&error)
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        EngineError::of(error).into()
    }
}

struct PostgresGround {
    line: Line,
    texts: Texts,
    outbox: Outbox,
    /// Of all lives of this writer, by which it is known to be the one that may write.
    life: i64,
    /// Of the group, by which it is known whether it was committed.
    number: i64,
    markers: Markers,
    /// Those that there are if the group is committed.
    next: Markers,
    severed: Arc<AtomicBool>,
}

impl PostgresGround {
    /// Connects, and says whether the group was committed before the connection was lost.
    fn connect(&mut self) -> Result<bool, Failed> {
        let Line {
            runtime, config, ..
        } = &self.line;
        let connecting = async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            // Waits for a transaction of the lost connection that still runs.
            let row = client.query_one(&self.texts.last, &[]).await?;
            let last: (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok::<_, Failed>((client, last))
        };
        let (client, (life, number)) = Line::wait(runtime, connecting)?;
        self.line.connected = Some(client);
        if life != self.life {
            return Err(Failed::Broken(StoreError::Closed));
        }
        Ok(number == self.number)
    }

    /// Runs the group, and commits it.
    fn attempt(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        if self.severed.load(Ordering::Acquire) {
            return Err(Failed::Broken(engine("the node was killed")));
        }
        if self.line.connected.as_ref().is_none_or(Client::is_closed) && self.connect()? {
            return Ok(());
        }
        let Line {
            runtime, connected, ..
        } = &mut self.line;
        let Some(client) = connected else {
            return Err(Late.into());
        };
        let begun = Line::wait(runtime, async {
            Ok::<_, Failed>(client.transaction().await?)
        });
        let mut tables = Tables {
            runtime,
            tx: begun?,
            texts: &self.texts,
            outbox: &self.outbox,
            token: [self.life, self.number],
            failed: RefCell::default(),
            changes: Changes::default(),
            markers: self.markers,
        };
        let run = run_all(group, &mut tables).and_then(|()| tables.flush());
        // An error that a job was told, as a string, is known here as what it is.
        let failed = tables.failed.take();
        if let Some(failed) = failed {
            return Err(failed);
        }
        run.map_err(Failed::Broken)?;
        if self.severed.load(Ordering::Acquire) {
            return Err(Failed::Broken(engine("the node was killed")));
        }
        let Tables { tx, markers, .. } = tables;
        self.next = markers;
        Line::wait(runtime, async { Ok::<_, Failed>(commit(tx).await?) })
    }
}

impl Ground for PostgresGround {
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.number += 1;
        let give_up = TokioTime.now() + AWAY_MAX;
        loop {
            match self.attempt(group) {
                Ok(()) => {
                    self.markers = self.next;
                    return Ok(());
                }
                Err(Failed::Broken(error)) => return Err(error),
                Err(Failed::Away(error)) if TokioTime.now() >= give_up => return Err(error),
                Err(Failed::Away(_)) => {
                    // Whatever state it is in.
                    self.line.connected = None;
                    let pause = async { TokioTime.sleep(LOOK).await };
                    self.line.runtime.block_on(pause);
                }
            }
        }
    }
}
