//! Each rule that is left out is found: by the laws, or by a crash.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::Queue;
use dpat_queue::conformance::{Harness, Setup, laws};
use dpat_queue::testing::Mutant;

use crate::memory::InMemory;

/// A queue in memory with a rule left out.
pub(crate) struct Without(pub(crate) Mutant);

impl Harness for Without {
    type World = (Queue, ManualTime);

    fn open(&self, setup: &Setup) -> Self::World {
        let time = ManualTime::new();
        let builder = setup.builder().mutant(Some(self.0));
        (builder.in_memory(time.clone()).unwrap(), time)
    }

    fn queue<'w>(&self, world: &'w Self::World) -> &'w Queue {
        &world.0
    }

    fn reopen(&self, world: Self::World, setup: &Setup) -> Self::World {
        drop(world);
        self.open(setup)
    }

    fn advance(&self, world: &Self::World, by: Duration) {
        InMemory.advance(world, by);
    }
}

const CAUGHT_BY: [(Mutant, &str); 5] = [
    (Mutant::StaleReceipt, "a_stale_receipt_is_refused"),
    (
        Mutant::CountAtRetry,
        "the_count_rises_when_a_message_is_handed_out",
    ),
    (Mutant::EarlyRetry, "a_retry_comes_after_its_delay"),
    (Mutant::IgnoreKeys, "of_a_key_one_is_out_and_order_is_kept"),
    (Mutant::ForgetDedup, "a_double_send_answers_with_the_first"),
];

#[test]
fn each_rule_that_is_left_out_breaks_its_law_and_the_comparison() {
    let laws = laws::<Without>();
    for (mutant, name) in CAUGHT_BY {
        for name in [name, "random_operations_match_the_model"] {
            let (_, law) = laws.iter().find(|(law, _)| *law == name).unwrap();
            // By an error, or by a panic on what cannot be.
            let found = catch_unwind(AssertUnwindSafe(|| law(&Without(mutant)).is_err()));
            assert!(found.unwrap_or(true), "{name} does not find {mutant:?}");
        }
    }
}

#[test]
fn mutants_are_found_by_their_names() {
    for mutant in Mutant::ALL {
        assert_eq!(Mutant::named(mutant.name()), Some(mutant));
        assert!(!mutant.rule().is_empty());
    }
    assert_eq!(Mutant::named("none"), None);
}
