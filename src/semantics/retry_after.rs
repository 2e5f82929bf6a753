//! `Retry-After` (RFC 9110 section 10.2.3): when the origin may be asked again.

use super::date;
use super::directives::{Seconds, seconds};
use super::fields::single;
use super::line::trim;
use crate::time::Time;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use std::time::Duration;

/// How long the origin asks to be left alone, from `now`: seconds, or a date. A
/// field that is malformed or repeated counts as absent. The caller caps it.
pub fn retry_after(response_headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = single(response_headers, &RETRY_AFTER)?;
    let text = trim(value.as_bytes());
    match seconds(text) {
        Seconds::Valid(seconds) => Some(Duration::from_secs(u64::from(seconds))),
        Seconds::Malformed => date::parse(text).map(|date| date.since(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::map;
    use super::super::freshness::tests::at;
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        for (value, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999999999999999999", Some(0x7fff_ffff)),
            ("Sun, 09 Sep 2001 01:47:40 GMT", Some(60)),
            ("Sun, 09 Sep 2001 01:45:40 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let read = retry_after(&map(&[("retry-after", value)]), at(0));
            assert_eq!(read, expected.map(Duration::from_secs), "{value:?}");
        }
        let twice = map(&[("retry-after", "1"), ("retry-after", "2")]);
        assert_eq!(retry_after(&twice, at(0)), None);
        assert_eq!(retry_after(&HeaderMap::new(), at(0)), None);
    }
}
