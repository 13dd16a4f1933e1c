//! The commands of the proof ground, each run in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::{code, dpat, verdict};

/// Known-bad variants whose rule a few seeds break.
const MUTANTS: [&str; 2] = ["counter@check-then-act", "counter@answer-before-sync"];

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fields(value: &Value) -> Vec<&str> {
    let fields = value.as_object().unwrap().keys();
    fields.map(String::as_str).collect()
}

/// The first seed that fails, as `dpat sim --json` tells it.
fn first_failure(mutant: &str) -> Value {
    let output = dpat(&["sim", mutant, "--seeds", "0..100", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{mutant}");
    let verdict = verdict(&output);
    let first = verdict["violations"][0].clone();
    let replay = format!("dpat replay {mutant} {}\n", first["seed"]);
    assert!(stderr(&output).contains(&replay), "{replay}");
    first
}

fn write_script(folder: &Path, text: &str) -> String {
    let file = folder.join("f.json");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_clean_protocol_is_one_object_and_exit_0() {
    let output = dpat(&["sim", "echo", "--seeds", "0..40", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let object = verdict(&output);
    let names = [
        "protocol",
        "seeds",
        "events",
        "delivered",
        "trace_hash",
        "violations",
        "vacuous",
        "elapsed_ms",
    ];
    let text = stdout(&output);
    let mut at = 0;
    for name in names {
        // In this order, for people who read it.
        at += text[at..].find(&format!("\"{name}\":")).unwrap();
    }
    assert_eq!(fields(&object).len(), names.len());
    assert_eq!(object["protocol"], "echo");
    assert_eq!(object["seeds"], 40);
    assert_eq!(object["trace_hash"].as_str().unwrap().len(), 16);
    assert_eq!(object["violations"], json!([]));
    assert_eq!(object["vacuous"], json!([]));
    assert!(object["delivered"].as_u64().unwrap() > 0);
    let again = dpat(&["sim", "echo", "--seeds", "0..40", "--json"]);
    assert_eq!(verdict(&again)["trace_hash"], object["trace_hash"]);
}

#[test]
fn people_see_what_was_reached_and_the_holes() {
    let output = dpat(&["sim", "echo", "--seeds", "0..40"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    for part in [
        "echo seeds 0..40: ",
        "no fault",
        "holes: ",
        "faults that struck: ",
        "operations compared: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn runs_that_show_nothing_end_with_2() {
    let output = dpat(&["sim", "echo", "--seeds", "5..5", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(verdict(&output)["vacuous"], json!(["no seed was run"]));
}

#[test]
fn the_list_names_protocols_properties_and_mutants() {
    let output = dpat(&["sim", "--list", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let list = verdict(&output);
    let counter = list.as_array().unwrap().iter();
    let counter = counter
        .filter(|one| one["protocol"] == "counter")
        .collect::<Vec<_>>();
    let [counter] = counter[..] else {
        panic!("{list}")
    };
    assert_eq!(
        fields(counter),
        ["mutants", "nodes_default", "properties", "protocol"]
    );
    assert!(!counter["properties"].as_array().unwrap().is_empty());
    assert_eq!(fields(&counter["mutants"][0]), ["name", "seeds_max"]);
    let people = stdout(&dpat(&["sim", "--list"]));
    for name in MUTANTS.iter().chain(&["flp", "cap", "echo"]) {
        assert!(people.contains(name), "{name}");
    }
}

#[test]
fn a_failing_seed_replays_to_the_same_hash_in_a_fresh_process() {
    for mutant in MUTANTS {
        let first = first_failure(mutant);
        let seed = first["seed"].to_string();
        let output = dpat(&["replay", mutant, &seed, "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let (protocol, _) = mutant.split_once('@').unwrap();
        let expected = json!({
            "protocol": mutant,
            "seed": first["seed"],
            "trace_hash": first["trace_hash"],
            "violation": {
                "property": first["property"],
                "at_event": first["at_event"],
                "message": first["message"],
            },
        });
        assert_eq!(verdict(&output), expected);
        assert_eq!(stdout(&output).lines().count(), 1);
        // The same seed of the protocol itself holds.
        let output = dpat(&["replay", protocol, &seed, "--json"]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(verdict(&output)["violation"], Value::Null);
    }
}

#[test]
fn a_replay_tells_what_was_drawn_and_what_led_to_the_failure() {
    let folder = tempfile::tempdir().unwrap();
    let first = first_failure(MUTANTS[0]);
    let seed = first["seed"].to_string();
    let trace = folder.path().join("run.json");
    let page = folder.path().join("run.html");
    let args = ["replay", MUTANTS[0], &seed, "--trace"];
    let output = dpat(&[&args[..], &[trace.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(verdict(&output)["trace_hash"], first["trace_hash"]);
    let text = stderr(&output);
    let violated = format!(
        "violated: {} at event {}",
        first["property"].as_str().unwrap(),
        first["at_event"]
    );
    for part in ["chaos: ", "\"ops\": [", "may have led to it:", &violated] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(&trace).unwrap()).unwrap();
    assert_eq!(recorded["trace_hash"], first["trace_hash"]);
    assert!(!recorded["events"].as_array().unwrap().is_empty());
    dpat(&[&args[..], &[page.to_str().unwrap()]].concat());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>"));
    assert!(html.contains(first["trace_hash"].as_str().unwrap()));
}

#[test]
fn a_shrunk_script_fails_again() {
    let folder = tempfile::tempdir().unwrap();
    for mutant in MUTANTS {
        let first = first_failure(mutant);
        let seed = first["seed"].to_string();
        let output = dpat(&["shrink", mutant, &seed]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("without any one of them it does not fail"));
        let script = write_script(folder.path(), &stdout(&output));
        let seeds = format!("{seed}..{}", first["seed"].as_u64().unwrap() + 1);
        let args = [
            "sim", mutant, "--seeds", &seeds, "--json", "--script", &script,
        ];
        let output = dpat(&args);
        assert_eq!(output.status.code(), Some(1));
        let again = verdict(&output);
        assert_eq!(again["violations"][0]["property"], first["property"]);
        let replay = format!("dpat replay {mutant} {seed} --script {script}\n");
        assert!(stderr(&output).contains(&replay));
        let output = dpat(&["replay", mutant, &seed, "--json", "--script", &script]);
        assert_eq!(verdict(&output)["trace_hash"], again["trace_hash"]);
    }
}

#[test]
fn what_holds_cannot_be_shrunk() {
    let output = dpat(&["shrink", "echo", "3"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).ends_with("dpat: seed 3 violates nothing\n"));
}

#[test]
fn unknown_names_end_with_64_and_the_names_that_there_are() {
    for command in ["sim", "replay", "shrink"] {
        let refused = |name: &str| {
            let output = match command {
                "sim" => dpat(&["sim", name]),
                _ => dpat(&[command, name, "1"]),
            };
            assert_eq!(output.status.code(), Some(64), "{command} {name}");
            stderr(&output)
        };
        let text = refused("luck");
        assert!(text.contains("echo") && text.contains("counter"), "{text}");
        assert!(refused("counter@luck").contains("check-then-act"));
    }
    for args in [
        &["sim"][..],
        &["sim", "echo", "--seeds", "3"],
        &["sim", "echo", "--seeds", "3..1"],
        &["sim", "echo", "--rounds", "3"],
        &["sim", "echo", "--nodes", "0"],
        &["sim", "echo", "--list"],
        &["sim", "flp", "--seeds", "0..3"],
        &["sim", "flp", "--rounds", "0"],
        &["sim", "cap", "--seeds", "0..3"],
        &["sim", "cap", "--nodes", "5"],
        &["replay", "echo"],
        &["mc", "luck"],
        &["mc", "two-phase", "--rms", "0"],
        &["lab", "--port", "70000"],
    ] {
        assert_eq!(code(args), 64, "{args:?}");
    }
}

#[test]
fn a_bad_script_ends_with_65_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let script = |ops: &str| {
        format!(
            "{{\"version\": 1, \"protocol\": \"counter\", \"nodes\": 2, \"seed\": 1,\n \"ops\": [{ops}]}}"
        )
    };
    for (text, place) in [
        ("{".to_owned(), ":1:"),
        (
            script("{\"at_us\": 1, \"do\": \"crash\", \"node\": 7}"),
            ":2:46: ops[0].node: ",
        ),
        // What only this simulation refuses has its place too.
        (
            script("{\"at_us\": 1, \"do\": \"error\", \"node\": 0, \"per_million\": 5}"),
            ":2:29: ops[0].do: ",
        ),
        (
            script("").replace("counter", "echo"),
            ":1:28: protocol: must be \"counter\"",
        ),
        (
            script("").replace(": 2,", ": 2000,"),
            ":1:48: nodes: must be 1 to 1000 nodes",
        ),
    ] {
        let file = write_script(folder.path(), &text);
        for args in [
            &["sim", "counter", "--script", &file][..],
            &["replay", "counter", "1", "--script", &file],
            &["shrink", "counter", "1", "--script", &file],
        ] {
            let output = dpat(args);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(65), "{told}");
            assert!(told.starts_with(&format!("{file}{place}")), "{told}");
        }
    }
    assert_eq!(code(&["sim", "counter", "--script", "no/such/file"]), 65);
    let file = write_script(folder.path(), &script(""));
    assert_eq!(
        code(&["sim", "counter", "--script", &file, "--nodes", "3"]),
        64
    );
}

#[test]
fn cap_shows_what_each_register_keeps() {
    let output = dpat(&["sim", "cap", "--seed", "7", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let object = verdict(&output);
    assert_eq!(
        (&object["protocol"], &object["seed"]),
        (&json!("cap"), &json!(7))
    );
    assert_eq!(object["holds"], true);
    let (cp, ap) = (&object["cp"], &object["ap"]);
    assert_eq!(cp["linearizable"], "ok");
    assert_eq!(cp["minority"]["answered"], 0);
    assert_eq!(ap["linearizable"], "violation");
    assert_eq!(ap["minority"]["answered"], ap["minority"]["asked"]);
    let text = stderr(&output);
    assert!(text.contains("register-cp"), "{text}");
    assert!(text.contains("answered at n1"), "{text}");
}

#[test]
fn flp_runs_and_is_verified() {
    let output = dpat(&["sim", "flp", "--rounds", "3", "--seed", "5", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let object = verdict(&output);
    assert_eq!(object["protocol"], "flp");
    assert_eq!(object["seed"], 5);
    assert_eq!(object["verified"], true);
    let schedule = &object["deterministic"];
    assert_eq!(schedule["rounds"].as_array().unwrap().len(), 3);
    let tossed = &object["randomised"];
    assert_eq!(tossed["decided"], tossed["runs"]);
    let text = stderr(&output);
    assert!(text.contains("round   3: "), "{text}");
    assert!(text.contains("verified"), "{text}");
}

#[test]
fn two_phase_commit_has_the_states_that_the_specification_has() {
    for (rms, counts) in [("3", [288, 1_146, 11]), ("4", [1_568, 8_258, 14])] {
        let output = dpat(&["mc", "two-phase", "--rms", rms, "--json"]);
        assert_eq!(output.status.code(), Some(0));
        let [distinct, generated, depth] = counts;
        let expected = json!({
            "distinct_states": distinct,
            "generated_states": generated,
            "depth": depth,
            "violations": [],
        });
        assert_eq!(verdict(&output), expected);
    }
}

/// `dpat lab` on a free port.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dpat"))
            .args(["lab", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap();
        let address = address.strip_suffix('/').unwrap().to_owned();
        Self { child, address }
    }

    /// Sends a request; returns the head and the body.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    fn post(&self, path: &str, form: &Value) -> (String, String) {
        let headers = "host: localhost\r\ncontent-type: application/json\r\n";
        self.ask("POST", path, headers, &form.to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_lab_serves_its_page_and_runs_what_it_asks_for() {
    let lab = Served::start();
    let (head, page) = lab.ask("GET", "/", "host: 127.0.0.1\r\n", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'"));
    assert!(page.contains("data-served=\"yes\""));

    let (_, body) = lab.ask("GET", "/api/protocols", "host: localhost\r\n", "");
    let offered: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(offered[0]["name"], "echo");

    let wanted =
        json!({"protocol": "counter", "mutant": null, "seed": "3", "nodes": null, "script": null});
    let (_, body) = lab.post("/api/run", &wanted);
    let ran: Value = serde_json::from_str(&body).unwrap();
    let replay = verdict(&dpat(&["replay", "counter", "3", "--json"]));
    assert_eq!(ran["trace"]["trace_hash"], replay["trace_hash"]);

    let mut bad = wanted.clone();
    bad["script"] = "{".into();
    let (head, body) = lab.post("/api/check", &bad);
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(head.contains("content-type: application/problem+json"));
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["errors"][0]["line"], 1);
    let (head, _) = lab.post("/api/run", &json!({"protocol": "luck"}));
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

#[test]
fn the_lab_answers_no_page_from_elsewhere() {
    let lab = Served::start();
    let (head, _) = lab.ask("GET", "/", "host: elsewhere.example\r\n", "");
    assert!(head.starts_with("http/1.1 421"), "{head}");
    let plain = "host: localhost\r\ncontent-type: text/plain\r\n";
    let (head, _) = lab.ask("POST", "/api/run", plain, "{}");
    assert!(head.starts_with("http/1.1 415"), "{head}");
    let (head, _) = lab.ask("GET", "/etc", "host: localhost\r\n", "");
    assert!(head.starts_with("http/1.1 404"), "{head}");
}
