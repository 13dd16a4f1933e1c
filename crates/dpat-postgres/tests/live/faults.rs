//! Faults of a server of its own: killed, cut off, stalled.

use std::time::Duration;

use dpat_core::{Classify, Clock, Effect, SystemClock, SystemEntropy, Uuid7, Wall};
use dpat_outbox::{Claim, Event, Limits, Outcome, Settlement, Store as _, Token};
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::{Config, Outbox, commit};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "a_killed_server_loses_nothing_and_sends_nothing_else",
            a_killed_server_loses_nothing_and_sends_nothing_else,
        ),
        live.faults(
            "a_commit_whose_answer_is_cut_is_unknown",
            a_commit_whose_answer_is_cut_is_unknown,
        ),
        live.faults(
            "a_stalled_connection_ends_calls_at_their_deadline",
            a_stalled_connection_ends_calls_at_their_deadline,
        ),
        live.faults(
            "appends_of_another_process_wake_the_relay_also_after_a_restart",
            appends_of_another_process_wake_the_relay_also_after_a_restart,
        ),
        live.faults(
            "dropped_calls_leave_the_store_usable",
            dropped_calls_leave_the_store_usable,
        ),
    ]
}

pub(crate) fn claim(now: Wall) -> Claim {
    Claim {
        token: Token::draw(&SystemEntropy),
        now,
        lease: Duration::from_millis(1),
        rows_max: 100,
        bytes_max: 1 << 20,
        lane_rows_max: 100,
    }
}

/// An event with a number as its payload.
fn event(number: u64) -> Event {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    let id = Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap();
    let event = Event::builder(id, "topic").payload(number.to_string());
    event.build().unwrap()
}

/// Appends one event in a transaction with a change.
async fn change(client: &mut Client, outbox: &Outbox, number: u64) -> Result<(), Failed> {
    let mut tx = client.transaction().await?;
    tx.execute("INSERT INTO own VALUES ($1)", &[&i64::try_from(number)?])
        .await?;
    outbox
        .append(&mut tx, &event(number), SystemClock.wall())
        .await?;
    commit(tx).await?;
    Ok(())
}

/// Relays everything once; returns what was relayed.
async fn relay(outbox: &Outbox) -> Result<Vec<u64>, Failed> {
    let mut sent = Vec::new();
    loop {
        let claim = claim(SystemClock.wall());
        let batch = outbox.claim(&claim).await?;
        if batch.rows.is_empty() && outbox.lag().await?.backlog_rows == 0 {
            return Ok(sent);
        }
        let settlements: Vec<_> = batch
            .rows
            .iter()
            .map(|row| Settlement {
                position: row.position,
                token: claim.token,
                outcome: Outcome::Sent,
            })
            .collect();
        for row in &batch.rows {
            sent.push(std::str::from_utf8(row.event.payload())?.parse()?);
        }
        outbox.settle(SystemClock.wall(), &settlements).await?;
    }
}

/// Kills the server at random moments; `DPAT_KILL_ROUNDS` says how often.
fn a_killed_server_loses_nothing_and_sends_nothing_else(mut server: Server) -> Result<(), Failed> {
    let rounds = crate::kills::rounds();
    let url = server.url();
    let config = Config::new(&url, "t")?.timeout(TIMEOUT)?;
    let outbox = run(async {
        let client = kit::client(&url).await;
        client.batch_execute("CREATE TABLE own (n bigint)").await?;
        Ok::<_, Failed>(Outbox::open(&config, Limits::DEFAULT).await?)
    })?;
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut next = 1_u64;
    let mut counted = 0;
    while counted < rounds {
        let before = acknowledged.len();
        let wait = Duration::from_millis(20 + dpat_core::Entropy::below(&SystemEntropy, 60));
        // Writes until the server is gone: the last one is not acknowledged.
        let writing = {
            let (url, outbox, from) = (url.clone(), outbox.clone(), next);
            std::thread::spawn(move || {
                run(async {
                    let Ok(mut client) = kit::connected(&url).await else {
                        return from;
                    };
                    let mut number = from;
                    while change(&mut client, &outbox, number).await.is_ok() {
                        number += 1;
                    }
                    number
                })
            })
        };
        // Any moment of its work will do.
        run(async { tokio::time::sleep(wait).await });
        server.kill();
        let failed = writing.join().map_err(|_| "the writer panicked")?;
        acknowledged.extend(next..failed);
        next = failed + 1;
        server.restart()?;
        counted += u64::from(acknowledged.len() > before);
    }
    let mut sent = run(relay(&outbox))?;
    sent.sort_unstable();
    let changed: Vec<u64> = run(async {
        let client = kit::client(&url).await;
        let rows = client.query("SELECT n FROM own ORDER BY n", &[]).await?;
        let number =
            |row: &dpat_postgres::tokio_postgres::Row| row.get::<_, i64>(0).cast_unsigned();
        Ok::<_, Failed>(rows.iter().map(number).collect())
    })?;
    assert_eq!(sent, changed, "each change has its event, once");
    let lost = acknowledged.iter().find(|number| !changed.contains(number));
    assert_eq!(lost, None, "was acknowledged");
    println!(
        "{counted} rounds counted: {} acknowledged, {} changes with their events, nothing lost",
        acknowledged.len(),
        changed.len()
    );
    Ok(())
}

fn a_commit_whose_answer_is_cut_is_unknown(server: Server) -> Result<(), Failed> {
    let (proxy, url) = kit::behind(&server.url())?;
    run(async {
        let config = Config::new(&url, "t")?.timeout(TIMEOUT)?;
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let mut client = kit::client(&server.url()).await;
        client.batch_execute("CREATE TABLE own (n bigint)").await?;
        change(&mut client, &outbox, 1).await?;
        let claim = claim(SystemClock.wall());
        let batch = outbox.claim(&claim).await?;
        let settlement = Settlement {
            position: batch.rows.first().ok_or("one")?.position,
            token: claim.token,
            outcome: Outcome::Sent,
        };
        // A commit of the caller, whose answer is cut.
        let mut behind = kit::client(&url).await;
        let mut tx = behind.transaction().await?;
        outbox
            .append(&mut tx, &event(2), SystemClock.wall())
            .await?;
        proxy.cut_answers(true);
        let error = commit(tx).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        assert!(error.class().is_retryable(), "{error}");
        let settled = outbox
            .settle(SystemClock.wall(), std::slice::from_ref(&settlement))
            .await;
        let error = settled.unwrap_err();
        assert!(error.class().is_retryable(), "{error}");
        proxy.cut_answers(false);
        // Done or not: it can be done again.
        outbox.settle(SystemClock.wall(), &[settlement]).await?;
        let lag = outbox.lag().await?;
        assert!(lag.sent == 1 && lag.backlog_rows <= 1, "{lag:?}");
        Ok(())
    })
}

fn a_stalled_connection_ends_calls_at_their_deadline(server: Server) -> Result<(), Failed> {
    let (proxy, url) = kit::behind(&server.url())?;
    run(async {
        let config = Config::new(&url, "t")?.timeout(Duration::from_millis(300))?;
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        proxy.stall(true);
        let error = outbox.claim(&claim(SystemClock.wall())).await.unwrap_err();
        assert!(error.class().is_retryable(), "{error}");
        let error = outbox.lag().await.unwrap_err();
        assert!(error.class().is_retryable(), "{error}");
        assert_eq!(error.effect(), Effect::NotDone);
        proxy.stall(false);
        let recovered = tokio::time::timeout(Duration::from_secs(30), async {
            while outbox.lag().await.is_err() {}
        });
        recovered.await.map_err(|_| "it does not come back")?;
        Ok(())
    })
}

fn appends_of_another_process_wake_the_relay_also_after_a_restart(
    mut server: Server,
) -> Result<(), Failed> {
    let url = server.url();
    run(async {
        let config = Config::new(&url, "t")?.timeout(TIMEOUT)?;
        let here = Outbox::open(&config, Limits::DEFAULT).await?;
        // As another process: its own connections, and its own signal.
        let there = Outbox::open(&config, Limits::DEFAULT).await?;
        let mut number = 0;
        for restarted in [false, true] {
            if restarted {
                server.kill();
                server.restart()?;
            }
            let mut client = kit::client(&url).await;
            // The listener may have to connect yet: until then nothing is heard.
            let heard = tokio::time::timeout(Duration::from_secs(30), async {
                loop {
                    let seen = here.claim(&claim(Wall::MIN)).await.map(|batch| batch.seen);
                    let Ok(seen) = seen else { continue };
                    number += 1;
                    let mut tx = client.transaction().await?;
                    there
                        .append(&mut tx, &event(number), SystemClock.wall())
                        .await?;
                    commit(tx).await?;
                    let waited = here.wait(seen);
                    if tokio::time::timeout(Duration::from_secs(1), waited)
                        .await
                        .is_ok()
                    {
                        return Ok::<_, Failed>(());
                    }
                }
            });
            heard.await.map_err(|_| "nothing is heard")??;
        }
        Ok(())
    })
}

fn dropped_calls_leave_the_store_usable(server: Server) -> Result<(), Failed> {
    let url = server.url();
    run(async {
        let config = Config::new(&url, "t")?.connections(1)?;
        let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
        let mut client = kit::client(&url).await;
        client.batch_execute("CREATE TABLE own (n bigint)").await?;
        change(&mut client, &outbox, 1).await?;
        let now = SystemClock.wall();
        for polls in 0..40 {
            let claim = claim(now);
            let mut call = std::pin::pin!(outbox.claim(&claim));
            // Dropped after so many looks, wherever that is.
            for _ in 0..polls {
                let mut once = std::pin::pin!(tokio::task::yield_now());
                tokio::select! {
                    biased;
                    _ = &mut call => break,
                    () = &mut once => {}
                }
            }
        }
        // One connection is enough to see whether each was given back or closed.
        let lag = outbox.lag().await?;
        assert_eq!(lag.backlog_rows, 1);
        let later = Wall::from_nanos(now.as_nanos() + 1_000_000_000);
        let batch = outbox.claim(&claim(later)).await?;
        assert_eq!(batch.rows.len(), 1, "the lease of a dropped claim ends");
        Ok(())
    })
}
