//! What the tasks of a host without tasks of its own (WASI 0.2) wait for.
//!
//! The host has sources of events, and one call that blocks until one of several
//! sources is ready. [`Reactor`] knows which task waits for which source.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Something of the host that becomes ready.
pub trait Source {
    /// Whether it is.
    fn is_ready(&self) -> bool;
}

/// The sources that tasks wait for. Each is of one future that waits, so there are as
/// many as those: the tasks have a bound, and what each waits for at once too.
#[derive(Debug)]
pub struct Reactor<S>(RefCell<Waits<S>>);

#[derive(Debug)]
struct Waits<S> {
    /// In the order in which they began to wait.
    waits: BTreeMap<u64, Wait<S>>,
    last: u64,
}

#[derive(Debug)]
struct Wait<S> {
    source: S,
    /// None when it has become ready.
    waker: Option<Waker>,
}

impl<S> Default for Reactor<S> {
    fn default() -> Self {
        Reactor(RefCell::new(Waits {
            waits: BTreeMap::new(),
            last: 0,
        }))
    }
}

impl<S: Source> Reactor<S> {
    /// Resolves when `source` is ready, which is looked at when this is polled first.
    pub fn wait(self: &Rc<Self>, source: S) -> Waiting<S> {
        Waiting(State::New(Rc::clone(self), source))
    }

    /// Calls `poll` with the sources that tasks wait for, and `extra`. It blocks until
    /// one of them is ready, and returns the places of those that are. Their tasks are
    /// woken. Does nothing, and returns false, where nothing is waited for.
    pub fn turn(&self, extra: Option<&S>, poll: impl FnOnce(&[&S]) -> Vec<u32>) -> bool {
        let mut ready = Vec::new();
        {
            let mut waits = self.0.borrow_mut();
            let (mut numbers, mut sources) = (Vec::new(), Vec::new());
            for (number, wait) in &waits.waits {
                if wait.waker.is_some() {
                    numbers.push(*number);
                    sources.push(&wait.source);
                }
            }
            sources.extend(extra);
            if sources.is_empty() {
                return false;
            }
            let places = poll(&sources);
            drop(sources);
            for place in places {
                let number = usize::try_from(place).ok().and_then(|at| numbers.get(at));
                let wait = number.and_then(|number| waits.waits.get_mut(number));
                ready.extend(wait.and_then(|wait| wait.waker.take()));
            }
        }
        // Waking may run other code: not while the state is borrowed.
        for waker in ready {
            waker.wake();
        }
        true
    }

    fn add(&self, source: S, waker: &Waker) -> u64 {
        let mut waits = self.0.borrow_mut();
        waits.last = waits.last.wrapping_add(1);
        let number = waits.last;
        let waker = Some(waker.clone());
        waits.waits.insert(number, Wait { source, waker });
        number
    }

    /// Whether the source of a wait has become ready; if not, `waker` is woken then.
    fn look(&self, number: u64, waker: &Waker) -> bool {
        let mut waits = self.0.borrow_mut();
        match waits.waits.get_mut(&number).map(|wait| &mut wait.waker) {
            Some(Some(known)) => {
                known.clone_from(waker);
                false
            }
            Some(None) | None => true,
        }
    }

    fn remove(&self, number: u64) {
        let wait = self.0.borrow_mut().waits.remove(&number);
        drop(wait);
    }
}

/// A future that waits for a source. It drops the source when it has become ready, or
/// when it is itself dropped.
#[derive(Debug)]
pub struct Waiting<S: Source>(State<S>);

#[derive(Debug)]
enum State<S> {
    New(Rc<Reactor<S>>, S),
    Waits(Rc<Reactor<S>>, u64),
    Done,
}

impl<S: Source + Unpin> Future for Waiting<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, State::Done) {
            State::New(_, source) if source.is_ready() => Poll::Ready(()),
            State::New(reactor, source) => {
                let number = reactor.add(source, context.waker());
                self.0 = State::Waits(reactor, number);
                Poll::Pending
            }
            State::Waits(reactor, number) => match reactor.look(number, context.waker()) {
                true => {
                    reactor.remove(number);
                    Poll::Ready(())
                }
                false => {
                    self.0 = State::Waits(reactor, number);
                    Poll::Pending
                }
            },
            State::Done => Poll::Ready(()),
        }
    }
}

impl<S: Source> Drop for Waiting<S> {
    fn drop(&mut self) {
        if let State::Waits(reactor, number) = &self.0 {
            reactor.remove(*number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::tasks::{Spawner, Tasks, Turn};
    use std::cell::Cell;

    #[derive(Clone)]
    struct Event(Rc<Cell<bool>>, Rc<Cell<u32>>);

    impl Event {
        fn new() -> Self {
            Event(Rc::default(), Rc::default())
        }

        fn happen(&self) {
            self.0.set(true);
        }
    }

    impl Source for Event {
        fn is_ready(&self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0.get()
        }
    }

    /// As a host polls: the places of those that are ready.
    fn poll(sources: &[&Event]) -> Vec<u32> {
        let places = sources.iter().enumerate();
        let ready = places.filter(|(_, event)| event.0.get());
        ready
            .filter_map(|(place, _)| u32::try_from(place).ok())
            .collect()
    }

    #[test]
    fn only_the_task_whose_source_is_ready_goes_on() {
        let (reactor, spawner) = (Rc::new(Reactor::default()), Spawner::default());
        let events: Vec<Event> = (0..3).map(|_| Event::new()).collect();
        let log: Rc<RefCell<Vec<usize>>> = Rc::default();
        for (number, event) in events.iter().cloned().enumerate() {
            let (reactor, log) = (Rc::clone(&reactor), Rc::clone(&log));
            spawner.spawn(async move {
                reactor.wait(event).await;
                log.borrow_mut().push(number);
            });
        }
        let mut tasks = Tasks::new(spawner);
        assert_eq!(tasks.turn(), Turn::Waiting);
        for next in [1, 2, 0] {
            events.iter().enumerate().for_each(|(number, event)| {
                if number == next {
                    event.happen();
                }
            });
            assert!(reactor.turn(None, poll));
            let turn = tasks.turn();
            assert_eq!(turn == Turn::Done, next == 0);
            assert_eq!(log.borrow().last(), Some(&next));
        }
        // Nothing is left to wait for.
        assert!(!reactor.turn(None, |_| Vec::new()));
        // Each was asked once by its future; after that the reactor knows.
        assert!(events.iter().all(|event| event.1.get() == 1));
    }

    #[test]
    fn a_source_that_is_ready_is_not_waited_for() {
        let (reactor, spawner) = (Rc::new(Reactor::default()), Spawner::default());
        let event = Event::new();
        event.happen();
        let waiting = reactor.wait(event);
        spawner.spawn(waiting);
        assert_eq!(Tasks::new(spawner).turn(), Turn::Done);
        assert!(!reactor.turn(None, |_| Vec::new()));
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let (reactor, spawner) = (Rc::new(Reactor::default()), Spawner::default());
        let event = Event::new();
        spawner.spawn(reactor.wait(event.clone()));
        let mut tasks = Tasks::new(spawner);
        assert_eq!(tasks.turn(), Turn::Waiting);
        assert_eq!(Rc::strong_count(&event.0), 2);
        tasks.abandon();
        // The source is dropped, so that what it belongs to can be.
        assert_eq!(Rc::strong_count(&event.0), 1);
        assert!(!reactor.turn(None, |_| Vec::new()));
    }

    #[test]
    fn the_extra_source_wakes_no_task() {
        let (reactor, spawner) = (Rc::new(Reactor::default()), Spawner::default());
        spawner.spawn(reactor.wait(Event::new()));
        let mut tasks = Tasks::new(spawner);
        assert_eq!(tasks.turn(), Turn::Waiting);
        let deadline = Event::new();
        deadline.happen();
        assert!(reactor.turn(Some(&deadline), poll));
        assert_eq!(tasks.turn(), Turn::Waiting);
        // A host that returns places that do not exist wakes nothing either.
        assert!(reactor.turn(None, |_| vec![0, 1, u32::MAX]));
        assert_eq!(tasks.turn(), Turn::Done);
    }
}
