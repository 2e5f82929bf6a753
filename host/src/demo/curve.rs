//! Requests in flight at the origin over time, as samples and as the line that is drawn.

use std::convert::Infallible;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::origin::{Origin, Sample};

/// Most samples of a phase; later ones are left out.
const SAMPLES_MAX: usize = 600;

/// Shortest time between two samples. A shorter one would not be seen in the picture.
const EVERY_MIN: Duration = Duration::from_millis(50);

/// What the origin was like during a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Curve {
    /// Time that each sample stands for, in seconds. The first begins with the phase.
    pub(super) every_seconds: f64,
    /// At most [`SAMPLES_MAX`].
    pub(super) samples: Vec<Sample>,
}

impl Curve {
    /// No sample yet of a phase that takes at most `longest`.
    pub(super) fn new(longest: Duration) -> Curve {
        let every = (longest / SAMPLES_MAX as u32).max(EVERY_MIN);
        Curve {
            every_seconds: every.as_secs_f64(),
            samples: Vec::new(),
        }
    }

    /// Takes samples until it is dropped.
    pub(super) async fn record(&mut self, origin: &Origin) -> Infallible {
        let every = Duration::from_secs_f64(self.every_seconds);
        // A tick that was missed is made up for, so that the n-th sample stays the n-th.
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            self.push(origin.sample());
        }
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample);
        }
    }

    /// Until when there was something to see, in seconds: after the load, clients wait for
    /// answers that may not come.
    pub(super) fn busy_seconds(&self) -> f64 {
        let is_busy = |sample: &Sample| sample.in_flight_max > 0;
        let last = self.samples.iter().rposition(is_busy);
        self.every_seconds * last.map_or(0, |last| last + 1) as f64
    }

    /// The corners of the line, each a time in seconds and a number of requests: a step for each
    /// change, between corners at both ends. Empty without samples.
    pub(super) fn corners(&self) -> Vec<(f64, u64)> {
        let mut corners: Vec<(f64, u64)> = Vec::new();
        let mut time = 0.0;
        for sample in &self.samples {
            let value = sample.in_flight_max;
            match corners.last() {
                Some(&(_, before)) if before == value => {}
                Some(&(_, before)) => corners.extend([(time, before), (time, value)]),
                None => corners.push((time, value)),
            }
            time += self.every_seconds;
        }
        if let Some(&(_, value)) = corners.last() {
            corners.push((time, value));
        }
        corners
    }

    /// When the origin was down, each time from when to when in seconds.
    pub(super) fn down(&self) -> Vec<(f64, f64)> {
        let mut spans: Vec<(f64, f64)> = Vec::new();
        let mut open = false;
        let mut time = 0.0;
        for sample in &self.samples {
            let end = time + self.every_seconds;
            match spans.last_mut() {
                Some(span) if sample.down && open => span.1 = end,
                _ if sample.down => spans.push((time, end)),
                _ => {}
            }
            open = sample.down;
            time = end;
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of a curve, and what is made of them: times and values.
    type Case<T> = (&'static [i64], &'static [(f64, T)]);

    /// A curve of one sample a second; a negative one says that the origin is down.
    fn curve(values: &[i64]) -> Curve {
        let samples = values.iter().map(|value| Sample {
            in_flight_max: value.max(&0).unsigned_abs(),
            down: *value < 0,
        });
        Curve {
            every_seconds: 1.0,
            samples: samples.collect(),
        }
    }

    #[test]
    fn a_line_has_a_corner_only_where_it_turns() {
        let cases: [Case<u64>; 4] = [
            (&[], &[]),
            (&[3], &[(0.0, 3), (1.0, 3)]),
            (&[2, 2, 2], &[(0.0, 2), (3.0, 2)]),
            (
                &[0, 9, -1, -1, 1],
                &[
                    (0.0, 0),
                    (1.0, 0),
                    (1.0, 9),
                    (2.0, 9),
                    (2.0, 0),
                    (4.0, 0),
                    (4.0, 1),
                    (5.0, 1),
                ],
            ),
        ];
        for (samples, corners) in cases {
            assert_eq!(curve(samples).corners(), corners, "{samples:?}");
        }
    }

    #[test]
    fn times_without_the_origin_are_spans() {
        let cases: [Case<f64>; 4] = [
            (&[], &[]),
            (&[1, 2], &[]),
            (&[-1, -1, 0, -1], &[(0.0, 2.0), (3.0, 4.0)]),
            (&[5, -1, -1], &[(1.0, 3.0)]),
        ];
        for (samples, spans) in cases {
            assert_eq!(curve(samples).down(), spans, "{samples:?}");
        }
    }

    #[test]
    fn samples_are_bounded_and_span_the_longest_phase() {
        for seconds in [0, 1, 30, 3_610] {
            let longest = Duration::from_secs(seconds);
            let mut curve = Curve::new(longest);
            for _ in 0..2 * SAMPLES_MAX {
                curve.push(Sample::default());
            }
            assert_eq!(curve.samples.len(), SAMPLES_MAX);
            let spans = curve.every_seconds * curve.samples.len() as f64;
            assert!(spans >= longest.as_secs_f64() - 1e-3, "{spans}");
        }
    }
}
