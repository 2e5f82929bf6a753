//! Hosts of WASI 0.2: the flavours `fermyon-cloud` and `akamai`.
//!
//! The host makes an instance for each request and calls it once. Nothing goes on when
//! the call returns, so the call returns when the answer has been sent and the tasks that
//! the request has started, such as a refresh, have ended. The visitor does not notice:
//! the answer is finished before. Its tasks are polled by [`run`].
//!
//! Where the cells are and where the settings come from is the flavour's, see
//! [`crate::platform::flavour`].

pub(crate) mod bindings;
mod body;
mod exchange;

use crate::admin::Front;
use crate::platform::flavour;
use crate::platform::log::write_line;
use crate::platform::message::nanos;
use crate::platform::reactor::{Reactor, Source};
use crate::platform::setup::{Setup, SetupError, read};
use crate::platform::spin_fields::is_embedded;
use crate::platform::tasks::{Spawner, Tasks, Turn, end_of_work};
use crate::shield::{OriginError, OriginRequest, Platform};
use crate::time::Time;
use crate::world::event;
use bindings::wasi::clocks::{monotonic_clock, wall_clock};
use bindings::wasi::io::poll::{self, Pollable};
use bindings::wasi::random::random::get_random_u64;
use body::HostBody;
use futures::channel::oneshot;
use http::HeaderMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// A host of WASI 0.2 as a [`Platform`].
pub(crate) struct Host {
    store: flavour::Cells,
    /// Whether the host lets a request close its connection.
    closes_connections: bool,
}

impl Platform for Host {
    type Store = flavour::Cells;
    type Body = HostBody;
    type Wake = oneshot::Sender<()>;

    const ENDS_WITH_REQUEST: bool = true;

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn now(&self) -> Time {
        now()
    }

    fn random(&self) -> u128 {
        u128::from(get_random_u64()) << 64 | u128::from(get_random_u64())
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn(task);
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        // All tasks are polled by one call, so Rust's wakers reach from one to another.
        let (wake, ended) = oneshot::channel();
        (wake, async move {
            let _ = ended.await;
        })
    }

    async fn send(
        &self,
        request: OriginRequest<HostBody>,
    ) -> Result<http::Response<HostBody>, OriginError> {
        exchange::send(request, self.closes_connections).await
    }

    fn closes_connections(&self) -> bool {
        self.closes_connections
    }

    fn is_embedded(&self) -> bool {
        is_embedded()
    }

    fn lets_through(&self, fields: &HeaderMap) -> Result<(), String> {
        exchange::lets_through(fields)
    }

    fn logs_refusals(&self) -> bool {
        is_embedded()
    }

    fn log(&self, line: &str) {
        log(line);
    }
}

fn log(line: &str) {
    write_line(&mut std::io::stderr(), now(), line);
}

fn now() -> Time {
    let now = wall_clock::now();
    Time::from_unix_millis(
        now.seconds
            .saturating_mul(1_000)
            .saturating_add(u64::from(now.nanoseconds / 1_000_000)),
    )
}

/// The time that no clock sets back.
fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_clock::now())
}

impl Source for Pollable {
    fn is_ready(&self) -> bool {
        self.ready()
    }
}

thread_local! {
    /// What the tasks of the request wait for. Instances have one thread.
    static REACTOR: Rc<Reactor<Pollable>> = Rc::default();

    /// Starts tasks of the request.
    static SPAWNER: Spawner = Spawner::default();

    /// The instance's shield, and the operator's door beside it.
    static FRONT: RefCell<Setup<Rc<Front<Host>>>> = const { RefCell::new(Setup::new()) };
}

/// Resolves when `pollable` is ready.
async fn ready(pollable: Pollable) {
    let reactor = REACTOR.with(Rc::clone);
    reactor.wait(pollable).await;
}

/// Resolves after `duration`.
pub(crate) async fn sleep(duration: Duration) {
    let end = monotonic_clock::now().saturating_add(nanos(duration));
    ready(monotonic_clock::subscribe_instant(end)).await;
}

/// Runs `task` to its end, before the call of the host returns.
fn spawn(task: impl Future<Output = ()> + 'static) {
    SPAWNER.with(|spawner| spawner.spawn(task));
}

/// Runs the answer to a request, and the tasks that it starts, until all have ended or
/// their time is over.
fn run(answer: impl Future<Output = ()> + 'static) {
    let started = monotonic();
    let answered = Rc::new(Cell::new(None));
    let note = Rc::clone(&answered);
    spawn(async move {
        answer.await;
        note.set(Some(monotonic()));
    });
    let reactor = REACTOR.with(Rc::clone);
    let mut tasks = Tasks::new(SPAWNER.with(Spawner::clone));
    loop {
        let turn = tasks.turn();
        if turn == Turn::Done {
            return;
        }
        let end = end_of_work(started, answered.get());
        if end.is_some_and(|end| monotonic() >= end) {
            return abandon(&mut tasks, "their time is over");
        }
        let until = match turn {
            // Only looks.
            Turn::Busy => Some(0),
            Turn::Waiting | Turn::Done => end.map(nanos),
        };
        let timeout = until.map(monotonic_clock::subscribe_instant);
        let waited = reactor.turn(timeout.as_ref(), poll::poll);
        if !waited && turn != Turn::Busy {
            return abandon(&mut tasks, "they wait for nothing");
        }
    }
}

/// Ends what is left. What it has taken from the store, leases and slots, expires.
fn abandon(tasks: &mut Tasks, why: &str) {
    let count = tasks.abandon();
    log(&event(
        "work-abandoned",
        &[("tasks", count.into()), ("why", why.into())],
    ));
    // A host that uses the instance again finds nothing that has ended half-way.
    FRONT.with_borrow_mut(|setup| *setup = Setup::new());
}

/// The instance's shield, and the operator's door beside it. The first request makes it.
///
/// # Errors
///
/// What is wrong with the platform's variables, for the operator.
async fn front() -> Result<Rc<Front<Host>>, SetupError> {
    if let Some(outcome) = FRONT.with_borrow(Setup::outcome) {
        return outcome;
    }
    let made = make_front().await;
    if let Err(error) = &made {
        log(&error.log_line());
    }
    FRONT.with_borrow_mut(|setup| setup.note(made))
}

async fn make_front() -> Result<Rc<Front<Host>>, SetupError> {
    let settings = read(flavour::DEFAULTS, flavour::variable).await?;
    let store = flavour::cells(&settings.config, now).await?;
    Ok(Front::new(
        Host {
            store,
            closes_connections: exchange::closes_connections(),
        },
        settings,
    ))
}
