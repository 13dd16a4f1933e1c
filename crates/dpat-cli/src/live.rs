//! The view for a terminal: numbers, lamps and faults while the run goes on.

mod draw;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Stderr};

use dpat_cases::shop::config::Config;
use dpat_cases::shop::notices::Notice;
use dpat_cases::shop::record::{FaultEvent, RunRecord, Sample};
use dpat_cases::shop::view::View;
use ratatui::backend::CrosstermBackend;
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::lines::Lines;

/// Lines of the terminal that the view takes.
const HEIGHT: u16 = 18;
/// Points of the sparkline that are kept.
const RATES_MAX: usize = 240;
/// Faults that are kept.
const FAULTS_MAX: usize = 64;

/// What the view draws; no terminal in it.
#[derive(Debug, Default)]
struct Board {
    config: Config,
    sample: Sample,
    /// Accepted a second, of the last samples.
    rates: VecDeque<u64>,
    faults: VecDeque<FaultEvent>,
    notices: Vec<Notice>,
    note: Option<String>,
    colour: bool,
}

impl Board {
    fn take(&mut self, sample: &Sample) {
        let elapsed_ms = sample.at_ms.saturating_sub(self.sample.at_ms);
        let more = sample.accepted.saturating_sub(self.sample.accepted);
        if let Some(rate) = (more * 1_000).checked_div(elapsed_ms) {
            keep(&mut self.rates, rate, RATES_MAX);
        }
        self.sample = sample.clone();
    }
}

fn keep<T>(items: &mut VecDeque<T>, item: T, limit: usize) {
    if items.len() == limit {
        items.pop_front();
    }
    items.push_back(item);
}

/// Draws the run at the bottom of the terminal and leaves the verdict in its place.
pub(crate) struct Live {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    board: Board,
    lines: Lines,
}

impl Live {
    /// Takes the terminal on stderr, if there is one that can be drawn on.
    pub(crate) fn new() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !io::stderr().is_terminal() {
            return None;
        }
        let options = TerminalOptions {
            viewport: Viewport::Inline(HEIGHT),
        };
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stderr()), options).ok()?;
        Some(Self {
            terminal,
            board: Board {
                colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
                ..Board::default()
            },
            lines: Lines::default(),
        })
    }

    fn redraw(&mut self) {
        let board = &self.board;
        // A terminal that went away must not end the run.
        let _ = self.terminal.draw(|frame| draw::board(board, frame));
    }
}

impl View for Live {
    fn started(&mut self, config: &Config) {
        self.board.config = config.clone();
        self.redraw();
    }

    fn sample(&mut self, sample: &Sample) {
        self.board.take(sample);
        self.redraw();
    }

    fn notices(&mut self, notices: &[Notice]) {
        self.board.notices = notices.to_vec();
    }

    fn fault(&mut self, fault: &FaultEvent) {
        keep(&mut self.board.faults, fault.clone(), FAULTS_MAX);
    }

    fn note(&mut self, text: &str) {
        self.board.note = Some(text.to_owned());
        self.redraw();
    }

    fn finished(&mut self, record: &RunRecord) {
        let top = self.terminal.get_frame().area().as_position();
        let _ = self.terminal.clear();
        let _ = self.terminal.set_cursor_position(top);
        self.lines.finished(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpat_cases::shop::domain::State;
    use dpat_cases::shop::record::BreakerSample;
    use dpat_cases::shop::service::ports::Peer;
    use ratatui::backend::TestBackend;

    fn board() -> Board {
        let mut board = Board {
            colour: true,
            ..Board::default()
        };
        for second in 1..=5 {
            board.take(&Sample {
                at_ms: second * 1_000,
                accepted: second * 400,
                completed: second * 390,
                compensated: second * 4,
                in_flight: 30,
                outbox: 7,
                p50_ms: 3.2,
                p99_ms: 21.5,
                breakers: vec![BreakerSample {
                    from: Peer::Order,
                    to: Peer::Payment,
                    state: "open".to_owned(),
                }],
                ..Sample::default()
            });
        }
        board.faults.push_back(FaultEvent {
            at_ms: 4_200,
            target: Peer::Payment,
            kind: "kill".to_owned(),
            duration_ms: Some(900),
            order_id: None,
        });
        board.notices.push(Notice {
            order_id: "order-17".to_owned(),
            state: State::Compensated,
            at_us: 4_900_000,
        });
        board
    }

    fn screen(board: &Board, width: u16, height: u16) -> String {
        let mut terminal =
            Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal
            .draw(|frame| draw::board(board, frame))
            .expect("drawing in memory");
        terminal.backend().to_string()
    }

    #[test]
    fn the_board_shows_numbers_lamps_and_faults() {
        let screen = screen(&board(), 100, HEIGHT);
        for text in [
            "2000",
            "1950",
            "21.5 ms",
            "order → payment",
            "open",
            "kill payment",
            "4.2 s",
            "order-17 compensated",
        ] {
            assert!(screen.contains(text), "{text} is missing:\n{screen}");
        }
    }

    #[test]
    fn a_tiny_terminal_is_no_reason_to_panic() {
        for (width, height) in [(1, 1), (10, 3), (30, 5), (400, 60)] {
            screen(&board(), width, height);
        }
    }

    #[test]
    fn the_rate_is_per_second_and_bounded() {
        let mut board = Board::default();
        for n in 1..=1_000_u64 {
            board.take(&Sample {
                at_ms: n * 250,
                accepted: n * 100,
                ..Sample::default()
            });
        }
        assert_eq!(board.rates.len(), RATES_MAX);
        assert!(board.rates.iter().all(|rate| *rate == 400));
    }
}
