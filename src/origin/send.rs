//! One exchange with the origin: sent once, or twice where the connection ended without an
//! answer.
//!
//! Servers close connections that they have kept for a while, and a request can cross that
//! (RFC 9112 section 9.3.1). Hosts keep connections for later requests, and a component does
//! not see which connection its request goes on. So a GET or HEAD without content is sent
//! once more if its connection ended before any byte of the answer: it changes nothing at
//! the origin. Nothing else is sent twice.
//!
//! Each of the two requests has a slot of the budget, a token of the rate and a line of the
//! log. The breaker is told what became of the second.

use super::body::SharedSlot;
use super::broker::{Admission, Broker};
use super::{LogLine, Slot};
use crate::budget::{Class, Outcome, Report};
use crate::config::Config;
use crate::question::target::path_of;
use crate::world::{OriginError, OriginRequest, Platform, RequestReason};
use futures::future::poll_immediate;
use http::{Method, Response};
use std::pin::pin;
use std::time::Duration;

/// What the log says of a request that is sent once more.
const SENT_AGAIN: &str = "sent-again";

/// A request's right to be sent.
pub(super) struct Turn {
    pub(super) slot: SharedSlot,
    class: Class,
    /// Stands for the path in the breaker.
    target: u32,
    /// Longest wait for the slot of a second request.
    wait: Duration,
}

impl Turn {
    pub(super) fn new(slot: Slot, wait: Duration) -> Self {
        Turn {
            class: slot.class(),
            target: slot.target(),
            slot: SharedSlot::new(slot),
            wait,
        }
    }

    /// The turn of a visitor's request, or of one that fills the cache.
    pub(super) fn under(slot: Slot, config: &Config) -> Self {
        Turn::new(slot, config.wait.budget)
    }
}

/// The failure of a first request. It counts, unless a second one follows.
struct Failure<'a, P: Platform> {
    broker: &'a Broker<P>,
    report: Option<Report>,
}

impl<P: Platform> Drop for Failure<'_, P> {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            self.broker.report(report);
        }
    }
}

impl<P: Platform> Broker<P> {
    /// Sends a request, and once more if it may be, `is_wanted` says so then, and another
    /// slot is there in time.
    pub(super) async fn send(
        &self,
        request: OriginRequest<P::Body>,
        turn: &Turn,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Response<P::Body>, OriginError> {
        let began = self.platform().now();
        turn.slot.spend(began)?;
        let Some(again) = repetition(&request) else {
            return self.send_once(request).await;
        };
        let error = match self.send_once(request).await {
            Err(error @ OriginError::NoHead(_)) => error,
            sent => return sent,
        };
        let took = self.platform().now().since(began);
        if !self.takes_another(turn).await || !is_wanted() {
            return Err(error);
        }
        let line = LogLine {
            reason: turn.class.token(),
            method: again.parts.method.as_str(),
            path: path_of(again.parts.uri.path()),
            named: None,
            status: Err(&error),
            outcome: Some(SENT_AGAIN),
            settled: None,
            took,
        };
        self.platform().log(&line.text(None));
        turn.slot.spend(self.platform().now())?;
        self.send_once(again).await
    }

    async fn send_once(
        &self,
        request: OriginRequest<P::Body>,
    ) -> Result<Response<P::Body>, OriginError> {
        let mut counted = Counted {
            broker: self,
            reason: request.reason,
            outcome: Some(GONE),
        };
        let answered = self.platform().send(request).await;
        counted.outcome = label(&answered);
        answered
    }

    /// Takes the slot of a second request in place of the first one's. It comes with what
    /// each request needs: a token of the rate, and a breaker that lets it go.
    async fn takes_another(&self, turn: &Turn) -> bool {
        let mut failure = Failure {
            broker: self,
            report: None,
        };
        let limit = self.platform().now().plus(turn.wait);
        let mut admission = pin!(self.acquire(turn.class, turn.target, limit));
        // The second request is in the queue before the first one's slot is free, so that
        // this instance does not give the slot back to the store.
        let admission = match poll_immediate(admission.as_mut()).await {
            Some(admission) => admission,
            None => {
                let bad = Outcome::Bad { retry_after: None };
                failure.report = turn.slot.report(bad);
                drop(turn.slot.take());
                admission.await
            }
        };
        match admission {
            Admission::Granted(slot) => {
                failure.report = None;
                turn.slot.replace(slot);
                true
            }
            Admission::Halted(_) | Admission::Busy | Admission::Gone => false,
        }
    }
}

/// A request to the origin. It is counted when it ends, also where its future is dropped.
struct Counted<'a, P: Platform> {
    broker: &'a Broker<P>,
    reason: RequestReason,
    /// What became of it; none if nothing was sent.
    outcome: Option<&'static str>,
}

impl<P: Platform> Drop for Counted<'_, P> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            self.broker.cells().count_sent(self.reason, outcome);
        }
    }
}

/// What becomes of a request for whose answer nobody waits any more.
const GONE: &str = "gone";

/// What became of a request, as the embedded host names it; none if nothing was sent.
fn label<B>(answered: &Result<Response<B>, OriginError>) -> Option<&'static str> {
    match answered {
        Ok(response) => Some(match response.status().as_u16() {
            0..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        }),
        Err(OriginError::Timeout) => Some("timeout"),
        Err(OriginError::Unreachable(_)) => Some("unreachable"),
        Err(OriginError::NoHead(_) | OriginError::Failed(_)) => Some("broken"),
        Err(
            OriginError::NotSent(_)
            | OriginError::Denied
            | OriginError::ConnectionAuth
            | OriginError::TooManyStreams
            | OriginError::Fields(_),
        ) => None,
    }
}

/// The same request once more, where it may be sent twice.
fn repetition<B>(request: &OriginRequest<B>) -> Option<OriginRequest<B>> {
    let is_safe = matches!(request.parts.method, Method::GET | Method::HEAD);
    (is_safe && request.body.is_none()).then(|| OriginRequest {
        reason: request.reason,
        parts: request.parts.clone(),
        body: None,
        connect_timeout: request.connect_timeout,
        first_byte_timeout: request.first_byte_timeout,
        between_bytes_timeout: request.between_bytes_timeout,
        // Other connections that were kept may have ended as well.
        alone: true,
    })
}
