//! The fields that an answer made from an entry gets.

use super::date;
use super::directives::SECONDS_MAX;
use super::fields::set;
use crate::time::Time;
use http::header::{AGE, CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

/// Sets `Age` (RFC 9111 section 5.1) in whole seconds, in place of the received
/// one, which the entry's freshness already counts.
pub fn age_header(headers: &mut HeaderMap, age: Duration) {
    let seconds = age.as_secs().min(u64::from(SECONDS_MAX));
    set(headers, AGE, HeaderValue::from(seconds));
}

/// Sets `Content-Length` to the size in bytes of the body that follows.
pub fn content_length(headers: &mut HeaderMap, bytes: u64) {
    set(headers, CONTENT_LENGTH, HeaderValue::from(bytes));
}

/// The length in bytes that a response announces.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Adds `Date` to a response whose origin has sent none: when it was received
/// (RFC 9110 section 6.6.1). An origin's `Date` stays.
pub fn date_header(headers: &mut HeaderMap, response_time: Time) {
    if !headers.contains_key(DATE) {
        set(headers, DATE, date::format(response_time));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{lines, map};
    use super::super::freshness::tests::at;
    use super::*;

    #[test]
    fn age_is_whole_seconds_in_place_of_the_received() {
        for (age, expected) in [
            (Duration::ZERO, "0"),
            (Duration::from_millis(2_999), "2"),
            (
                Duration::from_secs(u64::from(SECONDS_MAX) + 1),
                "2147483647",
            ),
            (Duration::MAX, "2147483647"),
        ] {
            let mut headers = map(&[("age", "7"), ("age", "8")]);
            age_header(&mut headers, age);
            assert_eq!(lines(&headers), lines(&map(&[("age", expected)])));
        }
    }

    #[test]
    fn length_is_the_bodys() {
        let mut headers = map(&[("content-length", "7"), ("content-length", "8")]);
        content_length(&mut headers, u64::MAX);
        assert_eq!(
            lines(&headers),
            lines(&map(&[("content-length", "18446744073709551615")]))
        );
    }

    #[test]
    fn date_is_the_origins_if_it_sent_one() {
        let mut headers = map(&[("date", "x")]);
        date_header(&mut headers, at(0));
        assert_eq!(lines(&headers), lines(&map(&[("date", "x")])));
        let mut headers = HeaderMap::new();
        date_header(&mut headers, at(0));
        assert_eq!(
            lines(&headers),
            lines(&map(&[("date", "Sun, 09 Sep 2001 01:46:40 GMT")]))
        );
    }
}
