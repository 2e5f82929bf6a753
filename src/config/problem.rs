//! What is wrong with a configuration, and where.

use std::fmt;

/// What is wrong with a configuration; `Display` has a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// Stands for the name of the file where that is not known.
const NAMELESS: &str = "config";

/// What is wrong with a configuration, or doubtful in it: the setting, its place in the text,
/// and what to write instead. `Display` says `config` for the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line and column, both from 1.
    place: Option<(usize, usize)>,
    name: String,
    message: String,
}

/// A message about a value, and where in the text the fault is if that is not
/// where the value begins.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: Option<usize>,
    pub(super) message: String,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Fault {
            offset: None,
            message,
        }
    }
}

impl Fault {
    /// The same, at `offset` unless it has a place already.
    pub(super) fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }
}

/// Collects the problems of one text.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
    /// What is valid, and probably not meant so.
    doubtful: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Problems {
            text,
            found: Vec::new(),
            doubtful: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// Adds a problem of the setting `name`.
    pub(super) fn add(&mut self, offset: usize, name: &str, fault: impl Into<Fault>) {
        let Fault { offset, message } = fault.into().at(offset);
        self.push(offset.map(|offset| self.place(offset)), name, message);
    }

    /// Adds a problem that no place in the text has caused.
    pub(super) fn add_without_place(&mut self, name: &str, message: String) {
        self.push(None, name, message);
    }

    fn push(&mut self, place: Option<(usize, usize)>, name: &str, message: String) {
        self.found.push(Problem {
            place,
            // A quoted name may hold anything, line breaks too.
            name: name.escape_debug().to_string(),
            message,
        });
    }

    /// Adds what is valid, and probably not meant so.
    pub(super) fn warn(&mut self, offset: usize, name: &str, message: String) {
        let place = Some(self.place(offset));
        self.doubtful.push(Problem {
            place,
            name: name.to_owned(),
            message,
        });
    }

    /// What is valid, and probably not meant so, in the order of the text.
    pub(super) fn warnings(&mut self) -> Vec<Problem> {
        self.doubtful.sort();
        std::mem::take(&mut self.doubtful)
    }

    /// Line and column of the byte at `offset`.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        (line, column)
    }

    /// All problems, in the order of the text.
    pub(super) fn into_error(mut self) -> ConfigError {
        self.found.sort();
        ConfigError {
            problems: self.found,
        }
    }
}

impl Problem {
    /// As `FILE:LINE:COLUMN: SETTING: MESSAGE`, which editors turn into a link. `file` is the
    /// name of the file that the configuration was read from.
    pub fn in_file(&self, file: &dyn fmt::Display) -> String {
        let place = match self.place {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        };
        match self.name.as_str() {
            "" => format!("{place}: {}", self.message),
            name => format!("{place}: {name}: {}", self.message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_file(&NAMELESS))
    }
}

impl ConfigError {
    /// A line for each problem, as [`Problem::in_file`].
    pub fn in_file(&self, file: &dyn fmt::Display) -> String {
        let lines: Vec<_> = self
            .problems
            .iter()
            .map(|problem| problem.in_file(file))
            .collect();
        lines.join("\n")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_file(&NAMELESS))
    }
}

impl std::error::Error for ConfigError {}
