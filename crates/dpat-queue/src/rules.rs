//! The rules that tests can leave out. Without the feature `test-util` there is nothing to ask, and nothing is left out.

#[cfg(feature = "test-util")]
use crate::testing::Mutant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    #[cfg(feature = "test-util")]
    pub(crate) left_out: Option<Mutant>,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $mutant:ident;)+) => {
        #[cfg(feature = "test-util")]
        impl Rules {
            $($(#[$doc])* pub(crate) fn $rule(self) -> bool {
                self.left_out != Some(Mutant::$mutant)
            })+
        }

        #[cfg(not(feature = "test-util"))]
        #[allow(clippy::unused_self, dead_code, reason = "the same calls as with the feature, but for those that it alone makes")]
        impl Rules {
            $($(#[$doc])* pub(crate) const fn $rule(self) -> bool {
                true
            })+
        }
    };
}

rules! {
    /// A send or a settlement is answered once its record is durable.
    durable_first = AckBeforeDurable;
    /// A message is handed out once its claim is durable.
    claim_first = HandOutBeforeDurable;
    /// A message that was handed out again is settled by its last receipt alone.
    fence = StaleReceipt;
    /// The count rises when a message is handed out.
    count_at_claim = CountAtRetry;
    /// A message comes not before its time.
    wait_for_time = EarlyRetry;
    /// Of a key one message is out at a time.
    one_of_a_key = IgnoreKeys;
    /// A deduplication key is remembered for the whole window.
    remember_keys = ForgetDedup;
    /// A message becomes a dead letter in one step.
    reject_at_once = RejectInTwoSteps;
}
