use super::*;
use crate::config::Window;
use crate::{AfterMaxWait, Breaker, ConfigBuilder, OpenTime, OwnedPermit, Ramp, Reason, Trip};
use dpat_core::{Backoff, Clock, Jitter, ManualTime, SplitMix64};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
}

fn config() -> ConfigBuilder {
    Config::builder()
        .trip_on(Trip::consecutive_failures(1))
        .open_time(OpenTime::fixed(SECOND))
}

/// A machine driven by one-letter calls, for tables.
struct Driver {
    machine: Machine,
    millis: u64,
    out: Vec<Admission>,
}

impl Driver {
    fn new(config: ConfigBuilder) -> Self {
        Self {
            machine: Machine::new(config.build().unwrap(), 7),
            millis: 0,
            out: Vec::new(),
        }
    }

    /// `s`/`f`/`i`: a whole call with that outcome. `a`: admit and keep. `S`/`F`/`I`: the oldest kept one returns.
    /// `d`: the oldest kept one is dropped. `.`: 100 ms pass. `_`: 1 s passes.
    ///
    /// Prints one letter a step: the state after it (`C`losed, `O`pen, `H`alf-open, `R`amping), or `x` if refused.
    fn run(&mut self, steps: &str) -> String {
        steps.chars().map(|step| self.step(step)).collect()
    }

    fn step(&mut self, step: char) -> char {
        let now = at(self.millis);
        match step {
            '.' => self.millis += 100,
            '_' => self.millis += 1_000,
            's' | 'f' | 'i' | 'a' => match self.machine.admit(now).0 {
                Ok(admission) if step == 'a' => self.out.push(admission),
                Ok(admission) => {
                    self.machine.settle(admission, &report(step), now);
                }
                Err(_) => return 'x',
            },
            'S' | 'F' | 'I' => {
                let admission = self.out.remove(0);
                let verdict = step.to_ascii_lowercase();
                self.machine.settle(admission, &report(verdict), now);
            }
            'd' => {
                let admission = self.out.remove(0);
                self.machine.release(admission);
            }
            other => panic!("no step {other}"),
        }
        match self.machine.state() {
            State::Closed => 'C',
            State::Open => 'O',
            State::HalfOpen => 'H',
            State::Ramping => 'R',
            other => panic!("no letter for {other}"),
        }
    }
}

fn report(letter: char) -> Report {
    Report {
        verdict: match letter {
            's' => Verdict::success(),
            'f' => Verdict::failure(),
            _ => Verdict::ignored(),
        },
        elapsed: Duration::ZERO,
    }
}

#[track_caller]
fn check(config: ConfigBuilder, steps: &str, expected: &str) {
    assert_eq!(Driver::new(config).run(steps), expected, "{steps}");
}

#[test]
fn trip_rules() {
    let rule = |trip| {
        Config::builder()
            .trip_on(trip)
            .open_time(OpenTime::fixed(SECOND))
    };
    // Failures in a row; a success starts over.
    check(rule(Trip::consecutive_failures(2)), "fsff", "CCCO");
    check(
        rule(Trip::consecutive_failures(2).minimum_calls(4)),
        "ffff",
        "CCCO",
    );
    // m of n, also before there are n.
    check(rule(Trip::failures_of_last(2, 3)), "fsf", "CCO");
    check(rule(Trip::failures_of_last(2, 3)), "fssf", "CCCC");
    check(
        rule(Trip::failures_of_last(2, 3).minimum_calls(5)),
        "sffff",
        "CCCCO",
    );
    // Rates: at the threshold, not before the minimum, and never by a success.
    let rate = Trip::failure_rate(0.5).over_calls(4).minimum_calls(4);
    check(rule(rate), "fsfsf", "CCCCO");
    check(rule(rate), "fsssf", "CCCCC");
    check(rule(rate), "sfsf", "CCCO");
    check(rule(rate), "iiff", "CCCC");
    // Over time: the two old failures have left the window.
    let rate = Trip::failure_rate(0.5)
        .over_time(SECOND, 10)
        .minimum_calls(3);
    check(rule(rate), "fff", "CCO");
    check(rule(rate), "ff_ff", "CCCCC");
    // Combined by OR.
    let both = rule(Trip::consecutive_failures(3)).trip_on(Trip::failures_of_last(2, 10));
    check(both, "fsf", "CCO");
}

#[test]
fn open_and_half_open() {
    // Refused while open; the first call after the open time is a probe.
    check(config(), "fs.s_s", "OxOxOH");
    // Three probes at 0.5: two successes or two failures are certain.
    check(config(), "f_ss", "OOHC");
    check(config(), "f_ff", "OOHO");
    check(config(), "f_sfs", "OOHHC");
    check(config(), "f_sff", "OOHHO");
    // At most three at once, and no more than the verdict needs.
    check(config(), "f_aaaas", "OOHHHxx");
    check(config(), "f_saaa", "OOHHHx");
    // Ignored and dropped probes give their place back and decide nothing.
    check(config(), "f_aaadaIa", "OOHHHHHHH");
    check(config(), "f_iiiiiiss", "OOHHHHHHHC");
    // The remaining probes cannot change it: one failure of ten at 0.1.
    let strict = config().half_open_probes(10).half_open_failure_rate(0.1);
    check(strict, "f_sf", "OOHO");
    // Results from before the trip are late.
    check(config(), "aaafSF_S", "CCCOOOOO");
}

#[test]
fn a_late_result_of_a_probe_changes_nothing() {
    let mut driver = Driver::new(config());
    driver.run("f_aaa");
    driver.run("FF"); // opens again, one probe still out
    assert_eq!(driver.run("_s"), "OH");
    let before = driver.machine.view();
    driver.run("F");
    assert_eq!(driver.machine.view(), before);
}

#[test]
fn probes_overdue() {
    let wait = |then| config().max_half_open_wait(SECOND, then);
    // A hung probe opens the breaker again, and its own result is late.
    check(wait(AfterMaxWait::Open), "f_a_sS_s", "OOHHxOOH");
    check(wait(AfterMaxWait::Close), "f_a_s", "OOHHC");
    // Nothing is awaited while no probe is out, and each result starts the wait anew.
    check(wait(AfterMaxWait::Open), "f_ad___a", "OOHHHHHH");
    check(
        wait(AfterMaxWait::Open).half_open_permits(2),
        "f_aa.....S......s",
        "OOHHHHHHHHHHHHHHC",
    );
    check(
        config().no_max_half_open_wait(),
        "f_a______aa",
        "OOHHHHHHHHH",
    );
}

#[test]
fn a_ramp_admits_its_share_evenly() {
    let ramp = config().half_open_probes(1).ramp(Ramp::every(SECOND));
    let mut driver = Driver::new(ramp);
    assert_eq!(driver.run("f_s"), "OOR");
    for (share, expected) in [(0.05, 5), (0.1, 10), (0.2, 20), (0.4, 40), (0.8, 80)] {
        let admitted = driver.run(&"s".repeat(100)).matches('R').count();
        assert_eq!(admitted, expected, "of 100 at {share}");
        driver.run("_");
    }
    assert_eq!(driver.run("s"), "C");
    assert_eq!(driver.machine.view().attempt, 0);
}

#[test]
fn a_ramp_backs_off_on_error() {
    let ramp = Config::builder()
        .trip_on(Trip::consecutive_failures(2))
        .open_time(OpenTime::fixed(SECOND))
        .half_open_probes(1)
        .ramp(Ramp::every(SECOND).starting_at(0.25));
    let mut driver = Driver::new(ramp);
    driver.run("ff_s_");
    assert_eq!(driver.run("a"), "R");
    assert_eq!(driver.machine.view().share, WHOLE / 2);
    driver.run("F");
    assert_eq!(driver.machine.view().share, WHOLE / 4);
    // The trip rules hold: the second failure in a row opens, as the second attempt.
    assert_eq!(driver.run("aaaF").chars().last(), Some('O'));
    assert_eq!(driver.machine.view().attempt, 2);
}

/// Any configuration, small enough for its states to be reached.
fn any_config() -> impl Strategy<Value = ConfigBuilder> {
    let window = prop_oneof![
        (1_u32..6).prop_map(Window::Count),
        (1_u32..6).prop_map(|buckets| Window::Time {
            length: SECOND,
            buckets
        }),
    ];
    let trip = (0_u8..4, 1_u32..5, window).prop_map(|(kind, n, window)| match kind {
        0 => Trip {
            window: Some(window),
            ..Trip::failure_rate(0.5).minimum_calls(1)
        },
        1 => Trip {
            window: Some(window),
            ..Trip::slow_rate(0.5, Duration::from_millis(150)).minimum_calls(1)
        },
        2 => Trip::consecutive_failures(n),
        _ => Trip::failures_of_last(n, 5).minimum_calls(n),
    });
    let backoff = Backoff::exponential(SECOND, 2.0, 3 * SECOND)
        .unwrap()
        .with_jitter(Jitter::Equal);
    (
        prop::collection::vec(trip, 1..3),
        1_u32..4,
        1_u32..4,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(move |(trips, permits, probes, ramp, wait)| {
            let mut config = Config::builder()
                .half_open_permits(permits)
                .half_open_probes(probes)
                .open_time(OpenTime::backoff(backoff).honouring_retry_after(5 * SECOND))
                .entropy(&SplitMix64::new(3));
            for trip in trips {
                config = config.trip_on(trip);
            }
            if ramp {
                config = config.ramp(Ramp::every(SECOND).starting_at(0.3));
            }
            if wait {
                config = config.max_half_open_wait(2 * SECOND, AfterMaxWait::Close);
            }
            config
        })
}

#[derive(Clone, Debug)]
enum Op {
    Acquire,
    Settle(usize, Verdict),
    Drop(usize),
    Advance(u64),
    Choose(Choice),
    Reconfigure(ConfigBuilder),
}

fn any_op() -> impl Strategy<Value = Op> {
    let verdict = prop_oneof![
        4 => Just(Verdict::success()),
        4 => Just(Verdict::failure()),
        1 => Just(Verdict::ignored()),
        1 => (1_u8..5).prop_map(|weight| Verdict::success().weighing(weight)),
        1 => (1_u8..5).prop_map(|weight| Verdict::failure().weighing(weight)),
        1 => Just(Verdict::failure().retry_after(Some(4 * SECOND))),
    ];
    let choice = prop_oneof![
        4 => Just(Choice::Closed),
        1 => Just(Choice::ForcedOpen),
        1 => Just(Choice::Disabled),
        1 => Just(Choice::MetricsOnly),
    ];
    prop_oneof![
        40 => Just(Op::Acquire),
        40 => (0_usize..4, verdict).prop_map(|(which, verdict)| Op::Settle(which, verdict)),
        5 => (0_usize..4).prop_map(Op::Drop),
        20 => (1_u64..1_200).prop_map(Op::Advance),
        1 => choice.prop_map(Op::Choose),
        1 => any_config().prop_map(Op::Reconfigure),
    ]
}

struct Kept {
    permit: OwnedPermit<ManualTime>,
    admission: Admission,
    started: Instant,
}

/// The handle, which skips the machine where it may, beside a machine that is always asked.
struct Pair {
    time: ManualTime,
    breaker: Breaker<ManualTime>,
    machine: Machine,
    kept: Vec<Kept>,
}

impl Pair {
    fn new(config: Config) -> Self {
        let time = ManualTime::new();
        let seed = config.seed.expect("any_config sets it");
        Self {
            breaker: Breaker::with_clock(config.clone(), time.clone()),
            machine: Machine::new(config, seed),
            time,
            kept: Vec::new(),
        }
    }

    fn step(&mut self, op: Op) {
        let now = self.time.now();
        match op {
            Op::Acquire => match (self.breaker.try_acquire_owned(), self.machine.admit(now).0) {
                (Ok(permit), Ok(admission)) => self.kept.push(Kept {
                    permit,
                    admission,
                    started: now,
                }),
                (Err(rejected), Err(refusal)) => {
                    let (reason, retry_at) = match refusal {
                        Refusal::Open { cause, until } => (Reason::Open(cause), Some(until)),
                        Refusal::ProbesBusy => (Reason::ProbesBusy, None),
                        Refusal::Ramping { until } => (Reason::Ramping, Some(until)),
                        Refusal::ForcedOpen => (Reason::ForcedOpen, None),
                    };
                    assert_eq!((rejected.reason(), rejected.retry_at()), (reason, retry_at));
                }
                (handle, machine) => panic!("{handle:?} but {machine:?}"),
            },
            Op::Settle(which, verdict) if which < self.kept.len() => {
                let kept = self.kept.swap_remove(which);
                kept.permit.record(verdict);
                let elapsed = now.since(kept.started);
                let report = Report { verdict, elapsed };
                self.machine.settle(kept.admission, &report, now);
            }
            Op::Drop(which) if which < self.kept.len() => {
                let kept = self.kept.swap_remove(which);
                drop(kept.permit);
                self.machine.release(kept.admission);
            }
            Op::Settle(..) | Op::Drop(_) => {}
            Op::Advance(millis) => self.time.advance(Duration::from_millis(millis)),
            Op::Choose(choice) => {
                match choice {
                    Choice::Closed => self.breaker.reset(),
                    Choice::ForcedOpen => self.breaker.force_open(),
                    Choice::Disabled => self.breaker.disable(),
                    Choice::MetricsOnly => self.breaker.metrics_only(),
                }
                self.machine.choose(choice);
            }
            Op::Reconfigure(config) => {
                // Calls under way are measured, or not, as the limits were when they began.
                for kept in self.kept.drain(..) {
                    drop(kept.permit);
                    self.machine.release(kept.admission);
                }
                let config = config.build().unwrap();
                self.breaker.reconfigure(config.clone());
                self.machine.reconfigure(Prepared::new(config), now);
            }
        }
        self.assert_same();
    }

    fn assert_same(&self) {
        let snapshot = self.breaker.snapshot();
        let view = self.machine.view();
        assert_eq!(
            (snapshot.state, snapshot.cause, snapshot.epoch),
            (view.state, view.cause, view.epoch)
        );
        assert_eq!(
            (snapshot.retry_at, snapshot.attempt),
            (view.retry_at, view.attempt)
        );
        assert_eq!(snapshot.probes_in_flight, view.probes_in_flight);
        let in_flight = self
            .kept
            .iter()
            .filter(|kept| kept.admission.probe && kept.admission.epoch == view.epoch);
        assert_eq!(snapshot.probes_in_flight as usize, in_flight.count());
        let expected: Vec<_> = self
            .machine
            .sums()
            .map(|sums| (sums.calls, sums.hits))
            .collect();
        let shown: Vec<_> = snapshot
            .trips()
            .iter()
            .map(|trip| (u64::from(trip.calls), u64::from(trip.hits)))
            .collect();
        assert_eq!(shown, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_handle_agrees_with_the_machine(
        config in any_config(),
        ops in prop::collection::vec(any_op(), 0..200),
    ) {
        let mut pair = Pair::new(config.build().unwrap());
        for op in ops {
            pair.step(op);
        }
    }
}
