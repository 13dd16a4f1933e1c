//! The verdict, from what the stores and the journals hold.

use std::collections::BTreeMap;

use dpat_core::Instant;

use super::chaos::Do;
use super::check::{self, Findings, History, Stores};
use super::config::{Pattern, Scenario};
use super::driver::{Sent, histogram, percentile_ms};
use super::plan::Plan;
use super::record::{DeadLetter, FaultEvent, Outcome, RunRecord, Sample, Simulation, Verdict};
use super::service::ports::Reply;
use super::story;
use super::supervisor::{Deeds, rss_peak_mb};
use super::watch::{hang_event, hangs};

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What the verdict is drawn from.
pub(crate) struct Evidence {
    pub(crate) stores: Stores,
    pub(crate) history: History,
    pub(crate) sent: Vec<Sent>,
    pub(crate) samples: Vec<Sample>,
}

/// How long customers waited.
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    complete_p50_ms: f64,
    complete_p99_ms: f64,
    /// From the first intended sending to the last 202.
    elapsed_s: f64,
}

fn latency(evidence: &Evidence) -> Latency {
    let mut answered = histogram();
    let mut done = histogram();
    let mut first_us = u64::MAX;
    let mut last_us = 0;
    for sent in &evidence.sent {
        first_us = first_us.min(sent.intended_us);
        if sent.answer == Ok(Reply::Accepted) {
            last_us = last_us.max(sent.answered_us);
            // The histograms resize themselves, so that every value fits.
            let _ = answered.record(sent.answered_us.saturating_sub(sent.intended_us));
        }
        let record = evidence.stores.orders.get(&sent.order_id);
        if let Some(done_us) = record.and_then(super::domain::OrderRecord::done_at_us) {
            let _ = done.record(done_us.saturating_sub(sent.intended_us));
        }
    }
    let first = Instant::from_nanos(first_us.saturating_mul(1_000));
    let last = Instant::from_nanos(last_us.saturating_mul(1_000));
    Latency {
        p50_ms: percentile_ms(&answered, 50.0),
        p99_ms: percentile_ms(&answered, 99.0),
        complete_p50_ms: percentile_ms(&done, 50.0),
        complete_p99_ms: percentile_ms(&done, 99.0),
        elapsed_s: last.since(first).as_secs_f64(),
    }
}

#[allow(clippy::cast_precision_loss)] // counts of orders are far below 2^53
fn throughput(accepted: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 {
        round(accepted as f64 / elapsed_s)
    } else {
        0.0
    }
}

/// Returns every fault in order of time, and how many there were of each kind.
fn all_faults(
    plan: &Plan,
    history: &History,
    deeds: &Deeds,
) -> (Vec<FaultEvent>, BTreeMap<String, u64>) {
    let mut counts: BTreeMap<String, u64> = Do::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), 0))
        .collect();
    let mut faults = deeds.faults.clone();
    faults.extend(hangs(&plan.script).iter().map(hang_event));
    for fault in &history.faults {
        // Kills stand in the list of deeds, and a hang is one event however many requests it holds.
        if fault.kind == Do::Kill.name() {
            continue;
        }
        *counts.entry(fault.kind.clone()).or_default() += 1;
        if fault.kind != Do::Hang.name() {
            faults.push(FaultEvent {
                at_ms: fault.at_us / 1_000,
                target: fault.target,
                kind: fault.kind.clone(),
                duration_ms: fault.duration_us.map(|us| us / 1_000),
                order_id: Some(fault.order_id.clone()),
            });
        }
    }
    for fault in &deeds.faults {
        *counts.entry(fault.kind.clone()).or_default() += 1;
    }
    faults.sort_by_key(|fault| fault.at_ms);
    (faults, counts)
}

/// Lists the events that were given up, by their orders.
fn dead_letters(stores: &Stores) -> Vec<DeadLetter> {
    let dead = stores.dead.iter();
    dead.map(|(order_id, dead)| DeadLetter {
        order_id: order_id.clone(),
        reason: dead.reason.clone(),
        attempts: dead.attempts,
    })
    .collect()
}

/// Draws the verdict.
pub(crate) fn conclude(
    plan: &Plan,
    evidence: &Evidence,
    deeds: &Deeds,
    simulation: Option<Simulation>,
) -> RunRecord {
    let Evidence {
        stores,
        history,
        sent,
        samples,
    } = evidence;
    let config = &plan.run;
    let mut outages = deeds.outages.clone();
    outages.extend(hangs(&plan.script));

    let mut findings = Findings::default();
    findings.add(check::acknowledged_durable(stores, sent));
    findings.add(check::terminal_once(stores));
    let stock = findings.add(check::stock_conserved(stores));
    let money = findings.add(check::money_conserved(stores));
    let duplicate_charges = findings.add(check::single_charge(stores));
    let (events, lost_events) = check::event_once(stores);
    findings.add(events);
    let gone = findings.add(check::nothing_lost(stores));
    findings.add(check::bounded_memory(history));
    if config.scenario == Scenario::PoisonMessage {
        findings.add(check::dead_letters(stores, &plan.script));
    }
    findings.add(check::transient_survived(
        stores,
        history,
        config.uses(Pattern::Retry),
    ));
    if config.scenario == Scenario::RetryStorm {
        findings.add(check::retry_amplification(history));
    } else {
        findings.add(check::spared_calls(history, &outages));
    }

    let latency = latency(evidence);
    let (faults, faults_injected) = all_faults(plan, history, deeds);
    let unknown = |sent: &&Sent| !stores.orders.contains_key(&sent.order_id);
    let rejected = sent.iter().filter(unknown).count() as u64;
    let accepted = stores.orders.len() as u64;
    let (completed, compensated) = (stores.completed(), stores.compensated());
    let outcome = if findings.violations.is_empty() {
        Outcome::Ok
    } else {
        Outcome::Violated
    };
    let invariant = |pattern: &Pattern| pattern.invariant().to_owned();
    let verdict = Verdict {
        schema: 1,
        scenario: config.scenario.name().to_owned(),
        engine: config.engine.name().to_owned(),
        seed: config.seed,
        without: config.without.iter().map(ToString::to_string).collect(),
        // Orders of other customers, of whom nothing is known but what is in the store, count too.
        orders: accepted + rejected,
        accepted,
        completed,
        compensated,
        rejected,
        unresolved: accepted.saturating_sub(completed + compensated),
        duplicate_charges,
        lost_events: lost_events + gone,
        stock_conserved: stock == 0,
        money_conserved: money == 0,
        faults_injected,
        restarts: deeds.restarts,
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        complete_p50_ms: latency.complete_p50_ms,
        complete_p99_ms: latency.complete_p99_ms,
        throughput_per_s: throughput(accepted, latency.elapsed_s),
        rss_peak_mb: round(rss_peak_mb("self") + deeds.memory_mb.values().sum::<f64>()),
        expected: config.without.iter().map(invariant).collect(),
        verdict: outcome,
        violations: findings.violations,
        report: config
            .report
            .as_ref()
            .map(|path| path.display().to_string()),
        simulation,
    };
    RunRecord {
        verdict,
        checks: findings.checks,
        samples: samples.clone(),
        faults,
        stories: story::tell(&plan.script, &plan.watched, stores, history),
        dead_letters: dead_letters(stores),
        comparison: None,
        trace: None,
        config: config.clone(),
    }
}
