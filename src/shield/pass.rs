//! Requests that are forwarded with their own fields: GETs and HEADs that no entry
//! can answer. Their answers are never stored and never given to another visitor.

use super::answer::{Trouble, assemble, tell_lifetime};
use super::answer_body::AnswerBody;
use super::equal_answers::{BODY_MAX, Comparison};
use super::fetch::Reason;
use super::own_answer::Delivery;
use super::request::{Gone, Visit, address_of};
use super::served::{Own, Passed, Served};
use super::{Answer, Shield};
use crate::budget::Class;
use crate::cells::{Backing, Located};
use crate::config::Config;
use crate::origin::{
    Admission, Answered, Forwarding, LogLine, Named, NoAnswer, OriginBody, Slot, refused, status_of,
};
use crate::question::location;
use crate::question::target::path_of;
use crate::semantics::{
    Asked, Audience, Forward, Handed, ResponseDirectives, Storability, announced, is_endless,
    response, storability, strip_connection_fields,
};
use crate::time::Time;
use crate::world::{Body, Content, OriginError, Platform};
use futures::future::{Either, select};
use futures::{StreamExt, stream};
use http::header::{AUTHORIZATION, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode, request};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The least time between two attempts to fill a cell because a passed answer
/// might be stored. It doubles with each pass mark in a row.
const HIT_FOR_MISS_PAUSE: Duration = Duration::from_secs(1);

/// A request that is passed.
pub(super) struct Passing<'a, B> {
    pub(super) parts: &'a request::Parts,
    pub(super) body: Option<Content<B>>,
    pub(super) address: Option<IpAddr>,
    pub(super) passed: Passed,
    /// Until when it waits for a place in the origin's budget.
    pub(super) limit: Time,
    /// When its client has gone.
    pub(super) gone: &'a Gone,
}

impl<P: Platform> Shield<P> {
    /// Forwards a request that asks no question.
    pub(super) async fn pass(
        self: &Rc<Self>,
        parts: &request::Parts,
        body: Option<P::Body>,
        passed: Passed,
        address: Option<IpAddr>,
        config: &Config,
        gone: &Gone,
    ) -> Answer<P::Body> {
        let body = match self.read_first(parts, body).await {
            Ok(body) => body,
            Err(error) => {
                return self.no_answer(parts, &error, Delivery::NotSent, Forward::Bypass, config);
            }
        };
        let passing = Passing {
            parts,
            body,
            address: address.or_else(|| address_of(parts)),
            passed,
            limit: self.platform.now().plus(config.wait.budget),
            gone,
        };
        let answered = self.send_pass(passing, config).await;
        self.passed_answer(parts, passed, answered, config)
    }

    /// Sends a request with its own fields.
    pub(super) async fn send_pass(
        &self,
        mut passing: Passing<'_, P::Body>,
        config: &Config,
    ) -> Result<Answered<OriginBody<P::Body>>, NoAnswer> {
        if self.refuses_connection_auth(&passing.parts.headers, config) {
            return Err(NoAnswer::Failed(OriginError::ConnectionAuth));
        }
        let target = path_of(passing.parts.uri.path());
        let (limit, gone) = (passing.limit, passing.gone);
        let mut slot = self
            .admit_with(&mut passing.body, Class::Pass, target, limit, gone)
            .await?;
        if passing.passed == Passed::LongPoll && !slot.become_stream() {
            return Err(NoAnswer::Failed(OriginError::TooManyStreams));
        }
        let began = self.platform.now();
        let forwarding = Forwarding {
            parts: passing.parts,
            body: passing.body,
            address: passing.address,
        };
        let mut answered = self.door.forward(forwarding, slot, config).await;
        self.door.log(&LogLine {
            reason: "pass",
            method: passing.parts.method.as_str(),
            path: passing.parts.uri.path(),
            named: Some(&Named::of(passing.parts)),
            status: status_of(&answered),
            outcome: refused(&answered).or(Some(passing.passed.token())),
            settled: None,
            took: self.platform.now().since(began),
        });
        if let Ok(answered) = &mut answered {
            location::rewrite(answered.response.headers_mut(), self.door.origin());
        }
        answered
    }

    /// Waits for a place in the origin's budget.
    pub(super) async fn admit(
        &self,
        class: Class,
        target: &str,
        limit: Time,
        gone: &Gone,
    ) -> Result<Slot, NoAnswer> {
        match self.admitted(class, target, limit, gone).await {
            Admission::Granted(slot) => Ok(slot),
            Admission::Gone => Err(NoAnswer::Gone),
            Admission::Halted(halt) => Err(NoAnswer::Halted(halt)),
            Admission::Busy => Err(NoAnswer::Busy),
        }
    }

    /// Waits for a place, as long as the client does.
    pub(super) async fn admitted(
        &self,
        class: Class,
        target: &str,
        limit: Time,
        gone: &Gone,
    ) -> Admission {
        let admitted = pin!(self.door.admit(class, target, limit));
        match select(admitted, pin!(gone.wait())).await {
            Either::Left((admission, _)) => admission,
            Either::Right(((), _)) => Admission::Gone,
        }
    }

    /// The answer to a request that was passed.
    pub(super) fn passed_answer(
        &self,
        visitor: &request::Parts,
        passed: Passed,
        answered: Result<Answered<OriginBody<P::Body>>, NoAnswer>,
        config: &Config,
    ) -> Answer<P::Body> {
        match answered {
            Ok(answered) => {
                let (parts, body) = answered.response.into_parts();
                let mut headers = parts.headers;
                strip_connection_fields(&mut headers);
                let handed = Handed {
                    status: parts.status,
                    is_stored: false,
                    now: self.platform.now(),
                };
                tell_lifetime(&mut headers, handed, config);
                let body = match visitor.method == Method::HEAD {
                    true => AnswerBody::Empty,
                    false => self.to_visitor(&headers, body, config),
                };
                let body = match self.comparison(visitor, passed, (parts.status, &headers)) {
                    Some(comparison) => self.compared(body, comparison, visitor.uri.path()),
                    None => body,
                };
                let served = Served::Passed {
                    why: passed,
                    status: parts.status,
                };
                assemble(parts.status, headers, body, served, Backing::Shared)
            }
            Err(error) => {
                self.no_answer(visitor, &error, Delivery::Unknown, Forward::Bypass, config)
            }
        }
    }

    /// Whether to compare an answer with what other visitors got, because it says that it is
    /// for one of them.
    fn comparison(
        &self,
        visitor: &request::Parts,
        passed: Passed,
        (status, headers): (StatusCode, &HeaderMap),
    ) -> Option<Comparison> {
        let is_private = matches!(passed, Passed::Credentials | Passed::Uncacheable)
            && visitor.method == Method::GET
            && status == StatusCode::OK
            && !headers.contains_key(SET_COOKIE)
            && !is_endless(headers)
            && ResponseDirectives::parse(headers).private == response::Scope::Everything;
        let is_short = announced(headers).is_none_or(|length| length <= BODY_MAX as u64);
        if !is_private || !is_short {
            return None;
        }
        let target = (visitor.headers.get(HOST), visitor.uri.to_string());
        let credentials = [COOKIE, AUTHORIZATION].map(|name| {
            let lines = visitor.headers.get_all(name).iter();
            lines.map(|line| line.as_bytes()).collect::<Vec<_>>()
        });
        self.advisor.borrow_mut().answers.begin(target, credentials)
    }

    /// A body that is compared while its visitor reads it.
    fn compared(
        &self,
        body: AnswerBody<P::Body>,
        comparison: Comparison,
        path: &str,
    ) -> AnswerBody<P::Body> {
        let (advisor, platform) = (Rc::clone(&self.advisor), Rc::clone(&self.platform));
        let state = (body, Some(comparison), path.to_owned());
        let pieces = stream::unfold(state, move |(mut body, mut comparison, path)| {
            let (advisor, platform) = (Rc::clone(&advisor), Rc::clone(&platform));
            async move {
                match body.chunk().await {
                    Some(piece) => {
                        comparison = comparison.and_then(|comparison| match &piece {
                            Ok(bytes) => comparison.and(bytes),
                            Err(_) => None,
                        });
                        Some((piece, (body, comparison, path)))
                    }
                    None => {
                        let mut advisor = advisor.borrow_mut();
                        let visitors = advisor.answers.end(comparison?)?;
                        let now = platform.now();
                        let advice = advisor.sees_equal_answers(&path, visitors, now)?;
                        platform.log(&advice.line());
                        None
                    }
                }
            }
        });
        AnswerBody::Stream(pieces.boxed_local())
    }

    /// The answer where the origin has none and nothing stored helps. Where no mark says
    /// when to come back, it is after the pause that follows a first failure.
    pub(super) fn no_answer(
        &self,
        visitor: &request::Parts,
        error: &NoAnswer,
        delivery: Delivery,
        forward: Forward,
        config: &Config,
    ) -> Answer<P::Body> {
        let first = config.origin.retry.delay_max(1);
        let (status, why, pause) = match error {
            NoAnswer::Busy | NoAnswer::Failed(OriginError::TooManyStreams) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Own::OriginBusy,
                self.busy_pause(),
            ),
            NoAnswer::Gone => (StatusCode::SERVICE_UNAVAILABLE, Own::ClientGone, first),
            NoAnswer::Halted(halt) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Own::Halted(halt.by),
                halt.until.since(self.platform.now()),
            ),
            NoAnswer::Failed(OriginError::Timeout) => {
                (StatusCode::GATEWAY_TIMEOUT, Own::OriginTimeout, first)
            }
            NoAnswer::Failed(OriginError::ConnectionAuth) => {
                return self.connection_auth_refused();
            }
            NoAnswer::Failed(OriginError::Denied) => {
                (StatusCode::BAD_GATEWAY, Own::OriginDenied, first)
            }
            NoAnswer::Failed(OriginError::Fields(_)) => {
                (StatusCode::BAD_GATEWAY, Own::FieldsRefused, first)
            }
            NoAnswer::Failed(_) => (StatusCode::BAD_GATEWAY, Own::OriginFailed, first),
        };
        let trouble = Trouble {
            status,
            why,
            forward,
            collapsed: false,
            backing: Backing::Shared,
            pause,
            delivery,
        };
        self.helpless(visitor, config, trouble)
    }

    /// Fills the cell behind a passed answer that might be stored, with the
    /// question: the passed answer itself was made for one visitor.
    pub(super) fn consider_filling(
        self: &Rc<Self>,
        visit: &Visit,
        located: Located,
        passed: Passed,
        answered: &Answered<OriginBody<P::Body>>,
    ) {
        let may_help = match passed {
            Passed::Credentials | Passed::Uncacheable => true,
            Passed::NoQuestion(_)
            | Passed::Encoding
            | Passed::PublishFailing
            | Passed::Validation
            | Passed::RequestNoStore
            | Passed::LongRange
            | Passed::LongPoll
            | Passed::Rule => false,
        };
        // A stream is never stored, whatever it says.
        let may_help = may_help && !is_endless(answered.response.headers());
        if !may_help || visit.parts.method != Method::GET || !self.is_time_to_fill(visit, &located)
        {
            return;
        }
        let asked = Asked {
            headers: &HeaderMap::new(),
            path: path_of(visit.visitor.target()),
            keyed_by_client: located.question.is_keyed_by_client(),
        };
        let storability = storability(
            asked,
            answered.response.status(),
            answered.response.headers(),
            answered.request_time,
            answered.response_time,
            &visit.config.policy,
        );
        let helps = match storability {
            Storability::Store(kept) => {
                !visit.asker.credentials || kept.audience == Audience::Everyone
            }
            Storability::Brief(..) | Storability::DoNotStore(_) => false,
        };
        // Each visitor is passed until it is stored: one request spares many.
        let is_due = passed == Passed::Uncacheable;
        if helps && (is_due || self.audiences.borrow_mut().take_extra()) {
            self.refresh_behind(visit, located, Reason::HitForMiss);
        }
    }

    /// Whether the last attempt to fill the cell is long enough ago.
    fn is_time_to_fill(&self, visit: &Visit, located: &Located) -> bool {
        let now = self.platform.now();
        let most = visit.config.origin.pass;
        let Some(cell) = &located.loaded.cell else {
            return true;
        };
        if let Some(entry) = &cell.entry {
            return now.since(entry.freshness.response_time) >= most;
        }
        match cell.marks.pass {
            None => true,
            Some(pass) => {
                let doublings = pass.times.saturating_sub(1).min(31);
                let pause = HIT_FOR_MISS_PAUSE.saturating_mul(1 << doublings).min(most);
                now.since(pass.since) >= pause
            }
        }
    }
}
