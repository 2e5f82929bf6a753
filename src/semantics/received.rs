//! The head of an answer as a recipient completes it, before anything is decided by it.

use super::conditional::date_field;
use super::date;
use super::fields::set;
use crate::time::Time;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode};

/// Whether an answer of this status may have content (RFC 9110 sections 6.4.1, 15.3.6 and
/// 15.4.5).
pub fn may_have_content(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::RESET_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Completes the fields of an answer that came at `response_time`.
///
/// An answer without a `Date` that can be read gets the time at which it came (RFC 9110
/// section 6.6.1): without one, a date in `If-Range` would hold for no entry. An answer
/// that has no content for its status has no length either; some origins send the length
/// of a page beside 204.
pub fn complete(status: StatusCode, headers: &mut HeaderMap, response_time: Time) {
    if date_field(headers, &DATE).is_none() {
        set(headers, DATE, date::format(response_time));
    }
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        headers.remove(CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{lines, map};
    use super::super::freshness::tests::at;
    use super::*;

    #[test]
    fn an_answer_without_a_date_gets_the_time_at_which_it_came() {
        const SENT: &str = "Sun, 09 Sep 2001 01:46:00 GMT";
        let received = date::format(at(0));
        let received = received.to_str().unwrap_or_default();
        for (fields, expected) in [
            (&[][..], received),
            (&[("date", SENT)], SENT),
            // These may be replaced (RFC 9110 section 6.6.1).
            (&[("date", "yesterday")], received),
            (&[("date", "")], received),
            (&[("date", SENT), ("date", SENT)], received),
        ] {
            let mut headers = map(fields);
            complete(StatusCode::OK, &mut headers, at(0));
            assert_eq!(lines(&headers), lines(&map(&[("date", expected)])));
        }
    }

    #[test]
    fn what_has_no_content_for_its_status_has_no_length() {
        for (status, expected) in [(200, true), (204, false), (205, false), (304, true)] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let mut headers = map(&[("content-length", "4"), ("date", "")]);
            complete(status, &mut headers, at(0));
            assert_eq!(headers.contains_key(CONTENT_LENGTH), expected, "{status}");
        }
    }
}
