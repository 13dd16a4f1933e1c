//! The page of the guide: one section a pattern; those that were not measured stay.

use crate::stats::EQUAL_UP_TO;

/// Returns the page: the new sections in place of the old ones of `previous`, in the order of `patterns`.
#[must_use]
pub fn page(previous: &str, patterns: &[&str], sections: &[(&str, String)]) -> String {
    let mut text = format!(
        "# Benchmarks of engines\n\n\
         Written by `cargo xtask bench engines`; edits by hand are lost. Each engine beside its bare client, and \
         beside other queues on the same PostgreSQL; the embedded queues beside them, so that it can be seen what the move \
         costs. Of the bare clients, *same work* gives the same guarantees by the same statements or scripts, one call each, \
         written by hand: **the target of at most 1.1 is measured against these rows**. *plain* and *look first* give fewer \
         guarantees, and say what the guarantees cost. Servers and clients share one machine, by the loopback interface, with durable settings \
         (`fsync=on`, `synchronous_commit=on`; `appendfsync always`; JetStream as its version allows: before 2.11 it does \
         not sync each message). Every contender of a line ran in the same process and run, in turns, on one runtime; \
         versions are those of `benches/engines/Cargo.lock`. Times are wall time per operation; the 99th percentile is \
         that of single operations. *ratio* is ours / peer's: below 1 ours needs less, up to {EQUAL_UP_TO} counts as \
         equal. The numbers hold for the machine named in the section; compare ratios.\n"
    );
    for pattern in patterns {
        let new = sections.iter().find(|(name, _)| name == pattern);
        let kept = new
            .map(|(_, section)| section.clone())
            .or_else(|| old(previous, pattern));
        if let Some(section) = kept {
            text.push('\n');
            text.push_str(section.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Returns the section of a pattern as it stands.
fn old(page: &str, pattern: &str) -> Option<String> {
    let start = page.find(&format!("<!-- section: {pattern} -->"))?;
    let rest = &page[start..];
    let end = rest[1..]
        .find("<!-- section: ")
        .map_or(rest.len(), |at| at + 1);
    Some(rest[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_run_keeps_the_other_sections() {
        let new = |name: &'static str, text: &str| {
            (name, format!("<!-- section: {name} -->\n\n## {text}\n"))
        };
        let patterns = ["queue", "outbox"];
        let first = page("", &patterns, &[new("outbox", "one"), new("queue", "two")]);
        assert!(first.find("## two") < first.find("## one"));
        let second = page(&first, &patterns, &[new("queue", "three")]);
        assert!(second.contains("## three") && second.contains("## one"));
        assert!(!second.contains("## two"));
        assert_eq!(page(&second, &patterns, &[]), second);
    }
}
