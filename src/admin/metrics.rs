//! What Prometheus reads: what the store tells all nodes. A host that counts at its edges
//! adds its own families.

use super::Front;
use super::answer::with_content;
use super::status::{OriginState, VERSION};
use crate::budget::Class;
use crate::cells::Counting;
use crate::counts::Shard;
use crate::shield::Answer;
use crate::shield::outcome::Outcome;
use crate::shield::refusals::CAUSES;
use crate::world::Platform;
use http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The text format of Prometheus.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Families of metrics as text.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str) {
        self.begin(name, help, "gauge");
    }

    fn begin(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Counters by the values of a label. Those in `known` are there from the beginning, so
    /// that a rate is right from the first one on.
    fn counters<'a>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        known: impl Iterator<Item = &'a str>,
        numbers: &'a BTreeMap<String, u64>,
    ) {
        self.begin(name, help, "counter");
        let mut all: BTreeMap<&str, u64> = known.map(|value| (value, 0)).collect();
        all.extend(numbers.iter().map(|(value, number)| (&**value, *number)));
        for (value, number) in all.iter().filter(|(value, _)| is_label(value)) {
            let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {number}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<u64>) {
        self.family(name, help);
        let _ = writeln!(self.0, "{name} {}", value.into());
    }
}

/// Whether it can be the value of a label as it is. What is stored could be another's.
fn is_label(value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    value.bytes().all(is_plain)
}

impl<P: Platform> Front<P> {
    /// What the shield has counted, on all nodes, where the host does not count.
    async fn write_counters(&self, text: &mut Text) {
        let cells = self.shield.cells();
        let counting = cells.counting();
        if counting == Counting::ByHost {
            return;
        }
        let Some(Shard { counts, .. }) = cells.counted().await else {
            return;
        };
        if counting == Counting::Each {
            let help = "Requests of visitors to all nodes, by what became of them.";
            let outcomes = Outcome::ALL.iter().map(|outcome| outcome.name());
            let family = ("leeward_requests_total", help, "outcome");
            text.counters(family, outcomes, &counts.requests);
        }
        let help = "Visitors that got an error of the shield's own on all nodes, by cause.";
        let causes = CAUSES.iter().map(|cause| cause.why);
        let family = ("leeward_refused_total", help, "why");
        text.counters(family, causes, &counts.refused);
        let name = "leeward_origin_requests_total";
        let help = "Requests to the origin of all nodes, by why they were sent and by what became \
                    of them.";
        text.begin(name, help, "counter");
        for (reason, outcomes) in &counts.origin {
            for (outcome, number) in outcomes {
                if is_label(reason) && is_label(outcome) {
                    let labels = format!("outcome=\"{outcome}\",reason=\"{reason}\"");
                    let _ = writeln!(text.0, "{name}{{{labels}}} {number}");
                }
            }
        }
    }

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
            if let Some(bytes) = stored.bytes {
                text.gauge(
                    "leeward_store_bytes",
                    "Bytes of these cells and of their bodies.",
                    bytes,
                );
            }
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
        self.write_counters(&mut text).await;
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
