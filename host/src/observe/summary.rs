//! One line a minute: what the node has done.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leeward::shield::refusals::Refusals;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics::Counts;
use super::{log, observed, say_refused};
use leeward::shield::outcome::Outcome;

/// How often the counts of refused visitors are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After this many looks the summary is written.
const LOOKS: u32 = 60;

/// What had been counted when the last line was written, and when that was.
static LAST: Mutex<Option<(Counts, Instant)>> = Mutex::new(None);

/// Writes the lines, as long as the process lives.
pub(super) async fn run() {
    say();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut looks = 0;
    loop {
        ticks.tick().await;
        say_refused(Refusals::due);
        looks = (looks + 1) % LOOKS;
        if looks == 0 {
            say();
        }
    }
}

/// Writes what has been counted since the last line, if any request was among it.
pub(super) fn say() {
    let Some(observed) = observed() else {
        return;
    };
    let (counts, now) = (observed.metrics.counts(), Instant::now());
    let last = LAST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace((counts.clone(), now));
    let most = observed.metrics.take_most();
    if let Some((last, since)) = last
        && let Some(fields) = fields(&last, &counts, most, now - since)
    {
        log::fields("summary", &fields);
    }
}

/// What the line says; none where nothing has happened.
fn fields(
    last: &Counts,
    now: &Counts,
    most: i64,
    took: Duration,
) -> Option<Vec<(&'static str, Value)>> {
    let mut fields = vec![("seconds", took.as_secs().into())];
    let mut all = 0;
    let before = last.requests.iter().copied().chain(std::iter::repeat(0));
    let outcomes = Outcome::ALL.into_iter().zip(&now.requests).zip(before);
    for ((outcome, now), before) in outcomes {
        let count = now.saturating_sub(before);
        all += count;
        if count > 0 {
            fields.push((outcome.name(), count.into()));
        }
    }
    let origin = now.origin.saturating_sub(last.origin);
    if all + origin == 0 {
        return None;
    }
    fields.push(("requests", all.into()));
    fields.push(("refused", now.refused.saturating_sub(last.refused).into()));
    for (name, now, last) in [
        ("origin_requests", now.origin, last.origin),
        ("origin_failed", now.origin_failed, last.origin_failed),
        ("store_errors", now.store_errors, last.store_errors),
    ] {
        fields.push((name, now.saturating_sub(last).into()));
    }
    fields.push(("origin_most_in_flight", most.into()));
    Some(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use super::*;

    fn counts(hits: u64, refused: u64, origin: u64) -> Counts {
        let mut requests = vec![0; Outcome::ALL.len()];
        requests[Outcome::Hit as usize] = hits;
        requests[Outcome::Refused as usize] = refused;
        Counts {
            requests,
            origin,
            refused,
            ..Counts::default()
        }
    }

    #[test]
    fn a_minute_is_summed_up_and_one_without_requests_is_not() {
        let minute = Duration::from_secs(60);
        let (first, second) = (counts(10, 0, 3), counts(110, 7, 4));
        let said: BTreeMap<_, _> = fields(&first, &second, 2, minute)
            .unwrap()
            .into_iter()
            .collect();
        for (name, expected) in [
            ("requests", 107),
            ("hit", 100),
            ("refused", 7),
            ("origin_requests", 1),
            ("origin_most_in_flight", 2),
            ("store_errors", 0),
            ("seconds", 60),
        ] {
            assert_eq!(said[name], expected, "{name}");
        }
        assert!(!said.contains_key("miss"));
        assert_eq!(fields(&second, &second, 0, minute), None);
        // Nothing had been counted before.
        assert!(fields(&Counts::default(), &first, 0, minute).is_some());
    }
}
