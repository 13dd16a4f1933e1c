//! What is asked for at one time, in one statement.

use dpat_core::Wall;
use dpat_queue::{BackendError, Delivery, Message, SendError, Sent, SettleError, Settlement};

use super::message::size;
use super::receive::Found;
use super::send::{RUN_BYTES_MAX, RUN_MAX};
use super::settle::is_plain;
use super::{QueueStore, Shared};
use crate::join::{Most, WAITING_MAX, is_of_one};

/// Two, so that one commits while the next is on its way.
pub(super) const SENDS: Most = Most {
    turns: 2,
    items: RUN_MAX,
    bytes: RUN_BYTES_MAX,
    waiting: WAITING_MAX,
};

/// One: two would look at the same messages, and pass over what the other has locked.
pub(super) const RECEIVES: Most = Most {
    turns: 1,
    items: super::backend::BATCH_MAX,
    bytes: usize::MAX,
    waiting: WAITING_MAX,
};

pub(super) const SETTLEMENTS: Most = Most {
    turns: 2,
    items: 256,
    bytes: usize::MAX,
    waiting: WAITING_MAX,
};

pub(super) type Sents = Result<Vec<Result<Sent, SendError>>, BackendError>;
pub(super) type Settled = Result<Vec<Result<(), SettleError>>, BackendError>;
/// What one receive gets, and when it looks again.
pub(super) type Receives = Result<(Found, Option<Wall>), BackendError>;

impl QueueStore {
    /// What one statement can send goes with others of its kind.
    pub(super) async fn send_together(&self, batch: Vec<Message>) -> Sents {
        let bytes = batch.iter().map(size).sum();
        let has_dedup = batch.iter().any(|one| one.get_dedup().is_some());
        if has_dedup || batch.len() > RUN_MAX || bytes > RUN_BYTES_MAX {
            return self.send_all(&batch).await;
        }
        let store = self.clone();
        let work = move |calls: Vec<Vec<Message>>| {
            let store = store.clone();
            async move {
                let sizes: Vec<usize> = calls.iter().map(Vec::len).collect();
                let all: Vec<Message> = calls.into_iter().flatten().collect();
                let sent = store.send_all(&all).await;
                if !(sizes.len() > 1 && sent.as_ref().is_err_and(is_of_one)) {
                    return shared_out(sent, &sizes);
                }
                let mut answers = Vec::with_capacity(sizes.len());
                let mut rest = &all[..];
                for size in sizes {
                    let (call, others) = rest.split_at(size.min(rest.len()));
                    rest = others;
                    answers.push(store.send_all(call).await);
                }
                answers
            }
        };
        let items = batch.len();
        let Shared { sends, pool, .. } = &*self.shared;
        sends.answered(pool, (batch, items, bytes), work).await?
    }

    pub(super) async fn settle_together(&self, batch: Vec<Settlement>) -> Settled {
        if batch.len() > SETTLEMENTS.items || !batch.iter().all(is_plain) {
            return self.settle_now(&batch).await.map_err(BackendError::from);
        }
        let store = self.clone();
        let work = move |calls: Vec<Vec<Settlement>>| {
            let store = store.clone();
            async move {
                let sizes: Vec<usize> = calls.iter().map(Vec::len).collect();
                let all: Vec<Settlement> = calls.into_iter().flatten().collect();
                let settled = store.settle_now(&all).await;
                shared_out(settled.map_err(BackendError::from), &sizes)
            }
        };
        let items = batch.len();
        let Shared {
            settlements, pool, ..
        } = &*self.shared;
        settlements.answered(pool, (batch, items, 0), work).await?
    }

    /// One look for all who ask; each gets as many as it wants, in the order of asking.
    pub(super) async fn receive_together(&self, max: usize) -> Receives {
        let store = self.clone();
        let work = move |wanted: Vec<usize>| {
            let store = store.clone();
            async move {
                match store.receive_now(wanted.iter().sum()).await {
                    Ok((found, next)) => {
                        let shares = found.share(&wanted).into_iter();
                        shares.map(|share| Ok((share, next))).collect()
                    }
                    Err(error) => {
                        let error = BackendError::from(error);
                        wanted.iter().map(|_| Err(error.clone())).collect()
                    }
                }
            }
        };
        let Shared { receives, pool, .. } = &*self.shared;
        receives.answered(pool, (max, max, 0), work).await?
    }
}

/// To each call as many answers as it brought; a failure is that of all.
fn shared_out<R>(
    done: Result<Vec<R>, BackendError>,
    sizes: &[usize],
) -> Vec<Result<Vec<R>, BackendError>> {
    match done {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            let shares = sizes
                .iter()
                .map(|&size| Ok(answers.by_ref().take(size).collect()));
            shares.collect()
        }
        Err(error) => sizes.iter().map(|_| Err(error.clone())).collect(),
    }
}

impl Found {
    /// Gives to each who has asked as many as it wants, in order.
    fn share(self, wanted: &[usize]) -> Vec<Self> {
        let Self { deliveries, again } = self;
        let mut deliveries = deliveries.into_iter();
        let shares = wanted.iter().map(|&wanted| Self {
            deliveries: deliveries.by_ref().take(wanted).collect::<Vec<Delivery>>(),
            again,
        });
        shares.collect()
    }
}
