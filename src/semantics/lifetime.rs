//! How long a response is fresh by the origin's word, a rule's, or a guess, and
//! how old it is when it arrives (RFC 9111 section 4.2).

use super::date;
use super::directives::{Seconds, seconds};
use super::fields::single;
use super::line::members;
use super::policy::Policy;
use super::response::{ResponseDirectives, Source};
use crate::time::{Time, millis};
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

/// Where a lifetime comes from; in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The origin's word, or a rule's.
    Stated(u64),
    /// Nobody's word: a guess from `Last-Modified`, and the operator's default.
    Default { guess: u64, default: u64 },
}

/// Freshness lifetime (RFC 9111 sections 4.2.1 and 4.2.2); `None` if nothing
/// allows to store the response (section 3).
pub(super) fn lifetime(
    status: StatusCode,
    response_headers: &HeaderMap,
    response_time: Time,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Option<Lifetime> {
    let explicit = explicit_lifetime(response_headers, response_time, said);
    let by_default = is_heuristically_cacheable(status) || said.public;
    let ruled = policy
        .ttl
        .filter(|_| explicit.is_some() || by_default || !status.is_server_error());
    if let Some(stated) = ruled.map(millis).or(explicit) {
        return Some(Lifetime::Stated(stated));
    }
    by_default.then(|| Lifetime::Default {
        guess: heuristic_lifetime(response_headers, response_time)
            .min(millis(policy.heuristic_max)),
        default: millis(policy.default_ttl),
    })
}

/// What the origin says of the lifetime: `s-maxage` before `max-age` before `Expires`.
pub(super) fn explicit_lifetime(
    response_headers: &HeaderMap,
    response_time: Time,
    said: &ResponseDirectives,
) -> Option<u64> {
    if let Some(stated) = said.s_maxage.or(said.max_age) {
        return Some(u64::from(stated.or_zero()).saturating_mul(1_000));
    }
    match said.source {
        Source::Targeted => return None,
        Source::Untargeted => {}
    }
    if !response_headers.contains_key(EXPIRES) {
        return None;
    }
    // RFC 9111 section 5.3: no date, or two of them, is in the past.
    let expires =
        single(response_headers, &EXPIRES).and_then(|value| date::parse(value.as_bytes()));
    let date = date_of(response_headers, response_time);
    Some(expires.map_or(0, |expires| millis(expires.since(date))))
}

/// A tenth of the time since the last modification (RFC 9111 section 4.2.2).
pub(super) fn heuristic_lifetime(response_headers: &HeaderMap, response_time: Time) -> u64 {
    let modified =
        single(response_headers, &LAST_MODIFIED).and_then(|value| date::parse(value.as_bytes()));
    let date = date_of(response_headers, response_time);
    modified.map_or(0, |modified| millis(date.since(modified)) / 10)
}

/// The origin's `Date`; without a valid one, when the response was received
/// (RFC 9110 section 6.6.1), in whole seconds like any date.
pub(super) fn date_of(headers: &HeaderMap, response_time: Time) -> Time {
    single(headers, &DATE)
        .and_then(|value| date::parse(value.as_bytes()))
        .unwrap_or_else(|| date::whole_seconds(response_time))
}

/// `corrected_initial_age` in milliseconds (RFC 9111 section 4.2.3).
pub(super) fn initial_age_ms(headers: &HeaderMap, request_time: Time, response_time: Time) -> u64 {
    // A date shows whole seconds: what is cut off there is no age.
    let apparent =
        millis(date::whole_seconds(response_time).since(date_of(headers, response_time)));
    let delay = millis(response_time.since(request_time));
    apparent.max(received_age_ms(headers).saturating_add(delay))
}

/// `Age` in milliseconds (RFC 9111 section 5.1): the first of several members
/// or lines counts, and nothing if it is no number.
pub(super) fn received_age_ms(headers: &HeaderMap) -> u64 {
    let first = headers
        .get_all(AGE)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .next()
        .map(seconds);
    match first {
        Some(Seconds::Valid(age)) => u64::from(age).saturating_mul(1_000),
        Some(Seconds::Malformed) | None => 0,
    }
}

/// Statuses that are cacheable without a word about freshness (RFC 9110
/// section 15.1); 206 is missing because parts are not stored.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}
