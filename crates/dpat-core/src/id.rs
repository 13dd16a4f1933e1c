//! Identifiers and their generators.

mod correlation;
mod crockford;
mod epoch;
mod error;
mod hex;
mod monotonic;
mod node;
mod snowflake;
mod ulid;
mod uuid7;

pub use correlation::CorrelationId;
pub use epoch::{Epoch, EpochExhausted, Fence, StaleEpoch};
pub use error::{GenerateError, ParseIdError};
pub use monotonic::RollbackPolicy;
pub use node::NodeId;
pub use snowflake::{
    Snowflake, SnowflakeBuilder, SnowflakeConfigError, SnowflakeGenerator, SnowflakeLayout,
    SnowflakeParts,
};
pub use ulid::{Ulid, UlidGenerator};
pub use uuid7::{Uuid7, Uuid7Generator};

/// Shows a buffer that was just filled with digits and hyphens.
fn ascii(buffer: &[u8]) -> &str {
    std::str::from_utf8(buffer).expect("digits and hyphens are ASCII")
}

#[cfg(feature = "serde")]
pub(crate) use text::{FromText, text_and_bytes};

/// What the serde forms of ids share.
#[cfg(feature = "serde")]
mod text {
    use std::fmt;
    use std::marker::PhantomData;
    use std::str::FromStr;

    /// Reads a value from borrowed or owned text, strictly.
    pub(crate) struct FromText<T> {
        expected: &'static str,
        value: PhantomData<T>,
    }

    impl<T> FromText<T> {
        pub(crate) const fn new(expected: &'static str) -> Self {
            Self {
                expected,
                value: PhantomData,
            }
        }
    }

    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for FromText<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} as text", self.expected)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    /// Text for people, 16 bytes without a length otherwise.
    macro_rules! text_and_bytes {
        ($type:ty, $expected:literal, $from_bytes:expr) => {
            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    if serializer.is_human_readable() {
                        serializer.collect_str(self)
                    } else {
                        self.to_bytes().serialize(serializer)
                    }
                }
            }

            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Self, D::Error> {
                    if deserializer.is_human_readable() {
                        deserializer.deserialize_str(crate::id::FromText::new($expected))
                    } else {
                        let bytes = <[u8; 16]>::deserialize(deserializer)?;
                        $from_bytes(bytes).map_err(serde::de::Error::custom)
                    }
                }
            }
        };
    }
    pub(crate) use text_and_bytes;
}
