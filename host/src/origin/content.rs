//! Which version of each path there is: its counter and its ETag.
//!
//! Every full answer to a GET makes a new version: the counter goes up by one
//! and the ETag with it, so that a reader sees which trip to the origin a copy
//! comes from. A conditional GET that names the current version is answered
//! "not modified" while that version is younger than [`VERSION_TTLS`] times the
//! TTL; after that the content has changed and the answer is a full one. A cache
//! that revalidates whenever the TTL has passed therefore sees both kinds in
//! turn. HEAD describes the current version and makes none unless it must; an
//! unsafe request makes the current version obsolete.

use std::time::{Duration, Instant, SystemTime};

use super::per_path::PerPath;

/// How long a version can be confirmed by "not modified", in TTLs.
const VERSION_TTLS: u32 = 2;

/// The versions of all paths.
#[derive(Debug)]
pub(super) struct Content {
    /// Sets the ETags of this run apart from those of earlier ones, which a
    /// store may remember.
    run: u64,
    /// How long a version can be confirmed.
    version_life: Duration,
    versions: PerPath<Versions>,
}

/// The versions of one path: how many there were, and the current one if any.
#[derive(Debug, Default)]
struct Versions {
    count: u64,
    made_at: Option<Instant>,
}

/// What a GET or HEAD is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The client names the current version: 304, no body.
    NotModified {
        /// The version's strong ETag, in quotes.
        etag: String,
    },
    /// The client is to have this version.
    Full {
        /// The version's strong ETag, in quotes.
        etag: String,
        /// Which version of the path it is, from 1.
        counter: u64,
    },
}

impl Content {
    /// Content of which nothing was generated yet. `started` is the wall clock.
    pub(super) fn new(ttl: Duration, started: SystemTime) -> Content {
        let run = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_micros() as u64);
        Content {
            run,
            version_life: ttl.saturating_mul(VERSION_TTLS),
            versions: PerPath::default(),
        }
    }

    /// Answers a GET.
    pub(super) fn get(&mut self, path: &str, if_none_match: Option<&str>, now: Instant) -> Answer {
        self.answer(path, if_none_match, now, false)
    }

    /// Answers a HEAD.
    pub(super) fn head(&mut self, path: &str, if_none_match: Option<&str>, now: Instant) -> Answer {
        self.answer(path, if_none_match, now, true)
    }

    /// An unsafe request was made for `path`: its content has changed.
    pub(super) fn change(&mut self, path: &str) {
        self.versions.at(path).1.made_at = None;
    }

    fn answer(
        &mut self,
        path: &str,
        if_none_match: Option<&str>,
        now: Instant,
        reuse: bool,
    ) -> Answer {
        let (_, versions) = self.versions.at(path);
        let current = versions
            .made_at
            .is_some_and(|made_at| now.saturating_duration_since(made_at) < self.version_life);
        if current {
            let etag = etag(self.run, versions.count);
            if if_none_match.is_some_and(|tags| names(tags, &etag)) {
                return Answer::NotModified { etag };
            }
        }
        if !(current && reuse) {
            versions.count += 1;
            versions.made_at = Some(now);
        }
        Answer::Full {
            etag: etag(self.run, versions.count),
            counter: versions.count,
        }
    }
}

fn etag(run: u64, counter: u64) -> String {
    format!("\"{run:x}-{counter}\"")
}

/// Whether an `If-None-Match` names `etag`; RFC 9110, section 13.1.2: the
/// comparison is weak. Our tags have no comma, so splitting there is enough.
fn names(if_none_match: &str, etag: &str) -> bool {
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    fn content() -> Content {
        Content::new(TTL, SystemTime::UNIX_EPOCH + Duration::from_micros(0xab))
    }

    fn full(counter: u64) -> Answer {
        Answer::Full {
            etag: format!("\"ab-{counter}\""),
            counter,
        }
    }

    fn not_modified(counter: u64) -> Answer {
        Answer::NotModified {
            etag: format!("\"ab-{counter}\""),
        }
    }

    #[test]
    fn every_full_answer_is_a_new_version_of_that_path() {
        let (mut content, now) = (content(), Instant::now());
        assert_eq!(content.get("/a", None, now), full(1));
        assert_eq!(content.get("/a", None, now), full(2));
        assert_eq!(content.get("/b", None, now), full(1));
        assert_eq!(
            content.get("/a", Some("\"ab-1\""), now),
            full(3),
            "names an older version"
        );
    }

    #[test]
    fn the_current_version_is_confirmed_until_it_is_too_old() {
        let (mut content, now) = (content(), Instant::now());
        let life = TTL * VERSION_TTLS;
        assert_eq!(content.get("/", None, now), full(1));
        let cases = [
            (Duration::ZERO, not_modified(1)),
            (TTL, not_modified(1)),
            (life - Duration::from_nanos(1), not_modified(1)),
            (life, full(2)),
        ];
        for (age, answer) in cases {
            assert_eq!(
                content.get("/", Some("\"ab-1\""), now + age),
                answer,
                "{age:?}"
            );
        }
    }

    #[test]
    fn head_describes_the_current_version() {
        let (mut content, now) = (content(), Instant::now());
        assert_eq!(
            content.head("/", None, now),
            full(1),
            "there must be one to describe"
        );
        assert_eq!(content.head("/", None, now), full(1));
        assert_eq!(content.head("/", Some("\"ab-1\""), now), not_modified(1));
        assert_eq!(content.get("/", None, now), full(2));
        assert_eq!(
            content.head("/", None, now + TTL * VERSION_TTLS),
            full(3),
            "too old to describe"
        );
    }

    #[test]
    fn an_unsafe_request_changes_the_content() {
        let (mut content, now) = (content(), Instant::now());
        assert_eq!(content.get("/", None, now), full(1));
        content.change("/");
        assert_eq!(content.get("/", Some("\"ab-1\""), now), full(2));
    }

    #[test]
    fn if_none_match_names_a_tag() {
        let cases = [
            ("\"a\"", true),
            ("*", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("\"b\" ,W/\"a\" ", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
            ("\"a", false),
        ];
        for (header, expected) in cases {
            assert_eq!(names(header, "\"a\""), expected, "{header:?}");
        }
    }
}
