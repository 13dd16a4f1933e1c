//! The lab page: a run as a space-time diagram, in one HTML file that needs nothing else.
//!
//! [`page`] renders a recorded trace for reports and for a browser without a server; [`served`] is the same page with
//! the controls that run protocols, for a server that answers `api/protocols`, `api/run`, `api/check` and `api/shrink`:
//! [`serve`] (`dpat lab`). The page loads nothing from anywhere: styles and scripts are inside.

mod api;
mod server;

use dpat_sim::Trace;

pub use api::EVENTS_MAX;
pub use server::serve;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// In the order in which they use each other.
const SCRIPTS: [&str; 4] = [
    include_str!("model.js"),
    include_str!("draw.js"),
    include_str!("panel.js"),
    include_str!("controls.js"),
];

/// Renders a page that shows a trace, or that opens one which is dropped on it.
///
/// # Examples
/// ```
/// use dpat_cases::lab::page;
/// use dpat_sim::Trace;
///
/// let html = page(Some(&Trace::default()));
/// assert!(html.starts_with("<!doctype html>"));
/// ```
#[must_use]
pub fn page(trace: Option<&Trace>) -> String {
    render(trace, "no", "")
}

/// Renders the page for the report of a run, which `command` runs again.
#[must_use]
pub fn embedded(trace: &Trace, command: &str) -> String {
    render(Some(trace), "no", command)
}

/// Renders the page for a server that can run protocols; a trace is what it shows first.
#[must_use]
pub fn served(trace: Option<&Trace>) -> String {
    render(trace, "yes", "")
}

fn render(trace: Option<&Trace>, served: &str, command: &str) -> String {
    let json = trace.map_or_else(String::new, |trace| {
        // No text of a trace can end the element that holds it.
        let json = serde_json::to_string(trace);
        json.expect("a trace is strings, numbers and lists")
            .replace('<', "\\u003c")
    });
    let mut html = String::with_capacity(PAGE.len() + STYLE.len() + json.len() + 100_000);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        html.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            break;
        };
        match name {
            "served" => html.push_str(served),
            "command" => html.push_str(&command.replace('&', "&amp;").replace('"', "&quot;")),
            "style" => html.push_str(STYLE),
            "trace" => html.push_str(&json),
            _ => SCRIPTS.iter().for_each(|script| html.push_str(script)),
        }
        rest = after;
    }
    html.push_str(rest);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let html = page(None);
        for foreign in ["{{", "src=\"", "@import", "url(", "https://", "http://"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert_eq!(html.matches("<link").count(), 1);
        assert!(html.contains("<link rel=\"icon\" href=\"data:,\">"));
        assert!(html.contains("data-served=\"no\" data-command=\"\""));
        let embedded = embedded(&Trace::default(), "run \"it\" & look");
        let command = "data-command=\"run &quot;it&quot; &amp; look\"";
        assert!(embedded.contains(command));
        assert!(served(None).contains("data-served=\"yes\""));
        for script in SCRIPTS {
            assert!(html.contains(script));
            assert!(!script.contains("</"), "would end the element");
        }
    }

    #[test]
    fn no_text_of_a_trace_leaves_its_element() {
        let mut trace = Trace::default();
        trace.states.push("</script><!--<script>".to_owned());
        let html = page(Some(&trace));
        assert!(html.contains("\\u003c/script>\\u003c!--\\u003cscript>"));
        let (_, after) = html.split_once("id=\"trace\">").expect("there");
        let (json, _) = after.split_once("</script>").expect("it ends");
        let read: Trace = serde_json::from_str(json).expect("a trace");
        assert_eq!(read, trace);
    }
}
