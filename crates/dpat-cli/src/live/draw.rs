//! How the board looks.

use dpat_cases::shop::record::BreakerSample;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline};

use super::Board;

/// Draws everything.
pub(super) fn board(board: &Board, frame: &mut Frame<'_>) {
    let [title, progress, middle, faults, note] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(9),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [numbers, rate, breakers] = Layout::horizontal([
        Constraint::Length(28),
        Constraint::Min(20),
        Constraint::Length(36),
    ])
    .areas(middle);

    draw_title(board, frame, title);
    draw_progress(board, frame, progress);
    draw_numbers(board, frame, numbers);
    draw_rate(board, frame, rate);
    draw_breakers(board, frame, breakers);
    let [faults, notices] =
        Layout::horizontal([Constraint::Min(28), Constraint::Length(44)]).areas(faults);
    draw_faults(board, frame, faults);
    draw_notices(board, frame, notices);
    frame.render_widget(Paragraph::new(balance(board)), note);
}

fn colour(board: &Board, colour: Color) -> Style {
    if board.colour {
        Style::new().fg(colour)
    } else {
        Style::new()
    }
}

fn draw_title(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let mut text = format!(
        "dpat shop   seed {}   {} orders/s",
        board.config.seed, board.config.rate
    );
    for pattern in &board.config.without {
        text.push_str("   without ");
        text.push_str(pattern.name());
    }
    let style = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(Span::styled(text, style)), area);
}

fn draw_progress(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let sample = &board.sample;
    let done = sample.completed + sample.compensated;
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let share = done as f64 / board.config.orders.max(1) as f64;
    let gauge = Gauge::default()
        .gauge_style(colour(board, Color::Green))
        .ratio(share.clamp(0.0, 1.0))
        .label(format!("{done} of {} orders ended", board.config.orders));
    frame.render_widget(gauge, area);
}

fn draw_numbers(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let sample = &board.sample;
    let row = |name: &str, value: String| Line::from(format!("{name:<14}{value:>11}"));
    let rows = vec![
        row("accepted", sample.accepted.to_string()),
        row("completed", sample.completed.to_string()),
        row("compensated", sample.compensated.to_string()),
        row("in flight", sample.in_flight.to_string()),
        row("outbox", sample.outbox.to_string()),
        row("p50", format!("{:.1} ms", sample.p50_ms)),
        row("p99", format!("{:.1} ms", sample.p99_ms)),
    ];
    frame.render_widget(
        Paragraph::new(rows).block(Block::bordered().title("orders")),
        area,
    );
}

fn draw_rate(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("accepted a second");
    let width = usize::from(block.inner(area).width);
    let skip = board.rates.len().saturating_sub(width);
    let rates: Vec<u64> = board.rates.iter().skip(skip).copied().collect();
    let line = Sparkline::default()
        .block(block)
        .data(rates)
        .style(colour(board, Color::Cyan));
    frame.render_widget(line, area);
}

fn draw_breakers(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let rows: Vec<Line<'_>> = board
        .sample
        .breakers
        .iter()
        .map(|breaker| lamp(board, breaker))
        .collect();
    frame.render_widget(
        Paragraph::new(rows).block(Block::bordered().title("breakers")),
        area,
    );
}

fn lamp<'a>(board: &Board, breaker: &BreakerSample) -> Line<'a> {
    let (mark, hue) = match breaker.state.as_str() {
        "closed" => ("●", Color::Green),
        "open" => ("○", Color::Red),
        _ => ("◐", Color::Yellow),
    };
    Line::from(vec![
        Span::styled(mark, colour(board, hue)),
        Span::raw(format!(
            " {} → {} {}",
            breaker.from,
            breaker.to,
            breaker.state.replace('_', " ")
        )),
    ])
}

fn draw_faults(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("planned faults");
    let room = usize::from(block.inner(area).height);
    let skip = board.faults.len().saturating_sub(room);
    let rows: Vec<Line<'_>> = board
        .faults
        .iter()
        .skip(skip)
        .map(|fault| {
            let at_s = seconds(fault.at_ms);
            let length = fault
                .duration_ms
                .map_or(String::new(), |ms| format!(" for {}", seconds(ms)));
            let over = fault.at_ms + fault.duration_ms.unwrap_or(0) <= board.sample.at_ms;
            let hue = if over { Color::DarkGray } else { Color::Red };
            let text = format!("{at_s:>8}  {} {}{length}", fault.kind, fault.target);
            Line::from(Span::styled(text, colour(board, hue)))
        })
        .collect();
    frame.render_widget(Paragraph::new(rows).block(block), area);
}

/// What the order service has published last.
fn draw_notices(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let rows: Vec<Line<'_>> = board
        .notices
        .iter()
        .rev()
        .map(|notice| {
            let at_s = seconds(notice.at_us / 1_000);
            Line::from(format!(
                "{at_s:>8}  {} {}",
                notice.order_id,
                notice.state.name()
            ))
        })
        .collect();
    let block = Block::bordered().title("notices");
    frame.render_widget(Paragraph::new(rows).block(block), area);
}

/// The invariant that can be told while the run goes on; the others are read from the stores at the end.
fn balance<'a>(board: &Board) -> Line<'a> {
    if let Some(note) = &board.note {
        return Line::from(note.clone());
    }
    let s = &board.sample;
    Line::from(format!(
        "accepted {} = completed {} + compensated {} + in flight {}; the stores are checked at the end",
        s.accepted, s.completed, s.compensated, s.in_flight
    ))
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}
