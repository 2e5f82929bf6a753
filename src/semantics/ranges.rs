//! Range requests (RFC 9110 section 14), answered from a complete entry.

use super::conditional::date_field;
use super::etag::{EntityTag, entity_tag};
use super::fields::single;
use super::line::trim;
use http::header::{DATE, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::time::Duration;

/// The most ranges of one request that are read. A request that asks for more
/// gets the whole (RFC 9110 section 14.2 allows that).
const RANGES_MAX: usize = 16;

/// Bytes of a representation; both positions count from zero and are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ByteRange {
    /// First byte.
    start: u64,
    /// Last byte, never before `start`.
    end: u64,
}

/// What a visitor's `Range` makes of a complete entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// Answer with the whole entry. That is also the answer to several ranges
    /// that do not overlap (RFC 9110 section 14.2 allows it).
    Whole,
    /// Answer 206 with these bytes and [`content_range`].
    Single {
        /// First byte.
        start: u64,
        /// Last byte, inclusive.
        end: u64,
    },
    /// Answer 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

/// Evaluates `Range` and `If-Range` against a complete entry of `length` bytes.
///
/// After [`evaluate`](super::conditional::evaluate) has said to serve it (RFC
/// 9110 section 13.2.2).
pub fn range(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    entry_headers: &HeaderMap,
    length: u64,
) -> RangeAnswer {
    // RFC 9110 section 14.2: ranges are of GET alone, and of what 200 would answer.
    if method != Method::GET || status != StatusCode::OK {
        return RangeAnswer::Whole;
    }
    let Some(field) = single(request_headers, &RANGE) else {
        return RangeAnswer::Whole;
    };
    if !if_range_holds(request_headers, entry_headers) {
        return RangeAnswer::Whole;
    }
    match parse(field.as_bytes()) {
        // Malformed, of another unit, or too many: as if absent.
        None => RangeAnswer::Whole,
        // Of nothing there are no bytes to name.
        Some(_) if length == 0 => RangeAnswer::Whole,
        Some(asked) => answer(&asked, length),
    }
}

/// One member of `Range` (RFC 9110 section 14.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// `first-last` or `first-`.
    From { first: u64, last: Option<u64> },
    /// `-length`.
    Suffix { length: u64 },
}

/// Reads `bytes=…`; `None` if any member is malformed.
fn parse(text: &[u8]) -> Option<Vec<Asked>> {
    let text = std::str::from_utf8(text).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.trim_matches([' ', '\t']).eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut asked = Vec::new();
    for member in set
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
    {
        if member.is_empty() {
            continue;
        }
        if asked.len() >= RANGES_MAX {
            return None;
        }
        asked.push(member_of_range(member)?);
    }
    (!asked.is_empty()).then_some(asked)
}

fn member_of_range(member: &str) -> Option<Asked> {
    let (first, last) = member.split_once('-')?;
    if first.is_empty() {
        return Some(Asked::Suffix {
            length: position(last)?,
        });
    }
    let first = position(first)?;
    if last.is_empty() {
        return Some(Asked::From { first, last: None });
    }
    let last = position(last)?;
    (first <= last).then_some(Asked::From {
        first,
        last: Some(last),
    })
}

/// Digits alone; a number beyond what a length can be counts as the largest.
fn position(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// What is asked of `length` bytes, more than none.
fn answer(asked: &[Asked], length: u64) -> RangeAnswer {
    let mut ranges: Vec<ByteRange> = asked
        .iter()
        .filter_map(|asked| satisfy(*asked, length))
        .collect();
    ranges.sort_by_key(|range| range.start);
    // RFC 9110 section 15.3.7.2 allows joining ranges that overlap.
    match joined(&ranges).as_slice() {
        [] => RangeAnswer::Unsatisfiable,
        [ByteRange { start, end }] => RangeAnswer::Single {
            start: *start,
            end: *end,
        },
        [..] => RangeAnswer::Whole,
    }
}

fn satisfy(asked: Asked, length: u64) -> Option<ByteRange> {
    let end = length.checked_sub(1)?;
    match asked {
        Asked::From { first, last } => (first <= end).then_some(ByteRange {
            start: first,
            end: last.unwrap_or(end).min(end),
        }),
        Asked::Suffix { length: 0 } => None,
        Asked::Suffix { length: suffix } => Some(ByteRange {
            start: length.saturating_sub(suffix),
            end,
        }),
    }
}

/// Joins ranges, ordered by start, that overlap.
fn joined(ordered: &[ByteRange]) -> Vec<ByteRange> {
    let mut joined: Vec<ByteRange> = Vec::new();
    for range in ordered {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => joined.push(*range),
        }
    }
    joined
}

/// Whether `If-Range` is absent or names the entry by a strong validator (RFC
/// 9110 section 13.1.5).
fn if_range_holds(request_headers: &HeaderMap, entry_headers: &HeaderMap) -> bool {
    if !request_headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = single(request_headers, &IF_RANGE) else {
        return false;
    };
    let condition = trim(condition.as_bytes());
    if let Some(since) = super::date::parse(condition) {
        // A date is strong if the origin, by its own clock, could not have
        // modified the representation again within it (section 8.8.2.2).
        return match (
            date_field(entry_headers, &LAST_MODIFIED),
            date_field(entry_headers, &DATE),
        ) {
            (Some(modified), Some(date)) => {
                modified == since && date.since(modified) >= Duration::from_secs(1)
            }
            (None, _) | (_, None) => false,
        };
    }
    entity_tag(entry_headers).is_some_and(|own| own.strongly_equals(EntityTag::parse(condition)))
}

/// `Content-Range` of a 206: `bytes 0-9/100` (RFC 9110 section 14.4).
pub fn content_range(start: u64, end: u64, length: u64) -> HeaderValue {
    value(format!("bytes {start}-{end}/{length}"))
}

/// `Content-Range` of a 416: `bytes */100`.
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    value(format!("bytes */{length}"))
}

fn value(text: String) -> HeaderValue {
    // Digits, spaces and punctuation always make a value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    fn of(range_field: &str, length: u64) -> RangeAnswer {
        range(
            &Method::GET,
            &map(&[("range", range_field)]),
            StatusCode::OK,
            &HeaderMap::new(),
            length,
        )
    }

    fn single_range(start: u64, end: u64) -> RangeAnswer {
        RangeAnswer::Single { start, end }
    }

    #[test]
    fn ranges_of_ten_bytes() {
        for (field, expected) in [
            ("bytes=0-1", single_range(0, 1)),
            ("Bytes=0-1", single_range(0, 1)),
            ("bytes= 0-1 ,", single_range(0, 1)),
            ("bytes=1-", single_range(1, 9)),
            ("bytes=9-9", single_range(9, 9)),
            ("bytes=5-99", single_range(5, 9)),
            ("bytes=-1", single_range(9, 9)),
            ("bytes=-99", single_range(0, 9)),
            ("bytes=0-99999999999999999999999999", single_range(0, 9)),
            ("bytes=-99999999999999999999999999", single_range(0, 9)),
            ("bytes=10-", RangeAnswer::Unsatisfiable),
            (
                "bytes=99999999999999999999999999-",
                RangeAnswer::Unsatisfiable,
            ),
            ("bytes=-0", RangeAnswer::Unsatisfiable),
            ("bytes=10-11,12-13", RangeAnswer::Unsatisfiable),
            // Several.
            ("bytes=0-1,4-5", RangeAnswer::Whole),
            ("bytes=4-5,0-1", RangeAnswer::Whole),
            ("bytes=0-1, 99-", single_range(0, 1)),
            ("bytes=0-5,3-7", single_range(0, 7)),
            ("bytes=8-9,0-5,3-6", RangeAnswer::Whole),
            ("bytes=0-,-1", single_range(0, 9)),
            // Malformed, or not bytes: as if absent.
            ("", RangeAnswer::Whole),
            ("bytes", RangeAnswer::Whole),
            ("bytes=", RangeAnswer::Whole),
            ("bytes=,", RangeAnswer::Whole),
            ("bytes=-", RangeAnswer::Whole),
            ("bytes=2-1", RangeAnswer::Whole),
            ("bytes=0-1,2-1", RangeAnswer::Whole),
            ("bytes=a-b", RangeAnswer::Whole),
            ("bytes=+1-2", RangeAnswer::Whole),
            ("bytes=0 - 1", RangeAnswer::Whole),
            ("bytes=--1", RangeAnswer::Whole),
            ("bytes 0-1", RangeAnswer::Whole),
            ("lines=0-1", RangeAnswer::Whole),
        ] {
            assert_eq!(of(field, 10), expected, "{field}");
        }
        assert_eq!(of("bytes=0-0", 0), RangeAnswer::Whole);
        // Too many, as if absent.
        let many = |count: usize| format!("bytes={}", vec!["2-3"; count].join(","));
        assert_eq!(of(&many(RANGES_MAX), 10), single_range(2, 3));
        assert_eq!(of(&many(RANGES_MAX + 1), 10), RangeAnswer::Whole);
    }

    #[test]
    fn ranges_are_of_get_and_200_and_one_line() {
        let asked = map(&[("range", "bytes=0-1")]);
        for (method, status, expected) in [
            (Method::GET, StatusCode::OK, single_range(0, 1)),
            (Method::HEAD, StatusCode::OK, RangeAnswer::Whole),
            (Method::GET, StatusCode::NOT_FOUND, RangeAnswer::Whole),
        ] {
            assert_eq!(
                range(&method, &asked, status, &HeaderMap::new(), 10),
                expected
            );
        }
        let twice = map(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(
            range(&Method::GET, &twice, StatusCode::OK, &HeaderMap::new(), 10),
            RangeAnswer::Whole
        );
    }

    #[test]
    fn if_range_needs_a_strong_validator() {
        const MODIFIED: &str = "Sun, 09 Sep 2001 01:40:00 GMT";
        const LATER: &str = "Sun, 09 Sep 2001 01:40:01 GMT";
        for (condition, entry, holds) in [
            ("\"a\"", &[("etag", "\"a\"")][..], true),
            ("\"b\"", &[("etag", "\"a\"")][..], false),
            ("W/\"a\"", &[("etag", "W/\"a\"")][..], false),
            ("\"a\"", &[("etag", "W/\"a\"")][..], false),
            ("a", &[("etag", "a")][..], false),
            ("\"a\"", &[][..], false),
            ("*", &[("etag", "\"a\"")][..], false),
            (
                MODIFIED,
                &[("last-modified", MODIFIED), ("date", LATER)][..],
                true,
            ),
            (
                "Sunday, 09-Sep-01 01:40:00 GMT",
                &[("last-modified", MODIFIED), ("date", LATER)][..],
                true,
            ),
            (
                MODIFIED,
                &[("last-modified", MODIFIED), ("date", MODIFIED)][..],
                false,
            ),
            (MODIFIED, &[("last-modified", MODIFIED)][..], false),
            (
                LATER,
                &[("last-modified", MODIFIED), ("date", LATER)][..],
                false,
            ),
            ("", &[("etag", "\"a\"")][..], false),
        ] {
            let request = map(&[("range", "bytes=0-1"), ("if-range", condition)]);
            let expected = if holds {
                single_range(0, 1)
            } else {
                RangeAnswer::Whole
            };
            assert_eq!(
                range(&Method::GET, &request, StatusCode::OK, &map(entry), 10),
                expected,
                "{condition} {entry:?}"
            );
        }
    }

    #[test]
    fn answers_are_labelled() {
        assert_eq!(content_range(0, 9, 100), "bytes 0-9/100");
        assert_eq!(unsatisfied_range(100), "bytes */100");
    }

    proptest! {
        #[test]
        fn answers_lie_inside(
            field in prop_oneof!["bytes=[0-9,-]{0,30}", "bytes=[0-9]{0,21}-[0-9]{19,21}", "bytes=([0-9]{0,2}-[0-9]{0,3},){0,6}1-"],
            length in prop_oneof![0..30u64, any::<u64>()],
        ) {
            if let RangeAnswer::Single { start, end } = of(&field, length) {
                prop_assert!(start <= end && end < length);
            }
        }

        #[test]
        fn any_fields_are_read(request in arbitrary_map(), entry in arbitrary_map(), length in any::<u64>()) {
            let _ = range(&Method::GET, &request, StatusCode::OK, &entry, length);
        }
    }
}
