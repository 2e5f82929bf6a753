//! Hosts of WASI 0.3: every flavour but `fermyon-cloud` and `akamai`.
//!
//! One instance serves many requests at once, and what it spawns runs on after the
//! answer. Where the cells are and where the settings come from is the flavour's, see
//! [`crate::platform::flavour`].

mod body;
mod client_watch;
mod exchange;
mod spawn;

use crate::admin::Front;
use crate::platform::flavour;
use crate::platform::log::write_line;
use crate::platform::setup::{Setup, SetupError, read};
use crate::platform::spin_fields::is_embedded;
use crate::shield::{OriginError, OriginRequest, Platform};
use crate::time::Time;
use crate::world::RequestId;
use body::HostBody;
use http::HeaderMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::random::random::get_random_u64;
use wasip3::wit_stream;
use wit_bindgen::StreamWriter;

/// A host of WASI 0.3 as a [`Platform`].
pub(crate) struct Host {
    store: flavour::Cells,
    /// Whether the host lets a request close its connection.
    closes_connections: bool,
}

impl Platform for Host {
    type Store = flavour::Cells;
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

/// Writes one line for the operator.
pub(super) fn log(line: &str) {
    write_line(&mut std::io::stderr(), now(), line);
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

/// Between two names of requests: odd, so that they do not repeat.
const ID_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A name for a request to which the host has given none.
fn request_id() -> RequestId {
    let id = NEXT_ID.get().unwrap_or_else(get_random_u64);
    NEXT_ID.set(Some(id.wrapping_add(ID_STEP)));
    RequestId(id)
}

thread_local! {
    /// The name of the next request. The first is random: a call of the host.
    static NEXT_ID: Cell<Option<u64>> = const { Cell::new(None) };

    /// The instance's shield, and the operator's door beside it. Instances have one thread.
    static FRONT: RefCell<Setup<Rc<Front<Host>>>> = const { RefCell::new(Setup::new()) };
}

/// The instance's shield, and the operator's door beside it. The first request makes it; if the platform's variables
/// could not be read, the next request tries again.
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
