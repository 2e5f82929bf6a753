//! What answers to other requests than fills tell about stored entries: a POST's
//! answer can be one (RFC 9110 section 9.3.3), and a HEAD's tells of one (RFC 9111
//! section 4.3.5).
//!
//! Preset `strict` alone: what is stored here was shaped by one visitor's request,
//! as RFC 9111 allows and preset `uptime` does not.

use super::Shield;
use super::answer_body::AnswerBody;
use super::fetch::{Exchange, Head, HeadSender, Outcome, Start};
use super::fill::Settling;
use crate::cell::Entry;
use crate::cell::transition::Purge;
use crate::cells::{Election, Located};
use crate::config::Config;
use crate::origin::{Answered, OriginBody};
use crate::question::target::path_of;
use crate::question::{Read, Visitor};
use crate::semantics::{
    Asked, HeadUpdate, Preset, Storability, Target, freshen, head_update, storability_of_post,
    strip_connection_fields,
};
use crate::time::Time;
use crate::world::Platform;
use futures::channel::oneshot;
use http::{HeaderMap, Method, Response, StatusCode, request, response};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

/// A request that was forwarded, and when.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    /// What the visitor would ask by a GET.
    visitor: Visitor,
    /// The fields that the visitor sent.
    fields: HeaderMap,
    request_time: Time,
    response_time: Time,
    config: Rc<Config>,
}

impl<P: Platform> Shield<P> {
    /// What is known about a request that was forwarded; none where its answer
    /// tells nothing about entries.
    pub(super) fn forwarded(
        &self,
        visitor: &request::Parts,
        answered: &Answered<OriginBody<P::Body>>,
        config: &Rc<Config>,
    ) -> Option<Forwarded> {
        if config.policy.preset != Preset::Strict {
            return None;
        }
        let origin = self.door.origin();
        match Visitor::read(visitor, false, origin, &config.key, &config.request) {
            Read::Question(read) => Some(Forwarded {
                visitor: *read,
                fields: visitor.headers.clone(),
                request_time: answered.request_time,
                response_time: answered.response_time,
                config: Rc::clone(config),
            }),
            Read::Pass(_) | Read::Misdirected | Read::Invalid => None,
        }
    }

    /// Stores the answer to a POST for later GETs, if it says that it may be.
    /// Gives the answer back, to be read while it is stored.
    pub(super) async fn keep_post(
        self: &Rc<Self>,
        forwarded: Forwarded,
        target: Target<'_>,
        response: Response<OriginBody<P::Body>>,
    ) -> (response::Parts, AnswerBody<P::Body>, bool) {
        let asked = Asked {
            headers: &forwarded.fields,
            path: path_of(target.path_and_query),
            keyed_by_client: false,
        };
        let storability = storability_of_post(
            target,
            asked,
            response.status(),
            response.headers(),
            forwarded.request_time,
            forwarded.response_time,
            &forwarded.config.policy,
        );
        let hand_on = |response: Response<OriginBody<P::Body>>| {
            let (parts, body) = response.into_parts();
            let body = self.to_visitor(&parts.headers, body, &forwarded.config);
            (parts, body, false)
        };
        let mut kept = match storability {
            Storability::Store(kept) => kept,
            Storability::Brief(..) | Storability::DoNotStore(_) => return hand_on(response),
        };
        // Another may hold the lease: its answer is as good.
        let located = self.cells.locate(&forwarded.visitor, false).await;
        let Election::Held(held) = self.cells.elect(&located).await else {
            return hand_on(response);
        };
        // The lease was taken after the exchange, so a purge in between could not
        // revoke it. An invalidation may be the request's own.
        let marks = held.marks();
        let purges = [marks.purged, marks.softened];
        if self.cells.predates(forwarded.request_time, &purges) {
            self.cells.release(held).await;
            return hand_on(response);
        }
        self.spread(&mut kept.freshness, &forwarded.config);
        let (head, receiver) = oneshot::channel();
        let shield = Rc::clone(self);
        self.platform.spawn(async move {
            let mut held = held;
            let loaded = held.loaded.clone();
            let acts_until = Cell::new(shield.cells.acts_until(&held));
            let done = Rc::clone(&held.done);
            let (outcome, fenced) = {
                let start = Start {
                    loaded: &loaded,
                    holder: held.holder,
                    acts_until: &acts_until,
                    done: &done,
                    shared: None,
                    question: &located.question,
                    named: None,
                    config: &forwarded.config,
                };
                let exchange = forwarded.exchange();
                let mut head = HeadSender::new(head);
                let (parts, body) = response.into_parts();
                let keeping = pin!(shield.keep(&start, &exchange, (parts, body), kept, &mut head));
                shield.renewing(&mut held, &acts_until, keeping).await
            };
            if fenced.is_none() {
                // An answer that is not stored says nothing about what a GET gets.
                match outcome {
                    Outcome::Store(_) => {
                        let settling = forwarded.settling(&located);
                        shield.settle(held, settling, outcome).await;
                    }
                    Outcome::Pass(_)
                    | Outcome::Fail { .. }
                    | Outcome::Release(_)
                    | Outcome::Unpublished => {
                        shield.cells.release(held).await;
                    }
                }
            }
        });
        match receiver.await {
            Ok(Head::Response(fetched)) => {
                let is_stored = fetched.not_kept.is_none();
                (fetched.parts, fetched.body, is_stored)
            }
            // A body that is kept is always handed on.
            Ok(Head::Entry(..) | Head::Failed(..) | Head::Doubted) | Err(_) => {
                let mut parts = Response::new(()).into_parts().0;
                parts.status = StatusCode::BAD_GATEWAY;
                (parts, AnswerBody::Empty, false)
            }
        }
    }

    /// Brings an entry up to date with the answer to a HEAD, behind the answer.
    /// Never makes an entry.
    pub(super) fn note_head(
        self: &Rc<Self>,
        visitor: &request::Parts,
        answered: &Answered<OriginBody<P::Body>>,
        config: &Rc<Config>,
    ) {
        if visitor.method != Method::HEAD || answered.response.status() != StatusCode::OK {
            return;
        }
        let Some(forwarded) = self.forwarded(visitor, answered, config) else {
            return;
        };
        let (shield, mut headers) = (Rc::clone(self), answered.response.headers().clone());
        self.platform.spawn(async move {
            let located = shield.cells.locate(&forwarded.visitor, false).await;
            let Some(entry) = located.loaded.entry() else {
                return;
            };
            if entry.status != StatusCode::OK {
                return;
            }
            match head_update(&entry.headers, entry.body.len(), &headers) {
                HeadUpdate::Unknown => {}
                HeadUpdate::Outdated => {
                    let key = forwarded.visitor.key().to_owned();
                    shield.cells.purge(key, Purge::Soft).await;
                }
                HeadUpdate::Freshen => {
                    strip_connection_fields(&mut headers);
                    let preset = forwarded.config.policy.preset;
                    let headers = freshen(&entry.headers, &headers, preset);
                    let entry = entry.clone();
                    shield.freshen(&forwarded, located, entry, headers).await;
                }
            }
        });
    }

    async fn freshen(
        self: &Rc<Self>,
        forwarded: &Forwarded,
        located: Located,
        entry: Entry,
        headers: HeaderMap,
    ) {
        let Election::Held(held) = self.cells.elect(&located).await else {
            return;
        };
        // As for a POST: the purge came first.
        let marks = held.marks();
        let purges = [marks.purged, marks.softened, marks.invalidated];
        if self.cells.predates(forwarded.request_time, &purges) {
            self.cells.release(held).await;
            return;
        }
        let acts_until = Cell::new(self.cells.acts_until(&held));
        let done = Rc::clone(&held.done);
        let loaded = held.loaded.clone();
        let start = Start {
            loaded: &loaded,
            holder: held.holder,
            acts_until: &acts_until,
            done: &done,
            shared: None,
            question: &located.question,
            named: None,
            config: &forwarded.config,
        };
        let exchange = forwarded.exchange();
        let kept = match self.storability(&start, &exchange, entry.status, &headers) {
            Storability::Store(kept) => kept,
            Storability::Brief(..) | Storability::DoNotStore(_) => {
                self.cells.release(held).await;
                return;
            }
        };
        let entry = Entry {
            headers: self.storable_fields(headers, entry.status, &forwarded.config),
            body: entry.body,
            under: entry.under,
            ..self.entry(&start, &exchange, entry.status, kept)
        };
        let outcome = Outcome::Store(Box::new(entry));
        self.settle(held, forwarded.settling(&located), outcome)
            .await;
    }
}

impl Forwarded {
    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            asked: &self.fields,
            began: self.request_time,
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }

    fn settling<'a>(&'a self, located: &'a Located) -> Settling<'a> {
        Settling {
            key: self.visitor.key(),
            question: &located.question,
            known: &located.vary,
            config: &self.config,
            removed: &[],
        }
    }
}
