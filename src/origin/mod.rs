//! The origin's door: the only code that sends a request to the origin.
//!
//! Fills, refreshes, passes and unsafe methods go through it. It decides when a request
//! may go: each needs a [`Slot`] of the budget ([`crate::budget`]), which the request and
//! the body of its answer keep. It knows what is added to every request and how long a
//! request may take, it tells the breaker what became of it, and it writes the log
//! line. Nothing else in the shield knows the platform's `send`.
//!
//! Files: `slot` has the right to send one request, as a value. `slots` is what one
//! instance knows about slots, and `tokens` about its part of the hour's requests; `broker`
//! takes them from the store and gives them back. `send` is one exchange, `body` an
//! answer's body with its slot, `upload` the content of a request that its visitor may send
//! slowly, `check` the request that asks whether the
//! origin works at all.

mod body;
mod broker;
mod check;
mod named;
mod send;
mod slot;
mod slots;
mod time;
mod tokens;
mod upload;

pub use body::OriginBody;
use body::SharedSlot;
pub(crate) use body::WeakSlot;
pub(crate) use broker::Admission;
pub(crate) use named::Named;
pub use slot::Slot;
pub(crate) use time::{Pace, Reading, TRICKLE_WINDOW, read, time_left};

use crate::budget::{
    BreakerSettings, Class, Halt, KnownGood, Limits, Outcome, RateLimit, Record, SettingsMark,
};
use crate::cells::Cells;
use crate::config::{Config, Origin};
use crate::question::{Fill, Outgoing, pass};
use crate::semantics::{
    Bond, LoopId, announced, bond_of_request, complete, is_endless, is_loop_answer, retry_after,
    strip_connection_fields,
};
use crate::time::{Time, millis};
use crate::world::{Body, Content, OriginError, OriginRequest, Platform, RequestReason, event};
use broker::Broker;
use bytes::BytesMut;
use check::Checker;
use futures::future::{Either, select};
use http::{HeaderMap, Method, Response, StatusCode, request};
use send::Turn;
use serde_json::Value;
use std::cell::Cell;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use upload::{Refusal, Upload};

/// How long a message may wait for its visitor, in all, before its request gives its place in
/// the budget to another.
pub(crate) const SLOW_VISITOR: Duration = Duration::from_secs(2);

/// The name by which the shield marks requests and answers.
pub(crate) const PSEUDONYM: &str = "leeward";

/// The door of one instance.
#[derive(Debug)]
pub(crate) struct OriginDoor<P: Platform> {
    platform: Rc<P>,
    origin: Origin,
    loop_id: LoopId,
    broker: Rc<Broker<P>>,
    /// When the origin last answered as it should, as far as this instance knows.
    worked: Cell<Time>,
    /// Fills whose head has taken longer than `origin.first_byte_timeout`.
    late: Cell<u32>,
}

/// Why a visitor's request has no answer of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// No slot became free in time.
    Busy,
    /// Nothing is sent for now.
    Halted(Halt),
    /// The client has gone, and nothing was sent.
    Gone,
    /// The origin failed.
    Failed(OriginError),
}

/// An answer of the origin, and when it was asked for.
#[derive(Debug)]
pub(crate) struct Answered<B> {
    pub(crate) response: Response<B>,
    /// When the request was sent.
    pub(crate) request_time: Time,
    /// When the head of the answer came.
    pub(crate) response_time: Time,
}

/// A visitor's request on its way to the origin.
#[derive(Debug)]
pub(crate) struct Forwarding<'a, B> {
    pub(crate) parts: &'a request::Parts,
    pub(crate) body: Option<Content<B>>,
    /// The visitor's address, where the platform tells it.
    pub(crate) address: Option<IpAddr>,
}

impl<P: Platform> OriginDoor<P> {
    pub(crate) fn new(
        platform: Rc<P>,
        cells: Rc<Cells<P>>,
        origin: Origin,
        (config, mark): (&Config, SettingsMark),
    ) -> Self {
        let name = crate::cells::budget_id(&origin.server());
        let loop_id = LoopId::new(&origin.to_string(), &config.origin.loop_id);
        let broker = Broker::new(
            Rc::clone(&platform),
            cells,
            name,
            settings::<P>(config, mark),
            Checker::new(&origin, loop_id, config),
        );
        OriginDoor {
            broker,
            platform,
            origin,
            loop_id,
            worked: Cell::default(),
            late: Cell::default(),
        }
    }

    /// Waits until `limit` for a slot for a request to `target`, a path.
    pub(crate) async fn admit(&self, class: Class, target: &str, limit: Time) -> Admission {
        self.broker.acquire(class, hash(target), limit).await
    }

    /// The slot for another request of the same exchange, with a token of the rate of its
    /// own. Waits for it until `limit` where requests are counted.
    pub(crate) async fn another(&self, slot: Slot, limit: Time) -> Admission {
        if slot.is_stream() || !self.broker.is_rated() {
            return Admission::Granted(slot);
        }
        let (class, target) = (slot.class(), slot.target());
        drop(slot);
        self.broker.acquire(class, target, limit).await
    }

    /// Why no refresh of `target` goes out for now, as far as this instance knows.
    pub(crate) fn halted(&self, target: &str) -> Option<Halt> {
        let now = self.platform.now();
        self.broker.halted(Class::Refresh, hash(target), now)
    }

    /// Whether no refresh of `target` goes out now: asks the store where this instance does
    /// not know.
    pub(crate) async fn refuses_refresh(&self, target: &str) -> bool {
        self.broker.refuses_refresh(hash(target)).await
    }

    /// What all nodes know of the origin; none while the store does not tell.
    pub(crate) async fn overview(&self) -> Option<Record> {
        self.broker.overview().await
    }

    /// Most requests at once, of all nodes.
    pub(crate) fn slots_max(&self) -> u32 {
        self.broker.slots_max()
    }

    /// Whom it leads to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether a request has come back to the shield that sent it.
    pub(crate) fn has_sent(&self, request: &HeaderMap) -> bool {
        self.loop_id.is_in(request)
    }

    /// What is added to a request.
    pub(crate) fn outgoing<'a>(&'a self, config: &'a Config) -> Outgoing<'a> {
        Outgoing {
            user_agent: &config.origin.user_agent,
            via: config.origin.via.then_some(PSEUDONYM),
            loop_id: self.loop_id,
        }
    }

    /// Sends a fill. Its head has `origin.first_byte_timeout`, and where the origin has
    /// answered others meanwhile, `origin.pass_timeout`. Nothing is started after
    /// `acts_until`.
    pub(crate) async fn fill(
        &self,
        fill: Fill,
        slot: Slot,
        acts_until: &Cell<Time>,
        config: &Config,
    ) -> Result<Answered<OriginBody<P::Body>>, OriginError> {
        let timeout = config.origin.pass_timeout;
        let page = match self.broker.seeks() {
            true => page_of(&fill, slot.target()),
            false => None,
        };
        let request = Self::request((slot.class(), fill.into_parts()), None, config, timeout);
        let request_time = self.platform.now();
        let turn = Turn::under(slot, config);
        let is_wanted = || self.platform.now() < acts_until.get();
        let sending = self.broker.send(request, &turn, is_wanted);
        let answered = self.patiently(sending, request_time, config).await;
        let took = self.platform.now().since(request_time);
        if let (Some(page), Ok(response)) = (page, &answered)
            && response.status() == StatusCode::OK
            && let Some(page) = page.answered(response.headers(), took)
        {
            self.broker.found(page);
        }
        self.answered(answered, request_time, turn.slot, false)
    }

    /// The head of the answer to a fill that was sent at `began`.
    ///
    /// A page that takes its time is not cut while the origin answers others: the origin
    /// would work on all the same, and nobody would ever get the page. An origin that
    /// answers nobody is not waited for. Such requests hold at most half of the budget.
    async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, OriginError>>,
        began: Time,
        config: &Config,
    ) -> Result<T, OriginError> {
        let mut work = pin!(work);
        let timeout = config.origin.first_byte_timeout;
        match select(work.as_mut(), pin!(self.platform.sleep(timeout))).await {
            Either::Left((result, _)) => return result,
            Either::Right(_) => {}
        }
        let most = self.broker.slots_max() / 2;
        if self.late.get() >= most {
            return Err(OriginError::Timeout);
        }
        let _late = Late::begin(&self.late);
        let mut asked = began;
        while (self.worked.get() >= asked || self.broker.has_worked_since(asked))
            && self.platform.now().since(began) < config.origin.pass_timeout
        {
            asked = self.platform.now();
            match select(work.as_mut(), pin!(self.platform.sleep(timeout))).await {
                Either::Left((result, _)) => return result,
                Either::Right(_) => {}
            }
        }
        Err(OriginError::Timeout)
    }

    /// Tells the breaker what became of a request, and gives the slot to the body.
    fn answered(
        &self,
        answered: Result<Response<P::Body>, OriginError>,
        request_time: Time,
        slot: SharedSlot,
        has_content: bool,
    ) -> Result<Answered<OriginBody<P::Body>>, OriginError> {
        let response_time = self.platform.now();
        let answered = answered.and_then(valid);
        if let Some(outcome) = outcome(&answered, response_time, has_content) {
            if outcome == Outcome::Good {
                self.worked.set(response_time);
            }
            if let Some(report) = slot.report(outcome) {
                self.broker.report(report);
            }
        }
        let is_stream = answered
            .as_ref()
            .is_ok_and(|response| is_endless(response.headers()));
        if is_stream && !slot.become_stream() {
            return Err(OriginError::TooManyStreams);
        }
        let mut response = answered?;
        let status = response.status();
        complete(status, response.headers_mut(), response_time);
        let may = self.platform.lets_through(&handed_on(response.headers()));
        may.map_err(OriginError::Fields)?;
        let response = response.map(|body| match status {
            // Some origins send a page with it. Nobody reads that.
            StatusCode::RESET_CONTENT => OriginBody::empty(slot),
            _ => OriginBody::new(body, slot),
        });
        Ok(Answered {
            response,
            request_time,
            response_time,
        })
    }

    /// Forwards a visitor's request with its own fields, its content as it comes.
    /// The head of the answer has `origin.pass_timeout`, from the end of the content
    /// on. When that is, only the platform sees: it keeps the time of a request with
    /// content, so that no upload is cut that makes progress.
    pub(crate) async fn forward(
        &self,
        forwarding: Forwarding<'_, P::Body>,
        slot: Slot,
        config: &Config,
    ) -> Result<Answered<OriginBody<P::Body>>, NoAnswer> {
        let Forwarding {
            parts: visitor,
            body,
            address,
        } = forwarding;
        let outgoing = self.outgoing(config);
        let parts = pass::forwarded(visitor, body.is_some(), address, &self.origin, outgoing)
            .map_err(|error| NoAnswer::Failed(OriginError::NotSent(error.to_string())))?;
        let request_time = self.platform.now();
        let (has_content, timeout) = (body.is_some(), config.origin.pass_timeout);
        let (class, target) = (slot.class(), slot.target());
        let turn = Turn::under(slot, config);
        let refusal = Refusal::default();
        let body = body.map(|content| match content.is_read() {
            true => content,
            false => Upload {
                platform: Rc::clone(&self.platform),
                broker: Rc::clone(&self.broker),
                content,
                left: announced(&visitor.headers),
                slot: turn.slot.downgrade(),
                class,
                target,
                wait: config.wait.budget,
                refusal: Rc::clone(&refusal),
            }
            .into_content(),
        });
        let request = Self::request((class, parts), body, config, timeout);
        let sending = self.broker.send(request, &turn, || true);
        let answered = match has_content {
            true => sending.await,
            false => self.within(timeout, sending).await,
        };
        let answered = self.answered(answered, request_time, turn.slot, has_content);
        answered.map_err(|error| match refusal.borrow_mut().take() {
            Some(refusal) => refusal,
            None => NoAnswer::Failed(error),
        })
    }

    fn request(
        (class, parts): (Class, request::Parts),
        body: Option<Content<P::Body>>,
        config: &Config,
        first_byte_timeout: Duration,
    ) -> OriginRequest<P::Body> {
        OriginRequest {
            reason: RequestReason::of(class),
            alone: bond_of_request(&parts.headers) == Bond::Credentials,
            parts,
            body,
            connect_timeout: config.origin.connect_timeout,
            first_byte_timeout,
            between_bytes_timeout: config.origin.between_bytes_timeout,
        }
    }

    /// The next piece of a body, for at most `origin.between_bytes_timeout`.
    async fn in_time<T>(
        &self,
        config: &Config,
        piece: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        self.within(config.origin.between_bytes_timeout, piece)
            .await
    }

    /// What the origin does, for at most `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        let timeout = self.platform.sleep(limit);
        match select(pin!(work), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(OriginError::Timeout),
        }
    }

    /// Reads the beginning of a body: at least `most` bytes, unless it is shorter.
    pub(crate) async fn peek<B: Body>(
        &self,
        config: &Config,
        body: &mut OriginBody<B>,
        most: usize,
    ) -> Result<(), OriginError> {
        let mut beginning = BytesMut::new();
        while beginning.len() < most {
            let next = async { body.chunk().await.transpose() };
            match self.in_time(config, next).await? {
                Some(bytes) => beginning.extend_from_slice(&bytes),
                None => break,
            }
        }
        body.put_back(beginning.freeze());
        Ok(())
    }

    /// Writes the log line of an exchange.
    pub(crate) fn log(&self, line: &LogLine<'_>) {
        self.platform.log(&line.text(Some(&self.origin)));
    }
}

/// A fill whose head is late, as long as it lives.
struct Late<'a>(&'a Cell<u32>);

impl<'a> Late<'a> {
    fn begin(count: &'a Cell<u32>) -> Self {
        count.set(count.get().saturating_add(1));
        Late(count)
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// What the log says about an exchange with the origin.
#[derive(Debug)]
pub(crate) struct LogLine<'a> {
    /// Why the origin was asked.
    pub(crate) reason: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The visitor's request that it was for, where it is known.
    pub(crate) named: Option<&'a Named>,
    /// The status of the answer; `None` if there was no exchange.
    pub(crate) status: Result<Option<StatusCode>, &'a OriginError>,
    /// What the answer did to the cell.
    pub(crate) outcome: Option<&'a str>,
    /// How the lease ended.
    pub(crate) settled: Option<&'a str>,
    pub(crate) took: Duration,
}

impl LogLine<'_> {
    /// The line. `origin` is named where it has failed.
    fn text(&self, origin: Option<&Origin>) -> String {
        let status = match self.status {
            Ok(status) => status.map_or(Value::Null, |status| status.as_u16().into()),
            Err(_) => Value::Null,
        };
        let mut fields = vec![
            ("reason", self.reason.into()),
            ("method", self.method.into()),
            ("path", self.path.into()),
            ("status", status),
            ("millis", millis(self.took).into()),
        ];
        if let Some(named) = self.named {
            fields.extend(named.fields());
        }
        if let Ok(Some(status)) = self.status
            && status.is_server_error()
        {
            fields.extend(origin.map(|origin| ("origin", origin.to_string().into())));
            let error = format!("the origin answered {}", status.as_u16());
            fields.push(("error", error.into()));
        }
        if let Err(error) = self.status {
            fields.extend(origin.map(|origin| ("origin", origin.to_string().into())));
            fields.push(("error", error.to_string().into()));
            fields.extend(error.remedy().map(|remedy| ("remedy", remedy.into())));
        }
        if let Some(outcome) = self.outcome {
            fields.push(("outcome", outcome.into()));
        }
        if let Some(settled) = self.settled {
            fields.push(("settled", settled.into()));
        }
        event("origin", &fields)
    }
}

/// Why a request got no place in the budget at the end of its content, for the log.
pub(crate) fn refused<B>(answered: &Result<Answered<B>, NoAnswer>) -> Option<&'static str> {
    match answered {
        Err(NoAnswer::Busy) => Some("origin-busy"),
        Err(NoAnswer::Halted(halt)) => Some(halt.by.token()),
        Err(NoAnswer::Gone) => Some("client-gone"),
        Err(NoAnswer::Failed(_)) | Ok(_) => None,
    }
}

/// The status of an answer, for the log.
pub(crate) fn status_of<B>(
    answered: &Result<Answered<B>, NoAnswer>,
) -> Result<Option<StatusCode>, &OriginError> {
    match answered {
        Ok(answered) => Ok(Some(answered.response.status())),
        Err(NoAnswer::Failed(error)) => Err(error),
        Err(NoAnswer::Busy | NoAnswer::Halted(_) | NoAnswer::Gone) => Ok(None),
    }
}

fn settings<P: Platform>(config: &Config, mark: SettingsMark) -> slots::Settings {
    let origin = &config.origin;
    slots::Settings {
        limits: Limits {
            slots: config.budget.max_concurrency,
            streams: config.budget.max_streams,
            lease: config.lease.duration,
            clock_skew: config.lease.clock_skew,
            rate: RateLimit::new(config.budget.max_per_hour, config.lease.clock_skew),
        },
        local_slots: config.budget.local_concurrency,
        breaker: BreakerSettings {
            failures: config.budget.failures,
            pause: config.budget.open,
            retry_after_max: origin.retry_after_max,
        },
        keeps_idle: !P::ENDS_WITH_REQUEST,
        mark,
    }
}

/// What an answer says about the origin; `None` if it says nothing: nothing was sent, or
/// the visitor may be the cause, whose content comes slowly or breaks off.
fn outcome<B>(
    answered: &Result<Response<B>, OriginError>,
    now: Time,
    has_content: bool,
) -> Option<Outcome> {
    Some(match answered {
        // Nothing has reached the origin.
        Ok(response) if is_loop_answer(response.status(), response.headers()) => return None,
        Ok(response) => {
            let status = response.status();
            match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                true => Outcome::Bad {
                    retry_after: retry_after(response.headers(), now),
                },
                false => Outcome::Good,
            }
        }
        Err(OriginError::Timeout | OriginError::NoHead(_) | OriginError::Failed(_))
            if has_content =>
        {
            return None;
        }
        Err(OriginError::Timeout | OriginError::NoHead(_) | OriginError::Failed(_)) => {
            Outcome::Bad { retry_after: None }
        }
        Err(OriginError::Unreachable(_)) => Outcome::Unreachable,
        Err(
            OriginError::NotSent(_)
            | OriginError::Denied
            | OriginError::ConnectionAuth
            | OriginError::TooManyStreams
            | OriginError::Fields(_),
        ) => return None,
    })
}

/// The fields of an answer that visitors may get: those of its connection need not pass the
/// host, which shows some of them to a component and refuses them in an answer.
fn handed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    strip_connection_fields(&mut headers);
    headers
}

/// A final answer has a status from 200 to 599 (RFC 9110 section 15): hosts send no other to
/// a visitor.
fn valid<B>(response: Response<B>) -> Result<Response<B>, OriginError> {
    match response.status().as_u16() {
        200..=599 => Ok(response),
        status => Err(OriginError::Failed(format!("status {status} is not valid"))),
    }
}

/// The page that a fill asks for, to be remembered if it works.
fn page_of(fill: &Fill, target: u32) -> Option<KnownGood> {
    let path = fill.uri().path_and_query()?.as_str();
    let (host, is_secure) = (fill.host(), fill.is_secure());
    (*fill.method() == Method::GET)
        .then(|| KnownGood::new(path, host, is_secure, target))
        .flatten()
}

/// Stands for a path in the breaker.
fn hash(path: &str) -> u32 {
    crc32fast::hash(path.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_upload_that_its_visitor_breaks_off_says_nothing_about_the_origin() {
        let now = Time::default();
        let bad = Some(Outcome::Bad { retry_after: None });
        for error in [
            OriginError::Timeout,
            OriginError::NoHead("closed".to_owned()),
            OriginError::Failed("reset".to_owned()),
        ] {
            let answered: Result<Response<()>, _> = Err(error);
            assert_eq!(outcome(&answered, now, true), None);
            assert_eq!(outcome(&answered, now, false), bad);
        }
        // These are the origin's whatever the visitor sent.
        let refused: Result<Response<()>, _> = Err(OriginError::Unreachable("refused".to_owned()));
        assert_eq!(outcome(&refused, now, true), Some(Outcome::Unreachable));
        let mut error = Response::new(());
        *error.status_mut() = StatusCode::BAD_GATEWAY;
        assert_eq!(outcome(&Ok(error), now, true), bad);
    }

    /// On Spin each answer without a length became 502: the host shows `Transfer-Encoding`.
    #[test]
    fn fields_of_a_connection_need_not_pass_the_host() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "a=b"),
        ] {
            headers.append(name, http::HeaderValue::from_static(value));
        }
        let left = handed_on(&headers);
        let names: Vec<_> = left.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["set-cookie"]);
    }

    #[test]
    fn what_the_host_or_the_shield_refuses_says_nothing_about_the_origin() {
        for error in [
            OriginError::NotSent("a field".to_owned()),
            OriginError::Denied,
            OriginError::ConnectionAuth,
            OriginError::TooManyStreams,
            OriginError::Fields("a field".to_owned()),
        ] {
            let answered: Result<Response<()>, _> = Err(error);
            assert_eq!(outcome(&answered, Time::default(), false), None);
        }
    }

    /// The log named neither address nor cause, and had no level.
    #[test]
    fn the_line_of_a_failure_is_a_warning_with_the_address() {
        let origin = Origin::parse("http://10.0.0.5:8080").unwrap();
        let error = OriginError::Unreachable("refused".to_owned());
        let line = |status| {
            let line = LogLine {
                reason: "miss",
                method: "GET",
                path: "/a",
                named: None,
                status,
                outcome: None,
                settled: None,
                took: Duration::ZERO,
            };
            let line: Value = serde_json::from_str(&line.text(Some(&origin))).unwrap();
            line
        };
        for (status, level) in [
            (Ok(Some(StatusCode::OK)), "info"),
            (Ok(Some(StatusCode::NOT_FOUND)), "info"),
            (Ok(Some(StatusCode::SERVICE_UNAVAILABLE)), "warn"),
            (Err(&error), "warn"),
        ] {
            let line = line(status);
            assert_eq!(line["level"], level, "{line}");
            let is_failure = level == "warn";
            assert_eq!(line["origin"].is_string(), is_failure, "{line}");
            assert_eq!(line["error"].is_string(), is_failure, "{line}");
        }
        let text = line(Err(&error)).to_string();
        assert!(text.contains("10.0.0.5:8080"), "{text}");
    }

    /// The log of a Spin without the origin in `allowed_outbound_hosts` said
    /// `HttpRequestDenied`, and nothing else.
    #[test]
    fn the_log_names_the_setting_where_the_host_denies_a_request() {
        let line = |error: &OriginError| {
            let line = LogLine {
                reason: "miss",
                method: "GET",
                path: "/a",
                named: None,
                status: Err(error),
                outcome: None,
                settled: None,
                took: Duration::ZERO,
            };
            line.text(None)
        };
        let denied = line(&OriginError::Denied);
        for word in [
            "remedy",
            "allowed_outbound_hosts",
            "origin_path",
            "HttpRequestDenied",
        ] {
            assert!(denied.contains(word), "{word}: {denied}");
        }
        assert!(!line(&OriginError::Failed("x".to_owned())).contains("remedy"));
    }
}
