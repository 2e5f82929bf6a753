//! The algorithm: a request in, an answer out.
//!
//! [`Shield::handle`] answers every request, and [`Platform`] is all that it
//! knows of the world, so the same code runs in the component and natively.
//!
//! ```text
//! handle ─┬─ limits exceeded, not ours ───────────────► 4xx, 501
//!         ├─ not GET or HEAD ── forward ── invalidate ► the origin's answer
//!         └─ lookup: load the cell ─┬─ fresh ─────────► the entry
//!                ▲                  ├─ stale, usable ─► the entry, refresh behind
//!                │                  ├─ pass mark ─────► the origin's answer
//!                │                  ├─ retry mark ────► 503 with Retry-After
//!                │                  └─ else elect ─┬─ held ── fetch ► the origin's answer
//!                └────── wait for a change ◄───────┘ taken
//! ```
//!
//! Files: [`lookup`](self) decides what a cell means for a request, `fetch`
//! goes to the origin under a lease, in an `exchange`, and `forward` goes there
//! without one, where `other_methods` has what concerns entries all the same.
//! `cells` reads and swaps, `flight` keeps an instance to one attempt per key,
//! `wait` waits for others' attempts. `store_body` stores while `tee` streams,
//! `bodies` reads and removes what is in chunks; `variants` keeps those of a key
//! within their limit. `answer` builds what the visitor gets.

mod answer;
mod bodies;
mod cells;
mod exchange;
mod fetch;
mod flight;
mod forward;
mod lookup;
mod other_methods;
pub mod platform;
mod store_body;
mod tee;
mod variants;
mod wait;

pub use answer::{Answer, AnswerBody};
pub use cells::{Purged, cell_id};
pub use platform::{Body, OriginError, OriginRequest, Platform};

use crate::config::{Config, Origin};
use crate::semantics::{CacheStatus, Forward, is_upgrade};
use crate::store::Memory;
use crate::time::Time;
use flight::Flights;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use std::cell::Cell;
use std::rc::Rc;
use wait::Fetched;

/// Most bytes of cells that an instance keeps while the store fails.
const LOCAL_STORE_LIMIT: usize = 16 << 20;

/// The shield of one instance.
#[derive(Debug)]
pub struct Shield<P: Platform> {
    platform: P,
    origin: Origin,
    config: Config,
    /// Stands in for the platform's store while that fails.
    memory: Memory,
    /// Until when the platform's store is left alone after it failed.
    store_pause: Cell<Time>,
    flights: Flights<P::Wake, Fetched>,
}

impl<P: Platform> Shield<P> {
    /// A shield in front of `origin`.
    pub fn new(platform: P, origin: Origin, config: Config) -> Rc<Self> {
        Rc::new(Shield {
            platform,
            origin,
            config,
            memory: Memory::new(LOCAL_STORE_LIMIT),
            store_pause: Cell::default(),
            flights: Flights::default(),
        })
    }

    /// Answers a request, whatever happens: what fails ends in an answer that
    /// says so. The URI may be absolute or only have a path.
    pub async fn handle(self: &Rc<Self>, request: Request<Option<P::Body>>) -> Answer<P::Body> {
        if let Some(refusal) = self.refuse(&request) {
            return refusal;
        }
        match *request.method() {
            Method::GET | Method::HEAD => self.lookup(request).await,
            _ => self.forward(request, Forward::Method).await,
        }
    }

    /// What is not for a cache, or more than the operator accepts.
    fn refuse(&self, request: &Request<Option<P::Body>>) -> Option<Answer<P::Body>> {
        let limits = &self.config.limits;
        let (status, text) = if is_upgrade(request.method(), request.headers()) {
            (
                StatusCode::NOT_IMPLEMENTED,
                "CONNECT and upgrades are not served here",
            )
        } else if request
            .uri()
            .path_and_query()
            .is_some_and(|path| path.as_str().len() > limits.url)
        {
            (StatusCode::URI_TOO_LONG, "the URL is too long")
        } else if request.headers().len() > limits.header_count
            || request
                .headers()
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum::<usize>()
                > limits.header_bytes
        {
            (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the header fields are too many or too large",
            )
        } else {
            self.refuse_body(request.headers())?
        };
        let cache_status = CacheStatus {
            detail: Some("refused".into()),
            ..CacheStatus::default()
        };
        Some(self.plain(status, text, &cache_status, None))
    }

    /// What of a request's body is more than the operator accepts. A body that
    /// does not announce its length streams past a component unseen.
    fn refuse_body(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let limit = self.config.limits.request_body;
        if limit == 0 {
            return None;
        }
        let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>();
        let too_long = length.is_ok_and(|length| length > limit);
        too_long.then_some((StatusCode::PAYLOAD_TOO_LARGE, "the content is too long"))
    }

    /// Where a path is at the origin.
    fn origin_uri(&self, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
        let path = path.map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme(self.origin.scheme.clone())
            .authority(self.origin.authority.clone())
            .path_and_query(format!("{}{path}", self.origin.prefix))
            .build()
    }
}

/// A log line: one JSON object, its kind first.
pub(crate) fn event(kind: &str, fields: &[(&str, serde_json::Value)]) -> String {
    let mut line = serde_json::Map::new();
    line.insert("event".into(), kind.into());
    for (name, value) in fields {
        line.insert((*name).into(), value.clone());
    }
    serde_json::Value::Object(line).to_string()
}
