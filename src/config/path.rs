//! Patterns of paths.

use crate::question::policy::KeyPolicy;
use crate::question::target::canonical;
use std::fmt;

/// Longest pattern, in bytes.
pub const PATTERN_MAX: usize = 1_024;

/// Most `*` in a pattern.
pub const STARS_MAX: usize = 16;

/// A path in which `*` stands for any sequence of characters, `/` included:
/// `/api/quotes/*`, `/*.css`.
///
/// The text between the stars is in the normal form of
/// [`crate::question::target`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!(
                "is a pattern of {} bytes; write at most {PATTERN_MAX}",
                text.len()
            ));
        }
        if let Some((path, _)) = text.split_once(['?', '#']) {
            return Err(format!(
                "{text:?} has a query or fragment, but a pattern is compared with the path alone; \
                 write {path:?}"
            ));
        }
        if !text.starts_with('/') {
            return Err(format!(
                "{text:?} does not begin with a slash, as every path does; write \"/{}\"",
                text.escape_debug()
            ));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{text:?} has characters that are escaped in a URL; write {:?}",
                escaped(text)
            ));
        }
        let mut pattern = String::with_capacity(text.len());
        for letter in canonical(text, &KeyPolicy::default()).chars() {
            // Two stars in a row mean the same as one.
            if letter != '*' || !pattern.ends_with('*') {
                pattern.push(letter);
            }
        }
        let stars = pattern.matches('*').count();
        if stars > STARS_MAX {
            return Err(format!("has {stars} stars; write at most {STARS_MAX}"));
        }
        Ok(PathPattern(pattern))
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches all that `other` does. It may say no although it does: what a `*`
    /// of the other stands for is not looked into.
    pub(super) fn covers(&self, other: &PathPattern) -> bool {
        self.matches(&other.0)
    }

    /// The pattern for paths in lower case.
    pub(super) fn lowercase(&mut self) {
        self.0.make_ascii_lowercase();
    }

    /// Whether the whole of `path` fits the pattern. Takes time linear in the
    /// length of both.
    pub fn matches(&self, path: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return path == self.0;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(inner) = path
            .strip_prefix(first)
            .and_then(|rest| rest.strip_suffix(last))
        else {
            return false;
        };
        // The first place of a piece leaves the most to those after it, so
        // there is never a reason to try a later one.
        middle
            .split('*')
            .try_fold(inner, |rest, piece| {
                rest.split_once(piece).map(|(_, after)| after)
            })
            .is_some()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text` with everything escaped that cannot stand in a URL.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, path, fits) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/A", false),
            ("/a", "/a/", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/*", "*", false),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/a", false),
            ("/a*", "/a", true),
            ("/*.css", "/.css", true),
            ("/*.css", "/a/b.css", true),
            ("/*.css", "/a.css.map", false),
            ("/a*a", "/a", false),
            ("/a*a", "/aa", true),
            ("/a*b*c", "/abc", true),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/ac", false),
            ("/a*b*c", "/acb", false),
            ("/*ab*b", "/ab", false),
            ("/*ab*b", "/abb", true),
            ("/**/x", "/a/x", true),
            ("/***", "/", true),
            ("/%7Ejo/*", "/~jo/a", true),
            ("/caf%c3%a9", "/caf%C3%A9", true),
            ("/a.c", "/abc", false),
            ("/a+", "/aa", false),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_wrong_pattern_is_refused_with_a_remedy() {
        for (text, remedy) in [
            ("", "write \"/\""),
            ("*", "write \"/*\""),
            ("api/*", "write \"/api/*\""),
            ("/a?b=*", "write \"/a\""),
            ("/a#b", "write \"/a\""),
            ("/a b", "write \"/a%20b\""),
            ("/café", "write \"/caf%C3%A9\""),
            ("/a\n", "write \"/a%0A\""),
            (&"/a*".repeat(STARS_MAX + 1), "has 17 stars; write at most"),
            (&"/".repeat(PATTERN_MAX + 1), "write at most 1024"),
        ] {
            let message = PathPattern::parse(text).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
        PathPattern::parse(&"/a*".repeat(STARS_MAX)).unwrap();
        PathPattern::parse(&"/".repeat(PATTERN_MAX)).unwrap();
    }

    /// A matcher that tries every split would not end.
    #[test]
    fn a_pattern_of_many_stars_takes_linear_time() {
        let pattern = PathPattern::parse(&format!("/{}b", "a*".repeat(STARS_MAX))).unwrap();
        assert!(!pattern.matches(&format!("/{}", "a".repeat(60_000))));
    }

    /// By the meaning of a star alone.
    fn fits(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) => (0..=path.len()).any(|skipped| fits(rest, &path[skipped..])),
            Some((letter, rest)) => path.first() == Some(letter) && fits(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_what_a_naive_matcher_matches(pattern in "/[ab*/]{0,8}", path in "/[ab/]{0,10}") {
            let parsed = PathPattern::parse(&pattern).unwrap();
            prop_assert_eq!(parsed.matches(&path), fits(pattern.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), path in any::<String>()) {
            if let Ok(pattern) = PathPattern::parse(&text) {
                let again = PathPattern::parse(pattern.as_str()).unwrap();
                prop_assert_eq!(again.matches(&path), pattern.matches(&path));
                prop_assert_eq!(again, pattern);
            }
        }
    }
}
