//! The view for pipes and logs: a line now and then.

use dpat_cases::shop::config::Config;
use dpat_cases::shop::record::{Check, FaultEvent, Outcome, RunRecord, Sample, Verdict};
use dpat_cases::shop::view::View;

use crate::output::say;

/// Prints a line a second.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    printed_ms: u64,
}

impl View for Lines {
    fn started(&mut self, config: &Config) {
        let names: Vec<&str> = config
            .without
            .iter()
            .map(|pattern| pattern.name())
            .collect();
        let without = if names.is_empty() {
            String::new()
        } else {
            format!(", without {}", names.join(", "))
        };
        say(&format!(
            "{}: {} orders at {}/s, seed {}{without}",
            config.scenario.name(),
            config.orders,
            config.rate,
            config.seed,
        ));
    }

    fn sample(&mut self, sample: &Sample) {
        if sample.at_ms < self.printed_ms + 1_000 {
            return;
        }
        self.printed_ms = sample.at_ms;
        let open: Vec<String> = sample
            .breakers
            .iter()
            .filter(|breaker| breaker.state != "closed")
            .map(|breaker| format!("{}→{} {}", breaker.from, breaker.to, breaker.state))
            .collect();
        say(&format!(
            "{:>6.1} s  accepted {:>6}  completed {:>6}  compensated {:>5}  in flight {:>5}  outbox {:>4}  p50 {:>7.1} ms  p99 {:>7.1} ms  {}",
            f64::from(u32::try_from(sample.at_ms).unwrap_or(u32::MAX)) / 1_000.0,
            sample.accepted,
            sample.completed,
            sample.compensated,
            sample.in_flight,
            sample.outbox,
            sample.p50_ms,
            sample.p99_ms,
            open.join(", "),
        ));
    }

    fn fault(&mut self, fault: &FaultEvent) {
        say(&format!(
            "          {} {} {}",
            fault.kind,
            fault.target,
            fault
                .duration_ms
                .map_or(String::new(), |ms| format!("for {ms} ms")),
        ));
    }

    fn note(&mut self, text: &str) {
        say(text);
    }

    fn finished(&mut self, record: &RunRecord) {
        for check in &record.checks {
            let mark = if check.count <= check.limit {
                "ok  "
            } else {
                "FAIL"
            };
            say(&format!(
                "{mark} {:<22} {}: {}",
                check.invariant,
                check.found(),
                check.says
            ));
        }
        for violation in &record.verdict.violations {
            if let Some(first) = &violation.first {
                say(&format!(
                    "first bad event of {}: {} ms, order {}: {}",
                    violation.invariant,
                    first.at_ms,
                    first.order_id.as_deref().unwrap_or("-"),
                    first.event
                ));
            }
        }
        if let Some(other) = &record.comparison {
            contrast("this run", &record.checks, &record.verdict);
            let side = if other.without.is_empty() {
                "with everything".to_owned()
            } else {
                format!("without {}", other.without.join(", "))
            };
            contrast(&side, &other.checks, &other.verdict);
        }
        let verdict = &record.verdict;
        say(&format!(
            "{} orders: {} accepted ({} completed, {} compensated, {} unresolved), {} rejected; {:.0}/s; 202 after p50 {:.1} ms, p99 {:.1} ms; terminal after p50 {:.1} ms, p99 {:.1} ms; {:.0} MB",
            verdict.orders,
            verdict.accepted,
            verdict.completed,
            verdict.compensated,
            verdict.unresolved,
            verdict.rejected,
            verdict.throughput_per_s,
            verdict.p50_ms,
            verdict.p99_ms,
            verdict.complete_p50_ms,
            verdict.complete_p99_ms,
            verdict.rss_peak_mb,
        ));
        let word = match verdict.verdict {
            Outcome::Ok => "ok",
            Outcome::Violated => "violated",
        };
        if let Some(simulation) = &verdict.simulation {
            say(&format!(
                "simulated {} ms in {} ms, {} times real time; {} events, trace {}",
                simulation.simulated_ms,
                simulation.elapsed_ms,
                simulation.times_real_time(),
                simulation.events,
                simulation.trace_hash
            ));
        }
        say(&format!("verdict: {word} (seed {})", verdict.seed));
    }
}

/// Prints one side of a scenario: what its last invariant counted, and how long customers waited.
fn contrast(side: &str, checks: &[Check], verdict: &Verdict) {
    let Some(check) = checks.last() else { return };
    say(&format!(
        "{side:>24}: {} {} (limit {}), terminal after p50 {:.1} ms, p99 {:.1} ms",
        check.invariant, check.count, check.limit, verdict.complete_p50_ms, verdict.complete_p99_ms
    ));
}
