//! Queues with receipts: a run that keeps every rule, and one that breaks it for each.

use dpat_check::{Format, Limits, Model, Violation, check, parse};

/// Makes a history of `process type f value` lines; the time is ten times the line.
fn check_lines(lines: &[&str]) -> Option<Violation> {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (process, kind, f, value) = (word(), word(), word(), word());
        let time = index * 10;
        text +=
            &format!("{{:process {process} :type :{kind} :f :{f} :value {value} :time {time}}}\n");
    }
    let history = parse(text.as_bytes(), "h", Format::JepsenEdn)
        .unwrap()
        .history;
    let verdict = check(&history, Model::Delivery, &Limits::default()).unwrap();
    verdict.violation().cloned()
}

fn rule(lines: &[&str]) -> Option<&'static str> {
    check_lines(lines).and_then(|violation| violation.rule)
}

const SEND: [&str; 2] = ["0 invoke send {:id 1}", "0 ok send nil"];

fn after_send(lines: &[&str]) -> Option<&'static str> {
    rule(&[&SEND[..], lines].concat())
}

#[test]
fn a_run_that_keeps_the_rules_is_ok() {
    let lines = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1 :until_ns 100}",
        "1 invoke nack {:receipt :a :after_ns 60}",
        "1 ok nack nil",
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :b :count 2 :until_ns 200}",
        "1 invoke ack {:receipt :b}",
        "1 ok ack nil",
        "1 invoke receive nil",
        "1 ok receive nil",
        "1 invoke drain nil",
        "1 ok drain []",
    ];
    assert_eq!(after_send(&lines), None);
}

#[test]
fn what_nobody_sent_is_found() {
    let receive = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1}",
    ];
    assert_eq!(rule(&receive), Some("phantom"));
    let failed = ["0 invoke send {:id 1}", "0 fail send nil"];
    assert_eq!(rule(&[failed, receive].concat()), Some("phantom"));
    let unknown = ["0 invoke send {:id 1}", "0 info send nil"];
    assert_eq!(rule(&[unknown, receive].concat()), None);
}

#[test]
fn what_was_acknowledged_is_not_delivered_again() {
    let lines = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1}",
        "1 invoke ack {:receipt :a}",
        "1 ok ack nil",
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :b :count 2}",
    ];
    assert_eq!(after_send(&lines), Some("again"));
    let mut unknown = lines;
    unknown[3] = "1 info ack nil";
    unknown[4] = "2 invoke receive nil";
    unknown[5] = "2 ok receive {:id 1 :receipt :b :count 2}";
    assert_eq!(after_send(&unknown), None);
}

#[test]
fn two_live_receipts_are_found() {
    let lines = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1 :until_ns 60}",
        "2 invoke receive nil",
        "2 ok receive {:id 1 :receipt :b :count 2}",
    ];
    assert_eq!(after_send(&lines), Some("two-live"));
    let mut expired = lines;
    expired[1] = "1 ok receive {:id 1 :receipt :a :count 1 :until_ns 50}";
    assert_eq!(after_send(&expired), None);
    let extended = [
        expired[0],
        expired[1],
        "1 invoke extend {:receipt :a :until_ns 500}",
        "1 ok extend nil",
        expired[2],
        expired[3],
    ];
    assert_eq!(after_send(&extended), Some("two-live"));
}

#[test]
fn early_deliveries_are_found() {
    let delayed = ["0 invoke send {:id 1 :after_ns 31}", "0 ok send nil"];
    let receive = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1}",
    ];
    assert_eq!(rule(&[delayed, receive].concat()), Some("early"));
    let due = ["0 invoke send {:id 1 :after_ns 30}", "0 ok send nil"];
    assert_eq!(rule(&[due, receive].concat()), None);
    let retried = [
        receive[0],
        receive[1],
        "1 invoke nack {:receipt :a :after_ns 90}",
        "1 ok nack nil",
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :b :count 2}",
    ];
    assert_eq!(after_send(&retried), Some("early"));
}

#[test]
fn a_count_that_does_not_rise_is_found() {
    let lines = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1 :until_ns 30}",
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :b :count 1}",
    ];
    assert_eq!(after_send(&lines), Some("count"));
}

#[test]
fn order_within_a_group_is_checked() {
    let lines = [
        "0 invoke send {:id 1 :group :g}",
        "0 ok send nil",
        "0 invoke send {:id 2 :group :g}",
        "0 ok send nil",
        "1 invoke receive nil",
        "1 ok receive {:id 2 :receipt :a :count 1}",
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :b :count 1}",
    ];
    let violation = check_lines(&lines).unwrap();
    assert_eq!((violation.rule, violation.blocked), (Some("order"), 2));
    let other = lines.map(|line| line.replace("{:id 2 :group :g}", "{:id 2 :group :h}"));
    assert_eq!(rule(&other.each_ref().map(|line| &line[..])), None);
}

#[test]
fn what_was_sent_is_settled_or_still_there() {
    let drain = |left| ["1 invoke drain nil", left];
    assert_eq!(after_send(&drain("1 ok drain []")), Some("lost"));
    assert_eq!(after_send(&drain("1 ok drain [1]")), None);
    let claimed = [
        "1 invoke receive nil",
        "1 ok receive {:id 1 :receipt :a :count 1}",
        "1 invoke nack {:receipt :a}",
        "1 ok nack nil",
        "1 invoke drain nil",
        "1 ok drain []",
    ];
    assert_eq!(after_send(&claimed), Some("lost"));
}
