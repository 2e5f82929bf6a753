//! Messages to the operator.

use std::fmt::Display;
use std::io::Write as _;

/// Writes a line to standard error. Unlike `eprintln!` this does not panic if
/// standard error cannot be written.
pub(crate) fn line(message: impl Display) {
    // One write, so that the lines of several threads do not mix.
    let line = format!("{message}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}
