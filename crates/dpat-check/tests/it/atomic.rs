//! Atomicity: each rule by a history that breaks it, beside one that does not.

use dpat_check::{Format, Protocol, check_atomicity, parse};

/// Makes a history of `process f value` calls, one after the other; `?` at the end for an unknown outcome.
fn rule(protocol: Protocol, calls: &[&str]) -> Option<&'static str> {
    let mut text = String::new();
    for call in calls {
        let (call, end) = match call.strip_suffix('?') {
            Some(call) => (call, "info"),
            None => (*call, "ok"),
        };
        let mut words = call.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (process, f, value) = (word(), word(), word());
        for kind in ["invoke", end] {
            text +=
                &format!("{{:process {process} :type :{kind} :f :{f} :value {{:tx 1 {value}}}}}\n");
        }
    }
    let history = parse(text.as_bytes(), "h", Format::JepsenEdn)
        .unwrap()
        .history;
    let verdict = check_atomicity(&history, protocol).unwrap();
    verdict.violation().and_then(|violation| violation.rule)
}

#[test]
fn a_commit_has_one_outcome() {
    let commit = |calls: &[&str]| rule(Protocol::Commit, calls);
    let votes = ["0 vote :yes true", "1 vote :yes true"];
    assert_eq!(
        commit(
            &[
                &votes[..],
                &["0 decide :commit true", "1 decide :commit true"]
            ]
            .concat()
        ),
        None
    );
    assert_eq!(
        commit(&[&votes[..], &["0 decide :commit false"]].concat()),
        None
    );
    let split = ["0 decide :commit true", "1 decide :commit false"];
    assert_eq!(commit(&[&votes[..], &split].concat()), Some("split"));
    let unknown = ["0 decide :commit true", "1 decide :commit false?"];
    assert_eq!(commit(&[&votes[..], &unknown].concat()), None);
    let against = [
        "0 vote :yes true",
        "1 vote :yes false",
        "0 decide :commit true",
    ];
    assert_eq!(commit(&against), Some("against-vote"));
}

#[test]
fn reservations_are_all_confirmed_or_all_cancelled() {
    let tcc = |calls: &[&str]| rule(Protocol::Tcc, calls);
    let tried = ["0 try :branch :a", "1 try :branch :b"];
    let with = |calls: &[&'static str]| tcc(&[&tried[..], calls].concat());
    assert_eq!(
        with(&["0 confirm :branch :a", "1 confirm :branch :b"]),
        None
    );
    assert_eq!(
        with(&["0 confirm :branch :a", "1 cancel :branch :b"]),
        Some("split")
    );
    // A cancel of what was never tried is fine; a try after it is not.
    assert_eq!(tcc(&["0 cancel :branch :a"]), None);
    assert_eq!(
        tcc(&["0 cancel :branch :a", "1 try :branch :a"]),
        Some("hanging")
    );
    assert_eq!(tcc(&["0 confirm :branch :a"]), Some("untried"));
}

#[test]
fn sagas_are_undone_in_reverse() {
    let saga = |calls: &[&str]| rule(Protocol::Saga, calls);
    let steps = ["0 step :step :a", "0 step :step :b :after [:a]"];
    let with = |calls: &[&'static str]| saga(&[&steps[..], calls].concat());
    assert_eq!(with(&["0 end :done true"]), None);
    assert_eq!(
        with(&["0 undo :step :b", "0 undo :step :a", "0 end :done false"]),
        None
    );
    assert_eq!(
        with(&["0 undo :step :b?", "1 undo :step :a", "1 end :done false"]),
        None
    );
    assert_eq!(
        with(&["0 undo :step :a", "0 undo :step :b", "0 end :done false"]),
        Some("order")
    );
    assert_eq!(
        with(&["0 undo :step :b", "0 end :done false"]),
        Some("left")
    );
    assert_eq!(
        with(&["0 undo :step :b", "0 end :done true"]),
        Some("undone")
    );
    assert_eq!(
        saga(&["0 undo :step :a", "0 step :step :a"]),
        Some("untried")
    );
    assert_eq!(
        saga(&["0 step :step :b :after [:a]", "0 step :step :a"]),
        Some("order")
    );
}

#[test]
fn what_the_protocol_lacks_is_refused() {
    let refused = |text: &str| {
        let history = parse(text.as_bytes(), "h", Format::JepsenEdn)
            .unwrap()
            .history;
        check_atomicity(&history, Protocol::Commit)
            .unwrap_err()
            .in_file("h")
            .to_string()
    };
    assert_eq!(
        refused("{:process 0 :type :invoke :f :try}"),
        "h:1:1: f: `try` is none of vote, decide"
    );
    assert_eq!(
        refused("{:process 0 :type :invoke :f :vote :value {:tx 1}}"),
        "h:1:1: value: a vote has {tx, yes}"
    );
    assert_eq!(
        refused("{:process 0 :type :invoke :f :vote :value {:tx 1 :yes 1}}"),
        "h:1:1: value: yes is true or false"
    );
}
