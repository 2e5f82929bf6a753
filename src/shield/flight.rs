//! At most one attempt per key is under way in one instance.
//!
//! Whoever comes first leads: it goes to the store and perhaps to the origin.
//! Whoever comes later waits until the leader has landed, and looks again. This
//! spares the store, not the origin: among instances the lease decides.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The attempts of one instance, and whom to wake when they end. Bounded by the
/// number of requests that the host lets into an instance.
#[derive(Debug)]
pub(super) struct Flights<W>(Rc<RefCell<HashMap<String, Vec<W>>>>);

impl<W> Default for Flights<W> {
    fn default() -> Self {
        Flights(Rc::default())
    }
}

/// A request's part in the attempt for a key.
pub(super) enum Seat<W, F> {
    /// Nobody is at it: make the attempt, and keep the value while it lasts.
    Leader(Landing<W>),
    /// Another is at it: wait for this, then look again.
    Follower(F),
}

/// Ends the attempt when dropped, and wakes all who wait for it.
#[derive(Debug)]
pub(super) struct Landing<W> {
    flights: Rc<RefCell<HashMap<String, Vec<W>>>>,
    id: String,
}

impl<W> Flights<W> {
    /// Whether somebody is at `id`.
    #[cfg(test)]
    pub(super) fn is_under_way(&self, id: &str) -> bool {
        self.0.borrow().contains_key(id)
    }

    /// Takes a seat for `id`; `signal` makes a follower's.
    pub(super) fn join<F>(&self, id: &str, signal: impl FnOnce() -> (W, F)) -> Seat<W, F> {
        let mut flights = self.0.borrow_mut();
        if let Some(followers) = flights.get_mut(id) {
            let (wake, landed) = signal();
            followers.push(wake);
            return Seat::Follower(landed);
        }
        flights.insert(id.to_owned(), Vec::new());
        Seat::Leader(Landing {
            flights: Rc::clone(&self.0),
            id: id.to_owned(),
        })
    }
}

impl<W> Drop for Landing<W> {
    fn drop(&mut self) {
        let followers = self.flights.borrow_mut().remove(&self.id);
        // Waking may run code of the platform: not while the map is borrowed.
        drop(followers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::channel::oneshot;

    #[test]
    fn one_leads_and_the_others_follow_until_it_lands() {
        let flights = Flights::default();
        let signal = oneshot::channel::<()>;
        let Seat::Leader(landing) = flights.join("a", signal) else {
            unreachable!("nobody else is there");
        };
        let Seat::Follower(mut first) = flights.join("a", signal) else {
            unreachable!("somebody leads");
        };
        let Seat::Follower(second) = flights.join("a", signal) else {
            unreachable!("somebody leads");
        };
        assert!(matches!(flights.join("b", signal), Seat::Leader(_)));
        assert!((&mut first).now_or_never().is_none());
        drop(landing);
        assert!(first.now_or_never().is_some());
        assert!(second.now_or_never().is_some());
        assert!(!flights.is_under_way("a"));
        assert!(matches!(flights.join("a", signal), Seat::Leader(_)));
    }
}
