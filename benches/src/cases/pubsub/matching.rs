//! Who subscribes to a subject.

use crate::harness::{Case, Contender};
use dpat_pubsub::{Filter, Subject, SubjectTrie};
use std::sync::Arc;

/// Filters in NATS's words: literal ones, a tenth with `*`, a tenth with `>`, over a hundred first tokens.
fn filters(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| {
        let (region, device) = (n % 100, n / 10);
        match n % 10 {
            0 => format!("sensor{region}.*.temperature"),
            1 => format!("sensor{region}.device{device}.>"),
            _ => format!("sensor{region}.device{device}.temperature"),
        }
    })
}

const SUBJECTS: usize = 64;

fn subjects(count: usize) -> Vec<String> {
    let spread = |n: usize| n * 7919 % count.max(100);
    (0..SUBJECTS)
        .map(spread)
        .map(|n| format!("sensor{}.device{}.temperature", n % 100, n / 10))
        .collect()
}

fn as_mqtt(text: &str) -> String {
    text.replace('.', "/").replace('*', "+").replace('>', "#")
}

pub(super) fn case(count: usize) -> Case {
    super::case(
        "match a subject",
        "Finds the values of all filters that match one of 64 subjects of three tokens, parsed before; a tenth of the \
         filters has a single-token wildcard, a tenth one for the rest. Ours calls a closure, the peers return a \
         vector. The linear scan is ours.",
        trie(count),
        vec![scan(count), quill(count), topic_tree(count)],
    )
    .param("filters", count)
}

fn trie(count: usize) -> Contender {
    let mut trie = SubjectTrie::new();
    for (n, filter) in filters(count).enumerate() {
        trie.insert(&filter.parse().expect("a filter"), Arc::new(n));
    }
    let subjects: Vec<Subject> = subjects(count)
        .iter()
        .map(|subject| subject.parse().expect("a subject"))
        .collect();
    let mut at = 0;
    Contender::single("dpat-pubsub", move || {
        at = (at + 1) % SUBJECTS;
        let mut found = Vec::new();
        trie.for_each_match(&subjects[at], |value| found.push(Arc::clone(value)));
        found.len()
    })
}

fn scan(count: usize) -> Contender {
    let list: Vec<(Filter, Arc<usize>)> = filters(count)
        .enumerate()
        .map(|(n, filter)| (filter.parse().expect("a filter"), Arc::new(n)))
        .collect();
    let subjects: Vec<Subject> = subjects(count)
        .iter()
        .map(|subject| subject.parse().expect("a subject"))
        .collect();
    let mut at = 0;
    Contender::single("dpat-pubsub@linear-scan", move || {
        at = (at + 1) % SUBJECTS;
        let matching = list
            .iter()
            .filter(|(filter, _)| filter.matches(&subjects[at]));
        let found: Vec<_> = matching.map(|(_, value)| Arc::clone(value)).collect();
        found.len()
    })
}

fn quill(count: usize) -> Contender {
    let registry = quill::Registry::new();
    for (n, filter) in filters(count).enumerate() {
        let pattern = quill::Pattern::parse(&as_mqtt(&filter)).expect("a filter");
        registry.subscribe(pattern, Arc::new(n));
    }
    let subjects: Vec<_> = subjects(count)
        .iter()
        .map(|subject| quill::Topic::parse(&as_mqtt(subject)).expect("a subject"))
        .collect();
    let mut at = 0;
    Contender::single("quill-pubsub", move || {
        at = (at + 1) % SUBJECTS;
        registry.matching(&subjects[at]).len()
    })
}

fn topic_tree(count: usize) -> Contender {
    use mqtt_topic_tree::{QoS, TopicFilter, TopicName, TopicTree};
    let mut tree = TopicTree::default();
    for (n, filter) in (0..).zip(filters(count)) {
        let filter = TopicFilter::try_from(as_mqtt(&filter));
        let filter = filter.unwrap_or_else(|_| panic!("a filter"));
        tree.add_subscription(filter, n, QoS::Level0);
    }
    let subjects: Vec<_> = subjects(count)
        .iter()
        .map(|subject| TopicName::try_from(as_mqtt(subject)))
        .map(|subject| subject.unwrap_or_else(|_| panic!("a subject")))
        .collect();
    let mut at = 0;
    Contender::single("mqtt_topic_tree", move || {
        at = (at + 1) % SUBJECTS;
        tree.get_subscriptions(&subjects[at]).len()
    })
}
