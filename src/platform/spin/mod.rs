//! The flavour `spin`: Spin 4.1 and later, SpinKube, the embedded host.
//!
//! WASI 0.3: one instance serves many requests at once, and what it spawns runs
//! on after the answer. Reads go through `spin:key-value`, which is
//! asynchronous. Swaps go through `wasi:keyvalue/atomics`, which is not: it
//! stops the instance while it runs, so it is used only when a cell changes.

mod body;
mod client_watch;
mod exchange;
mod spawn;
mod store;

use crate::config::{Config, Origin};
use crate::platform::log::write_line;
use crate::platform::setup::{Setup, SetupError};
use crate::shield::{OriginError, OriginRequest, Platform, Shield};
use crate::store::Guarded;
use crate::time::Time;
use crate::world::event;
use body::HostBody;
use spin_sdk::variables;
use spin_sdk::wasip3::clocks::{monotonic_clock, system_clock};
use spin_sdk::wasip3::random::random::get_random_u64;
use spin_sdk::wasip3::wit_stream;
use spin_sdk::wit_bindgen::StreamWriter;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use store::HostStore;

/// Spin as a [`Platform`].
pub(crate) struct Spin {
    store: Guarded<HostStore, fn() -> Time>,
}

impl Platform for Spin {
    type Store = Guarded<HostStore, fn() -> Time>;
    type Body = HostBody;
    type Wake = StreamWriter<u8>;

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
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        monotonic_clock::wait_for(nanos).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn::spawn(task);
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        // A stream of the component model: the host reports its end to the task
        // that reads it. A component can pass itself nothing but numbers.
        let (wake, mut reader) = wit_stream::new();
        (wake, async move {
            let _ = reader.read(Vec::with_capacity(1)).await;
        })
    }

    async fn send(
        &self,
        request: OriginRequest<HostBody>,
    ) -> Result<http::Response<HostBody>, OriginError> {
        exchange::send(request).await
    }

    fn log(&self, line: &str) {
        log(line);
    }
}

fn log(line: &str) {
    write_line(&mut std::io::stderr(), line);
}

fn now() -> Time {
    let now = system_clock::now();
    let seconds = u64::try_from(now.seconds).unwrap_or(0);
    Time::from_unix_millis(
        seconds
            .saturating_mul(1_000)
            .saturating_add(u64::from(now.nanoseconds / 1_000_000)),
    )
}

thread_local! {
    /// The instance's shield. Instances have one thread.
    static SHIELD: RefCell<Setup<Rc<Shield<Spin>>>> = const { RefCell::new(Setup::new()) };
}

/// The instance's shield. The first request makes it; if the platform's variables
/// could not be read, the next request tries again.
///
/// # Errors
///
/// What is wrong with the platform's variables, for the operator.
async fn shield() -> Result<Rc<Shield<Spin>>, SetupError> {
    if let Some(outcome) = SHIELD.with_borrow(Setup::outcome) {
        return outcome;
    }
    let made = make_shield().await;
    if let Err(error) = &made {
        let (kind, text) = match error {
            SetupError::Misconfigured(text) => ("misconfigured", text),
            SetupError::Unreadable(text) => ("settings-unreadable", text),
        };
        log(&event(kind, &[("error", text.as_str().into())]));
    }
    SHIELD.with_borrow_mut(|setup| setup.note(made))
}

async fn make_shield() -> Result<Rc<Shield<Spin>>, SetupError> {
    let origin = variable("origin").await?.ok_or_else(|| {
        SetupError::Misconfigured(
            "the variable `origin` is not set; set it to the base URL of the server to protect, \
             for instance SPIN_VARIABLE_ORIGIN=http://10.0.0.5:8080"
                .to_owned(),
        )
    })?;
    let origin = Origin::parse(&origin).map_err(misconfigured)?;
    let config = variable("config").await?.unwrap_or_default();
    let config = Config::parse(&config).map_err(misconfigured)?;
    let clock: fn() -> Time = now;
    let store = Guarded::new(HostStore::default(), clock, config.lease.guard_bucket());
    Ok(Shield::new(Spin { store }, origin, config))
}

/// A variable of the platform, or none if it is not set.
async fn variable(name: &str) -> Result<Option<String>, SetupError> {
    let problem = |error| format!("the variable `{name}` cannot be read: {error}");
    match variables::get(name).await {
        Ok(value) => Ok(Some(value)),
        Err(variables::Error::Undefined(_)) => Ok(None),
        Err(error @ variables::Error::InvalidName(_)) => {
            Err(SetupError::Misconfigured(problem(error)))
        }
        // A provider of variables may be out of reach for a while.
        Err(error @ (variables::Error::Provider(_) | variables::Error::Other(_))) => {
            Err(SetupError::Unreadable(problem(error)))
        }
    }
}

fn misconfigured(error: impl std::fmt::Display) -> SetupError {
    SetupError::Misconfigured(error.to_string())
}
