//! What the shield needs of the world: the one seam between algorithm and I/O.
//!
//! The component implements it over WASI, the simulation over virtual time; the
//! code above it is the very same.

use crate::store::Store;
use crate::time::Time;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// The world as one instance sees it. Single-threaded: the shield's futures are
/// polled by one thread, and statics are shared by an instance's requests.
pub trait Platform: 'static {
    /// Where the cells are.
    type Store: Store;
    /// A body in transit, from a visitor or from the origin.
    type Body: Body;
    /// One end of a [`Platform::signal`].
    type Wake: 'static;

    /// The store that all nodes share.
    fn store(&self) -> &Self::Store;

    /// The node's wall clock.
    fn now(&self) -> Time;

    /// 128 random bits that no other caller on any node is given.
    fn random(&self) -> u128;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `task` to its end, however long the request lives that started it.
    /// The instance may die before: nobody may rely on the end of `task`.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// A signal from one request to another of the same instance: the future
    /// resolves when the value is dropped. A host may run each request as a
    /// task of its own, and Rust's wakers need not reach from one to another.
    fn signal(&self) -> (Self::Wake, impl Future<Output = ()> + 'static);

    /// Sends a request to the origin and resolves with the response head. Sends
    /// it once: whether to repeat is the shield's decision.
    fn send(
        &self,
        request: OriginRequest<Self::Body>,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, OriginError>>;

    /// Writes one line for the operator.
    fn log(&self, line: &str);
}

/// A body in transit.
pub trait Body: 'static {
    /// The next bytes, or none at the end. After an error or the end it is not
    /// called again. An end means that all of the body has come: what breaks
    /// off is an error.
    fn chunk(&mut self) -> impl Future<Output = Option<Result<Bytes, OriginError>>>;
}

/// A request to the origin.
#[derive(Debug)]
pub struct OriginRequest<B> {
    /// Method, absolute URI and fields.
    pub parts: http::request::Parts,
    /// The content, or none.
    pub body: Option<B>,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time to the response head, and between two parts of the body.
    pub first_byte_timeout: Duration,
}

/// Why there is no (whole) response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// Not answered in time.
    Timeout,
    /// Not reached, or broken off; the text is for the operator's log.
    Failed(String),
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginError::Timeout => f.write_str("the origin did not answer in time"),
            OriginError::Failed(reason) => write!(f, "the origin could not be asked: {reason}"),
        }
    }
}

impl std::error::Error for OriginError {}
