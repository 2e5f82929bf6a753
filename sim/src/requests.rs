//! What a request says, as the simulated origin and the oracle read it.
//!
//! This is written apart from the shield's own classification on purpose: a
//! field that the shield puts into the wrong class is to be seen.

use http::{HeaderMap, Method, header};

/// Parameters of a query that begin so are ignored; a default of the shield's.
const IGNORED_PARAMETERS: &str = "utm_";

/// Beginnings of the names of cookies that say nothing about a session.
const IGNORED_COOKIES: [&str; 2] = ["_ga", "_gid"];

/// Fields that are neither keyed nor sent in a fill, unless `Vary` has named
/// them.
const DROPPED: [&str; 17] = [
    "user-agent",
    "referer",
    "accept-language",
    "x-forwarded-for",
    "x-real-ip",
    "forwarded",
    "traceparent",
    "x-request-id",
    "cache-control",
    "pragma",
    "range",
    "if-range",
    "if-match",
    "if-unmodified-since",
    "content-length",
    "expect",
    "te",
];

/// Fields that the shield itself sends, or that have a class of their own.
const KNOWN: [&str; 14] = [
    "host",
    "via",
    "cdn-loop",
    "connection",
    "accept",
    "accept-encoding",
    "if-none-match",
    "if-modified-since",
    "x-forwarded-proto",
    "cookie",
    "authorization",
    "proxy-authorization",
    "max-forwards",
    "x-serial",
];

/// Fields that some origins take for the host or the target. The shield may key
/// them or drop them; one visitor's must not be in another's answer.
pub(crate) const REWRITING: [&str; 3] = ["x-forwarded-host", "x-original-url", "x-rewrite-url"];

/// Fields that some origins take for the method.
const OVERRIDING: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// The field that an origin may refuse (400) wherever it sees it.
pub(crate) const ODD_FIELD: &str = "x-odd";

/// The `Referer` that an origin may refuse (403).
pub(crate) const ODD_REFERER: &str = "https://spam.example/";

/// What the shield calls itself in `User-Agent`.
const SHIELD_AGENT: &str = "leeward/";

/// A request as the origin gets it, or as a visitor sends it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// Whether it has content.
    pub(crate) content: bool,
}

/// What an origin that negotiates by `Accept` answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Html,
    Json,
    Image,
    /// Nothing that it has.
    Other,
}

impl Asked {
    /// The value of a field; several lines are one value.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let lines: Vec<String> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// What tells the visitor from others; none of somebody anonymous.
    pub(crate) fn credentials(&self) -> Option<String> {
        let mut all = Vec::new();
        for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
            all.extend(self.value(name.as_str()));
        }
        for line in self.headers.get_all(header::COOKIE) {
            let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
            let left = line.split(';').map(str::trim).filter(|cookie| {
                !cookie.is_empty()
                    && !IGNORED_COOKIES
                        .iter()
                        .any(|ignored| cookie.starts_with(ignored))
            });
            all.extend(left.map(str::to_owned));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether it has to be forwarded whole: it has content, or asks for another
    /// method.
    pub(crate) fn is_whole(&self) -> bool {
        let overrides = OVERRIDING
            .iter()
            .any(|name| self.headers.contains_key(*name));
        self.content || overrides || !matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether it wants a part, or is for one version only.
    pub(crate) fn is_conditional(&self) -> bool {
        ["range", "if-match", "if-unmodified-since"]
            .iter()
            .any(|name| self.headers.contains_key(*name))
    }

    /// Fields that nobody knows, with their values.
    pub(crate) fn unknown(&self) -> Vec<(String, String)> {
        let names = self.headers.keys().map(http::HeaderName::as_str);
        let mut unknown: Vec<_> = names
            .filter(|name| {
                [&DROPPED[..], &KNOWN, &REWRITING, &OVERRIDING]
                    .iter()
                    .all(|list| !list.contains(name))
            })
            .filter_map(|name| Some((name.to_owned(), self.value(name)?)))
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// Names of fields that a fill may only have where `Vary` has named them.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = &'static str> {
        DROPPED.into_iter().filter(|name| {
            let own = *name == "user-agent"
                && self
                    .value(name)
                    .is_some_and(|agent| agent.starts_with(SHIELD_AGENT));
            self.headers.contains_key(*name) && !own
        })
    }

    /// `https` or `http`, as far as anybody behind a proxy can know.
    pub(crate) fn scheme(&self) -> String {
        self.value("x-forwarded-proto")
            .unwrap_or_else(|| "http".to_owned())
    }

    /// What it would rather have.
    pub(crate) fn media(&self) -> Media {
        let accept = self.value("accept").unwrap_or_default();
        // The first of the best.
        let best = weighted(&accept).fold(None, |best: Option<(&str, f32)>, next| match best {
            Some(best) if best.1 >= next.1 => Some(best),
            _ => Some(next),
        });
        match best.map(|(name, _)| name) {
            None | Some("*/*" | "text/html" | "text/*" | "application/xhtml+xml") => Media::Html,
            Some("application/json" | "application/*") => Media::Json,
            Some(name) if name.starts_with("image/") => Media::Image,
            Some(_) => Media::Other,
        }
    }

    /// Whether it takes what names no media type.
    pub(crate) fn takes_any_media(&self) -> bool {
        self.value("accept").is_none_or(|accept| {
            weighted(&accept).any(|(name, weight)| name == "*/*" && weight > 0.0)
        })
    }

    /// Whether it said that it can read a content coding.
    pub(crate) fn accepts_coding(&self, coding: &str) -> bool {
        let accepted = self.value("accept-encoding").unwrap_or_default();
        weighted(&accepted).any(|(name, _)| name == coding || name == "*")
    }

    /// The target without parameters that the operator has ignored.
    pub(crate) fn plain_target(&self) -> String {
        plain_target(&self.target)
    }

    /// Whether its target has a parameter that the operator has ignored.
    pub(crate) fn has_ignored_parameters(&self) -> bool {
        self.plain_target() != self.target
    }

    /// Whether it is the same as another to an origin whose answer varies on a
    /// field.
    pub(crate) fn same(&self, other: &Asked, name: &str) -> bool {
        match name {
            // All of it, whatever the white space around commas.
            "accept" => {
                let plain = |asked: &Asked| {
                    let value = asked.value(name)?;
                    Some(
                        value
                            .split(',')
                            .map(str::trim)
                            .collect::<Vec<_>>()
                            .join(","),
                    )
                };
                plain(self) == plain(other)
            }
            // Whether the visitor can read the answer is asked of the answer.
            "accept-encoding" => true,
            "cookie" | "authorization" => self.credentials() == other.credentials(),
            name => self.value(name) == other.value(name),
        }
    }
}

/// Path and query without parameters that the operator has ignored.
fn plain_target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let left: Vec<&str> = query
        .split('&')
        .filter(|parameter| !parameter.starts_with(IGNORED_PARAMETERS))
        .collect();
    match left.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", left.join("&")),
    }
}

/// The members of a list that are welcome at all, in lower case where the list
/// is, and how welcome.
fn weighted(list: &str) -> impl Iterator<Item = (&str, f32)> {
    list.split(',').filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts
            .find_map(|parameter| parameter.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        (weight > 0.0).then_some((name, weight))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn asked(fields: &[(&'static str, &'static str)]) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Asked {
            method: Method::GET,
            target: "/k0".into(),
            headers,
            content: false,
        }
    }

    #[test]
    fn cookies_that_say_nothing_are_no_credentials() {
        assert_eq!(asked(&[]).credentials(), None);
        assert_eq!(asked(&[("cookie", "_ga=1; _gid=2")]).credentials(), None);
        let some = asked(&[("cookie", "_ga=1; session=2")]).credentials();
        assert_eq!(some.as_deref(), Some("session=2"));
        // Malformed cookies are credentials.
        assert!(asked(&[("cookie", "=;x")]).credentials().is_some());
        assert!(
            asked(&[("authorization", "Basic eA==")])
                .credentials()
                .is_some()
        );
    }

    #[test]
    fn a_class_of_accept_means_the_same_as_what_it_stands_for() {
        for (accept, class, media) in [
            ("*/*", "*/*", Media::Html),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                "text/html, */*;q=0.1",
                Media::Html,
            ),
            ("application/json", "application/json", Media::Json),
            (
                "image/avif,image/webp,*/*;q=0.8",
                "image/*, */*;q=0.1",
                Media::Image,
            ),
            (
                "application/x-made-up",
                "application/x-made-up",
                Media::Other,
            ),
        ] {
            assert_eq!(asked(&[("accept", accept)]).media(), media, "{accept}");
            assert_eq!(asked(&[("accept", class)]).media(), media, "{class}");
        }
        assert_eq!(asked(&[]).media(), Media::Html);
    }

    #[test]
    fn fields_have_classes() {
        let asked = asked(&[
            ("x-tenant", "a"),
            ("x-forwarded-host", "evil"),
            ("referer", "r"),
            ("user-agent", "leeward/0.1"),
            ("accept-encoding", "br;q=0, gzip;q=0.5"),
        ]);
        assert_eq!(asked.unknown(), [("x-tenant".into(), "a".into())]);
        assert_eq!(asked.dropped().collect::<Vec<_>>(), ["referer"]);
        assert!(asked.accepts_coding("gzip") && !asked.accepts_coding("br"));
        assert_eq!(plain_target("/a?utm_source=x&b=1"), "/a?b=1");
        assert_eq!(plain_target("/a?utm_source=x"), "/a");
    }
}
