//! The right to have one request in flight at the origin, as a value.

use super::tokens::Token;
use crate::budget::{Class, Outcome, Report};
use crate::time::Time;
use crate::world::OriginError;
use std::fmt;
use std::rc::Rc;

/// Where slots come from and go back to.
pub(super) trait Pool {
    /// A slot is no longer in use, nor a token that it has.
    fn give_back(&self, grant: u64, class: Class, token: Option<Token>);

    /// The request of a token is sent.
    fn spend(&self, token: Token);

    /// A slot is used for an answer that does not end. Returns `false` if there are too
    /// many.
    fn become_stream(&self, grant: u64, class: Class) -> bool;
}

/// The right to have one request in flight at the origin. The request and the body of its
/// answer keep it. When it is dropped, another request of the instance may go. If
/// the instance dies, the slot expires.
pub struct Slot {
    pool: Rc<dyn Pool>,
    grant: u64,
    class: Class,
    /// A hash of the path that it was taken for.
    target: u32,
    /// The breaker's epoch in which it was taken.
    epoch: u32,
    /// The token of the rate, until the request is sent; none without a rate.
    token: Option<Token>,
}

impl Slot {
    pub(super) fn new(
        pool: Rc<dyn Pool>,
        grant: u64,
        (class, target): (Class, u32),
        epoch: u32,
        token: Option<Token>,
    ) -> Self {
        Slot {
            pool,
            grant,
            class,
            target,
            epoch,
            token,
        }
    }

    /// Takes the request's token of the rate: the request is sent at `now`. Whoever gives
    /// the slot back without this gives the token back as well.
    ///
    /// # Errors
    ///
    /// If the token is too old: an hour could get one request too many.
    pub(super) fn spend(&mut self, now: Time) -> Result<(), OriginError> {
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.has_lapsed(now))
        {
            let why = "it waited too long for its turn of `origin.max_per_hour`";
            return Err(OriginError::NotSent(why.to_owned()));
        }
        if let Some(token) = self.token.take() {
            self.pool.spend(token);
        }
        Ok(())
    }

    /// A hash of the path that it was taken for.
    pub(super) fn target(&self) -> u32 {
        self.target
    }

    /// What it was taken for, or a stream.
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Whether it counts in `origin.max_streams`.
    pub(super) fn is_stream(&self) -> bool {
        self.class == Class::Stream
    }

    /// What became of the request.
    pub(super) fn report(&self, outcome: Outcome) -> Report {
        Report {
            outcome,
            target: self.target,
            epoch: self.epoch,
        }
    }

    /// Counts the request as one without an end: from now on it counts in
    /// `origin.max_streams` and not in the budget. Returns `false` if there are
    /// too many of them.
    pub(crate) fn become_stream(&mut self) -> bool {
        if self.is_stream() {
            return true;
        }
        let may = self.pool.become_stream(self.grant, self.class);
        if may {
            self.class = Class::Stream;
        }
        may
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool
            .give_back(self.grant, self.class, self.token.take());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}
