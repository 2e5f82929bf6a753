//! At most one attempt per key is under way in one instance.
//!
//! Whoever comes first leads: it goes to the store and perhaps to the origin.
//! Whoever comes later waits. This spares the store, not the origin: among
//! instances the lease decides.
//!
//! The leader hands over what the origin said as soon as it is whole; whoever has
//! no use for it waits until the leader has landed, and looks again. That matters
//! where many wait, where a swap takes its time, and where purges or other writes
//! keep what is fetched from being stored.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The attempts of one instance, and whom to wake. Bounded by the number of
/// requests that the host lets into an instance.
#[derive(Debug)]
pub(super) struct Flights<W, T>(Rc<RefCell<HashMap<String, Flight<W, T>>>>);

impl<W, T> Default for Flights<W, T> {
    fn default() -> Self {
        Flights(Rc::default())
    }
}

/// One attempt.
#[derive(Debug)]
struct Flight<W, T> {
    /// Whether the origin has been asked.
    asked: bool,
    /// What it said.
    fetched: Rc<OnceCell<T>>,
    /// Who waits for that, or, when it is there, for the end of the attempt.
    followers: Vec<W>,
}

impl<W, T> Default for Flight<W, T> {
    fn default() -> Self {
        Flight {
            asked: false,
            fetched: Rc::default(),
            followers: Vec::new(),
        }
    }
}

/// A request's part in the attempt for a key.
pub(super) enum Seat<W, F, T> {
    /// Nobody is at it: make the attempt, and keep the value while it lasts.
    Leader(Landing<W, T>),
    /// Another is at it: wait for this. It resolves when something is handed
    /// over, if it was not there before, and at the end of the attempt.
    Follower(F, Handed<T>),
}

/// What a follower is handed over.
#[derive(Debug)]
pub(super) struct Handed<T> {
    fetched: Rc<OnceCell<T>>,
    /// Whether the follower took its seat before the origin was asked: what it
    /// said is as good as an answer to the follower's own request.
    pub(super) in_time: bool,
}

impl<T> Handed<T> {
    /// What the origin said, once it is there.
    pub(super) fn get(&self) -> Option<&T> {
        self.fetched.get()
    }
}

/// Ends the attempt when dropped, and wakes all who wait for it.
#[derive(Debug)]
pub(super) struct Landing<W, T> {
    flights: Rc<RefCell<HashMap<String, Flight<W, T>>>>,
    id: String,
}

impl<W, T> Flights<W, T> {
    /// Whether somebody is at `id`.
    #[cfg(test)]
    pub(super) fn is_under_way(&self, id: &str) -> bool {
        self.0.borrow().contains_key(id)
    }

    /// Takes a seat for `id`; `signal` makes a follower's.
    pub(super) fn join<F>(&self, id: &str, signal: impl FnOnce() -> (W, F)) -> Seat<W, F, T> {
        let mut flights = self.0.borrow_mut();
        if let Some(flight) = flights.get_mut(id) {
            let (wake, landed) = signal();
            flight.followers.push(wake);
            let handed = Handed {
                fetched: Rc::clone(&flight.fetched),
                in_time: !flight.asked,
            };
            return Seat::Follower(landed, handed);
        }
        flights.insert(id.to_owned(), Flight::default());
        Seat::Leader(Landing {
            flights: Rc::clone(&self.0),
            id: id.to_owned(),
        })
    }
}

impl<W, T> Landing<W, T> {
    /// The origin is about to be asked: who comes from now on is not in time.
    pub(super) fn ask(&self) {
        if let Some(flight) = self.flights.borrow_mut().get_mut(&self.id) {
            flight.asked = true;
        }
    }

    /// Hands over what the origin said, once, and wakes all who wait.
    pub(super) fn hand_over(&self, fetched: T) {
        let followers = match self.flights.borrow_mut().get_mut(&self.id) {
            Some(flight) if flight.fetched.set(fetched).is_ok() => {
                std::mem::take(&mut flight.followers)
            }
            Some(_) | None => return,
        };
        // Waking may run code of the platform: not while the map is borrowed.
        drop(followers);
    }
}

impl<W, T> Drop for Landing<W, T> {
    fn drop(&mut self) {
        let flight = self.flights.borrow_mut().remove(&self.id);
        // Not while the map is borrowed, as above.
        drop(flight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::channel::oneshot;

    type Signal = oneshot::Receiver<()>;

    fn lead(flights: &Flights<oneshot::Sender<()>, u8>) -> Landing<oneshot::Sender<()>, u8> {
        match flights.join("a", oneshot::channel) {
            Seat::Leader(landing) => landing,
            Seat::Follower(..) => unreachable!("nobody else is there"),
        }
    }

    fn follow(flights: &Flights<oneshot::Sender<()>, u8>) -> (Signal, Handed<u8>) {
        match flights.join("a", oneshot::channel) {
            Seat::Follower(landed, handed) => (landed, handed),
            Seat::Leader(_) => unreachable!("somebody leads"),
        }
    }

    #[test]
    fn one_leads_and_the_others_follow_until_it_lands() {
        let flights = Flights::default();
        let landing = lead(&flights);
        let (mut first, _) = follow(&flights);
        let (second, _) = follow(&flights);
        assert!(matches!(
            flights.join("b", oneshot::channel),
            Seat::Leader(_)
        ));
        assert!((&mut first).now_or_never().is_none());
        drop(landing);
        assert!(first.now_or_never().is_some());
        assert!(second.now_or_never().is_some());
        assert!(!flights.is_under_way("a"));
        drop(lead(&flights));
    }

    #[test]
    fn what_the_origin_said_is_handed_over_before_the_landing() {
        let flights = Flights::default();
        let landing = lead(&flights);
        let (mut early, for_early) = follow(&flights);
        landing.ask();
        let (mut late, for_late) = follow(&flights);
        assert!((&mut early).now_or_never().is_none());
        assert_eq!(for_early.get(), None);
        landing.hand_over(1);
        assert!((&mut early).now_or_never().is_some());
        assert!((&mut late).now_or_never().is_some());
        assert_eq!(for_early.get(), Some(&1));
        assert!(for_early.in_time);
        assert_eq!(for_late.get(), Some(&1));
        assert!(!for_late.in_time);
    }

    #[test]
    fn who_has_no_use_for_it_waits_for_the_landing() {
        let flights = Flights::default();
        let landing = lead(&flights);
        landing.ask();
        landing.hand_over(1);
        landing.hand_over(2);
        let (mut landed, handed) = follow(&flights);
        assert_eq!(handed.get(), Some(&1));
        assert!((&mut landed).now_or_never().is_none());
        drop(landing);
        assert!(landed.now_or_never().is_some());
    }
}
