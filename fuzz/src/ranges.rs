//! Ranges of a whole entry: `Range`, `If-Range`, `Content-Range`.
//!
//! Input: `<length>`, a request's fields, an entry's.

use crate::input::{Sections, lines};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use leeward::semantics::{RangeAnswer, content_range, range, unsatisfied_range};

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [length] = input.numbers();
    let request = input.fields();
    let entry = input.fields();
    whole_entry(&request, &entry, length);
}

fn whole_entry(request: &HeaderMap, entry: &HeaderMap, length: u64) {
    let of = |method| range(&method, request, StatusCode::OK, entry, length);
    // RFC 9110 section 14.2: of GET alone.
    assert_eq!(of(Method::HEAD), RangeAnswer::Whole);
    let answer = of(Method::GET);
    if !request.contains_key("range") {
        assert_eq!(answer, RangeAnswer::Whole);
    }
    match answer {
        RangeAnswer::Whole => {}
        RangeAnswer::Unsatisfiable => {
            assert!(length > 0);
            assert_eq!(unsatisfied_range(length), format!("bytes */{length}"));
        }
        RangeAnswer::Single { start, end } => {
            assert!(start <= end && end < length);
            assert_eq!(
                content_range(start, end, length),
                format!("bytes {start}-{end}/{length}")
            );
        }
    }
    the_simplest(request, entry, length, &answer);
}

/// `bytes=<first>-<last>` read by other means.
fn the_simplest(request: &HeaderMap, entry: &HeaderMap, length: u64, answer: &RangeAnswer) {
    let [asked] = lines(request, "range")[..] else {
        return;
    };
    let simple = asked.to_str().ok().and_then(|text| {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let plain = |text: &str| text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_digit());
        (plain(first) && plain(last)).then_some((first.parse().ok()?, last.parse().ok()?))
    });
    let Some((first, last)) = simple else { return };
    let expected = if first > last || length == 0 {
        RangeAnswer::Whole
    } else if first >= length {
        RangeAnswer::Unsatisfiable
    } else {
        RangeAnswer::Single {
            start: first,
            end: last.min(length - 1),
        }
    };
    let condition = lines(request, "if-range");
    let tag = lines(entry, "etag");
    let strong = |value: &HeaderValue| {
        value.len() >= 2
            && value.as_bytes().starts_with(b"\"")
            && value.as_bytes().ends_with(b"\"")
            && !value.as_bytes()[1..value.len() - 1].contains(&b'"')
    };
    match (&condition[..], &tag[..]) {
        ([], _) => assert_eq!(*answer, expected),
        ([condition], [tag]) if strong(tag) && condition == tag => assert_eq!(*answer, expected),
        // RFC 9110 section 13.1.5: a weak one never holds.
        ([condition], _) if condition.as_bytes().starts_with(b"W/") => {
            assert_eq!(*answer, RangeAnswer::Whole);
        }
        _ => assert!(*answer == expected || *answer == RangeAnswer::Whole),
    }
}
