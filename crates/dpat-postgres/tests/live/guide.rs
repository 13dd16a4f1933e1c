//! The guide: its queries run, and say what is there.

use std::time::Duration;

use dpat_core::TokioTime;
use dpat_outbox::Limits;
use dpat_postgres::tokio_postgres::SimpleQueryMessage;
use dpat_postgres::{Inbox, Outbox, QueueSettings, QueueStore, ResponseLimits, ResponseStore};
use dpat_queue::{Message, Outcome};
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

const GUIDE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/src/engines/postgres.md"
);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![live.trial(
        "the_queries_of_the_guide_say_what_is_there",
        the_queries_of_the_guide_say_what_is_there,
    )]
}

/// The blocks of SQL of a section, for tables of this prefix.
fn queries(section: &str, prefix: &str) -> Result<Vec<String>, Failed> {
    let guide = std::fs::read_to_string(GUIDE)?;
    let (_, rest) = guide
        .split_once(&format!("## {section}\n"))
        .ok_or("no section")?;
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let blocks = section.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let queries = blocks.flat_map(|block| block.split_inclusive(";\n"));
    let queries = queries.map(|query| query.replace("orders_", &format!("{prefix}_")));
    Ok(queries.collect())
}

fn the_queries_of_the_guide_say_what_is_there(url: &str) -> Result<(), Failed> {
    let prefix = kit::name();
    let config = dpat_postgres::Config::new(url, &prefix)?;
    run(async {
        let queue = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime)
            .await?
            .queue();
        Outbox::open(&config, Limits::DEFAULT).await?;
        Inbox::open(&config).await?;
        ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
        queue.send(Message::new("dead")).await?;
        let reason = "no such order".to_owned();
        let delivery = queue.receive().await?;
        queue
            .settle(delivery.receipt, Outcome::Reject { reason })
            .await?;
        queue.send(Message::new("out")).await?;
        queue.receive().await?;
        queue
            .send(Message::new("later").delay(Duration::from_secs(60)))
            .await?;
        queue.send(Message::new("ready")).await?;

        let client = kit::client(url).await;
        let mut answers = Vec::new();
        for query in queries("Monitoring", &prefix)? {
            let rows = client.simple_query(&query).await;
            let rows = rows.map_err(|error| format!("{query}: {error}"))?;
            let rows = rows.iter().filter_map(|row| match row {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let text = |row: &dpat_postgres::tokio_postgres::SimpleQueryRow| {
                let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("-").to_owned());
                cells.collect::<Vec<_>>()
            };
            answers.push(rows.map(text).collect::<Vec<_>>());
        }
        // The first counts the messages of a queue, the second lists its dead letters.
        assert_eq!(answers[0], [["1", "1", "1", "1"]]);
        assert_eq!(answers[1].len(), 1);
        assert_eq!(answers[1][0][2], "no such order");
        for query in queries("Vacuum", &prefix)? {
            let done = client.batch_execute(&query).await;
            done.map_err(|error| format!("{query}: {error}"))?;
        }
        Ok(())
    })
}
