//! The algorithm: a request in, an answer out.
//!
//! [`Shield::handle`] answers every request, and [`Platform`] is all that it
//! knows of the world, so the same code runs in the component and natively.
//!
//! ```text
//! handle ─┬─ sent by this shield ───────────────────────► 508
//!         ├─ over a limit, not served here ─────────────► 4xx, 501
//!         ├─ not GET or HEAD ─ forward, invalidate ─────► the origin's answer
//!         ├─ asks no question ─ pass ───────────────────► the origin's answer
//!         └─ locate the question's cell, decide ─┬──────► the entry, perhaps stale
//!                ▲                               ├ pass ► the origin's answer
//!                │                               ├ scout► the origin's answer
//!                │                               ├──────► 503 with Retry-After
//!                │                               └─ elect ─┬─ held: fill ► the answer
//!                └─────────── wait for a change ◄──────────┘ taken
//! ```
//!
//! Read `decide` first: what a cell means for a request, as a pure function with
//! a table of cases. `judge` is its counterpart: what the origin's answer does to
//! a cell. `visit` is the loop around `decide`. `fill` asks the origin a question
//! under a lease, and settles the lease. `follow` waits for another's fill,
//! `flight` keeps an instance to one attempt per key. `pass` forwards requests
//! with their own fields, `scout` the first of those with credentials, in the order that
//! `audiences` has learned, `unsafe_methods` those of other methods, and `preflight` asks
//! the question of a CORS preflight; `news` has what
//! their answers tell about entries, `notice` and `equal_answers` what keeps requests from sharing, and `advice` what the operator is told of it. `to_visitor` hands on what is not stored.
//! `settings` decides again about what was stored under other settings.
//! `store_body` stores while `tee` streams,
//! `bodies` reads what is in chunks, `coming` what is still being written.
//! `connection_auth` refuses what authenticates a connection that others use. `answer`
//! builds what the visitor gets,
//! `own_answer` what the shield says where nothing helps, `last_resort` finds another variant before that, and `served` says what became
//! of the request, and `outcome` reads that from an answer, to be counted. `request`, `fetch` and `answer_body` have
//! the types that these share.

mod advice;
mod answer;
mod answer_body;
mod audiences;
mod bodies;
mod coming;
mod connection_auth;
mod decide;
mod equal_answers;
mod fetch;
mod fill;
mod flight;
mod follow;
mod judge;
mod last_resort;
mod news;
mod notice;
pub mod outcome;
mod own_answer;
mod pass;
mod preflight;
pub mod refusals;
mod request;
mod scout;
mod served;
mod settings;
mod store_body;
mod tee;
mod to_visitor;
mod unsafe_methods;
mod visit;

pub use crate::cells::{Purged, cell_id};
pub use crate::origin::{OriginBody, Slot};
pub use crate::world as platform;
pub use crate::world::{Body, Content, OriginError, OriginRequest, Platform};
pub use answer_body::{Answer, AnswerBody};
pub use served::{Own, Passed, Served, Stale};

use crate::budget::SettingsMark;
use crate::cell::transition::Purge;
use crate::cells::{Cells, Counting};
use crate::config::{Config, Origin};
use crate::origin::{Named, OriginDoor};
use crate::purges::Scope;
use crate::question::policy::KeyPolicy;
use crate::question::preflight::preflight_key;
use crate::question::target::{canonical, path_of};
use crate::semantics::{is_host_and_port, is_upgrade};
use advice::Advisor;
use audiences::Audiences;
use fetch::Brought;
use flight::Flights;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use futures::future::join;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use outcome::outcome_of;
use refusals::Refusals;
use request::Gone;
use scout::Heard;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The shield of one instance.
#[derive(Debug)]
pub struct Shield<P: Platform> {
    platform: Rc<P>,
    config: Rc<Config>,
    cells: Rc<Cells<P>>,
    door: OriginDoor<P>,
    flights: Flights<P::Wake, Brought>,
    /// Visitors with credentials that others wait for.
    scouts: Flights<P::Wake, Heard>,
    audiences: RefCell<Audiences>,
    advisor: Rc<RefCell<Advisor>>,
    refusals: RefCell<Refusals>,
    /// Whether the log says what helps against refused authentication.
    connection_auth_logged: Cell<bool>,
}

impl<P: Platform> Shield<P> {
    /// A shield in front of `origin`. `mark` tells these settings from those of other nodes.
    pub fn new(platform: P, origin: Origin, config: Config, mark: SettingsMark) -> Rc<Self> {
        let (platform, config) = (Rc::new(platform), Rc::new(config));
        let cells = Cells::new(Rc::clone(&platform), Rc::clone(&config), &origin);
        Rc::new(Shield {
            door: OriginDoor::new(
                Rc::clone(&platform),
                Rc::clone(&cells),
                origin,
                (&config, mark),
            ),
            cells,
            platform,
            config,
            flights: Flights::default(),
            scouts: Flights::default(),
            audiences: RefCell::default(),
            advisor: Rc::default(),
            refusals: RefCell::default(),
            connection_auth_logged: Cell::default(),
        })
    }

    /// Answers a request, whatever happens: what fails ends in an answer that
    /// says so. The URI may be absolute or only have a path.
    pub async fn handle(self: &Rc<Self>, request: Request<Option<P::Body>>) -> Answer<P::Body> {
        self.handle_while(request, None).await
    }

    /// Like [`handle`](Shield::handle), for a platform that knows when the client has
    /// gone: `gone` resolves then, and never otherwise. A GET or HEAD that waits to be
    /// sent to the origin gives up its place.
    pub async fn handle_while(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        gone: Option<LocalBoxFuture<'static, ()>>,
    ) -> Answer<P::Body> {
        let answer = self.answer(request, gone).await;
        if self.cells.counting() != Counting::ByHost {
            let (outcome, cause) = outcome_of(answer.headers());
            let why = cause.map(|cause| cause.why);
            self.cells.count_request(outcome.name(), why);
        }
        answer
    }

    async fn answer(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        gone: Option<LocalBoxFuture<'static, ()>>,
    ) -> Answer<P::Body> {
        if self.door.has_sent(request.headers()) {
            return self.looped(&Named::of_request(&request));
        }
        if let Some(refusal) = self.refuse(&request) {
            self.note_refused(Own::Refused, refusal.status(), || {
                Named::of_request(&request)
            });
            return refusal;
        }
        self.say_refused();
        let config = self.config_for(request.method(), request.uri().path());
        let answer = match *request.method() {
            Method::GET | Method::HEAD => {
                let gone = gone.map(FutureExt::shared);
                self.get(request, config, Gone(gone)).await
            }
            Method::OPTIONS => self.options(request, config).await,
            _ => self.forward(request, &config).await,
        };
        let answer = self.without_connection_auth(answer, &self.config);
        self.cells.sweep_if_due();
        answer
    }

    /// The settings of the rule that a request falls under.
    fn config_for(&self, method: &Method, path: &str) -> Rc<Config> {
        let policy = KeyPolicy {
            lowercase: self.config.key.lowercase,
            ..KeyPolicy::default()
        };
        self.config
            .chosen(method, path_of(&canonical(path, &policy)))
    }

    /// Purges what is stored for a target, all its variants and preflights included: the entry
    /// point for whoever administers the cache. Scheme and host count only where
    /// the keys have them.
    ///
    /// From when it is [`Purged::Stored`] on, no request that arrives at any node
    /// is answered with what the origin was asked for before the call, or not
    /// without what `purge` says of it; the clock skew apart for [`Purge::Soft`].
    /// Answers that have begun go on, and an instance that cannot reach the store
    /// may still serve what it has in its own memory.
    pub async fn purge_target(self: &Rc<Self>, target: &Uri, purge: Purge) -> Purged {
        let host = target
            .authority()
            .map_or("", |authority| authority.as_str());
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let key = self.key(target.scheme_str().unwrap_or("http"), host, path);
        let preflights = self.cells.purge(preflight_key(&key), purge);
        let (own, of_preflights) = join(self.cells.purge(key, purge), preflights).await;
        own.and(of_preflights)
    }

    /// Purges what is stored for more than one URL. From a second after it is
    /// [`Purged::Stored`] on, it holds as [`Shield::purge_target`] says.
    pub async fn purge_scopes(self: &Rc<Self>, scopes: &[Scope], purge: Purge) -> Purged {
        self.cells.purge_scopes(scopes, purge).await
    }

    /// The platform.
    pub(crate) fn platform(&self) -> &P {
        &self.platform
    }

    /// The settings outside rules, and the rules.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whom it shields.
    pub(crate) fn origin(&self) -> &Origin {
        self.door.origin()
    }

    /// The way to the origin, for who watches.
    pub(crate) fn door(&self) -> &OriginDoor<P> {
        &self.door
    }

    /// The cells, for who watches.
    pub(crate) fn cells(&self) -> &Rc<Cells<P>> {
        &self.cells
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
            .authority()
            .is_some_and(|authority| !is_host_and_port(authority.as_str()))
        {
            (StatusCode::BAD_REQUEST, "the host is not valid")
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
        Some(self.own(Own::Refused, status, text))
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
}
