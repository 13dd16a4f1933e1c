//! Configurations that cannot be, and servers that are not there.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect, TokioTime};
use dpat_redis::{Config, ConfigError, OpenError, QueueSettings, QueueStore, TIMEOUT_MAX};

const URL: &str = "redis://user:secret@127.0.0.1:1/0";

#[test]
fn a_url_that_is_none_is_a_typed_error_without_the_password() {
    for (url, expected) in [
        ("", "it has no scheme"),
        ("localhost:6379", "it has no scheme"),
        (
            "http://user:secret@localhost",
            "its scheme is none of Redis",
        ),
        ("redis://user:secret@localhost:port/", "it does not parse"),
        (
            "redis://user:secret@localhost/database",
            "it does not parse",
        ),
        ("redis://", "it does not parse"),
    ] {
        let error = Config::new(url, "a").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("url: {expected}")),
            "{url}: {text}"
        );
        assert!(!format!("{error:?} {text}").contains("secret"), "{text}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::InvalidInput, Effect::NotDone)
        );
    }
    let tls = Config::new("rediss://user:secret@localhost", "a").unwrap_err();
    assert_eq!(tls, ConfigError::Tls);
    assert!(tls.to_string().contains("tokio-rustls-comp"));
}

#[test]
fn a_name_that_is_none_is_a_typed_error() {
    for name in ["", "Orders", "a{b}", "a:b", "a b", "ä", &"a".repeat(49)] {
        let error = Config::new(URL, name).unwrap_err();
        let shown = name.chars().take(48).collect::<String>();
        assert_eq!(
            error,
            ConfigError::Name {
                field: "name",
                got: shown
            }
        );
    }
    let config = Config::new(URL, "a".repeat(48)).unwrap();
    let error = config.prefix("*").unwrap_err();
    assert!(
        error.to_string().starts_with("prefix: `*` is no name"),
        "{error}"
    );
}

#[test]
fn times_and_limits_are_bounded() {
    let config = || Config::new(URL, "a").unwrap();
    for timeout in [Duration::ZERO, TIMEOUT_MAX + Duration::from_nanos(1)] {
        let error = config().timeout(timeout).unwrap_err();
        assert_eq!(error, ConfigError::Timeout { got: timeout });
    }
    config().timeout(TIMEOUT_MAX).unwrap();
    let settings = QueueSettings {
        visibility: Duration::ZERO,
        ..QueueSettings::DEFAULT
    };
    let error = run(QueueStore::open(&config(), settings, TokioTime)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("visibility: 0 is not between"),
        "{error}"
    );
}

#[test]
fn a_password_is_never_shown() {
    let config = Config::new(URL, "a").unwrap();
    let shown = format!("{config:?} {}", config.address());
    assert!(
        shown.contains("127.0.0.1:1") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn a_server_that_is_not_there_is_unavailable_and_nothing_was_done() {
    let config = Config::new(URL, "a").unwrap();
    let error = run(QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime)).unwrap_err();
    assert!(matches!(error, OpenError::Engine(_)), "{error:?}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("127.0.0.1:1") && shown.contains("`url`"),
        "{shown}"
    );
    assert!(!shown.contains("secret"), "{shown}");
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}
