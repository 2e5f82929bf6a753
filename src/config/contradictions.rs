//! Settings that are each valid, but not together.

use super::problem::Problems;
use super::settings::{Places, Scope};
use super::{BudgetConfig, CHUNKS_MAX, Config, LeaseConfig, Limits, OriginConfig};
use crate::budget::{RATE_MIN, SLOTS_MIN};
use crate::cell::transition::Backoff;
use crate::config::duration::show;
use crate::question::policy::{Cookies, any_matches};

/// The options that contradict each other, and what to write instead.
pub(crate) type Contradiction = (&'static [&'static str], String);

/// The contradictions that a platform adds.
pub(super) type Further<'a> = &'a dyn Fn(&Config) -> Vec<Contradiction>;

/// Adds the contradictions that the options at `places` cause. The place is
/// that of the first of the options that is set there.
pub(super) fn of(
    config: &Config,
    platform: Further<'_>,
    places: &Places,
    scope: Scope,
    problems: &mut Problems<'_>,
) {
    for (names, message) in all(config).into_iter().chain(platform(config)) {
        let set = names
            .iter()
            .find_map(|name| places.get(name).map(|place| (name, *place)));
        if let Some((name, place)) = set {
            let name = match scope {
                Scope::All => (*name).to_owned(),
                Scope::Rule => format!("rule.{name}"),
            };
            problems.add(place, &name, message);
        }
    }
}

/// Times of which one would never count beside another.
fn of_time(origin: &OriginConfig) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = Vec::new();
    let (fill, head) = (origin.fill_timeout, origin.first_byte_timeout);
    if fill < head {
        found.push((
            &["origin.fill_timeout", "origin.first_byte_timeout"],
            format!(
                "a whole fetch would have {}, but its head alone has {}; write at least {} as \
                 origin.fill_timeout, or a shorter origin.first_byte_timeout",
                show(fill),
                show(head),
                show(head)
            ),
        ));
    }
    let (pass, connect) = (origin.pass_timeout, origin.connect_timeout);
    if pass < connect {
        found.push((
            &["origin.pass_timeout", "origin.connect_timeout"],
            format!(
                "a forwarded request would have {} to its answer, but connecting alone has {}; \
                 write at least {} as origin.pass_timeout, or a shorter origin.connect_timeout",
                show(pass),
                show(connect),
                show(connect)
            ),
        ));
    }
    found
}

fn all(config: &Config) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = Vec::new();
    let LeaseConfig {
        duration,
        clock_skew,
    } = config.lease;
    if duration < clock_skew.saturating_mul(4) {
        found.push((
            &["lease.duration", "lease.clock_skew"],
            format!(
                "a lease of {} is too short for a clock skew of {}: its holder would have no time \
                 to work; write at least four times lease.clock_skew as lease.duration",
                show(duration),
                show(clock_skew)
            ),
        ));
    }
    let Limits { body, chunk, .. } = config.limits;
    let longest = u64::from(CHUNKS_MAX).saturating_mul(chunk as u64 / 2);
    if body > longest {
        found.push((
            &["limits.body", "limits.chunk"],
            format!(
                "a body of {body} bytes needs too many chunks of {chunk} bytes; write at most \
                 {longest} as limits.body, or a larger limits.chunk"
            ),
        ));
    }
    found.extend(of_time(&config.origin));
    let Backoff { first, max } = config.origin.retry;
    if first > max {
        found.push((
            &["origin.retry.first", "origin.retry.max"],
            format!(
                "the first pause, {}, is longer than the longest, {}; write at least {} as \
                 origin.retry.max, or a shorter origin.retry.first",
                show(first),
                show(max),
                show(first)
            ),
        ));
    }
    let BudgetConfig {
        max_concurrency,
        local_concurrency,
        max_per_hour,
        open,
        ..
    } = config.budget;
    if max_concurrency < SLOTS_MIN {
        found.push((
            &["origin.max_concurrency"],
            format!(
                "a budget of {max_concurrency} is below its reserves: one slot each for fills, \
                 passed requests, unsafe methods and refreshes; write at least {SLOTS_MIN}"
            ),
        ));
    }
    if (1..RATE_MIN).contains(&max_per_hour) {
        found.push((
            &["origin.max_per_hour"],
            format!(
                "{max_per_hour} requests an hour are too few to share between visitors and \
                 refreshes; write at least {RATE_MIN}, or 0 for any number"
            ),
        ));
    }
    if local_concurrency > max_concurrency {
        found.push((
            &["origin.local_concurrency", "origin.max_concurrency"],
            format!(
                "one instance alone may send {local_concurrency} requests at once, but all \
                 together only {max_concurrency}; write at most {max_concurrency} as \
                 origin.local_concurrency"
            ),
        ));
    }
    if open.first > open.max {
        found.push((
            &["origin.breaker.open_for", "origin.breaker.max_open_for"],
            format!(
                "the first pause, {}, is longer than the longest, {}; write at least {} as \
                 origin.breaker.max_open_for, or a shorter origin.breaker.open_for",
                show(open.first),
                show(open.max),
                show(open.first)
            ),
        ));
    }
    let request = &config.request;
    let both = request.forward.iter().find_map(|forward| {
        let drop = request.drop.iter().find(|drop| drop.overlaps(forward))?;
        Some((forward.as_str(), drop.as_str()))
    });
    if let Some((forward, drop)) = both {
        found.push((
            &["request.forward", "request.drop"],
            match forward == drop {
                true => format!(
                    "{forward:?} is in request.drop and in request.forward; remove it from one of \
                     them"
                ),
                false => format!(
                    "{forward:?} in request.forward and {drop:?} in request.drop stand for the \
                     same fields; remove one of them"
                ),
            },
        ));
    }
    if let Cookies::Key(names) = &request.cookies
        && let Some(name) = names
            .iter()
            .find(|name| any_matches(&request.ignored_cookies, name))
    {
        found.push((
            &["cookies", "request.cookies.ignore"],
            format!(
                "{name:?} is keyed, but request.cookies.ignore removes it; write a \
                 request.cookies.ignore without it, or remove it from cookies"
            ),
        ));
    }
    found
}
