//! What happens on one connection, and when its client will have been too slow: pure
//! functions of times.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::Patience;

/// How long a connection of HTTP/2 without a request may take to close: a request that the
/// client has sent before it knew is answered, and the end of an answer is written.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// What happens on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// The content and the answer of a request that are not finished yet.
    pub(super) in_flight: usize,
    /// The answers among those.
    pub(super) answers: usize,
    /// Whether an answer is finished but not written completely.
    pub(super) is_unwritten: bool,
    /// When the first byte of a head came that is not complete yet.
    pub(super) head_since: Option<Instant>,
    /// Since when the client takes nothing of what is to be written.
    pub(super) blocked_since: Option<Instant>,
    /// When the last request ended, or the connection began.
    pub(super) idle_since: Instant,
    /// Whether it carries several requests at once: HTTP/2.
    pub(super) is_multiplexed: bool,
    /// Answers of which the client has not taken what was given last. Where there is one
    /// answer at a time, `blocked_since` says so.
    pub(super) untaken: usize,
    /// When something of an answer was taken last.
    pub(super) taken_at: Instant,
    /// Requests that were answered, and that the client took back before.
    pub(super) answered: usize,
    pub(super) abandoned: usize,
    /// When the connection was told to close.
    pub(super) closing_since: Option<Instant>,
}

impl Activity {
    /// Nothing has happened yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            answers: 0,
            is_unwritten: false,
            head_since: None,
            blocked_since: None,
            idle_since: now,
            is_multiplexed: false,
            untaken: 0,
            taken_at: now,
            answered: 0,
            abandoned: 0,
            closing_since: None,
        }
    }

    /// Whether there is no request, complete with its head.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight == 0 && !self.is_unwritten
    }

    /// When the client will have been too slow.
    pub(super) fn deadline(&self, patience: Patience) -> Option<Instant> {
        match (self.blocked_since, self.head_since) {
            (Some(since), _) => Some(since + patience.write),
            _ if self.is_multiplexed && self.untaken > 0 => Some(self.taken_at + patience.write),
            // What a request may take is the component's decision.
            _ if !self.is_waiting() => None,
            (None, Some(since)) => Some(since + patience.head),
            (None, None) => match self.closing_since {
                Some(since) => Some(since.max(self.idle_since) + CLOSING_MAX),
                None => Some(self.idle_since + patience.idle),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_activity_has_a_limit_of_its_own() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (Some(at(1)), Some(at(2)));
        for (what, in_flight, is_unwritten, head_since, blocked_since, deadline) in [
            ("no request", 0, false, None, None, Some(at(75))),
            ("half a head", 0, false, one, None, Some(at(11))),
            ("a request", 1, false, None, None, None),
            ("a request and its content", 2, false, None, None, None),
            ("an answer is not read", 1, false, None, two, Some(at(32))),
            ("the end is not read", 0, true, None, two, Some(at(32))),
            ("the end is written", 0, true, None, None, None),
        ] {
            let activity = Activity {
                in_flight,
                is_unwritten,
                head_since,
                blocked_since,
                ..Activity::new(start)
            };
            assert_eq!(activity.deadline(Patience::default()), deadline, "{what}");
            let is_waiting = in_flight == 0 && !is_unwritten;
            assert_eq!(activity.is_waiting(), is_waiting, "{what}");
        }
    }

    #[test]
    fn a_connection_of_several_requests_is_closed_when_no_answer_on_it_is_taken() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity {
            in_flight: 3,
            is_multiplexed: true,
            ..Activity::new(start)
        };
        assert_eq!(activity.deadline(Patience::default()), None);
        let untaken = Activity {
            untaken: 1,
            taken_at: at(5),
            ..activity
        };
        assert_eq!(untaken.deadline(Patience::default()), Some(at(35)));
        let closing = Activity {
            is_multiplexed: true,
            closing_since: Some(at(7)),
            ..Activity::new(start)
        };
        assert_eq!(closing.deadline(Patience::default()), Some(at(12)));
    }
}
