//! The main job as a gate: the order platform survives, and without one pattern it shows why.

use std::time::Duration;

use serde_json::Value;

use crate::ci::Context;
use crate::error::{Outcome, Result};
use crate::process::{Log, command, run_limited};
use crate::workspace::strings;

/// The run that must hold. The numbers keep it at a few seconds.
const SHOP: &[&str] = &[
    "demo", "shop", "--orders", "300", "--rate", "300", "--seed", "7", "--json",
];
/// The patterns whose absence must show, with the invariant that then breaks.
const WITHOUT: &[(&str, &str)] = &[
    ("retry", "transient_survived"),
    ("breaker", "spared_calls"),
    ("idempotency", "single_charge"),
    ("outbox", "event_once"),
];
const LIMIT: Duration = Duration::from_secs(90);

/// The step of `ci`.
pub(crate) fn step(context: &Context, log: &Log) -> Result<Outcome> {
    if !context.build(log)? {
        return Ok(Outcome::Failed("the workspace does not build".to_owned()));
    }
    let mut failed = Vec::new();
    let mut times = Vec::new();
    for without in std::iter::once(None).chain(WITHOUT.iter().map(Some)) {
        let label = without.map_or("shop", |(pattern, _)| pattern);
        let workspace = &context.workspace;
        let program = workspace.target.join("debug/dpat");
        let mut command = command(workspace, &program.to_string_lossy());
        command.args(SHOP);
        if let Some((pattern, _)) = without {
            command.args(["--without", pattern]);
        }
        let stdout = workspace
            .target
            .join("ci/demo")
            .join(format!("{label}.out"));
        let end = run_limited(log, &mut command, &stdout, LIMIT)?;
        log.line(&end.stdout)?;
        times.push(format!("{label} {:.1} s", end.seconds));
        let objection = if end.timed_out {
            Some(format!("no end within {} s", LIMIT.as_secs()))
        } else {
            objection(
                end.code,
                &end.stdout,
                without.map(|(_, invariant)| *invariant),
            )
        };
        failed.extend(objection.map(|reason| format!("{label}: {reason}")));
    }
    Ok(if failed.is_empty() {
        Outcome::Ok(Some(times.join(", ")))
    } else {
        Outcome::Failed(failed.join("; "))
    })
}

/// Fields of the object that contracts promise to scripts.
const FIELDS: &[&str] = &[
    "schema",
    "scenario",
    "engine",
    "seed",
    "without",
    "orders",
    "accepted",
    "completed",
    "compensated",
    "rejected",
    "unresolved",
    "duplicate_charges",
    "lost_events",
    "stock_conserved",
    "money_conserved",
    "faults_injected",
    "restarts",
    "p50_ms",
    "p99_ms",
    "complete_p50_ms",
    "complete_p99_ms",
    "throughput_per_s",
    "rss_peak_mb",
    "expected",
    "verdict",
    "violations",
    "report",
];

/// Why a run is not what was promised: the contract's object, its sums, its verdict, exit code 0.
fn objection(code: Option<i32>, stdout: &str, breaks: Option<&str>) -> Option<String> {
    let last = stdout.lines().last().unwrap_or_default();
    let Ok(json) = serde_json::from_str::<Value>(last) else {
        return Some("the last line is no JSON object".to_owned());
    };
    if let Some(field) = FIELDS.iter().find(|field| json.get(**field).is_none()) {
        return Some(format!("the object has no `{field}`"));
    }
    let number = |field: &str| json[field].as_u64().unwrap_or(u64::MAX);
    if number("orders") != number("accepted").saturating_add(number("rejected")) {
        return Some("orders is not accepted + rejected".to_owned());
    }
    let ended = number("completed").saturating_add(number("compensated"));
    if number("accepted") != ended.saturating_add(number("unresolved")) {
        return Some("accepted is not completed + compensated + unresolved".to_owned());
    }
    let mut broken: Vec<&str> = json["violations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|violation| violation["invariant"].as_str())
        .collect();
    broken.sort_unstable();
    broken.dedup();
    let expected = Vec::from_iter(breaks);
    let verdict = if expected.is_empty() {
        "ok"
    } else {
        "violated"
    };
    if broken != expected || json["verdict"] != verdict {
        return Some(format!(
            "verdict {} with violations [{}], expected {verdict} with [{}]",
            json["verdict"],
            broken.join(", "),
            expected.join(", ")
        ));
    }
    if strings(&json["expected"]) != expected {
        return Some("`expected` does not name the invariant that must break".to_owned());
    }
    (code != Some(0)).then(|| format!("what was asked holds, but the exit code is {code:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(violations: &[&str], expected: &[&str]) -> Value {
        let mut json = json!({
            "orders": 10, "accepted": 9, "rejected": 1, "completed": 7, "compensated": 2,
            "unresolved": 0, "expected": expected,
            "verdict": if violations.is_empty() { "ok" } else { "violated" },
            "violations": violations.iter().map(|name| json!({"invariant": name})).collect::<Vec<_>>(),
        });
        for field in FIELDS {
            if json.get(*field).is_none() {
                json[*field] = Value::Null;
            }
        }
        json
    }

    #[track_caller]
    fn check(code: i32, json: &Value, breaks: Option<&str>, expected: Option<&str>) {
        let found = objection(Some(code), &format!("progress\n{json}\n"), breaks);
        match expected {
            None => assert_eq!(found, None),
            Some(part) => assert!(
                found.as_deref().is_some_and(|found| found.contains(part)),
                "expected `{part}`, found {found:?}"
            ),
        }
    }

    #[test]
    fn a_run_that_holds_is_ok() {
        check(0, &object(&[], &[]), None, None);
        let broken = object(&["single_charge"], &["single_charge"]);
        check(0, &broken, Some("single_charge"), None);
    }

    #[test]
    fn a_verdict_must_be_the_expected_one() {
        check(1, &object(&["event_once"], &[]), None, Some("verdict"));
        check(
            0,
            &object(&[], &["event_once"]),
            Some("event_once"),
            Some("verdict"),
        );
        let two = object(&["event_once", "single_charge"], &["event_once"]);
        check(0, &two, Some("event_once"), Some("verdict"));
    }

    #[test]
    fn sums_fields_and_exit_codes_count() {
        check(2, &object(&[], &[]), None, Some("exit code"));
        let mut json = object(&[], &[]);
        json["completed"] = json!(8);
        check(0, &json, None, Some("completed + compensated"));
        json["orders"] = json!(11);
        check(0, &json, None, Some("accepted + rejected"));
        json.as_object_mut().expect("an object").remove("p99_ms");
        check(0, &json, None, Some("p99_ms"));
        assert!(objection(Some(0), "", None).is_some());
    }
}
