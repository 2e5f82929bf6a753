//! Parts of a representation: 206 stored as incomplete, served within its
//! bounds, and completed (RFC 9111 sections 3.3 and 3.4).

use super::conditional::{date_field, remove_conditions};
use super::directives::trim;
use super::etag::{EntityTag, entity_tag};
use super::fields::{set, single};
use super::policy::Policy;
use super::ranges::{ByteRange, RangeAnswer, position, range};
use super::reason::Reason;
use super::storable::{Storability, decide};
use super::update::freshen;
use crate::time::Time;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// Which bytes of a representation are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes.
    pub range: ByteRange,
    /// How long the whole is, in bytes; more than `range.end`.
    pub complete_length: u64,
}

impl Part {
    /// Whether it is the whole, which is then stored as 200 with [`whole_headers`].
    pub fn is_whole(self) -> bool {
        self.range.length() == self.complete_length
    }
}

/// Reads which part a 206 holds; `None` if it does not say (several parts, a
/// length unknown, a malformed `Content-Range`: RFC 9110 section 14.4) or its
/// body has another length than it says. Such a 206 is handed on, not stored.
pub fn part(status: StatusCode, headers: &HeaderMap, body_length: u64) -> Option<Part> {
    if status != StatusCode::PARTIAL_CONTENT || is_multipart(headers) {
        return None;
    }
    let part = content_range_of(headers)?;
    (part.range.length() == body_length).then_some(part)
}

fn is_multipart(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let essence = value
            .as_bytes()
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default();
        trim(essence).eq_ignore_ascii_case(b"multipart/byteranges")
    })
}

/// Reads `Content-Range: bytes 0-9/100`.
fn content_range_of(headers: &HeaderMap) -> Option<Part> {
    let text = std::str::from_utf8(single(headers, &CONTENT_RANGE)?.as_bytes()).ok()?;
    let (unit, rest) = text.trim_matches([' ', '\t']).split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, complete) = rest.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, complete_length) = (position(start)?, position(end)?, position(complete)?);
    (start <= end && end < complete_length).then_some(Part {
        range: ByteRange { start, end },
        complete_length,
    })
}

/// Decides about a 206 to GET that [`part`] can read: as for a 200, and never
/// as the whole (RFC 9111 section 3.3).
pub fn storability_of_part(
    method: &Method,
    request_headers: &HeaderMap,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    if method != Method::GET {
        return Storability::DoNotStore(Reason::Method);
    }
    if is_multipart(response_headers) || content_range_of(response_headers).is_none() {
        return Storability::DoNotStore(Reason::Partial);
    }
    decide(
        request_headers,
        StatusCode::OK,
        response_headers,
        request_time,
        response_time,
        policy,
    )
}

/// What a part can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartAnswer {
    /// Answer 206 with these bytes of the whole, and `content_range`.
    Single {
        /// First byte, counted from the start of the whole.
        start: u64,
        /// Last byte, inclusive.
        end: u64,
    },
    /// Answer 416: no part could satisfy it.
    Unsatisfiable,
    /// Go forward: bytes are asked for that are not there.
    Missing,
}

/// Evaluates `Range` and `If-Range` against a stored part.
pub fn range_of_part(
    method: &Method,
    request_headers: &HeaderMap,
    entry_headers: &HeaderMap,
    part: Part,
) -> PartAnswer {
    match range(
        method,
        request_headers,
        StatusCode::OK,
        entry_headers,
        part.complete_length,
    ) {
        RangeAnswer::Single { start, end }
            if part.range.start <= start && end <= part.range.end =>
        {
            PartAnswer::Single { start, end }
        }
        RangeAnswer::Unsatisfiable => PartAnswer::Unsatisfiable,
        RangeAnswer::Single { .. } | RangeAnswer::Whole | RangeAnswer::Multiple(_) => {
            PartAnswer::Missing
        }
    }
}

/// Makes a request that asks for the rest of a part (RFC 9111 section 3.3);
/// false, and the request then asks for the whole, if the rest is not one range
/// or the part has no strong entity tag to tell that it still belongs to it.
pub fn ask_for_rest(request: &mut HeaderMap, entry_headers: &HeaderMap, part: Part) -> bool {
    remove_conditions(request);
    let ByteRange { start, end } = part.range;
    let rest = match (
        start.checked_sub(1),
        end.saturating_add(1) < part.complete_length,
    ) {
        (None, true) => format!("bytes={}-", end.saturating_add(1)),
        (Some(before), false) => format!("bytes=0-{before}"),
        (None, false) | (Some(_), true) => return false,
    };
    let strong = matches!(entity_tag(entry_headers), Some(EntityTag::Strong(_)));
    match (strong, entry_headers.get(ETAG), HeaderValue::try_from(rest)) {
        (true, Some(tag), Ok(rest)) => {
            set(request, RANGE, rest);
            set(request, IF_RANGE, tag.clone());
            true
        }
        (_, _, _) => false,
    }
}

/// Two parts made one: the fields of the result, and which bytes it holds. The
/// caller joins the bodies, the new bytes where both have some.
///
/// `None` if they are not of one representation, which takes the same strong
/// entity tag and no contradiction beside it, or leave a gap (RFC 9111 section
/// 3.4): the new part then stands alone.
pub fn combine(
    entry_headers: &HeaderMap,
    stored: Part,
    new_headers: &HeaderMap,
    new: Part,
) -> Option<(HeaderMap, Part)> {
    let same_tag = entity_tag(entry_headers)?.strongly_equals(entity_tag(new_headers)?);
    let same_date = match (
        date_field(entry_headers, &LAST_MODIFIED),
        date_field(new_headers, &LAST_MODIFIED),
    ) {
        (Some(stored), Some(new)) => stored == new,
        (None, _) | (_, None) => true,
    };
    let (low, high) = if stored.range.start <= new.range.start {
        (stored, new)
    } else {
        (new, stored)
    };
    let touch = high.range.start <= low.range.end.saturating_add(1);
    if !same_tag || !same_date || !touch || stored.complete_length != new.complete_length {
        return None;
    }
    let range = ByteRange {
        start: low.range.start,
        end: low.range.end.max(high.range.end),
    };
    let part = Part {
        range,
        complete_length: new.complete_length,
    };
    let mut headers = freshen(entry_headers, new_headers);
    set(
        &mut headers,
        CONTENT_RANGE,
        super::ranges::content_range(range.start, range.end, part.complete_length),
    );
    set(
        &mut headers,
        CONTENT_LENGTH,
        HeaderValue::from(range.length()),
    );
    Some((headers, part))
}

/// The fields of a 200 made from parts that are the whole.
pub fn whole_headers(headers: &HeaderMap, part: Part) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(CONTENT_RANGE);
    set(
        &mut headers,
        CONTENT_LENGTH,
        HeaderValue::from(part.complete_length),
    );
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, lines, map};
    use super::super::freshness::tests::at;
    use super::*;
    use proptest::prelude::*;

    fn bytes(start: u64, end: u64, complete_length: u64) -> Part {
        Part {
            range: ByteRange { start, end },
            complete_length,
        }
    }

    #[test]
    fn parts_say_which_they_are() {
        for (content_range, body, expected) in [
            ("bytes 0-4/10", 5, Some(bytes(0, 4, 10))),
            ("Bytes 5-9/10", 5, Some(bytes(5, 9, 10))),
            ("bytes 0-9/10", 10, Some(bytes(0, 9, 10))),
            ("bytes 4-9/10", 5, None),
            ("bytes 0-4/*", 5, None),
            ("bytes */10", 5, None),
            ("bytes 4-0/10", 5, None),
            ("bytes 0-4/4", 5, None),
            ("bytes=0-4/10", 5, None),
            ("bytes 0-4", 5, None),
            ("lines 0-4/10", 5, None),
            ("bytes 0-18446744073709551615/99999999999999999999", 5, None),
            ("", 0, None),
        ] {
            let headers = map(&[("content-range", content_range)]);
            assert_eq!(
                part(StatusCode::PARTIAL_CONTENT, &headers, body),
                expected,
                "{content_range}"
            );
            assert_eq!(part(StatusCode::OK, &headers, body), None);
        }
        let several = map(&[
            ("content-type", "Multipart/ByteRanges; boundary=x"),
            ("content-range", "bytes 0-4/10"),
        ]);
        assert_eq!(part(StatusCode::PARTIAL_CONTENT, &several, 5), None);
        assert!(bytes(0, 9, 10).is_whole() && !bytes(1, 9, 10).is_whole());
    }

    #[test]
    fn parts_are_stored_by_the_rules_of_the_whole() {
        let decided = |method, fields| {
            storability_of_part(
                &method,
                &HeaderMap::new(),
                &map(fields),
                at(0),
                at(0),
                &Policy::default(),
            )
        };
        let range = ("content-range", "bytes 0-4/10");
        for (method, fields, expected) in [
            (
                Method::GET,
                &[range, ("cache-control", "max-age=60")][..],
                None,
            ),
            (
                Method::GET,
                &[range, ("cache-control", "no-store")][..],
                Some(Reason::NoStore),
            ),
            (
                Method::GET,
                &[("cache-control", "max-age=60")][..],
                Some(Reason::Partial),
            ),
            (
                Method::POST,
                &[range, ("cache-control", "max-age=60")][..],
                Some(Reason::Method),
            ),
        ] {
            match decided(method, fields) {
                Storability::Store(_) => assert_eq!(expected, None, "{fields:?}"),
                Storability::DoNotStore(reason) => assert_eq!(expected, Some(reason), "{fields:?}"),
            }
        }
    }

    #[test]
    fn a_part_answers_within_its_bounds() {
        let part = bytes(4, 7, 10);
        for (asked, expected) in [
            ("bytes=4-7", PartAnswer::Single { start: 4, end: 7 }),
            ("bytes=5-6", PartAnswer::Single { start: 5, end: 6 }),
            ("bytes=3-5", PartAnswer::Missing),
            ("bytes=5-8", PartAnswer::Missing),
            ("bytes=5-", PartAnswer::Missing),
            ("bytes=-1", PartAnswer::Missing),
            ("bytes=4-4,6-6", PartAnswer::Missing),
            ("bytes=10-", PartAnswer::Unsatisfiable),
            ("x", PartAnswer::Missing),
        ] {
            let request = map(&[("range", asked)]);
            assert_eq!(
                range_of_part(&Method::GET, &request, &HeaderMap::new(), part),
                expected,
                "{asked}"
            );
        }
        assert_eq!(
            range_of_part(&Method::GET, &HeaderMap::new(), &HeaderMap::new(), part),
            PartAnswer::Missing
        );
        let tail = map(&[("range", "bytes=-3")]);
        assert_eq!(
            range_of_part(&Method::GET, &tail, &HeaderMap::new(), bytes(5, 9, 10)),
            PartAnswer::Single { start: 7, end: 9 }
        );
    }

    #[test]
    fn the_rest_is_asked_for_by_a_strong_tag() {
        for (part, entry, expected) in [
            (bytes(0, 4, 10), &[("etag", "\"a\"")][..], Some("bytes=5-")),
            (bytes(5, 9, 10), &[("etag", "\"a\"")][..], Some("bytes=0-4")),
            (bytes(2, 4, 10), &[("etag", "\"a\"")][..], None),
            (bytes(0, 9, 10), &[("etag", "\"a\"")][..], None),
            (bytes(0, 4, 10), &[("etag", "W/\"a\"")][..], None),
            (bytes(0, 4, 10), &[][..], None),
        ] {
            let mut request = map(&[("range", "bytes=1-2"), ("if-none-match", "*")]);
            assert_eq!(
                ask_for_rest(&mut request, &map(entry), part),
                expected.is_some(),
                "{part:?} {entry:?}"
            );
            let fields = expected
                .map(|rest| vec![("range", rest), ("if-range", "\"a\"")])
                .unwrap_or_default();
            assert_eq!(lines(&request), lines(&map(&fields)), "{part:?} {entry:?}");
        }
    }

    #[test]
    fn parts_of_one_representation_are_combined() {
        let tagged = |tag| {
            map(&[
                ("etag", tag),
                ("x", "1"),
                ("content-range", "bytes 0-4/10"),
                ("content-length", "5"),
            ])
        };
        let new = |tag| {
            map(&[
                ("etag", tag),
                ("x", "2"),
                ("content-range", "bytes 5-9/10"),
                ("content-length", "5"),
            ])
        };
        let (headers, part) = combine(
            &tagged("\"a\""),
            bytes(0, 4, 10),
            &new("\"a\""),
            bytes(5, 9, 10),
        )
        .unwrap();
        assert!(part.is_whole());
        assert_eq!(
            lines(&headers),
            lines(&map(&[
                ("etag", "\"a\""),
                ("x", "2"),
                ("content-range", "bytes 0-9/10"),
                ("content-length", "10")
            ]))
        );
        assert_eq!(
            lines(&whole_headers(&headers, part)),
            lines(&map(&[
                ("etag", "\"a\""),
                ("x", "2"),
                ("content-length", "10")
            ]))
        );
        for (a, b, stored, added, combined) in [
            ("\"a\"", "\"a\"", bytes(5, 9, 10), bytes(0, 4, 10), true),
            ("\"a\"", "\"a\"", bytes(0, 4, 10), bytes(2, 9, 10), true),
            ("\"a\"", "\"a\"", bytes(0, 4, 10), bytes(6, 9, 10), false),
            ("\"a\"", "\"a\"", bytes(0, 4, 10), bytes(5, 9, 11), false),
            ("\"a\"", "\"b\"", bytes(0, 4, 10), bytes(5, 9, 10), false),
            (
                "W/\"a\"",
                "W/\"a\"",
                bytes(0, 4, 10),
                bytes(5, 9, 10),
                false,
            ),
        ] {
            assert_eq!(
                combine(&tagged(a), stored, &new(b), added).is_some(),
                combined,
                "{a} {b} {stored:?} {added:?}"
            );
        }
    }

    #[test]
    fn parts_modified_at_different_times_are_not_combined() {
        const MODIFIED: &str = "Sun, 09 Sep 2001 01:40:00 GMT";
        const LATER: &str = "Sun, 09 Sep 2001 01:40:01 GMT";
        for (stored, new, combined) in [
            (
                &[("last-modified", MODIFIED)][..],
                &[("last-modified", MODIFIED)][..],
                true,
            ),
            (&[("last-modified", MODIFIED)][..], &[][..], true),
            (
                &[("last-modified", MODIFIED)][..],
                &[("last-modified", LATER)][..],
                false,
            ),
        ] {
            let tagged = |fields| {
                let mut headers = map(fields);
                headers.insert(ETAG, HeaderValue::from_static("\"a\""));
                headers
            };
            let outcome = combine(
                &tagged(stored),
                bytes(0, 4, 10),
                &tagged(new),
                bytes(5, 9, 10),
            );
            assert_eq!(outcome.is_some(), combined, "{stored:?} {new:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_read(request in arbitrary_map(), entry in arbitrary_map(), new in arbitrary_map(), start in any::<u64>(), more in 0..9u64, length in any::<u64>()) {
            let read = part(StatusCode::PARTIAL_CONTENT, &entry, length);
            let other = bytes(start.min(u64::MAX - 10), start.min(u64::MAX - 10) + more, u64::MAX);
            let one = read.unwrap_or(other);
            if let PartAnswer::Single { start, end } = range_of_part(&Method::GET, &request, &entry, one) {
                prop_assert!(one.range.start <= start && start <= end && end <= one.range.end);
            }
            if let Some((_, combined)) = combine(&entry, one, &new, other) {
                prop_assert!(combined.range.length() <= one.range.length().saturating_add(other.range.length()));
            }
            let mut fill = request;
            let asked = ask_for_rest(&mut fill, &entry, one);
            prop_assert_eq!(asked, fill.contains_key(RANGE));
        }
    }
}
