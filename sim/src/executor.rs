//! A single-threaded executor over virtual time.
//!
//! Time stands still while any task can run, and then jumps to the next timer.
//! Which of the tasks that can run is next is drawn from a seeded generator, so
//! a seed fixes a run to the last step, and different seeds interleave
//! differently. A task belongs to an [`Owner`]: a node that crashes loses all
//! of its tasks between two steps, and a node that stalls keeps them but does
//! not run them.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Virtual microseconds since the run began.
pub(crate) type Micros = u64;

/// Microseconds of a duration; saturates.
pub(crate) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

/// Whose task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The world's: visitors, store and origin. Never crashes.
    World,
    /// An instance's on a node.
    Instance {
        /// The node.
        node: usize,
        /// The instance, unique among all nodes.
        instance: u64,
    },
}

impl Owner {
    /// The node, if it is one's.
    pub(crate) fn node(self) -> Option<usize> {
        match self {
            Owner::World => None,
            Owner::Instance { node, .. } => Some(node),
        }
    }
}

/// A task's name; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

type BoxFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    owner: Owner,
    /// None while it is polled.
    future: Option<BoxFuture>,
    waker: Waker,
    queued: bool,
}

#[derive(Default)]
struct Woken(Mutex<Vec<TaskId>>);

struct TaskWaker {
    task: TaskId,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        woken.push(self.task);
    }
}

#[derive(Default)]
struct Timers {
    heap: BinaryHeap<Reverse<(Micros, u64)>>,
    wakers: HashMap<u64, Waker>,
    next: u64,
}

#[derive(Default)]
struct State {
    tasks: HashMap<TaskId, Task>,
    next: u64,
    ready: Vec<TaskId>,
    /// Tasks that could run, of nodes that stall.
    held: HashMap<usize, Vec<TaskId>>,
    stalled: HashSet<usize>,
    /// Polls that a node has left before it crashes.
    fuses: HashMap<usize, u32>,
    burnt: Vec<usize>,
}

struct Inner {
    now: Cell<Micros>,
    current: Cell<Option<TaskId>>,
    steps: Cell<u64>,
    rng: RefCell<fastrand::Rng>,
    woken: Arc<Woken>,
    timers: RefCell<Timers>,
    state: RefCell<State>,
}

/// A handle to the executor.
#[derive(Clone)]
pub(crate) struct Executor(Rc<Inner>);

impl Executor {
    /// An executor whose choices follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Executor(Rc::new(Inner {
            now: Cell::new(0),
            current: Cell::new(None),
            steps: Cell::new(0),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            woken: Arc::default(),
            timers: RefCell::default(),
            state: RefCell::default(),
        }))
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> Micros {
        self.0.now.get()
    }

    /// How many steps have been made.
    pub(crate) fn steps(&self) -> u64 {
        self.0.steps.get()
    }

    /// The task that is being polled.
    pub(crate) fn current(&self) -> Option<TaskId> {
        self.0.current.get()
    }

    /// Draws from the generator of the run.
    pub(crate) fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.rng.borrow_mut())
    }

    /// A moment uniformly between two durations.
    pub(crate) fn between(&self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (micros(least), micros(most));
        Duration::from_micros(self.random(|rng| rng.u64(least..=most.max(least))))
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) -> TaskId {
        let state = &mut *self.0.state.borrow_mut();
        let task = TaskId(state.next);
        state.next += 1;
        let waker = Waker::from(Arc::new(TaskWaker {
            task,
            woken: Arc::clone(&self.0.woken),
        }));
        state.tasks.insert(
            task,
            Task {
                owner,
                future: Some(Box::pin(future)),
                waker,
                queued: true,
            },
        );
        state.ready.push(task);
        task
    }

    /// Ends all tasks of owners that `dies` names. Not for the caller's own.
    pub(crate) fn kill(&self, dies: impl Fn(Owner) -> bool) {
        let mut dropped: Vec<(TaskId, Task)> = {
            let state = &mut *self.0.state.borrow_mut();
            let doomed: Vec<TaskId> = state
                .tasks
                .iter()
                .filter(|(_, task)| dies(task.owner))
                .map(|(id, _)| *id)
                .collect();
            doomed
                .into_iter()
                .filter_map(|id| Some((id, state.tasks.remove(&id)?)))
                .collect()
        };
        // The order of a map differs from run to run; dropping has effects.
        dropped.sort_unstable_by_key(|(id, _)| *id);
        drop(dropped);
    }

    /// Lets a node's tasks lie, or run again.
    pub(crate) fn stall(&self, node: usize, stalled: bool) {
        let state = &mut *self.0.state.borrow_mut();
        if stalled {
            state.stalled.insert(node);
        } else {
            state.stalled.remove(&node);
            state
                .ready
                .extend(state.held.remove(&node).unwrap_or_default());
        }
    }

    /// Whether a node's tasks lie.
    pub(crate) fn is_stalled(&self, node: usize) -> bool {
        self.0.state.borrow().stalled.contains(&node)
    }

    /// Has a node crash after this many polls of its tasks.
    pub(crate) fn light_fuse(&self, node: usize, polls: u32) {
        self.0.state.borrow_mut().fuses.insert(node, polls);
    }

    /// Puts a node's fuse out.
    pub(crate) fn quench(&self, node: usize) {
        self.0.state.borrow_mut().fuses.remove(&node);
    }

    /// Nodes whose fuses have burnt down.
    pub(crate) fn burnt(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.state.borrow_mut().burnt)
    }

    /// Resolves at a moment.
    pub(crate) fn sleep_until(&self, deadline: Micros) -> Sleep {
        Sleep {
            executor: self.clone(),
            deadline,
            timer: None,
        }
    }

    /// Resolves after a duration.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(micros(duration)))
    }

    /// Polls one task, or lets time go on to the next timer but not beyond
    /// `end`. False where nothing is left to do.
    pub(crate) fn step(&self, end: Micros) -> bool {
        self.0.steps.set(self.0.steps.get() + 1);
        self.collect();
        let Some((task, mut future, waker)) = self.choose() else {
            return self.advance(end);
        };
        self.0.current.set(Some(task));
        let done = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        self.0.current.set(None);
        let finished = {
            let state = &mut *self.0.state.borrow_mut();
            match state.tasks.get_mut(&task) {
                Some(entry) if !done => {
                    entry.future = Some(future);
                    return true;
                }
                Some(_) => state.tasks.remove(&task),
                None => None,
            }
        };
        drop(finished);
        true
    }

    /// Moves woken tasks among those that can run.
    fn collect(&self) {
        let woken = std::mem::take(
            &mut *self
                .0
                .woken
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let state = &mut *self.0.state.borrow_mut();
        for task in woken {
            if let Some(entry) = state.tasks.get_mut(&task)
                && !entry.queued
            {
                entry.queued = true;
                state.ready.push(task);
            }
        }
    }

    fn choose(&self) -> Option<(TaskId, BoxFuture, Waker)> {
        let state = &mut *self.0.state.borrow_mut();
        loop {
            if state.ready.is_empty() {
                return None;
            }
            let chosen = self.random(|rng| rng.usize(..state.ready.len()));
            let task = state.ready.swap_remove(chosen);
            let Some(entry) = state.tasks.get_mut(&task) else {
                continue;
            };
            if let Some(node) = entry.owner.node() {
                if state.stalled.contains(&node) {
                    state.held.entry(node).or_default().push(task);
                    continue;
                }
                if let Some(fuse) = state.fuses.get_mut(&node) {
                    if *fuse == 0 {
                        state.fuses.remove(&node);
                        state.burnt.push(node);
                        state.ready.push(task);
                        return None;
                    }
                    *fuse -= 1;
                }
            }
            entry.queued = false;
            if let Some(future) = entry.future.take() {
                return Some((task, future, entry.waker.clone()));
            }
        }
    }

    fn advance(&self, end: Micros) -> bool {
        if !self.0.state.borrow().burnt.is_empty() {
            return true;
        }
        let mut due = Vec::new();
        {
            let timers = &mut *self.0.timers.borrow_mut();
            while let Some(&Reverse((at, timer))) = timers.heap.peek() {
                if !timers.wakers.contains_key(&timer) {
                    // Dropped before it was due.
                    timers.heap.pop();
                    continue;
                }
                if at > end || (!due.is_empty() && at > self.now()) {
                    break;
                }
                timers.heap.pop();
                self.0.now.set(self.now().max(at));
                due.extend(timers.wakers.remove(&timer));
            }
        }
        let any = !due.is_empty();
        for waker in due {
            waker.wake();
        }
        if !any {
            self.0.now.set(self.now().max(end));
        }
        any
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// Resolves at a moment of virtual time.
pub(crate) struct Sleep {
    executor: Executor,
    deadline: Micros,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.deadline {
            return Poll::Ready(());
        }
        let executor = self.executor.clone();
        let timers = &mut *executor.0.timers.borrow_mut();
        let timer = match self.timer {
            Some(timer) => timer,
            None => {
                let timer = timers.next;
                timers.next += 1;
                timers.heap.push(Reverse((self.deadline, timer)));
                self.timer = Some(timer);
                timer
            }
        };
        match timers.wakers.get_mut(&timer) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                timers.wakers.insert(timer, context.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.executor.0.timers.borrow_mut().wakers.remove(&timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<(Micros, u64)> {
        let executor = Executor::new(seed);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for task in 0..8 {
            let (handle, seen) = (executor.clone(), Rc::clone(&seen));
            executor.spawn(Owner::World, async move {
                handle.sleep(Duration::from_secs(1 + task % 2)).await;
                seen.borrow_mut().push((handle.now(), task));
            });
        }
        while executor.step(Micros::MAX) {}
        seen.take()
    }

    #[test]
    fn a_seed_fixes_the_order_and_time_is_virtual() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let order = order(3);
        assert_eq!(order.len(), 8);
        assert!(order.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn a_crash_drops_a_nodes_tasks_and_no_others() {
        let executor = Executor::new(1);
        let ran = Rc::new(RefCell::new(Vec::new()));
        for node in 0..2 {
            let (handle, ran) = (executor.clone(), Rc::clone(&ran));
            let owner = Owner::Instance { node, instance: 0 };
            executor.spawn(owner, async move {
                handle.sleep(Duration::from_secs(1)).await;
                ran.borrow_mut().push(node);
            });
        }
        executor.light_fuse(0, 1);
        while executor.step(Micros::MAX) {
            for node in executor.burnt() {
                executor.kill(|owner| owner.node() == Some(node));
            }
        }
        assert_eq!(ran.take(), [1]);
    }

    #[test]
    fn a_stalled_node_goes_on_later() {
        let executor = Executor::new(1);
        let ran = Rc::new(Cell::new(0));
        let owner = Owner::Instance {
            node: 0,
            instance: 0,
        };
        let (handle, at) = (executor.clone(), Rc::clone(&ran));
        executor.spawn(owner, async move {
            handle.sleep_until(1_000_000).await;
            at.set(handle.now());
        });
        let handle = executor.clone();
        executor.spawn(Owner::World, async move {
            // Not at once: either task may be the first to run.
            handle.sleep(Duration::from_millis(500)).await;
            handle.stall(0, true);
            handle.sleep(Duration::from_millis(4_500)).await;
            handle.stall(0, false);
        });
        while executor.step(Micros::MAX) {}
        assert_eq!(ran.get(), 5_000_000);
    }
}
