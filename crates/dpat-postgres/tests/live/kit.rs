//! What the live tests share.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_postgres::Config;
use dpat_postgres::tokio_postgres::{Client, Error, NoTls};
use dpat_testkit::proxy::Proxy;
use libtest_mimic::Failed;
use tokio::runtime::Runtime;

/// One runtime for all: a connection lives on the runtime that made it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
});

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// A prefix that nobody else has: many processes share the server.
pub(crate) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nonce = dpat_core::Entropy::next_u64(&dpat_core::SystemEntropy);
    format!("t{}_{number}_{:08x}", std::process::id(), nonce >> 32)
}

pub(crate) fn url() -> String {
    std::env::var("DPAT_POSTGRES_URL").unwrap()
}

pub(crate) fn config(url: &str) -> Config {
    Config::new(url, name()).unwrap().connections(2).unwrap()
}

/// A connection as a caller has it.
pub(crate) async fn client(url: &str) -> Client {
    connected(url).await.unwrap()
}

/// A connection, where the server may be gone.
pub(crate) async fn connected(url: &str) -> Result<Client, Error> {
    let (client, connection) = dpat_postgres::tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The same server behind a proxy.
pub(crate) fn behind(url: &str) -> Result<(Proxy, String), Failed> {
    let (scheme, rest) = url.split_once('@').ok_or("no user")?;
    let (address, database) = rest.split_once('/').ok_or("no database")?;
    let proxy = Proxy::start(address.parse()?)?;
    let url = format!("{scheme}@{}/{database}", proxy.address());
    Ok((proxy, url))
}
