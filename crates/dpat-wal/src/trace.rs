//! Events and counters; nothing without the features.

use crate::recover::Recovery;
use crate::writer::Outcome;
#[cfg(feature = "tracing")]
use crate::writer::{CommitError, Grown};

/// What a log tells the outside.
pub(crate) struct Telemetry {
    #[cfg_attr(
        not(feature = "tracing"),
        allow(dead_code, reason = "read by events only")
    )]
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    directory: std::sync::Arc<str>,
    #[cfg(feature = "metrics")]
    counters: Counters,
}

/// Handles taken once, so that counting a commit neither looks up nor allocates.
#[cfg(feature = "metrics")]
struct Counters {
    commits: metrics::Counter,
    frames: metrics::Counter,
    refused: metrics::Counter,
}

impl Telemetry {
    #[cfg_attr(
        not(any(feature = "metrics", feature = "tracing")),
        allow(unused_variables)
    )]
    pub(crate) fn new(directory: &str) -> Self {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        let directory = std::sync::Arc::<str>::from(directory);
        #[cfg(feature = "metrics")]
        let label = || std::sync::Arc::clone(&directory);
        Self {
            #[cfg(feature = "metrics")]
            counters: Counters {
                commits: metrics::counter!("dpat_wal_commits_total", "directory" => label()),
                frames: metrics::counter!("dpat_wal_frames_total", "directory" => label()),
                refused: metrics::counter!("dpat_wal_refused_total", "directory" => label()),
            },
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            directory,
        }
    }

    /// The log was opened.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
    pub(crate) fn recovered(&self, recovery: &Recovery) {
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.wal.recovered",
            target: "dpat_wal",
            tracing::Level::INFO,
            directory = &*self.directory,
            first = recovery.first.0,
            end = recovery.end.0,
            torn_bytes = recovery.torn.as_ref().map_or(0, |torn| torn.bytes),
        );
    }

    /// A group was committed, or not.
    #[cfg_attr(
        not(any(feature = "metrics", feature = "tracing")),
        allow(unused_variables)
    )]
    pub(crate) fn committed(&self, outcome: &Outcome) {
        #[cfg(feature = "metrics")]
        {
            self.counters.commits.increment(1);
            self.counters.frames.increment(outcome.progress.frames);
            if outcome.error.is_some() {
                self.counters.refused.increment(1);
            }
        }
        #[cfg(feature = "tracing")]
        for grown in &outcome.grown {
            if let Grown::Segment { first } = grown {
                tracing::event!(
                    name: "dpat.wal.segment",
                    target: "dpat_wal",
                    tracing::Level::DEBUG,
                    directory = &*self.directory,
                    first,
                );
            }
        }
        #[cfg(feature = "tracing")]
        if let Some(CommitError::Refused(error) | CommitError::Failed(error)) = &outcome.error {
            tracing::event!(
                name: "dpat.wal.failed",
                target: "dpat_wal",
                tracing::Level::ERROR,
                directory = &*self.directory,
                is_final = matches!(outcome.error, Some(CommitError::Failed(_))),
                error = %error,
            );
        }
    }

    /// Segments were removed.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
    pub(crate) fn compacted(&self, first: u64, segments: usize) {
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.wal.compacted",
            target: "dpat_wal",
            tracing::Level::DEBUG,
            directory = &*self.directory,
            first,
            segments,
        );
    }
}
