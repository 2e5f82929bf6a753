//! Tasks that run beside a request and after its answer.
//!
//! wit-bindgen polls a spawned task when the component's task is polled next. Nothing
//! makes that happen soon: where the request waits for the spawned task, and another
//! task sleeps, the spawned one would begin when the sleep ends. So every future that
//! may spawn is a [`Spawning`]: it asks to be polled again after a spawn. (wit-bindgen
//! 0.57, `rt/async_support/spawn.rs`: what is spawned is added after the poll.)

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    /// Whether a task was spawned in the poll that is under way.
    static SPAWNED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `task` to its end, beside the current request and after its answer.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    SPAWNED.set(true);
    wit_bindgen::spawn(Spawning::new(task));
}

/// A future whose spawned tasks begin at once.
pub(super) struct Spawning<F>(Pin<Box<F>>);

impl<F: Future> Spawning<F> {
    pub(super) fn new(future: F) -> Self {
        Spawning(Box::pin(future))
    }
}

impl<F: Future> Future for Spawning<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.0.as_mut().poll(context);
        if SPAWNED.take() {
            context.waker().wake_by_ref();
        }
        polled
    }
}
