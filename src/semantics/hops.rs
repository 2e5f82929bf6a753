//! `Max-Forwards` (RFC 9110 section 7.6.2): how far TRACE and OPTIONS go.

use super::fields::{set, single};
use super::line::trim;
use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue, Method};

/// What to do with a request, as far as `Max-Forwards` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Send it on.
    Forward,
    /// Answer it here: it was meant for this one.
    Answer,
}

/// Counts this hop, before a request is sent on. For other methods than TRACE
/// and OPTIONS the field means nothing; malformed or repeated, neither.
pub fn count_hop(method: &Method, request_headers: &mut HeaderMap) -> Hop {
    if !(method == Method::TRACE || method == Method::OPTIONS) {
        return Hop::Forward;
    }
    let left = single(request_headers, &MAX_FORWARDS)
        .map(|value| trim(value.as_bytes()))
        .filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit))
        .and_then(|text| std::str::from_utf8(text).ok())
        // More hops than can be counted are as good as the most that can.
        .map(|text| text.parse().unwrap_or(u64::MAX));
    match left {
        None => Hop::Forward,
        Some(0) => Hop::Answer,
        Some(left) => {
            let left: u64 = left;
            set(
                request_headers,
                MAX_FORWARDS,
                HeaderValue::from(left.saturating_sub(1)),
            );
            Hop::Forward
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{lines, map};
    use super::*;

    #[test]
    fn hops_of_trace_and_options_are_counted() {
        for (method, before, hop, after) in [
            (Method::OPTIONS, &["2"][..], Hop::Forward, &["1"][..]),
            (Method::TRACE, &[" 1 "][..], Hop::Forward, &["0"][..]),
            (Method::TRACE, &["0"][..], Hop::Answer, &["0"][..]),
            (Method::OPTIONS, &["000"][..], Hop::Answer, &["000"][..]),
            (
                Method::OPTIONS,
                &["99999999999999999999"][..],
                Hop::Forward,
                &["18446744073709551614"][..],
            ),
            (Method::OPTIONS, &[][..], Hop::Forward, &[][..]),
            // Malformed.
            (Method::OPTIONS, &[""][..], Hop::Forward, &[""][..]),
            (Method::OPTIONS, &["-1"][..], Hop::Forward, &["-1"][..]),
            (Method::OPTIONS, &["+1"][..], Hop::Forward, &["+1"][..]),
            (
                Method::OPTIONS,
                &["0", "0"][..],
                Hop::Forward,
                &["0", "0"][..],
            ),
            // Other methods.
            (Method::GET, &["0"][..], Hop::Forward, &["0"][..]),
            (Method::POST, &["1"][..], Hop::Forward, &["1"][..]),
        ] {
            let fields = |values: &[&'static str]| {
                let lines: Vec<_> = values
                    .iter()
                    .map(|value| ("max-forwards", *value))
                    .collect();
                map(&lines)
            };
            let mut headers = fields(before);
            assert_eq!(count_hop(&method, &mut headers), hop, "{method} {before:?}");
            assert_eq!(
                lines(&headers),
                lines(&fields(after)),
                "{method} {before:?}"
            );
        }
    }
}
