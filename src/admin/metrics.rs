//! What Prometheus reads: what the store tells all nodes. A host that counts at its edges
//! adds its own families.

use super::Front;
use super::answer::with_content;
use super::status::{OriginState, VERSION};
use crate::budget::Class;
use crate::shield::Answer;
use crate::world::Platform;
use http::StatusCode;
use std::fmt::Write;

/// The text format of Prometheus.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Families of metrics as text.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<u64>) {
        self.family(name, help);
        let _ = writeln!(self.0, "{name} {}", value.into());
    }
}

impl<P: Platform> Front<P> {
    pub(super) async fn metrics(&self) -> Answer<P::Body> {
        let cells = self.shield.cells();
        let record = self.shield.door().overview().await;
        let state = record.as_ref().map(OriginState::of);
        let mut text = Text::default();
        if let Some(state) = state {
            text.gauge(
                "leeward_breaker_open",
                "Whether nothing is sent to the origin because it fails.",
                state.breaker == "open",
            );
            let name = "leeward_origin_slots_in_use";
            text.family(
                name,
                "Slots of the origin's budget that instances hold, on all nodes.",
            );
            for (class, count) in Class::COUNTED.iter().zip(state.in_use) {
                let kind = class.token();
                let _ = writeln!(text.0, "{name}{{kind=\"{kind}\"}} {count}");
            }
            let _ = writeln!(text.0, "{name}{{kind=\"stream\"}} {}", state.streams);
        }
        text.gauge(
            "leeward_origin_budget",
            "Most requests in flight at the origin, of all nodes.",
            self.shield.door().slots_max(),
        );
        text.gauge(
            "leeward_store_up",
            "Whether the store works, as far as the answering instance knows.",
            cells.store_parts().await == [false, false],
        );
        if let Some(stored) = cells.stored().await {
            text.gauge(
                "leeward_entries",
                "Cells in the store after the last round of the sweeper.",
                stored.cells,
            );
        }
        text.gauge(
            "leeward_keys_limit",
            "The setting limits.keys.",
            u64::try_from(self.shield.config().limits.keys).unwrap_or(u64::MAX),
        );
        text.gauge(
            "leeward_purges",
            "Purges by prefix, by tag and of everything that count.",
            u64::try_from(cells.purges_known()).unwrap_or(u64::MAX),
        );
        let name = "leeward_settings_info";
        text.family(
            name,
            "The settings; nodes with different marks have different ones.",
        );
        let mark = &self.mark;
        let _ = writeln!(text.0, "{name}{{mark=\"{mark}\",version=\"{VERSION}\"}} 1");
        with_content(StatusCode::OK, CONTENT_TYPE, text.0)
    }
}
