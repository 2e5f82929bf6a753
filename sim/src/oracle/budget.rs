//! What may happen to the origin's record, and how many requests the origin may have
//! at once.

use super::Oracle;
use crate::executor::Owner;
use bytes::Bytes;
use leeward::budget::decode;

impl Oracle {
    /// The store has written the origin's record.
    pub(super) fn budget_changed(
        &self,
        id: &str,
        before: Option<&Bytes>,
        after: &Bytes,
        by: Owner,
    ) {
        let Ok(new) = decode(after) else {
            return self.violated(by, "codec", format!("{id} was overwritten with no record"));
        };
        self.trace(by, || {
            format!(
                "stored {id} v{} used {} {:?} waiting {:?}",
                new.version,
                new.used(),
                new.breaker.phase,
                new.waiting
            )
        });
        let old = before.and_then(|before| decode(before).ok());
        let expected = old.as_ref().map_or(1, |old| old.version + 1);
        if new.version != expected && !self.scenario.has_jumps() {
            self.violated(
                by,
                "B1",
                format!(
                    "{id}: version {} was overwritten with version {}, made from another",
                    expected - 1,
                    new.version
                ),
            );
        }
    }
}
