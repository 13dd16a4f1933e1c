//! The report of a run: one HTML file that loads nothing, or the bare record as JSON.
//!
//! It has no scripts, apart from the lab in which a simulated run is looked at: that is a page of its own in a frame.

mod svg;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use crate::lab;

use super::config::{Config, Faults, Nodes, Scenario};
use super::domain::State;
use super::engine::Engine;
use super::record::{
    Check, Comparison, DeadLetter, FaultEvent, Outcome, RunRecord, Sample, Simulation, Story,
    Verdict,
};
use super::service::ports::Peer;
use svg::{Arrow, Band, Row, Scale, Series, Span};

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/style.css");

/// Stretches drawn in one row at the most; denser faults are drawn together.
const ROW_SPANS_MAX: f64 = 300.0;
/// Messages drawn of one order at the most.
const ARROWS_MAX: usize = 120;

/// Writes the record to `path`: as JSON if it ends in `.json`, as an HTML page otherwise.
///
/// # Errors
/// Whatever the file system reports.
pub fn write(record: &RunRecord, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(File::create(path)?);
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        serde_json::to_writer_pretty(&mut file, record)?;
    } else {
        file.write_all(render(record).map_err(io::Error::other)?.as_bytes())?;
    }
    file.flush()
}

#[derive(Serialize)]
struct StoryView {
    fate: &'static str,
    order_id: String,
    note: String,
    states: Vec<(&'static str, String)>,
    diagram: String,
}

fn render(record: &RunRecord) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page", PAGE)?;
    environment
        .get_template("page")?
        .render(Serde(page(record)))
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    v: &'a Verdict,
    verdict: &'static str,
    as_expected: bool,
    missing: Vec<&'a str>,
    tiles: Vec<(String, &'static str)>,
    rate_chart: String,
    latency_chart: String,
    depth_chart: String,
    comparison: Option<Sides>,
    timeline: String,
    timeline_legend: String,
    checks: &'a [Check],
    stories: Vec<StoryView>,
    dead_letters: &'a [DeadLetter],
    command: String,
    config: String,
    verdict_json: String,
    /// The lab, showing the run.
    lab: Option<String>,
    shown: usize,
}

fn page(record: &RunRecord) -> Page<'_> {
    let verdict = &record.verdict;
    let end_ms = end_ms(record);
    let bands = bands(&record.faults);
    let mut rows = breaker_rows(&record.samples);
    rows.extend(fault_rows(&record.faults, end_ms));
    Page {
        style: STYLE,
        v: verdict,
        verdict: match verdict.verdict {
            Outcome::Ok => "ok",
            Outcome::Violated => "violated",
        },
        as_expected: verdict.is_as_expected(),
        missing: missing(record),
        tiles: tiles(record),
        rate_chart: rate_chart(&record.samples, &bands, end_ms),
        latency_chart: latency_chart(&record.samples, &bands, end_ms),
        depth_chart: depth_chart(&record.samples, &bands, end_ms),
        comparison: record
            .comparison
            .as_deref()
            .map(|other| sides(record, other, &bands, end_ms)),
        timeline: svg::timeline(&rows, end_ms),
        timeline_legend: svg::legend(LEGEND.iter().copied()),
        checks: &record.checks,
        stories: record.stories.iter().map(story).collect(),
        dead_letters: &record.dead_letters,
        command: command(&record.config),
        config: serde_json::to_string_pretty(&record.config).unwrap_or_default(),
        verdict_json: serde_json::to_string_pretty(verdict).unwrap_or_default(),
        lab: record
            .trace
            .as_deref()
            .map(|trace| lab::embedded(trace, &command(&record.config))),
        shown: record.trace.as_ref().map_or(0, |trace| trace.events.len()),
    }
}

const LEGEND: [(&str, &str); 7] = [
    ("closed", "s-closed"),
    ("half open", "s-half"),
    ("open", "s-open"),
    ("error or lost answer", "f-error"),
    ("latency", "f-latency"),
    ("hang", "f-hang"),
    ("kill", "f-kill"),
];

#[allow(clippy::cast_precision_loss)] // milliseconds of one run
const fn ms(millis: u64) -> f64 {
    millis as f64
}

fn end_ms(record: &RunRecord) -> f64 {
    let samples = record.samples.iter().map(|sample| sample.at_ms);
    let faults = record
        .faults
        .iter()
        .map(|fault| fault.at_ms + fault.duration_ms.unwrap_or(0));
    ms(samples.chain(faults).max().unwrap_or(0).max(1_000))
}

fn missing(record: &RunRecord) -> Vec<&str> {
    let found = |name: &str| {
        record
            .verdict
            .violations
            .iter()
            .any(|violation| violation.invariant == name)
    };
    let expected = record.verdict.expected.iter().map(String::as_str);
    expected.filter(|name| !found(name)).collect()
}

fn tiles(record: &RunRecord) -> Vec<(String, &'static str)> {
    let v = &record.verdict;
    let faults: u64 = v.faults_injected.values().sum();
    let mut tiles = vec![
        (v.orders.to_string(), "orders sent"),
        (v.accepted.to_string(), "accepted"),
        (v.completed.to_string(), "completed"),
        (v.compensated.to_string(), "compensated"),
        (v.unresolved.to_string(), "unresolved"),
        (v.duplicate_charges.to_string(), "duplicate charges"),
        (v.lost_events.to_string(), "lost events"),
        (faults.to_string(), "faults injected"),
        (v.restarts.to_string(), "restarts"),
        (format!("{:.0}/s", v.throughput_per_s), "accepted a second"),
        (span(v.p50_ms), "p50 to the 202"),
        (span(v.p99_ms), "p99 to the 202"),
        (span(v.complete_p99_ms), "p99 to the end"),
        (format!("{:.0} MB", v.rss_peak_mb), "peak memory"),
    ];
    let times = |simulation: &Simulation| format!("{}×", simulation.times_real_time());
    tiles.extend(v.simulation.as_ref().map(|it| (times(it), "real time")));
    tiles
}

/// Prints a length of time.
fn span(millis: f64) -> String {
    if millis < 1_000.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{:.1} s", millis / 1_000.0)
    }
}

fn bands(faults: &[FaultEvent]) -> Vec<Band> {
    let outages = faults
        .iter()
        .filter(|fault| matches!(fault.kind.as_str(), "kill" | "hang") && fault.order_id.is_none());
    outages
        .map(|fault| Band {
            from_ms: ms(fault.at_ms),
            to_ms: ms(fault.at_ms + fault.duration_ms.unwrap_or(0)),
            label: format!("{} {}", fault.kind, fault.target),
        })
        .collect()
}

/// Turns a running total into a rate at the middle of each interval.
fn rate(samples: &[Sample], total: impl Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let mut before = (0, 0);
    let mut points = Vec::with_capacity(samples.len());
    for sample in samples {
        let now = (sample.at_ms, total(sample));
        if now.0 > before.0 {
            let seconds = ms(now.0 - before.0) / 1_000.0;
            points.push((
                ms(now.0.midpoint(before.0)),
                ms(now.1.saturating_sub(before.1)) / seconds,
            ));
            before = now;
        }
    }
    points
}

fn series(
    name: &'static str,
    class: &'static str,
    samples: &[Sample],
    value: impl Fn(&Sample) -> f64,
) -> Series {
    Series {
        name,
        class,
        points: samples
            .iter()
            .map(|sample| (ms(sample.at_ms), value(sample)))
            .collect(),
    }
}

fn rate_chart(samples: &[Sample], bands: &[Band], end_ms: f64) -> String {
    let line = |name, class, points| Series {
        name,
        class,
        points,
    };
    let lines = [
        line("accepted", "c-blue", rate(samples, |s| s.accepted)),
        line("completed", "c-green", rate(samples, |s| s.completed)),
        line("compensated", "c-orange", rate(samples, |s| s.compensated)),
    ];
    svg::line_chart(&lines, bands, end_ms, "/s", Scale::Linear)
}

fn latency_chart(samples: &[Sample], bands: &[Band], end_ms: f64) -> String {
    let lines = [
        series("p50", "c-blue", samples, |s| s.p50_ms),
        series("p99", "c-red", samples, |s| s.p99_ms),
    ];
    svg::line_chart(&lines, bands, end_ms, "ms", Scale::Log)
}

fn depth_chart(samples: &[Sample], bands: &[Band], end_ms: f64) -> String {
    let lines = [
        series("orders in flight", "c-blue", samples, |s| ms(s.in_flight)),
        series("unanswered requests", "c-orange", samples, |s| {
            ms(s.unanswered)
        }),
        series("events in the outbox", "c-pink", samples, |s| ms(s.outbox)),
    ];
    svg::line_chart(&lines, bands, end_ms, "", Scale::Linear)
}

/// The run beside its counterpart.
#[derive(Serialize)]
struct Sides {
    label: String,
    broken: Vec<String>,
    in_flight: String,
    p99: String,
    /// Invariant; allowed and broken here; allowed and broken there.
    checks: Vec<(String, u64, u64, u64, u64)>,
}

fn sides(record: &RunRecord, other: &Comparison, bands: &[Band], end_ms: f64) -> Sides {
    let both = |value: fn(&Sample) -> f64| {
        [
            series("this run", "c-green", &record.samples, value),
            series("the other side", "c-red", &other.samples, value),
        ]
    };
    let end_ms = other
        .samples
        .last()
        .map_or(end_ms, |sample| end_ms.max(ms(sample.at_ms)));
    let checks = record.checks.iter().filter_map(|here| {
        let there = other
            .checks
            .iter()
            .find(|there| there.invariant == here.invariant)?;
        let row = (
            here.invariant.clone(),
            here.limit,
            here.count,
            there.limit,
            there.count,
        );
        Some(row)
    });
    Sides {
        label: if other.without.is_empty() {
            "with every pattern".to_owned()
        } else {
            format!("without {}", other.without.join(", "))
        },
        broken: other
            .verdict
            .violations
            .iter()
            .map(|violation| violation.invariant.clone())
            .collect(),
        in_flight: svg::line_chart(
            &both(|sample| ms(sample.in_flight)),
            bands,
            end_ms,
            "",
            Scale::Linear,
        ),
        p99: svg::line_chart(
            &both(|sample| sample.p99_ms),
            bands,
            end_ms,
            "ms",
            Scale::Log,
        ),
        checks: checks.collect(),
    }
}

fn breaker_rows(samples: &[Sample]) -> Vec<Row> {
    let mut rows: BTreeMap<(Peer, Peer), Vec<Span>> = BTreeMap::new();
    let mut before_ms = 0;
    for sample in samples {
        for breaker in &sample.breakers {
            let class = match breaker.state.as_str() {
                "closed" => "s-closed",
                "open" => "s-open",
                "half_open" => "s-half",
                _ => "s-none",
            };
            let spans = rows.entry((breaker.from, breaker.to)).or_default();
            match spans.last_mut() {
                Some(last) if last.class == class => last.to_ms = ms(sample.at_ms),
                _ => spans.push(Span {
                    from_ms: ms(before_ms),
                    to_ms: ms(sample.at_ms),
                    class,
                    title: format!("{} from {before_ms} ms", breaker.state),
                }),
            }
        }
        before_ms = sample.at_ms;
    }
    rows.into_iter()
        .map(|((from, to), spans)| Row {
            label: format!("{from} → {to}"),
            spans,
        })
        .collect()
}

fn fault_class(kind: &str) -> &'static str {
    match kind {
        "latency" => "f-latency",
        "hang" => "f-hang",
        "kill" => "f-kill",
        _ => "f-error",
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most ROW_SPANS_MAX
fn bucket_of(at_ms: u64, bucket_ms: f64) -> u64 {
    (ms(at_ms) / bucket_ms) as u64
}

fn fault_rows(faults: &[FaultEvent], end_ms: f64) -> Vec<Row> {
    let bucket_ms = (end_ms / ROW_SPANS_MAX).max(1.0);
    let mut rows: BTreeMap<Peer, Vec<Span>> = BTreeMap::new();
    let mut outages = Vec::new();
    let mut dense: BTreeMap<(Peer, &str, u64), u64> = BTreeMap::new();
    for fault in faults {
        if fault.order_id.is_none() {
            let length_ms = fault.duration_ms.unwrap_or(0);
            outages.push((
                fault.target,
                Span {
                    from_ms: ms(fault.at_ms),
                    to_ms: ms(fault.at_ms + length_ms),
                    class: fault_class(&fault.kind),
                    title: format!("{} at {} ms for {length_ms} ms", fault.kind, fault.at_ms),
                },
            ));
        } else {
            let bucket = bucket_of(fault.at_ms, bucket_ms);
            *dense
                .entry((fault.target, fault.kind.as_str(), bucket))
                .or_default() += 1;
        }
    }
    for ((peer, kind, bucket), count) in dense {
        let from_ms = ms(bucket) * bucket_ms;
        rows.entry(peer).or_default().push(Span {
            from_ms,
            to_ms: from_ms,
            class: fault_class(kind),
            title: format!("{count} × {kind} around {from_ms:.0} ms"),
        });
    }
    // On top of the ticks, or dense ones would hide them.
    for (peer, span) in outages {
        rows.entry(peer).or_default().push(span);
    }
    rows.into_iter()
        .map(|(peer, spans)| Row {
            label: format!("faults at {peer}"),
            spans,
        })
        .collect()
}

const LANES: [Peer; 5] = [
    Peer::Gateway,
    Peer::Order,
    Peer::Inventory,
    Peer::Payment,
    Peer::Shipping,
];

fn lane(peer: Peer) -> usize {
    LANES.iter().position(|lane| *lane == peer).unwrap_or(0)
}

fn story(story: &Story) -> StoryView {
    let first_ms = story
        .spans
        .iter()
        .map(|span| span.start_ms)
        .chain(story.states.iter().map(|(_, at_ms)| *at_ms))
        .fold(f64::INFINITY, f64::min);
    let from_start = |at_ms: f64| at_ms - first_ms;
    let mut arrows = Vec::new();
    let mut marks_ms = Vec::new();
    for span in story.spans.iter().take(ARROWS_MAX / 2) {
        let (from, to) = (lane(span.from), lane(span.to));
        let (start_ms, end_ms) = (from_start(span.start_ms), from_start(span.end_ms));
        let middle_ms = start_ms.midpoint(end_ms);
        marks_ms.extend([start_ms, end_ms]);
        let class = if is_answer(&span.outcome) {
            "ok"
        } else {
            "bad"
        };
        let again = if span.attempt > 0 {
            format!(" (again, {})", span.attempt)
        } else {
            String::new()
        };
        arrows.push(Arrow {
            from,
            to,
            start_ms,
            end_ms: middle_ms,
            label: format!("{}{again}", span.step.name()),
            class,
        });
        arrows.push(Arrow {
            from: to,
            to: from,
            start_ms: middle_ms,
            end_ms,
            label: span.outcome.clone(),
            class,
        });
    }
    for (state, at_ms) in &story.states {
        let at_ms = from_start(*at_ms);
        marks_ms.push(at_ms);
        arrows.push(Arrow {
            from: lane(Peer::Order),
            to: lane(Peer::Order),
            start_ms: at_ms,
            end_ms: at_ms,
            label: state.name().to_owned(),
            class: if *state == State::Compensating {
                "bad"
            } else {
                "ok"
            },
        });
    }
    marks_ms.sort_by(f64::total_cmp);
    StoryView {
        fate: story.fate.name(),
        order_id: story.order_id.clone(),
        note: story.note.clone(),
        states: story
            .states
            .iter()
            .map(|(state, at_ms)| (state.name(), format!("{:.1}", from_start(*at_ms))))
            .collect(),
        diagram: svg::space_time(
            &LANES.map(|peer| peer.name().to_owned()),
            &arrows,
            &marks_ms,
        ),
    }
}

/// Says whether the caller heard an answer, if only a refusal.
fn is_answer(outcome: &str) -> bool {
    [
        "done",
        "accepted",
        "refused",
        "conflict",
        "document",
        "not_found",
    ]
    .iter()
    .any(|word| outcome.starts_with(word))
}

/// Returns the command line that repeats the run, but for the files that it was given.
fn command(config: &Config) -> String {
    let mut line = format!(
        "cargo dpat demo shop --orders {} --rate {} --seed {}",
        config.orders, config.rate, config.seed
    );
    if config.scenario != Scenario::Shop {
        line.push_str(" --scenario ");
        line.push_str(config.scenario.name());
    }
    match config.faults {
        Faults::Seeded => {}
        Faults::None => line.push_str(" --faults none"),
        Faults::Script(_) => line.push_str(" --faults SCRIPT"),
    }
    if config.input.is_some() {
        line.push_str(" --input ORDERS.JSONL");
    }
    if config.engine != Engine::Embedded {
        line.push_str(" --engine ");
        line.push_str(config.engine.name());
    }
    for pattern in &config.without {
        line.push_str(" --without ");
        line.push_str(pattern.name());
    }
    match config.nodes {
        Nodes::Threads => {}
        Nodes::Processes { .. } => line.push_str(" --processes"),
        Nodes::Simulated => line.push_str(" --simulated"),
    }
    line
}

#[cfg(test)]
mod tests;
