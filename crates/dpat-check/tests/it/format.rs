//! Formats: what is read, and where errors point.

use dpat_check::{Format, History, Outcome, Value, parse};
use dpat_core::{Entropy, SplitMix64};

fn read(text: &str, format: Format) -> Result<History, String> {
    let parsed = parse(text.as_bytes(), "h", format).map_err(|error| error.to_string())?;
    Ok(parsed.history)
}

fn detected(text: &str) -> Format {
    parse(text.as_bytes(), "h", Format::Auto).unwrap().format
}

const LOG: &str =
    "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t3\n";
const KV: &str = "{:process 0, :type :invoke, :f :get, :key \"a\", :value nil}\n\
                  {:process 0, :type :ok, :f :get, :key \"a\", :value \"x\"}\n";

#[test]
fn formats_are_told_from_the_first_line() {
    assert_eq!(detected(LOG), Format::JepsenLog);
    assert_eq!(detected(KV), Format::PorcupineKv);
    assert_eq!(detected(""), Format::JepsenEdn);
    assert_eq!(detected("; a comment\n[]"), Format::JepsenEdn);
    assert_eq!(
        detected("{:process 0, :type :invoke, :f :read}"),
        Format::JepsenEdn
    );
    #[cfg(feature = "json")]
    assert_eq!(
        detected(r#"{"time_ns":0,"process":0,"type":"invoke","f":"read","value":null}"#),
        Format::Jsonl
    );
}

#[test]
fn names_of_formats_and_models_read_back() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(*format));
    }
    for model in dpat_check::Model::ALL {
        assert_eq!(model.to_string().parse(), Ok(*model));
    }
    let error = "tsv".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.starts_with("`tsv` is none of auto, jepsen-log"),
        "{error}"
    );
}

#[test]
fn jepsen_logs_are_read_strictly() {
    let history = read(LOG, Format::JepsenLog).unwrap();
    assert_eq!(history.operations()[0].outcome, Outcome::Ok(Value::Int(3)));
    let second = |line: &str| read(&format!("{LOG}{line}\n"), Format::JepsenLog).unwrap_err();
    for (line, error) in [
        (
            "WARN  jepsen.util - 0\t:invoke\t:read\tnil",
            "3:1: a line begins with `INFO  jepsen.util -`",
        ),
        (
            "INFO  jepsen.util - x\t:invoke\t:read\tnil",
            "3:21: process: no number",
        ),
        (
            "INFO  jepsen.util - 0\tinvoke\t:read\tnil",
            "3:23: type: none of :invoke, :ok, :fail, :info",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:add\t1",
            "3:31: f: none of :read, :write, :cas",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:write\t:x",
            "3:38: value: a write has an integer",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:cas\t[1]",
            "3:36: value: a cas has [old new]",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil nil",
            "3:41: value: one value a line",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:read",
            "3:36: value: a value is missing",
        ),
        (
            "INFO  jepsen.util - 0\t:ok\t:read\t1",
            "3:1: the process has no open call",
        ),
    ] {
        assert_eq!(second(line), format!("h:{error}"), "{line}");
    }
}

#[test]
fn porcupine_maps_are_read_strictly() {
    let history = read(KV, Format::PorcupineKv).unwrap();
    let expected = Value::from(vec!["a", "x"]);
    assert_eq!(history.operations()[0].final_value(), &expected);
    let third = |line: &str| read(&format!("{KV}{line}\n"), Format::PorcupineKv).unwrap_err();
    for (line, error) in [
        (
            r#"{:process 0, :type :invoke, :f :get, :key "a"}"#,
            "3:1: value: missing",
        ),
        (
            r#"{:process 0, :type :invoke, :f :get, :key :a, :value nil}"#,
            "3:43: key: no string",
        ),
        (
            r#"{:process 0, :type :invoke, :f :put, :key "a", :value nil}"#,
            "3:55: value: no string",
        ),
        (r#"{:process 0, :f :put, :f :put}"#, "3:23: f: given twice"),
        (
            r#"{:process 0, :type :invoke, :f :get, :key "a", :value nil, :x 1}"#,
            "3:63: x: unknown field",
        ),
        (
            r#"{:process 0, :type :invoke, :f :get, :key "a", :value nil"#,
            "3:1: is not closed",
        ),
        (
            r#"{:process 0, :type :invoke, :f :get, :key "a", :value "\q"}"#,
            r"3:56: value: no escape of a string",
        ),
    ] {
        assert_eq!(third(line), format!("h:{error}"), "{line}");
    }
}

#[test]
fn jepsen_histories_are_read_as_lines_or_as_a_vector() {
    let lines = "{:index 0 :time 5 :process 3 :type :invoke :f :txn :value [[:append 1 2] [:r 1 nil]]}\n\
                 {:index 1 :process :nemesis :type :info :f :kill :value nil}\n\
                 #jepsen.history.Op{:index 2 :process 3 :type :ok, :f :txn :extra #{1 2} ; more\n\
                 :value [[:append 1 2] [:r 1 [2]]]}\n";
    let history = read(lines, Format::Auto).unwrap();
    let operation = &history.operations()[0];
    assert_eq!(
        operation.final_value().to_string(),
        "[[:append 1 2] [:r 1 [2]]]"
    );
    assert_eq!((operation.line, operation.called_ns), (1, 5));
    assert_eq!(
        read(&format!("[{lines}]"), Format::JepsenEdn)
            .unwrap()
            .operations()
            .len(),
        1
    );

    for (text, error) in [
        ("[{:process :n :type :info :f :x}", "1:1: is not closed"),
        ("{:process 0 :f :read}", "1:1: type: missing"),
        (
            "{:process -1 :type :ok :f :read}",
            "1:11: process: no number",
        ),
        ("{:process 0 :type :ok :f 1}", "1:26: f: no keyword"),
        (
            "{:process 0 :type :done :f :read}",
            "1:19: type: none of :invoke, :ok, :fail, :info",
        ),
        (
            "{:process 0 :type :ok :f :read}",
            "1:1: the process has no open call",
        ),
        (
            "\n  {:process 1x :type :ok}",
            "2:13: process: `1x` is no number",
        ),
        (
            "{:index 2 :type :info :f :x :process :n}{:index 2}",
            "1:49: index: does not rise",
        ),
        ("[] 1", "1:4: something follows the history"),
        ("7", "1:1: an event is a map"),
    ] {
        assert_eq!(
            read(text, Format::JepsenEdn).unwrap_err(),
            format!("h:{error}"),
            "{text}"
        );
    }
    for nested in ["[", "{", "#t ", "#_ ", "[#_ "] {
        let deep = format!("{{:value {}}}", nested.repeat(100_000));
        let error = read(&deep, Format::JepsenEdn).unwrap_err();
        assert!(
            error.ends_with("nested deeper than 64"),
            "{nested}: {error}"
        );
    }
}

#[test]
fn edn_literals_keep_their_meaning() {
    let value = |text: &str| {
        let text = format!("{{:process 0 :type :invoke :f :x :value {text}}}");
        read(&text, Format::JepsenEdn).map(|history| history.operations()[0].value.clone())
    };
    assert_eq!(value("-7"), Ok(Value::Int(-7)));
    assert_eq!(value("7N"), Ok(Value::Int(7)));
    assert_eq!(value("1.5"), Ok(Value::Other("1.5".into())));
    assert_eq!(value("22/7"), Ok(Value::Other("22/7".into())));
    assert_eq!(
        value("99999999999999999999"),
        Ok(Value::Other("99999999999999999999".into()))
    );
    assert_eq!(value(r#""a\n\u00e9\"""#), Ok(Value::from("a\né\"")));
    assert_eq!(value(r"\newline"), Ok(Value::from("newline")));
    assert_eq!(value("#_ 1 #inst \"x\""), Ok(Value::from("x")));
    assert_eq!(value("(1, 2)"), Ok(Value::from(vec![1, 2])));
    assert_eq!(value("{:a 1}").unwrap().field("a"), Some(&Value::Int(1)));
    assert!(value("]").is_err());
}

#[test]
fn a_failure_with_an_error_has_no_answer() {
    let text = "{:process 0 :type :invoke :f :cas :value [1 2]}\n\
                {:process 0 :type :fail :f :cas :value [1 2] :error :refused}";
    let history = read(text, Format::JepsenEdn).unwrap();
    assert_eq!(history.operations()[0].outcome, Outcome::Fail(Value::Nil));
}

#[test]
fn what_is_no_text_is_refused() {
    let error = parse(&b"{\n \xff"[..], "h", Format::Auto).unwrap_err();
    assert_eq!(error.to_string(), "h:2:2: no UTF-8");
}

#[test]
fn damaged_texts_are_read_or_refused_with_a_place() {
    let edn = "[#t{:index 0 :process 3 :type :invoke :f :txn :value [[:r \"é\\n\" nil] #{1.5}]} #_ \\a ; ö\n]";
    let json = r#"{"time_ns":1,"process":0,"type":"invoke","f":"write","value":{"a":[1.5,"ü"]}}"#;
    let random = SplitMix64::new(5);
    let mut refused = 0;
    for round in 0..20_000 {
        let mut text: Vec<char> = [LOG, KV, edn, json][round % 4].chars().collect();
        for _ in 0..=random.below(3) {
            if text.is_empty() {
                break;
            }
            let place = |more| usize::try_from(random.below(text.len() as u64 + more)).unwrap();
            let (at, from) = (place(1), place(0));
            match random.below(3) {
                0 => text.insert(at, text[from]),
                1 => drop(text.remove(from)),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        for format in Format::ALL {
            if let Err(error) = parse(text.as_bytes(), "h", *format) {
                refused += 1;
                let line = text.split('\n').nth(error.line - 1).unwrap();
                assert!(
                    (1..=line.len() + 1).contains(&error.column),
                    "{error}: {text:?}"
                );
            }
        }
    }
    assert!(refused > 20_000, "{refused}");
}

#[cfg(feature = "json")]
#[test]
fn json_lines_keep_line_numbers() {
    let text = concat!(
        "\n",
        r#"{"time_ns":1,"process":0,"type":"invoke","f":"write","value":{"a":[1.5,true]}}"#,
        "\n\n",
        r#"  {"time_ns":2,"process":1,"type":"invoke","f":"read","value":null}"#,
    );
    let history = read(text, Format::Auto).unwrap();
    let operations = history.operations();
    assert_eq!(operations[0].value.to_string(), r#"{"a" [1.5 true]}"#);
    assert_eq!((operations[0].line, operations[1].line), (2, 4));
    assert_eq!(operations[1].called_ns, 2);
    let error = read("{\"time_ns\":1,\"process\":-1}", Format::Jsonl).unwrap_err();
    assert_eq!(
        error,
        "h:1:24: process: invalid value: integer `-1`, expected u64"
    );
}
