//! Other queues on PostgreSQL.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apalis::prelude::{BoxDynError, Data, TaskSink as _, WorkerBuilder, WorkerBuilderExt as _};
use apalis_postgres::{Config, PostgresStorage};
use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, TaskHandler, Worker, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::oneshot;

use super::postgres::{Bare, CONNECTIONS};
use crate::harness::{Contender, nothing};

/// A job of about as many bytes as the payload of the others, once it is text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    id: u64,
    text: String,
}

impl Job {
    fn new(id: u64) -> Self {
        let text = "x".repeat(super::PAYLOAD - 24);
        Self { id, text }
    }
}

/// Who waits for which job.
#[derive(Clone, Debug, Default)]
struct Waiting {
    next: Arc<AtomicU64>,
    waits: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>,
}

impl Waiting {
    fn job(&self) -> (Job, oneshot::Receiver<()>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.insert(id, sender);
        (Job::new(id), receiver)
    }

    fn done(&self, job: &Job) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waits.remove(&job.id) {
            // Whoever does not wait any more need not be told.
            let _ = sender.send(());
        }
    }
}

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "job";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(waiting) = ctx.get_ext::<Waiting>() {
            waiting.done(&self);
        }
        Ok::<(), String>(())
    }
}

async fn handle(job: Job, waiting: Data<Waiting>) -> Result<(), BoxDynError> {
    waiting.done(&job);
    Ok(())
}

/// The peers, that send.
pub(super) async fn senders(url: &str, in_flight: usize) -> Vec<Contender> {
    vec![
        graphile_sender(url, in_flight).await,
        apalis_sender(url, in_flight).await,
        pgmq_sender(url, in_flight).await,
    ]
}

/// The peers, in full cycles.
pub(super) async fn cyclers(url: &str, in_flight: usize) -> Vec<Contender> {
    vec![
        graphile_cycler(url, in_flight).await,
        apalis_cycler(url, in_flight).await,
        pgmq_cycler(url, in_flight).await,
    ]
}

async fn graphile(url: &str, schema: &str, in_flight: usize, waiting: Waiting) -> Worker {
    let database = TokioPostgresDatabase::from_url(url, CONNECTIONS).expect("a pool");
    WorkerOptions::default()
        .database(Database::from(database))
        .schema(schema)
        .concurrency(in_flight)
        .listen_os_shutdown_signals(false)
        .add_extension(waiting)
        .define_job::<Job>()
        .init()
        .await
        .expect("a worker")
}

async fn graphile_sender(url: &str, in_flight: usize) -> Contender {
    let schema = format!("graphile_send_{in_flight}");
    let worker = graphile(url, &schema, in_flight, Waiting::default()).await;
    let utils = Arc::new(worker.create_utils());
    let purged = Arc::new(Bare::new(url, "", &[]).await);
    Contender::tasks(
        "graphile_worker",
        in_flight,
        move || {
            let utils = Arc::clone(&utils);
            async move {
                let added = utils.add_job(Job::new(1_000_000), JobSpec::default()).await;
                added.expect("sent");
            }
        },
        move || {
            let (bare, text) = (
                Arc::clone(&purged),
                format!("TRUNCATE {schema}._private_jobs CASCADE"),
            );
            async move { bare.run(&text).await }
        },
    )
}

async fn graphile_cycler(url: &str, in_flight: usize) -> Contender {
    let waiting = Waiting::default();
    let schema = format!("graphile_cycle_{in_flight}");
    let worker = Arc::new(graphile(url, &schema, in_flight, waiting.clone()).await);
    let utils = Arc::new(worker.create_utils());
    tokio::spawn(async move {
        // It runs as long as the runtime.
        let _ = worker.run().await;
    });
    Contender::tasks(
        "graphile_worker",
        in_flight,
        move || {
            let (utils, (job, done)) = (Arc::clone(&utils), waiting.job());
            async move {
                utils.add_job(job, JobSpec::default()).await.expect("sent");
                done.await.expect("done");
            }
        },
        nothing,
    )
}

async fn pool(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(CONNECTIONS as u32);
    options.connect(url).await.expect("connected")
}

async fn apalis_sender(url: &str, in_flight: usize) -> Contender {
    let pool = pool(url).await;
    PostgresStorage::setup(&pool).await.expect("tables");
    let config = Config::default().queue(format!("send-{in_flight}").as_str());
    let storage = PostgresStorage::<Job>::new(&pool).with_config(config);
    let purged = Arc::new(Bare::new(url, "", &[]).await);
    Contender::tasks(
        "apalis-postgres",
        in_flight,
        move || {
            let mut storage = storage.clone();
            async move { storage.push(Job::new(1_000_000)).await.expect("sent") }
        },
        move || {
            let bare = Arc::clone(&purged);
            async move { bare.run("TRUNCATE apalis.jobs CASCADE").await }
        },
    )
}

async fn apalis_cycler(url: &str, in_flight: usize) -> Contender {
    let pool = pool(url).await;
    PostgresStorage::setup(&pool).await.expect("tables");
    let name = format!("cycle-{in_flight}");
    let config = Config::default().queue(name.as_str());
    let storage = PostgresStorage::<Job>::new(&pool).with_config(config);
    let waiting = Waiting::default();
    let worker = WorkerBuilder::new(name.as_str())
        .backend(storage.clone().with_pubsub())
        .data(waiting.clone())
        .concurrency(in_flight)
        .build(handle);
    tokio::spawn(async move {
        // It runs as long as the runtime.
        let _ = worker.run().await;
    });
    Contender::tasks(
        "apalis-postgres",
        in_flight,
        move || {
            let (mut storage, (job, done)) = (storage.clone(), waiting.job());
            async move {
                storage.push(job).await.expect("sent");
                done.await.expect("done");
            }
        },
        nothing,
    )
}

async fn pgmq(url: &str, queue: &str) -> Bare {
    let install = pgmq::PGMQueueExt::new_with_pool(pool(url).await).await;
    install
        .install_sql_from_embedded()
        .await
        .expect("functions");
    let setup = format!("SELECT pgmq.create('{queue}')");
    let send = format!("SELECT pgmq.send('{queue}', $1::text::jsonb)");
    let read = format!("SELECT msg_id FROM pgmq.read('{queue}', 30, 1)");
    let delete = format!("SELECT pgmq.delete('{queue}', $1::bigint)");
    Bare::new(url, &setup, &[&send, &read, &delete]).await
}

fn text() -> String {
    serde_json::to_string(&Job::new(1_000_000)).expect("a text")
}

async fn pgmq_sender(url: &str, in_flight: usize) -> Contender {
    let queue = format!("send_{in_flight}");
    let bare = Arc::new(pgmq(url, &queue).await);
    let purged = Arc::clone(&bare);
    Contender::tasks(
        "pgmq",
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.execute(0, &[&text()]).await;
            }
        },
        move || {
            let (bare, text) = (
                Arc::clone(&purged),
                format!("SELECT pgmq.purge_queue('{queue}')"),
            );
            async move { bare.run(&text).await }
        },
    )
}

async fn pgmq_cycler(url: &str, in_flight: usize) -> Contender {
    let queue = format!("cycle_{in_flight}");
    let bare = Arc::new(pgmq(url, &queue).await);
    let emptied = Arc::clone(&bare);
    Contender::tasks(
        "pgmq",
        in_flight,
        move || {
            let bare = Arc::clone(&bare);
            async move {
                bare.execute(0, &[&text()]).await;
                let id = loop {
                    if let Some(id) = bare.id(1, &[]).await {
                        break id;
                    }
                };
                bare.execute(2, &[&id]).await;
            }
        },
        move || {
            let (bare, text) = (
                Arc::clone(&emptied),
                format!("SELECT pgmq.purge_queue('{queue}')"),
            );
            async move { bare.run(&text).await }
        },
    )
}
