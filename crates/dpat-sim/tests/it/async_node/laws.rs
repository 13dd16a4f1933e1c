//! What holds for every system.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Deadline, Sleep};
use dpat_model::{Fault, NodeIx, Trigger};
use dpat_sim::async_node::{AsyncNode, AsyncSim, NodeSleep, NodeTime, Schedule, Stop, Task};
use dpat_sim::{RunSpec, SpecError, TraceMode, slice};
use dpat_testkit::{assert_send_sync, drop_at_every_await};

use super::bench::{Bench, Log, MS, SECOND, ask, calm, exhaust, full, give_way, sleep, spec};

/// Nodes that chat: timers, calls, datagrams, tasks.
fn chatter() -> Bench {
    Bench::new(|node| async move {
        node.serve(async |incoming: dpat_sim::async_node::Incoming| Ok(incoming.body));
        for round in 0..20 {
            let to = (node.peer().node.0 + 1 + round % 2) % node.nodes();
            let other = node.clone();
            let pause = node.entropy().below(5);
            let task = node.spawn(async move { ask(&other, to, "hello", 50).await.is_ok() });
            node.send(NodeIx(to), "tell", Bytes::from_static(b"news"));
            sleep(&node, pause).await;
            let _ = task.await;
        }
    })
}

fn storm(seed: u64) -> RunSpec {
    let at = |ms: u64| Trigger::At(ms * 1_000);
    spec(
        seed,
        3,
        vec![
            (
                at(0),
                Fault::Loss {
                    link: dpat_model::LinkSet::ALL,
                    per_million: 100_000,
                    for_us: None,
                },
            ),
            (
                at(30),
                Fault::Crash {
                    node: NodeIx(1),
                    for_us: Some(20_000),
                },
            ),
            (
                at(20),
                Fault::Pause {
                    node: NodeIx(0),
                    for_us: Some(3_000),
                },
            ),
            (
                at(0),
                Fault::Duplicate {
                    link: dpat_model::LinkSet::ALL,
                    per_million: 30_000,
                    for_us: None,
                },
            ),
            (
                at(60),
                Fault::Isolate {
                    node: NodeIx(2),
                    for_us: Some(40_000),
                },
            ),
        ],
    )
}

fn hash(bench: Bench, spec: &RunSpec) -> (u64, u64) {
    let mut sim = bench.sim(spec);
    exhaust(&mut sim);
    let outcome = sim.finish();
    assert_eq!(outcome.violation, None);
    (outcome.trace_hash, outcome.events)
}

#[test]
fn the_same_seed_gives_the_same_hash_and_another_seed_another() {
    let first = hash(chatter(), &storm(1));
    assert_eq!(first, hash(chatter(), &storm(1)));
    assert_ne!(first.0, hash(chatter(), &storm(2)).0);
    assert!(first.1 > 300, "{first:?}");
}

#[test]
fn what_is_recorded_does_not_change_the_run() {
    let hashed = hash(chatter(), &storm(5));
    assert_eq!(hash(chatter(), &full(storm(5))), hashed);
    let off = RunSpec {
        trace: TraceMode::Off,
        ..storm(5)
    };
    assert_eq!(hash(chatter(), &off), (0, hashed.1));
}

#[test]
fn a_full_trace_has_every_event_and_where_it_comes_from() {
    let mut sim = chatter().sim(&full(storm(1)));
    exhaust(&mut sim);
    let outcome = sim.finish();
    let trace = outcome.trace.unwrap();
    assert_eq!(trace.trace_hash, format!("{:016x}", outcome.trace_hash));
    assert_eq!(trace.events.len() as u64, outcome.events);
    assert!(
        (0..)
            .zip(&trace.events)
            .all(|(index, event)| event.i == index)
    );
    for event in &trace.events {
        assert!(
            event.causes.iter().all(|cause| *cause < event.i),
            "{event:?}"
        );
        // An arrival follows from the event that sent it.
        if let ("deliver", Some((from, sent_in))) = (event.what.as_str(), event.from) {
            let sender = &trace.events[usize::try_from(sent_in).unwrap()];
            assert_eq!(sender.node, Some(from));
            let sent = |sent: &&dpat_sim::Sent| Some(sent.to) == event.node;
            assert!(sender.sends.iter().any(|one| sent(&one)), "{event:?}");
            assert!(event.causes.contains(&sent_in));
        }
    }
    let down = trace
        .shades
        .iter()
        .find(|shade| shade.what == "down")
        .unwrap();
    assert_eq!((down.from_ns, down.until_ns), (30 * MS, 50 * MS));
    // The first answer follows from little; the last from much.
    let answers: Vec<u64> = trace
        .events
        .iter()
        .filter(|event| event.what == "answer")
        .map(|event| event.i)
        .collect();
    let cone = |event: &u64| slice(&trace, *event).len();
    assert!(cone(&answers[0]) < cone(answers.last().unwrap()));
    let text = serde_json::to_string(&trace).unwrap();
    assert_eq!(
        serde_json::from_str::<dpat_sim::Trace>(&text).unwrap(),
        trace
    );
}

#[test]
fn traces_know_every_kind_of_event() {
    let mut seen = BTreeSet::new();
    for seed in 0..10 {
        let mut sim = chatter().sim(&full(storm(seed)));
        exhaust(&mut sim);
        sim.heal();
        let trace = sim.finish().trace.unwrap();
        seen.extend(trace.events.into_iter().map(|event| event.what));
    }
    let expected = [
        "answer",
        "crash",
        "deliver",
        "duplicate",
        "fault",
        "heal",
        "lost",
        "pause",
        "poll",
        "restart",
        "resume",
        "start",
        "timer",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

/// Starts three tasks at once and returns the order in which they ran.
fn order(seed: u64, schedule: Schedule) -> String {
    let (log, lines) = Log::new();
    let mut bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            for name in ["a", "b", "c"] {
                let log = log.clone();
                drop(node.spawn(async move { log.add(name) }));
            }
        }
    });
    bench.schedule = schedule;
    exhaust(&mut bench.sim(&calm(seed, 1)));
    lines.try_iter().collect()
}

#[test]
fn seeds_explore_every_order_of_ready_tasks() {
    let orders: BTreeSet<String> = (0..60).map(|seed| order(seed, Schedule::Random)).collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
    assert!((0..20).all(|seed| order(seed, Schedule::Fifo) == "abc"));
}

#[test]
fn time_is_virtual_and_jumps_to_what_is_next() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let (begun, wall) = (node.time().now(), node.time().wall());
            assert_eq!(begun, node.time().origin());
            for _ in 0..10 {
                sleep(&node, 3_600_000).await;
            }
            let passed = node.time().now().since(begun);
            assert_eq!(passed, node.time().wall().since(wall));
            log.add(format!("{passed:?} {}", node.true_ns()));
        }
    });
    let mut sim = bench.sim(&calm(1, 1));
    assert_eq!(sim.run_until(u64::MAX), Stop::Idle);
    assert_eq!(
        lines.try_iter().collect::<Vec<_>>(),
        ["36000s 36000000000000"]
    );
    assert!(sim.events() < 30);
    assert_eq!(sim.now_ns(), 36_000 * SECOND);
}

#[test]
fn timers_that_are_due_together_fire_in_the_order_in_which_they_were_set() {
    let (log, lines) = Log::new();
    let mut bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let due = node.time().now() + Duration::from_secs(1);
            for number in 0..5 {
                let (time, log) = (node.time(), log.clone());
                drop(node.spawn(async move {
                    time.sleep_until(due).await;
                    log.add(number.to_string());
                }));
            }
        }
    });
    bench.schedule = Schedule::Fifo;
    exhaust(&mut bench.sim(&calm(1, 1)));
    assert_eq!(lines.try_iter().collect::<String>(), "01234");
}

#[test]
fn a_sleep_that_is_dropped_leaves_nothing_behind() {
    let bench = Bench::new(|node| async move {
        drop(node.time().sleep(Duration::from_secs(9)));
        let mut nap = std::pin::pin!(node.time().sleep(Duration::from_secs(5)));
        std::future::poll_fn(|cx| {
            assert!(nap.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    let mut sim = bench.sim(&calm(1, 1));
    assert_eq!(sim.run_until(u64::MAX), Stop::Idle);
    assert_eq!(sim.now_ns(), 0);
}

#[test]
fn a_run_that_asks_for_too_much_is_a_violation() {
    let violation = |bench: Bench| {
        let mut sim = bench.sim(&calm(1, 2));
        assert_eq!(sim.run_until(u64::MAX), Stop::Violated);
        sim.violation().unwrap().property
    };
    assert_eq!(
        violation(Bench::new(|_| async {
            loop {
                give_way().await;
            }
        })),
        "event-limit"
    );
    let mut tasks = Bench::new(|node| async move {
        for _ in 0..20 {
            drop(node.spawn(pending::<()>()));
        }
    });
    tasks.limits.tasks_max = 30;
    assert_eq!(violation(tasks), "task-limit");
    let mut messages = Bench::new(|node| async move {
        for _ in 0..20 {
            node.send(NodeIx(1), "tell", Bytes::new());
        }
    });
    messages.limits.messages_max = 30;
    assert_eq!(violation(messages), "message-limit");
}

#[test]
fn a_panic_is_a_violation_and_not_the_end_of_the_batch() {
    let bench = Bench::new(|node| async move {
        sleep(&node, 5).await;
        assert!(node.peer().node.0 != 1, "node 1 has a bug");
    });
    let mut sim = bench.sim(&calm(1, 2));
    assert_eq!(sim.run_until(u64::MAX), Stop::Violated);
    let violation = sim.violation().unwrap();
    assert_eq!(violation.property, "panic");
    assert_eq!(violation.message, "node 1 has a bug");
}

#[test]
fn a_demand_that_fails_ends_the_run_at_its_event() {
    let bench = Bench::new(|node| async move {
        sleep(&node, 5).await;
        node.sometimes("slept", true);
        node.always("right", node.peer().node.0 == 0, || {
            "only node 0 is".to_owned()
        });
    });
    let mut sim = bench.sim(&calm(1, 2));
    assert_eq!(sim.run_until(u64::MAX), Stop::Violated);
    let events = sim.events();
    let outcome = sim.finish();
    let violation = outcome.violation.unwrap();
    assert_eq!(
        (violation.property.as_str(), violation.at_event),
        ("right", events - 1)
    );
    assert!(outcome.coverage.sometimes()["slept"] > 0);
}

#[test]
fn handles_and_wakers_may_go_to_other_threads() {
    assert_send_sync::<AsyncNode>();
    assert_send_sync::<NodeTime>();
    assert_send_sync::<NodeSleep>();
    assert_send_sync::<Task<u8>>();
}

#[test]
fn what_nobody_can_wake_is_freed_with_the_run() {
    let held = Arc::new(AtomicU64::new(0));
    struct Counted(Arc<AtomicU64>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let counter = Arc::clone(&held);
    let bench = Bench::new(move |node| {
        counter.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&counter));
        async move {
            let kept = (counted, node.clone());
            node.serve(async |_| pending().await);
            let _ = ask(&node, 0, "never", 1_000_000).await;
            drop(kept);
        }
    });
    let mut sim = bench.sim(&calm(1, 2));
    assert_eq!(sim.run_until(SECOND), Stop::Reached);
    assert_eq!(held.load(Ordering::Relaxed), 2);
    drop(sim);
    assert_eq!(held.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&held), 1);
}

/// A run with a server at node 0, and the handle of node 1.
fn served() -> (AsyncNode, AsyncSim<Bench>) {
    let (sender, handles) = std::sync::mpsc::channel();
    let mut bench = Bench::new(move |node| {
        let _ = sender.send(node.clone());
        async move {
            node.serve(async |incoming: dpat_sim::async_node::Incoming| Ok(incoming.body));
        }
    });
    bench.limits.calls_max = 1;
    let mut sim = bench.sim(&calm(1, 2));
    sim.run_until(0);
    let node = handles
        .try_iter()
        .find(|node| node.peer().node == NodeIx(1))
        .unwrap();
    (node, sim)
}

#[test]
fn a_call_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let (node, sim) = served();
            let caller = node.clone();
            let call = async move { ask(&caller, 0, "once", 100).await };
            (call, (node, sim))
        },
        |(_, sim)| {
            sim.run_until(sim.now_ns() + MS);
        },
        |(node, mut sim), _| {
            // Only one call may be under way: a forgotten one would be in the way.
            let (sender, answers) = std::sync::mpsc::channel();
            drop(node.clone().spawn(async move {
                let _ = sender.send(ask(&node, 0, "again", 100).await);
            }));
            exhaust(&mut sim);
            assert_eq!(answers.try_recv().unwrap().as_deref(), Ok("again"));
        },
    );
    assert!(awaits >= 2);
}

#[test]
fn a_sleep_a_point_and_a_task_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let (node, sim) = served();
            let sleeper = node.clone();
            let work = async move {
                sleep(&sleeper, 2).await;
                sleeper.point("here", None).await;
                let nap = sleeper.clone();
                sleeper.spawn(async move { sleep(&nap, 2).await }).await;
            };
            (work, (node, sim))
        },
        |(_, sim)| {
            sim.run_until(sim.now_ns() + MS);
        },
        |(_, mut sim), _| {
            exhaust(&mut sim);
            assert_eq!(sim.violation(), None);
        },
    );
    assert!(awaits >= 4);
}

#[test]
fn deadlines_that_have_passed_are_told_without_a_message() {
    let (node, mut sim) = served();
    let (sender, answers) = std::sync::mpsc::channel();
    let before = sim.events();
    drop(node.clone().spawn(async move {
        let late = Deadline::at(node.time().now());
        let _ = sender.send(node.call(NodeIx(0), "ask", Bytes::new(), late).await);
    }));
    exhaust(&mut sim);
    assert_eq!(
        answers.try_recv().unwrap(),
        Err(dpat_sim::async_node::CallError::NoTime)
    );
    assert_eq!(sim.events(), before + 1);
}

#[test]
fn buggify_is_off_at_half_of_the_sites_and_the_same_for_a_seed() {
    let hits = |seed: u64| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            let log = log.clone();
            async move {
                for _ in 0..100 {
                    log.add(if node.buggify("site", 200_000) {
                        "x"
                    } else {
                        "-"
                    });
                }
            }
        });
        exhaust(&mut bench.sim(&calm(seed, 1)));
        lines.try_iter().collect::<String>()
    };
    let all: Vec<String> = (0..40).map(hits).collect();
    assert_eq!(all[7], hits(7));
    let on = all.iter().filter(|line| line.contains('x')).count();
    assert!((8..32).contains(&on), "{on} of 40 runs");
}

#[test]
fn runs_that_cannot_be_are_refused() {
    let refuse = |spec: RunSpec| AsyncSim::<Bench>::start(&spec).unwrap_err();
    let mutant = RunSpec {
        mutant: Some("wild".to_owned()),
        ..RunSpec::new(1)
    };
    assert!(matches!(refuse(mutant), SpecError::NoMutant { .. }));
    let nodes = RunSpec {
        nodes: Some(0),
        ..RunSpec::new(1)
    };
    assert!(matches!(refuse(nodes), SpecError::Nodes { asked: 0, .. }));
    let other = RunSpec {
        nodes: Some(4),
        ..calm(1, 3)
    };
    assert!(matches!(
        refuse(other),
        SpecError::Nodes {
            asked: 4,
            min: 3,
            max: 3
        }
    ));
    let mut foreign = calm(1, 3);
    foreign.script.as_mut().unwrap().protocol = "echo".to_owned();
    assert!(matches!(refuse(foreign), SpecError::OtherProtocol { .. }));
    let fault = Fault::Error {
        node: NodeIx(0),
        step: None,
        order_id: None,
        per_million: None,
        for_us: None,
    };
    let spoiled = spec(1, 3, vec![(Trigger::At(1), fault)]);
    assert!(matches!(
        refuse(spoiled),
        SpecError::Refused {
            op: 0,
            fault: "error",
            ..
        }
    ));
}

#[test]
fn a_client_makes_one_call_after_the_other_and_only_those_of_the_script() {
    let run = |ops| {
        let (log, lines) = Log::new();
        let bench = Bench::new(|_| async {}).clients(2, 5, move |client, call, node, mut rng| {
            let log = log.clone();
            async move {
                let drawn = rng.below(1_000);
                sleep(&node, 1).await;
                log.add(format!("{client}.{call}:{drawn}@{}", node.true_ns() / MS));
            }
        });
        let mut sim = bench.sim(&spec(3, 1, ops));
        exhaust(&mut sim);
        let mut lines: Vec<String> = lines.try_iter().collect();
        lines.sort_unstable();
        (lines, sim.finish().calls)
    };
    let (all, calls) = run(Vec::new());
    assert_eq!((all.len(), calls), (10, vec![5, 5]));
    let keep = |client, keep| (Trigger::At(0), Fault::Calls { client, keep });
    let (some, calls) = run(vec![keep(0, vec![1, 4]), keep(1, vec![])]);
    assert_eq!(calls, [5, 0]);
    // What a call draws does not depend on the calls that are left out.
    let drawn = |line: &String| line.split('@').next().unwrap().to_owned();
    let expected: Vec<String> = [&all[1], &all[4]].into_iter().map(drawn).collect();
    assert_eq!(some.iter().map(drawn).collect::<Vec<_>>(), expected);
}

#[test]
fn a_client_with_an_open_loop_does_not_wait_for_its_answers() {
    let (log, lines) = Log::new();
    let bench = Bench::new(|_| async {}).clients(1, 4, move |_, call, node, _| {
        let log = log.clone();
        async move {
            sleep(&node, 10).await;
            node.next_call();
            node.next_call(); // twice is once
            log.add(format!("{call} at {}", node.true_ns() / MS));
            sleep(&node, 100).await;
        }
    });
    let mut sim = bench.sim(&calm(3, 1));
    exhaust(&mut sim);
    let begun: Vec<String> = lines.try_iter().collect();
    assert_eq!(begun, ["0 at 10", "1 at 20", "2 at 30", "3 at 40"]);
    assert_eq!(sim.finish().calls, [4]);
}

#[test]
fn what_struck_is_known_and_what_changed_nothing_is_not_in_it() {
    let restart = Fault::Restart { node: NodeIx(0) };
    let crash = Fault::Crash {
        node: NodeIx(0),
        for_us: Some(1_000),
    };
    let ops = vec![(Trigger::At(5_000), restart), (Trigger::At(7_000), crash)];
    let mut sim = Bench::new(|_| async {}).sim(&spec(1, 1, ops));
    exhaust(&mut sim);
    let struck: Vec<_> = sim.struck().iter().map(|one| (one.op, one.at_ns)).collect();
    assert_eq!(struck, [(1, 7 * MS)]);
}
