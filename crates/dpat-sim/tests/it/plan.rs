//! Scripts are drawn from a plan and a seed.

use std::collections::BTreeSet;
use std::time::Duration;

use dpat_model::{Delay, Fault, Op, Script, Trigger};
use dpat_sim::{Crashes, Families, Family, Plan};

const KINDS: &[&str] = &["Ping", "Pong"];
const SEEDS: std::ops::Range<u64> = 0..400;

fn of(script: &Script, family: Family) -> Vec<&Op> {
    let ops = script.ops.iter();
    ops.filter(|op| Family::of(&op.fault) == Some(family))
        .collect()
}

/// Plans with every switch in both positions.
fn plans() -> Vec<Plan> {
    let mut plans = vec![Plan::default(), Plan::calm()];
    for wipe in [false, true] {
        for crashes in [Crashes::Stop, Crashes::Recovery] {
            plans.push(Plan {
                chaos: Duration::from_millis(3),
                crashes,
                wipe,
                kill: !wipe,
                down_max: 2,
                delay_max: wipe.then_some(Duration::from_millis(20)),
                clock_freeze: wipe,
                clock_offset_max: Duration::ZERO,
                ..Plan::default()
            });
        }
    }
    plans
}

#[test]
fn every_drawn_script_is_valid_and_says_all() {
    for plan in plans() {
        for nodes in [1, 2, 3, 7] {
            for seed in SEEDS {
                let script = plan.script("echo", nodes, KINDS, seed);
                assert_eq!(script.validate(), Ok(()), "seed {seed}");
                assert_eq!(script, plan.script("echo", nodes, KINDS, seed));
                assert_eq!(
                    Script::parse(&script.to_json(), "drawn").as_ref(),
                    Ok(&script)
                );
            }
        }
    }
}

#[test]
fn families_do_not_move_each_other() {
    let all = Plan {
        wipe: true,
        ..Plan::default()
    };
    for family in Family::ALL.iter().copied() {
        let alone = Plan {
            families: Families::of(&[family]),
            ..all
        };
        let others = all.without(family);
        for seed in SEEDS {
            let script = all.script("echo", 5, KINDS, seed);
            let drawn = alone.script("echo", 5, KINDS, seed);
            assert_eq!(of(&script, family), of(&drawn, family), "seed {seed}");
            assert_eq!(
                drawn.ops.len(),
                of(&drawn, family).len(),
                "{family:?} draws another family"
            );
            let rest = others.script("echo", 5, KINDS, seed);
            assert_eq!(rest.ops.len() + drawn.ops.len(), script.ops.len());
        }
    }
}

#[test]
fn each_family_is_off_in_half_of_the_seeds_whatever_the_others_are() {
    let plan = Plan::default();
    let on = |seed: u64, family| !of(&plan.script("echo", 3, KINDS, seed), family).is_empty();
    for (index, family) in Family::ALL.iter().enumerate() {
        let drawn = SEEDS.filter(|seed| on(*seed, *family)).count();
        // 200 expected, standard deviation 10.
        assert!((150..=250).contains(&drawn), "{family:?}: {drawn}");
        for other in &Family::ALL[..index] {
            let both = SEEDS.filter(|seed| on(*seed, *family) && on(*seed, *other));
            let both = both.count();
            assert!((60..=140).contains(&both), "{family:?}, {other:?}: {both}");
        }
    }
}

#[test]
fn every_fault_that_a_plan_allows_is_drawn_and_no_other() {
    let drawn = |plan: Plan| -> BTreeSet<&str> {
        let scripts = SEEDS.map(|seed| plan.script("echo", 4, KINDS, seed));
        let ops = scripts.flat_map(|script| script.ops);
        ops.map(|op| op.fault.name()).collect()
    };
    let all = Plan {
        wipe: true,
        ..Plan::default()
    };
    let missing: Vec<&str> = Fault::NAMES
        .iter()
        .filter(|name| !drawn(all).contains(*name))
        .copied()
        .collect();
    let ended_or_not_drawn = [
        "release",
        "heal",
        "restart",
        "resume",
        "disk_corrupt",
        "error",
        "drop",
        "garble",
        "latency",
        "hang",
        "calls",
    ];
    assert_eq!(missing, ended_or_not_drawn);
    assert!(!drawn(Plan::default()).contains("wipe"));
    let gentle = Plan {
        kill: false,
        clock_freeze: false,
        clock_offset_max: Duration::ZERO,
        clock_drift_max_per_million: 0,
        disk_errors: false,
        ..Plan::default()
    };
    let gentle = drawn(gentle);
    for name in [
        "kill",
        "clock_freeze",
        "clock_offset",
        "clock_jump",
        "clock_drift",
        "disk_error",
        "disk_full",
    ] {
        assert!(!gentle.contains(name), "{name}");
    }
    assert!(drawn(Plan::calm()).is_empty());
}

/// The most nodes that can be down at once, whenever triggered crashes strike.
fn down_at_most(script: &Script) -> usize {
    let mut changes = Vec::new();
    let mut always = 0;
    for op in of(script, Family::Crash) {
        let (Fault::Crash { for_us, .. } | Fault::Kill { for_us, .. } | Fault::Wipe { for_us, .. }) =
            op.fault
        else {
            unreachable!("a fault of the family")
        };
        match op.when {
            Trigger::At(at) => {
                changes.push((at, 1));
                // At one time the next crash may come before the restart.
                changes.extend(for_us.map(|down| (at + down + 1, -1)));
            }
            _ => always += 1,
        }
    }
    changes.sort_unstable();
    let down = changes.iter().scan(0_i64, |down, (_, change)| {
        *down += change;
        Some(*down)
    });
    always + usize::try_from(down.max().unwrap_or(0)).expect("restarts follow crashes")
}

#[test]
fn no_more_nodes_are_down_than_the_plan_allows() {
    for down_max in [0, 1, 2, 3, 5] {
        let mut most = 0;
        for crashes in [Crashes::Stop, Crashes::Recovery] {
            let plan = Plan {
                crashes,
                down_max,
                wipe: true,
                ..Plan::default()
            };
            for seed in SEEDS {
                let script = plan.script("echo", 4, KINDS, seed);
                let down = down_at_most(&script).min(4);
                assert!(down <= down_max as usize, "seed {seed}: {down}");
                most = most.max(down);
                if crashes == Crashes::Stop {
                    let stopped = of(&script, Family::Crash);
                    assert!(stopped.len() <= down_max as usize);
                    assert!(stopped.iter().all(|op| matches!(
                        op.fault,
                        Fault::Crash { for_us: None, .. }
                            | Fault::Kill { for_us: None, .. }
                            | Fault::Wipe { for_us: None, .. }
                    )));
                }
            }
        }
        assert_eq!(most, down_max.min(4) as usize, "the bound is reached");
        let plan = Plan {
            down_max,
            ..Plan::default()
        };
        assert_eq!(plan.may_crash(), down_max > 0);
    }
}

#[test]
fn a_bound_on_delays_holds_for_reordered_messages_too() {
    let max_us = 20_000;
    let plan = Plan {
        delay_max: Some(Duration::from_micros(max_us)),
        ..Plan::default()
    };
    let longest = |delay: &Delay| match *delay {
        Delay::Constant(us) | Delay::Uniform(_, us) => us,
        Delay::Bimodal {
            fast_us, slow_us, ..
        } => fast_us.max(slow_us),
        Delay::Exponential(_) => panic!("has no bound"),
    };
    for seed in SEEDS {
        let script = plan.script("echo", 3, KINDS, seed);
        let mut base = 0;
        let mut more = 0;
        for op in &script.ops {
            match &op.fault {
                Fault::Delay { delay, .. } => base = base.max(longest(delay)),
                Fault::Reorder { delay, .. } => more = more.max(longest(delay)),
                _ => {}
            }
        }
        assert!(base + more <= max_us, "seed {seed}: {base} + {more}");
    }
}

#[test]
fn faults_strike_within_the_safety_phase_in_order_of_time() {
    let plan = Plan::default();
    let mut triggered = BTreeSet::new();
    for seed in SEEDS {
        let script = plan.script("echo", 3, KINDS, seed);
        let mut last = 0;
        for op in &script.ops {
            match &op.when {
                Trigger::At(us) => {
                    assert!((last..10_000_000).contains(us));
                    last = *us;
                }
                Trigger::Event(_) => {
                    last = u64::MAX;
                    triggered.insert("event".to_owned());
                }
                Trigger::Point { name, .. } => {
                    last = u64::MAX;
                    triggered.insert(name.clone());
                }
            }
        }
    }
    let triggered: Vec<&str> = triggered.iter().map(String::as_str).collect();
    let expected = [
        "deliver.Ping",
        "deliver.Pong",
        "durable",
        "event",
        "log",
        "send.Ping",
        "send.Pong",
    ];
    assert_eq!(triggered, expected);
}

#[test]
fn a_plan_prints_every_parameter() {
    let text = Plan {
        down_max: 2,
        delay_max: Some(Duration::from_millis(5)),
        ..Plan::default()
    }
    .without(Family::Clock)
    .to_string();
    assert_eq!(
        text,
        "chaos: 10s, settle: 10s\n\
         families: partition hold loss delay duplicate reorder capacity crash pause disk\n\
         crashes: Recovery, down_max: 2, restart: true, kill: true, wipe: false\n\
         delay_max: 5ms\n\
         clock_offset_max: 10s, clock_drift_max_per_million: 50000, clock_freeze: true\n\
         disk_errors: true\n"
    );
}
