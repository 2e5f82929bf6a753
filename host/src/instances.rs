//! The instances of the component: how many there are, how many requests each
//! is given, when it ends.
//!
//! The rules are Spin's: an instance is handed a limited number of requests in its life, and
//! a limited number at once (counting those without the head of an answer yet), ends
//! after it was idle for a while, and lives on for what it does behind its
//! answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use wasmtime::StoreContextMut;
use wasmtime::component::GuestTaskId;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use crate::fate::Fate;
use crate::guest::{Guest, GuestState, INSTANCES_MAX};
use crate::limits::{Limit, Limiter};
use crate::report;

/// When instances are used again, and when they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reuse {
    /// Requests that an instance is given in its life.
    pub(crate) requests_max: usize,
    /// Requests that an instance is given at once.
    pub(crate) concurrent_requests_max: usize,
    /// How long an instance lives on with nothing to do.
    pub(crate) idle_timeout: Duration,
}

/// All instances of one component.
pub(crate) struct Instances {
    guest: Guest,
    reuse: Reuse,
    /// One permit for each instance that may live.
    slots: Arc<Semaphore>,
    /// Whether these are to end. Instances with other settings are not concerned.
    closing: Arc<Closing>,
    /// Whether the process is about to end, whatever is unfinished.
    is_cut: Arc<AtomicBool>,
    limiter: Limiter,
}

impl Instances {
    /// None yet; they are made as requests come.
    pub(crate) fn new(guest: Guest, reuse: Reuse, limiter: Limiter) -> Self {
        let reuse = if guest.is_concurrent() {
            reuse
        } else {
            // A component of WASI 0.2 can be given one request and no more.
            Reuse {
                requests_max: 1,
                concurrent_requests_max: 1,
                ..reuse
            }
        };
        Self {
            guest,
            reuse,
            slots: Arc::new(Semaphore::new(INSTANCES_MAX as usize)),
            closing: Arc::default(),
            is_cut: Arc::default(),
            limiter,
        }
    }

    /// Instances of the same component with another configuration. They share the number of
    /// instances that may live with these.
    pub(crate) fn configured(&self, config: &str) -> Self {
        Self {
            guest: self.guest.configured(config),
            reuse: self.reuse,
            slots: Arc::clone(&self.slots),
            closing: Arc::default(),
            is_cut: Arc::clone(&self.is_cut),
            limiter: self.limiter.clone(),
        }
    }

    /// Ends every instance as soon as it has nothing to do. Requests that were given to
    /// these are answered.
    pub(crate) fn retire(&self) {
        self.closing.begin();
    }

    /// From now on, instances that die are not reported: the process ends.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// Ends every instance as soon as it has nothing to do, and waits until
    /// none is left, also of those with earlier settings. That has no bound: a guest may
    /// never be done.
    pub(crate) async fn close(&self) {
        self.retire();
        // Each instance holds a slot, so to have all is to be alone. Acquiring
        // fails only once the semaphore is closed, which it never is.
        drop(self.slots.acquire_many(INSTANCES_MAX).await);
    }
}

/// Whether instances are to end.
#[derive(Debug, Default)]
struct Closing {
    begun: AtomicBool,
    wake: tokio::sync::Notify,
}

impl Closing {
    fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits until it has begun. Whoever is polled once is never left waiting:
    /// it is registered before it looks.
    async fn begun(self: Arc<Self>) {
        let mut woken = std::pin::pin!(self.wake.notified());
        woken.as_mut().enable();
        if !self.has_begun() {
            woken.await;
        }
    }
}

impl HandlerState for Instances {
    type StoreData = GuestState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<GuestState, Expiration, Worker>> {
        // More than the pool holds would be an error; they wait here instead.
        let slot = Arc::clone(&self.slots).acquire_owned().await?;
        let (store, proxy) = self.guest.instantiate(slot).await?;
        let was_cut = Arc::new(AtomicBool::new(false));
        let handler_time = self.limiter.limits().handler_time;
        Ok(Instance {
            store,
            proxy,
            view: GuestState::http,
            expiration: Expiration {
                idle_timeout: self.reuse.idle_timeout,
                idle: Box::pin(tokio::time::sleep(self.reuse.idle_timeout)),
                closing: Box::pin(Arc::clone(&self.closing).begun()),
                is_closing: false,
                cut: handler_time.map(|time| Box::pin(tokio::time::sleep(time))),
                was_cut: Arc::clone(&was_cut),
            },
            state: Worker {
                reuse: self.reuse,
                answers: Mutex::default(),
                is_cut: Arc::clone(&self.is_cut),
                was_cut,
                limiter: self.limiter.clone(),
            },
        })
    }
}

/// Says when an instance ends.
pub(crate) struct Expiration {
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    closing: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    is_closing: bool,
    /// When the platform ends the one request of this instance: platforms that do so have
    /// WASI 0.2.
    cut: Option<Pin<Box<Sleep>>>,
    was_cut: Arc<AtomicBool>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        if !self.is_closing {
            self.is_closing = self.closing.as_mut().poll(cx).is_ready();
        }
        match status {
            // Neither a request nor what comes behind an answer has a bound here, unless
            // the platform has one: the guest has bounds of its own, and Spin's default
            // is none.
            WorkerStatus::Requests | WorkerStatus::PostReturn => {
                let Some(cut) = &mut self.cut else {
                    return Poll::Pending;
                };
                ready!(cut.as_mut().poll(cx));
                self.was_cut.store(true, Ordering::SeqCst);
                Poll::Ready(())
            }
            WorkerStatus::Idle if self.is_closing => Poll::Ready(()),
            WorkerStatus::Idle => {
                let deadline = since + self.idle_timeout;
                if self.idle.deadline() != deadline.into() {
                    self.idle.as_mut().reset(deadline.into());
                }
                self.idle.as_mut().poll(cx)
            }
        }
    }
}

/// Which requests an instance is given, and what becomes of them if it dies.
pub(crate) struct Worker {
    reuse: Reuse,
    answers: Mutex<Vec<Weak<Fate>>>,
    is_cut: Arc<AtomicBool>,
    was_cut: Arc<AtomicBool>,
    limiter: Limiter,
}

impl WorkerState for Worker {
    type StoreData = GuestState;
    type RequestData = Arc<Fate>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse.requests_max {
            ShouldAccept::Never
        } else if concurrent >= self.reuse.concurrent_requests_max {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, GuestState>,
        fate: Arc<Fate>,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&fate));
        // Never: a request has no deadline of the host's.
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: wasmtime::Store<GuestState>, outcome: Result<(), wasmtime::Error>) {
        let Err(error) = outcome else {
            return;
        };
        if self.was_cut.load(Ordering::SeqCst) {
            self.limiter.reached(Limit::HandlerTime);
        } else if !self.is_cut.load(Ordering::SeqCst) {
            // An instance that outlasts the host's patience is cut off; the server has
            // said so for all of them.
            report::event(
                "instance-died",
                format_args!("an instance of the component died: {error:#}"),
            );
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = std::mem::take(&mut *answers);
        let settle = async move {
            for answer in answers {
                if let Some(fate) = answer.upgrade() {
                    fate.taken().await;
                    fate.instance_died();
                }
            }
            // Last: what the bodies under way see of this must come after the above.
            drop(store);
        };
        // Without a runtime the process is ending, and nobody reads the answers.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(settle);
        }
    }
}
