//! Integration tests.

mod links;
