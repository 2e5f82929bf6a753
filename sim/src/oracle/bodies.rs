//! Bodies in chunks: whole wherever an entry points at one, and never forgotten.

use super::{Oracle, read};
use crate::coverage::Kind;
use crate::executor::Owner;
use crate::stores::Server;
use bytes::Bytes;
use leeward::cell::{Cell, Nonce};

/// The body that a chunk belongs to.
fn body_of(chunk: &str) -> &str {
    chunk.split('/').nth(1).unwrap_or_default()
}

fn is(nonce: Nonce, body: &str) -> bool {
    nonce.to_string() == body
}

/// Whether the cell's entry points at a body.
fn points_at(cell: &Cell, body: &str) -> bool {
    cell.entry
        .as_ref()
        .and_then(|entry| entry.body.manifest())
        .is_some_and(|manifest| is(manifest.body, body))
}

impl Oracle {
    /// Whether no cell ever has two holders: two do not know each other's bodies.
    fn cells_are_one(&self) -> bool {
        !self.scenario.has_jumps() && self.scenario.late().is_none() && !self.scenario.is_emptied()
    }

    /// A cell was stored: all chunks that its entry points at are there.
    pub(crate) fn complete(&self, id: &str, new: &Bytes, by: Owner, server: &Server) {
        let Some(cell) = read(new) else { return };
        let Some(manifest) = cell.entry.as_ref().and_then(|entry| entry.body.manifest()) else {
            return;
        };
        self.count(Kind::Chunked);
        for chunk in 0..manifest.chunks() {
            let name = format!("body/{}/{chunk}", manifest.body);
            if server.get(&name).is_none() && self.cells_are_one() {
                self.violated(
                    by,
                    "S3",
                    format!("{id} points at {name}, which is not there"),
                );
            }
        }
    }

    /// A cell was replaced: was its holder writing a body that is litter now?
    pub(super) fn drafts_changed(&self, old: Option<&Cell>, new: &Cell) {
        let draft = old
            .and_then(|old| old.lease)
            .and_then(|lease| lease.draft)
            .map(|draft| draft.body);
        if draft.is_some_and(|draft| new.orphans.iter().any(|orphan| orphan.body == draft)) {
            self.count(Kind::DraftLost);
        }
    }

    /// A chunk was written where one was: names are used once.
    pub(crate) fn rewritten(&self, name: &str, by: Owner) {
        self.violated(by, "S3", format!("{name} was written twice"));
    }

    /// A chunk was removed: no entry points at it.
    pub(crate) fn removed(&self, name: &str, by: Owner, server: &Server) {
        let body = body_of(name);
        let used = server
            .cells_with(body)
            .iter()
            .any(|cell| points_at(cell, body));
        if used && self.cells_are_one() {
            self.violated(by, "S3", format!("{name} was removed from under an entry"));
        }
    }

    /// The run is over: some cell answers for every chunk that is left. One that came too
    /// late for its cell is left to the sweeper, which does not run within a scenario.
    pub(crate) fn nothing_forgotten(&self, server: &Server) {
        if self.scenario.has_late_writes() {
            return;
        }
        let cells = server.cells();
        for name in server.chunks() {
            let body = body_of(&name);
            let known = cells.iter().any(|cell| {
                let draft = cell.lease.and_then(|lease| lease.draft);
                points_at(cell, body)
                    || draft.is_some_and(|draft| is(draft.body, body))
                    || cell.orphans.iter().any(|orphan| is(orphan.body, body))
            });
            if !known && self.cells_are_one() {
                return self.violated(
                    Owner::World,
                    "S3",
                    format!("no cell answers for {name}: it will never be removed"),
                );
            }
        }
    }
}
