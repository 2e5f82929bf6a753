//! Whether a response may be stored (RFC 9111 section 3), and what is kept of it
//! for its later use.

use super::freshness::Freshness;
use super::invalidate::{Target, stands_for_target};
use super::lifetime::{Lifetime, explicit_lifetime, initial_age_ms, lifetime};
use super::policy::Policy;
use super::reason::Reason;
use super::request::RequestDirectives;
use super::response::{ResponseDirectives, Scope};
use super::stale::{Bar, bar, stale_windows};
use super::vary::{Vary, vary};
use crate::time::Time;
use http::header::{AUTHORIZATION, COOKIE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Whether to store a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storability {
    /// Store it, without the fields that `remove_private_fields` removes.
    Store(Freshness),
    /// Hand it on, and store nothing.
    DoNotStore(Reason),
}

/// Decides about the response to a GET, and computes its freshness.
///
/// Expects the response as the origin sent it, before anything is removed.
pub fn storability(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    if method != Method::GET {
        return Storability::DoNotStore(Reason::Method);
    }
    // RFC 9111 section 3: the status is final. A 304 updates an entry; parts are
    // not stored (section 3.3 allows it, and does not ask for it).
    match status {
        _ if status.is_informational() => Storability::DoNotStore(Reason::NotFinal),
        StatusCode::NOT_MODIFIED => Storability::DoNotStore(Reason::NotModified),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            Storability::DoNotStore(Reason::Partial)
        }
        _ => decide(
            request_headers,
            status,
            response_headers,
            request_time,
            response_time,
            policy,
        ),
    }
}

/// Decides about the response to a POST: stored for later GETs of its target if
/// it is successful, says so by `Content-Location`, and says for how long (RFC
/// 9110 section 9.3.3).
pub fn storability_of_post(
    target: Target<'_>,
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    let said = ResponseDirectives::parse(response_headers);
    let explicit = explicit_lifetime(response_headers, response_time, &said).is_some();
    if !status.is_success() || !explicit || !stands_for_target(target, response_headers) {
        return Storability::DoNotStore(Reason::Method);
    }
    storability(
        &Method::GET,
        request_headers,
        status,
        response_headers,
        request_time,
        response_time,
        policy,
    )
}

/// All rules but those on method, 304 and incomplete responses.
fn decide(
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    let said = ResponseDirectives::parse(response_headers);
    if let Some(reason) = forbidden(request_headers, status, response_headers, &said, policy) {
        return Storability::DoNotStore(reason);
    }
    let shared = said.may_be_shared();
    let said = said.without(policy.ignore_origin);
    let Some(lifetime) = lifetime(status, response_headers, response_time, &said, policy) else {
        return Storability::DoNotStore(Reason::NoFreshness);
    };
    // Silence about an answer to a request with `Cookie` may be one visitor's
    // page: no other visitor gets it without the origin being asked.
    let personal = request_headers.contains_key(COOKIE) && !shared;
    let (lifetime_ms, operators_swr, operators_sie) = match lifetime {
        Lifetime::Stated(0) | Lifetime::Default { guess: 0, .. } if personal => (0, false, false),
        Lifetime::Stated(lifetime) => (lifetime, true, true),
        Lifetime::Default { guess, .. } if personal => (guess, true, true),
        Lifetime::Default { guess, default } => {
            let lifetime = guess.max(default);
            (lifetime, lifetime > 0, true)
        }
    };
    let floors = Policy {
        stale_while_revalidate: if operators_swr {
            policy.stale_while_revalidate
        } else {
            Duration::ZERO
        },
        stale_if_error: if operators_sie {
            policy.stale_if_error
        } else {
            Duration::ZERO
        },
        ..*policy
    };
    let (stale_while_revalidate_ms, stale_if_error_ms) = stale_windows(&said, &floors);
    let freshness = Freshness {
        lifetime_ms,
        initial_age_ms: initial_age_ms(response_headers, request_time, response_time),
        response_time,
        stale_while_revalidate_ms,
        stale_if_error_ms,
        must_revalidate: bar(&said, policy) != Bar::None,
        no_cache: said.no_cache == Scope::Everything,
        immutable: said.immutable,
    };
    let of_use = freshness.is_fresh(response_time)
        || freshness.may_serve_on_error(response_time)
        || response_headers.contains_key(ETAG)
        || response_headers.contains_key(LAST_MODIFIED);
    match (of_use, personal) {
        (true, _) => Storability::Store(freshness),
        (false, true) => Storability::DoNotStore(Reason::Cookie),
        (false, false) => Storability::DoNotStore(Reason::Useless),
    }
}

/// What prevents storing, whatever the freshness.
fn forbidden(
    request_headers: &HeaderMap,
    status: StatusCode,
    response_headers: &HeaderMap,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Option<Reason> {
    let ignored = policy.ignore_origin;
    // RFC 9111 section 5.2.1.5.
    if RequestDirectives::parse(request_headers).no_store {
        return Some(Reason::RequestNoStore);
    }
    // RFC 9111 section 5.2.2.3: `must-understand` asks to know the status, and
    // to those who do, takes `no-store` back.
    if said.must_understand && !is_understood(status) {
        return Some(Reason::NotUnderstood);
    }
    // RFC 9111 section 5.2.2.5.
    if said.no_store && !said.must_understand && !ignored.no_store {
        return Some(Reason::NoStore);
    }
    // RFC 9111 section 5.2.2.7.
    if said.private == Scope::Everything && !ignored.private {
        return Some(Reason::Private);
    }
    // RFC 9111 section 3.5.
    if request_headers.contains_key(AUTHORIZATION)
        && !(said.may_be_shared() || said.must_revalidate)
    {
        return Some(Reason::Authorization);
    }
    // RFC 9111 section 4.1: such an entry would match no request.
    if vary(response_headers) == Vary::Any {
        return Some(Reason::VaryStar);
    }
    // RFC 9111 section 7.3 leaves cookies to the origin's care; we ask for
    // words that are about shared caches.
    let cookie_stays = response_headers.contains_key(SET_COOKIE)
        && !ignored.set_cookie
        && !said
            .clone()
            .without(ignored)
            .listed_fields()
            .any(|name| *name == SET_COOKIE);
    if cookie_stays && !said.may_be_shared() {
        return Some(Reason::SetCookie);
    }
    None
}

/// Statuses whose meaning for a cache is implemented: those of RFC 9110 section
/// 15 but for 206, 304 and 416, which are never stored.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=415 | 417 | 421 | 422 | 426 | 500..=505)
}
