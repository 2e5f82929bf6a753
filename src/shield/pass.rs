//! Requests that are forwarded with their own fields: GETs and HEADs that no entry
//! can answer. Their answers are never stored and never given to another visitor.

use super::answer::assemble;
use super::answer_body::AnswerBody;
use super::fetch::Reason;
use super::request::{Visit, address_of};
use super::served::{Own, Passed, Served};
use super::{Answer, Shield};
use crate::cells::{Backing, Located};
use crate::config::Config;
use crate::origin::{Answered, Forwarding, LogLine};
use crate::question::location;
use crate::question::target::path_of;
use crate::semantics::{
    Asked, Audience, Forward, Storability, is_endless, storability, strip_connection_fields,
};
use crate::world::{OriginError, Platform};
use http::{HeaderMap, Method, StatusCode, request};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The least time between two attempts to fill a cell because a passed answer
/// might be stored. It doubles with each pass mark in a row.
const HIT_FOR_MISS_PAUSE: Duration = Duration::from_secs(1);

/// A request that is passed.
pub(super) struct Passing<'a, B> {
    pub(super) parts: &'a request::Parts,
    pub(super) body: Option<B>,
    pub(super) address: Option<IpAddr>,
    pub(super) passed: Passed,
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
    ) -> Answer<P::Body> {
        let passing = Passing {
            parts,
            body,
            address: address.or_else(|| address_of(parts)),
            passed,
        };
        let answered = self.send_pass(passing, config).await;
        self.passed_answer(parts, passed, answered)
    }

    /// Sends a request with its own fields.
    pub(super) async fn send_pass(
        &self,
        passing: Passing<'_, P::Body>,
        config: &Config,
    ) -> Result<Answered<P::Body>, OriginError> {
        let began = self.platform.now();
        let forwarding = Forwarding {
            parts: passing.parts,
            body: passing.body,
            address: passing.address,
        };
        let mut answered = self.door.forward(forwarding, config).await;
        self.door.log(&LogLine {
            reason: "pass",
            method: passing.parts.method.as_str(),
            path: passing.parts.uri.path(),
            status: answered
                .as_ref()
                .map(|answered| Some(answered.response.status())),
            outcome: Some(passing.passed.token()),
            settled: None,
            took: self.platform.now().since(began),
        });
        if let Ok(answered) = &mut answered {
            location::rewrite(answered.response.headers_mut(), self.door.origin());
        }
        answered
    }

    /// The answer to a request that was passed.
    pub(super) fn passed_answer(
        &self,
        visitor: &request::Parts,
        passed: Passed,
        answered: Result<Answered<P::Body>, OriginError>,
    ) -> Answer<P::Body> {
        match answered {
            Ok(answered) => {
                let (parts, body) = answered.response.into_parts();
                let mut headers = parts.headers;
                strip_connection_fields(&mut headers);
                let body = match visitor.method == Method::HEAD {
                    true => AnswerBody::Empty,
                    false => AnswerBody::Origin(body),
                };
                let served = Served::Passed {
                    why: passed,
                    status: parts.status,
                };
                assemble(parts.status, headers, body, served, Backing::Shared)
            }
            Err(error) => self.no_answer(&error, Forward::Bypass),
        }
    }

    /// The answer where the origin has none and nothing stored helps.
    pub(super) fn no_answer(&self, error: &OriginError, forward: Forward) -> Answer<P::Body> {
        let (status, why) = match error {
            OriginError::Timeout => (StatusCode::GATEWAY_TIMEOUT, Own::OriginTimeout),
            OriginError::Failed(_) | OriginError::NotSent(_) => {
                (StatusCode::BAD_GATEWAY, Own::OriginFailed)
            }
        };
        let served = Served::Own {
            why,
            forward: Some(forward),
            collapsed: false,
        };
        self.plain(
            status,
            "the origin did not answer",
            served,
            Backing::Shared,
            None,
        )
    }

    /// Fills the cell behind a passed answer that might be stored, with the
    /// question: the passed answer itself was made for one visitor.
    pub(super) fn consider_filling(
        self: &Rc<Self>,
        visit: &Visit,
        located: Located,
        passed: Passed,
        answered: &Answered<P::Body>,
    ) {
        let may_help = match passed {
            Passed::Credentials | Passed::Uncacheable => true,
            Passed::NoQuestion(_)
            | Passed::Encoding
            | Passed::Validation
            | Passed::RequestNoStore
            | Passed::LongRange => false,
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
        if helps {
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
