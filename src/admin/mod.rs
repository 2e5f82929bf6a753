//! The admin interface: what an operator asks of the shield itself, under `/.leeward/`.
//!
//! [`Front`] stands before the [`Shield`]: it answers what is for the operator, and hands on
//! everything else. `health` and `ready` speak of this node and need no token. The rest
//! needs `Authorization: Bearer` with the platform's variable `admin_token`; where that is
//! not set, those paths belong to the origin.
//!
//! Files: `route` says what a request is for, `token` whether it may, `order` what is to be
//! purged. `status`, `entries` and `metrics` say what there is, `answer` makes answers.

mod answer;
mod entries;
mod metrics;
mod order;
mod page;
mod route;
mod status;
mod token;
mod warm;

use crate::budget::SettingsMark;
use crate::cell::transition::Purge;
use crate::cells::Purged;
use crate::config::{Config, Origin};
use crate::purges::Scope;
use crate::shield::{Answer, Shield};
use crate::time::Time;
use crate::world::{Body, Content, HostStarts, Platform, VisitorAddress, event};
use answer::{Refusal, json, no_content_for_head, refusal};
use futures::future::LocalBoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, request};
use order::{Order, Site};
use route::{Route, Topic};
use serde_json::json;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use token::Token;

/// Most content of a request to the admin interface, in bytes.
pub const CONTENT_MAX: usize = 64 << 10;

/// How long the answer to a wrong token waits.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// Most requests with wrong tokens that wait in one instance; others are refused at once.
const WRONG_TOKENS_MAX: u32 = 8;

/// What the operator gives an instance.
#[derive(Debug)]
pub struct FrontSettings {
    /// The server to protect.
    pub origin: Origin,
    /// Options and rules.
    pub config: Config,
    /// The secret of the admin interface; none where there is no such interface.
    pub admin_token: Option<String>,
    /// Tells settings apart: equal on all nodes that have the same.
    pub mark: SettingsMark,
}

/// A shield, and the operator's door beside it.
pub struct Front<P: Platform> {
    shield: Rc<Shield<P>>,
    token: Option<Token>,
    has_health: bool,
    /// See [`FrontSettings::mark`].
    mark: SettingsMark,
    /// When the instance began.
    began: Time,
    /// Whether what is wanted at the start has been fetched, or is being fetched.
    has_begun: Cell<bool>,
    /// Requests with wrong tokens that wait.
    slowed: Cell<u32>,
}

impl<P: Platform> std::fmt::Debug for Front<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl<P: Platform> Front<P> {
    /// A shield in front of an origin, and its admin interface.
    pub fn new(platform: P, settings: FrontSettings) -> Rc<Self> {
        let began = platform.now();
        let token = settings.admin_token.as_deref().and_then(Token::new);
        let has_health = settings.config.admin.health;
        Rc::new(Front {
            shield: Shield::new(platform, settings.origin, settings.config, settings.mark),
            token,
            has_health,
            mark: settings.mark,
            began,
            has_begun: Cell::default(),
            slowed: Cell::default(),
        })
    }

    /// Answers a request; see [`Shield::handle_while`].
    pub async fn handle_while(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        gone: Option<LocalBoxFuture<'static, ()>>,
    ) -> Answer<P::Body> {
        let is_of_host = request.extensions().get::<HostStarts>().is_some();
        // An instance for each request would look for each whether it is its turn.
        if is_of_host || !P::ENDS_WITH_REQUEST {
            self.warm_at_start();
        }
        if is_of_host {
            return answer::nothing();
        }
        let route = route::of(
            request.method(),
            request.uri().path(),
            self.token.is_some(),
            self.has_health,
        );
        match route {
            Route::Site => self.shield.handle_while(request, gone).await,
            Route::Disguised => refusal(&Refusal::disguised()),
            Route::Topic(topic) => {
                let method = request.method().clone();
                let (parts, body) = request.into_parts();
                let answer = self.answer(topic, &parts, body).await;
                no_content_for_head(&method, answer)
            }
        }
    }

    async fn answer(
        self: &Rc<Self>,
        topic: Topic,
        parts: &request::Parts,
        body: Option<P::Body>,
    ) -> Answer<P::Body> {
        if let Some(refused) = topic.refuse_method(&parts.method) {
            return refusal(&refused);
        }
        if topic.needs_token()
            && let Err(refused) = self.authorize(parts).await
        {
            return refused;
        }
        match topic {
            Topic::Health | Topic::Ready => self.health().await,
            Topic::Index => answer::found(page::DASHBOARD_PATH),
            Topic::Dashboard => page::dashboard(),
            Topic::Status => self.status().await,
            Topic::Metrics => self.metrics().await,
            Topic::Entries => self.entries(parts.uri.query()).await,
            Topic::Entry => self.entry(parts).await,
            Topic::PurgeMethod => self.purge_by_method(parts).await,
            Topic::Purge => match read_content(&parts.headers, body).await {
                Ok(content) => self.purge_by_order(parts, &content).await,
                Err(refused) => refusal(&refused),
            },
            Topic::Warm => match read_content(&parts.headers, body).await {
                Ok(content) => self.warm(parts, &content).await,
                Err(refused) => refusal(&refused),
            },
            Topic::Unknown => refusal(&Refusal::unknown_path()),
        }
    }

    /// Whether a request has the operator's token. The answer to a wrong one waits.
    async fn authorize(&self, parts: &request::Parts) -> Result<(), Answer<P::Body>> {
        let headers = &parts.headers;
        let is_known = self
            .token
            .as_ref()
            .is_some_and(|token| token.is_in(headers));
        if is_known {
            return Ok(());
        }
        let mut refused = refusal(&Refusal::token(headers.contains_key(AUTHORIZATION)));
        refused.headers_mut().insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"leeward\""),
        );
        if !headers.contains_key(AUTHORIZATION) {
            return Err(refused);
        }
        if self.slowed.get() >= WRONG_TOKENS_MAX {
            return Err(refusal(&Refusal::too_many_tokens()));
        }
        let _slowed = Slowed::begin(&self.slowed);
        self.shield.platform().sleep(WRONG_TOKEN_PAUSE).await;
        let mut fields = vec![("why", "wrong token".into())];
        if let Some(VisitorAddress(address)) = parts.extensions.get() {
            fields.push(("client", address.to_string().into()));
        }
        self.shield.platform().log(&event("admin-refused", &fields));
        Err(refused)
    }

    async fn purge_by_order(
        self: &Rc<Self>,
        parts: &request::Parts,
        content: &[u8],
    ) -> Answer<P::Body> {
        let config = self.shield.config();
        let site = Site::of(parts, config, self.shield.origin());
        match Order::from_json(content, &site) {
            Ok(order) => self.purge(order).await,
            Err(refused) => refusal(&refused),
        }
    }

    async fn purge_by_method(self: &Rc<Self>, parts: &request::Parts) -> Answer<P::Body> {
        let config = self.shield.config();
        let site = Site::of(parts, config, self.shield.origin());
        match Order::from_request(parts, &site) {
            Ok(order) => self.purge(order).await,
            Err(refused) => refusal(&refused),
        }
    }

    async fn purge(self: &Rc<Self>, order: Order) -> Answer<P::Body> {
        let mut state = Purged::Stored;
        for url in &order.urls {
            state = state.and(self.shield.purge_target(url, order.purge).await);
        }
        if !order.scopes.is_empty() {
            state = state.and(self.shield.purge_scopes(&order.scopes, order.purge).await);
        }
        // The node stands in for its store: the others know it when that is back.
        if self.shield.cells().store_parts().await != [false, false] {
            state = Purged::Pending;
        }
        let count = |is: fn(&Scope) -> bool| order.scopes.iter().filter(|of| is(of)).count();
        let purged = json!({
            "urls": order.named_urls,
            "prefixes": count(|scope| matches!(scope, Scope::Prefix(_))),
            "tags": count(|scope| matches!(scope, Scope::Tag(_))),
            "all": order.scopes.contains(&Scope::Everything),
        });
        let mode = match order.purge {
            Purge::Soft => "soft",
            Purge::Invalidate => "invalidate",
            Purge::Hard => "hard",
        };
        let (status, state, note) = match state {
            Purged::Stored => (
                StatusCode::OK,
                "stored",
                "all nodes know it within a second",
            ),
            Purged::Pending => (
                StatusCode::ACCEPTED,
                "pending",
                "the store fails: other nodes know it when the store works again; ask again then, to \
                 be sure",
            ),
        };
        self.shield.platform().log(&event(
            "purge",
            &[
                ("mode", mode.into()),
                ("purged", purged.clone()),
                ("state", state.into()),
            ],
        ));
        json(
            status,
            &json!({ "purged": purged, "mode": mode, "state": state, "note": note }),
        )
    }
}

/// Counts a request that waits because of its token.
struct Slowed<'a>(&'a Cell<u32>);

impl<'a> Slowed<'a> {
    fn begin(count: &'a Cell<u32>) -> Self {
        count.set(count.get().saturating_add(1));
        Slowed(count)
    }
}

impl Drop for Slowed<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Reads the content of a request to the admin interface.
async fn read_content<B: Body>(headers: &HeaderMap, body: Option<B>) -> Result<Vec<u8>, Refusal> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > CONTENT_MAX) {
        return Err(Refusal::too_long());
    }
    let Some(body) = body else {
        return Ok(Vec::new());
    };
    let mut content = Content::unread(body);
    let mut read = Vec::new();
    while let Some(piece) = content.chunk().await {
        let piece = piece.map_err(|_| Refusal::broken_off())?;
        read.extend_from_slice(&piece);
        if read.len() > CONTENT_MAX {
            return Err(Refusal::too_long());
        }
    }
    Ok(read)
}

/// Whether a method is GET or HEAD.
fn is_get(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
