//! What it takes to see that tests find what is wrong: known-bad variants of single rules.
//!
//! For the tests of this crate and of those that simulate it; outside of semantic versioning. A variant is chosen by
//! [`Builder::mutant`](crate::Builder::mutant).

/// A rule of this crate that is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// Answers sends and settlements before their records are durable.
    AckBeforeDurable,
    /// Hands messages out before their claims are durable.
    HandOutBeforeDurable,
    /// Lets the receipts of earlier deliveries settle.
    StaleReceipt,
    /// Counts an attempt when it is given back, not when it is handed out.
    CountAtRetry,
    /// Hands a message out at once that is to come later.
    EarlyRetry,
    /// Hands messages of a key out side by side.
    IgnoreKeys,
    /// Forgets deduplication keys with their messages.
    ForgetDedup,
    /// Writes a dead letter down in two steps, the removal first.
    RejectInTwoSteps,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AckBeforeDurable,
        Self::HandOutBeforeDurable,
        Self::StaleReceipt,
        Self::CountAtRetry,
        Self::EarlyRetry,
        Self::IgnoreKeys,
        Self::ForgetDedup,
        Self::RejectInTwoSteps,
    ];

    /// Returns its name, in the form of the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeDurable => "ack-before-durable",
            Self::HandOutBeforeDurable => "hand-out-before-durable",
            Self::StaleReceipt => "stale-receipt",
            Self::CountAtRetry => "count-at-retry",
            Self::EarlyRetry => "early-retry",
            Self::IgnoreKeys => "ignore-keys",
            Self::ForgetDedup => "forget-dedup",
            Self::RejectInTwoSteps => "reject-in-two-steps",
        }
    }

    /// Returns the rule that it breaks.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::AckBeforeDurable => {
                "a send or a settlement is answered once its record is durable"
            }
            Self::HandOutBeforeDurable => "a message is handed out once its claim is durable",
            Self::StaleReceipt => {
                "a message that was handed out again is settled by its last receipt alone"
            }
            Self::CountAtRetry => "the count rises when a message is handed out",
            Self::EarlyRetry => "a message comes not before its time",
            Self::IgnoreKeys => "of a key one message is out at a time",
            Self::ForgetDedup => "a deduplication key is remembered for the whole window",
            Self::RejectInTwoSteps => "a message becomes a dead letter in one step",
        }
    }

    /// Finds a mutant by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
