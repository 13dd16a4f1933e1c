//! Filters in a trie by their tokens.

mod hash;

use crate::subject::{Filter, Subject, Token};
use hash::Seeded;
use std::collections::HashMap;

/// Values by filter, found by a subject that the filters match.
///
/// Finding costs one step for each token of the subject and each branch that wildcards open there, whatever the number of
/// filters. A filter may stand for any number of values.
///
/// # Examples
/// ```
/// use dpat_pubsub::SubjectTrie;
///
/// let mut trie = SubjectTrie::new();
/// trie.insert(&"orders.*.created".parse()?, "mail");
/// trie.insert(&"orders.>".parse()?, "audit");
/// let mut found = Vec::new();
/// trie.for_each_match(&"orders.eu.created".parse()?, |value| found.push(*value));
/// found.sort();
/// assert_eq!(found, ["audit", "mail"]);
/// # Ok::<(), dpat_pubsub::SubjectError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SubjectTrie<V> {
    root: Node<V>,
    seed: Seeded,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<V> {
    literals: HashMap<Box<str>, Node<V>, Seeded>,
    /// Below a `*`.
    one: Option<Box<Node<V>>>,
    /// Values of filters that end here.
    here: Vec<V>,
    /// Values of filters that end here with `>`.
    rest: Vec<V>,
}

impl<V> Default for SubjectTrie<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> SubjectTrie<V> {
    /// Makes an empty trie.
    #[must_use]
    pub fn new() -> Self {
        let seed = Seeded::random();
        Self {
            root: Node::new(seed),
            seed,
            len: 0,
        }
    }

    /// Returns the number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Says whether there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value under a filter, beside those that are there.
    pub fn insert(&mut self, filter: &Filter, value: V) {
        self.root.insert(self.seed, filter.tokens(), value);
        self.len += 1;
    }

    /// Removes the first value under this very filter that `is_it` accepts.
    pub fn remove(&mut self, filter: &Filter, is_it: impl FnMut(&V) -> bool) -> Option<V> {
        let tokens: Vec<_> = filter.tokens().collect();
        let removed = self.root.remove(&tokens, is_it)?;
        self.len -= 1;
        Some(removed)
    }

    /// Returns the values under this very filter, in the order of their insertion.
    #[must_use]
    pub fn values(&self, filter: &Filter) -> &[V] {
        let mut node = &self.root;
        for token in filter.tokens() {
            let next = match token {
                Token::Literal(text) => node.literals.get(text),
                Token::One => node.one.as_deref(),
                Token::Rest => return &node.rest,
            };
            let Some(next) = next else { return &[] };
            node = next;
        }
        &node.here
    }

    /// Calls `see` with the values of all filters that match the subject, in no particular order.
    pub fn for_each_match<'a>(&'a self, subject: &Subject, mut see: impl FnMut(&'a V)) {
        self.root.find(subject, &mut see);
    }

    /// Calls `see` with every value.
    pub fn for_each<'a>(&'a self, mut see: impl FnMut(&'a V)) {
        self.root.each(&mut see);
    }
}

impl<V> Node<V> {
    fn new(seed: Seeded) -> Self {
        Self {
            literals: HashMap::with_hasher(seed),
            one: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.rest.is_empty()
            && self.one.is_none()
            && self.literals.is_empty()
    }

    fn insert<'f>(&mut self, seed: Seeded, tokens: impl Iterator<Item = Token<'f>>, value: V) {
        let mut node = self;
        for token in tokens {
            node = match token {
                Token::Literal(text) => node
                    .literals
                    .entry(text.into())
                    .or_insert_with(|| Self::new(seed)),
                Token::One => node.one.get_or_insert_with(|| Box::new(Self::new(seed))),
                Token::Rest => {
                    node.rest.push(value);
                    return;
                }
            };
        }
        node.here.push(value);
    }

    /// As deep as the filter has tokens, of which the limit is small.
    fn remove(&mut self, tokens: &[Token<'_>], is_it: impl FnMut(&V) -> bool) -> Option<V> {
        let (first, others) = match tokens {
            [first, others @ ..] => (first, others),
            [] => return take(&mut self.here, is_it),
        };
        match first {
            Token::Rest => take(&mut self.rest, is_it),
            Token::Literal(text) => {
                let child = self.literals.get_mut(*text)?;
                let removed = child.remove(others, is_it);
                if child.is_empty() {
                    self.literals.remove(*text);
                    if self.literals.is_empty() {
                        self.literals.shrink_to_fit();
                    }
                }
                removed
            }
            Token::One => {
                let child = self.one.as_mut()?;
                let removed = child.remove(others, is_it);
                if child.is_empty() {
                    self.one = None;
                }
                removed
            }
        }
    }

    /// `rest` is what is left of the subject, at least one token.
    fn find<'a>(&'a self, rest: &str, see: &mut impl FnMut(&'a V)) {
        self.rest.iter().for_each(&mut *see);
        let (token, rest) = first_token(rest);
        for child in [self.literals.get(token), self.one.as_deref()] {
            match (child, rest) {
                (Some(child), Some(rest)) => child.find(rest, see),
                (Some(child), None) => child.here.iter().for_each(&mut *see),
                (None, _) => {}
            }
        }
    }

    fn each<'a>(&'a self, see: &mut impl FnMut(&'a V)) {
        self.here.iter().chain(&self.rest).for_each(&mut *see);
        if let Some(one) = &self.one {
            one.each(see);
        }
        self.literals.values().for_each(|child| child.each(see));
    }
}

/// Tokens are short: looking at each byte is faster than calling a search.
#[inline]
fn first_token(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == b'.') {
        Some(dot) => (&text[..dot], Some(&text[dot + 1..])),
        None => (text, None),
    }
}

fn take<V>(values: &mut Vec<V>, is_it: impl FnMut(&V) -> bool) -> Option<V> {
    let at = values.iter().position(is_it)?;
    Some(values.remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
    use proptest::sample::select;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    fn found(trie: &SubjectTrie<u32>, subject: &str) -> Vec<u32> {
        let mut found = Vec::new();
        trie.for_each_match(&subject.parse().unwrap(), |value| found.push(*value));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_filter_has_any_number_of_values() {
        let mut trie = SubjectTrie::new();
        for value in [3, 1, 2] {
            trie.insert(&filter("a.>"), value);
        }
        assert_eq!(trie.values(&filter("a.>")), [3, 1, 2]);
        assert_eq!(trie.remove(&filter("a.>"), |value| *value == 1), Some(1));
        assert_eq!(trie.remove(&filter("a.>"), |value| *value == 1), None);
        assert_eq!(trie.remove(&filter("a.*"), |_| true), None);
        assert_eq!((found(&trie, "a.b"), trie.len()), (vec![2, 3], 2));
        let mut all = Vec::new();
        trie.for_each(|value| all.push(*value));
        assert_eq!(all, [3, 2]);
    }

    #[test]
    fn nothing_is_left_of_removed_filters() {
        let mut trie = SubjectTrie::new();
        let filters: Vec<_> = (0..100)
            .flat_map(|n| [format!("a.{n}.b"), format!("a.*.{n}.>"), format!("{n}.>")])
            .map(|text| filter(&text))
            .collect();
        for (value, filter) in (0..).zip(&filters) {
            trie.insert(filter, value);
        }
        assert_eq!(found(&trie, "a.7.b").len(), 1);
        for filter in &filters {
            assert!(trie.remove(filter, |_| true).is_some());
        }
        assert!(trie.is_empty() && trie.root.is_empty());
        assert_eq!(trie.root.literals.capacity(), 0);
    }

    /// Few tokens, so that filters and subjects meet.
    fn tokens(last_rest: bool) -> impl Strategy<Value = String> {
        let token = select(vec!["a", "b", "c", "dd", "*", "e", "f", "g", "h", "i", "j"]);
        let rest = if last_rest {
            prop_oneof![Just(""), Just(".>")].boxed()
        } else {
            Just("").boxed()
        };
        (vec(token, 1..4), rest).prop_map(|(tokens, rest)| tokens.join(".") + rest)
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_a_linear_scan_finds(
            filters in vec(tokens(true), 0..60),
            removed in vec(0_usize..60, 0..20),
            subjects in vec(tokens(false), 1..20),
        ) {
            let mut trie = SubjectTrie::new();
            let mut list = Vec::new();
            for (value, text) in (0..).zip(&filters) {
                trie.insert(&filter(text), value);
                list.push((filter(text), value));
            }
            for at in removed {
                if at < list.len() {
                    let (filter, value) = list.remove(at);
                    assert_eq!(trie.remove(&filter, |it| *it == value), Some(value));
                }
            }
            assert_eq!(trie.len(), list.len());
            for subject in subjects.iter().map(|text| text.replace('*', "k")) {
                let subject: Subject = subject.parse().unwrap();
                let mut wanted: Vec<u32> =
                    list.iter().filter(|(f, _)| f.matches(&subject)).map(|(_, v)| *v).collect();
                wanted.sort_unstable();
                assert_eq!(found(&trie, &subject), wanted, "{subject}");
            }
        }
    }
}
