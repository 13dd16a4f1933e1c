//! A queue that takes messages in one at a time.

use std::time::Duration;

use async_trait::async_trait;
use dpat_queue::{
    Backend, Capabilities, DeadLetter, Delivery, ManageError, Message, MessageId, Peeked, Queue,
    Receipt, ReceiveError, SendError, Sent, SettleError, Settlement, Stats,
};
use tokio::sync::Mutex;

/// A queue whose backend counts before it takes in, so that sends at the same time pass its limit together; here none is
/// at the same time as another of this process.
pub(super) struct InTurn {
    name: &'static str,
    queue: Queue,
    turn: Mutex<()>,
}

impl InTurn {
    pub(super) fn new(name: &'static str, queue: Queue) -> Self {
        let turn = Mutex::new(());
        Self { name, queue, turn }
    }
}

#[async_trait]
impl Backend for InTurn {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.queue.capabilities()
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let _turn = self.turn.lock().await;
        let mut sent = Vec::with_capacity(batch.len());
        for message in batch {
            sent.push(self.queue.send(message).await);
        }
        sent
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        self.queue.receive_batch(max, wait).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        self.queue.settle_batch(batch).await
    }

    async fn drain(&self) {
        self.queue.drain().await;
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        self.queue.extend(batch, by).await
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.queue.dead_letters(after, max).await
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.queue.replay(id).await
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.queue.discard(id).await
    }

    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        self.queue.peek(after, max).await
    }

    async fn purge(&self) -> Result<u64, ManageError> {
        self.queue.purge().await
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        self.queue.stats().await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        self.queue.set_paused(paused).await
    }
}
