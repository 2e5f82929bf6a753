//! Singleflight: at most one attempt per key is under way in one instance.
//!
//! The first request for a key leads: it goes to the store and perhaps to the
//! origin. Later ones follow. This spares the store; among instances the lease
//! decides who goes to the origin.
//!
//! The leader hands over what the origin said as soon as it is whole. A follower
//! that cannot use it waits until the attempt ends, and looks again. That matters
//! where many wait, where a swap takes its time, and where purges or other writes
//! keep what is fetched from being stored.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The attempts of one instance, and the followers to wake. Bounded by the number
/// of requests that the host lets into an instance.
#[derive(Debug)]
pub(super) struct Flights<W, T>(Attempts<W, T>);

type Attempts<W, T> = Rc<RefCell<HashMap<String, Attempt<W, T>>>>;

impl<W, T> Default for Flights<W, T> {
    fn default() -> Self {
        Flights(Rc::default())
    }
}

/// One attempt.
#[derive(Debug)]
struct Attempt<W, T> {
    /// Whether the origin has been asked.
    asked: bool,
    /// What it said.
    brought: Rc<OnceCell<T>>,
    /// Followers that wait for that, or, when it is there, for the end of the
    /// attempt.
    followers: Vec<W>,
}

impl<W, T> Default for Attempt<W, T> {
    fn default() -> Self {
        Attempt {
            asked: false,
            brought: Rc::default(),
            followers: Vec::new(),
        }
    }
}

/// A request's part in the attempt for a key.
pub(super) enum Role<W, F, T> {
    /// Make the attempt, and keep the value while it lasts.
    Leader(Flight<W, T>),
    /// Another request makes it: wait for the future. It resolves when something
    /// is handed over, if it was not there before, and at the end of the attempt.
    Follower(F, Handed<T>),
}

/// What a follower is handed over.
#[derive(Debug)]
pub(super) struct Handed<T> {
    brought: Rc<OnceCell<T>>,
    /// Whether the request began to follow before the origin was asked: what the
    /// origin said is as good as an answer to this request.
    pub(super) in_time: bool,
}

impl<T> Handed<T> {
    /// What the origin said, once it is there.
    pub(super) fn get(&self) -> Option<&T> {
        self.brought.get()
    }
}

/// Ends the attempt when dropped, and wakes its followers.
#[derive(Debug)]
pub(super) struct Flight<W, T> {
    attempts: Attempts<W, T>,
    id: String,
}

impl<W, T> Flights<W, T> {
    /// Whether an attempt is under way for `id`.
    pub(super) fn is_under_way(&self, id: &str) -> bool {
        self.0.borrow().contains_key(id)
    }

    /// Joins the attempt for `id`; `signal` makes what wakes a follower.
    pub(super) fn join<F>(&self, id: &str, signal: impl FnOnce() -> (W, F)) -> Role<W, F, T> {
        let mut attempts = self.0.borrow_mut();
        if let Some(attempt) = attempts.get_mut(id) {
            let (wake, ended) = signal();
            attempt.followers.push(wake);
            let handed = Handed {
                brought: Rc::clone(&attempt.brought),
                in_time: !attempt.asked,
            };
            return Role::Follower(ended, handed);
        }
        attempts.insert(id.to_owned(), Attempt::default());
        Role::Leader(Flight {
            attempts: Rc::clone(&self.0),
            id: id.to_owned(),
        })
    }
}

impl<W, T> Flight<W, T> {
    /// The origin is about to be asked: a follower that joins from now on is not
    /// in time.
    pub(super) fn ask(&self) {
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(&self.id) {
            attempt.asked = true;
        }
    }

    /// Hands over what the origin said, once, and wakes all followers.
    pub(super) fn hand_over(&self, brought: T) {
        let followers = match self.attempts.borrow_mut().get_mut(&self.id) {
            Some(attempt) if attempt.brought.set(brought).is_ok() => {
                std::mem::take(&mut attempt.followers)
            }
            Some(_) | None => return,
        };
        // Waking may run code of the platform: not while the map is borrowed.
        drop(followers);
    }
}

impl<W, T> Drop for Flight<W, T> {
    fn drop(&mut self) {
        let attempt = self.attempts.borrow_mut().remove(&self.id);
        // Not while the map is borrowed, as above.
        drop(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::channel::oneshot;

    type Signal = oneshot::Receiver<()>;

    fn lead(flights: &Flights<oneshot::Sender<()>, u8>) -> Flight<oneshot::Sender<()>, u8> {
        match flights.join("a", oneshot::channel) {
            Role::Leader(flight) => flight,
            Role::Follower(..) => unreachable!("no attempt is under way"),
        }
    }

    fn follow(flights: &Flights<oneshot::Sender<()>, u8>) -> (Signal, Handed<u8>) {
        match flights.join("a", oneshot::channel) {
            Role::Follower(ended, handed) => (ended, handed),
            Role::Leader(_) => unreachable!("an attempt is under way"),
        }
    }

    #[test]
    fn one_leads_and_the_others_follow_until_the_attempt_ends() {
        let flights = Flights::default();
        let flight = lead(&flights);
        let (mut first, _) = follow(&flights);
        let (second, _) = follow(&flights);
        assert!(matches!(
            flights.join("b", oneshot::channel),
            Role::Leader(_)
        ));
        assert!((&mut first).now_or_never().is_none());
        drop(flight);
        assert!(first.now_or_never().is_some());
        assert!(second.now_or_never().is_some());
        assert!(!flights.is_under_way("a"));
        drop(lead(&flights));
    }

    #[test]
    fn what_the_origin_said_is_handed_over_before_the_end() {
        let flights = Flights::default();
        let flight = lead(&flights);
        let (mut early, for_early) = follow(&flights);
        flight.ask();
        let (mut late, for_late) = follow(&flights);
        assert!((&mut early).now_or_never().is_none());
        assert_eq!(for_early.get(), None);
        flight.hand_over(1);
        assert!((&mut early).now_or_never().is_some());
        assert!((&mut late).now_or_never().is_some());
        assert_eq!(for_early.get(), Some(&1));
        assert!(for_early.in_time);
        assert_eq!(for_late.get(), Some(&1));
        assert!(!for_late.in_time);
    }

    #[test]
    fn a_follower_that_cannot_use_it_waits_for_the_end() {
        let flights = Flights::default();
        let flight = lead(&flights);
        flight.ask();
        flight.hand_over(1);
        flight.hand_over(2);
        let (mut ended, handed) = follow(&flights);
        assert_eq!(handed.get(), Some(&1));
        assert!((&mut ended).now_or_never().is_none());
        drop(flight);
        assert!(ended.now_or_never().is_some());
    }
}
