//! What nobody may get any more, because the administrator has purged it (S6).

use super::{Got, Made, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::SERIAL;
use crate::scenario::{Breadth, PurgeCall, seconds};
use bytes::Bytes;
use leeward::cell::transition::Purge;
use leeward::shield::Purged;

/// A purge that the store has.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    call: PurgeCall,
    /// When the administrator asked for it.
    requested: Micros,
    /// From when on all instances know it.
    at: Micros,
}

/// How long it takes until all instances know a purge of more than one URL.
const KNOWN_WITHIN: Micros = 1_000_000;

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
        if call.breadth != Breadth::Key {
            self.count(Kind::PurgedWidely);
        }
        let state = &mut *self.state.borrow_mut();
        let mut flights = state.flights.iter();
        if flights.any(|flight| call.concerns(flight.key) && flight.is_busy(at)) {
            state.coverage.count(Kind::PurgeInFlight);
        }
        state.purges.push(Acknowledged {
            call: call.clone(),
            requested,
            at: match call.breadth {
                Breadth::Key => at,
                Breadth::Prefix | Breadth::Tag | Breadth::Everything => at + KNOWN_WITHIN,
            },
        });
    }

    /// The record of purges was written: none is lost.
    pub(super) fn purges_changed(&self, before: Option<&Bytes>, after: &Bytes, by: Owner) {
        let Ok(new) = leeward::purges::decode(after) else {
            return self.violated(by, "codec", "the record of purges cannot be read".into());
        };
        let Some(Ok(old)) = before.map(|before| leeward::purges::decode(before)) else {
            return;
        };
        let mut both = new.clone();
        both.add_all(&old);
        if both != new {
            self.violated(
                by,
                "S6",
                format!("a write of {new:?} loses some of {old:?}"),
            );
        }
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
        let missed = self
            .state
            .borrow()
            .purges
            .iter()
            .find(|purge| {
                let concerns = purge.call.concerns(made.key) && made.started < purge.requested;
                concerns
                    && match purge.call.how {
                        Purge::Hard => purge.at < got.arrived,
                        Purge::Invalidate => purge.at < got.arrived && !fell_back,
                        // The entry's age at the purge is one node's word, and its
                        // age now another's.
                        Purge::Soft => purge.at + skew < got.arrived && !stale,
                    }
            })
            .cloned();
        if let Some(purge) = missed {
            self.violated(
                got.owner,
                "S6",
                format!(
                    "visitor {} got response {:?} ({}), asked for before the purge {:?} that \
                     was requested at {:.6}s and acknowledged at {:.6}s",
                    got.visitor,
                    got.headers.get(SERIAL),
                    got.word(),
                    purge.call,
                    seconds(purge.requested),
                    seconds(purge.at),
                ),
            );
        }
    }
}
