//! The request that checks whether the origin works at all ([`crate::budget::Checks`]).

use crate::budget::{KnownGood, Outcome};
use crate::config::Config;
use crate::question::{self, Origin, Outgoing};
use crate::semantics::LoopId;
use crate::time::Time;
use crate::world::{OriginError, OriginRequest, RequestReason};
use http::{HeaderValue, Response};
use std::time::Duration;

/// What is needed to ask for a page that worked.
#[derive(Debug)]
pub(super) struct Checker {
    origin: Origin,
    user_agent: HeaderValue,
    via: Option<&'static str>,
    loop_id: LoopId,
    connect_timeout: Duration,
}

impl Checker {
    pub(super) fn new(origin: &Origin, loop_id: LoopId, config: &Config) -> Self {
        Checker {
            origin: origin.clone(),
            user_agent: config.origin.user_agent.clone(),
            via: config.origin.via.then_some(super::PSEUDONYM),
            loop_id,
            connect_timeout: config.origin.connect_timeout,
        }
    }

    /// The request, to be answered within `timeout`.
    pub(super) fn request<B>(
        &self,
        page: &KnownGood,
        timeout: Duration,
    ) -> Result<OriginRequest<B>, OriginError> {
        let outgoing = Outgoing {
            user_agent: &self.user_agent,
            via: self.via,
            loop_id: self.loop_id,
        };
        let (path, host) = (page.path(), page.host());
        let parts = question::page(&self.origin, path, host, page.is_secure(), outgoing)
            .map_err(|error| OriginError::NotSent(error.to_string()))?;
        Ok(OriginRequest {
            reason: RequestReason::Check,
            parts,
            body: None,
            connect_timeout: self.connect_timeout.min(timeout),
            first_byte_timeout: timeout,
            between_bytes_timeout: timeout,
            alone: false,
        })
    }
}

/// What the breaker is told of the answer to a check.
pub(super) fn checked<B>(answered: &Result<Response<B>, OriginError>, now: Time) -> Outcome {
    match super::outcome(answered, now, false) {
        Some(Outcome::Good) => Outcome::CheckPassed,
        Some(Outcome::Bad { retry_after }) => Outcome::CheckFailed { retry_after },
        _ => Outcome::CheckFailed { retry_after: None },
    }
}
