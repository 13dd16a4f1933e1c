//! Verdicts in the form of contracts, limits, and errors about operations.

use std::time::Duration;

use dpat_check::{Format, Limits, Model, Stopped, Verdict, check_linearizable, parse};
use dpat_core::ManualTime;

fn history(text: &str) -> dpat_check::History {
    parse(text.as_bytes(), "h", Format::JepsenEdn)
        .unwrap()
        .history
}

#[test]
fn operations_that_the_model_lacks_are_errors_with_their_place() {
    let check = |text: &str, model| {
        let error = check_linearizable(&history(text), model, &Limits::default()).unwrap_err();
        error.in_file("h").to_string()
    };
    assert_eq!(
        check("{:process 0 :type :invoke :f :cas}", Model::Register),
        "h:1:1: f: `cas` is none of read, write"
    );
    assert_eq!(
        check("{:process 0 :type :invoke :f :get :value 1}", Model::Kv),
        "h:1:1: value: an operation on a key has [key value]"
    );
    assert_eq!(
        check(
            "{:process 0 :type :invoke :f :read}\n  {:process 0 :type :ok :f :read :value :x}",
            Model::Counter
        ),
        "h:2:3: value: a read returns an integer"
    );
}

/// Concurrent writes and a read of what none of them wrote.
fn hard(processes: usize) -> dpat_check::History {
    let mut text = String::new();
    for (kind, last) in [("invoke", "invoke"), ("ok", "ok")] {
        for process in 0..processes {
            text += &format!("{{:process {process} :type :{kind} :f :add :value {process}}}\n");
        }
        let sum = if last == "ok" { "-1" } else { "nil" };
        text += &format!("{{:process {processes} :type :{last} :f :read :value {sum}}}\n");
    }
    history(&text)
}

#[test]
fn a_search_stops_at_its_limits() {
    let check = |limits: &Limits<'_>| check_linearizable(&hard(20), Model::Counter, limits);
    let few = Limits::default().configurations_max(1000);
    assert_eq!(check(&few), Ok(Verdict::Unknown(Stopped::Configurations)));
    let time = ManualTime::new();
    let now = Limits::default().timeout(&time, Duration::ZERO);
    assert_eq!(check(&now), Ok(Verdict::Unknown(Stopped::Time)));
    let later = Limits::default().timeout(&time, Duration::from_secs(1));
    let small = check_linearizable(&hard(4), Model::Counter, &later);
    assert!(matches!(small, Ok(Verdict::Violation(_))), "{small:?}");
}

#[cfg(feature = "serde")]
#[test]
fn reports_have_the_fields_of_the_contract() {
    use dpat_check::Report;
    use serde_json::json;

    let text = "{:process 0, :type :invoke, :f :put, :key \"a\", :value \"x\"}\n\
                {:process 0, :type :ok, :f :put, :key \"a\", :value \"x\"}\n\
                {:process 7, :type :invoke, :f :get, :key \"a\", :value nil}\n\
                {:process 7, :type :ok, :f :get, :key \"a\", :value \"y\"}\n";
    let parsed = parse(text.as_bytes(), "bad.txt", Format::Auto).unwrap();
    let verdict = check_linearizable(&parsed.history, Model::Kv, &Limits::default()).unwrap();
    let elapsed = Duration::from_micros(2500);
    let report = Report::new(
        "bad.txt",
        parsed.format,
        Model::Kv,
        &parsed.history,
        &verdict,
        elapsed,
    );
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        json!({
            "file": "bad.txt", "format": "porcupine-kv", "model": "kv", "verdict": "violation",
            "operations": 2, "elapsed_ms": 2,
            "violation": {
                "key": "a", "longest_prefix": [0],
                "blocked": {"index": 1, "line": 3, "process": 7, "f": "get", "value": "y"},
            },
        })
    );
    let report = Report::new(
        "f",
        parsed.format,
        Model::Kv,
        &parsed.history,
        &Verdict::Ok,
        elapsed,
    );
    assert_eq!(
        serde_json::to_value(&report).unwrap()["violation"],
        json!(null)
    );
}
