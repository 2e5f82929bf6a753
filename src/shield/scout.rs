//! Scouts: visitors with credentials who go to the origin first where nothing is known of
//! their question.
//!
//! A question that is asked for a visitor with credentials costs a second request if its
//! answer is not for everyone. So the first such visitor of an instance is forwarded as it
//! is, as it would be without a shield. The head of the answer says whom answers are for.
//! The answer goes to its visitor alone and is never stored. Others with credentials who
//! come meanwhile wait for that head, for a moment. Visitors without credentials do not.

use super::audiences::{Area, Order};
use super::fetch::Reason;
use super::flight::{Flight, Role};
use super::request::Visit;
use super::served::Passed;
use super::{Answer, Shield};
use crate::cells::Located;
use crate::config::Config;
use crate::origin::{Answered, OriginBody};
use crate::question::Visitor;
use crate::question::target::path_of;
use crate::semantics::{
    Asked, Audience, Preset, Storability, has_static_extension, is_endless, is_transient,
    storability,
};
use crate::time::Time;
use crate::world::Platform;
use http::{HeaderMap, Method, StatusCode, request};
use std::rc::Rc;
use std::time::Duration;

/// How long a visitor waits for the head of another's answer before it goes itself: a slow
/// page would take each of them as long again.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the head of a scout's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Answers are for everyone: ask the question.
    ForEveryone,
    /// They are not.
    ForItsVisitor,
}

/// What a visitor with credentials does where nothing is known of its question.
pub(super) enum Scouting<W> {
    /// It goes to the origin, and tells those who wait for the flight.
    Go(Flight<W, Heard>),
    /// It goes to the origin: its answer is not for everyone, or it has waited enough.
    Pass,
    /// The answer to the question is for everyone.
    Ask,
}

impl<P: Platform> Shield<P> {
    /// Whether a visitor goes to the origin itself where nothing is known of its question.
    pub(super) fn goes_first(
        &self,
        parts: &request::Parts,
        visitor: &Visitor,
        config: &Rc<Config>,
        now: Time,
    ) -> bool {
        let is_get = matches!(parts.method, Method::GET | Method::HEAD);
        let may_go = config.policy.preset == Preset::Uptime && is_get && visitor.has_credentials();
        let order = |key| {
            let area = area_of(visitor, config);
            self.audiences.borrow().order(key, area, now)
        };
        may_go && order(visitor.key()) == Order::Scout
    }

    /// Goes first, or waits for the one that does.
    pub(super) async fn scout(&self, visit: &Visit, located: &Located) -> Scouting<P::Wake> {
        match self
            .scouts
            .join(&located.loaded.id, || self.platform.signal())
        {
            Role::Leader(flight) => Scouting::Go(flight),
            Role::Follower(ended, handed) => {
                let limit = self.platform.now().plus(PATIENCE).min(visit.deadline);
                if handed.get().is_none() {
                    self.until(ended, limit).await;
                }
                match handed.get() {
                    Some(Heard::ForEveryone) => Scouting::Ask,
                    Some(Heard::ForItsVisitor) | None => Scouting::Pass,
                }
            }
        }
    }

    /// Forwards a visit, and has its key and those who wait learn from the head.
    pub(super) async fn go_first(
        self: &Rc<Self>,
        mut visit: Visit,
        located: Located,
        flight: Flight<P::Wake, Heard>,
    ) -> Answer<P::Body> {
        let (passed, config) = (Passed::Credentials, Rc::clone(&visit.config));
        let answered = self.send_visit(&mut visit, passed).await;
        let stored = (None, &located);
        if let Some(answer) = self.in_place_of(&answered, &visit, stored).await {
            return answer;
        }
        let heard = answered
            .as_ref()
            .ok()
            .and_then(|answered| heard(&visit, answered));
        if let Some(heard) = heard {
            flight.hand_over(heard);
            self.learn(&visit, heard == Heard::ForEveryone);
        }
        drop(flight);
        // A scout sends what its visitor sent. An origin that refuses that says nothing about
        // others, who would be passed for as long as the mark holds.
        let is_refused = answered
            .as_ref()
            .is_ok_and(|answered| answered.response.status().is_client_error());
        match heard {
            Some(Heard::ForItsVisitor) if !is_refused => self.pass_credentials_behind(&visit),
            Some(Heard::ForEveryone)
                if visit.parts.method == Method::GET
                    && self.audiences.borrow_mut().take_extra() =>
            {
                self.refresh_behind(&visit, located, Reason::HitForMiss);
            }
            // Where no other waits for the question, the next visitor asks it, of whatever
            // instance.
            Some(Heard::ForEveryone) => self.note_for_everyone_behind(&visit),
            Some(_) | None => {}
        }
        self.passed_answer(&visit.parts, passed, answered, &config)
    }

    /// Remembers whom the answer to a visit is for.
    pub(super) fn learn(&self, visit: &Visit, for_everyone: bool) {
        let area = area_of(&visit.visitor, &visit.config);
        let (key, now) = (visit.visitor.key(), self.platform.now());
        self.audiences
            .borrow_mut()
            .note(key, area, for_everyone, now);
    }

    /// Has the key pass visitors with credentials, behind the answer.
    fn pass_credentials_behind(self: &Rc<Self>, visit: &Visit) {
        let until = self.platform.now().plus(visit.config.origin.pass);
        let (cells, key) = (Rc::clone(&self.cells), visit.visitor.key().to_owned());
        self.platform.spawn(async move {
            cells.pass_credentials(&key, until).await;
        });
    }

    /// Has the next visitor with credentials ask the question. Behind the answer: an
    /// instance may end with its request, and another knows only what the store keeps.
    fn note_for_everyone_behind(self: &Rc<Self>, visit: &Visit) {
        let until = self.platform.now().plus(visit.config.origin.pass);
        let (cells, key) = (Rc::clone(&self.cells), visit.visitor.key().to_owned());
        self.platform.spawn(async move {
            cells.note_for_everyone(&key, until).await;
        });
    }
}

fn area_of<'a>(visitor: &'a Visitor, config: &Rc<Config>) -> Area<'a> {
    let path = path_of(visitor.target());
    // The settings of a rule stay where they are.
    let rule = Rc::as_ptr(config).addr();
    Area::of(path, rule, has_static_extension(path))
}

/// What the head of an answer says; none where it says that the origin fails, or answers a
/// condition or a range of its visitor's.
fn heard<B>(visit: &Visit, answered: &Answered<OriginBody<B>>) -> Option<Heard> {
    let (status, headers) = (answered.response.status(), answered.response.headers());
    let is_about_the_request = matches!(
        status,
        StatusCode::NOT_MODIFIED
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::PRECONDITION_FAILED
            | StatusCode::RANGE_NOT_SATISFIABLE
    );
    if is_transient(status) || is_about_the_request {
        return None;
    }
    let asked = Asked {
        headers: &HeaderMap::new(),
        path: path_of(visit.visitor.target()),
        keyed_by_client: false,
    };
    let storability = storability(
        asked,
        status,
        headers,
        answered.request_time,
        answered.response_time,
        &visit.config.policy,
    );
    let for_everyone = match storability {
        Storability::Store(kept) => kept.audience == Audience::Everyone && !is_endless(headers),
        Storability::Brief(..) | Storability::DoNotStore(_) => false,
    };
    Some(match for_everyone {
        true => Heard::ForEveryone,
        false => Heard::ForItsVisitor,
    })
}
