//! Whether a response may be stored (RFC 9111 section 3), for whom, and what is
//! kept of it for its later use.

use super::audience::{Audience, is_static_file};
use super::freshness::Freshness;
use super::invalidate::{Target, stands_for_target};
use super::lifetime::{Lifetime, explicit_lifetime, initial_age_ms, lifetime};
use super::policy::{Policy, Preset};
use super::reason::Reason;
use super::request::RequestDirectives;
use super::response::{ResponseDirectives, Scope, Source};
use super::stale::{Bar, bar, stale_windows};
use super::vary::{Vary, vary};
use crate::time::{Time, millis};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE, VIA,
};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The request that a response answers, as far as storing depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The fields that the origin got.
    pub headers: &'a HeaderMap,
    /// The path that was asked for.
    pub path: &'a str,
    /// The question belongs to one client, whose answers may be stored for it.
    pub keyed_by_client: bool,
}

/// What is kept of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Age, lifetime and stale windows.
    pub freshness: Freshness,
    /// Whom it is for.
    pub audience: Audience,
}

/// Whether to store a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storability {
    /// Store it, without the fields that `remove_private_fields` removes.
    Store(Kept),
    /// Share it among those that ask the same for `freshness.error_ttl`, so that
    /// a herd is one request in that time, and do not keep it: preset `uptime`,
    /// for errors.
    Brief(Kept, Reason),
    /// Hand it on, and store nothing.
    DoNotStore(Reason),
}

/// Decides about the response to a GET, and computes its freshness.
///
/// Expects the response as the origin sent it, before anything is removed.
pub fn storability(
    asked: Asked<'_>,
    status: StatusCode,
    response_headers: &HeaderMap,
    request_time: Time,
    response_time: Time,
    policy: &Policy,
) -> Storability {
    // RFC 9111 section 3: the status is final. A 304 updates an entry; parts are
    // not stored (section 3.3 allows it, and does not ask for it).
    match status {
        _ if status.is_informational() => return Storability::DoNotStore(Reason::NotFinal),
        StatusCode::NOT_MODIFIED => return Storability::DoNotStore(Reason::NotModified),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            return Storability::DoNotStore(Reason::Partial);
        }
        _ => {}
    }
    let response = Response {
        status,
        headers: response_headers,
        request_time,
        response_time,
    };
    let said = ResponseDirectives::parse(response_headers);
    if let Some(reason) = forbidden(asked, response, &said, policy) {
        return Storability::DoNotStore(reason);
    }
    decide(asked, response, &said, policy)
}

/// Decides about the response to a POST: stored for later GETs of its target if
/// it is successful, says so by `Content-Location`, and says for how long (RFC
/// 9110 section 9.3.3).
pub fn storability_of_post(
    target: Target<'_>,
    asked: Asked<'_>,
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
        asked,
        status,
        response_headers,
        request_time,
        response_time,
        policy,
    )
}

/// A response and when it came.
#[derive(Clone, Copy)]
struct Response<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    request_time: Time,
    response_time: Time,
}

/// How long, how stale and for whom: what `forbidden` has let through.
fn decide(
    asked: Asked<'_>,
    response: Response<'_>,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Storability {
    let audience = audience(asked, response, said, policy);
    let said = said.clone().without(policy.ignore_origin);
    let Response {
        status,
        headers,
        response_time,
        ..
    } = response;
    let is_error = status.is_client_error() || status.is_server_error();
    let explicit = explicit_lifetime(headers, response_time, &said);
    let stated = policy.ttl.is_some() || explicit.is_some();
    if !stated && !policy.store_silent {
        return Storability::DoNotStore(Reason::NoFreshness);
    }
    let is_zero = explicit == Some(0) && policy.ttl.is_none() && !policy.ignore_origin.no_cache;
    let is_for_each_use = is_zero || said.no_cache == Scope::Everything;
    // What may not be used again without asking is not shared for a moment either.
    let for_a_moment = |reason| match is_for_each_use {
        true => Storability::DoNotStore(reason),
        false => brief(response, audience, policy, reason),
    };
    if policy.preset == Preset::Uptime && is_transient(status) {
        return for_a_moment(Reason::Failure);
    }
    let found = lifetime(status, headers, response_time, &said, policy);
    let lifetime = match (policy.preset, found) {
        (Preset::Uptime, _) if !stated && is_error => return for_a_moment(Reason::NoFreshness),
        (Preset::Uptime | Preset::Strict, Some(lifetime)) => lifetime,
        // Nobody has said that a 201, or a redirect to an address with a session in it, is
        // for others as well.
        (Preset::Uptime | Preset::Strict, None) => {
            return Storability::DoNotStore(Reason::NoFreshness);
        }
    };
    let capped = policy.preset == Preset::Uptime && is_error;
    let (lifetime_ms, operators_swr) = match lifetime {
        Lifetime::Stated(lifetime) if capped => (lifetime.min(millis(policy.error_ttl_max)), false),
        Lifetime::Stated(lifetime) => (lifetime, true),
        Lifetime::Default { guess, default } => {
            let lifetime = guess.max(default);
            (lifetime, lifetime > 0)
        }
    };
    let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    let operators = |window, applies| if applies { window } else { Duration::ZERO };
    let ruled = policy.ruled_windows;
    // An error does not outlive its lifetime.
    let (swr, sie) = match capped {
        true => (0, 0),
        false => stale_windows(
            &said,
            &Policy {
                stale_while_revalidate: operators(
                    policy.stale_while_revalidate,
                    operators_swr && (!is_zero || ruled.stale_while_revalidate),
                ),
                stale_if_error: operators(
                    policy.stale_if_error,
                    !is_zero || has_validator || ruled.stale_if_error,
                ),
                ..*policy
            },
        ),
    };
    let each_use = is_for_each_use && swr == 0;
    let freshness = Freshness {
        lifetime_ms,
        stale_while_revalidate_ms: swr,
        stale_if_error_ms: sie,
        must_revalidate: capped || bar(&said, policy) != Bar::None,
        no_cache: said.no_cache == Scope::Everything,
        immutable: said.immutable,
        alone: u8::from(each_use),
        each_use,
        ..age(response, policy)
    };
    let of_use = freshness.is_fresh(response_time)
        || freshness.may_serve_on_error(response_time)
        || has_validator;
    match of_use {
        true => Storability::Store(Kept {
            freshness,
            audience,
        }),
        false if policy.preset == Preset::Uptime => for_a_moment(Reason::Useless),
        false => Storability::DoNotStore(Reason::Useless),
    }
}

/// Whether a status says that the origin fails or is overloaded, and nothing
/// about the resource.
pub fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// An answer that is shared for `freshness.error_ttl`. One that is of no use later is
/// shared by the requests that wait for it alone.
fn brief(
    response: Response<'_>,
    audience: Audience,
    policy: &Policy,
    reason: Reason,
) -> Storability {
    if policy.error_ttl.is_zero() {
        return Storability::DoNotStore(reason);
    }
    // Counted from when it came: an answer that took long would be stale by then.
    let age = age(response, policy);
    let freshness = Freshness {
        lifetime_ms: age.initial_age_ms.saturating_add(millis(policy.error_ttl)),
        no_cache: reason == Reason::Useless,
        must_revalidate: true,
        ..age
    };
    Storability::Brief(
        Kept {
            freshness,
            audience,
        },
        reason,
    )
}

/// A freshness with the response's age and nothing else.
fn age(response: Response<'_>, policy: &Policy) -> Freshness {
    let Response {
        headers,
        request_time,
        response_time,
        ..
    } = response;
    // Without `Age` and `Via` nobody has cached the answer on its way: the
    // difference of its `Date` is that of two clocks.
    let direct = !headers.contains_key(http::header::AGE) && !headers.contains_key(VIA);
    let initial_age_ms = match policy.preset {
        Preset::Uptime if direct => millis(response_time.since(request_time)),
        Preset::Uptime | Preset::Strict => initial_age_ms(headers, request_time, response_time),
    };
    Freshness {
        lifetime_ms: 0,
        initial_age_ms,
        response_time,
        stale_while_revalidate_ms: 0,
        stale_if_error_ms: 0,
        must_revalidate: false,
        no_cache: false,
        immutable: false,
        alone: 0,
        each_use: false,
    }
}

/// Whom a response is for that was fetched without credentials. In `strict` the
/// rules of RFC 9111 have decided that already, but for what varies on
/// credentials.
fn audience(
    asked: Asked<'_>,
    response: Response<'_>,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Audience {
    if varies_on_credentials(response.headers) {
        return Audience::Anonymous;
    }
    if policy.preset == Preset::Strict {
        return Audience::Everyone;
    }
    if !may_be_for_everyone(response.status) {
        return Audience::Anonymous;
    }
    let restricted =
        said.private == Scope::Everything || said.no_store || said.no_cache == Scope::Everything;
    if restricted {
        return Audience::Anonymous;
    }
    let stated = explicit_lifetime(response.headers, response.response_time, said);
    let silent =
        !response.headers.contains_key(CACHE_CONTROL) && !response.headers.contains_key(EXPIRES);
    // `s-maxage=0` keeps shared caches out.
    if said.public
        || stated.is_some_and(|lifetime| lifetime > 0)
        || (silent && is_static_file(asked.path, response.headers))
    {
        return Audience::Everyone;
    }
    Audience::Anonymous
}

/// Whether an answer with this status can be for visitors with credentials, though the
/// origin was asked without.
///
/// A success and a permanent redirect are about the resource. 401 and 407 ask for
/// credentials; sites answer 302, 403 and 404 to hide something or to ask for a login;
/// a failure may be that of a page without a session. What such an answer states about
/// its sharing does not make it one for visitors with credentials.
pub fn may_be_for_everyone(status: StatusCode) -> bool {
    status.is_success()
        || matches!(
            status,
            StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT
        )
}

/// Whether a response says that it differs by credentials. It makes no variants:
/// visitors without credentials share it, the others are passed.
fn varies_on_credentials(response_headers: &HeaderMap) -> bool {
    match vary(response_headers) {
        Vary::Fields(fields) => fields.contains(&COOKIE) || fields.contains(&AUTHORIZATION),
        Vary::None | Vary::Any => false,
    }
}

/// What prevents storing, whatever the freshness.
fn forbidden(
    asked: Asked<'_>,
    response: Response<'_>,
    said: &ResponseDirectives,
    policy: &Policy,
) -> Option<Reason> {
    let ignored = policy.ignore_origin;
    let headers = response.headers;
    // RFC 9111 section 5.2.1.5.
    if RequestDirectives::parse(asked.headers).no_store {
        return Some(Reason::RequestNoStore);
    }
    // RFC 9111 section 5.2.2.3: `must-understand` asks to know the status, and
    // to those who do, takes `no-store` back.
    if said.must_understand && !is_understood(response.status) {
        return Some(Reason::NotUnderstood);
    }
    // RFC 9111 section 5.2.2.5.
    if said.no_store && !said.must_understand && !ignored.no_store {
        return Some(Reason::NoStore);
    }
    // RFC 9111 section 5.2.2.7.
    if said.private == Scope::Everything && !ignored.private && !asked.keyed_by_client {
        return Some(Reason::Private);
    }
    if !asked.keyed_by_client {
        let varies = varies_on_credentials(headers);
        // RFC 9111 section 3.5.
        if asked.headers.contains_key(AUTHORIZATION)
            && (varies || !(said.may_be_shared() || said.must_revalidate))
        {
            return Some(Reason::Authorization);
        }
        // Silence, or a lifetime alone, may be about one visitor's page.
        if asked.headers.contains_key(COOKIE) && (varies || !is_for_shared_caches(said)) {
            return Some(Reason::Cookie);
        }
    }
    // RFC 9111 section 4.1: such an entry would match no request.
    if vary(headers) == Vary::Any {
        return Some(Reason::VaryStar);
    }
    // RFC 9111 section 7.3 leaves cookies to the origin's care. A page that was
    // made together with a session may carry its tokens.
    let cookie_stays = headers.contains_key(SET_COOKIE)
        && !ignored.set_cookie
        && !said
            .clone()
            .without(ignored)
            .listed_fields()
            .any(|name| *name == SET_COOKIE);
    if cookie_stays && !may_lose_its_cookie(response, said, policy) {
        return Some(Reason::SetCookie);
    }
    None
}

/// Whether a response that sets a cookie may be stored without it.
fn may_lose_its_cookie(response: Response<'_>, said: &ResponseDirectives, policy: &Policy) -> bool {
    if is_for_shared_caches(said) {
        return true;
    }
    let stated = explicit_lifetime(response.headers, response.response_time, said);
    policy.preset == Preset::Uptime
        && said.no_cache != Scope::Everything
        && stated.is_some_and(|lifetime| lifetime > 0)
}

/// Whether the origin speaks about shared caches in particular.
fn is_for_shared_caches(said: &ResponseDirectives) -> bool {
    said.may_be_shared() || said.source == Source::Targeted
}

/// Statuses whose meaning for a cache is implemented: those of RFC 9110 section
/// 15 but for 206, 304 and 416, which are never stored.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=415 | 417 | 421 | 422 | 426 | 500..=505)
}
