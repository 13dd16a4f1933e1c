//! The one place that writes to the terminal.
//!
//! Who has read enough (`dpat sim --list | head`) closes the pipe: the command then goes on in silence to its exit code.

use std::io::{self, Write};
use std::process;

use crate::INTERNAL;

/// Prints a line for scripts.
pub(crate) fn result(line: &str) {
    to_scripts(&format!("{line}\n"));
}

/// Prints text that ends with a line of its own, such as a file.
pub(crate) fn write(text: &str) {
    to_scripts(text);
}

/// Prints a line for people.
pub(crate) fn say(line: &str) {
    // Where even the errors cannot be written there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn to_scripts(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("standard output cannot be written: {error}"));
            process::exit(i32::from(INTERNAL));
        }
        _ => {}
    }
}
