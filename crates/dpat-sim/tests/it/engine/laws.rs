//! Laws about seeds and streams.

use dpat_model::{Delay, Fault, LinkSet, NodeIx};
use dpat_sim::{
    DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, Fate, Links, RunSpec, SentFate, Stream, TraceMode,
    assert_deterministic, run, script_of,
};

use crate::gossip::Gossips;
use crate::puppet::*;

const A: NodeIx = NodeIx(0);
const B: NodeIx = NodeIx(1);

#[test]
fn a_seed_gives_the_same_hash_in_a_fresh_process() {
    for seed in 0..3 {
        assert_deterministic::<Gossips>(seed);
    }
}

#[test]
fn a_run_is_repeated_by_its_seed_and_script() {
    for seed in 0..20 {
        let spec = RunSpec::new(seed);
        let drawn = run::<Gossips>(&spec).unwrap();
        assert_eq!(drawn.violation, None, "{seed}");
        assert_eq!(script_of::<Gossips>(&spec).unwrap(), drawn.script);
        let script = Some(drawn.script.clone());
        let again = run::<Gossips>(&RunSpec { script, ..spec }).unwrap();
        assert_eq!(again.trace_hash, drawn.trace_hash, "{seed}");
        assert_eq!(again.script, drawn.script);
        assert_eq!(
            (again.events, again.delivered),
            (drawn.events, drawn.delivered)
        );
    }
}

#[test]
fn the_hash_is_the_same_whatever_else_is_recorded() {
    let with = |trace| {
        run::<Gossips>(&RunSpec {
            trace,
            ..RunSpec::new(3)
        })
        .unwrap()
    };
    let hash = with(TraceMode::Hash);
    let full = with(TraceMode::Full { events_max: 10 });
    assert_eq!(hash.trace_hash, full.trace_hash);
    let off = with(TraceMode::Off);
    assert_eq!(off.trace_hash, 0);
    assert_eq!((off.events, off.delivered), (hash.events, hash.delivered));
    assert_eq!(off.coverage, hash.coverage);
}

/// What becomes of the messages that node 0 sends, and what happens to node 2.
fn fates_and_faults(scenario: &Scenario) -> (Vec<SentFate>, Vec<(u64, String)>) {
    let ran = scenario.run();
    let trace = ran.outcome.trace.as_ref().unwrap();
    assert!(!trace.truncated);
    let of_0 = trace.events.iter().filter(|event| event.node == Some(0));
    let fates = of_0
        .flat_map(|event| event.sends.iter().map(|sent| sent.fate))
        .collect();
    let at_2 = ran.heard.events.iter().filter(|event| event.1 == Some(2));
    (
        fates,
        at_2.map(|event| (event.0, event.2.clone())).collect(),
    )
}

#[test]
fn a_changed_workload_leaves_the_faults_as_they_were() {
    let (link, for_us) = (LinkSet::ALL, None);
    let sends: Vec<Ask> = (0..200)
        .map(|number| ask(10_000, 0, &[Send(1, number), Reply]))
        .collect();
    let mut scenario = Scenario::new(3)
        .client(&sends)
        .client(&[ask(10, 2, &[Log(1)])])
        .at(
            0,
            Fault::Loss {
                link,
                per_million: 300_000,
                for_us,
            },
        )
        .at(
            0,
            Fault::Delay {
                link,
                delay: Delay::Exponential(500),
                for_us,
            },
        )
        .at(
            0,
            Fault::Duplicate {
                link,
                per_million: 300_000,
                for_us,
            },
        )
        .at(
            100,
            Fault::Crash {
                node: NodeIx(2),
                for_us: Some(300),
            },
        );
    scenario.trace = TraceMode::Full {
        events_max: 100_000,
    };
    let before = fates_and_faults(&scenario);
    assert!(before.0.len() == 200 && before.1.len() >= 3, "{before:?}");
    // Node 1 sends as well, logs, and chooses.
    let others: Vec<Ask> = (0..99)
        .map(|n| ask(7_000, 1, &[Send(0, n), Send(2, n), Log(n), Choose(9)]))
        .collect();
    let mut changed = scenario.clone();
    for other in &others {
        changed = changed.client(std::slice::from_ref(other));
    }
    let after = fates_and_faults(&changed);
    assert_eq!(before.0, after.0);
    let without_messages = |(_, events): (_, Vec<(u64, String)>)| -> Vec<(u64, String)> {
        events
            .into_iter()
            .filter(|(_, what)| !what.contains("n1"))
            .collect()
    };
    assert_eq!(without_messages(before), without_messages(after));
}

#[test]
fn a_call_left_out_leaves_the_other_calls_as_they_were() {
    // Calls of different clients are drawn apart, and so are calls of one client.
    let draw = |client: u64, call: u64| Stream::new(7, "client", client << 40 ^ call).next_u64();
    assert_ne!(draw(0, 1), draw(1, 0));
    let asks = [
        ask(10, 0, &[Log(1), Reply]),
        ask(10, 0, &[Log(10), Reply]),
        ask(10, 0, &[Log(100), Reply]),
    ];
    let keep = |list: &[u64]| Fault::Calls {
        client: 0,
        keep: list.to_vec(),
    };
    let ran = Scenario::new(1)
        .client(&asks)
        .client(&asks[..1])
        .at(0, keep(&[0, 2]))
        .run();
    let made: Vec<(u32, u64)> = ran
        .heard
        .answers
        .iter()
        .map(|(client, call, _)| (*client, *call))
        .collect();
    assert_eq!(made, [(0, 0), (1, 0), (0, 2)]);
    assert_eq!(ran.outcome.calls, [3, 1]);
    // Of two both hold, and clients that are not there do not matter.
    let other = Fault::Calls {
        client: 9,
        keep: vec![1],
    };
    let ran = Scenario::new(1)
        .client(&asks)
        .at(0, keep(&[0, 2]))
        .at(0, keep(&[2]))
        .at(0, other)
        .run();
    assert_eq!(ran.answers(), ["100"]);
}

/// Tests counts against probabilities. The bounds are those of 1 in 1000 by chance; seeds are fixed.
#[track_caller]
fn chi_squared(counts: &[u64], probabilities: &[f64]) {
    let total: u64 = counts.iter().sum();
    let part = |(count, p): (&u64, &f64)| {
        let expected = total as f64 * p;
        (*count as f64 - expected).powi(2) / expected
    };
    let statistic: f64 = counts.iter().zip(probabilities).map(part).sum();
    let bound = [
        10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88,
    ][counts.len() - 2];
    assert!(statistic < bound, "{statistic} of {counts:?}");
}

/// The Kolmogorov–Smirnov test of a sample against a distribution, at 1 in 1000.
#[track_caller]
fn kolmogorov_smirnov(mut sample: Vec<f64>, distribution: impl Fn(f64) -> f64) {
    sample.sort_unstable_by(f64::total_cmp);
    let n = sample.len() as f64;
    let mut distance: f64 = 0.0;
    for (below, value) in sample.iter().enumerate() {
        let p = distribution(*value);
        distance = distance
            .max(p - below as f64 / n)
            .max((below + 1) as f64 / n - p);
    }
    assert!(distance < 1.95 / n.sqrt(), "{distance} of {n}");
}

const SAMPLE: u64 = 20_000;

#[test]
fn loss_and_duplication_have_the_rates_asked_for() {
    for (seed, per_million) in [(1, 1_000), (2, 50_000), (3, 300_000), (4, 900_000)] {
        let (link, for_us, p) = (LinkSet::ALL, None, f64::from(per_million) / 1e6);
        let mut links = Links::new(seed, 2);
        links.apply(
            0,
            &Fault::Loss {
                link,
                per_million,
                for_us,
            },
        );
        let lost = (0..SAMPLE).filter(|_| matches!(links.route(0, A, B, 1).first, Fate::Lost(_)));
        let lost = lost.count() as u64;
        chi_squared(&[lost, SAMPLE - lost], &[p, 1.0 - p]);
        let mut links = Links::new(seed, 2);
        links.apply(
            0,
            &Fault::Duplicate {
                link,
                per_million,
                for_us,
            },
        );
        let twice = (0..SAMPLE)
            .filter(|_| links.route(0, A, B, 1).copy.is_some())
            .count() as u64;
        chi_squared(&[twice, SAMPLE - twice], &[p, 1.0 - p]);
    }
}

#[test]
fn losses_are_independent_of_each_other() {
    let (link, for_us) = (LinkSet::ALL, None);
    let mut links = Links::new(5, 2);
    links.apply(
        0,
        &Fault::Loss {
            link,
            per_million: 500_000,
            for_us,
        },
    );
    let mut lost = || matches!(links.route(0, A, B, 1).first, Fate::Lost(_));
    let mut counts = [0; 8];
    for _ in 0..SAMPLE {
        counts[usize::from(lost()) * 4 + usize::from(lost()) * 2 + usize::from(lost())] += 1;
    }
    chi_squared(&counts, &[0.125; 8]);
}

#[test]
fn delays_have_the_distributions_asked_for() {
    let sample = |seed, fault: Option<Fault>| -> Vec<f64> {
        let mut links = Links::new(seed, 2);
        if let Some(fault) = fault {
            links.apply(0, &fault);
        }
        let delay = |_| match links.route(0, A, B, 1).first {
            Fate::At(at) => at as f64,
            other => panic!("{other:?}"),
        };
        (0..SAMPLE).map(delay).collect()
    };
    let fault = |delay| {
        Some(Fault::Delay {
            link: LinkSet::ALL,
            delay,
            for_us: None,
        })
    };
    let uniform = |low: f64, high: f64| move |x: f64| ((x - low) / (high - low)).clamp(0.0, 1.0);
    let default = uniform(DEFAULT_DELAY_MIN_NS as f64, DEFAULT_DELAY_MAX_NS as f64);
    kolmogorov_smirnov(sample(1, None), default);
    kolmogorov_smirnov(
        sample(2, fault(Delay::Uniform(100, 900))),
        uniform(1e5, 9e5),
    );
    kolmogorov_smirnov(sample(3, fault(Delay::Exponential(700))), |x| {
        1.0 - (-x / 7e5).exp()
    });
    assert!(
        sample(4, fault(Delay::Constant(30)))
            .iter()
            .all(|delay| *delay == 3e4)
    );
    let bimodal = Delay::Bimodal {
        fast_us: 1,
        slow_us: 100,
        slow_per_million: 200_000,
    };
    let slow = sample(5, fault(bimodal))
        .iter()
        .filter(|delay| **delay == 1e5)
        .count() as u64;
    chi_squared(&[slow, SAMPLE - slow], &[0.2, 0.8]);
    // Reordering keeps some back, by a delay of its own.
    let (link, per_million, for_us) = (LinkSet::ALL, 250_000, None);
    let delay = Delay::Constant(50_000);
    let late = sample(
        6,
        Some(Fault::Reorder {
            link,
            per_million,
            delay,
            for_us,
        }),
    );
    let late = late.iter().filter(|delay| **delay > 4e7).count() as u64;
    chi_squared(&[late, SAMPLE - late], &[0.25, 0.75]);
}
