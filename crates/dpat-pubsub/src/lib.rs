#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod error;
mod message;
mod subject;
mod trie;

mod log;
mod machine;
mod ring;
mod wait;

mod backend;
mod buffer;
mod hub;
mod publisher;
mod pubsub;
mod request;
mod retain;
#[cfg(feature = "spill")]
mod spill;
mod subscription;
mod typed;

#[cfg(feature = "conformance")]
pub mod conformance;

mod sync;
mod trace;

#[cfg(test)]
mod loom_tests;

pub use backend::{Backend, Source};
pub use buffer::SourceBuffer;
pub use config::{
    Builder, CAPACITY_MAX, Capabilities, Capability, KeyOf, NAME_BYTES_MAX, Overflow,
    PAYLOAD_BYTES_MAX, RETAINED_MAX, Wanted,
};
pub use error::{
    BackendError, Closed, ConfigError, DraftError, PublishError, RequestError, SubjectError,
    SubscribeError, Unsupported,
};
pub use message::{Delivery, Draft, HEADER_BYTES_MAX, HEADERS_MAX, Message, Published};
pub use publisher::Publisher;
pub use pubsub::PubSub;
pub use request::Requester;
#[cfg(feature = "spill")]
pub use spill::Spill;
pub use subject::{Filter, SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX, Subject};
pub use subscription::{Recv, Stats, Subscribe, Subscription};
pub use trie::SubjectTrie;
#[cfg(feature = "codec")]
pub use typed::Coded;
pub use typed::{
    Form, FormError, InProcess, PublishValueError, TypedDelivery, TypedMessage, TypedPublisher,
    TypedSubscription,
};
