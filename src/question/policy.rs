//! What an operator says about questions: which bytes of a visitor's request
//! the origin may see, and on whose behalf it is asked.

use std::time::Duration;

/// A name, or the beginning of names: `utm_source`, `utm_*`.
///
/// A `*` at the end stands for any ending. A `*` elsewhere has no meaning, and
/// neither has case: the caller lower-cases what is not case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Pattern(text.into())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is one of those that the pattern stands for.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.0,
        }
    }

    /// Whether there is a name that both patterns stand for.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
            (Some(_), None) => self.matches(&other.0),
            (None, _) => other.matches(&self.0),
        }
    }
}

/// Whether one of `patterns` matches `name`.
pub fn any_matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// How the key of a target is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Query parameters that are neither keyed nor sent in a fill.
    pub ignore: Vec<Pattern>,
    /// Whether query parameters are sorted by name. The values of one name keep
    /// their order.
    pub sort: bool,
    /// Whether the path is lower-cased.
    pub lowercase: bool,
    /// The hosts that are served, in lower case and without a default port.
    /// Empty: any host, and the host is not part of the key.
    pub hosts: Vec<String>,
}

/// What becomes of request fields that are in none of the built-in lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// They are part of the question, and sent.
    #[default]
    Key,
    /// The fields of a foreground request are sent and not keyed, as RFC 9111
    /// assumes.
    Forward,
}

/// What becomes of `Authorization` and `Proxy-Authorization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// A request that has them gets answers for everyone, else it is passed.
    #[default]
    Pass,
    /// A hash of their value is part of the question: each client has cells of
    /// its own.
    Key,
    /// They are dropped.
    Ignore,
}

/// What becomes of cookies that are not in [`RequestPolicy::ignored_cookies`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// A request that has some gets answers for everyone, else it is passed.
    #[default]
    Pass,
    /// They are dropped.
    Ignore,
    /// Cookies with these names are part of the question, the others are
    /// dropped. Never empty.
    Key(Vec<String>),
}

/// How a question is made from a request's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPolicy {
    /// What becomes of unknown fields.
    pub unknown: Unknown,
    /// Fields that are dropped besides the built-in ones, in lower case.
    pub drop: Vec<Pattern>,
    /// Fields that are sent as they come and not keyed, in lower case: the
    /// operator vouches that they shape no answer.
    pub forward: Vec<Pattern>,
    /// Cookies that say nothing about the visitor's session.
    pub ignored_cookies: Vec<Pattern>,
    /// What becomes of the other cookies.
    pub cookies: Cookies,
    /// What becomes of other credentials.
    pub credentials: Credentials,
    /// Most unknown fields of a question; a request with more is passed.
    pub key_fields: usize,
    /// Most bytes of names and values of a question's unknown fields; a request
    /// with more is passed.
    pub key_bytes: usize,
}

/// What makes an answer a failure of the origin, whatever its status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// These statuses.
    pub statuses: Vec<u16>,
    /// This text within the first [`FAILURE_BODY_MAX`] bytes of the body.
    pub body_contains: Option<String>,
}

/// Bytes of a body, decoded, that [`Failure::body_contains`] is looked for in.
pub const FAILURE_BODY_MAX: usize = 4_096;

/// Bytes of a body in a content coding that are read and decoded for that: more, because text
/// that does not get shorter gets longer.
pub const FAILURE_ENCODED_MAX: usize = 2 * FAILURE_BODY_MAX;

/// The longest time for which an answer that may not be kept is shared.
pub const ERROR_TTL_MAX: Duration = Duration::from_secs(600);
