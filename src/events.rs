//! The lines for the operator: each kind of event, and how much attention it needs.
//!
//! A line is one JSON object. [`line`] adds the level, and the platform that writes it the
//! time, see [`crate::platform::log`].

use http::header::HOST;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value};
use std::fmt;

/// Most characters of a URL that a line of the log has; more is cut off.
const URL_MAX: usize = 1_000;

/// Stands for what is cut off.
const CUT: &str = "...";

/// How much attention a line needs. The least is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Visitors get errors, and only the operator can help.
    Error,
    /// Something does not work as it should.
    Warn,
    /// Usual work.
    Info,
    /// Details.
    Debug,
}

impl Level {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The level of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Level::Error, Level::Warn, Level::Info, Level::Debug]
            .into_iter()
            .find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every event and its level; `docs/operations.md` says what each means. A line with an
/// `error` is at least a warning, whatever this says.
pub const EVENTS: &[(&str, Level)] = &[
    // The component's.
    ("admin-refused", Level::Warn),
    ("answer-refused", Level::Warn),
    ("breaker", Level::Warn),
    ("budget-unreadable", Level::Warn),
    ("cell-unreadable", Level::Warn),
    ("clocks-apart", Level::Warn),
    ("connection-auth-refused", Level::Warn),
    ("cookies-on-files", Level::Info),
    ("equal-but-private", Level::Info),
    ("field-differs", Level::Warn),
    ("instance-started", Level::Info),
    ("instance-worn", Level::Info),
    ("loop", Level::Error),
    ("misconfigured", Level::Error),
    ("not-served", Level::Info),
    ("origin", Level::Info),
    ("origin-check", Level::Info),
    ("publish-failing", Level::Warn),
    ("purge", Level::Info),
    ("purge-lost", Level::Warn),
    ("purges-unreadable", Level::Warn),
    ("refused", Level::Warn),
    ("settings-differ", Level::Warn),
    ("settings-unreadable", Level::Error),
    ("store-failed", Level::Error),
    ("store-full", Level::Warn),
    ("store-in-memory", Level::Warn),
    ("store-recovered", Level::Info),
    ("store-without-swap", Level::Warn),
    ("sweep", Level::Debug),
    ("sweep-unavailable", Level::Warn),
    ("value-refused", Level::Warn),
    ("variant-evicted", Level::Debug),
    ("warm", Level::Info),
    ("work-abandoned", Level::Warn),
    // Those of the program `leeward`.
    ("accept-failed", Level::Error),
    ("access-log-failed", Level::Error),
    ("access-log-lost", Level::Warn),
    ("connections-closed", Level::Warn),
    ("connections-limited", Level::Warn),
    ("files-limited", Level::Warn),
    ("instance-died", Level::Error),
    ("limit-reached", Level::Warn),
    ("metrics", Level::Info),
    ("not-reloaded", Level::Error),
    ("origin-certificate", Level::Error),
    ("origin-unreachable", Level::Warn),
    ("output", Level::Warn),
    ("reloaded", Level::Info),
    ("request-failed", Level::Error),
    ("requests-cut", Level::Warn),
    ("settings-doubtful", Level::Warn),
    ("stopped", Level::Info),
    ("stopping", Level::Info),
    ("store-damaged", Level::Error),
    ("store-unusable", Level::Warn),
    ("summary", Level::Info),
];

/// The level of an event. One that is not in the list is a warning.
pub fn level(event: &str) -> Level {
    EVENTS
        .iter()
        .find(|(name, _)| *name == event)
        .map_or(Level::Warn, |(_, level)| *level)
}

/// A line of the log: one JSON object, without its time.
pub fn line(event: &str, fields: &[(&str, Value)]) -> String {
    let mut line: Map<String, Value> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let level = match line.contains_key("error") {
        true => level(event).min(Level::Warn),
        false => level(event),
    };
    line.insert("event".to_owned(), event.into());
    line.insert("level".to_owned(), level.name().into());
    Value::Object(line).to_string()
}

/// Host, path and query as the visitor has sent them, without a user name and a password.
pub fn url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let host = host.unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut all = host.chars().chain(path.chars());
    let mut url: String = all.by_ref().take(URL_MAX).collect();
    if all.next().is_some() {
        url.push_str(CUT);
    }
    url
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::shield::refusals::CAUSES;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn sources(directory: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, all),
                false => all.push(fs::read_to_string(path).unwrap()),
            }
        }
    }

    /// The names that follow `call` in the source text, where a literal does.
    fn names(text: &str, call: &str) -> Vec<String> {
        let calls = text.split(call).skip(1);
        calls
            .filter_map(|rest| {
                let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
                let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
                name.bytes().all(is_name).then(|| name.to_owned())
            })
            .collect()
    }

    #[test]
    fn each_event_of_the_component_and_of_the_host_has_a_level() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut used = BTreeSet::new();
        for (directory, calls) in [
            ("src", &["event(", "events::line("][..]),
            (
                "host/src",
                &["report::event(", "log::event(", "log::fields("],
            ),
        ] {
            let mut all = Vec::new();
            sources(&root.join(directory), &mut all);
            for call in calls {
                used.extend(all.iter().flat_map(|text| names(text, call)));
            }
        }
        used.extend(CAUSES.iter().map(|cause| cause.event.to_owned()));
        let known: BTreeSet<String> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "without a level: {unknown:?}");
        assert!(used.contains("store-failed") && used.len() > 20, "{used:?}");
        assert_eq!(known.len(), EVENTS.len(), "an event is there twice");
    }

    #[test]
    fn the_documentation_says_what_each_event_means() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
        let text = fs::read_to_string(path).unwrap();
        for (name, _) in EVENTS {
            assert!(text.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn a_url_has_its_host_and_query_and_never_a_password() {
        for (uri, host, expected) in [
            ("http://a:81/b?c=1", None, "a:81/b?c=1"),
            ("http://u:s3cret@a/b", None, "a/b"),
            ("/b?c", Some("shop"), "shop/b?c"),
            ("/b", None, "/b"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, http::HeaderValue::from_static(host));
            }
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(url(&uri, &headers), expected, "{uri}");
        }
        let long: Uri = format!("/{}", "x".repeat(5_000)).parse().unwrap();
        assert_eq!(url(&long, &HeaderMap::new()).len(), URL_MAX + CUT.len());
    }

    #[test]
    fn a_line_has_the_level_of_its_event_and_an_error_is_at_least_a_warning() {
        for (event, fields, expected) in [
            ("origin", &[][..], "info"),
            ("origin", &[("error", Value::from("x"))], "warn"),
            ("store-failed", &[("error", Value::from("x"))], "error"),
            ("of-tomorrow", &[], "warn"),
        ] {
            let line: Value = serde_json::from_str(&line(event, fields)).unwrap();
            assert_eq!(line["level"], expected, "{event}");
            assert_eq!(line["event"], event);
        }
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            assert_eq!(Level::of(level.name()), Some(level));
        }
    }
}
