//! What a backend says of a law before it is tried.

use crate::capability::{Capabilities, Capability, OrderScope, Survives};

/// What a backend declares of what a law is about; for tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// It offers that. If not, the law checks that it is refused.
    pub offered: bool,
    /// What there is to add: the capability, or how far it goes.
    pub note: String,
}

/// Returns what a backend declares of what a law is about.
#[must_use]
pub fn declared(law: &str, capabilities: &Capabilities) -> Declared {
    let told = |offered, note: String| Declared { offered, note };
    match law {
        "messages_come_in_the_order_of_sending" => {
            let order = capabilities.order;
            told(order != OrderScope::None, order.name().to_owned())
        }
        "what_was_acknowledged_survives" => {
            let survives = capabilities.survives;
            told(survives != Survives::Nothing, survives.name().to_owned())
        }
        "a_message_outside_of_its_limits_is_refused" => {
            let bytes = capabilities.message_bytes_max;
            told(true, format!("payloads up to {bytes} bytes"))
        }
        _ => match capability(law) {
            Some(one) => told(capabilities.has(one), one.to_string()),
            None => told(true, String::new()),
        },
    }
}

/// What a law is about, if not every backend can do it.
fn capability(law: &str) -> Option<Capability> {
    Some(match law {
        "a_lease_can_be_extended" => Capability::Extend,
        "a_stale_receipt_is_refused" => Capability::FencedSettle,
        "a_delayed_message_comes_at_its_time" | "a_missed_schedule_fires_once" => Capability::Delay,
        "a_higher_priority_comes_first" => Capability::Priority,
        "of_a_key_one_is_out_and_order_is_kept" => Capability::OrderedKeys,
        "a_double_send_answers_with_the_first" => Capability::Dedup,
        "a_message_ends_with_its_time_to_live" => Capability::Ttl,
        "a_rejected_message_is_kept_with_its_reason" | "a_dead_letter_is_replayed_or_discarded" => {
            Capability::DeadLetters
        }
        "a_paused_queue_hands_nothing_out" => Capability::Pause,
        "a_purge_leaves_what_is_out" | "looking_changes_nothing" | "the_numbers_add_up" => {
            Capability::Inspect
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Harness, Setup, laws};
    use crate::queue::Queue;
    use std::time::Duration;

    struct Nothing;

    impl Harness for Nothing {
        type World = Queue;
        fn open(&self, _: &Setup) -> Queue {
            unreachable!("no law is run")
        }
        fn queue<'w>(&self, world: &'w Queue) -> &'w Queue {
            world
        }
        fn reopen(&self, world: Queue, _: &Setup) -> Queue {
            world
        }
        fn advance(&self, _: &Queue, _: Duration) {}
    }

    #[test]
    fn each_capability_of_the_port_has_a_law() {
        let laws = laws::<Nothing>();
        for one in Capability::ALL {
            let about = |(name, _): &(&'static str, _)| capability(name) == Some(one);
            // Of sending in a transaction the port has no method.
            let expected = one != Capability::TransactionalSend;
            assert_eq!(laws.iter().any(about), expected, "{one}");
        }
        let named = laws.iter().filter(|(name, _)| capability(name).is_some());
        assert_eq!(named.count(), 14, "a name is not that of a law");
    }

    #[test]
    fn a_gap_is_told_with_how_far_it_goes() {
        let offered = Capabilities::of(&[Capability::Delay]).with_survival(Survives::ProcessKill);
        let told = |law| {
            let declared = declared(law, &offered);
            (declared.offered, declared.note)
        };
        let owned = |offered, note: &str| (offered, note.to_owned());
        let delayed = told("a_delayed_message_comes_at_its_time");
        assert_eq!(delayed, owned(true, "delay"));
        assert_eq!(
            told("a_higher_priority_comes_first"),
            owned(false, "priority")
        );
        let order = told("messages_come_in_the_order_of_sending");
        assert_eq!(order, owned(false, "no order"));
        let survives = told("what_was_acknowledged_survives");
        assert_eq!(survives, owned(true, "survives a killed process"));
        assert_eq!(told("a_drained_queue_refuses"), owned(true, ""));
    }
}
