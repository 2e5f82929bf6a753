//! Conditional requests (RFC 9110 section 13), answered from an entry and made from one.

use super::date;
use super::etag::{EntityTag, entity_tag, tags};
use super::fields::{CACHE_STATUS, CDN_CACHE_CONTROL, append, set, single};
use super::lifetime::date_of;
use crate::time::Time;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, VARY, VIA,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

/// What a visitor's conditions make of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer with the entry, or with the ranges of it that were asked for.
    Serve,
    /// Answer 304 with [`not_modified_headers`] and no body.
    NotModified,
}

/// Evaluates `If-None-Match`, and only without it `If-Modified-Since`, against
/// an entry that may be used (RFC 9110 section 13.2.2, RFC 9111 section 4.3.2).
/// `If-Match` and `If-Unmodified-Since` are the origin's business: not evaluated.
///
/// Before [`range`](super::ranges::range): a 304 has no ranges.
pub fn evaluate(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    entry_headers: &HeaderMap,
    response_time: Time,
) -> Precondition {
    // RFC 9110 section 13.2.1: conditions are about successful answers to GET and HEAD.
    if !(method == Method::GET || method == Method::HEAD) || !status.is_success() {
        return Precondition::Serve;
    }
    let not_modified = if request_headers.contains_key(IF_NONE_MATCH) {
        matches_any(request_headers, entry_headers)
    } else {
        not_modified_since(request_headers, entry_headers, response_time)
    };
    if not_modified {
        Precondition::NotModified
    } else {
        Precondition::Serve
    }
}

/// RFC 9110 section 13.1.2: `*`, or any tag that is weakly equal.
fn matches_any(request_headers: &HeaderMap, entry_headers: &HeaderMap) -> bool {
    let own = entity_tag(entry_headers);
    request_headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|line| tags(line.as_bytes()))
        .any(|tag| tag == b"*" || own.is_some_and(|own| own.weakly_equals(EntityTag::parse(tag))))
}

/// RFC 9110 section 13.1.3; an entry that does not say when it was last modified
/// was so at its `Date` at the latest (RFC 9111 section 4.3.2).
fn not_modified_since(
    request_headers: &HeaderMap,
    entry_headers: &HeaderMap,
    response_time: Time,
) -> bool {
    let Some(since) = date_field(request_headers, &IF_MODIFIED_SINCE) else {
        return false;
    };
    let modified = date_field(entry_headers, &LAST_MODIFIED)
        .unwrap_or_else(|| date_of(entry_headers, response_time));
    modified <= since
}

/// A field's date; `None` without the field, with several, and for no date.
pub(super) fn date_field(headers: &HeaderMap, name: &HeaderName) -> Option<Time> {
    single(headers, name).and_then(|value| date::parse(value.as_bytes()))
}

/// Fields that a 304 carries if the 200 would (RFC 9110 section 15.4.5), and
/// those that say where the answer came from.
const OF_NOT_MODIFIED: [HeaderName; 10] = [
    AGE,
    CACHE_CONTROL,
    CACHE_STATUS,
    CDN_CACHE_CONTROL,
    CONTENT_LOCATION,
    DATE,
    ETAG,
    EXPIRES,
    VARY,
    VIA,
];

/// The fields of a 304 made from an entry (RFC 9110 section 15.4.5).
/// `Last-Modified` is among them only where there is no entity tag to go by.
pub fn not_modified_headers(entry_headers: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let modified = (!entry_headers.contains_key(ETAG)).then_some(LAST_MODIFIED);
    for name in OF_NOT_MODIFIED.into_iter().chain(modified) {
        for value in entry_headers.get_all(&name) {
            append(&mut headers, name.clone(), value.clone());
        }
    }
    headers
}

/// Replaces the request's conditions with the entry's validators (RFC 9111
/// section 4.3.1); false if the entry has none, and the request then is
/// unconditional.
pub fn add_validators(request: &mut HeaderMap, entry_headers: &HeaderMap) -> bool {
    remove_conditions(request);
    let mut added = false;
    if let (Some(_), Some(tag)) = (entity_tag(entry_headers), entry_headers.get(ETAG)) {
        set(request, IF_NONE_MATCH, tag.clone());
        added = true;
    }
    if let (Some(_), Some(modified)) = (
        date_field(entry_headers, &LAST_MODIFIED),
        entry_headers.get(LAST_MODIFIED),
    ) {
        set(request, IF_MODIFIED_SINCE, modified.clone());
        added = true;
    }
    added
}

/// Removes the visitor's conditions and `Range`: a fill wants the whole.
pub fn remove_conditions(request: &mut HeaderMap) {
    for name in [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        RANGE,
    ] {
        request.remove(name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, lines, map};
    use super::super::freshness::tests::at;
    use super::*;
    use proptest::prelude::*;

    // The received time of the examples is Sun, 09 Sep 2001 01:46:40 GMT.
    const MODIFIED: &str = "Sun, 09 Sep 2001 01:40:00 GMT";
    const EARLIER: &str = "Sun, 09 Sep 2001 01:39:59 GMT";
    const RECEIVED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";

    fn not_modified(request: &[(&str, &str)], entry: &[(&str, &str)]) -> bool {
        evaluate(
            &Method::GET,
            &map(request),
            StatusCode::OK,
            &map(entry),
            at(0),
        ) == Precondition::NotModified
    }

    #[test]
    fn if_none_match_compares_weakly_and_wins() {
        for (lines, tag, expected) in [
            (&["\"a\""][..], "\"a\"", true),
            (&["\"b\""][..], "\"a\"", false),
            (&["W/\"a\""][..], "\"a\"", true),
            (&["\"a\""][..], "W/\"a\"", true),
            (&["\"x\", \"a\" , \"y\""][..], "\"a\"", true),
            (&["\"x\"", "\"a\""][..], "\"a\"", true),
            (&["*"][..], "\"a\"", true),
            (&["\"*\""][..], "\"a\"", false),
            (&["\"a,b\""][..], "\"a,b\"", true),
            (&["\"x, \"a\""][..], "\"a\"", false),
            (&["a"][..], "\"a\"", false),
            (&["a"][..], "a", true),
            (&[""][..], "\"a\"", false),
        ] {
            let mut request: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
            assert_eq!(
                not_modified(&request, &[("etag", tag)]),
                expected,
                "{lines:?} {tag}"
            );
            // Whatever If-Modified-Since says.
            request.push(("if-modified-since", RECEIVED));
            assert_eq!(
                not_modified(&request, &[("etag", tag), ("last-modified", MODIFIED)]),
                expected,
                "{lines:?} {tag}"
            );
        }
        assert!(not_modified(&[("if-none-match", "*")], &[]));
        assert!(!not_modified(&[("if-none-match", "\"a\"")], &[]));
        assert!(!not_modified(
            &[("if-none-match", "\"a\"")],
            &[("etag", "\"a\""), ("etag", "\"b\"")]
        ));
    }

    #[test]
    fn if_modified_since_compares_dates() {
        for (since, entry, expected) in [
            (MODIFIED, &[("last-modified", MODIFIED)][..], true),
            (RECEIVED, &[("last-modified", MODIFIED)][..], true),
            (EARLIER, &[("last-modified", MODIFIED)][..], false),
            (
                "Sunday, 09-Sep-01 01:40:00 GMT",
                &[("last-modified", MODIFIED)][..],
                true,
            ),
            (
                "Sun Sep  9 01:40:00 2001",
                &[("last-modified", MODIFIED)][..],
                true,
            ),
            ("yesterday", &[("last-modified", MODIFIED)][..], false),
            ("", &[("last-modified", MODIFIED)][..], false),
            // Without Last-Modified, Date; without Date, the time of receipt.
            (MODIFIED, &[("date", MODIFIED)][..], true),
            (EARLIER, &[("date", MODIFIED)][..], false),
            (RECEIVED, &[][..], true),
            (MODIFIED, &[][..], false),
            (
                MODIFIED,
                &[("last-modified", "x"), ("date", MODIFIED)][..],
                true,
            ),
        ] {
            assert_eq!(
                not_modified(&[("if-modified-since", since)], entry),
                expected,
                "{since} {entry:?}"
            );
        }
        assert!(!not_modified(
            &[
                ("if-modified-since", RECEIVED),
                ("if-modified-since", RECEIVED)
            ],
            &[("last-modified", MODIFIED)]
        ));
        assert!(!not_modified(&[], &[("last-modified", MODIFIED)]));
    }

    #[test]
    fn conditions_are_about_successful_get_and_head() {
        let request = map(&[("if-none-match", "*")]);
        for (method, status, expected) in [
            (Method::GET, 200, Precondition::NotModified),
            (Method::HEAD, 203, Precondition::NotModified),
            (Method::POST, 200, Precondition::Serve),
            (Method::GET, 404, Precondition::Serve),
            (Method::GET, 301, Precondition::Serve),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                evaluate(&method, &request, status, &HeaderMap::new(), at(0)),
                expected
            );
        }
    }

    #[test]
    fn a_304_carries_what_guides_caches() {
        let entry = map(&[
            ("cache-control", "max-age=1"),
            ("cache-control", "public"),
            ("cdn-cache-control", "max-age=2"),
            ("content-location", "/x"),
            ("date", MODIFIED),
            ("etag", "\"a\""),
            ("expires", "0"),
            ("vary", "a"),
            ("last-modified", MODIFIED),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("x", "y"),
        ]);
        let expected = map(&[
            ("cache-control", "max-age=1"),
            ("cache-control", "public"),
            ("cdn-cache-control", "max-age=2"),
            ("content-location", "/x"),
            ("date", MODIFIED),
            ("etag", "\"a\""),
            ("expires", "0"),
            ("vary", "a"),
        ]);
        assert_eq!(lines(&not_modified_headers(&entry)), lines(&expected));
        let untagged = map(&[("last-modified", MODIFIED)]);
        assert_eq!(lines(&not_modified_headers(&untagged)), lines(&untagged));
    }

    #[test]
    fn the_entrys_validators_replace_the_visitors_conditions() {
        let visitor = map(&[
            ("if-none-match", "\"v\""),
            ("if-modified-since", EARLIER),
            ("if-match", "\"v\""),
            ("if-unmodified-since", EARLIER),
            ("if-range", "\"v\""),
            ("range", "bytes=0-1"),
            ("x", "y"),
        ]);
        for (entry, added, expected) in [
            (
                &[("etag", "W/\"a\""), ("last-modified", MODIFIED)][..],
                true,
                &[
                    ("if-modified-since", MODIFIED),
                    ("if-none-match", "W/\"a\""),
                    ("x", "y"),
                ][..],
            ),
            (
                &[("etag", "a")][..],
                true,
                &[("if-none-match", "a"), ("x", "y")][..],
            ),
            (
                &[("last-modified", MODIFIED)][..],
                true,
                &[("if-modified-since", MODIFIED), ("x", "y")][..],
            ),
            (
                &[("last-modified", "never"), ("etag", "")][..],
                false,
                &[("x", "y")][..],
            ),
            (
                &[("etag", "\"a\""), ("etag", "\"b\"")][..],
                false,
                &[("x", "y")][..],
            ),
            (&[][..], false, &[("x", "y")][..]),
        ] {
            let mut request = visitor.clone();
            assert_eq!(
                add_validators(&mut request, &map(entry)),
                added,
                "{entry:?}"
            );
            assert_eq!(lines(&request), lines(&map(expected)), "{entry:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_evaluated(request in arbitrary_map(), entry in arbitrary_map()) {
            let _ = evaluate(&Method::GET, &request, StatusCode::OK, &entry, at(0));
            let mut fill = request;
            add_validators(&mut fill, &entry);
            prop_assert!(!fill.contains_key(RANGE));
            prop_assert!(!not_modified_headers(&entry).contains_key("content-length"));
        }
    }
}
