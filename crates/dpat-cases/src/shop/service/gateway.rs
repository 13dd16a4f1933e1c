//! The front door: checks orders and passes them on.

use dpat_core::Deadline;
use futures_util::StreamExt;

use super::ports::{
    CallError, Env, Gauges, Peer, Reply, Request, Service, Step, Store, StoreError, Table,
    Transport, parse,
};
use super::unavailable;
use crate::shop::domain::Order;
use crate::shop::work::WorkQueue;

/// Receipts: `order_id` → fingerprint, of orders known to be durable.
///
/// They answer a repetition while the order service is away. Losing one costs a call, so that they are written after
/// the answer.
const RECEIPTS: Table = Table("receipts");

/// How many sendings of its own the gateway may number for each one of the customer.
const SENDINGS: u32 = 16;

/// How many receipts go into one transaction.
const BATCH_MAX: usize = 256;

/// The gateway.
#[derive(Clone, Debug)]
pub struct Gateway<E> {
    env: E,
    receipts: WorkQueue<(String, u64)>,
}

impl<E: Env> Gateway<E> {
    /// Makes a gateway.
    pub fn new(env: E) -> Self {
        Self {
            env,
            receipts: WorkQueue::default(),
        }
    }

    async fn accept(&self, request: Request, deadline: Deadline) -> Result<Reply, CallError> {
        let order: Order = match parse(&request.body) {
            Ok(order) => order,
            Err(error) => return Ok(Reply::Invalid(error.to_string())),
        };
        if let Err(error) = order.validate() {
            return Ok(Reply::Invalid(error.to_string()));
        }
        let fingerprint = order.fingerprint();
        let order_id = order.order_id.clone();
        let receipt = self
            .env
            .store()
            .read(move |tx| tx.get(RECEIPTS, &order_id))
            .await
            .map_err(|error| unavailable(&error))?;
        if let Some(known) = receipt {
            let same = known == fingerprint.to_le_bytes();
            return Ok(if same {
                Reply::Accepted
            } else {
                Reply::Conflict
            });
        }
        let mut forward = Request::new(Step::Accept, &order.order_id, request.body);
        // What the customer sends again is sent again here: with the same number, a fault drawn for the first sending
        // would hit every one of them.
        forward.attempt = request.attempt.saturating_mul(SENDINGS);
        let reply = self
            .env
            .transport()
            .call(Peer::Order, forward, deadline)
            .await?;
        if reply == Reply::Accepted {
            self.receipts.push((order.order_id, fingerprint));
        }
        Ok(reply)
    }
}

impl<E: Env> Service for Gateway<E> {
    async fn handle(&self, request: Request, deadline: Deadline) -> Result<Reply, CallError> {
        match request.step {
            Step::Accept => self.accept(request, deadline).await,
            Step::Status => {
                self.env
                    .transport()
                    .call(Peer::Order, request, deadline)
                    .await
            }
            _ => Ok(Reply::NotFound),
        }
    }

    async fn run(&self) -> Result<(), StoreError> {
        let batches = self.receipts.stream().ready_chunks(BATCH_MAX);
        let mut batches = core::pin::pin!(batches);
        while let Some(batch) = batches.next().await {
            self.env
                .store()
                .transact(move |tx| {
                    for (order_id, fingerprint) in &batch {
                        tx.put(RECEIPTS, order_id, &fingerprint.to_le_bytes())?;
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    async fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
