use dpat_core as core;
use dpat_testkit::assert_send_sync;

#[test]
fn everything_can_be_shared_between_threads() {
    assert_send_sync::<core::Uuid7Generator>();
    assert_send_sync::<core::UlidGenerator>();
    assert_send_sync::<core::SnowflakeGenerator>();
    assert_send_sync::<core::AtomicHlc>();
    assert_send_sync::<core::Hlc>();
    assert_send_sync::<core::VersionVector>();
    assert_send_sync::<core::AnyTime>();
    assert_send_sync::<core::SplitMix64>();
    assert_send_sync::<core::Delays>();
    assert_send_sync::<core::GenerateError>();
    #[cfg(feature = "test-util")]
    assert_send_sync::<core::ManualTime>();
    #[cfg(feature = "test-util")]
    assert_send_sync::<core::ManualSleep>();
}

#[test]
fn ports_can_be_dyn() {
    let entropy: &dyn core::Entropy = &core::SplitMix64::new(1);
    assert!(entropy.below(3) < 3);
    let clock: &dyn core::Clock = &core::SystemClock;
    assert!(clock.now() <= clock.now());
    let error: Box<dyn core::Classify> = Box::new(core::EpochExhausted);
    assert_eq!(error.class(), core::Class::Permanent);
}
