//! What the engine promises, event by event.

mod basics;
