//! How long visitors are told to keep an answer: their browsers, and caches between them and
//! the shield, which no purge reaches.
//!
//! By default that is the origin's word. Where a rule replaces the lifetime for the shield,
//! it bounds what visitors are told as well: else a page that the shield asks about every
//! minute would stay in browsers for as long as the origin has said. The setting
//! `browser_ttl` says it in so many words. Restrictions of the origin are never loosened.

use super::directives::{SECONDS_MAX, Seconds, directive, is_directive, words};
use super::fields::{append, set};
use super::lifetime::{explicit_lifetime, heuristic_lifetime, received_age_ms};
use super::line::members;
use super::policy::Policy;
use super::response::{ResponseDirectives, Scope};
use super::storable::may_be_for_everyone;
use crate::time::{Time, millis};
use http::header::{CACHE_CONTROL, EXPIRES, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

#[cfg(test)]
mod tests;

/// How long visitors may keep an answer, as the operator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrowserTtl {
    /// As long as the origin says; where a rule has a `ttl`, no longer than that.
    #[default]
    Origin,
    /// So many seconds from when they get it, at most [`SECONDS_MAX`]. Zero: they ask before
    /// each use.
    Seconds(u32),
}

/// An answer that is about to be handed to a visitor. Its fields have the `Age` and `Date`
/// that the visitor gets.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// The status of the whole answer: 200 also for a 206 or a 304 that is made of it.
    pub status: StatusCode,
    /// It is stored, or being stored. Another answer may be for its visitor alone.
    pub is_stored: bool,
    /// When it is handed out.
    pub now: Time,
}

/// What the answer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// Ask before each use.
    EachUse,
    /// The largest `max-age`, in seconds.
    MaxAge {
        seconds: u32,
        /// Whether it is also the least.
        extends: bool,
    },
}

/// The lifetimes that an answer gets in place of all that it states, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    NoCache,
    Lifetimes {
        max_age: Option<u32>,
        s_maxage: Option<u32>,
    },
}

/// The directives that say for how long.
const LIFETIMES: [&str; 4] = [
    "max-age",
    "s-maxage",
    "stale-while-revalidate",
    "stale-if-error",
];

/// The directives that restrict.
const RESTRICTIONS: [&str; 5] = [
    "no-store",
    "no-cache",
    "private",
    "must-revalidate",
    "proxy-revalidate",
];

/// Has an answer say for how long its visitor may keep it.
///
/// A recipient subtracts `Age` (RFC 9111 section 4.2.3). So `max-age` is `Age` and what the
/// setting says: the answer is kept for that long from when it came. The time since `Date`
/// is not added, though a recipient may count it as age where the origin's clock is behind:
/// one that does not would keep the answer for longer than the setting says. A rule's `ttl` is
/// counted from when the answer was made, as the shield counts it.
///
/// What says `no-store` or `no-cache` stays as it is, and so does what is `private` and not
/// stored. An answer that is not stored, sets a cookie, is neither a success nor a permanent
/// redirect, or that the origin wants to be asked about before each use, is never kept longer
/// than the origin says.
pub fn tell_lifetime(
    headers: &mut HeaderMap,
    handed: Handed,
    policy: &Policy,
    browser_ttl: BrowserTtl,
) {
    let ttl = policy.ttl.map(|ttl| whole_seconds(millis(ttl)));
    if browser_ttl == BrowserTtl::Origin && ttl.is_none() {
        return;
    }
    let said = ResponseDirectives::of_cache_control(headers);
    let is_private = said.private == Scope::Everything && !handed.is_stored;
    if said.no_store || said.no_cache == Scope::Everything || is_private {
        return;
    }
    let limit = match (browser_ttl, ttl) {
        (BrowserTtl::Seconds(0), _) => Limit::EachUse,
        (BrowserTtl::Seconds(seconds), _) => Limit::MaxAge {
            seconds: whole_seconds(received_age_ms(headers))
                .saturating_add(seconds)
                .min(SECONDS_MAX),
            extends: may_extend(headers, handed, policy),
        },
        (BrowserTtl::Origin, Some(seconds)) => Limit::MaxAge {
            seconds,
            extends: false,
        },
        (BrowserTtl::Origin, None) => return,
    };
    let written = match limit {
        Limit::EachUse => Some(Written::NoCache),
        Limit::MaxAge { seconds, extends } => {
            let kept = kept_for(headers, handed, &said);
            lifetimes(&said, kept, seconds, extends)
        }
    };
    if let Some(written) = written {
        write(headers, written);
    }
}

/// Whether visitors may be told a longer lifetime than the origin's.
fn may_extend(headers: &HeaderMap, handed: Handed, policy: &Policy) -> bool {
    let said = ResponseDirectives::parse(headers);
    let is_for_each_use = explicit_lifetime(headers, handed.now, &said) == Some(0)
        && policy.ttl.is_none()
        && !policy.ignore_origin.no_cache;
    handed.is_stored
        && may_be_for_everyone(handed.status)
        && !headers.contains_key(SET_COOKIE)
        && !is_for_each_use
}

/// For how many seconds of age a browser would keep the answer without asking; none where it
/// asks each time.
fn kept_for(headers: &HeaderMap, handed: Handed, said: &ResponseDirectives) -> Option<u32> {
    // `s-maxage` does not concern it.
    let said = ResponseDirectives {
        s_maxage: None,
        ..said.clone()
    };
    if let Some(stated) = explicit_lifetime(headers, handed.now, &said) {
        return Some(whole_seconds(stated));
    }
    if said.must_revalidate {
        return None;
    }
    match handed.status.as_u16() {
        // Browsers keep them until they need the space.
        300 | 301 | 308 | 410 => Some(SECONDS_MAX),
        _ => Some(whole_seconds(heuristic_lifetime(headers, handed.now))).filter(|it| *it > 0),
    }
}

/// What to write; nothing where the origin's word is within the limit.
fn lifetimes(
    said: &ResponseDirectives,
    kept: Option<u32>,
    limit: u32,
    extends: bool,
) -> Option<Written> {
    let s_maxage = said.s_maxage.map(Seconds::or_zero);
    let is_kept_longer = kept.is_some_and(|kept| kept > limit);
    let is_longer = is_kept_longer || s_maxage.is_some_and(|stated| stated > limit);
    let max_age = match extends || is_kept_longer {
        true => Some(limit),
        false => said.max_age.map(Seconds::or_zero),
    };
    (extends || is_longer).then_some(Written::Lifetimes {
        max_age,
        s_maxage: s_maxage.map(|stated| stated.min(limit)),
    })
}

/// Puts the lifetimes in front of what else `Cache-Control` says: of several values the first
/// counts (RFC 9111 section 4.2.1), and a quotation mark that is never closed hides what
/// follows it.
fn write(headers: &mut HeaderMap, written: Written) {
    let mut first = match written {
        Written::NoCache => vec!["no-cache".to_owned()],
        Written::Lifetimes { max_age, s_maxage } => [("max-age", max_age), ("s-maxage", s_maxage)]
            .into_iter()
            .filter_map(|(name, seconds)| Some(format!("{name}={}", seconds?)))
            .collect(),
    }
    .join(", ")
    .into_bytes();
    let mut lines = Vec::new();
    for line in headers.get_all(CACHE_CONTROL) {
        let mut text = std::mem::take(&mut first);
        for part in members(line.as_bytes()).flat_map(without_lifetime) {
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(&part);
        }
        if !text.is_empty() {
            lines.push(text);
        }
    }
    if !first.is_empty() {
        lines.push(first);
    }
    // All bytes come from values of fields, so none of them is refused.
    let lines: Result<Vec<HeaderValue>, _> = lines
        .iter()
        .map(|line| HeaderValue::from_bytes(line))
        .collect();
    let Ok(lines) = lines else {
        return;
    };
    for (index, line) in lines.into_iter().enumerate() {
        match index {
            0 => set(headers, CACHE_CONTROL, line),
            _ => append(headers, CACHE_CONTROL, line),
        }
    }
    // Whoever reads `max-age` or `no-cache` does not read it (RFC 9111 section 5.3).
    match written {
        Written::Lifetimes { max_age: None, .. } => {}
        Written::NoCache | Written::Lifetimes { .. } => {
            headers.remove(EXPIRES);
        }
    }
}

/// A member of `Cache-Control` without a lifetime. Of one that is not a directive by the
/// grammar, the restrictions in it remain.
fn without_lifetime(member: &[u8]) -> Vec<Vec<u8>> {
    let is_lifetime =
        directive(member).is_some_and(|directive| LIFETIMES.contains(&directive.name.as_str()));
    match (is_lifetime, is_directive(member)) {
        (false, _) => vec![member.to_vec()],
        (true, true) => Vec::new(),
        (true, false) => words(member)
            .map(|(word, _)| word)
            .filter(|word| RESTRICTIONS.contains(&word.as_str()))
            .map(String::into_bytes)
            .collect(),
    }
}

fn whole_seconds(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds / 1_000).map_or(SECONDS_MAX, |seconds| seconds.min(SECONDS_MAX))
}
