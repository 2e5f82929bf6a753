//! What answers to other methods than GET do to stored entries: a POST's can be
//! one (RFC 9110, 9.3.3), and a HEAD's tells of one (RFC 9111, 4.3.5).

use super::Shield;
use super::answer::AnswerBody;
use super::cells::Election;
use super::exchange::{Fetched, Fill, Head, HeadSender, Outcome};
use super::platform::Platform;
use crate::cell::Entry;
use crate::cell::transition::Purge;
use crate::semantics::{
    Freshness, HeadUpdate, Storability, Target, freshen, head_update, storability_of_post,
    strip_connection_fields,
};
use crate::time::Time;
use futures::channel::oneshot;
use http::{HeaderMap, Method, Response, StatusCode, request, response};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

/// A request that was forwarded, and when.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    /// As the visitor sent it.
    pub(super) visitor: request::Parts,
    /// The fields that the origin got.
    pub(super) request_headers: HeaderMap,
    pub(super) request_time: Time,
    pub(super) response_time: Time,
    /// The key of its target.
    pub(super) key: String,
}

impl<P: Platform> Shield<P> {
    /// Stores the answer to a POST for later GETs, if it says that it may be.
    /// Gives the answer back, to be read while it is stored.
    pub(super) async fn keep_post(
        self: &Rc<Self>,
        forwarded: &Forwarded,
        target: Target<'_>,
        response: Response<P::Body>,
    ) -> (response::Parts, AnswerBody<P::Body>, bool) {
        let storability = storability_of_post(
            target,
            &forwarded.request_headers,
            response.status(),
            response.headers(),
            forwarded.request_time,
            forwarded.response_time,
            &self.config.policy,
        );
        let mut freshness = match storability {
            Storability::Store(freshness) => freshness,
            Storability::DoNotStore(_) => return hand_on(response),
        };
        // Others may be at the key: what they get is as good.
        let Election::Held(held) = self.elect(&self.load(&forwarded.key).await).await else {
            return hand_on(response);
        };
        // The lease was taken after the exchange, so a purge in between could not
        // revoke it. An invalidation may be the request's own.
        let marks = held.marks();
        if self.predates(forwarded.request_time, &[marks.purged, marks.softened]) {
            self.release(held).await;
            return hand_on(response);
        }
        self.spread(&mut freshness);
        let (head, receiver) = oneshot::channel();
        let (shield, forwarded) = (Rc::clone(self), forwarded.clone());
        self.platform.spawn(async move {
            let mut held = held;
            let loaded = held.loaded.clone();
            let acts_until = Cell::new(shield.acts_until(&held));
            let (outcome, fenced) = {
                let fill = Fill {
                    loaded: &loaded,
                    holder: held.holder,
                    acts_until: &acts_until,
                    visitor: &forwarded.visitor,
                    on_error: false,
                };
                let fetched = forwarded.under(held.holder);
                let mut head = HeadSender(Some(head));
                let keeping = pin!(shield.keep(&fill, &fetched, response, freshness, &mut head));
                shield.renewing(&mut held, &acts_until, keeping).await
            };
            if fenced.is_none() {
                shield.settle_post(held, &forwarded, outcome).await;
            }
        });
        match receiver.await {
            Ok(Head::Response(parts, body, stored)) => (parts, body, stored),
            // A body that is kept is always handed on.
            Ok(Head::Entry(..) | Head::Failed) | Err(_) => {
                let mut parts = Response::new(()).into_parts().0;
                parts.status = StatusCode::BAD_GATEWAY;
                (parts, AnswerBody::Empty, false)
            }
        }
    }

    async fn settle_post(
        &self,
        held: Box<super::cells::Held>,
        forwarded: &Forwarded,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Store(_) => {
                self.settle_outcome(held, &forwarded.key, &forwarded.visitor, outcome, &[])
                    .await;
            }
            // It says nothing about what a GET would get.
            Outcome::Pass(_) | Outcome::Failed(_) | Outcome::Unstored(_) => {
                self.release(held).await;
            }
        }
    }

    /// Brings the entry of a key up to date with the answer to a HEAD, behind
    /// the answer. Never makes one.
    pub(super) fn note_head(self: &Rc<Self>, forwarded: Forwarded, answer: &response::Parts) {
        if forwarded.visitor.method != Method::HEAD || answer.status != StatusCode::OK {
            return;
        }
        let (shield, mut headers) = (Rc::clone(self), answer.headers.clone());
        self.platform.spawn(async move {
            let loaded = shield.load(&forwarded.key).await;
            let Some(entry) = loaded.entry() else { return };
            if entry.status != StatusCode::OK {
                return;
            }
            match head_update(&entry.headers, entry.body.len(), &headers) {
                HeadUpdate::Unknown => {}
                HeadUpdate::Outdated => {
                    shield.purge(forwarded.key, Purge::Soft).await;
                }
                HeadUpdate::Freshen => {
                    strip_connection_fields(&mut headers);
                    let headers = freshen(&entry.headers, &headers);
                    let entry = entry.clone();
                    shield.freshen(&forwarded, loaded, entry, headers).await;
                }
            }
        });
    }

    async fn freshen(
        &self,
        forwarded: &Forwarded,
        loaded: super::cells::Loaded,
        entry: Entry,
        headers: HeaderMap,
    ) {
        let Election::Held(held) = self.elect(&loaded).await else {
            return;
        };
        // As for a POST: the purge came first.
        let marks = held.marks();
        let purges = [marks.purged, marks.softened, marks.invalidated];
        if self.predates(forwarded.request_time, &purges) {
            self.release(held).await;
            return;
        }
        let fetched = forwarded.under(held.holder);
        let freshness: Freshness = match self.storability(&fetched, entry.status, &headers) {
            Storability::Store(freshness) => freshness,
            Storability::DoNotStore(_) => {
                self.release(held).await;
                return;
            }
        };
        let entry = Entry {
            headers: self.storable_headers(headers),
            body: entry.body,
            ..self.entry(&fetched, entry.status, freshness)
        };
        let (key, visitor) = (&forwarded.key, &forwarded.visitor);
        self.settle_outcome(held, key, visitor, Outcome::Store(Box::new(entry)), &[])
            .await;
    }
}

impl Forwarded {
    fn under(&self, holder: crate::cell::Nonce) -> Fetched<'_> {
        Fetched {
            holder,
            request_headers: &self.request_headers,
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }
}

fn hand_on<B>(response: Response<B>) -> (response::Parts, AnswerBody<B>, bool) {
    let (parts, body) = response.into_parts();
    (parts, AnswerBody::Origin(body), false)
}
