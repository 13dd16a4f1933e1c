//! The one place that writes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command talks to its user

/// Prints a line for scripts.
pub(crate) fn result(line: &str) {
    println!("{line}");
}

/// Prints text that ends with a line of its own, such as a file.
pub(crate) fn write(text: &str) {
    print!("{text}");
}

/// Prints a line for people.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
