//! Which channel or pattern a filter needs.

use dpat_pubsub::Filter;

/// What a connection subscribes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// One channel.
    Channel(String),
    /// Every channel that a pattern matches: what the filter does, and more.
    Pattern(String),
}

impl Key {
    pub(super) fn of(prefix: &str, filter: &Filter) -> Self {
        if filter.is_literal() {
            return Self::Channel(format!("{prefix}{}", filter.as_str()));
        }
        let mut pattern = escaped(prefix);
        for (index, token) in filter.as_str().split('.').enumerate() {
            if index > 0 {
                pattern.push('.');
            }
            // A star of Redis matches any text, dots included.
            match token {
                "*" | ">" => pattern.push('*'),
                token => pattern.push_str(&escaped(token)),
            }
        }
        Self::Pattern(pattern)
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_no_less_than_filters_and_nothing_is_special_in_a_token() {
        for (filter, expected) in [
            ("a.b", Key::Channel("p:a.b".to_owned())),
            ("a[b].c?", Key::Channel("p:a[b].c?".to_owned())),
            ("a.*", Key::Pattern("p:a.*".to_owned())),
            ("a.>", Key::Pattern("p:a.*".to_owned())),
            ("*.b.>", Key::Pattern("p:*.b.*".to_owned())),
            ("a[b]\\.*", Key::Pattern("p:a\\[b\\]\\\\.*".to_owned())),
            ("c?.>", Key::Pattern("p:c\\?.*".to_owned())),
        ] {
            assert_eq!(
                Key::of("p:", &filter.parse().unwrap()),
                expected,
                "{filter}"
            );
        }
        assert_eq!(escaped("a?:"), "a\\?:");
    }
}
