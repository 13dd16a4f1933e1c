//! A connection that listens, made again when it breaks.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dpat_core::SystemEntropy;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::AsyncMessage;

use crate::connection::{Pool, delays};

/// How often a quiet connection is tried.
const TRIED_EVERY: Duration = Duration::from_secs(30);

/// Hears what is notified, until it is dropped.
pub(crate) struct Listener {
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Listens on a channel, and calls for each notification with this text, and after each time that some may have been missed.
    pub(crate) fn start(
        pool: &Arc<Pool>,
        channel: &'static str,
        text: String,
        hears: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let pool = Arc::clone(pool);
        let task = tokio::spawn(async move {
            let mut waits = delays();
            loop {
                if listen(&pool, channel, &text, &hears).await {
                    waits = delays();
                }
                sleep(waits.next_delay(&SystemEntropy)).await;
            }
        });
        Self { task }
    }
}

/// Listens until the connection breaks; whether it was one.
async fn listen(pool: &Pool, channel: &str, text: &str, hears: &(impl Fn() + Sync)) -> bool {
    let by = Instant::now() + pool.config.connect_timeout;
    let Ok(Ok((client, mut messages))) = timeout_at(by, pool.connect()).await else {
        return false;
    };
    let reads = async {
        while let Some(message) = poll_fn(|cx| messages.poll_next(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(heard)) if heard.payload() == text => hears(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    let asks = async {
        let listen = format!("LISTEN {channel}");
        if !matches!(
            timeout_at(by, client.batch_execute(&listen)).await,
            Ok(Ok(()))
        ) {
            return;
        }
        hears();
        loop {
            sleep(TRIED_EVERY).await;
            let tried = timeout(pool.config.timeout, client.batch_execute("")).await;
            if !matches!(tried, Ok(Ok(()))) {
                return;
            }
        }
    };
    let mut reads = pin!(reads);
    let mut asks = pin!(asks);
    poll_fn(|cx| match reads.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => asks.as_mut().poll(cx),
    })
    .await;
    true
}
