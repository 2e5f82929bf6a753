//! Long bodies, read while another request writes them.
//!
//! The lease's draft says how many chunks are complete, and the cell has what an answer
//! needs beside them. A follower on any node answers with that, and reads the chunks as
//! they are stored. It ends where the entry that is published ends, or, if the length is
//! announced, where that says. If the writer gives up or dies before, the answer breaks
//! off: it cannot look complete.

use super::answer::{assemble, entry_parts};
use super::decide::{Step, View, decide};
use super::follow::POLL;
use super::request::Visit;
use super::served::Served;
use super::{Answer, AnswerBody, Shield};
use crate::cell::{Cell, Coming, Manifest, Marks, Nonce, Progress};
use crate::cells::{Located, Place};
use crate::world::{OriginError, Platform};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::HeaderName;
use http::header::RANGE;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// A dice that never chooses an early refresh.
const NO_EARLY_REFRESH: u128 = 1;

/// A request begins to read only if at least this part of the lease is left: a writer
/// that lives renews when a third is over, and the answer of one that died would break
/// off.
const LEASE_LEFT: u32 = 2;

/// How much of a body there has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Its first chunk, so that an answer that has begun is likely to end.
    Begun,
    /// Nothing yet: the request may wait no longer.
    Any,
}

impl<P: Platform> Shield<P> {
    /// Answers with an entry whose body is still being written, if the visitor could be
    /// answered with it once it is stored.
    pub(super) fn serve_coming(
        self: &Rc<Self>,
        visit: &Visit,
        located: &Located,
        readiness: Readiness,
    ) -> Option<Answer<P::Body>> {
        let cell = located.loaded.cell.as_ref()?;
        let coming = cell.coming.as_deref()?;
        let lease = cell.lease?;
        let draft = lease.draft?;
        let manifest = coming.body(&draft)?;
        let now = self.platform.now();
        let clock_skew = visit.config.lease.clock_skew;
        if (readiness == Readiness::Begun && draft.done == 0)
            || lease.deadline.since(now) < visit.config.lease.duration / LEASE_LEFT
            || !is_asked_by(coming, visit, located)
            || !self.is_unpurged(&located.loaded, &coming.entry)
        {
            return None;
        }
        // The cell as it will be.
        let published = Cell {
            entry: Some(coming.entry.clone()),
            coming: None,
            marks: Marks::default(),
            ..cell.clone()
        };
        let view = View {
            cell: Some(&published),
            credentials_pass_until: located.credentials_pass_until,
            for_everyone_until: located.for_everyone_until,
            accepts_coding: visit.visitor.accepts(&coming.entry.headers),
        };
        let step = decide(view, &visit.asker, visit.rules(), now, NO_EARLY_REFRESH);
        let (Step::Serve(entry, stale) | Step::ServeAndRefresh(entry, stale)) = step else {
            return None;
        };
        let length = Some(manifest.length).filter(|length| *length != Coming::UNKNOWN);
        if length.is_none() && visit.parts.headers.contains_key(RANGE) {
            // Which part it is, is known at the end.
            return None;
        }
        let (status, headers, range) = entry_parts(visit, entry, length, now);
        let served = Served::Entry {
            ttl: entry.freshness.ttl(now),
            stale,
            collapsed: true,
        };
        let body = match range {
            None => AnswerBody::Empty,
            Some(range) => Following {
                shield: Rc::clone(self),
                place: Place::of(&located.loaded),
                holder: lease.holder,
                manifest,
                done: draft.done.into(),
                position: range.start,
                end: range.end,
                patience: visit.config.origin.fill_timeout,
                clock_skew,
            }
            .into_body(),
        };
        let backing = located.loaded.backing;
        Some(assemble(status, headers, body, served, backing))
    }
}

/// Whether the visitor asks the question that is being answered.
fn is_asked_by(coming: &Coming, visit: &Visit, located: &Located) -> bool {
    // A field that the key has learned since selects something else.
    if located
        .vary
        .iter()
        .any(|known| !coming.names.contains(&known.name))
    {
        return false;
    }
    let names: Result<Vec<HeaderName>, _> = coming
        .names
        .iter()
        .map(|name| HeaderName::from_bytes(name.as_bytes()))
        .collect();
    names.is_ok_and(|names| visit.visitor.question(&names).selector() == coming.selector)
}

/// A body that is read while it is written.
struct Following<P: Platform> {
    shield: Rc<Shield<P>>,
    place: Place,
    /// Who writes the body.
    holder: Nonce,
    /// The body; its length is [`Coming::UNKNOWN`] until it is known.
    manifest: Manifest,
    /// Chunks that are complete, as far as is known.
    done: u64,
    position: u64,
    end: u64,
    /// Longest wait for a chunk.
    patience: Duration,
    clock_skew: Duration,
}

impl<P: Platform> Following<P> {
    fn into_body(self) -> AnswerBody<P::Body> {
        let stream = stream::unfold(Some(self), async |following| {
            let mut following = following?;
            match following.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some(following))),
                Err(error) => Some((Err(error), None)),
            }
        });
        AnswerBody::Stream(stream.boxed_local())
    }

    async fn next(&mut self) -> Option<Result<Bytes, OriginError>> {
        loop {
            if self.position >= self.end.min(self.manifest.length) {
                return None;
            }
            let index = self.manifest.chunk_at(self.position);
            if index < self.done {
                return Some(self.read(index).await);
            }
            if let Err(error) = self.wait_for(index).await {
                return Some(Err(error));
            }
        }
    }

    async fn read(&mut self, index: u64) -> Result<Bytes, OriginError> {
        let chunk = self
            .shield
            .cells
            .chunk(&self.place, &self.manifest, index)
            .await
            .map_err(|_| broken("a chunk of it is not there"))?;
        let part = within(&self.manifest, index, self.position..self.end, chunk.len())
            .filter(|part| !part.is_empty())
            .ok_or_else(|| broken("a chunk of it is not as long as the others"))?;
        let start = self.manifest.start_of(index);
        self.position = start.saturating_add(part.end as u64);
        Ok(chunk.slice(part))
    }

    /// Waits until a chunk is complete, or the whole is published.
    async fn wait_for(&mut self, index: u64) -> Result<(), OriginError> {
        let (mut pause, mut waited) = (POLL.first, Duration::ZERO);
        while waited < self.patience {
            let spread = pause / 2 + self.shield.cells.up_to(pause / 2);
            self.shield.platform.sleep(spread).await;
            waited = waited.saturating_add(spread);
            pause = (pause + pause / 2).min(POLL.most);
            // A store that fails for a moment is asked again.
            let Ok(current) = self.shield.cells.load_at(&self.place).await else {
                continue;
            };
            let now = self.shield.platform.now();
            let body = self.manifest.body;
            let progress = current.cell.map_or(Progress::Gone, |cell| {
                cell.progress(self.holder, body, now, self.clock_skew)
            });
            let known = self.manifest.length;
            match progress {
                Progress::Written(done) if done > index => {
                    self.done = done;
                    return Ok(());
                }
                Progress::Written(_) => {}
                Progress::Whole(manifest) => {
                    if known != Coming::UNKNOWN && known != manifest.length {
                        return Err(broken("it is not as long as announced"));
                    }
                    self.manifest = manifest;
                    self.done = manifest.chunks();
                    return Ok(());
                }
                // If all of it was written, it is all there: a purge, or another
                // entry, has come in between.
                Progress::Gone if known != Coming::UNKNOWN => {
                    self.done = self.manifest.chunks();
                    return Ok(());
                }
                Progress::Gone => return Err(broken("whoever wrote it has given up")),
            }
        }
        Err(OriginError::Timeout)
    }
}

/// The part of a chunk of `length` bytes that lies in `range` of the body.
fn within(
    manifest: &Manifest,
    index: u64,
    range: Range<u64>,
    length: usize,
) -> Option<Range<usize>> {
    let start = manifest.start_of(index);
    let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(range.end.saturating_sub(start)).unwrap_or(usize::MAX);
    Some(from..to.min(length)).filter(|part| part.start <= part.end)
}

fn broken(why: &str) -> OriginError {
    OriginError::Failed(format!("the body that another request writes: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_chunk_lies_in_the_range_that_is_asked_for() {
        let manifest = Manifest {
            body: Nonce::new(1),
            length: Coming::UNKNOWN,
            chunk_size: 10,
        };
        for (index, range, length, expected) in [
            (0, 0..u64::MAX, 10, Some(0..10)),
            (1, 10..u64::MAX, 10, Some(0..10)),
            (1, 13..17, 10, Some(3..7)),
            (1, 13..27, 10, Some(3..10)),
            // The last chunk is shorter.
            (2, 20..u64::MAX, 4, Some(0..4)),
            (2, 24..30, 4, Some(4..4)),
            (2, 25..30, 4, None),
            // It does not begin in this chunk.
            (2, 13..27, 10, None),
        ] {
            let part = within(&manifest, index, range.clone(), length);
            assert_eq!(part, expected, "{index} {range:?} {length}");
        }
    }
}
