//! A visitor's request, from its head to the end of the answer.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Instant;

use http::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use leeward::events;
use leeward::shield::platform::RequestId;
use leeward::shield::refusals::Cause;

use super::access::Entry;
use super::{Observed, log, now, observed};
use leeward::shield::outcome::{Outcome, outcome_of};

/// A visitor's request. It is counted when the head of its answer is there, and written to
/// the access log when the answer has ended.
#[derive(Debug)]
pub(crate) struct Visitor {
    id: RequestId,
    began: Instant,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    /// What only the access log has.
    asked: Option<Asked>,
    /// None before the head of the answer.
    answered: Option<Answered>,
    /// Bytes of content that were handed to the connection.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Asked {
    client: IpAddr,
    version: Version,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
}

#[derive(Debug)]
struct Answered {
    status: u16,
    outcome: Outcome,
    why: Option<&'static str>,
}

impl Visitor {
    /// The head of a request has come.
    pub(crate) fn begin<B>(request: &Request<B>, client: IpAddr) -> Self {
        let observed = observed();
        if let Some(observed) = observed {
            observed.metrics.asked();
        }
        let fields = request.headers();
        let is_written = observed.is_some_and(|observed| observed.access.is_some());
        Visitor {
            id: RequestId(fastrand::u64(..)),
            began: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: fields.get(HOST).cloned(),
            asked: is_written.then(|| Asked {
                client: client.to_canonical(),
                version: request.version(),
                referer: fields.get(REFERER).cloned(),
                agent: fields.get(USER_AGENT).cloned(),
            }),
            answered: None,
            bytes: 0,
        }
    }

    /// Its name in the log.
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// The path that it asked for.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The head of its answer is there. `says_refused` says whether a visitor that was refused
    /// is to be in the log.
    pub(crate) fn answer<B>(&mut self, response: &Response<B>, says_refused: bool) {
        let (outcome, cause) = outcome_of(response.headers());
        let Some(observed) = observed() else {
            return;
        };
        observed.metrics.answered(outcome, self.began.elapsed());
        if let Some(cause) = cause {
            observed.metrics.refused(cause);
            if says_refused {
                self.say_refused(observed, cause, response.status());
            }
        }
        self.answered = Some(Answered {
            status: response.status().as_u16(),
            outcome,
            why: cause.map(|cause| cause.why),
        });
    }

    fn say_refused(&self, observed: &Observed, cause: &'static Cause, status: StatusCode) {
        let now = now();
        let mut refusals = observed
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let tally = refusals.note(cause, status, now);
        drop(refusals);
        if let Some(tally) = tally {
            let request = vec![
                ("method", self.method.as_str().into()),
                ("url", self.url().into()),
                ("request", self.id.to_string().into()),
            ];
            log::component_line(&tally.line(request, now));
        }
    }

    fn url(&self) -> String {
        let mut fields = HeaderMap::new();
        if let Some(host) = &self.host {
            fields.insert(HOST, host.clone());
        }
        events::url(&self.uri, &fields)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let Some(observed) = observed() else {
            return;
        };
        let Some(answered) = &self.answered else {
            let after = self.began.elapsed();
            observed.metrics.answered(Outcome::Gone, after);
            return;
        };
        let (Some(access), Some(asked)) = (&observed.access, &self.asked) else {
            return;
        };
        let target = self.uri.path_and_query().map_or("/", |it| it.as_str());
        access.write(&Entry {
            time: now(),
            client: asked.client,
            method: self.method.as_str(),
            target,
            host: self.host.as_ref(),
            version: asked.version,
            status: answered.status,
            bytes: self.bytes,
            took: self.began.elapsed(),
            outcome: answered.outcome.name(),
            why: answered.why,
            request: self.id,
            referer: asked.referer.as_ref(),
            agent: asked.agent.as_ref(),
        });
    }
}
