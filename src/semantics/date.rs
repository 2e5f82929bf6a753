//! HTTP dates (RFC 9110 section 5.6.7), all three forms and no other.

use crate::time::Time;
use http::HeaderValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999: four digits are all that a date has.
const LATEST_SECONDS: u64 = 253_402_300_799;

/// Longest text worth reading, in bytes: `Wednesday, 09-Nov-94 08:49:37 GMT` has 33.
const LENGTH_MAX: usize = 40;

/// Reads an HTTP-date; `None` for anything else.
///
/// Names are matched whatever their case (RFC 9111 section 4.2), a leap second
/// counts as the second that follows, and a weekday that is not the day's is
/// overlooked: it says nothing that the rest does not (RFC 9110 section 5.6.7
/// asks to be robust). A zone other than GMT, a day that its month does not have
/// and a year before 1970 make it no date.
pub fn parse(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if text.len() > LENGTH_MAX || !text.is_ascii() {
        return None;
    }
    // The library reads names in the case of the grammar alone, skips one
    // separator of the second form, and knows no leap second.
    if text.contains('-')
        && text.get(text.len().checked_sub(13)?..)?.as_bytes().first() != Some(&b' ')
    {
        return None;
    }
    let text = canonical_case(text);
    let (text, leap) = match text.split_once(":60") {
        Some((before, after)) if before.matches(':').count() == 1 => {
            (format!("{before}:59{after}"), Duration::from_secs(1))
        }
        Some(_) | None => (text, Duration::ZERO),
    };
    let time = parse_on_any_weekday(&text)?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Time::from_unix_millis(0).plus(since).plus(leap))
}

/// Days as dates name them, short and long.
const WEEKDAYS: [(&str, &str); 7] = [
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
];

/// The library holds a date to its weekday: gives it the one that fits.
fn parse_on_any_weekday(text: &str) -> Option<SystemTime> {
    if let Ok(time) = httpdate::parse_http_date(text) {
        return Some(time);
    }
    let (named, rest) = text.split_at(text.find([',', ' '])?);
    let is_short = WEEKDAYS.iter().any(|(short, _)| *short == named);
    let is_long = WEEKDAYS.iter().any(|(_, long)| *long == named);
    WEEKDAYS
        .iter()
        .filter(|_| is_short || is_long)
        .find_map(|(short, long)| {
            let day = if is_short { short } else { long };
            httpdate::parse_http_date(&format!("{day}{rest}")).ok()
        })
}

/// The date as RFC 9110 section 5.6.7 prefers it, whole seconds, rounded down.
pub fn format(time: Time) -> HeaderValue {
    let seconds = (time.as_unix_millis() / 1_000).min(LATEST_SECONDS);
    let text = UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or_else(String::new, |time: SystemTime| {
            httpdate::fmt_http_date(time)
        });
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The same moment in whole seconds, rounded down, as a date would show it.
pub(super) fn whole_seconds(time: Time) -> Time {
    let millis = time.as_unix_millis();
    Time::from_unix_millis(millis.saturating_sub(millis % 1_000))
}

/// `Thu`, `Aug`, `GMT`: first letter of each word upper case, the others lower, the zone upper.
fn canonical_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for letter in text.chars() {
        out.push(if inside {
            letter.to_ascii_lowercase()
        } else {
            letter.to_ascii_uppercase()
        });
        inside = letter.is_ascii_alphabetic();
    }
    match out.strip_suffix(" Gmt") {
        Some(before) => format!("{before} GMT"),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: u64 = 784_111_777_000;

    #[test]
    fn three_forms_and_no_other() {
        let table: &[(&str, Option<u64>)] = &[
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(EXAMPLE)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(EXAMPLE)),
            ("Sun Nov  6 08:49:37 1994", Some(EXAMPLE)),
            ("  Sun, 06 Nov 1994 08:49:37 GMT\t", Some(EXAMPLE)),
            // Case does not matter (RFC 9111 section 4.2).
            ("SUN, 06 Nov 1994 08:49:37 GMT", Some(EXAMPLE)),
            ("sun, 06 nOV 1994 08:49:37 gMT", Some(EXAMPLE)),
            ("SUNDAY, 06-NOV-94 08:49:37 gmt", Some(EXAMPLE)),
            ("sun nov  6 08:49:37 1994", Some(EXAMPLE)),
            // Borders.
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799_000)),
            ("Tue, 19 Jan 2038 03:14:08 GMT", Some(2_147_483_648_000)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800_000)),
            // Leap seconds.
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800_000)),
            ("Saturday, 31-Dec-16 23:59:60 GMT", Some(1_483_228_800_000)),
            ("Sat Dec 31 23:59:60 2016", Some(1_483_228_800_000)),
            ("Sat, 31 Dec 2016 23:60:00 GMT", None),
            ("Sat, 31 Dec 2016 23:59:61 GMT", None),
            // The weekday is of no importance, but is one.
            ("Mon, 06 Nov 1994 08:49:37 GMT", Some(EXAMPLE)),
            ("Friday, 06-Nov-94 08:49:37 GMT", Some(EXAMPLE)),
            ("Sat Nov  6 08:49:37 1994", Some(EXAMPLE)),
            ("Xyz, 06 Nov 1994 08:49:37 GMT", None),
            ("Sunday, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06-Nov-94 08:49:37 GMT", None),
            // Not dates.
            ("", None),
            ("0", None),
            ("-1", None),
            ("now", None),
            ("Sat, 30 Feb 2013 00:00:00 GMT", None),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Thu, 18 Aug 2050 02:01:18 UTC", None),
            ("Thu, 18 Aug 2050 02:01:18 AEST", None),
            ("Thu, 18 Aug 2050 02:01:18 +0000", None),
            ("Thu, 18 Aug 2050 02:01:18", None),
            ("Thu, 18 Aug 50 02:01:18 GMT", None),
            ("Thu 18 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18  Aug  2050 02:01:18 GMT", None),
            ("Thu, 18-Aug-2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 02.01.18 GMT", None),
            ("Thu, 18 Aug 2050 2:01:18 GMT", None),
            ("Thu, 18 Aug 2050 24:00:00 GMT", None),
            (
                "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
                None,
            ),
            ("Sunday, 06-Nov-94X08:49:37 GMT", None),
            ("Sun-Nov--6 08:49:37 1994", None),
            ("2050-08-18T02:01:18Z", None),
            ("-", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                parse(text.as_bytes()).map(Time::as_unix_millis),
                *expected,
                "{text:?}"
            );
        }
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GM\xff"), None);
    }

    #[test]
    fn dates_are_written_in_whole_seconds() {
        assert_eq!(
            format(Time::from_unix_millis(EXAMPLE + 999)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(
            format(Time::from_unix_millis(u64::MAX)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nearly_dates_are_read(text in "[A-Za-z]{3,9},? [0-9]{1,2}[- ][A-Za-z]{3}[- ][0-9]{2,4} [0-9:]{5,9}( GMT)?") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(millis in 0..253_402_300_800_000u64) {
            let time = Time::from_unix_millis(millis);
            prop_assert_eq!(parse(format(time).as_bytes()), Some(whole_seconds(time)));
        }
    }
}
