//! What the live tests share.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_redis::Config;
use tokio::runtime::Runtime;

/// One runtime for all: a connection lives on the runtime that made it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
});

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    RUNTIME.spawn(future)
}

/// Where the server is that all trials share.
pub(crate) fn url() -> String {
    std::env::var("DPAT_REDIS_URL").unwrap()
}

/// A name that nobody else has: many processes share the server.
pub(crate) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nonce = dpat_core::Entropy::next_u64(&dpat_core::SystemEntropy);
    format!("t{}-{number}-{nonce:016x}", std::process::id())
}

pub(crate) fn config(url: &str) -> Config {
    Config::new(url, name()).unwrap()
}

/// A client of its own, for what an operator does.
pub(crate) struct Admin {
    client: redis::Client,
}

impl Admin {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            client: redis::Client::open(url).unwrap(),
        }
    }

    pub(crate) fn run(&self, command: &[&str]) -> redis::Value {
        run(async {
            let mut connection = self
                .client
                .get_multiplexed_async_connection()
                .await
                .unwrap();
            connection.set_response_timeout(std::time::Duration::from_secs(30));
            let mut all = redis::Cmd::new();
            all.arg(command);
            all.query_async(&mut connection).await.unwrap()
        })
    }
}
