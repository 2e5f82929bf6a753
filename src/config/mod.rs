//! What an operator can set.
//!
//! [`Config::parse`] takes the TOML text of the variable `config`. Every option
//! is defined once, in [`options`]: its name, default, bounds and meaning; the
//! defaults, the validation, the messages and the reference in `docs/` are made
//! from that. Nothing is silently ignored: an unknown setting is an error that
//! says where it stands and what was probably meant.

mod options;
mod origin;
mod value;

pub use options::{Definition, OPTIONS, reference};
pub use origin::{Origin, OriginError};

use crate::cell::transition::Backoff;
use crate::semantics::{KeyPolicy, Policy, Preset};
use std::fmt;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Every setting, valid and with its default where the operator said nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Preset and freshness, as the HTTP rules need them.
    pub policy: Policy,
    /// Whether hot entries are refreshed shortly before they expire.
    pub early_refresh: bool,
    /// How to treat the origin.
    pub origin: OriginConfig,
    /// How leases are timed.
    pub lease: LeaseConfig,
    /// How long requests wait for each other.
    pub wait: WaitConfig,
    /// How the key of a request is made.
    pub key: KeyPolicy,
    /// What is accepted and kept.
    pub limits: Limits,
}

/// Most chunks of a body, at half of `limits.chunk` each.
pub const CHUNKS_MAX: u32 = 4_096;

/// How to treat the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginConfig {
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time to the response head, and between two parts of a body.
    pub first_byte_timeout: Duration,
    /// After this a request that waits for the origin gets the stale entry, if
    /// there is one that may be used when the origin fails.
    pub soft_timeout: Duration,
    /// How long to leave a key alone whose refresh failed.
    pub retry: Backoff,
    /// How long a key counts as one whose responses cannot be stored.
    pub pass: Duration,
}

/// How leases are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long a lease lasts unless renewed.
    pub duration: Duration,
    /// How far the clocks of two nodes may be apart.
    pub clock_skew: Duration,
}

impl LeaseConfig {
    /// The length of a time bucket of the guards of creation: half a lease, so
    /// that a creator that dies holds others off for one lease at most. At
    /// least twice the clock skew, because a lease is at least four times that.
    pub fn guard_bucket(&self) -> Duration {
        self.duration / 2
    }
}

/// How long requests wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitConfig {
    /// Longest wait for somebody else's fetch.
    pub budget: Duration,
}

/// What is accepted and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest path and query, in bytes.
    pub url: usize,
    /// Most header fields of a request.
    pub header_count: usize,
    /// Most bytes of header field names and values of a request.
    pub header_bytes: usize,
    /// Longest request body that is accepted, in bytes; zero: any.
    pub request_body: u64,
    /// Longest body that is stored in the cell itself, in bytes, if it is
    /// stored at all.
    pub inline: usize,
    /// Longest body that is stored, in bytes; longer ones stream through.
    pub body: u64,
    /// Largest value that a body which is not inline is stored in, in bytes.
    pub chunk: usize,
    /// Most variants of a key that are stored.
    pub variants: usize,
    /// How long a body that is no longer an entry's is kept for those who are
    /// still reading it.
    pub grace: Duration,
}

impl Config {
    /// Reads settings from TOML; empty text means the defaults.
    ///
    /// # Errors
    ///
    /// All that is wrong, each with line, column, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Config::default();
        let mut problems = Vec::new();
        for option in OPTIONS {
            if let Err(problem) = option.apply_default(&mut config) {
                problems.push(Problem::at_start(option.name, problem));
            }
        }
        let mut default_ttl_is_set = false;
        match DeTable::parse(text) {
            Ok(table) => {
                walk(text, "", table.get_ref(), &mut config, &mut problems);
                default_ttl_is_set = table
                    .get_ref()
                    .get("freshness")
                    .and_then(|freshness| freshness.get_ref().get("default_ttl"))
                    .is_some();
            }
            Err(error) => problems.push(Problem::new(
                text,
                error.span().map_or(0, |span| span.start),
                "",
                error.message().to_owned(),
            )),
        }
        // In `strict` the origin's silence is not leave.
        if !default_ttl_is_set && config.policy.preset == Preset::Strict {
            config.policy.default_ttl = Policy::of(Preset::Strict).default_ttl;
        }
        if problems.is_empty() {
            problems.extend(
                config
                    .contradictions()
                    .into_iter()
                    .map(|(name, message)| Problem::at_start(name, message)),
            );
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems })
        }
    }

    /// Settings that are each valid, but not together.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let LeaseConfig {
            duration,
            clock_skew,
        } = self.lease;
        if duration < clock_skew.saturating_mul(4) {
            found.push((
                "lease.duration",
                format!(
                    "{duration:?} is too short for a clock skew of {clock_skew:?}: a holder \
                     would have no time to work; write at least four times lease.clock_skew"
                ),
            ));
        }
        let Limits { body, chunk, .. } = self.limits;
        let longest = u64::from(CHUNKS_MAX).saturating_mul(chunk as u64 / 2);
        if body > longest {
            found.push((
                "limits.body",
                format!(
                    "a body of {body} bytes would come to too many chunks of {chunk}; write at \
                     most {longest}, or a larger limits.chunk"
                ),
            ));
        }
        let Backoff { first, max } = self.origin.retry;
        if first > max {
            found.push((
                "origin.retry.first",
                format!("{first:?} is longer than origin.retry.max, {max:?}"),
            ));
        }
        found
    }
}

fn walk(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    config: &mut Config,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
            if let Err(problem) = option.apply(config, value.get_ref()) {
                problems.push(Problem::new(text, value.span().start, &name, problem));
            }
        } else if options::is_section(&name) {
            match value.get_ref() {
                DeValue::Table(table) => walk(text, &name, table, config, problems),
                other => problems.push(Problem::new(
                    text,
                    value.span().start,
                    &name,
                    format!(
                        "is a table of settings, not a {}; write for instance {}",
                        other.type_str(),
                        options::example(&name)
                    ),
                )),
            }
        } else {
            problems.push(Problem::new(
                text,
                key.span().start,
                &name,
                options::unknown(&name),
            ));
        }
    }
}

/// What is wrong with a configuration; `Display` has a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    /// Line and column, both from 1.
    place: Option<(usize, usize)>,
    name: String,
    message: String,
}

impl Problem {
    fn new(text: &str, offset: usize, name: &str, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Problem {
            place: Some((line, column)),
            // A quoted name may hold anything, line breaks too.
            name: name.escape_debug().to_string(),
            message,
        }
    }

    fn at_start(name: &str, message: String) -> Self {
        Problem {
            place: None,
            name: name.to_owned(),
            message,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.place {
                Some((line, column)) => write!(f, "config:{line}:{column}: ")?,
                None => f.write_str("config: ")?,
            }
            match problem.name.as_str() {
                "" => f.write_str(&problem.message)?,
                name => write!(f, "{name}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
