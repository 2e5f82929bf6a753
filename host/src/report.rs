//! Messages to the operator: in the log once that has begun, else as plain text.

use std::fmt::Display;
use std::io::Write as _;

use crate::observe::log;

/// Writes a line of text to standard error. Unlike `eprintln!` this does not panic if
/// standard error cannot be written.
pub(crate) fn plain(message: impl Display) {
    // One write, so that the lines of several threads do not mix.
    let line = format!("{message}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// An event, and a text that says what happened and what to do.
pub(crate) fn event(name: &str, message: impl Display) {
    match log::has_begun() {
        true => log::event(name, message),
        false => plain(message),
    }
}

/// A line of the component's form: one JSON object.
pub(crate) fn json(line: String) {
    match log::has_begun() {
        true => log::component_line(&line),
        false => plain(line),
    }
}
