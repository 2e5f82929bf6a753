//! The tasks of a host that has none of its own (WASI 0.2), and when they have to end.
//!
//! The host calls the component once for each request, and the call ends when the work
//! that the request has started has ended. The tasks are polled by that call. What they
//! wait for is in [`super::reactor`].

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, Stream};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Most tasks of one request. A request starts a handful; a task beyond this is dropped
/// before it begins, as if the instance had ended.
pub const TASKS_MAX: usize = 256;

/// Most polls in one [`Tasks::turn`], so that tasks that wake each other do not keep the
/// caller from looking at the time.
pub const POLLS_MAX: usize = 4_096;

/// How long the work of a request may take, from its arrival. Fermyon Cloud and Akamai
/// Functions end a request after 30 s; what is not done by then is lost in any case, and
/// ended early enough it is lost in order.
pub const WORK_MAX: Duration = Duration::from_secs(26);

/// An answer that takes longer than [`WORK_MAX`], because its body is long or its
/// visitor slow, is not cut: only the host knows whether it may be. What is to be done
/// after it has this long.
pub const SETTLE_MAX: Duration = Duration::from_secs(3);

/// When the work of a request has to end, by the clock that measured when it
/// `started` and was `answered`; `None` before the answer: each wait before it has a
/// limit of its own.
pub fn end_of_work(started: Duration, answered: Option<Duration>) -> Option<Duration> {
    let settled = answered?.saturating_add(SETTLE_MAX);
    Some(settled.max(started.saturating_add(WORK_MAX)))
}

type Task = LocalBoxFuture<'static, ()>;

/// Starts tasks.
#[derive(Clone, Default)]
pub struct Spawner(Rc<RefCell<Vec<Task>>>);

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}

impl Spawner {
    /// Starts a task: the next [`Tasks::turn`] polls it, also if a turn is under way.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut spawned = self.0.borrow_mut();
        if spawned.len() < TASKS_MAX {
            spawned.push(Box::pin(task));
        }
    }

    fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.0.borrow_mut())
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All tasks have ended.
    Done,
    /// All tasks that are left wait.
    Waiting,
    /// There is more to do at once.
    Busy,
}

/// Notes that a task was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tasks of one request.
pub struct Tasks {
    running: FuturesUnordered<Task>,
    spawner: Spawner,
    flag: Arc<Flag>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

impl Tasks {
    /// None but those that `spawner` starts.
    pub fn new(spawner: Spawner) -> Self {
        Tasks {
            running: FuturesUnordered::new(),
            spawner,
            flag: Arc::default(),
        }
    }

    fn admit(&mut self) {
        for task in self.spawner.take() {
            if self.running.len() < TASKS_MAX {
                self.running.push(task);
            }
        }
    }

    /// Polls the tasks that were woken, until all wait.
    pub fn turn(&mut self) -> Turn {
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut context = Context::from_waker(&waker);
        for _ in 0..POLLS_MAX {
            self.admit();
            self.flag.0.store(false, Ordering::Relaxed);
            match Pin::new(&mut self.running).poll_next(&mut context) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) if self.spawner.is_empty() => return Turn::Done,
                Poll::Pending
                    if self.spawner.is_empty() && !self.flag.0.load(Ordering::Relaxed) =>
                {
                    return Turn::Waiting;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        Turn::Busy
    }

    /// Drops all tasks, and those that their end starts. Returns how many there were.
    pub fn abandon(&mut self) -> usize {
        let left = self.running.len();
        self.running = FuturesUnordered::new();
        let started = self.spawner.take();
        let count = left.saturating_add(started.len());
        drop(started);
        // What these start in turn is not counted.
        drop(self.spawner.take());
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::oneshot;
    use futures::future::{pending, poll_fn};
    use std::cell::Cell;

    #[test]
    fn tasks_run_until_all_have_ended_those_that_they_start_included() {
        let spawner = Spawner::default();
        let ended = Rc::new(Cell::new(0));
        let (sender, receiver) = oneshot::channel::<()>();
        {
            let (inner, ended) = (spawner.clone(), Rc::clone(&ended));
            spawner.spawn(async move {
                let after = Rc::clone(&ended);
                inner.spawn(async move {
                    let _ = receiver.await;
                    after.set(after.get() + 1);
                });
                ended.set(ended.get() + 1);
            });
        }
        let mut tasks = Tasks::new(spawner);
        assert_eq!((tasks.turn(), ended.get()), (Turn::Waiting, 1));
        assert_eq!((tasks.turn(), ended.get()), (Turn::Waiting, 1));
        drop(sender);
        assert_eq!((tasks.turn(), ended.get()), (Turn::Done, 2));
        assert_eq!(tasks.turn(), Turn::Done);
    }

    #[test]
    fn a_task_is_polled_only_when_it_was_woken() {
        let spawner = Spawner::default();
        let polls = Rc::new(Cell::new(0));
        let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
        {
            let (polls, waker) = (Rc::clone(&polls), Rc::clone(&waker));
            spawner.spawn(poll_fn(move |context| {
                polls.set(polls.get() + 1);
                *waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }));
        }
        // Another, that wakes itself a few times.
        let mut left = 100;
        spawner.spawn(poll_fn(move |context| {
            left -= 1;
            match left {
                0 => Poll::Ready(()),
                _ => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }));
        let mut tasks = Tasks::new(spawner);
        assert_eq!((tasks.turn(), polls.get()), (Turn::Waiting, 1));
        assert_eq!((tasks.turn(), polls.get()), (Turn::Waiting, 1));
        waker.borrow_mut().take().inspect(Waker::wake_by_ref);
        assert_eq!((tasks.turn(), polls.get()), (Turn::Waiting, 2));
    }

    #[test]
    fn a_task_that_wakes_itself_for_ever_lets_the_caller_look_at_the_time() {
        let spawner = Spawner::default();
        spawner.spawn(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        let mut tasks = Tasks::new(spawner);
        assert_eq!(tasks.turn(), Turn::Busy);
        assert_eq!(tasks.abandon(), 1);
        assert_eq!(tasks.turn(), Turn::Done);
    }

    #[test]
    fn there_are_never_more_tasks_than_the_bound() {
        let spawner = Spawner::default();
        let mut tasks = Tasks::new(spawner.clone());
        for _ in 0..3 {
            for _ in 0..TASKS_MAX {
                spawner.spawn(pending());
            }
            assert_eq!(tasks.turn(), Turn::Waiting);
        }
        assert_eq!(tasks.abandon(), TASKS_MAX);
    }

    #[test]
    fn what_abandoned_tasks_start_is_abandoned_too() {
        /// Starts a task when it is dropped.
        struct Starts(Spawner);
        impl Drop for Starts {
            fn drop(&mut self) {
                self.0.spawn(pending());
            }
        }
        let spawner = Spawner::default();
        let starts = Starts(spawner.clone());
        spawner.spawn(async move {
            pending::<()>().await;
            drop(starts);
        });
        let mut tasks = Tasks::new(spawner);
        assert_eq!(tasks.turn(), Turn::Waiting);
        assert_eq!(tasks.abandon(), 2);
        assert_eq!(tasks.turn(), Turn::Done);
    }

    #[test]
    fn work_ends_within_its_time_and_an_answer_is_never_cut() {
        let seconds = Duration::from_secs;
        assert_eq!(end_of_work(seconds(100), None), None);
        let usual = Some(seconds(100) + WORK_MAX);
        assert_eq!(end_of_work(seconds(100), Some(seconds(101))), usual);
        let late = seconds(100) + WORK_MAX + seconds(60);
        let settled = Some(late + SETTLE_MAX);
        assert_eq!(end_of_work(seconds(100), Some(late)), settled);
    }
}
