//! The view for pipes and logs: a line now and then.

use dpat_cases::shop::config::Config;
use dpat_cases::shop::record::{FaultEvent, Outcome, RunRecord, Sample};
use dpat_cases::shop::view::View;

use crate::output::say;

/// Prints a line a second.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    printed_ms: u64,
}

impl View for Lines {
    fn started(&mut self, config: &Config) {
        say(&format!(
            "shop: {} orders at {}/s, seed {}, without {:?}",
            config.orders,
            config.rate,
            config.seed,
            config
                .without
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
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
                "{mark} {:<22} {} of {} (limit {}): {}",
                check.invariant, check.count, check.looked_at, check.limit, check.says
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
        say(&format!("verdict: {word} (seed {})", verdict.seed));
    }
}
