//! Ranges and parts: `Range`, `If-Range`, `Content-Range`, combining.
//!
//! Input: `<length> <start> <more> <new start> <new more> <body length>`, a
//! request's fields, an entry's, a new response's.

use crate::input::{Sections, lines};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use leeward::semantics::ranges::{RANGES_MAX, part_head, parts_end};
use leeward::semantics::{
    ByteRange, Part, PartAnswer, Policy, RangeAnswer, Storability, ask_for_rest, combine,
    content_range, part, range, range_of_part, storability_of_part, unsatisfied_range,
    whole_headers,
};
use leeward::time::Time;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [length, start, more, new_start, new_more, body] = input.numbers();
    let request = input.fields();
    let entry = input.fields();
    let new = input.fields();
    whole_entry(&request, &entry, length);
    let read = a_part(&new, body);
    let stored = part_of(start, more, length);
    let added = read.or(part_of(new_start, new_more, length));
    if let Some(stored) = stored {
        within_a_part(&request, &entry, stored);
        the_rest(&request, &entry, stored);
        if let Some(added) = added {
            joined(&entry, stored, &new, added);
        }
    }
}

/// A part, if the numbers make one.
fn part_of(start: u64, more: u64, complete_length: u64) -> Option<Part> {
    let end = start.checked_add(more)?;
    (end < complete_length).then_some(Part {
        range: ByteRange { start, end },
        complete_length,
    })
}

fn whole_entry(request: &HeaderMap, entry: &HeaderMap, length: u64) {
    let of = |method| range(&method, request, StatusCode::OK, entry, length);
    // RFC 9110 section 14.2: of GET alone.
    assert_eq!(of(Method::HEAD), RangeAnswer::Whole);
    let answer = of(Method::GET);
    if !request.contains_key("range") {
        assert_eq!(answer, RangeAnswer::Whole);
    }
    let ranges = match &answer {
        RangeAnswer::Whole => vec![],
        RangeAnswer::Unsatisfiable => {
            assert!(length > 0);
            vec![]
        }
        RangeAnswer::Single { start, end } => vec![ByteRange {
            start: *start,
            end: *end,
        }],
        RangeAnswer::Multiple(ranges) => {
            assert!((2..=RANGES_MAX).contains(&ranges.len()));
            ranges.clone()
        }
    };
    let mut sent = 0u128;
    for (index, one) in ranges.iter().enumerate() {
        assert!(one.start <= one.end && one.end < length);
        sent += u128::from(one.length());
        for other in ranges.iter().skip(index + 1) {
            assert!(one.end < other.start || other.end < one.start);
        }
        let label = content_range(one.start, one.end, length);
        let told = HeaderMap::from_iter([(http::header::CONTENT_RANGE, label)]);
        let expected = Part {
            range: *one,
            complete_length: length,
        };
        assert_eq!(
            part(StatusCode::PARTIAL_CONTENT, &told, one.length()),
            Some(expected)
        );
        assert!(part_head("b", entry.get("content-type"), *one, length).ends_with(b"\r\n\r\n"));
    }
    // Nobody gets more bytes than there are.
    assert!(sent <= u128::from(length));
    assert!(parts_end("b").starts_with(b"\r\n--b--"));
    let none = HeaderMap::from_iter([(http::header::CONTENT_RANGE, unsatisfied_range(length))]);
    assert_eq!(part(StatusCode::PARTIAL_CONTENT, &none, length), None);
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

fn a_part(new: &HeaderMap, body: u64) -> Option<Part> {
    assert_eq!(part(StatusCode::OK, new, body), None);
    let read = part(StatusCode::PARTIAL_CONTENT, new, body);
    let now = Time::from_unix_millis(1_000_000_000_000);
    let decided = storability_of_part(
        &Method::GET,
        &HeaderMap::new(),
        new,
        now,
        now,
        &Policy::default(),
    );
    if let Some(read) = read {
        assert!(read.range.start <= read.range.end && read.range.end < read.complete_length);
        assert_eq!(read.range.length(), body);
    }
    if let Storability::Store(_) = decided {
        assert_eq!(lines(new, "content-range").len(), 1);
    }
    read
}

fn within_a_part(request: &HeaderMap, entry: &HeaderMap, stored: Part) {
    let whole = range(
        &Method::GET,
        request,
        StatusCode::OK,
        entry,
        stored.complete_length,
    );
    match range_of_part(&Method::GET, request, entry, stored) {
        PartAnswer::Single { start, end } => {
            assert!(stored.range.start <= start && end <= stored.range.end);
            assert_eq!(whole, RangeAnswer::Single { start, end });
        }
        PartAnswer::Unsatisfiable => assert_eq!(whole, RangeAnswer::Unsatisfiable),
        PartAnswer::Missing => {}
    }
}

/// What is asked for is what is missing, and makes the whole.
fn the_rest(request: &HeaderMap, entry: &HeaderMap, stored: Part) {
    let mut fill = request.clone();
    let asked = ask_for_rest(&mut fill, entry, stored);
    assert!(!fill.contains_key("if-none-match") && !fill.contains_key("if-modified-since"));
    assert_eq!(asked, fill.contains_key("range"));
    if !asked {
        return;
    }
    let complete_length = stored.complete_length;
    let answer = range(&Method::GET, &fill, StatusCode::OK, entry, complete_length);
    let RangeAnswer::Single { start, end } = answer else {
        assert_eq!(answer, RangeAnswer::Single { start: 0, end: 0 });
        return;
    };
    let rest = Part {
        range: ByteRange { start, end },
        complete_length,
    };
    assert_eq!(stored.range.length() + rest.range.length(), complete_length);
    let whole = combine(entry, stored, entry, rest).map(|(_, part)| part.is_whole());
    assert_eq!(whole, Some(true));
}

fn joined(entry: &HeaderMap, stored: Part, new: &HeaderMap, added: Part) {
    let Some((fields, both)) = combine(entry, stored, new, added) else {
        return;
    };
    let (low, high) = (
        stored.range.start.min(added.range.start),
        stored.range.end.max(added.range.end),
    );
    // Exactly what the two have, without a gap, and no other bytes.
    assert_eq!((both.range.start, both.range.end), (low, high));
    assert!(both.range.length() <= stored.range.length().saturating_add(added.range.length()));
    assert_eq!(stored.complete_length, added.complete_length);
    assert_eq!(both.complete_length, stored.complete_length);
    // RFC 9111 section 3.4: a shared strong validator.
    assert_eq!(lines(entry, "etag").len(), 1);
    assert!(!entry["etag"].as_bytes().starts_with(b"W/"));
    let told = part(
        StatusCode::PARTIAL_CONTENT,
        &HeaderMap::from_iter(
            fields
                .get("content-range")
                .map(|value| (http::header::CONTENT_RANGE, value.clone())),
        ),
        both.range.length(),
    );
    assert_eq!(told, Some(both));
    let whole = whole_headers(&fields, both);
    assert!(!whole.contains_key("content-range"));
    assert_eq!(lines(&whole, "content-length").len(), 1);
}
