//! What a backend says of a law before it is tried.

use crate::config::{Capabilities, Capability};

/// What a backend declares of what a law is about; for tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// It offers that. If not, the law checks that it is refused.
    pub offered: bool,
    /// What there is to add: the capability, or how far it goes.
    pub note: String,
}

/// Returns what a backend with these capabilities and this largest payload declares of what a law is about.
#[must_use]
pub fn declared(law: &str, capabilities: Capabilities, payload_bytes_max: usize) -> Declared {
    let told = |offered, note: String| Declared { offered, note };
    match law {
        "the_payload_limit_is_exact_and_nothing_is_done_beyond_it" => {
            told(true, format!("payloads up to {payload_bytes_max} bytes"))
        }
        "what_is_not_offered_is_refused_by_name" => {
            let missing = Capability::ALL
                .iter()
                .filter(|one| !capabilities.has(**one));
            let missing: Vec<&str> = missing.map(|one| one.as_str()).collect();
            told(
                true,
                match missing.is_empty() {
                    true => "nothing is missing".to_owned(),
                    false => format!("not offered: {}", missing.join(", ")),
                },
            )
        }
        _ => match capability(law) {
            Some(one) => told(capabilities.has(one), one.as_str().to_owned()),
            None => told(true, String::new()),
        },
    }
}

/// What a law is about, if not every backend can do it.
fn capability(law: &str) -> Option<Capability> {
    Some(match law {
        "a_group_gets_each_message_once" => Capability::Groups,
        "a_message_comes_as_it_was_sent" => Capability::Headers,
        "a_request_that_nobody_hears_is_told_so" => Capability::Reach,
        "lag_is_counted_where_messages_are_missing" => Capability::ExactCapacity,
        "retained_messages_come_first" => Capability::Replay,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_by_name() {
        let offered = Capabilities::of(&[Capability::Groups]);
        let told = |law| {
            let declared = declared(law, offered, 10);
            (declared.offered, declared.note)
        };
        let owned = |offered, note: &str| (offered, note.to_owned());
        assert_eq!(
            told("a_group_gets_each_message_once"),
            owned(true, "queue groups")
        );
        let replay = told("retained_messages_come_first");
        assert_eq!(replay, owned(false, "replay of retained messages"));
        assert_eq!(
            told("nothing_comes_from_before_the_subscription"),
            owned(true, "")
        );
        let limit = told("the_payload_limit_is_exact_and_nothing_is_done_beyond_it");
        assert_eq!(limit, owned(true, "payloads up to 10 bytes"));
        let missing = told("what_is_not_offered_is_refused_by_name").1;
        assert!(
            missing.starts_with("not offered: replay of retained messages, headers"),
            "{missing}"
        );
    }
}
