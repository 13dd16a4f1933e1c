//! Charts as inline SVG: no script, no network, readable in print.

use std::fmt::Write as _;

/// Width of every drawing, so that time axes line up under each other.
pub(crate) const WIDTH: f64 = 960.0;
/// Space for the labels of rows and of the y axis.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 16.0;
const PLOT_HEIGHT: f64 = 190.0;
const TOP: f64 = 12.0;
const AXIS: f64 = 26.0;
const ROW: f64 = 20.0;

/// A line of a chart; `class` picks its colour in the style sheet.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) class: &'static str,
    /// (milliseconds since the start, value)
    pub(crate) points: Vec<(f64, f64)>,
}

/// A stretch of time that is shaded behind the lines.
pub(crate) struct Band {
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    pub(crate) label: String,
}

/// How the y axis grows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Log,
}

/// A row of coloured stretches.
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) spans: Vec<Span>,
}

/// One stretch of a row; with no length it is drawn as a tick.
pub(crate) struct Span {
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    pub(crate) class: &'static str,
    pub(crate) title: String,
}

/// A message between two lanes of a space–time diagram.
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) start_ms: f64,
    pub(crate) end_ms: f64,
    pub(crate) label: String,
    pub(crate) class: &'static str,
}

/// Makes text safe inside markup and attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let lead = value / power;
    let step = if lead <= 1.0 {
        1.0
    } else if lead <= 2.0 {
        2.0
    } else if lead <= 5.0 {
        5.0
    } else {
        10.0
    };
    step * power
}

fn x(ms: f64, end_ms: f64) -> f64 {
    LEFT + (ms / end_ms.max(1.0)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn seconds_axis(out: &mut String, end_ms: f64, top: f64, bottom: f64) {
    let step = nice(end_ms / 1000.0 / 10.0);
    let mut at = 0.0;
    while at * 1000.0 <= end_ms {
        let px = x(at * 1000.0, end_ms);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{px:.1}" x2="{px:.1}" y1="{top:.1}" y2="{bottom:.1}"/><text class="tick" x="{px:.1}" y="{:.1}" text-anchor="middle">{} s</text>"#,
            bottom + 15.0,
            trim(at)
        );
        at += step;
    }
}

/// Prints without trailing zeros.
fn trim(value: f64) -> String {
    let text = if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Draws lines over time.
pub(crate) fn line_chart(
    series: &[Series],
    bands: &[Band],
    end_ms: f64,
    unit: &str,
    scale: Scale,
) -> String {
    let highest = series
        .iter()
        .flat_map(|s| &s.points)
        .map(|p| p.1)
        .fold(0.0, f64::max);
    let top_value = nice(highest.max(1.0));
    let bottom = TOP + PLOT_HEIGHT;
    let y = |value: f64| {
        let share = match scale {
            Scale::Linear => value / top_value,
            Scale::Log => (value.max(1.0)).log10() / top_value.max(10.0).log10(),
        };
        bottom - share.clamp(0.0, 1.0) * PLOT_HEIGHT
    };
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {:.0}" role="img" aria-label="{}">"#,
        bottom + AXIS,
        escape(&series.iter().map(|s| s.name).collect::<Vec<_>>().join(", "))
    );
    for band in bands {
        let (from, to) = (x(band.from_ms, end_ms), x(band.to_ms, end_ms));
        let _ = write!(
            out,
            r#"<rect class="band" x="{from:.1}" y="{TOP}" width="{:.1}" height="{PLOT_HEIGHT}"><title>{}</title></rect>"#,
            (to - from).max(1.0),
            escape(&band.label)
        );
    }
    seconds_axis(&mut out, end_ms, TOP, bottom);
    let ticks: Vec<f64> = match scale {
        Scale::Linear => (0..=4).map(|i| top_value * f64::from(i) / 4.0).collect(),
        Scale::Log => std::iter::successors(Some(1.0), |v| Some(v * 10.0))
            .take_while(|v| *v <= top_value.max(10.0))
            .collect(),
    };
    for tick in ticks {
        let py = y(tick);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{py:.1}" y2="{py:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{} {}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            py + 4.0,
            trim(tick),
            escape(unit)
        );
    }
    for line in series {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(ms, value)| format!("{:.1},{:.1}", x(*ms, end_ms), y(*value)))
            .collect();
        let _ = write!(
            out,
            r#"<polyline class="line {}" points="{}"><title>{}</title></polyline>"#,
            line.class,
            path.join(" "),
            line.name
        );
    }
    out.push_str("</svg>");
    out.push_str(&legend(series.iter().map(|s| (s.name, s.class))));
    out
}

/// Names the colours under a drawing.
pub(crate) fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from(r#"<p class="legend">"#);
    for (name, class) in entries {
        let _ = write!(
            out,
            r#"<span><i class="swatch {class}"></i>{}</span>"#,
            escape(name)
        );
    }
    out.push_str("</p>");
    out
}

/// Draws rows of stretches on the same time axis as the charts.
pub(crate) fn timeline(rows: &[Row], end_ms: f64) -> String {
    #[allow(clippy::cast_precision_loss)] // a few dozen rows
    let bottom = TOP + ROW * rows.len() as f64;
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {:.0}" role="img" aria-label="timeline">"#,
        bottom + AXIS
    );
    seconds_axis(&mut out, end_ms, TOP, bottom);
    let mut top = TOP;
    for row in rows {
        let _ = write!(
            out,
            r#"<text class="row" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            top + 14.0,
            escape(&row.label)
        );
        for span in &row.spans {
            let (from, to) = (x(span.from_ms, end_ms), x(span.to_ms, end_ms));
            let _ = write!(
                out,
                r#"<rect class="{}" x="{from:.1}" y="{:.1}" width="{:.1}" height="{:.1}" rx="1.5"><title>{}</title></rect>"#,
                span.class,
                top + 3.0,
                (to - from).max(1.5),
                ROW - 6.0,
                escape(&span.title)
            );
        }
        top += ROW;
    }
    out.push_str("</svg>");
    out
}

/// Draws a space–time diagram: a lane for each node, time downwards.
///
/// Gaps in which nothing happens are folded, so that a wait of seconds does not hide the milliseconds around it.
/// `marks_ms` are the instants that get a label, in order.
pub(crate) fn space_time(lanes: &[String], arrows: &[Arrow], marks_ms: &[f64]) -> String {
    const STEP: f64 = 30.0;
    let mut instants: Vec<f64> = arrows.iter().flat_map(|a| [a.start_ms, a.end_ms]).collect();
    instants.sort_by(f64::total_cmp);
    instants.dedup_by(|a, b| (*a - *b).abs() < 0.000_5);
    #[allow(clippy::cast_precision_loss)] // at most a few hundred
    let y_of = |ms: f64| {
        let index = instants.partition_point(|t| *t < ms - 0.000_25);
        44.0 + index as f64 * STEP * 0.55
    };
    #[allow(clippy::cast_precision_loss)]
    let lane_x =
        |lane: usize| LEFT * 0.7 + (WIDTH - LEFT) * (lane as f64 + 0.5) / lanes.len().max(1) as f64;
    let bottom = y_of(f64::MAX) + 8.0;
    let mut out = format!(
        r#"<svg viewBox="0 0 {WIDTH} {:.0}" role="img" aria-label="space-time diagram">"#,
        bottom + 8.0
    );
    out.push_str(
        r#"<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" class="tip"/></marker></defs>"#,
    );
    for (index, lane) in lanes.iter().enumerate() {
        let px = lane_x(index);
        let _ = write!(
            out,
            r#"<text class="lane" x="{px:.1}" y="20" text-anchor="middle">{}</text><line class="lane" x1="{px:.1}" x2="{px:.1}" y1="30" y2="{bottom:.1}"/>"#,
            escape(lane)
        );
    }
    let mut last_tick = f64::MIN;
    for instant in marks_ms {
        let py = y_of(*instant);
        if py - last_tick >= 16.0 {
            let _ = write!(
                out,
                r#"<text class="tick" x="4" y="{:.1}">{} ms</text>"#,
                py + 4.0,
                trim(*instant)
            );
            last_tick = py;
        }
    }
    for arrow in arrows {
        let (x1, y1, x2, y2) = (
            lane_x(arrow.from),
            y_of(arrow.start_ms),
            lane_x(arrow.to),
            y_of(arrow.end_ms),
        );
        if arrow.from == arrow.to {
            let _ = write!(
                out,
                r#"<rect class="local {}" x="{:.1}" y="{y1:.1}" width="10" height="{:.1}"/><text class="msg" x="{:.1}" y="{:.1}">{}</text>"#,
                arrow.class,
                x1 - 5.0,
                (y2 - y1).max(4.0),
                x1 + 9.0,
                y1 + 10.0,
                escape(&arrow.label)
            );
        } else {
            let _ = write!(
                out,
                r#"<line class="arrow {}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" marker-end="url(#tip)"/><text class="msg" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                arrow.class,
                x1.midpoint(x2),
                y1.midpoint(y2) - 4.0,
                escape(&arrow.label)
            );
        }
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_labels_is_escaped() {
        let row = Row {
            label: "<script>".to_owned(),
            spans: vec![Span {
                from_ms: 0.0,
                to_ms: 1.0,
                class: "f-kill",
                title: "a\"b".to_owned(),
            }],
        };
        let svg = timeline(&[row], 10.0);
        assert!(!svg.contains("<script>"));
        assert!(svg.contains("&lt;script&gt;") && svg.contains("a&quot;b"));
    }

    #[test]
    fn an_empty_run_still_draws_axes() {
        let svg = line_chart(
            &[Series {
                name: "n",
                class: "a",
                points: vec![],
            }],
            &[],
            0.0,
            "",
            Scale::Log,
        );
        assert!(svg.contains("0 s") && svg.ends_with("</p>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn axis_ends_are_round() {
        assert_eq!(
            [nice(0.0), nice(3.2), nice(97.0), nice(1_200.0)],
            [1.0, 5.0, 100.0, 2_000.0]
        );
    }

    #[test]
    fn a_long_wait_is_folded_in_the_space_time_diagram() {
        let arrow = |start_ms, end_ms| Arrow {
            from: 0,
            to: 1,
            start_ms,
            end_ms,
            label: "m".to_owned(),
            class: "ok",
        };
        let near = space_time(
            &["a".to_owned(), "b".to_owned()],
            &[arrow(0.0, 1.0), arrow(2.0, 3.0)],
            &[],
        );
        let far = space_time(
            &["a".to_owned(), "b".to_owned()],
            &[arrow(0.0, 1.0), arrow(9_000.0, 9_001.0)],
            &[],
        );
        let height = |svg: &str| svg.split('"').nth(1).map(str::to_owned);
        assert_eq!(height(&near), height(&far));
    }
}
