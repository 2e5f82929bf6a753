//! Time: what is left of it, and what a body does with it.

use crate::time::Time;
use crate::world::{Body, OriginError, Platform};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, LocalBoxFuture, select};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How long a body of unknown length is watched before it is called a trickle, each
/// time. Shorter than `wait.budget`, so that requests that wait for the body learn in time
/// that they have to go alone.
pub(crate) const TRICKLE_WINDOW: Duration = Duration::from_secs(5);

/// Bytes in a window below which a body trickles: 1 KiB in a second.
const TRICKLE_BYTES: u64 = 5 * 1_024;

/// The least pieces in a window of a body that trickles. A body that pauses is not a
/// trickle: `origin.between_bytes_timeout` is for it.
const TRICKLE_PIECES: u32 = 3;

/// How fast a body comes, in windows of [`TRICKLE_WINDOW`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    bytes: u64,
    pieces: u32,
}

impl Pace {
    /// A piece of the body has come.
    pub(crate) fn came(&mut self, bytes: &Bytes) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.pieces = self.pieces.saturating_add(1);
    }

    /// A window is over: whether the body trickled in it. The next one begins.
    pub(crate) fn trickled(&mut self) -> bool {
        let Pace { bytes, pieces } = std::mem::take(self);
        pieces >= TRICKLE_PIECES && bytes < TRICKLE_BYTES
    }
}

/// What is left at `now` of a `limit` that runs since `began`. A clock that is set back
/// does not make it longer than the limit.
pub(crate) fn time_left(limit: Duration, began: Time, now: Time) -> Duration {
    limit.saturating_sub(now.since(began))
}

/// A body and the next piece of it, once that has come. Whoever stops waiting can hand
/// it on: a read that is dropped could lose bytes.
pub(crate) type Reading<B> = LocalBoxFuture<'static, (B, Option<Result<Bytes, OriginError>>)>;

/// Reads the next piece of a body, for at most `pause`.
pub(crate) fn read<P: Platform, B: Body>(
    platform: &Rc<P>,
    mut body: B,
    pause: Duration,
) -> Reading<B> {
    let platform = Rc::clone(platform);
    async move {
        let next = {
            let next = pin!(body.chunk());
            match select(next, pin!(platform.sleep(pause))).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => Some(Err(OriginError::Timeout)),
            }
        };
        (body, next)
    }
    .boxed_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trickles(pieces: &[usize]) -> bool {
        let mut pace = Pace::default();
        for length in pieces {
            pace.came(&Bytes::from(vec![0; *length]));
        }
        pace.trickled()
    }

    #[test]
    fn a_body_trickles_when_small_pieces_keep_coming() {
        for (pieces, expected) in [
            (&[10, 10, 10][..], true),
            (&[0, 0, 0], true),
            (&[1_000, 1_000, 1_000, 1_000, 1_000], true),
            // As fast as a body may be.
            (&[1_024, 1_024, 1_024, 1_024, 1_024], false),
            (&[10_000, 1, 1, 1], false),
            // It pauses.
            (&[10, 10], false),
            (&[], false),
        ] {
            assert_eq!(trickles(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn each_window_is_judged_alone() {
        let mut pace = Pace::default();
        let piece = Bytes::from(vec![0; 6_000]);
        for _ in 0..TRICKLE_PIECES {
            pace.came(&piece);
        }
        assert!(!pace.trickled());
        for _ in 0..TRICKLE_PIECES {
            pace.came(&piece.slice(..10));
        }
        assert!(pace.trickled());
        assert!(!pace.trickled());
    }

    #[test]
    fn a_limit_runs_out_and_a_clock_that_is_set_back_does_not_move_it() {
        let at = Time::from_unix_millis;
        let limit = Duration::from_millis(100);
        for (now, left) in [(50, 100), (100, 100), (130, 70), (200, 0), (500, 0)] {
            let left = Duration::from_millis(left);
            assert_eq!(time_left(limit, at(100), at(now)), left, "{now}");
        }
    }
}
