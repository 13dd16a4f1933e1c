//! Calls and datagrams.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Deadline, Effect};
use dpat_model::{Delay, Fault, LinkSet, NodeIx, Trigger};
use dpat_sim::async_node::{CallError, Closed, Incoming};
use dpat_sim::{DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS};

use super::bench::{Bench, Log, MS, ask, exhaust, sleep, spec};

/// Node 1 asks node 0 at the given times of the run, in milliseconds; returns what was served and how it ended.
fn exchange(ops: Vec<(Trigger, Fault)>, times_ms: &'static [u64], serve_ms: u64) -> Vec<String> {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let (server, served) = (node.clone(), log.clone());
            node.serve(move |incoming: Incoming| {
                let (server, served) = (server.clone(), served.clone());
                async move {
                    sleep(&server, serve_ms).await;
                    served.add("served");
                    Ok(incoming.body)
                }
            });
            if node.peer().node == NodeIx(1) {
                for at_ms in times_ms {
                    sleep(&node, at_ms - node.true_ns() / MS).await;
                    match ask(&node, 0, "x", 100).await {
                        Ok(answer) => log.add(answer),
                        Err(error) => log.add(format!("{error:?}")),
                    }
                }
            }
        }
    });
    exhaust(&mut bench.sim(&spec(1, 2, ops)));
    lines.try_iter().collect()
}

const fn at(ms: u64) -> Trigger {
    Trigger::At(ms * 1_000)
}

const SERVER: NodeIx = NodeIx(0);

#[test]
fn a_call_is_answered_within_two_delays() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            node.serve(async |incoming: Incoming| {
                assert_eq!(incoming.patience, Some(Duration::from_millis(100)));
                assert_eq!((incoming.kind, incoming.from.node), ("ask", NodeIx(1)));
                Ok(incoming.body)
            });
            if node.peer().node == NodeIx(1) {
                assert_eq!(ask(&node, 0, "x", 100).await.as_deref(), Ok("x"));
                log.add(node.true_ns().to_string());
            }
        }
    });
    let mut sim = bench.sim(&spec(1, 2, Vec::new()));
    exhaust(&mut sim);
    let took: u64 = lines.recv().unwrap().parse().unwrap();
    assert!((2 * DEFAULT_DELAY_MIN_NS..=2 * DEFAULT_DELAY_MAX_NS).contains(&took));
    let outcome = sim.finish();
    assert_eq!(outcome.delivered, 1);
    assert_eq!(outcome.coverage.count("ask", "up", None), 1);
}

#[test]
fn nothing_crosses_a_partition_and_nobody_knows_what_was_done() {
    // The request is lost: not served.
    let cut = |link| vec![(at(0), Fault::OneWay { link, for_us: None })];
    let to = LinkSet::one(NodeIx(1), SERVER);
    assert_eq!(exchange(cut(to), &[10], 0), ["TimedOut"]);
    // The answer is lost: served all the same.
    let back = LinkSet::one(SERVER, NodeIx(1));
    assert_eq!(exchange(cut(back), &[10], 0), ["served", "TimedOut"]);
    // A partition that begins while a message is under way takes it too.
    let isolate = Fault::Isolate {
        node: SERVER,
        for_us: Some(5_000),
    };
    let begins = vec![(Trigger::At(10_300), isolate)];
    assert_eq!(exchange(begins, &[10, 200], 0), ["TimedOut", "served", "x"]);
}

#[test]
fn a_duplicated_request_is_served_twice_and_answered_once() {
    let twice = Fault::Duplicate {
        link: LinkSet::one(NodeIx(1), SERVER),
        per_million: 1_000_000,
        for_us: None,
    };
    assert_eq!(exchange(vec![(at(0), twice)], &[10], 1).len(), 3);
}

#[test]
fn a_link_that_holds_lets_go_what_it_was_given() {
    let link = LinkSet::one(NodeIx(1), SERVER);
    let ops = vec![
        (at(0), Fault::Hold { link, for_us: None }),
        (at(60), Fault::Release { link }),
    ];
    assert_eq!(exchange(ops, &[10], 0), ["served", "x"]);
    let ends = vec![(
        at(0),
        Fault::Hold {
            link,
            for_us: Some(60_000),
        },
    )];
    assert_eq!(exchange(ends, &[10], 0), ["served", "x"]);
    let too_long = vec![(
        at(0),
        Fault::Hold {
            link,
            for_us: Some(300_000),
        },
    )];
    assert_eq!(exchange(too_long, &[10], 0), ["TimedOut", "served"]);
}

#[test]
fn delays_follow_the_script() {
    let slow = Fault::Delay {
        link: LinkSet::ALL,
        delay: Delay::Constant(60_000),
        for_us: None,
    };
    assert_eq!(
        exchange(vec![(at(0), slow)], &[10], 0),
        ["served", "TimedOut"]
    );
}

#[test]
fn a_killed_process_refuses_and_a_crashed_machine_is_silent() {
    let kill = |ms| {
        (
            at(ms),
            Fault::Kill {
                node: SERVER,
                order_id: None,
                for_us: None,
            },
        )
    };
    let crash = |ms| {
        (
            at(ms),
            Fault::Crash {
                node: SERVER,
                for_us: None,
            },
        )
    };
    let restart = |ms| (at(ms), Fault::Restart { node: SERVER });
    assert_eq!(exchange(vec![kill(5)], &[10], 0), ["Refused"]);
    assert_eq!(exchange(vec![crash(5)], &[10], 0), ["TimedOut"]);
    // In the middle of the work.
    assert_eq!(exchange(vec![kill(30)], &[10], 40), ["Closed"]);
    assert_eq!(exchange(vec![crash(30)], &[10], 40), ["TimedOut"]);
    // And again after a restart.
    let ops = vec![kill(5), restart(50)];
    assert_eq!(exchange(ops, &[10, 60], 0), ["Refused", "served", "x"]);
}

#[test]
fn a_handler_may_let_the_connection_close() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            node.serve(async |_| Err(Closed));
            let answer = ask(&node, 0, "x", 100).await;
            log.add(format!("{answer:?}"));
        }
    });
    exhaust(&mut bench.sim(&spec(1, 1, Vec::new())));
    assert_eq!(lines.recv().unwrap(), "Err(Closed)");
}

#[test]
fn before_a_node_serves_requests_are_refused() {
    let bench = Bench::new(|node| async move {
        assert_eq!(ask(&node, 0, "x", 100).await, Err(CallError::Refused));
    });
    let mut sim = bench.sim(&spec(1, 1, Vec::new()));
    exhaust(&mut sim);
    assert_eq!(sim.violation(), None);
}

#[test]
fn work_that_has_begun_goes_on_when_its_caller_gives_up() {
    assert_eq!(exchange(Vec::new(), &[10], 150), ["TimedOut", "served"]);
}

#[test]
fn calls_are_limited_and_the_one_too_many_is_told() {
    let (log, lines) = Log::new();
    let mut bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            node.serve(async |_| pending().await);
            for _ in 0..3 {
                let (caller, log) = (node.clone(), log.clone());
                drop(node.spawn(async move {
                    let error = ask(&caller, 0, "x", 100).await.unwrap_err();
                    log.add(format!("{error}, {:?}", error.effect()));
                }));
            }
        }
    });
    bench.limits.calls_max = 2;
    exhaust(&mut bench.sim(&spec(1, 1, Vec::new())));
    assert_eq!(
        lines.try_iter().collect::<Vec<_>>(),
        [
            "more than 2 calls under way, NotDone",
            "no answer in time, Unknown",
            "no answer in time, Unknown"
        ]
    );
}

#[test]
fn a_call_without_a_deadline_ends_at_the_limit() {
    let mut bench = Bench::new(|node| async move {
        node.serve(async |_| pending().await);
        let answer = node
            .call(NodeIx(0), "ask", Bytes::new(), Deadline::NEVER)
            .await;
        assert_eq!(answer, Err(CallError::TimedOut));
        assert_eq!(node.true_ns(), 7_000 * MS);
    });
    bench.limits.call_max = Duration::from_secs(7);
    let mut sim = bench.sim(&spec(1, 1, Vec::new()));
    exhaust(&mut sim);
    assert_eq!(sim.violation(), None);
}

#[test]
fn errors_say_what_kind_they_are_and_what_is_certain() {
    let table = [
        (CallError::NoTime, Class::Timeout, Effect::NotDone),
        (
            CallError::TooMany { limit: 1 },
            Class::Overloaded,
            Effect::NotDone,
        ),
        (CallError::Refused, Class::Unavailable, Effect::NotDone),
        (CallError::Closed, Class::Transient, Effect::Unknown),
        (CallError::TimedOut, Class::Timeout, Effect::Unknown),
    ];
    for (error, class, effect) in table {
        assert_eq!((error.class(), error.effect()), (class, effect), "{error}");
    }
}

#[test]
fn datagrams_may_be_lost_and_nobody_hears_of_it() {
    let received = |per_million| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            let log = log.clone();
            async move {
                node.serve(move |incoming: Incoming| {
                    let log = log.clone();
                    async move {
                        assert_eq!(incoming.patience, None);
                        log.add("x");
                        Ok(Bytes::new())
                    }
                });
                if node.peer().node == NodeIx(1) {
                    for _ in 0..1_000 {
                        node.send(NodeIx(0), "tell", Bytes::new());
                    }
                    node.send(NodeIx(9), "tell", Bytes::new()); // nobody is there
                }
            }
        });
        let loss = Fault::Loss {
            link: LinkSet::ALL,
            per_million,
            for_us: None,
        };
        exhaust(&mut bench.sim(&spec(1, 2, vec![(at(0), loss)])));
        lines.try_iter().count()
    };
    assert_eq!(received(0), 1_000);
    // 700 expected, standard deviation 14.5.
    let some = received(300_000);
    assert!((640..760).contains(&some), "{some}");
    assert_eq!(received(1_000_000), 0);
}
