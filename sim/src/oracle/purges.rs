//! What nobody may get any more, because the administrator has purged it (S6).

use super::{Got, Made, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::SERIAL;
use crate::scenario::{PurgeCall, seconds};
use leeward::cell::transition::Purge;
use leeward::shield::Purged;

/// A purge that the store has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    key: usize,
    how: Purge,
    /// When the administrator asked for it.
    requested: Micros,
    /// When the administrator was told that the store has it.
    at: Micros,
}

impl Oracle {
    /// The administrator was told how far a purge has come.
    pub(crate) fn purged(&self, owner: Owner, call: &PurgeCall, requested: Micros, purged: Purged) {
        let at = self.executor.now();
        self.trace(owner, || {
            format!("{:?} purge of key {}: {purged:?}", call.how, call.key)
        });
        if purged == Purged::Pending {
            return self.count(Kind::PurgePending);
        }
        self.count(match call.how {
            Purge::Soft => Kind::PurgedSoft,
            Purge::Invalidate => Kind::PurgedInvalidating,
            Purge::Hard => Kind::PurgedHard,
        });
        let state = &mut *self.state.borrow_mut();
        let mut flights = state.flights.iter();
        if flights.any(|flight| flight.key == call.key && flight.is_busy(at)) {
            state.coverage.count(Kind::PurgeInFlight);
        }
        state.purges.push(Acknowledged {
            key: call.key,
            how: call.how,
            requested,
            at,
        });
    }

    /// S6: who comes after a purge was acknowledged gets nothing that the origin
    /// was asked for before it was requested: not at all after a hard one, not
    /// while the origin answers after an invalidating one, and not as fresh after
    /// a soft one. An instance that cannot reach the store does not know.
    pub(super) fn respects_purges(&self, got: &Got<'_>, made: &Made) {
        if got.says("store-unavailable") || self.scenario.has_jumps() {
            return;
        }
        let skew = micros(self.scenario.settings.skew) + 2_000;
        let fell_back = self.fell_back(got);
        let stale = fell_back || got.says("detail=stale") || got.says("detail=\"stale");
        let missed = self.state.borrow().purges.iter().copied().find(|purge| {
            let concerns = purge.key == made.key && made.started < purge.requested;
            concerns
                && match purge.how {
                    Purge::Hard => purge.at < got.arrived,
                    Purge::Invalidate => purge.at < got.arrived && !fell_back,
                    // The entry's age at the purge is one node's word, and its
                    // age now another's.
                    Purge::Soft => purge.at + skew < got.arrived && !stale,
                }
        });
        if let Some(purge) = missed {
            self.violated(
                got.owner,
                "S6",
                format!(
                    "visitor {} got response {:?} ({}), asked for before the {:?} purge that \
                     was requested at {:.6}s and acknowledged at {:.6}s",
                    got.visitor,
                    got.headers.get(SERIAL),
                    got.word(),
                    purge.how,
                    seconds(purge.requested),
                    seconds(purge.at),
                ),
            );
        }
    }
}
