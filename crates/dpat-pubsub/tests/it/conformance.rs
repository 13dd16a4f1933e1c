//! The laws, for the hub in memory and for a backend behind the port.

use crate::mutants::{Bug, Wrapped};
use dpat_core::ManualTime;
use dpat_pubsub::PubSub;
use dpat_pubsub::conformance::{Harness, Op, run};
use dpat_pubsub::conformance::{declared, laws};
use dpat_testkit::live::{Law, conformance};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static PREFIXES: AtomicU64 = AtomicU64::new(0);

pub(crate) fn fresh_prefix() -> String {
    format!("t{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
}

pub(crate) struct Memory(pub(crate) ManualTime);

impl Harness for Memory {
    type Time = ManualTime;

    fn hub(&self) -> PubSub {
        PubSub::default()
    }
    fn retaining(&self, prefix: &str, last: usize) -> Option<PubSub> {
        let hub = PubSub::builder().retain(format!("{prefix}.>"), last);
        Some(hub.build().unwrap())
    }
    fn prefix(&self) -> String {
        fresh_prefix()
    }
    fn time(&self) -> ManualTime {
        self.0.clone()
    }
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        dpat_testkit::run_with(|| self.0.advance_to_next_wake(), future)
    }
}

mod memory {
    use super::Memory;
    use dpat_core::ManualTime;

    dpat_pubsub::pubsub_laws!(Memory(ManualTime::new()));
}

/// The hub in memory behind the port for engines.
pub(crate) struct Behind(pub(crate) ManualTime, pub(crate) Option<Bug>);

impl Harness for Behind {
    type Time = ManualTime;

    fn hub(&self) -> PubSub {
        PubSub::on(Arc::new(Wrapped::new(PubSub::default(), self.1)))
    }
    fn retaining(&self, prefix: &str, last: usize) -> Option<PubSub> {
        let hub = PubSub::builder().retain(format!("{prefix}.>"), last);
        Some(PubSub::on(Arc::new(Wrapped::new(
            hub.build().unwrap(),
            self.1,
        ))))
    }
    fn prefix(&self) -> String {
        fresh_prefix()
    }
    fn time(&self) -> ManualTime {
        self.0.clone()
    }
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        dpat_testkit::run_with(|| self.0.advance_to_next_wake(), future)
    }
}

mod behind_the_port {
    use super::Behind;
    use dpat_core::ManualTime;

    dpat_pubsub::pubsub_laws!(Behind(ManualTime::new(), None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_answers_as_the_model(bits in vec(any::<u64>(), 0..200)) {
        let ops: Vec<Op> = bits.into_iter().map(Op::from_bits).collect();
        run(&Memory(ManualTime::new()), &ops)?;
    }
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let hub = PubSub::default();
    let (offered, bytes) = (hub.capabilities(), hub.payload_bytes_max());
    let laws = Law::all(
        laws(),
        || Memory(ManualTime::new()),
        |name| {
            let declared = declared(name, offered, bytes);
            (declared.offered, declared.note)
        },
    );
    conformance("memory", "pubsub", laws).unwrap();
}
