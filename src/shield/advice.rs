//! What keeps visitors from sharing answers, and what the operator can write against it.
//!
//! An instance notices request fields with ever new values (`notice`), static files that are
//! not stored because each sets a cookie, and pages that say `private` and are the same for
//! all (`equal_answers`). The log says each once an hour, status and dashboard as long. Pure:
//! the time is an argument. Nothing is changed by it: only the operator knows whether what
//! looks the same is meant for everyone.

use super::equal_answers::EqualAnswers;
use super::notice::{Notices, VALUES_MAX, WINDOW};
use crate::config::PathPattern;
use crate::time::Time;
use crate::world::event;
use serde_json::{Value, json};
use std::mem::discriminant;
use std::time::Duration;

/// Most pieces of advice of one kind that are remembered. A flood of one kind, which visitors
/// can make, hides none of another.
const TOLD_MAX: usize = 32;

/// The least time after which one is told again.
const AGAIN: Duration = Duration::from_secs(3_600);

/// From how many files of an extension that set a cookie on the operator is told.
const FILES_MIN: usize = 3;

/// Most extensions that are watched.
const EXTENSIONS_MAX: usize = 32;

/// What the operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// A request field has a new value in nearly every request.
    Field {
        /// Its name.
        name: String,
        /// The path of the last such request.
        path: String,
    },
    /// Static files are not stored, because their answers set a cookie.
    FileCookies {
        /// The extension of the files.
        extension: String,
        /// One of them.
        path: String,
    },
    /// Visitors get the same answer, which says that it is for one of them.
    EqualAnswers {
        /// The path.
        path: String,
        /// To how many visitors it was the same.
        visitors: usize,
    },
}

impl Advice {
    /// Whether both are about the same.
    fn is_like(&self, other: &Advice) -> bool {
        match (self, other) {
            (Advice::Field { name: one, .. }, Advice::Field { name: other, .. })
            | (
                Advice::FileCookies { extension: one, .. },
                Advice::FileCookies {
                    extension: other, ..
                },
            )
            | (Advice::EqualAnswers { path: one, .. }, Advice::EqualAnswers { path: other, .. }) => {
                one == other
            }
            _ => false,
        }
    }

    fn title(&self) -> String {
        match self {
            Advice::Field { name, .. } => format!("Request field {name}"),
            Advice::FileCookies { extension, .. } => format!("Cookies on files *.{extension}"),
            Advice::EqualAnswers { path, .. } => format!("Private and equal: {path}"),
        }
    }

    fn effect(&self) -> String {
        match self {
            Advice::Field { .. } => {
                "each value is asked for and stored apart, so visitors share no answer".into()
            }
            Advice::FileCookies { path, .. } => format!(
                "answers such as that to {path} set a cookie and state no lifetime, so they are \
                 not stored and each visitor asks the origin"
            ),
            Advice::EqualAnswers { visitors, .. } => format!(
                "the answer says private, and {visitors} visitors with different cookies or \
                 credentials got the same bytes, each from the origin"
            ),
        }
    }

    /// Whether the rule means what was noticed and nothing else. Names and paths are visitors'
    /// words, and a `*` in them would stand for other fields and pages.
    fn is_exact(&self) -> bool {
        match self {
            Advice::Field { name, .. } => !name.contains('*'),
            // One of the extensions of static files.
            Advice::FileCookies { .. } => true,
            Advice::EqualAnswers { path, .. } => {
                !path.contains('*') && PathPattern::parse(path).is_ok()
            }
        }
    }

    /// The TOML to write.
    fn rule(&self) -> String {
        match self {
            Advice::Field { name, .. } => format!("request.drop = [\"{name}\"]"),
            Advice::FileCookies { extension, .. } => format!(
                "[[rule]]\nmatch = {{ path = \"/*.{extension}\" }}\nignore_origin = \
                 [\"set-cookie\"]\ncookies = \"ignore\""
            ),
            Advice::EqualAnswers { path, .. } => format!(
                "[[rule]]\nmatch = {{ path = {path:?} }}\nignore_origin = [\"private\"]\ncookies \
                 = \"ignore\"\nttl = \"10s\""
            ),
        }
    }

    fn condition(&self) -> String {
        match self {
            Advice::Field { name, .. } => {
                format!("if {name} changes no answer, add it to request.drop")
            }
            Advice::FileCookies { .. } => {
                "if no visitor needs the cookie of a file, write the rule".into()
            }
            Advice::EqualAnswers { .. } => {
                "made-up cookies count as well: if the page shows nothing of a visitor with a \
                 session either, write the rule"
                    .into()
            }
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Advice::Field { .. } => "field-differs",
            Advice::FileCookies { .. } => "cookies-on-files",
            Advice::EqualAnswers { .. } => "equal-but-private",
        }
    }

    /// The line for the log.
    pub(super) fn line(&self) -> String {
        let remedy = format!("{}: {}", self.condition(), self.rule());
        let mut fields = vec![("effect", self.effect().into()), ("remedy", remedy.into())];
        match self {
            Advice::Field { name, path } => fields.extend([
                ("field", name.as_str().into()),
                ("path", path.as_str().into()),
                ("values", VALUES_MAX.saturating_add(1).into()),
                ("seconds", WINDOW.as_secs().into()),
            ]),
            Advice::FileCookies { path, .. } => fields.push(("path", path.as_str().into())),
            Advice::EqualAnswers { path, visitors } => fields.extend([
                ("path", path.as_str().into()),
                ("visitors", (*visitors).into()),
            ]),
        }
        event(self.event(), &fields)
    }

    fn to_json(&self) -> Value {
        let mut told = json!({
            "title": self.title(),
            "effect": self.effect(),
            "remedy": format!("{}:", self.condition()),
            "rule": self.rule(),
        });
        if let (Advice::Field { name, .. }, Some(told)) = (self, told.as_object_mut()) {
            told.insert("field".into(), name.as_str().into());
        }
        told
    }
}

/// What one instance notices.
#[derive(Debug, Default)]
pub(super) struct Advisor {
    fields: Notices,
    /// Files that set a cookie, by extension.
    files: Vec<Files>,
    /// Private answers that may be equal.
    pub(super) answers: EqualAnswers,
    /// At most [`TOLD_MAX`] of each kind, and when they were told last.
    told: Vec<(Advice, Time)>,
}

/// Files of one extension, at most [`FILES_MIN`].
#[derive(Debug)]
struct Files {
    extension: String,
    paths: Vec<String>,
}

impl Advisor {
    /// Counts a field of a request for a key. Returns what is to be told now.
    pub(super) fn sees_field(
        &mut self,
        (key, path): (&str, &str),
        (name, value): (&str, &[u8]),
        now: Time,
    ) -> Option<Advice> {
        let differs = self.fields.sees(key, name, value, now);
        let advice = differs.then(|| Advice::Field {
            name: name.to_owned(),
            path: path.to_owned(),
        });
        self.news(advice?, now)
    }

    /// Counts a static file that is not stored, and sets a cookie.
    pub(super) fn sees_file_cookie(&mut self, path: &str, now: Time) -> Option<Advice> {
        let (_, extension) = path.rsplit_once('.')?;
        let extension = extension.to_ascii_lowercase();
        let is_of = |files: &Files| files.extension == extension;
        if !self.files.iter().any(is_of) {
            if self.files.len() >= EXTENSIONS_MAX {
                return None;
            }
            self.files.push(Files {
                extension: extension.clone(),
                paths: Vec::new(),
            });
        }
        let files = self.files.iter_mut().find(|files| is_of(files))?;
        if files.paths.len() < FILES_MIN && !files.paths.iter().any(|known| known == path) {
            files.paths.push(path.to_owned());
        }
        let is_common = files.paths.len() >= FILES_MIN;
        let advice = is_common.then(|| Advice::FileCookies {
            extension,
            path: path.to_owned(),
        });
        self.news(advice?, now)
    }

    /// Notes that visitors got the same private answer.
    pub(super) fn sees_equal_answers(
        &mut self,
        path: &str,
        visitors: usize,
        now: Time,
    ) -> Option<Advice> {
        let advice = Advice::EqualAnswers {
            path: path.to_owned(),
            visitors,
        };
        self.news(advice, now)
    }

    /// What was told lately, for status.
    pub(super) fn told(&self) -> Vec<Value> {
        self.told
            .iter()
            .map(|(advice, _)| advice.to_json())
            .collect()
    }

    /// The advice, if it has not been told lately.
    fn news(&mut self, advice: Advice, now: Time) -> Option<Advice> {
        self.told.retain(|(_, at)| at.was_within(AGAIN, now));
        let is_known = self.told.iter().any(|(told, _)| told.is_like(&advice));
        let of_kind = discriminant(&advice);
        let of_kind = self
            .told
            .iter()
            .filter(|(told, _)| discriminant(told) == of_kind);
        if is_known || of_kind.count() >= TOLD_MAX || !advice.is_exact() {
            return None;
        }
        self.told.push((advice.clone(), now));
        Some(advice)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;

    fn start() -> Time {
        Time::from_unix_millis(1_000_000)
    }

    fn sees_fields(advisor: &mut Advisor, name: &str, count: usize, now: Time) -> usize {
        let told = (0..count).filter(|number| {
            let value = number.to_le_bytes();
            advisor
                .sees_field(("/a", "/a"), (name, &value), now)
                .is_some()
        });
        told.count()
    }

    #[test]
    fn each_piece_of_advice_is_told_once_an_hour() {
        let mut advisor = Advisor::default();
        let later = start().plus(AGAIN);
        assert_eq!(sees_fields(&mut advisor, "x-id", 600, start()), 1);
        assert_eq!(sees_fields(&mut advisor, "x-other", 60, start()), 1);
        assert_eq!(sees_fields(&mut advisor, "x-id", 200, later), 1);
        assert!(advisor.sees_equal_answers("/a", 5, later).is_some());
        assert!(advisor.sees_equal_answers("/a", 6, later).is_none());
        assert!(advisor.sees_equal_answers("/b", 5, later).is_some());
        assert_eq!(advisor.told().len(), 3);
        for number in 0..10 * TOLD_MAX {
            advisor.sees_equal_answers(&format!("/{number}"), 5, later);
        }
        assert_eq!(advisor.told.len(), TOLD_MAX + 1);
        let other = sees_fields(&mut advisor, "x-new", 60, later);
        assert_eq!(other, 1, "a flood of paths hides no field");
    }

    /// A visitor could have the operator share the whole site.
    #[test]
    fn no_rule_is_advised_that_stands_for_more_than_what_was_seen() {
        let mut advisor = Advisor::default();
        for path in ["/*", "/a*", "/é", "/a\"b*"] {
            assert_eq!(advisor.sees_equal_answers(path, 5, start()), None, "{path}");
        }
        for name in ["*", "x-*"] {
            assert_eq!(sees_fields(&mut advisor, name, 600, start()), 0, "{name}");
        }
        assert!(advisor.told().is_empty());
    }

    #[test]
    fn files_that_set_cookies_are_told_of_by_extension() {
        let mut advisor = Advisor::default();
        for path in ["/a.css", "/a.css", "/b.css", "/c.js"] {
            assert_eq!(advisor.sees_file_cookie(path, start()), None);
        }
        let advice = advisor.sees_file_cookie("/c.CSS", start()).unwrap();
        assert!(advice.rule().contains("\"/*.css\""), "{advice:?}");
        for number in 0..1_000 {
            advisor.sees_file_cookie(&format!("/a.{number}"), start());
        }
        assert!(advisor.files.len() <= EXTENSIONS_MAX);
    }

    /// The operator copies them.
    #[test]
    fn each_rule_is_valid() {
        for advice in [
            Advice::Field {
                name: "x-id".into(),
                path: "/a".into(),
            },
            Advice::FileCookies {
                extension: "css".into(),
                path: "/a.css".into(),
            },
            Advice::EqualAnswers {
                path: "/a/b".into(),
                visitors: 5,
            },
        ] {
            let config = Config::parse(&advice.rule()).unwrap();
            assert!(config.warnings.is_empty(), "{advice:?}");
            let line: Value = serde_json::from_str(&advice.line()).unwrap();
            assert!(line["remedy"].as_str().unwrap().contains(&advice.rule()));
        }
    }
}
