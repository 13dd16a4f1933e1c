//! Where a run shows itself while it goes on.

use super::config::Config;
use super::notices::Notice;
use super::record::{FaultEvent, RunRecord, Sample};

/// Sees a run as it goes on. Calls come from one task, in order; none may block for long.
pub trait View: Send {
    /// The services are up and the first order is about to be sent.
    fn started(&mut self, _config: &Config) {}
    /// A few times a second.
    fn sample(&mut self, _sample: &Sample) {}
    /// What the order service has told last, the newest last; with every sample.
    fn notices(&mut self, _notices: &[Notice]) {}
    /// A planned fault begins.
    fn fault(&mut self, _fault: &FaultEvent) {}
    /// Something for people.
    fn note(&mut self, _text: &str) {}
    /// The end.
    fn finished(&mut self, _record: &RunRecord) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl View for Silent {}
