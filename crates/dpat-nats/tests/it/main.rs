//! What needs no server: settings.

use std::time::Duration;

use dpat_core::{Class, Classify as _};
use dpat_nats::{Config, ConfigError};

#[test]
fn urls_are_checked_and_never_shown() {
    let cases = [
        ("", "url: the 1. one is empty"),
        ("nats://secret@a,", "url: the 2. one is empty"),
        (
            "http://secret@a",
            "url: the 1. one is not of the scheme nats or tls",
        ),
        ("nats://secret@", "url: the 1. one is no URL"),
        ("nats://secret@a:port", "url: the 1. one is no URL"),
        ("nats://secret@a:0", "url: the 1. one has the port 0"),
        (
            "nats://secret@a,nats://other@b",
            "url: the 2. one has another login than an earlier one",
        ),
    ];
    for (url, expected) in cases {
        let error = Config::new(url).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(error.to_string().starts_with(expected), "{url}: {error}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
    let many = ["a"; 17].join(",");
    let error = Config::new(&many).unwrap_err();
    assert_eq!(
        error.to_string(),
        "url, servers in it: 17 is not between 1 and 16"
    );
}

#[test]
fn nothing_of_a_login_is_shown() {
    let config = Config::new("nats://us%20er:se%3Acret@one,two:1").unwrap();
    assert_eq!(config.servers(), "one:4222, two:1");
    let seed = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";
    for config in [
        config.clone(),
        config.clone().user_and_password("us er", "cret"),
        config.clone().token("cret"),
        config.clone().nkey(seed),
    ] {
        let text = format!("{config:?}");
        assert!(!text.contains("cret") && !text.contains("us"), "{text}");
        assert!(!text.contains(seed), "{text}");
    }
    let error = config.credentials("cret").unwrap_err();
    assert_eq!(error, ConfigError::Credentials);
    assert!(!error.to_string().contains("cret"));
}

#[test]
fn settings_are_bounded() {
    let config = || Config::new("nats://one").unwrap();
    let (no, long) = (Duration::ZERO, Duration::from_secs(61));
    let refused = [
        (config().name(""), "name: "),
        (config().name("a b"), "name: "),
        (config().inbox_prefix("a.>"), "inbox_prefix: "),
        (
            config().connect_timeout(no),
            "connect_timeout, ms: 0 is not between 10 and 60000",
        ),
        (
            config().request_timeout(long),
            "request_timeout, ms: 61000 is not between 10 and 60000",
        ),
        (config().ping_interval(no), "ping_interval, ms: "),
        (
            config().reconnect_delays(long, long),
            "reconnect_delays, longest, ms: ",
        ),
        (
            config().reconnect_delays(Duration::from_secs(2), Duration::from_secs(1)),
            "reconnect_delays, shortest, ms: 2000 is not between 1 and 1000",
        ),
        (config().reconnects_max(0), "reconnects_max: "),
        (config().pending_max(0), "pending_max: "),
        (config().client_buffer(1 << 21), "client_buffer: "),
    ];
    for (refused, expected) in refused {
        let error = refused.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn settings_of_queues_and_stores_are_bounded() {
    use dpat_nats::{QueueSettings, StoreSettings};

    let queue = || QueueSettings::new("orders").unwrap();
    assert_eq!(queue().check(), Ok(()));
    let refused = [
        (
            queue().messages_max(0),
            "messages_max: 0 is not between 1 and",
        ),
        (queue().bytes_max(1), "bytes_max: 1 is not between 1024 and"),
        (queue().message_bytes_max(0), "message_bytes_max: "),
        (
            queue().visibility(Duration::ZERO),
            "visibility, ms: 0 is not between 100 and",
        ),
        (queue().dedup_window(Duration::MAX), "dedup_window, ms: "),
        (queue().dead_max(0), "dead_max: "),
        (queue().dead_bytes_max(0), "dead_bytes_max: "),
        (queue().out_max(0), "out_max: "),
        (queue().waiters_max(0), "waiters_max: "),
        (queue().deliveries_max(0), "deliveries_max: "),
        (queue().replicas(6), "replicas: 6 is not between 1 and 5"),
    ];
    for (settings, expected) in refused {
        let error = settings.check().unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let store = || StoreSettings::new("responses").unwrap();
    assert_eq!(store().check(), Ok(()));
    for (settings, expected) in [
        (store().rows_max(0), "rows_max: "),
        (store().bytes_max(0), "bytes_max: "),
        (store().replicas(0), "replicas: "),
    ] {
        let error = settings.check().unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    for name in ["", "a.b", "a b", "ä"] {
        assert!(QueueSettings::new(name).is_err() && StoreSettings::new(name).is_err());
    }
}
