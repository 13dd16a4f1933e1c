//! The command as scripts see it: exit codes, the last line of stdout, processes, HTTP.
#![allow(clippy::unwrap_used)] // helpers of tests fail the test

mod proof;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn dpat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dpat"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(args: &[&str]) -> i32 {
    dpat(args).status.code().unwrap()
}

fn verdict(output: &Output) -> Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

#[test]
fn usage_errors_end_with_64() {
    assert_eq!(code(&["demo", "shop", "--bogus"]), 64);
    assert_eq!(code(&["demo"]), 64);
    assert_eq!(code(&["demo", "shop", "--orders", "0"]), 64);
    assert_eq!(code(&["demo", "shop", "--without", "luck"]), 64);
    assert_eq!(code(&["demo", "shop", "--without", "budget"]), 64);
    assert_eq!(code(&["demo", "shop", "--skip-bad"]), 64);
    assert_eq!(code(&["demo", "shop", "--simulated", "--processes"]), 64);
    assert_eq!(code(&["--help"]), 0);
    assert_eq!(code(&["demo", "--help"]), 0);
}

#[test]
fn every_pattern_that_can_be_left_out_is_in_the_help() {
    let output = dpat(&["demo", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for pattern in dpat_cases::shop::config::Pattern::ALL {
        let line = format!("- {}:", pattern.name());
        let breaks = format!("breaks {}", pattern.invariant());
        let found = help.lines().find(|one| one.trim().starts_with(&line));
        assert!(found.is_some_and(|line| line.ends_with(&breaks)), "{help}");
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_does_not_change_the_verdict() {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_dpat"))
        .args(["sim", "--list"])
        .stdin(Stdio::null())
        .stdout(std::os::fd::OwnedFd::from(writer))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_cannot_be_written_is_said() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_dpat"))
        .args(["sim", "--list"])
        .stdin(Stdio::null())
        .stdout(full.unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(70));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("standard output cannot be written: "),
        "{stderr}"
    );
}

#[test]
fn bad_input_ends_with_65_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.jsonl");
    std::fs::write(&file, "{\"order_id\":7}\n").unwrap();
    let output = dpat(&["demo", "shop", "--input", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("{}:1:13: order_id: invalid type", file.display());
    assert!(stderr.starts_with(&expected), "{stderr}");

    let script = folder.path().join("faults.json");
    std::fs::write(&script, "{}").unwrap();
    assert_eq!(
        code(&["demo", "shop", "--faults", script.to_str().unwrap()]),
        65
    );
    assert_eq!(code(&["demo", "shop", "--faults", "no/such/file"]), 65);
}

#[test]
fn the_orders_of_a_file_are_sent_and_bad_lines_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.jsonl");
    let order = |id: &str| {
        json!({"order_id": id, "customer": "c", "items": [{"sku": "s", "quantity": 1}], "payment_cents": 5})
            .to_string()
    };
    let text = format!("{}\nnonsense\n{}\n", order("a"), order("b"));
    std::fs::write(&file, text).unwrap();
    let report = folder.path().join("report.json");
    let output = dpat(&[
        "demo",
        "shop",
        "--json",
        "--faults",
        "none",
        "--skip-bad",
        "--input",
        file.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0));
    let verdict = verdict(&output);
    assert_eq!(verdict["orders"], 2);
    assert_eq!(verdict["completed"], 2);
    assert_eq!(verdict["report"], report.to_str().unwrap());
    let rejected = std::fs::read_to_string(folder.path().join("rejected.jsonl")).unwrap();
    let bad: Value = serde_json::from_str(rejected.trim()).unwrap();
    assert_eq!(bad["line"], 2);
    assert_eq!(bad["raw"], "nonsense");
    assert!(report.exists());
}

/// Runs 300 orders in the simulator, in a fresh process.
fn simulated(more: &[&str]) -> (Option<i32>, Value) {
    let mut args = vec![
        "demo",
        "shop",
        "--simulated",
        "--json",
        "--orders",
        "300",
        "--rate",
        "150",
    ];
    args.extend(more);
    let output = dpat(&args);
    (output.status.code(), verdict(&output))
}

#[test]
fn a_simulated_run_is_the_same_again_in_a_fresh_process() {
    let (code, first) = simulated(&["--seed", "7"]);
    assert_eq!((code, &first["violations"]), (Some(0), &json!([])));
    assert_eq!(first["engine"], "embedded");
    assert_eq!(first["simulated"], true);
    assert_eq!(first["orders"], 300);
    for kind in ["error", "drop", "kill", "crash", "isolate", "cut"] {
        assert!(
            first["faults_injected"][kind].as_u64().unwrap() > 0,
            "no {kind}: {first}"
        );
    }
    let (_, again) = simulated(&["--seed", "7"]);
    for field in [
        "trace_hash",
        "events",
        "simulated_ms",
        "faults_injected",
        "completed",
        "p99_ms",
    ] {
        assert_eq!(first[field], again[field], "{field}");
    }
    let (code, other) = simulated(&["--seed", "8"]);
    assert_eq!(code, Some(0));
    assert_ne!(first["trace_hash"], other["trace_hash"]);
}

#[test]
fn a_simulated_run_shows_what_each_pattern_is_for() {
    for (pattern, invariant) in [
        ("retry", "transient_survived"),
        ("breaker", "spared_calls"),
        ("idempotency", "single_charge"),
        ("outbox", "event_once"),
    ] {
        let (code, verdict) = simulated(&["--without", pattern]);
        let violations = verdict["violations"].as_array().unwrap();
        let broken: Vec<&Value> = violations.iter().map(|one| &one["invariant"]).collect();
        assert_eq!(broken, [invariant], "without {pattern}");
        assert_eq!(code, Some(0), "without {pattern}");
    }
}

#[test]
fn a_script_of_crashes_and_partitions_needs_the_simulator() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.json");
    let text = r#"{"version": 1, "protocol": "shop", "nodes": 5, "seed": 7, "ops": [
        {"at_us": 300000, "do": "isolate", "node": "payment", "for_us": 400000},
        {"at_us": 900000, "do": "crash", "node": "order", "for_us": 200000}]}"#;
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let (code, verdict) = simulated(&["--faults", path]);
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verdict["faults_injected"]["isolate"], 1);
    assert_eq!(verdict["restarts"], 1);
    let output = dpat(&["demo", "shop", "--faults", path]);
    assert_eq!(output.status.code(), Some(65));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("{path}:2:33: ops[0].do: needs a simulated run");
    assert!(stderr.starts_with(&expected), "{stderr}");
}

#[test]
fn processes_survive_sigkill() {
    let output = dpat(&[
        "demo",
        "shop",
        "--processes",
        "--orders",
        "300",
        "--rate",
        "150",
        "--json",
    ]);
    let verdict = verdict(&output);
    assert_eq!(verdict["violations"], json!([]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(verdict["engine"], "embedded");
    assert_eq!(verdict["unresolved"], 0);
    assert!(
        verdict["faults_injected"]["kill"].as_u64().unwrap() >= 4,
        "{verdict}"
    );
    assert_eq!(verdict["restarts"], verdict["faults_injected"]["kill"]);
}

#[test]
fn without_a_pattern_the_exit_code_says_whether_it_was_missed() {
    let output = dpat(&[
        "demo",
        "shop",
        "--processes",
        "--orders",
        "300",
        "--rate",
        "150",
        "--without",
        "outbox",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let verdict = verdict(&output);
    assert_eq!(verdict["verdict"], "violated");
    assert_eq!(verdict["violations"][0]["invariant"], "event_once");

    // Without faults nothing breaks, so that nothing is shown.
    let output = dpat(&[
        "demo",
        "shop",
        "--orders",
        "50",
        "--rate",
        "500",
        "--faults",
        "none",
        "--without",
        "outbox",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
}

/// A shop that serves, and is interrupted in the end.
struct Shop {
    child: Child,
    address: String,
}

impl Shop {
    fn open() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dpat"))
            .args(["demo", "shop", "--serve", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut lines = stderr.lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("http://")).unwrap();
        let address = line.split("http://").nth(1).unwrap();
        let address = address.split(';').next().unwrap().to_owned();
        // Keep reading, so that the shop never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Opens a page of server-sent events.
    fn listen(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let patience = Some(std::time::Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        let mut events = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(events.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        events
    }

    /// Returns status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status >= 400 {
            assert!(head.contains("application/problem+json"), "{head}");
        }
        (status, body.to_owned())
    }
}

/// Reads the next server-sent event: its name, and the order that it is about.
fn next_event(events: &mut impl BufRead) -> (String, String) {
    let mut name = String::new();
    loop {
        let mut line = String::new();
        assert!(events.read_line(&mut line).unwrap() > 0, "the events ended");
        if let Some(event) = line.strip_prefix("event: ") {
            event.trim_end().clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let notice: Value = serde_json::from_str(data).unwrap();
            assert_eq!(notice["state"], *name);
            return (name, notice["order_id"].as_str().unwrap().to_owned());
        }
    }
}

#[test]
fn serving_answers_as_the_contract_says_and_ends_at_ctrl_c() {
    let mut shop = Shop::open();
    let order = |cents: u32| {
        json!({"order_id": "mine", "customer": "me", "items": [{"sku": "s", "quantity": 1}], "payment_cents": cents})
            .to_string()
    };
    // Stays open until the end: nobody waits for a listener.
    let mut events = shop.listen("/events");
    let (status, body) = shop.ask("POST", "/orders", &order(5));
    assert_eq!(status, 202);
    for state in ["accepted", "reserved", "completed"] {
        assert_eq!(
            next_event(&mut events),
            (state.to_owned(), "mine".to_owned())
        );
    }
    let mut late = shop.listen("/events/completed");
    assert_eq!(next_event(&mut late).0, "completed");
    assert_eq!(shop.ask("GET", "/events/nowhere", "").0, 404);
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        answer,
        json!({"order_id": "mine", "status_url": "/orders/mine"})
    );
    assert_eq!(shop.ask("POST", "/orders", &order(5)), (202, body));
    assert_eq!(shop.ask("POST", "/orders", &order(6)).0, 409);
    assert_eq!(shop.ask("POST", "/orders", &order(0)).0, 400);
    assert_eq!(shop.ask("POST", "/orders", "nonsense").0, 400);
    assert_eq!(shop.ask("GET", "/orders/other", "").0, 404);
    assert_eq!(shop.ask("GET", "/nowhere", "").0, 404);
    assert_eq!(shop.ask("PUT", "/orders", "").0, 405);
    assert_eq!(shop.ask("POST", "/orders", &" ".repeat(70_000)).0, 413);
    let (status, body) = shop.ask("GET", "/orders/mine", "");
    assert_eq!(status, 200);
    let shown: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(shown["order_id"], "mine");
    assert_eq!(shown["history"][0]["state"], "accepted");
    assert_eq!(shop.ask("GET", "/health/live", "").0, 200);
    assert_eq!(shop.ask("GET", "/health/ready", "").0, 200);
    let (status, page) = shop.ask("GET", "/metrics", "");
    assert_eq!(status, 200);
    assert!(
        page.contains("dpat_shop_requests_total{node=\"gateway\""),
        "{page}"
    );

    let interrupted = Command::new("kill")
        .args(["-INT", &shop.child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let mut stdout = String::new();
    let mut pipe = shop.child.stdout.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    assert_eq!(shop.child.wait().unwrap().code(), Some(0));
    let verdict: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["accepted"], 1);
    assert_eq!(verdict["completed"], 1);
}

#[test]
fn a_history_is_checked_and_the_exit_code_tells() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let write = "{:process 0, :type :invoke, :f :write, :value 1}\n\
                 {:process 0, :type :ok, :f :write, :value 1}\n\
                 {:process 1, :type :invoke, :f :read, :value nil}\n";
    let good = file(
        "good.edn",
        &format!("{write}{{:process 1, :type :ok, :f :read, :value 1}}\n"),
    );
    let stale = file(
        "stale.edn",
        &format!("{write}{{:process 1, :type :ok, :f :read, :value nil}}\n"),
    );
    let broken = file("broken.edn", "{:process 0, :type :begin}\n");

    let output = dpat(&["check", &good, "--model", "register", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = verdict(&output);
    assert_eq!(told["verdict"], "ok");
    assert_eq!(told["violation"], Value::Null);

    let output = dpat(&["check", &stale, "--model", "register", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = verdict(&output);
    let mut fields: Vec<&String> = told.as_object().unwrap().keys().collect();
    fields.sort_unstable();
    let expected = [
        "elapsed_ms",
        "file",
        "format",
        "model",
        "operations",
        "verdict",
        "violation",
    ];
    assert_eq!(fields, expected);
    assert_eq!(told["violation"]["longest_prefix"], json!([0]));
    let blocked = json!({"index": 1, "line": 3, "process": 1, "f": "read", "value": null});
    assert_eq!(told["violation"]["blocked"], blocked);

    let output = dpat(&["check", &broken, "--model", "register"]);
    assert_eq!(output.status.code(), Some(65));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with(&format!("{broken}:1:")), "{stderr}");
    assert_eq!(code(&["check", "no/such/file", "--model", "kv"]), 65);
    assert_eq!(code(&["check", &good, "--model", "luck"]), 64);
    let time = ["check", &good, "--model", "kv", "--timeout", "0"];
    assert_eq!(code(&time), 64);
}
