//! Statements that a connection of the caller keeps.

use dpat_core::{Class, Classify, Effect, TokioTime, Wall};
use dpat_outbox::{Limits, Store};
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::{Outbox, Prepared, QueueSettings, QueueStore, commit};
use dpat_queue::Message;
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};

use crate::bad::event;
use crate::kit::{self, run};

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![live.trial(
        "a_connection_keeps_its_statements_and_those_of_another_are_refused",
        a_connection_keeps_its_statements_and_those_of_another_are_refused,
    )]
}

/// How many statements the server keeps for a connection.
async fn kept(client: &Client) -> Result<i64, Failed> {
    let text = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql AND statement NOT LIKE '%pg_prepared_statements%'";
    let row = client.query_one(text, &[]).await?;
    Ok(row.get(0))
}

fn a_connection_keeps_its_statements_and_those_of_another_are_refused(
    url: &str,
) -> Result<(), Failed> {
    run(async {
        let config = kit::config(url);
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let queue = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
        let now = Wall::from_nanos(1);
        let (mut first, mut second) = (kit::client(url).await, kit::client(url).await);
        let mut prepared = Prepared::new();
        // What is rolled back stays prepared.
        let mut tx = first.transaction().await?;
        outbox
            .append(&mut prepared.on(&mut tx), &event("a"), now)
            .await?;
        queue
            .send(&mut prepared.on(&mut tx), &Message::new("a"))
            .await?;
        tx.rollback().await?;
        let number = kept(&first).await?;
        // An append, a send, and the counts of both.
        assert_eq!(number, 4);
        for _ in 0..3 {
            let mut tx = first.transaction().await?;
            outbox
                .append(&mut prepared.on(&mut tx), &event("a"), now)
                .await?;
            queue
                .send(&mut prepared.on(&mut tx), &Message::new("a"))
                .await?;
            commit(tx).await?;
        }
        assert_eq!(kept(&first).await?, number, "nothing is prepared again");

        let mut tx = second.transaction().await?;
        let refused = outbox
            .append(&mut prepared.on(&mut tx), &event("b"), now)
            .await;
        let error = refused.unwrap_err();
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
        let shown = error.to_string();
        assert!(
            shown.contains("26000") && shown.contains("`Prepared`"),
            "{shown}"
        );
        tx.rollback().await?;
        // They were forgotten: from now on these are those of the second.
        let mut tx = second.transaction().await?;
        outbox
            .append(&mut prepared.on(&mut tx), &event("b"), now)
            .await?;
        commit(tx).await?;
        assert_eq!(outbox.lag().await?.backlog_rows, 4);
        assert_eq!(queue.queue().stats().await?.ready, 3);
        Ok(())
    })
}
