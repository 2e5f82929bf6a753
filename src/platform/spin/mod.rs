//! The flavour `spin`: Spin 4.1 and later, SpinKube, the embedded host.
//!
//! WASI 0.3: one instance serves many requests at once, and what it spawns runs
//! on after the answer. Reads go through `spin:key-value`, which is
//! asynchronous. Swaps go through `wasi:keyvalue/atomics`, which is not: it
//! stops the instance while it runs, so it is used only when a cell changes.

mod body;
mod exchange;
mod store;

use crate::config::{Config, Origin};
use crate::shield::{OriginError, OriginRequest, Platform, Shield};
use crate::store::Guarded;
use crate::time::Time;
use body::HostBody;
use spin_sdk::variables;
use spin_sdk::wasip3::clocks::{monotonic_clock, system_clock};
use spin_sdk::wasip3::random::random::get_random_u64;
use spin_sdk::wasip3::wit_stream;
use spin_sdk::wit_bindgen::{StreamWriter, spawn};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use store::HostStore;

/// The world, as Spin offers it.
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
        spawn(task);
    }

    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static) {
        // A stream of the component model, whose end the host reports to
        // whichever task reads it. Bytes, because a component may not pass
        // itself anything but numbers.
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
        eprintln!("{line}");
    }
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
    /// The instance's shield, or why there is none. Instances have one thread.
    static SHIELD: RefCell<Option<Result<Rc<Shield<Spin>>, String>>> =
        const { RefCell::new(None) };
}

/// The instance's shield, made by its first request.
///
/// # Errors
///
/// What is wrong with the platform's variables, for the operator.
async fn shield() -> Result<Rc<Shield<Spin>>, String> {
    if let Some(shield) = SHIELD.with_borrow(Clone::clone) {
        return shield;
    }
    let made = make_shield().await;
    // Another request may have made one meanwhile; all have to use the same.
    SHIELD.with_borrow_mut(|shield| {
        if shield.is_none()
            && let Err(error) = &made
        {
            eprintln!(
                "{}",
                crate::shield::event("misconfigured", &[("error", error.as_str().into())])
            );
        }
        shield.get_or_insert(made).clone()
    })
}

async fn make_shield() -> Result<Rc<Shield<Spin>>, String> {
    let origin = match variables::get("origin").await {
        Ok(origin) => Origin::parse(&origin).map_err(|error| error.to_string())?,
        Err(variables::Error::Undefined(_)) => {
            return Err(
                "the variable `origin` is not set; set it to the base URL of the server \
                        to protect, for instance SPIN_VARIABLE_ORIGIN=http://10.0.0.5:8080"
                    .to_owned(),
            );
        }
        Err(error) => return Err(format!("the variable `origin` cannot be read: {error}")),
    };
    let config = match variables::get("config").await {
        Ok(config) => config,
        Err(variables::Error::Undefined(_)) => String::new(),
        Err(error) => return Err(format!("the variable `config` cannot be read: {error}")),
    };
    let config = Config::parse(&config).map_err(|error| error.to_string())?;
    let clock: fn() -> Time = now;
    let store = Guarded::new(HostStore::default(), clock, config.lease.guard_bucket());
    Ok(Shield::new(Spin { store }, origin, config))
}
