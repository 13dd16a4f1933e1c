//! Logins, permissions and tables that are not as they should be.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect, SystemEntropy, TokioTime, Uuid7Generator, Wall};
use dpat_outbox::{Appended, Event, Limits, Store};
use dpat_postgres::sql::Part;
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::tokio_postgres::types::ToSql;
use dpat_postgres::{
    Config, OpenError, Outbox, QueueSettings, QueueStore, Tables, commit, migrate,
};
use dpat_queue::{Message, Outcome};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "a_refused_login_names_the_setting_and_no_password",
            a_refused_login_names_the_setting_and_no_password,
        ),
        live.trial(
            "a_missing_permission_names_the_grant",
            a_missing_permission_names_the_grant,
        ),
        live.trial(
            "a_missing_table_says_to_migrate",
            a_missing_table_says_to_migrate,
        ),
        live.trial("a_newer_schema_is_refused", a_newer_schema_is_refused),
        live.trial(
            "migrations_at_once_make_the_tables_once",
            migrations_at_once_make_the_tables_once,
        ),
        live.trial(
            "own_migrations_make_the_same_tables",
            own_migrations_make_the_same_tables,
        ),
        live.trial(
            "tables_of_version_1_are_brought_to_this_version_with_what_is_in_them",
            tables_of_version_1_are_brought_to_this_version_with_what_is_in_them,
        ),
    ]
}

pub(crate) fn event(key: &str) -> Event {
    static IDS: Uuid7Generator = Uuid7Generator::new();
    let id = IDS.next(Wall::from_nanos(1), &SystemEntropy).unwrap();
    Event::builder(id, "orders.completed")
        .key(key)
        .build()
        .unwrap()
}

/// The same server as somebody else.
fn as_user(url: &str, user: &str, prefix: &str) -> Config {
    let url = url.replace("postgres@", &format!("{user}:{user}-secret@"));
    Config::new(&url, prefix).unwrap()
}

fn a_refused_login_names_the_setting_and_no_password(server: Server) -> Result<(), Failed> {
    let url = server.url();
    let prefix = kit::name();
    // Nobody is asked for a password there; a user who does not exist is refused all the same.
    let error = run(migrate(
        &as_user(&url, "nobody_such", &prefix),
        Part::Outbox,
    ))
    .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("`url`") && !shown.contains("secret"),
        "{shown}"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone)
    );
    let elsewhere = format!("{url}_not_there");
    let config = Config::new(&elsewhere, &prefix)?;
    let error = run(migrate(&config, Part::Outbox)).unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert!(error.to_string().contains("3D000"), "{error}");
    Ok(())
}

fn a_missing_permission_names_the_grant(url: &str) -> Result<(), Failed> {
    run(async {
        let admin = kit::client(url).await;
        let user = kit::name();
        let prefix = kit::name();
        admin
            .batch_execute(&format!("CREATE ROLE {user} LOGIN"))
            .await?;
        let config = as_user(url, &user, &prefix);
        // It may not make tables in the schema `public`.
        let error = migrate(&config, Part::Outbox).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("42501") && shown.contains("GRANT"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(error.class(), Class::Permanent);

        migrate(&Config::new(url, &prefix)?, Part::Outbox).await?;
        let error = Outbox::open(&config, Limits::DEFAULT).await.unwrap_err();
        assert!(error.to_string().contains("42501"), "{error}");

        // What the guide lists is enough, without a superuser and without the right to make tables.
        admin
            .batch_execute(&format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}_schema, {prefix}_events, {prefix}_states, \
                 {prefix}_lanes TO {user}"
            ))
            .await?;
        let config = config.tables(Tables::Expect);
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let admin_url = url;
        let url = url.replace("postgres@", &format!("{user}@"));
        let mut client = kit::client(&url).await;
        let mut tx = client.transaction().await?;
        outbox
            .append(&mut tx, &event("a"), Wall::from_nanos(1))
            .await?;
        commit(tx).await?;
        assert_eq!(outbox.lag().await?.backlog_rows, 1);
        drop((client, outbox));

        migrate(&Config::new(admin_url, &prefix)?, Part::Queue).await?;
        admin
            .batch_execute(&format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}_messages, {prefix}_deliveries, {prefix}_dedups, \
                 {prefix}_turns, {prefix}_queue TO {user}; \
                 GRANT USAGE ON SEQUENCE {prefix}_numbers TO {user}"
            ))
            .await?;
        let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
        let queue = store.queue();
        for message in [Message::new("a").key("k").dedup("d"), Message::new("b")] {
            queue.send(message).await?;
        }
        for delivery in queue.receive_batch(9, Duration::ZERO).await? {
            let reason = "no".to_owned();
            queue
                .settle(delivery.receipt, Outcome::Reject { reason })
                .await?;
        }
        let letters = queue.dead_letters(None, 9).await?;
        assert_eq!(letters.len(), 2);
        assert!(queue.replay(letters[0].id).await?);
        queue.set_paused(false).await?;
        assert_eq!((queue.purge().await?, store.release_all().await?), (1, 0));
        admin
            .batch_execute(&format!("DROP OWNED BY {user}; DROP ROLE {user}"))
            .await?;
        Ok(())
    })
}

fn a_missing_table_says_to_migrate(url: &str) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url);
        let expecting = config.clone().tables(Tables::Expect);
        let error = Outbox::open(&expecting, Limits::DEFAULT).await.unwrap_err();
        assert!(
            matches!(error, OpenError::Outdated { found: 0, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("`migrate`"), "{error}");

        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let client = kit::client(url).await;
        client
            .batch_execute(&config.sql("DROP TABLE {schema}.{prefix}_states"))
            .await?;
        let error = outbox.lag().await.unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains("42P01") && shown.contains("`migrate`"),
            "{shown}"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
        Ok(())
    })
}

fn a_newer_schema_is_refused(url: &str) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url);
        migrate(&config, Part::Outbox).await?;
        let client = kit::client(url).await;
        client
            .batch_execute(&config.sql("UPDATE {schema}.{prefix}_schema SET version = 99"))
            .await?;
        for tables in [Tables::Make, Tables::Expect] {
            let config = config.clone().tables(tables);
            let error = Outbox::open(&config, Limits::DEFAULT).await.unwrap_err();
            assert!(
                matches!(error, OpenError::NewerSchema { found: 99, .. }),
                "{error}"
            );
            assert_eq!(error.class(), Class::Permanent);
            assert!(error.to_string().contains("update the crate"), "{error}");
        }
        Ok(())
    })
}

fn migrations_at_once_make_the_tables_once(url: &str) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url).schema(kit::name())?;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let config = config.clone();
            all.spawn(async move {
                for part in Part::ALL {
                    migrate(&config, part).await?;
                }
                Ok::<_, OpenError>(())
            });
        }
        for done in all.join_all().await {
            done?;
        }
        let client = kit::client(url).await;
        let text = config.sql("SELECT count(*) FROM {schema}.{prefix}_lanes");
        let lanes: i64 = client.query_one(&text, &[]).await?.get(0);
        assert_eq!(lanes, dpat_postgres::sql::LANES);
        client
            .batch_execute(&config.sql("DROP SCHEMA {schema} CASCADE"))
            .await?;
        Ok(())
    })
}

fn own_migrations_make_the_same_tables(url: &str) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url).tables(Tables::Expect);
        let client = kit::client(url).await;
        // Twice: the texts may run again.
        for _ in 0..2 {
            for step in Part::ALL.iter().flat_map(|part| part.steps()) {
                client.batch_execute(&config.sql(step.sql)).await?;
            }
        }
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        assert_eq!(outbox.lag().await?.backlog_rows, 0);
        let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
        assert_eq!(store.queue().stats().await?.ready, 0);
        Ok(())
    })
}

/// As version 1 appended: the id, topic and key, the event.
const APPEND_OF_1: &str = "\
WITH e AS (
  INSERT INTO {schema}.{prefix}_events (id, topic, event) VALUES ($1, $2, $4) ON CONFLICT DO NOTHING RETURNING position
)
INSERT INTO {schema}.{prefix}_states (position, key, lane, bytes, phase, attempts, appended_at, entered_at, due, head)
SELECT position, $3, get_byte(sha256(convert_to($3, 'UTF8')), 0), length($4), 'pending', 0, 1, 1, 1, 1 FROM e";

async fn append_as_1(client: &Client, config: &Config, event: &Event) -> Result<(), Failed> {
    let (id, encoded) = (event.id().to_bytes(), event.encode());
    let text = config.sql(APPEND_OF_1);
    let params: [&(dyn ToSql + Sync); 4] = [&&id[..], &event.topic(), &event.key(), &&encoded[..]];
    assert_eq!(client.execute(&text, &params).await?, 1);
    Ok(())
}

fn tables_of_version_1_are_brought_to_this_version_with_what_is_in_them(
    url: &str,
) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url).tables(Tables::Expect);
        let mut client = kit::client(url).await;
        client
            .batch_execute(&config.sql(Part::Outbox.steps()[0].sql))
            .await?;
        let old = event("a");
        append_as_1(&client, &config, &old).await?;
        let error = Outbox::open(&config, Limits::DEFAULT).await.unwrap_err();
        assert!(
            matches!(error, OpenError::Outdated { found: 1, .. }),
            "{error}"
        );

        migrate(&config, Part::Outbox).await?;
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let mut tx = client.transaction().await?;
        let now = Wall::from_nanos(1);
        let again = outbox.append(&mut tx, &old, now).await?;
        assert_eq!(again, Appended::Duplicate(old.id()));
        let new = event("b");
        let appended = outbox.append(&mut tx, &new, now).await?;
        assert!(matches!(appended, Appended::New(_)), "{appended:?}");
        commit(tx).await?;

        // A process of version 1 that is still there goes on.
        let last = event("c");
        append_as_1(&client, &config, &last).await?;
        let claimed = outbox.claim(&crate::faults::claim(now)).await?.rows;
        let events: Vec<Event> = claimed.into_iter().map(|one| one.event).collect();
        assert_eq!(events, [old, new, last]);
        Ok(())
    })
}
