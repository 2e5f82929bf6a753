//! The tokens of the rate that one instance has reserved ([`crate::budget::Rate`]).
//!
//! A request that gets a slot gets a token with it, and spends it when it is sent. One
//! that is not sent returns it: another request of the instance may have it, or the next
//! write of the record gives it back.

use crate::budget::{Class, PerClass, Rate, RateLimit, TOKEN_KEPT};
use crate::cell::Nonce;
use crate::cells::Backing;
use crate::time::Time;
use std::time::Duration;

/// How long after the moment for which a token was reserved a request gets it. What is left
/// of [`TOKEN_KEPT`] is for the election that the request may have to win.
const GIVEN_FOR: Duration = Duration::from_secs(10);

/// The right to send one request of the hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// The reservation.
    id: Nonce,
    /// The class of the request.
    class: Class,
    /// The class from whose bucket it is.
    from: Class,
    taken: Time,
}

impl Token {
    /// Whether it is too old to send a request with it at `now`.
    pub(super) fn has_lapsed(&self, now: Time) -> bool {
        !self.taken.was_within(TOKEN_KEPT, now)
    }
}

/// For requests of which class, and from the bucket of which class.
pub(super) type Taken = PerClass<PerClass<u32>>;

/// What is left of one reservation.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    id: Nonce,
    backing: Backing,
    taken: Time,
    /// No request has them.
    free: Taken,
    /// Requests have them that are not sent yet, by bucket.
    given: PerClass<u32>,
    /// Their requests were sent, and the record does not say so, by bucket.
    used: PerClass<u32>,
    /// The record has more.
    differs: bool,
}

impl Reserved {
    fn is_over(&self, now: Time) -> bool {
        let is_empty = !self.differs && self.kept().is_empty() && self.used.is_empty();
        is_empty || (self.given.is_empty() && !self.taken.was_within(TOKEN_KEPT, now))
    }

    /// What may still be sent, by bucket.
    fn kept(&self) -> PerClass<u32> {
        let mut kept = self.given;
        for class in Class::COUNTED {
            for from in Class::COUNTED {
                add(kept.of_mut(from), *self.free.of(class).of(from));
            }
        }
        kept
    }
}

/// All tokens of an instance.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// One at least of each is not accounted for, or was reserved within [`TOKEN_KEPT`].
    reserved: Vec<Reserved>,
    /// When one last became free.
    idle_since: Time,
}

/// What a draft says of the tokens of an instance.
pub(super) type Settled = Vec<(Nonce, PerClass<u32>)>;

impl Tokens {
    /// How many requests of a class may have one at `now`.
    pub(super) fn free(&self, class: Class, now: Time) -> u32 {
        let live = self
            .reserved
            .iter()
            .filter(|reserved| is_given(reserved, now));
        live.fold(0, |sum: u32, reserved| {
            sum.saturating_add(reserved.free.of(class).counted())
        })
    }

    /// Gives one to a request.
    pub(super) fn give(&mut self, class: Class, now: Time) -> Option<Token> {
        let mut live = self
            .reserved
            .iter_mut()
            .filter(|reserved| is_given(reserved, now));
        let reserved = live.find(|reserved| !reserved.free.of(class).is_empty())?;
        let free = reserved.free.of_mut(class);
        let from = Class::COUNTED
            .into_iter()
            .find(|from| *free.of(*from) > 0)?;
        subtract(free.of_mut(from), 1);
        add(reserved.given.of_mut(from), 1);
        Some(Token {
            id: reserved.id,
            class,
            from,
            taken: reserved.taken,
        })
    }

    fn of(&mut self, token: &Token) -> Option<&mut Reserved> {
        self.reserved
            .iter_mut()
            .find(|reserved| reserved.id == token.id)
    }

    /// The request of a token is sent.
    pub(super) fn spend(&mut self, token: Token) {
        if let Some(reserved) = self.of(&token) {
            subtract(reserved.given.of_mut(token.from), 1);
            add(reserved.used.of_mut(token.from), 1);
        }
    }

    /// The request of a token is not sent.
    pub(super) fn take_back(&mut self, token: Token, now: Time) {
        self.idle_since = now;
        if let Some(reserved) = self.of(&token) {
            subtract(reserved.given.of_mut(token.from), 1);
            add(reserved.free.of_mut(token.class).of_mut(token.from), 1);
        }
    }

    /// Notes what a write has reserved.
    pub(super) fn add(&mut self, id: Nonce, backing: Backing, free: Taken, now: Time) {
        self.reserved.retain(|reserved| !reserved.is_over(now));
        let is_empty = Class::COUNTED
            .iter()
            .all(|class| free.of(*class).is_empty());
        if !is_empty {
            self.idle_since = now;
            self.reserved.push(Reserved {
                id,
                backing,
                taken: now,
                free,
                given: PerClass::default(),
                used: PerClass::default(),
                differs: false,
            });
        }
    }

    /// When tokens are to be given back of which `waiting` says that no request needs them;
    /// `None` if there are none. They are kept for `linger`.
    pub(super) fn next(
        &self,
        waiting: &PerClass<u32>,
        linger: Duration,
        now: Time,
    ) -> Option<Time> {
        let mut live = self
            .reserved
            .iter()
            .filter(|reserved| !reserved.is_over(now));
        let returns = live.any(|reserved| {
            let spare =
                |class: &Class| *waiting.of(*class) == 0 && !reserved.free.of(*class).is_empty();
            reserved.differs || Class::COUNTED.iter().any(spare)
        });
        returns.then(|| self.idle_since.plus(linger).within(linger, now))
    }

    /// Writes into `rate`, which is the record's, what became of the tokens. Those that
    /// were idle for `linger` without a request that needs them are no longer given to
    /// requests, whatever becomes of the write. Returns what is to be
    /// [noted](Self::note), and whether something is given back.
    pub(super) fn settle(
        &mut self,
        rate: &mut Rate,
        backing: Backing,
        waiting: &PerClass<u32>,
        (linger, now): (Duration, Time),
        limit: RateLimit,
    ) -> (Settled, bool) {
        let mut settled = Settled::new();
        let mut gives_back = false;
        self.reserved.retain(|reserved| !reserved.is_over(now));
        let has_rested = !self.idle_since.was_within(linger, now);
        for reserved in &mut self.reserved {
            if reserved.backing != backing {
                continue;
            }
            for class in Class::COUNTED {
                let free = reserved.free.of_mut(class);
                if has_rested && *waiting.of(class) == 0 && !free.is_empty() {
                    *free = PerClass::default();
                    reserved.differs = true;
                }
            }
            rate.settle(reserved.id, &reserved.used, &reserved.kept(), limit);
            gives_back |= reserved.differs;
            settled.push((reserved.id, reserved.used));
        }
        (settled, gives_back)
    }

    /// The record as it counts for this instance: it knows what its own requests have used.
    pub(super) fn known(&self, rate: &Rate, limit: RateLimit) -> Rate {
        let mut rate = rate.clone();
        for reserved in &self.reserved {
            rate.settle(reserved.id, &reserved.used, &reserved.kept(), limit);
        }
        rate
    }

    /// A write was done that says this.
    pub(super) fn note(&mut self, settled: &Settled) {
        for (id, used) in settled {
            let own = self.reserved.iter_mut().find(|reserved| reserved.id == *id);
            if let Some(reserved) = own {
                reserved.differs = false;
                for class in Class::COUNTED {
                    subtract(reserved.used.of_mut(class), *used.of(class));
                }
            }
        }
    }
}

fn is_given(reserved: &Reserved, now: Time) -> bool {
    reserved.taken.was_within(GIVEN_FOR, now)
}

fn add(count: &mut u32, more: u32) {
    *count = count.saturating_add(more);
}

fn subtract(count: &mut u32, less: u32) {
    *count = count.saturating_sub(less);
}

#[cfg(test)]
mod tests;
