//! Crashes, pauses, clocks, disks and points.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Sleep};
use dpat_model::{Fault, NodeIx, Trigger};
use dpat_sim::async_node::{AsyncNode, Incoming, Stop};
use dpat_storage::{ErrorKind, File, ROOT, Storage};

use super::bench::{Bench, Log, MS, SECOND, ask, calm, exhaust, full, give_way, sleep, spec};

const NODE: NodeIx = NodeIx(0);

const fn at(ms: u64) -> Trigger {
    Trigger::At(ms * 1_000)
}

fn crash(for_ms: u64) -> Fault {
    Fault::Crash {
        node: NODE,
        for_us: Some(for_ms * 1_000),
    }
}

/// When it is dropped, tries everything that could reach beyond the life of its node.
struct Haunting(AsyncNode, Log);

impl Drop for Haunting {
    fn drop(&mut self) {
        let (node, log) = (&self.0, self.1.clone());
        log.add("dropped");
        node.send(NodeIx(1), "tell", Bytes::new());
        drop(node.spawn(async move { log.add("a ghost ran") }));
        node.serve(async |_| Ok(Bytes::from_static(b"ghost")));
        drop(node.call(NodeIx(1), "ask", Bytes::new(), dpat_core::Deadline::NEVER));
    }
}

#[test]
fn nothing_leaks_from_a_life_that_is_over() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            if node.peer().node == NodeIx(1) {
                node.serve(move |incoming: Incoming| {
                    let log = log.clone();
                    async move {
                        log.add(format!("{} from {}", incoming.kind, incoming.from));
                        Ok(Bytes::new())
                    }
                });
                return;
            }
            log.add(format!("life {}", node.peer().incarnation));
            if node.peer().incarnation == 0 {
                let haunting = Haunting(node.clone(), log.clone());
                drop(node.spawn(async move {
                    let _haunting = haunting;
                    pending::<()>().await;
                }));
                // Beyond the crash.
                sleep(&node, 20).await;
                log.add("woke in a life that is over");
            }
        }
    });
    let mut sim = bench.sim(&spec(1, 2, vec![(at(10), crash(5))]));
    exhaust(&mut sim);
    assert_eq!(
        lines.try_iter().collect::<Vec<_>>(),
        ["life 0", "dropped", "life 1"]
    );
    let lives = sim.lives(NODE);
    assert_eq!((lives[0].from_ns, lives[0].until_ns), (0, Some(10 * MS)));
    assert_eq!((lives[1].from_ns, lives[1].until_ns), (15 * MS, None));
    assert_eq!(lives.len(), 2);
}

#[test]
fn a_handle_that_survives_its_life_is_inert() {
    let (handles, kept) = std::sync::mpsc::channel();
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let handles = handles.clone();
        async move {
            node.serve(async |incoming: Incoming| Ok(incoming.body));
            let _ = handles.send(node.clone());
        }
    });
    let mut sim = bench.sim(&spec(1, 2, vec![(at(10), crash(5))]));
    sim.run_until(20 * MS);
    let find = |life: u64| {
        let all: Vec<AsyncNode> = kept.try_iter().collect();
        let found = all
            .iter()
            .find(|node| node.peer().node == NODE && node.peer().incarnation == life);
        found.cloned().unwrap()
    };
    let dead = find(0);
    let before = sim.events();
    let dead_log = log.clone();
    let ghost = dead.clone();
    drop(dead.spawn(async move {
        dead_log.add("ran");
        let _ = ask(&ghost, 1, "x", 100).await;
    }));
    dead.send(NodeIx(1), "tell", Bytes::new());
    exhaust(&mut sim);
    assert_eq!(sim.events(), before);
    assert_eq!(lines.try_iter().count(), 0);
    let disk = dead.disk().create("f").err().unwrap();
    assert_eq!(disk.kind(), ErrorKind::Closed);
}

#[test]
fn a_node_that_stays_down_is_started_by_the_script_or_by_the_end_of_the_faults() {
    let starts = |ops| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            log.add(node.peer().to_string());
            async {}
        });
        let mut sim = bench.sim(&spec(1, 1, ops));
        sim.run_until(SECOND);
        sim.heal();
        sim.run_until(2 * SECOND);
        lines.try_iter().collect::<Vec<_>>().join(" ")
    };
    let gone = || {
        (
            at(5),
            Fault::Crash {
                node: NODE,
                for_us: None,
            },
        )
    };
    let restart = |ms| (at(ms), Fault::Restart { node: NODE });
    assert_eq!(starts(vec![]), "n0#0");
    assert_eq!(starts(vec![gone()]), "n0#0 n0#1");
    assert_eq!(starts(vec![gone(), restart(9), restart(10)]), "n0#0 n0#1");
    // The end of an earlier fault does not end a later one.
    let again = (
        at(7),
        Fault::Crash {
            node: NODE,
            for_us: None,
        },
    );
    assert_eq!(
        starts(vec![(at(5), crash(3)), restart(6), again]),
        "n0#0 n0#1 n0#2"
    );
    // What is left of the script never strikes.
    assert_eq!(starts(vec![(at(1_500), crash(1))]), "n0#0");
}

#[test]
fn a_paused_node_does_nothing_and_then_goes_on() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let (server, served) = (node.clone(), log.clone());
            node.serve(move |incoming: Incoming| {
                served.add(format!("served at {}", server.true_ns() / MS));
                async move { Ok(incoming.body) }
            });
            if node.peer().node == NODE {
                sleep(&node, 20).await;
                log.add(format!("woke at {}", node.true_ns() / MS));
            } else {
                sleep(&node, 15).await;
                log.add(ask(&node, 0, "answered", 100).await.unwrap());
            }
        }
    });
    let pause = Fault::Pause {
        node: NODE,
        for_us: Some(40_000),
    };
    exhaust(&mut bench.sim(&spec(1, 2, vec![(at(10), pause)])));
    let lines: BTreeSet<String> = lines.try_iter().collect();
    let expected = ["answered", "served at 50", "woke at 50"];
    assert!(
        expected.iter().all(|line| lines.contains(*line)),
        "{lines:?}"
    );
}

#[test]
fn a_crash_ends_a_pause_with_all_that_waited() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let served = log.clone();
            node.serve(move |incoming: Incoming| {
                served.add("served");
                async move { Ok(incoming.body) }
            });
            if node.peer().node == NodeIx(1) {
                sleep(&node, 15).await;
                log.add(format!("{:?}", ask(&node, 0, "x", 100).await));
                log.add(ask(&node, 0, "x", 100).await.unwrap());
            }
        }
    });
    let pause = Fault::Pause {
        node: NODE,
        for_us: None,
    };
    exhaust(&mut bench.sim(&spec(1, 2, vec![(at(10), pause), (at(30), crash(20))])));
    let expected = ["Err(TimedOut)", "served", "x"];
    assert_eq!(lines.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn clocks_go_wrong_by_node_and_sleeps_with_them() {
    let woke = |fault| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            let log = log.clone();
            async move {
                let (time, begun) = (node.time(), node.time().now());
                let wall = time.wall();
                time.sleep(Duration::from_millis(100)).await;
                assert!(time.now().since(begun) >= Duration::from_millis(100));
                let ahead = i128::from(time.wall().as_nanos()) - i128::from(wall.as_nanos());
                log.add(format!(
                    "{} {}",
                    node.true_ns() / MS,
                    ahead / i128::from(MS)
                ));
            }
        });
        exhaust(&mut bench.sim(&spec(1, 1, vec![(at(10), fault)])));
        lines.recv().unwrap()
    };
    let node = NODE;
    let drift = |drift_per_million| Fault::ClockDrift {
        node,
        drift_per_million,
    };
    assert_eq!(woke(drift(0)), "100 100");
    assert_eq!(woke(drift(1_000_000)), "55 100");
    assert_eq!(woke(drift(-500_000)), "190 100");
    let freeze = Fault::ClockFreeze {
        node,
        for_us: Some(25_000),
    };
    assert_eq!(woke(freeze), "125 100");
    assert_eq!(
        woke(Fault::ClockJump {
            node,
            jump_us: -7_000
        }),
        "100 93"
    );
}

#[test]
fn a_frozen_clock_is_healed() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            sleep(&node, 100).await;
            log.add(format!("{}", node.true_ns() / MS));
        }
    });
    let freeze = Fault::ClockFreeze {
        node: NODE,
        for_us: None,
    };
    let mut sim = bench.sim(&spec(1, 1, vec![(at(10), freeze)]));
    assert_eq!(sim.run_until(SECOND), Stop::Idle);
    sim.heal();
    exhaust(&mut sim);
    assert_eq!(lines.recv().unwrap(), "1090");
}

/// A program that counts its lives in a file, and tells what it finds.
fn counts_lives(synced: bool) -> (Bench, std::sync::mpsc::Receiver<String>) {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            let disk = node.disk();
            let mut file = disk
                .open("lives")
                .or_else(|_| disk.create("lives"))
                .unwrap();
            log.add(file.len().unwrap().to_string());
            file.append(b"x").unwrap();
            if synced {
                file.sync_data().unwrap();
                disk.sync_dir(ROOT).unwrap();
            }
            pending::<()>().await;
        }
    });
    (bench, lines)
}

#[test]
fn the_disk_survives_a_crash_as_far_as_it_was_synced() {
    let lives = |synced, fault: &dyn Fn() -> Fault, seed| {
        let (bench, lines) = counts_lives(synced);
        let ops = (1..=3).map(|number| (at(10 * number), fault())).collect();
        exhaust(&mut bench.sim(&spec(seed, 1, ops)));
        lines.try_iter().collect::<String>()
    };
    let kill = || Fault::Kill {
        node: NODE,
        order_id: None,
        for_us: Some(1_000),
    };
    let wipe = || Fault::Wipe {
        node: NODE,
        for_us: Some(1_000),
    };
    assert_eq!(lives(true, &|| crash(1), 1), "0123");
    assert_eq!(lives(false, &kill, 1), "0123");
    assert_eq!(lives(true, &wipe, 1), "0000");
    let lost = (0..20)
        .filter(|seed| lives(false, &|| crash(1), *seed) != "0123")
        .count();
    assert!(lost > 0, "a crash never lost what was not synced");
}

#[test]
fn a_full_disk_has_room_again() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            for _ in 0..4 {
                let made = node.disk().create(&format!("f{}", node.true_ns() / MS));
                log.add(
                    made.map_or_else(|error| format!("{:?}", error.kind()), |_| "made".to_owned()),
                );
                sleep(&node, 10).await;
            }
        }
    });
    let fills = Fault::DiskFull {
        node: NODE,
        for_us: Some(20_000),
    };
    exhaust(&mut bench.sim(&spec(1, 1, vec![(at(5), fills)])));
    assert_eq!(
        lines.try_iter().collect::<Vec<_>>(),
        ["made", "NoSpace", "NoSpace", "made"]
    );
}

#[test]
fn a_script_strikes_at_a_point_and_nothing_after_it_runs() {
    let (log, lines) = Log::new();
    let bench = Bench::new(move |node| {
        let log = log.clone();
        async move {
            for order in ["a", "b", "c"] {
                log.add(format!("{order} stored"));
                node.point("between", Some(order)).await;
                log.add(format!("{order} told"));
            }
        }
    });
    let kill = Fault::Kill {
        node: NODE,
        order_id: Some("b".to_owned()),
        for_us: Some(1_000),
    };
    let point = |nth| Trigger::Point {
        name: "between".to_owned(),
        nth,
    };
    let mut sim = bench.sim(&spec(1, 1, vec![(point(1), kill)]));
    sim.run_until(0);
    assert_eq!(
        lines.try_iter().collect::<Vec<_>>(),
        ["a stored", "a told", "b stored"]
    );
    exhaust(&mut sim);
    assert_eq!(lines.try_iter().count(), 6, "the next life is spared");
}

#[test]
fn points_count_and_a_fault_of_another_kind_lets_the_node_go_on() {
    let run = |when, fault| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            let log = log.clone();
            async move {
                for _ in 0..4 {
                    node.point("step", None).await;
                    log.add(format!("{}", node.peer().incarnation));
                }
            }
        });
        exhaust(&mut bench.sim(&spec(1, 1, vec![(when, fault)])));
        lines.try_iter().collect::<String>()
    };
    let point = |name: &str, nth| Trigger::Point {
        name: name.to_owned(),
        nth,
    };
    assert_eq!(run(point("step", 3), crash(1)), "001111");
    assert_eq!(run(point("step", 3), Fault::Ring { for_us: None }), "0000");
    assert_eq!(run(point("other", 1), crash(1)), "0000");
}

#[test]
fn sending_and_delivering_are_points_too() {
    let run = |name: &str| {
        let (log, lines) = Log::new();
        let bench = Bench::new(move |node| {
            let log = log.clone();
            async move {
                let served = log.clone();
                node.serve(move |incoming: Incoming| {
                    served.add("served");
                    async move { Ok(incoming.body) }
                });
                if node.peer().node == NodeIx(1) {
                    log.add(format!("{:?}", ask(&node, 0, "x", 100).await.is_ok()));
                }
            }
        });
        let when = Trigger::Point {
            name: name.to_owned(),
            nth: 1,
        };
        exhaust(&mut bench.sim(&spec(1, 2, vec![(when, crash(1))])));
        lines.try_iter().collect::<Vec<_>>().join(" ")
    };
    // The server is gone for 1 ms: when the request leaves, which takes about as long, or when it comes.
    assert_eq!(run("send.tell"), "served true");
    assert_eq!(run("deliver.ask"), "false");
    let caller = run("send.ask");
    assert!(
        ["served true", "false"].contains(&caller.as_str()),
        "{caller}"
    );
}

/// Writes two halves with an await between them; the invariant is about what a crash leaves.
fn halves(both: Arc<AtomicBool>) -> Bench {
    Bench::new(move |node| {
        let both = Arc::clone(&both);
        async move {
            let disk = node.disk();
            let has = |name: &str| disk.metadata(name).is_ok();
            if has("first") != has("second") {
                both.store(false, Ordering::Relaxed);
            }
            for name in ["first", "second"] {
                if !has(name) {
                    drop(disk.create(name).unwrap());
                    disk.sync_dir(ROOT).unwrap();
                }
                give_way().await;
            }
        }
    })
}

#[test]
fn a_crash_before_every_event_finds_what_is_not_atomic() {
    let events = {
        let mut sim = halves(Arc::default()).sim(&calm(1, 1));
        exhaust(&mut sim);
        sim.events()
    };
    let mut found = Vec::new();
    for event in 0..events {
        let whole = Arc::new(AtomicBool::new(true));
        let ops = vec![(Trigger::Event(event), crash(1))];
        let mut sim = halves(Arc::clone(&whole)).sim(&full(spec(1, 1, ops)));
        exhaust(&mut sim);
        let trace = sim.finish().trace.unwrap();
        let index = usize::try_from(event).unwrap();
        // Nothing is there to crash before the node has started.
        let what = if event == 0 { "start" } else { "crash" };
        assert_eq!(trace.events[index].what, what, "just before event {event}");
        if !whole.load(Ordering::Relaxed) {
            found.push(event);
        }
    }
    // Start, then three polls: between the first and the second only one half is there.
    assert_eq!((events, found), (4, vec![2]));
}
