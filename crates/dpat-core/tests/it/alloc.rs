use crate::at;
use dpat_core::{
    AtomicHlc, Backoff, CorrelationId, Hlc, Jitter, NodeId, SnowflakeGenerator, SplitMix64,
    SystemEntropy, Ulid, UlidGenerator, Uuid7, Uuid7Generator, VersionVector,
};
use dpat_testkit::allocations;
use std::hint::black_box;
use std::time::Duration;

#[test]
fn generators_and_clocks_allocate_nothing() {
    let entropy = SplitMix64::new(1);
    let uuids = Uuid7Generator::new();
    let ulids = UlidGenerator::new();
    let snowflakes = SnowflakeGenerator::builder(NodeId::new(1)).build().unwrap();
    let mut local = Hlc::new(Duration::from_secs(1));
    let shared = AtomicHlc::new(Duration::from_secs(1));
    let mut delays = Backoff::DEFAULT.with_jitter(Jitter::PollyV2).delays();
    let ((), count) = allocations(|| {
        for millis in 0..100 {
            let wall = at(millis);
            black_box(uuids.next(wall, &entropy).unwrap());
            black_box(uuids.next(wall, &SystemEntropy).unwrap());
            black_box(ulids.next(wall, &entropy).unwrap());
            black_box(snowflakes.next(wall).unwrap());
            black_box(CorrelationId::random(&entropy));
            let sent = local.tick(wall).unwrap();
            black_box(shared.receive(wall, sent).unwrap());
            black_box(delays.next_delay(&entropy));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn text_into_a_buffer_and_parsing_allocate_nothing() {
    let uuid = Uuid7::from_parts(1, 2, 3);
    let ulid = Ulid::from_parts(1, 2);
    let ((), count) = allocations(|| {
        assert_eq!(uuid.encode(&mut [0; 36]).parse(), Ok(uuid));
        assert_eq!(ulid.encode(&mut [0; 26]).parse(), Ok(ulid));
    });
    assert_eq!(count, 0);
}

#[test]
fn version_vectors_of_known_nodes_are_compared_and_merged_without_allocation() {
    let nodes = (0..10).map(NodeId::new);
    let mut left = VersionVector::from_sorted(nodes.clone().map(|node| (node, 3))).unwrap();
    let right = VersionVector::from_sorted(nodes.map(|node| (node, 4))).unwrap();
    let ((), count) = allocations(|| {
        black_box(left.compare(&right));
        left.merge(&right).unwrap();
        left.increment(NodeId::new(4)).unwrap();
    });
    assert_eq!(count, 0);
    assert_eq!(left.get(NodeId::new(4)), 5);
}
