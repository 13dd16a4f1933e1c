use std::borrow::Cow;

use dpat_model::{Event, HistoryLimits, Kind, Pairing, Unpaired, read_history, write_history};
use proptest::prelude::*;
use serde_json::{Value, json};

fn event(time_ns: u64, process: u64, kind: Kind, value: Value) -> Event<Value> {
    let f = Cow::Borrowed("write");
    Event {
        time_ns,
        process,
        kind,
        f,
        value,
    }
}

fn read(text: &str) -> Result<Vec<Event<Value>>, String> {
    let limits = HistoryLimits::default();
    read_history(text.as_bytes(), "h.jsonl", limits).map_err(|error| error.to_string())
}

#[test]
fn a_history_is_one_object_a_line() {
    let events = [
        event(1, 0, Kind::Invoke, json!(3)),
        event(2, 0, Kind::Info, json!(null)),
    ];
    let mut text = Vec::new();
    write_history(&mut text, &events).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"time_ns":1,"process":0,"type":"invoke","f":"write","value":3}"#,
            "\n",
            r#"{"time_ns":2,"process":0,"type":"info","f":"write","value":null}"#,
            "\n"
        )
    );
    assert_eq!(read(&text).unwrap(), events);
    assert_eq!(read(&format!("\n{text}\r\n\n")).unwrap(), events);
}

#[test]
fn errors_name_file_line_column_and_field() {
    const GOOD: &str = r#"{"time_ns":1,"process":0,"type":"invoke","f":"read","value":null}"#;
    let second = |line: &str| read(&format!("{GOOD}\n{line}\n")).unwrap_err();
    for (line, error) in [
        (
            r#"{"time_ns":2,"process":0,"type":"done","f":"read","value":1}"#,
            "2:33: type: unknown variant `done`, expected one of `invoke`, `ok`, `fail`, `info`",
        ),
        (
            r#"{"time_ns":2,"process":0,"type":"ok","f":"read","value":1,"x":1}"#,
            "2:63: x: unknown field",
        ),
        (
            r#"{"time_ns":2,"process":0,"type":"ok","f":"read"}"#,
            "2:1: value: missing",
        ),
        (
            r#"{"time_ns":2,"time_ns":2,"process":0,"type":"ok","f":"read","value":1}"#,
            "2:24: time_ns: given twice",
        ),
        (
            r#"  {"time_ns":2,"process":-1,"type":"ok","f":"read","value":1}"#,
            "2:26: process: invalid value: integer `-1`, expected u64",
        ),
        (
            r#"{"time_ns":0,"process":0,"type":"ok","f":"read","value":1}"#,
            "2:1: time goes back",
        ),
        (
            r#"{"time_ns":2,"process":0,"type":"ok","f":"write","value":1}"#,
            "2:1: the open call is of another function",
        ),
        ("[1]", "2:1: invalid type: sequence, expected an object"),
        ("{\"time_ns\":2", "2:12: EOF while parsing an object"),
    ] {
        assert_eq!(second(line), format!("h.jsonl:{error}"), "{line}");
    }
}

#[test]
fn histories_are_bounded() {
    let line = r#"{"time_ns":1,"process":0,"type":"invoke","f":"read","value":null}"#;
    let mut limits = HistoryLimits::default();
    limits.line_bytes_max = 66;
    assert!(read_history::<Value>(line.as_bytes(), "h", limits).is_ok());
    let long = format!("{line}      ");
    let error = read_history::<Value>(long.as_bytes(), "h", limits).unwrap_err();
    assert_eq!(error.to_string(), "h:1:1: longer than line_bytes_max = 66");
    limits.events_max = 0;
    let error = read_history::<Value>(line.as_bytes(), "h", limits).unwrap_err();
    assert_eq!(error.to_string(), "h:1:1: more than events_max = 0 events");
    let error = read_history::<Value>(&b"\n\xff\n"[..], "h", limits).unwrap_err();
    assert_eq!((error.line, error.column), (2, 1));
}

#[test]
fn completions_are_paired_with_their_calls() {
    let mut pairing = Pairing::default();
    let mut next = |process, kind| pairing.next(&event(0, process, kind, json!(null)));
    assert_eq!(next(1, Kind::Invoke), Ok(None));
    assert_eq!(next(2, Kind::Invoke), Ok(None));
    assert_eq!(next(1, Kind::Invoke), Err(Unpaired::StillOpen));
    assert_eq!(next(3, Kind::Ok), Err(Unpaired::NothingOpen));
    assert_eq!(next(2, Kind::Ok), Ok(Some(1)));
    assert_eq!(next(1, Kind::Info), Ok(Some(0)));
    assert_eq!(next(1, Kind::Invoke), Err(Unpaired::AfterInfo));
    assert_eq!(next(2, Kind::Invoke), Ok(None));
    assert_eq!(next(2, Kind::Fail), Ok(Some(4)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        calls in proptest::collection::vec((0..5_u64, any::<i64>(), ".{0,8}", 0..2_usize), 0..20),
    ) {
        let mut events = Vec::new();
        for (time_ns, (process, number, text, end)) in (0..).zip(&calls) {
            events.push(event(time_ns, *process, Kind::Invoke, json!([number, text])));
            events.push(event(time_ns, *process, [Kind::Ok, Kind::Fail][*end], json!({ "a": text })));
        }
        let mut text = Vec::new();
        write_history(&mut text, &events).unwrap();
        prop_assert_eq!(read(std::str::from_utf8(&text).unwrap()).unwrap(), events);
    }
}
