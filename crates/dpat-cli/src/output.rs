//! The one place that writes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command talks to its user

/// Prints a line for scripts.
pub(crate) fn result(line: &str) {
    println!("{line}");
}

/// Prints a line for people.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
