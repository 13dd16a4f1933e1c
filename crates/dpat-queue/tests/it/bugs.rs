//! An engine with a bug, as people write them: the queue in memory, with something done wrong around it. Each bug breaks the
//! law that is about it, and each law is broken by some bug.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Clock, ManualTime};
use dpat_queue::conformance::{Harness, Setup, laws};
use dpat_queue::{
    Backend, Capabilities, Capability, DeadLetter, Delivery, ManageError, Message, MessageId,
    Outcome, Peeked, Queue, Receipt, ReceiveError, SendError, Sent, SettleError, Settlement, Stats,
    Survives,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    HeadersAreDropped,
    MaxIsIgnored,
    NeverWaits,
    LeaseIsIgnored,
    CountStaysOne,
    DoneIsForgotten,
    RetryIgnoresItsDelay,
    ReleaseWaits,
    StaleIsFine,
    FenceIsUndeclared,
    ExtendDoesNothing,
    DurabilityIsALie,
    NewestFirst,
    PriorityIsIgnored,
    KeysAreIgnored,
    DelayIsIgnored,
    SchedulesFireTwice,
    DedupIsIgnored,
    TtlIsIgnored,
    ReasonIsLost,
    ReplayDiscards,
    PauseIsIgnored,
    PurgeDoesNothing,
    PeekReceives,
    StatsForgetTheLeased,
    PayloadLimitIsWrong,
    LimitsAreIgnored,
    DrainDoesNothing,
    DeclaredIsRefused,
}

struct Buggy {
    bug: Option<Bug>,
    inner: Queue,
    time: ManualTime,
}

impl Buggy {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The message again, without what the bug leaves out.
    fn spoilt(&self, message: &Message) -> Message {
        let mut copy = Message::new(message.payload().clone());
        if !self.has(Bug::HeadersAreDropped) {
            for (name, value) in message.headers() {
                copy = copy.header(name.clone(), value.clone());
            }
        }
        if !self.has(Bug::PriorityIsIgnored) {
            copy = copy.priority(message.get_priority());
        }
        if let (Some(key), false) = (message.get_key(), self.has(Bug::KeysAreIgnored)) {
            copy = copy.key(key);
        }
        if let (Some(dedup), false) = (message.get_dedup(), self.has(Bug::DedupIsIgnored)) {
            copy = copy.dedup(dedup);
        }
        let delay = message.delay_from(self.time.wall());
        if let (Some(delay), false) = (delay, self.has(Bug::DelayIsIgnored)) {
            copy = copy.delay(delay);
        }
        if let (Some(ttl), false) = (message.get_ttl(), self.has(Bug::TtlIsIgnored)) {
            copy = copy.ttl(ttl);
        }
        copy
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Retry { delay, reason } => Outcome::Retry {
                delay: match delay.is_zero() {
                    true if self.has(Bug::ReleaseWaits) => Duration::from_secs(10),
                    false if self.has(Bug::RetryIgnoresItsDelay) => Duration::ZERO,
                    _ => delay,
                },
                reason,
            },
            Outcome::Reject { .. } if self.has(Bug::ReasonIsLost) => Outcome::Reject {
                reason: String::new(),
            },
            other => other,
        }
    }
}

#[async_trait::async_trait]
impl Backend for Buggy {
    fn name(&self) -> &'static str {
        "buggy"
    }

    fn capabilities(&self) -> Capabilities {
        let offered = self.inner.capabilities();
        match self.bug {
            Some(Bug::FenceIsUndeclared) => offered.without(Capability::FencedSettle),
            Some(Bug::DurabilityIsALie) => offered.with_survival(Survives::PowerLoss),
            Some(Bug::PayloadLimitIsWrong) => {
                offered.with_message_bytes_max(offered.message_bytes_max + 1)
            }
            _ => offered,
        }
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let mut sent = Vec::new();
        for message in batch {
            sent.push(self.inner.send(self.spoilt(&message)).await);
            let delayed = message.delay_from(self.time.wall()).is_some();
            if delayed && self.has(Bug::SchedulesFireTwice) {
                let _ = self.inner.send(self.spoilt(&message)).await;
            }
        }
        sent
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let max = if self.has(Bug::MaxIsIgnored) {
            100
        } else {
            max
        };
        let wait = if self.has(Bug::NeverWaits) {
            Duration::ZERO
        } else {
            wait
        };
        let mut received = self.inner.receive_batch(max, wait).await?;
        if self.has(Bug::NewestFirst) {
            received.reverse();
        }
        for delivery in &mut received {
            if self.has(Bug::LeaseIsIgnored) {
                let _ = self
                    .inner
                    .settle(delivery.receipt, Outcome::release())
                    .await;
            }
            if self.has(Bug::CountStaysOne) {
                (delivery.count, delivery.attempt) = (1, 1);
            }
        }
        Ok(received)
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        let mut settled = Vec::new();
        for Settlement { receipt, outcome } in batch {
            if outcome == Outcome::Done && self.has(Bug::DoneIsForgotten) {
                settled.push(Ok(()));
                continue;
            }
            let one = self.inner.settle(receipt, self.outcome(outcome)).await;
            let fine = matches!(one, Err(SettleError::Stale)) && self.has(Bug::StaleIsFine);
            settled.push(if fine { Ok(()) } else { one });
        }
        settled
    }

    async fn drain(&self) {
        if !self.has(Bug::DrainDoesNothing) {
            self.inner.drain().await;
        }
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        if self.has(Bug::ExtendDoesNothing) {
            return batch.iter().map(|_| Ok(())).collect();
        }
        if self.has(Bug::DeclaredIsRefused) {
            let refused = || Err(self.lacks(Capability::Extend).into());
            return batch.iter().map(|_| refused()).collect();
        }
        self.inner.extend(batch, by).await
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.inner.dead_letters(after, max).await
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        if self.has(Bug::ReplayDiscards) {
            return self.inner.discard(id).await;
        }
        self.inner.replay(id).await
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.inner.discard(id).await
    }

    async fn peek(&self, after: Option<MessageId>, max: usize) -> Result<Vec<Peeked>, ManageError> {
        if self.has(Bug::PeekReceives) {
            let _ = self.inner.receive_batch(1, Duration::ZERO).await;
        }
        self.inner.peek(after, max).await
    }

    async fn purge(&self) -> Result<u64, ManageError> {
        if self.has(Bug::PurgeDoesNothing) {
            return Ok(0);
        }
        self.inner.purge().await
    }

    async fn stats(&self) -> Result<Stats, ManageError> {
        let mut stats = self.inner.stats().await?;
        if self.has(Bug::StatsForgetTheLeased) {
            stats.leased = 0;
        }
        Ok(stats)
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let paused = paused && !self.has(Bug::PauseIsIgnored);
        self.inner.set_paused(paused).await
    }
}

struct Engines(Option<Bug>);

impl Harness for Engines {
    type World = (Queue, ManualTime);

    fn open(&self, setup: &Setup) -> Self::World {
        let time = ManualTime::new();
        let builder = match self.0 {
            Some(Bug::LimitsAreIgnored) => setup.builder().messages_max(1_000),
            _ => setup.builder(),
        };
        let buggy = Buggy {
            bug: self.0,
            inner: builder.in_memory(time.clone()).unwrap(),
            time: time.clone(),
        };
        (Queue::on(Arc::new(buggy)), time)
    }

    fn queue<'w>(&self, world: &'w Self::World) -> &'w Queue {
        &world.0
    }

    fn reopen(&self, world: Self::World, setup: &Setup) -> Self::World {
        drop(world);
        self.open(setup)
    }

    fn advance(&self, world: &Self::World, by: Duration) {
        world.1.advance(by);
    }
}

dpat_queue::queue_laws!(Engines(None));

const CAUGHT_BY: &[(Bug, &str)] = &[
    (Bug::HeadersAreDropped, "a_message_comes_as_it_was_sent"),
    (
        Bug::MaxIsIgnored,
        "a_receive_returns_at_most_what_was_asked_for",
    ),
    (
        Bug::NeverWaits,
        "a_waiting_receive_ends_with_a_message_or_its_time",
    ),
    (
        Bug::LeaseIsIgnored,
        "a_message_is_hidden_while_it_is_leased",
    ),
    (
        Bug::CountStaysOne,
        "the_count_rises_when_a_message_is_handed_out",
    ),
    (Bug::DoneIsForgotten, "a_done_message_never_comes_again"),
    (Bug::RetryIgnoresItsDelay, "a_retry_comes_after_its_delay"),
    (Bug::ReleaseWaits, "a_delivery_may_be_given_back"),
    (Bug::StaleIsFine, "a_stale_receipt_is_refused"),
    (Bug::FenceIsUndeclared, "a_stale_receipt_is_refused"),
    (Bug::ExtendDoesNothing, "a_lease_can_be_extended"),
    (Bug::DurabilityIsALie, "what_was_acknowledged_survives"),
    (Bug::NewestFirst, "messages_come_in_the_order_of_sending"),
    (Bug::PriorityIsIgnored, "a_higher_priority_comes_first"),
    (Bug::KeysAreIgnored, "of_a_key_one_is_out_and_order_is_kept"),
    (Bug::DelayIsIgnored, "a_delayed_message_comes_at_its_time"),
    (Bug::SchedulesFireTwice, "a_missed_schedule_fires_once"),
    (Bug::DedupIsIgnored, "a_double_send_answers_with_the_first"),
    (Bug::TtlIsIgnored, "a_message_ends_with_its_time_to_live"),
    (
        Bug::ReasonIsLost,
        "a_rejected_message_is_kept_with_its_reason",
    ),
    (
        Bug::ReplayDiscards,
        "a_dead_letter_is_replayed_or_discarded",
    ),
    (Bug::PauseIsIgnored, "a_paused_queue_hands_nothing_out"),
    (Bug::PurgeDoesNothing, "a_purge_leaves_what_is_out"),
    (Bug::PeekReceives, "looking_changes_nothing"),
    (Bug::StatsForgetTheLeased, "the_numbers_add_up"),
    (
        Bug::PayloadLimitIsWrong,
        "a_message_outside_of_its_limits_is_refused",
    ),
    (
        Bug::LimitsAreIgnored,
        "a_full_queue_refuses_and_nothing_is_done",
    ),
    (Bug::DrainDoesNothing, "a_drained_queue_refuses"),
    (
        Bug::DeclaredIsRefused,
        "what_is_not_offered_is_refused_by_name",
    ),
    // The differential law finds these by itself.
    (Bug::LeaseIsIgnored, "random_operations_match_the_model"),
    (Bug::DoneIsForgotten, "random_operations_match_the_model"),
    (Bug::KeysAreIgnored, "random_operations_match_the_model"),
    (Bug::DedupIsIgnored, "random_operations_match_the_model"),
    (Bug::TtlIsIgnored, "random_operations_match_the_model"),
];

#[test]
fn each_bug_breaks_its_law_and_each_law_is_broken() {
    let laws = laws::<Engines>();
    for (bug, name) in CAUGHT_BY {
        let (_, law) = laws.iter().find(|(law, _)| law == name).unwrap();
        // By an error, or by a panic on what cannot be.
        let found = catch_unwind(AssertUnwindSafe(|| law(&Engines(Some(*bug))).is_err()));
        assert!(found.unwrap_or(true), "{name} does not find {bug:?}");
    }
    let broken: BTreeSet<&str> = CAUGHT_BY.iter().map(|(_, law)| *law).collect();
    let all: BTreeSet<&str> = laws.iter().map(|(law, _)| *law).collect();
    assert_eq!(all, broken);
}
