//! Which instance fetches the pages that are wanted at the start: one of all, in
//! [`TURN`].

use super::health::Urgency;
use super::names::warming_id;
use super::{Backing, Cells};
use crate::budget::{SettingsMark, Unreadable, decode_record, encode_record};
use crate::cell::Nonce;
use crate::store::Swap;
use crate::time::Time;
use crate::world::Platform;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// For how long pages are not fetched again at the start of other instances with the same
/// settings. Nodes start one after the other, and instances come and go.
const TURN: Duration = Duration::from_secs(600);

/// The last turn, in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    nonce: Nonce,
    mark: SettingsMark,
    began: Time,
}

impl<P: Platform> Cells<P> {
    /// Whether it is this instance that fetches what is wanted at the start with these
    /// settings. While the store fails, none does: it would not be stored for others.
    pub(crate) async fn takes_turn_to_warm(&self, mark: SettingsMark) -> bool {
        let name = warming_id(&self.origin);
        let loading = self.load_value(Backing::Shared, &name, Urgency::Usual);
        let Ok(raw) = loading.await else {
            return false;
        };
        let now = self.platform.now();
        match raw.as_ref().map(|raw| decode_record::<Turn>(raw)) {
            Some(Ok(last)) if last.mark == mark && last.began.was_within(TURN, now) => {
                return false;
            }
            Some(Err(Unreadable::Newer)) => return false,
            Some(Ok(_) | Err(Unreadable::Corrupt)) | None => {}
        }
        let turn = Turn {
            nonce: self.nonce(),
            mark,
            began: now,
        };
        let Some(new) = encode_record(&turn) else {
            return false;
        };
        let swapped = self.swap_record(&name, raw.as_ref(), &new).await;
        matches!(swapped, Ok(Swap::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::testing::{World, cells, origin};
    use futures::executor::block_on;
    use std::rc::Rc;

    fn takes_turn(cells: &Cells<World>, mark: SettingsMark) -> bool {
        block_on(cells.takes_turn_to_warm(mark))
    }

    #[test]
    fn one_instance_of_all_with_the_same_settings_warms() {
        let one = cells();
        let (platform, config) = (Rc::clone(&one.platform), Rc::clone(&one.config));
        let other = Cells::new(platform, config, &origin());
        let (old, new) = (SettingsMark::of("", "a"), SettingsMark::of("", "b"));
        assert!(takes_turn(&one, old));
        assert!(!takes_turn(&other, old));
        assert!(takes_turn(&other, new), "settings have changed");
        assert!(!takes_turn(&one, new));
        block_on(one.platform.sleep(TURN));
        assert!(takes_turn(&one, new), "the nodes start again");
        one.platform.store.fails.set(true);
        assert!(!takes_turn(&one, old));
    }
}
