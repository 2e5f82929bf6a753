//! The purges that wait for the store.

use crate::cell::transition::Purge;
use std::collections::VecDeque;
use std::rc::Rc;

/// Most keys whose purges wait.
const PURGES_MAX: usize = 1_024;

/// How many rounds a purge waits for before it is given up.
pub(in crate::cells) const PURGE_ROUNDS: u32 = 24;

/// A purge that waits. Its number is another when a further purge of its key has
/// joined it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cells) struct Waiting {
    number: u64,
    pub(super) key: Rc<str>,
    pub(super) purge: Purge,
    /// Rounds that have begun since it was asked for.
    rounds: u32,
}

/// The purges that wait, one for each key, and at most [`PURGES_MAX`].
#[derive(Debug, Default)]
pub(in crate::cells) struct PurgeQueue {
    /// By their numbers: the one that was asked for last is the last.
    waiting: VecDeque<Waiting>,
    /// The number given last.
    last_number: u64,
    /// The number of the purge that failed last. The next round begins behind
    /// it, so that one which always fails does not keep others from their turn.
    last_failure: u64,
}

impl PurgeQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits for a key.
    pub(in crate::cells) fn find(&self, key: &str) -> Option<Waiting> {
        let mut waiting = self.waiting.iter();
        waiting.find(|waiting| &*waiting.key == key).cloned()
    }

    /// Adds a purge. One that waits for the same key is joined, and the stronger
    /// of both counts. Says which key is given up for it, if any: the one that
    /// was asked for first.
    pub(super) fn add(&mut self, key: &str, purge: Purge) -> Option<Rc<str>> {
        let (key, purge) = match self.find(key) {
            Some(earlier) => {
                self.settle(&earlier);
                (earlier.key, earlier.purge.max(purge))
            }
            None => (key.into(), purge),
        };
        self.last_number += 1;
        self.waiting.push_back(Waiting {
            number: self.last_number,
            key,
            purge,
            rounds: 0,
        });
        if self.waiting.len() <= PURGES_MAX {
            return None;
        }
        self.waiting.pop_front().map(|oldest| oldest.key)
    }

    /// Begins a round: says what is to be tried, and in which order.
    pub(super) fn begin_round(&mut self) -> Vec<Waiting> {
        for waiting in &mut self.waiting {
            waiting.rounds = waiting.rounds.saturating_add(1);
        }
        let mut due: Vec<Waiting> = self.waiting.iter().cloned().collect();
        let turn = due.partition_point(|waiting| waiting.number <= self.last_failure);
        due.rotate_left(turn);
        due
    }

    /// The store has a purge. One that another has joined since waits on: what it
    /// is to purge may have been stored in between.
    pub(super) fn settle(&mut self, done: &Waiting) {
        self.waiting.retain(|waiting| waiting.number != done.number);
    }

    /// The store has not taken a purge.
    pub(super) fn note_failure(&mut self, failed: &Waiting) {
        self.last_failure = failed.number;
    }

    /// Ends a round: gives up the purges that have waited for too long, and says
    /// whose.
    pub(super) fn end_round(&mut self) -> Vec<Rc<str>> {
        let is_lost = |waiting: &Waiting| waiting.rounds >= PURGE_ROUNDS;
        let lost = self.waiting.iter().filter(|waiting| is_lost(waiting));
        let lost = lost.map(|waiting| Rc::clone(&waiting.key)).collect();
        self.waiting.retain(|waiting| !is_lost(waiting));
        lost
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn keys(waiting: &[Waiting]) -> Vec<&str> {
        waiting.iter().map(|waiting| &*waiting.key).collect()
    }

    #[test]
    fn a_further_purge_of_a_key_joins_the_one_that_waits() {
        let mut queue = PurgeQueue::default();
        assert_eq!(queue.add("a", Purge::Soft), None);
        assert_eq!(queue.add("b", Purge::Soft), None);
        assert_eq!(queue.add("a", Purge::Soft), None);
        assert_eq!(keys(&queue.begin_round()), ["b", "a"]);
    }

    #[test]
    fn the_strongest_purge_of_a_key_wins() {
        use Purge::{Hard, Invalidate, Soft};
        for (purges, strongest) in [
            (&[Soft, Invalidate][..], Invalidate),
            (&[Invalidate, Soft], Invalidate),
            (&[Soft, Hard, Invalidate], Hard),
            (&[Hard, Soft], Hard),
            (&[Soft, Soft], Soft),
        ] {
            let mut queue = PurgeQueue::default();
            for purge in purges {
                queue.add("a", *purge);
            }
            assert_eq!(queue.find("a").unwrap().purge, strongest, "{purges:?}");
        }
    }

    #[test]
    fn a_full_queue_gives_up_the_oldest() {
        let mut queue = PurgeQueue::default();
        for number in 0..PURGES_MAX {
            assert_eq!(queue.add(&number.to_string(), Purge::Soft), None);
        }
        // It has just been asked for again: it is not the oldest any more.
        assert_eq!(queue.add("0", Purge::Soft), None);
        assert_eq!(queue.add("new", Purge::Soft).as_deref(), Some("1"));
        assert_eq!(queue.begin_round().len(), PURGES_MAX);
        assert!(queue.find("0").is_some());
        assert!(queue.find("new").is_some());
    }

    #[test]
    fn a_purge_that_joins_while_another_is_tried_waits_on() {
        let mut queue = PurgeQueue::default();
        queue.add("a", Purge::Soft);
        let due = queue.begin_round();
        queue.add("a", Purge::Soft);
        queue.settle(&due[0]);
        let due = queue.begin_round();
        assert_eq!(keys(&due), ["a"]);
        queue.settle(&due[0]);
        assert!(queue.is_empty());
    }

    #[test]
    fn one_that_fails_does_not_keep_others_from_their_turn() {
        let mut queue = PurgeQueue::default();
        for key in ["a", "b", "c"] {
            queue.add(key, Purge::Soft);
        }
        let due = queue.begin_round();
        queue.note_failure(&due[0]);
        queue.end_round();
        let due = queue.begin_round();
        assert_eq!(keys(&due), ["b", "c", "a"]);
        queue.note_failure(&due[2]);
        assert_eq!(keys(&queue.begin_round()), ["b", "c", "a"]);
    }

    #[test]
    fn a_purge_is_given_up_after_its_rounds_and_joining_starts_over() {
        let mut queue = PurgeQueue::default();
        queue.add("a", Purge::Soft);
        queue.add("b", Purge::Soft);
        for _ in 1..PURGE_ROUNDS {
            queue.begin_round();
            assert_eq!(queue.end_round(), []);
        }
        queue.add("b", Purge::Soft);
        queue.begin_round();
        assert_eq!(queue.end_round(), ["a".into()]);
        assert_eq!(keys(&queue.begin_round()), ["b"]);
    }
}
