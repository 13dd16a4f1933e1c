//! Longer random runs against the model, from proptest: other operations each time it is asked to, shrunk by it.

use dpat_storage::MemStorage;
use dpat_storage::conformance::{Harness, Op, run, run_with_faults};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};

use crate::lossy::Lossy;

struct Memory;

impl Harness for Memory {
    type Storage = MemStorage;

    fn fresh(&self) -> MemStorage {
        MemStorage::new()
    }
    fn reopen(&self, storage: MemStorage) -> MemStorage {
        storage
    }
}

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(any::<u64>().prop_map(Op::from_bits), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn memory_answers_as_the_model(ops in ops(300)) {
        run(&Memory, &ops)?;
    }

    #[test]
    fn the_lossy_disk_answers_as_the_model(ops in ops(200)) {
        run(&Lossy(None), &ops)?;
    }

    #[test]
    fn the_lossy_disk_loses_no_more_than_the_model_allows(ops in ops(200)) {
        run_with_faults(&Lossy(None), &ops)?;
    }
}
