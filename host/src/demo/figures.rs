//! What came of a phase, for its visitors and for the origin.

use serde::Serialize;

use super::tally::{Counts, Errors, Tally};
use crate::origin::Stats;

/// The figures of one phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Requests of visitors that ended, well or not.
    pub(super) requests: u64,
    /// Those that were answered as they should be.
    pub(super) answered: u64,
    /// Those that failed, by reason.
    pub(super) errors: Errors,
    /// Those that were refused with 503 and `Retry-After`.
    pub(super) refused: u64,
    /// Median latency of the answered requests, in milliseconds; none if none
    /// was answered.
    pub(super) median_ms: Option<f64>,
    /// 99th percentile of it.
    pub(super) p99_ms: Option<f64>,
    /// Requests that reached the origin.
    pub(super) origin_requests: u64,
    /// Most of them that were in it at once.
    pub(super) origin_in_flight_max: u64,
    /// Most of them that were in it at once for one key.
    pub(super) key_in_flight_max: u64,
    /// Times that the origin crashed.
    pub(super) crashes: u64,
    /// Share of the answered requests that cost the origin nothing, 0 to 1;
    /// none if none was answered.
    pub(super) offloaded: Option<f64>,
}

impl Figures {
    /// The figures of a phase that is over.
    pub(super) fn of(tally: &Tally, origin: &Stats) -> Figures {
        let ms = |share| {
            tally
                .latency(share)
                .map(|latency| latency.as_secs_f64() * 1e3)
        };
        let counts = tally.counts();
        Figures {
            requests: counts.requests,
            answered: counts.answered(),
            errors: counts.errors,
            refused: counts.refused,
            median_ms: ms(0.5),
            p99_ms: ms(0.99),
            origin_requests: origin.requests,
            origin_in_flight_max: origin.in_flight_max,
            key_in_flight_max: origin.path_in_flight_max(),
            crashes: origin.crashes,
            offloaded: offloaded(&counts, origin.requests),
        }
    }

    /// Share of the requests that `part` of them are, 0 to 1.
    pub(super) fn share(&self, part: u64) -> f64 {
        if self.requests == 0 {
            0.0
        } else {
            part as f64 / self.requests as f64
        }
    }
}

/// Only answered requests count: one that was refused did not reach the origin
/// either, but nobody was served in its place.
fn offloaded(counts: &Counts, origin_requests: u64) -> Option<f64> {
    let answered = counts.answered();
    (answered > 0).then(|| answered.saturating_sub(origin_requests) as f64 / answered as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::tally::Failure;

    #[test]
    fn offloaded_is_a_share_of_the_answered_requests() {
        let cases = [
            // requests, errors, refused, origin requests, share
            (0, 0, 0, 0, None),
            (10, 10, 0, 3, None),
            (10, 5, 5, 3, None),
            (100, 0, 0, 100, Some(0.0)),
            (100, 0, 0, 1, Some(0.99)),
            (100, 50, 0, 25, Some(0.5)),
            (100, 0, 50, 25, Some(0.5)),
            (100, 50, 0, 80, Some(0.0)),
        ];
        for (requests, connection, refused, origin, share) in cases {
            let counts = Counts {
                requests,
                errors: Errors {
                    connection,
                    ..Errors::default()
                },
                refused,
            };
            assert_eq!(
                offloaded(&counts, origin),
                share,
                "{requests} {connection} {refused} {origin}"
            );
        }
    }

    #[test]
    fn figures_join_what_visitors_and_origin_saw() {
        let tally = Tally::new().expect("constant bounds");
        for _ in 0..3 {
            tally.count(Ok(Duration::from_millis(10)));
        }
        tally.count(Err(Failure::Status));
        for _ in 0..4 {
            tally.count(Err(Failure::Refused(Duration::from_secs(1))));
        }
        let origin = Stats {
            requests: 1,
            in_flight: 0,
            in_flight_max: 2,
            crashes: 5,
            ..Stats::default()
        };
        let figures = Figures::of(&tally, &origin);
        assert_eq!(
            (
                figures.requests,
                figures.errors.status,
                figures.refused,
                figures.share(figures.refused)
            ),
            (8, 1, 4, 0.5)
        );
        assert_eq!(
            (
                figures.origin_requests,
                figures.origin_in_flight_max,
                figures.crashes
            ),
            (1, 2, 5)
        );
        assert!(
            figures.median_ms.is_some_and(|ms| (ms - 10.0).abs() < 0.1),
            "{figures:?}"
        );
        assert!(
            figures
                .offloaded
                .is_some_and(|share| (share - 2.0 / 3.0).abs() < 1e-9),
            "{figures:?}"
        );
    }
}
