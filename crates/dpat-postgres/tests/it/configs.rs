//! Configurations that cannot be, and servers that are not there.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect};
use dpat_postgres::sql::Part;
use dpat_postgres::{CONNECTIONS_MAX, Config, ConfigError, TIMEOUT_MAX, migrate};

const URL: &str = "postgres://user:secret@127.0.0.1:1/shop";

#[test]
fn a_url_that_is_none_is_a_typed_error_without_the_password() {
    for (url, expected) in [
        ("", "it has no scheme"),
        ("localhost:5432", "it has no scheme"),
        (
            "mysql://user:secret@localhost",
            "its scheme is not `postgres`",
        ),
        (
            "postgres://user:secret@localhost:port/",
            "it does not parse",
        ),
        (
            "postgres://user:secret@localhost/a?secret=1",
            "it does not parse",
        ),
        ("postgres:///shop", "it has no host"),
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
}

#[test]
fn names_and_settings_are_bounded() {
    for name in [
        "",
        "Orders",
        "a-b",
        "a\"b",
        "7a",
        "a b",
        "ä",
        &"a".repeat(64),
    ] {
        let error = Config::new(URL, name).unwrap_err();
        assert!(error.to_string().starts_with("prefix: `"), "{error}");
        let error = Config::new(URL, "a").unwrap().schema(name).unwrap_err();
        assert!(error.to_string().starts_with("schema: `"), "{error}");
    }
    let config = || Config::new(URL, "a".repeat(32)).unwrap();
    for got in [Duration::ZERO, TIMEOUT_MAX + Duration::from_nanos(1)] {
        let field = "timeout";
        assert_eq!(
            config().timeout(got).unwrap_err(),
            ConfigError::Timeout { field, got }
        );
        let field = "connect_timeout";
        assert_eq!(
            config().connect_timeout(got).unwrap_err(),
            ConfigError::Timeout { field, got }
        );
    }
    for got in [0, CONNECTIONS_MAX + 1] {
        assert_eq!(
            config().connections(got).unwrap_err(),
            ConfigError::Connections { got }
        );
    }
    let shown = format!("{:?}", config());
    assert!(
        shown.contains("127.0.0.1:1") && !shown.contains("secret"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_url_that_asks_for_tls_needs_a_connector() {
    let config = Config::new(&format!("{URL}?sslmode=require"), "a").unwrap();
    let error = migrate(&config, Part::Outbox).await.unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("`Config::tls`"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_not_done() {
    let error = migrate(&Config::new(URL, "a").unwrap(), Part::Outbox)
        .await
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("secret"),
        "{text}"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
}
