//! CAP: the same partition, and two registers.

use dpat_cases::protocols::cap::show;

#[test]
fn pitfall_9_3_each_register_keeps_one_of_consistency_and_availability() {
    for seed in 0..20 {
        let cap = show(seed).unwrap();
        assert!(cap.holds(), "{cap}");
        let (cp, ap) = (&cap.cp, &cap.ap);
        assert_eq!((cp.linearizable, &cp.blocked), ("ok", &None), "{cap}");
        assert_eq!(cp.minority.answered, 0, "{cap}");
        assert!(cp.minority.asked > 0 && cp.majority.answered > 0, "{cap}");
        assert_eq!(ap.linearizable, "violation", "{cap}");
        assert!(ap.blocked.is_some(), "{cap}");
        assert_eq!(ap.minority.answered, ap.minority.asked, "{cap}");
        assert_eq!(ap.majority.answered, ap.majority.asked, "{cap}");
        assert!(ap.minority.asked > 0 && ap.majority.asked > 0, "{cap}");
        assert!(cp.converged && ap.converged, "{cap}");
    }
}

#[test]
fn the_majority_is_served_for_most_of_the_partition() {
    for seed in 0..20 {
        let cap = show(seed).unwrap();
        let side = cap.cp.majority;
        // Less the time until it has a primary of its own.
        assert!(side.answered * 2 > side.asked, "{cap}");
    }
}

#[test]
fn the_same_seed_shows_the_same() {
    let [once, again] = [show(3), show(3)].map(|cap| serde_json::to_string(&cap.unwrap()));
    let text = once.unwrap();
    assert_eq!(text, again.unwrap());
    for field in [
        r#""linearizable":"violation""#,
        r#""minority":{"asked":"#,
        r#""blocked":{"index":"#,
    ] {
        assert!(text.contains(field), "{text}");
    }
    let table = show(3).unwrap().to_string();
    assert!(table.contains("register-cp"), "{table}");
    assert!(table.contains("answered at n0"), "{table}");
}
